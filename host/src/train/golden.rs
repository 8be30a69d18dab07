//! The rows that every load of the model checks itself with.

use super::rows::Rows;
use crate::inference::{FeatureSpec, Golden, Network};

/// Rows of the self-test.
const ROWS: usize = 32;

/// Picks rows evenly by the rank of their loss, the least and the greatest too, with their losses in f64.
pub(super) fn golden(features: &[FeatureSpec], network: &Network, rows: &Rows, mse: &[f32]) -> Golden {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| mse[*a].total_cmp(&mse[*b]));
    let n = ROWS.min(order.len());
    let ranks = (0..n).map(|k| if n > 1 { k * (order.len() - 1) / (n - 1) } else { 0 });
    let rows: Vec<Vec<f64>> = ranks.map(|rank| rows.row(order[rank])).collect();
    Golden::of(network, features, rows)
}
