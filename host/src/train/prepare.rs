//! Preprocessing: how each feature gets its transform, center, scale and clip, and rows as the network sees them.
//!
//! Scales matter more than the network: a feature that hardly moves in training would, divided by its tiny deviation, own
//! the error of every row. So a scale is at least a share of the feature's own spread (relative, not one number for all:
//! shares of flows differ by hundredths, logarithms of counts by whole numbers).

use super::options::Prepare;
use super::rows::Rows;
use crate::inference::{FeatureSpec, Transform};
use serde::{Deserialize, Serialize};

/// What was seen of a feature in the training rows, transformed. For the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Quantiles 0, 0.01, 0.5, 0.99, 1.
    pub quantiles: [f64; 5],
    /// Standard deviation.
    pub deviation: f64,
    /// Least scale it could get.
    pub floor: f64,
}

/// Works out the preprocessing of every feature. The rows are finite and at least one.
pub(super) fn fit(rows: &Rows, rule: &Prepare) -> (Vec<FeatureSpec>, Vec<Seen>) {
    rows.names.iter().zip(&rows.columns).map(|(name, column)| fit_feature(name, column, rule)).unzip()
}

fn fit_feature(name: &str, column: &[f64], rule: &Prepare) -> (FeatureSpec, Seen) {
    // A hair above 1 is a share that was rounded.
    let share = column.iter().all(|x| x.abs() <= rule.count_above + 1e-9);
    let transform = if share { Transform::Identity } else { Transform::Log1p };
    let mut values: Vec<f64> = column.iter().map(|x| transform.apply(*x)).collect();
    let n = values.len() as f64;
    let center = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|x| (x - center).powi(2)).sum::<f64>() / n).sqrt();
    values.sort_unstable_by(f64::total_cmp);
    let quantiles = [0.0, 0.01, 0.5, 0.99, 1.0].map(|q| quantile(&values, q));
    let spread = quantile(&values, 1.0 - rule.spread_quantile) - quantile(&values, rule.spread_quantile);
    let floor = rule.floor_share * spread;
    let scale = deviation.max(floor);
    // A feature that is constant but for rounding has no scale of its own.
    let flat = scale < 1e-6;
    let (center, floor) = if flat { (quantiles[2], rule.flat_scale) } else { (center, floor) };
    let spec = FeatureSpec { name: name.into(), transform, center, scale: scale.max(floor), clip: rule.clip };
    (spec, Seen { quantiles, deviation, floor })
}

/// Linear between the values next to it. `sorted` is not empty.
pub(super) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (sorted[high] - sorted[low]) * part
}

/// Prepared rows, one after another.
pub(super) struct Matrix {
    pub width: usize,
    pub data: Vec<f32>,
}

impl Matrix {
    pub fn new(rows: &Rows, features: &[FeatureSpec]) -> Self {
        let width = features.len();
        let mut data = vec![0.0; rows.len() * width];
        for (i, (spec, column)) in features.iter().zip(&rows.columns).enumerate() {
            for (row, x) in data.chunks_exact_mut(width).zip(column) {
                row[i] = spec.prepare(*x) as f32;
            }
        }
        Self { width, data }
    }

    pub fn len(&self) -> usize {
        self.data.len() / self.width
    }

    pub fn row(&self, at: usize) -> &[f32] {
        &self.data[at * self.width..(at + 1) * self.width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(column: Vec<f64>) -> (FeatureSpec, Seen) {
        fit_feature("x", &column, &Prepare::default())
    }

    #[test]
    fn shares_stay_as_they_are_and_of_all_else_the_logarithm_is_taken() {
        assert_eq!(one((0..1000).map(f64::from).collect()).0.transform, Transform::Log1p);
        assert_eq!(one((0..1000).map(|i| f64::from(i) / 1000.0).collect()).0.transform, Transform::Identity);
        assert_eq!(one((0..1000).map(|i| f64::from(i) / 500.0 - 1.0).collect()).0.transform, Transform::Identity);
        assert_eq!(one((0..1000).map(|i| f64::from(i) / 100.0 - 5.0).collect()).0.transform, Transform::Log1p);
    }

    #[test]
    fn a_scale_is_never_below_the_floor_and_a_flat_feature_gets_one() {
        let (flat, _) = one(vec![0.7; 500]);
        assert_eq!((flat.center, flat.scale), (0.7, Prepare::default().flat_scale));
        // Two heaps at both ends of the spread: the deviation is far above the floor.
        let (heaps, seen) = one((0..1000).map(|i| f64::from(i % 2)).collect());
        assert!((heaps.scale - 0.5).abs() < 1e-9 && (seen.floor - 0.02).abs() < 1e-9, "{heaps:?} {seen:?}");
        // One row in ten thousand moves at all.
        let (rare, seen) = one((0..10_000).map(|i| f64::from(i == 0)).collect());
        assert!(seen.deviation < 0.02 && rare.scale == 0.02, "{rare:?} {seen:?}");
    }

    #[test]
    fn quantiles_are_linear_between_values() {
        let v = [0.0, 1.0, 2.0, 3.0];
        assert_eq!([0.0, 0.5, 1.0].map(|q| quantile(&v, q)), [0.0, 1.5, 3.0]);
        assert_eq!(quantile(&[7.0], 0.3), 7.0);
    }
}
