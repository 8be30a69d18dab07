//! The tail of a distribution of scores: peaks over threshold (Pickands 1975; Siffer et al. 2017, "SPOT").

use serde::{Deserialize, Serialize};

/// A fitted tail. Below `threshold` the empirical distribution counts, above it a generalised Pareto distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// Scores that the fit saw.
    pub rows: u64,
    /// Share of them above `threshold`.
    pub exceed: f64,
    /// Where the Pareto tail begins.
    pub threshold: f64,
    /// Shape (xi) of the generalised Pareto distribution.
    pub shape: f64,
    /// Scale (sigma).
    pub scale: f64,
    /// The body: scores at the tail probabilities of `BODY` (descending), for scores below `threshold`.
    pub body: Vec<f64>,
}

/// Why no tail could be fitted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TailError {
    /// Fewer scores than a tail needs.
    #[error("{got} scores are too few for a tail: at least {least} are needed")]
    TooFew {
        /// Finite scores there were.
        got: usize,
        /// Least number.
        least: usize,
    },
}
