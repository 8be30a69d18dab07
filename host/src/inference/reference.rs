//! The same arithmetic in `f64`, with plain loops and the mathematics library: what every backend is tested against,
//! and what explains single rows, where speed does not matter.

use super::manifest::{Activation, FeatureSpec, Golden};
use super::network::Network;
use super::scorer::{FeatureError, InferenceError};

/// The network's output for one preprocessed row.
pub fn forward(network: &Network, prepared: &[f64]) -> Vec<f64> {
    let mut x = prepared.to_vec();
    for (at, layer) in network.layers.iter().enumerate() {
        let dot = |w: &[f32]| w.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
        let sums = layer.weight.chunks_exact(layer.inputs).zip(&layer.bias).map(|(w, b)| dot(w) + f64::from(*b));
        let activate = |y: f64| match network.activation_after(at) {
            None => y,
            Some(Activation::Tanh) => y.tanh(),
            Some(Activation::Relu) => y.max(0.0),
        };
        x = sums.map(activate).collect();
    }
    x
}

/// Mean squared and mean log1p error of one raw row; NaN if a feature is not finite.
pub fn losses(network: &Network, features: &[FeatureSpec], row: &[f64]) -> (f64, f64) {
    if row.iter().any(|x| !x.is_finite()) {
        return (f64::NAN, f64::NAN);
    }
    let prepared: Vec<f64> = features.iter().zip(row).map(|(feature, x)| feature.prepare(*x)).collect();
    let output = forward(network, &prepared);
    let squares = || prepared.iter().zip(&output).map(|(x, y)| (y - x) * (y - x));
    let share = 1.0 / features.len() as f64;
    (squares().sum::<f64>() * share, squares().map(f64::ln_1p).sum::<f64>() * share)
}

impl Golden {
    /// The self-test that these rows make.
    pub fn of(network: &Network, features: &[FeatureSpec], rows: Vec<Vec<f64>>) -> Self {
        let (mse, log1p) = rows.iter().map(|row| losses(network, features, row)).unzip();
        Self { rows, mse, log1p }
    }
}

/// How far losses may differ between `f32` and `f64` arithmetic, and between backends.
pub fn close(got: f64, expected: f64) -> bool {
    let difference = (got - expected).abs();
    difference <= 1e-6 || difference <= 1e-4 * expected.abs()
}

/// Every feature's part in the error of a row, largest first. In a row with a feature that is not finite all are NaN.
pub fn explain(network: &Network, features: &[FeatureSpec], row: &[f64]) -> Result<Vec<FeatureError>, InferenceError> {
    explain_with(features, row, |prepared| Ok(forward(network, prepared)))
}

/// The same for any network: `reconstruct` turns a prepared row into its reconstruction.
pub(super) fn explain_with(
    features: &[FeatureSpec],
    row: &[f64],
    reconstruct: impl FnOnce(&[f64]) -> Result<Vec<f64>, InferenceError>,
) -> Result<Vec<FeatureError>, InferenceError> {
    if row.len() != features.len() {
        return Err(InferenceError::Columns { expected: features.len(), got: row.len() });
    }
    let prepared: Vec<f64> = features.iter().zip(row).map(|(feature, x)| feature.prepare(*x)).collect();
    let finite = if row.iter().all(|x| x.is_finite()) { 1.0 } else { f64::NAN };
    let output = reconstruct(&prepared)?;
    let part = |(feature, (x, y)): (usize, (&f64, &f64))| FeatureError {
        feature,
        observed: row[feature],
        expected: features[feature].restore(y * finite),
        error: (y - x) * (y - x) * finite,
    };
    let mut parts: Vec<FeatureError> = prepared.iter().zip(&output).enumerate().map(part).collect();
    parts.sort_by(|a, b| b.error.total_cmp(&a.error));
    Ok(parts)
}
