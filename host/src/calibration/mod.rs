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

/// Least mean squared error that is told from none, see [`Calibration::fit`].
const LEAST_MSE: f64 = 1e-12;

/// How a model's two errors become one calibrated score. Stands in `model.toml` as `[calibration]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Rows of benign traffic a day (all entities together) in the data of the fit.
    pub rows_per_day: f64,
    /// Tail of the logarithm of the mean squared error.
    pub mse: Tail,
    /// Tail of the mean log1p error.
    pub log1p: Tail,
    /// Tail of the two combined, see [`Calibration::raw_score`].
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
    /// One of the tails.
    #[error("{which}: {source}")]
    Tail {
        /// `mse`, `log1p` or `score`.
        which: &'static str,
        /// What is wrong with it.
        source: TailError,
    },
}

impl Calibration {
    /// Fits the tails of benign rows, and then the tail of their combination: the two errors depend on each other, and
    /// only the combination's own tail makes a rate of false alarms of it. Rows with an error that is not a number are
    /// left out. The mean squared error goes by its logarithm, because it spans orders of magnitude.
    pub fn fit(mse: &[f64], log1p: &[f64], rows_per_day: f64) -> Result<Self, CalibrationError> {
        if mse.len() != log1p.len() {
            return Err(CalibrationError::Lengths { mse: mse.len(), log1p: log1p.len() });
        }
        check_rows_per_day(rows_per_day)?;
        let (mse, log1p): (Vec<f64>, Vec<f64>) = mse
            .iter()
            .zip(log1p)
            .filter(|(m, l)| m.is_finite() && l.is_finite())
            .map(|(m, l)| (ln_mse(*m), *l))
            .unzip();
        let fit = |which, scores: &[f64]| Tail::fit(scores).map_err(|source| CalibrationError::Tail { which, source });
        let (mse_tail, log1p_tail) = (fit("mse", &mse)?, fit("log1p", &log1p)?);
        let raw: Vec<f64> =
            mse.iter().zip(&log1p).map(|(m, l)| raw(mse_tail.log10(*m), log1p_tail.log10(*l))).collect();
        let score = fit("score", &raw)?;
        Ok(Self { rows_per_day, mse: mse_tail, log1p: log1p_tail, score })
    }

    /// Says what is wrong with a calibration that was read from a file.
    pub fn check(&self) -> Result<(), CalibrationError> {
        check_rows_per_day(self.rows_per_day)?;
        for (which, tail) in [("mse", &self.mse), ("log1p", &self.log1p), ("score", &self.score)] {
            tail.check().map_err(|source| CalibrationError::Tail { which, source })?;
        }
        Ok(())
    }

    /// The two errors of a row as one number: the sum of both -log10 tail probabilities. NaN when an error is NaN.
    pub fn raw_score(&self, mse: f64, log1p: f64) -> f64 {
        raw(self.mse.log10(ln_mse(mse)), self.log1p.log10(log1p))
    }

    /// -log10 of the tail probability of a row's errors: 5 is one benign row in 10^5. NaN when an error is NaN.
    pub fn tail_score(&self, mse: f64, log1p: f64) -> f64 {
        self.score.log10(self.raw_score(mse, log1p))
    }
}

/// The -log10 tail probability above which a row alerts, for so many expected false alarms a day. At least 0, and
/// infinite (never) for none a day.
pub fn limit(false_alarms_per_day: f64, rows_per_day: f64) -> f64 {
    (rows_per_day / false_alarms_per_day).log10().max(0.0)
}

fn raw(mse_log10: f64, log1p_log10: f64) -> f64 {
    mse_log10 + log1p_log10
}

fn ln_mse(mse: f64) -> f64 {
    // Not `max`, which would make a number of NaN.
    if mse < LEAST_MSE { LEAST_MSE.ln() } else { mse.ln() }
}

fn check_rows_per_day(rows_per_day: f64) -> Result<(), CalibrationError> {
    let sane = rows_per_day > 0.0 && rows_per_day.is_finite();
    if sane { Ok(()) } else { Err(CalibrationError::RowsPerDay(rows_per_day)) }
}

#[cfg(test)]
mod tests;
