//! The rows that every load of the model checks itself with.

use super::rows::Rows;
use crate::inference::{FeatureSpec, Golden, Network};

/// Rows of the self-test.
const ROWS: usize = 32;

/// Rows picked evenly by the rank of their loss, the least and the greatest too; rows without a loss are none.
pub fn golden_rows(rows: &Rows, mse: &[f32]) -> Vec<Vec<f64>> {
    let mut order: Vec<usize> = (0..rows.len()).filter(|row| mse[*row].is_finite()).collect();
    order.sort_by(|a, b| mse[*a].total_cmp(&mse[*b]));
    let n = ROWS.min(order.len());
    let ranks = (0..n).map(|k| if n > 1 { k * (order.len() - 1) / (n - 1) } else { 0 });
    ranks.map(|rank| rows.row(order[rank])).collect()
}

/// The same with their losses in f64.
pub(super) fn golden(features: &[FeatureSpec], network: &Network, rows: &Rows, mse: &[f32]) -> Golden {
    Golden::of(network, features, golden_rows(rows, mse))
}
