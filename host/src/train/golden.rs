//! The reference: a forward pass in f64, plain and slow, and the rows that every loader of the model checks itself with.

use super::prepare::prepared;
use super::rows::Rows;
use crate::inference::{Activation, FeatureSpec, Golden, Network};

/// Rows of the self-test.
const ROWS: usize = 32;

/// Mean squared and mean log1p error of a raw row.
pub(super) fn losses(features: &[FeatureSpec], network: &Network, row: &[f64]) -> (f64, f64) {
    let x: Vec<f64> = features.iter().zip(row).map(|(spec, x)| prepared(spec, *x)).collect();
    let errors: Vec<f64> = forward(network, &x).iter().zip(&x).map(|(y, x)| (y - x).powi(2)).collect();
    let n = errors.len() as f64;
    (errors.iter().sum::<f64>() / n, errors.iter().map(|e| e.ln_1p()).sum::<f64>() / n)
}

/// What the network makes of prepared values.
pub(super) fn forward(network: &Network, x: &[f64]) -> Vec<f64> {
    let mut x = x.to_vec();
    for (k, layer) in network.layers.iter().enumerate() {
        let rows = layer.weight.chunks_exact(layer.inputs).zip(&layer.bias);
        x = rows.map(|(w, b)| w.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum::<f64>() + f64::from(*b)).collect();
        if k + 1 < network.layers.len() {
            x.iter_mut().for_each(|v| {
                *v = match network.activation {
                    Activation::Tanh => v.tanh(),
                    Activation::Relu => v.max(0.0),
                }
            });
        }
    }
    x
}

/// Picks rows evenly by the rank of their loss, the least and the greatest too, with their losses in f64.
pub(super) fn golden(features: &[FeatureSpec], network: &Network, rows: &Rows, mse: &[f32]) -> Golden {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| mse[*a].total_cmp(&mse[*b]));
    let n = ROWS.min(order.len());
    let ranks = (0..n).map(|k| if n > 1 { k * (order.len() - 1) / (n - 1) } else { 0 });
    let rows: Vec<Vec<f64>> = ranks.map(|rank| rows.row(order[rank])).collect();
    let (mse, log1p) = rows.iter().map(|row| losses(features, network, row)).unzip();
    Golden { rows, mse, log1p }
}
