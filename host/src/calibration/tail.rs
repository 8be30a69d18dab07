//! The tail of a distribution of scores: peaks over threshold (Pickands 1975; Siffer et al. 2017, "SPOT"). The excesses
//! are taken for exponential, the generalised Pareto distribution of shape 0: so few and tied excesses settle no shape,
//! and a shape that is off by a little is off by orders of magnitude far out. Where the scores are of a day or more, what was
//! seen counts for more than the fit: hardly any score is called rarer than it was. (Fewer scores have too few large ones to
//! be a measure, and one stray row among them would be the limit.)

use serde::{Deserialize, Serialize};

/// Least number of scores.
pub const MIN_SCORES: usize = 100;
/// Share of the scores that makes the tail.
pub const EXCEED: f64 = 0.025;
/// Least number of excesses; with fewer than `MIN_EXCESSES / EXCEED` scores the tail begins earlier.
pub const MIN_EXCESSES: usize = 8;
/// So many of the largest scores are kept: with one false alarm a day asked for, those of as many days of the fit.
pub const LARGEST: usize = 20;
/// Days of scores from which on the largest count.
const LARGEST_FROM_DAYS: f64 = 0.9;
/// A score within this share of one that was seen is no news: the same row again, scored by other arithmetic.
const MARGIN: f64 = 0.01;
/// The largest scores count at most where the fit has this many times their excess: the harm of a stray row has a bound.
const LARGEST_CAP: f64 = 2.0;
/// Tail probabilities that the body keeps the scores of, where they are above `exceed`.
pub const BODY: [f64; 26] = [
    1.0, 0.99, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03,
    0.025, 0.02, 0.015, 0.01, 0.0075,
];
/// A Pareto distribution with a negative shape (not fitted here, but a file may have it) ends somewhere, and what scores beyond its end has no probability. Where
/// only this share of the excesses is left it goes on as an exponential with the same slope, so that every score has one.
const LAST_OF_EXCESSES: f64 = 1e-3;
/// Least scale, as a share of the range of the scores and of the threshold, and at all.
const SCALE_FLOORS: (f64, f64, f64) = (1e-3, 1e-6, 1e-12);
/// Shapes this close to zero are zero: the exponential distribution.
const EXPONENTIAL: f64 = 1e-9;
/// Scores are taken as no larger than this, either side of zero: sums and differences of them stay finite.
const HUGE: f64 = 1e150;

/// A fitted tail. Below `threshold` the empirical distribution counts, above it a generalised Pareto distribution or the
/// largest scores of the fit, whichever calls a score more common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// Scores that the fit saw; those that are not numbers do not count.
    pub rows: u64,
    /// Share of them above `threshold`.
    pub exceed: f64,
    /// Where the Pareto tail begins.
    pub threshold: f64,
    /// Shape (xi) of the generalised Pareto distribution; 0: exponential.
    pub shape: f64,
    /// Scale (sigma).
    pub scale: f64,
    /// The body: scores at the tail probabilities of [`BODY`] that are above `exceed`, ascending.
    pub body: Vec<f64>,
    /// The largest scores of the fit that are above `threshold` (with a margin and a bound), descending; none when the scores
    /// were of less than a day.
    #[serde(default)]
    pub largest: Vec<f64>,
}

/// Why there is no tail.
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
    /// A tail that was read, not fitted, and cannot be one.
    #[error("{0}")]
    Insane(String),
}

impl Tail {
    /// Fits a tail to the scores of so many days. Scores that are not finite are left out.
    pub fn fit(scores: &[f64], days: f64) -> Result<Self, TailError> {
        let mut sorted: Vec<f64> = scores.iter().filter(|s| s.is_finite()).map(|s| s.clamp(-HUGE, HUGE)).collect();
        let rows = sorted.len();
        if rows < MIN_SCORES {
            return Err(TailError::TooFew { got: rows, least: MIN_SCORES });
        }
        sorted.sort_unstable_by(f64::total_cmp);
        let wanted = ((rows as f64 * EXCEED).ceil() as usize).max(MIN_EXCESSES);
        let threshold = sorted[rows - wanted - 1];
        let excesses: Vec<f64> =
            sorted[sorted.partition_point(|s| *s <= threshold)..].iter().map(|s| s - threshold).collect();
        // Where the largest scores are all the same nothing is above them: less than one row in `rows` would be.
        let exceed = (excesses.len() as f64).max(0.5) / rows as f64;
        let range = sorted[rows - 1] - sorted[0];
        let floor = (range * SCALE_FLOORS.0).max(threshold.abs() * SCALE_FLOORS.1).max(SCALE_FLOORS.2);
        let mean = excesses.iter().sum::<f64>() / excesses.len().max(1) as f64;
        // The highest score that at least the share has reached: with ties, all that have it count.
        let quantile = |share: f64| sorted[rows - ((share * rows as f64).ceil() as usize).min(rows)].min(threshold);
        let body = BODY.iter().filter(|p| **p > exceed).map(|p| quantile(*p)).collect();
        let scale = mean.max(floor);
        let count = if days >= LARGEST_FROM_DAYS { LARGEST.min(excesses.len()) } else { 0 };
        let largest = sorted.iter().rev().take(count).enumerate().map(|(k, score)| {
            let expected = scale * (exceed * rows as f64 / (k + 1) as f64).ln();
            (score + MARGIN * score.abs()).min(threshold + LARGEST_CAP * expected).clamp(threshold, HUGE)
        });
        let largest = largest.collect();
        Ok(Self { rows: rows as u64, exceed, threshold, shape: 0.0, scale, body, largest })
    }

    /// Says what is wrong with a tail that was read from a file.
    pub fn check(&self) -> Result<(), TailError> {
        let insane = |what: String| Err(TailError::Insane(what));
        if self.rows == 0 {
            return insane("rows is 0: a tail is fitted to scores".into());
        }
        if !(self.exceed > 0.0 && self.exceed < 1.0) {
            return insane(format!("exceed {} must be above 0 and below 1", self.exceed));
        }
        if self.threshold.is_nan() || self.threshold.abs() > HUGE {
            return insane(format!("threshold {} must be a finite number", self.threshold));
        }
        if !(-1.0..1.0).contains(&self.shape) {
            return insane(format!("shape {} must be at least -1 and below 1", self.shape));
        }
        if !(self.scale > 0.0 && self.scale <= 2.0 * HUGE) {
            return insane(format!("scale {} must be a finite number above 0", self.scale));
        }
        let length = BODY.iter().filter(|p| **p > self.exceed).count();
        if self.body.len() != length {
            return insane(format!(
                "body has {} scores, but {length} tail probabilities are above exceed {}",
                self.body.len(),
                self.exceed
            ));
        }
        for (i, score) in self.body.iter().enumerate() {
            let next = self.body.get(i + 1).unwrap_or(&self.threshold);
            if !(score.abs() <= HUGE && score <= next) {
                return insane(format!("body[{i}] {score} must be a finite number, not above the next ({next})"));
            }
        }
        for (i, score) in self.largest.iter().enumerate() {
            let (next, share) = (self.largest.get(i + 1).unwrap_or(&self.threshold), (i + 1) as f64 / self.rows as f64);
            if !(score.abs() <= HUGE && score >= next) {
                return insane(format!("largest[{i}] {score} must be a finite number, not below the next ({next})"));
            }
            if share > self.exceed * (1.0 + 1e-9) {
                return insane(format!("largest[{i}] is one too many: exceed {} of {} rows", self.exceed, self.rows));
            }
        }
        Ok(())
    }

    /// Share of benign scores that are at least this high: 1 for the lowest, above 0 for all. NaN for NaN.
    pub fn probability(&self, score: f64) -> f64 {
        let p = self.ln_probability(score).exp();
        if p < f64::MIN_POSITIVE { f64::MIN_POSITIVE } else { p }
    }

    /// -log10 of [`Tail::probability`], exact where that underflows: 5 is one row in 10^5. At least 0 and finite; NaN
    /// for NaN.
    pub fn log10(&self, score: f64) -> f64 {
        let log10 = -self.ln_probability(score) / std::f64::consts::LN_10;
        // Not `-0.0`, and NaN stays what it is.
        if log10 > 0.0 { log10 } else { log10.abs() }
    }

    /// The score that a share `p` of benign scores reaches: the inverse of [`Tail::probability`].
    pub fn score_at(&self, p: f64) -> f64 {
        self.score_at_log10(-p.clamp(f64::MIN_POSITIVE, 1.0).log10())
    }

    /// The inverse of [`Tail::log10`]: the score that is one row in 10^`log10`.
    pub fn score_at_log10(&self, log10: f64) -> f64 {
        let ln_p = -log10.clamp(0.0, HUGE) * std::f64::consts::LN_10;
        let ln_exceed = self.exceed.ln();
        if ln_p < ln_exceed {
            let fitted = self.threshold + self.excess_at(ln_p - ln_exceed);
            return fitted.max(self.seen_at(ln_p)).min(HUGE);
        }
        let above = self.knots().position(|(_, knot)| knot <= ln_p).unwrap_or(self.body.len());
        let (score, knot) = self.knot(above);
        match above.checked_sub(1).map(|below| self.knot(below)) {
            Some((below, ln_below)) => below + (score - below) * (ln_below - ln_p) / (ln_below - knot),
            None => score,
        }
    }

    fn ln_probability(&self, score: f64) -> f64 {
        let score = score.clamp(-HUGE, HUGE);
        if score > self.threshold {
            return (self.exceed.ln() + self.ln_excess(score - self.threshold)).max(self.ln_seen(score));
        }
        if score.is_nan() {
            return f64::NAN;
        }
        // Of equal knots the first: the share that reaches a score counts those that have it.
        let above = self.body.partition_point(|b| *b < score);
        let (high, ln_high) = self.knot(above);
        match above.checked_sub(1).map(|below| self.knot(below)) {
            Some((low, ln_low)) => ln_low + (ln_high - ln_low) * ((score - low) / (high - low)),
            None => ln_high,
        }
    }

    /// ln of the share of the excesses that reach `excess`.
    fn ln_excess(&self, excess: f64) -> f64 {
        if self.shape.abs() < EXPONENTIAL {
            return -excess / self.scale;
        }
        let last = LAST_OF_EXCESSES.ln();
        let line = self.excess_at(last);
        if self.shape < 0.0 && excess > line {
            return last - (excess - line) / (self.scale + self.shape * line);
        }
        -(self.shape * (excess / self.scale)).ln_1p() / self.shape
    }

    /// The inverse of [`Tail::ln_excess`].
    fn excess_at(&self, ln_share: f64) -> f64 {
        if self.shape.abs() < EXPONENTIAL {
            return -ln_share * self.scale;
        }
        let last = LAST_OF_EXCESSES.ln();
        let pareto = |ln_share: f64| self.scale * (-self.shape * ln_share).exp_m1() / self.shape;
        if self.shape < 0.0 && ln_share < last {
            let line = pareto(last);
            return line + (last - ln_share) * (self.scale + self.shape * line);
        }
        pareto(ln_share)
    }

    /// Score and ln of the tail probability of each knot of the body; the threshold is the last.
    fn knots(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        (0..=self.body.len()).map(|i| self.knot(i))
    }

    fn knot(&self, i: usize) -> (f64, f64) {
        match self.body.get(i) {
            Some(score) => (*score, BODY[i].ln()),
            None => (self.threshold, self.exceed.ln()),
        }
    }

    /// ln of the share of the scores of the fit that reach a score above `threshold`, interpolated; nothing reaches what
    /// is above the largest.
    fn ln_seen(&self, score: f64) -> f64 {
        let above = self.largest.partition_point(|l| *l >= score);
        if above == 0 {
            return f64::NEG_INFINITY;
        }
        // `above` scores reach it. Of equal ones the last counts, as in the body.
        let ((high, ln_high), (low, ln_low)) = (self.seen(above - 1), self.seen(above));
        ln_high + (ln_low - ln_high) * ((high - score) / (high - low))
    }

    /// The inverse of [`Tail::ln_seen`].
    fn seen_at(&self, ln_p: f64) -> f64 {
        let Some(largest) = self.largest.first() else { return self.threshold };
        let below = (0..=self.largest.len()).find(|i| self.seen(*i).1 >= ln_p).unwrap_or(self.largest.len());
        let (low, ln_low) = self.seen(below);
        match below.checked_sub(1).map(|above| self.seen(above)) {
            Some((high, ln_high)) => high - (high - low) * ((ln_p - ln_high) / (ln_low - ln_high)),
            None => *largest,
        }
    }

    /// The i-th largest score and ln of the share that reaches it; the threshold is the last.
    fn seen(&self, i: usize) -> (f64, f64) {
        match self.largest.get(i) {
            Some(score) => (*score, ((i + 1) as f64 / self.rows as f64).ln()),
            None => (self.threshold, self.exceed.ln()),
        }
    }
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
