//! What a score means. Comes in: benign scores; goes out: how rare a score is (a tail probability), the same scale for
//! every detector, so that the operator's knob is *expected false alarms a day* and detectors can be combined.
//! Refused: too few scores, tails that cannot be, a state of another model. Scores that are not numbers have no tail
//! probability. Reads no clock, and no file but the follower's own.

mod follow;
mod state;
mod tail;
mod timeline;

pub use follow::{FollowSettings, Follower};
pub use state::{Identity, RefusedState, STATE_VERSION, StateError};
pub use tail::{BODY, EXCEED, LARGEST, MIN_EXCESSES, MIN_SCORES, Tail, TailError};
pub use timeline::{LAG, Published, Timeline};

use serde::{Deserialize, Serialize};

/// How a model's two errors become one calibrated score. Stands in `model.toml` as `[calibration]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Rows of benign traffic a day (all entities together) in the data of the fit.
    pub rows_per_day: f64,
    /// Tail of the two errors combined, see [`raw_score`].
    pub score: Tail,
}

/// Why there is no calibration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CalibrationError {
    /// Not one error of each kind per row.
    #[error("{mse} mean squared errors and {log1p} mean log1p errors: there must be one of each per row")]
    Lengths {
        /// Mean squared errors.
        mse: usize,
        /// Mean log1p errors.
        log1p: usize,
    },
    /// Not a number of rows.
    #[error("rows_per_day {0} must be a finite number above 0")]
    RowsPerDay(f64),
    /// The tail of the scores.
    #[error("{0}")]
    Tail(#[from] TailError),
}

/// The two errors of a row as one number: their geometric mean. The mean squared error alone lets a single feature own the
/// score, the mean log1p error alone drowns it among the others; ranked by both together, few benign rows come before an
/// attack on any data we have (docs/quality.md). NaN when an error is NaN.
pub fn raw_score(mse: f64, log1p: f64) -> f64 {
    (mse * log1p).sqrt()
}

impl Calibration {
    /// Fits the tail of benign rows. Rows with an error that is not a number are left out.
    pub fn fit(mse: &[f64], log1p: &[f64], rows_per_day: f64) -> Result<Self, CalibrationError> {
        if mse.len() != log1p.len() {
            return Err(CalibrationError::Lengths { mse: mse.len(), log1p: log1p.len() });
        }
        check_rows_per_day(rows_per_day)?;
        let scores: Vec<f64> = mse.iter().zip(log1p).map(|(m, l)| raw_score(*m, *l)).collect();
        Ok(Self { rows_per_day, score: Tail::fit(&scores, scores.len() as f64 / rows_per_day)? })
    }

    /// Says what is wrong with a calibration that was read from a file.
    pub fn check(&self) -> Result<(), CalibrationError> {
        check_rows_per_day(self.rows_per_day)?;
        Ok(self.score.check()?)
    }

    /// -log10 of the tail probability of a row's errors: 5 is one benign row in 10^5. NaN when an error is NaN.
    pub fn tail_score(&self, mse: f64, log1p: f64) -> f64 {
        self.score.log10(raw_score(mse, log1p))
    }
}

/// The -log10 tail probability above which a row alerts, for so many expected false alarms a day. At least 0, and
/// infinite (never) for none a day.
pub fn limit(false_alarms_per_day: f64, rows_per_day: f64) -> f64 {
    (rows_per_day / false_alarms_per_day).log10().max(0.0)
}

fn check_rows_per_day(rows_per_day: f64) -> Result<(), CalibrationError> {
    let sane = rows_per_day > 0.0 && rows_per_day.is_finite();
    if sane { Ok(()) } else { Err(CalibrationError::RowsPerDay(rows_per_day)) }
}

#[cfg(test)]
mod tests;
