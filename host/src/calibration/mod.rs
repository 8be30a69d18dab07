//! What a score means. Comes in: benign scores; goes out: how rare a score is (a tail probability), the same scale for
//! every detector, so that the operator's knob is *expected false alarms a day* and detectors can be combined.
//! Refused: too few scores, scores that are not numbers. Reads no clock and no file but its own.

mod tail;

pub use tail::{Tail, TailError};

use serde::{Deserialize, Serialize};

/// How a model's two errors become one calibrated score. Stands in `model.toml` as `[calibration]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Rows of benign traffic a day (all entities together) in the data of the fit.
    pub rows_per_day: f64,
    /// Tail of the mean squared error.
    pub mse: Tail,
    /// Tail of the mean log1p error.
    pub log1p: Tail,
    /// Tail of the two combined, see [`Calibration::raw_score`].
    pub score: Tail,
}
