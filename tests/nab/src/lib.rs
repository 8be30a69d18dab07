//! The Numenta Anomaly Benchmark (Lavin and Ahmad 2015): series of a metric with labelled windows, a score that rewards
//! early detection and fines false alarms, and the engine on those series. [`data`] reads a folder of NAB's layout,
//! [`score`] is the scorer, [`engine`] replays the series through `kaminari`. Shared by `cargo xtask eval nab` and the
//! tests.

pub mod data;
pub mod engine;
pub mod score;

pub use data::{Series, read, reference};
pub use score::{Best, PROFILES, Profile, best};

/// Results that NAB has published, and what its scorer makes of them on the 24 server metrics (standard, low FP, low
/// FN): who computes something else has another scorer.
pub const REFERENCES: [(&str, [f64; 3]); 2] = [("windowedGaussian", [24.3, 6.8, 32.2]), ("knncad", [54.7, 43.3, 61.0])];

/// Scores in all profiles, in the order of [`PROFILES`]; `scores` are one list per series, one number per row.
pub fn all_profiles(series: &[Series], scores: &[Vec<f64>]) -> [Best; 3] {
    PROFILES.map(|profile| best(series, scores, &profile))
}
