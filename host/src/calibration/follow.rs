//! A tail that follows slow drift. Comes in: per window, how many rows were scored and the scores above a floor; goes
//! out: the trained tail, stretched to where the benign scores are by now. Refused: stretching beyond a factor, and
//! shrinking below what was trained. Does not depend on the order of scores within a window, reads no clock, and holds a
//! bounded amount whatever comes.
//!
//! How it learns: one number, the logarithm of the factor by which scores have grown, tracks their 90 % quantile. Each
//! window it rises a little when more than a tenth of its rows are above the (stretched) quantile of the training, and
//! falls when fewer are. How far above they are does not matter, so that an attack on some entities is no more than that
//! many rows. (A quantile tracked by its sign is a Robbins-Monro estimate; cf. SPOT with drift, Siffer et al. 2017.)

use super::state::Identity;
use super::tail::{MIN_SCORES, Tail};
use super::timeline::Published;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The quantile that is tracked: this share of benign rows is above it.
const TRACKED: f64 = 0.1;
/// How far one window may move the logarithm of the factor, when all of its rows are above the quantile.
const STEP: f64 = 0.005;
/// Memory of the rate of rows, so that day and night are both in it.
const DAY_NS: f64 = 86_400e9;
/// A longer silence is a time when the engine was off, not one without rows.
const LONGEST_SILENCE_NS: u64 = 12 * 3_600_000_000_000;
/// Event time after which rows a day are known from what came; where nothing was trained a guess must do for less long.
const RATE_NS: (f64, f64) = (DAY_NS, 3_600e9);

/// How a follower follows; stands in the config of the detector.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowSettings {
    /// Most that the tail is stretched: scores may grow by this factor without becoming rarer.
    pub max_shift: f64,
    /// Rows to learn from where no tail was trained.
    pub warm_up_rows: u64,
    /// Nothing changes.
    pub frozen: bool,
}

impl Default for FollowSettings {
    fn default() -> Self {
        Self { max_shift: 1.25, warm_up_rows: 20_000, frozen: false }
    }
}

/// Follows one detector's scores on one level.
#[derive(Clone, Debug, PartialEq)]
pub struct Follower {
    pub(super) identity: Identity,
    pub(super) settings: FollowSettings,
    pub(super) state: State,
    tail: Option<Arc<Tail>>,
}

/// What is remembered across restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// What is stretched; none: still learning.
    pub(super) trained: Option<Trained>,
    /// ln of the factor.
    pub(super) shift: f64,
    /// Scores of the warm-up.
    pub(super) learning: Vec<f64>,
    /// End of the first window of the warm-up, and the rows of that window.
    pub(super) began: Option<(u64, u64)>,
    /// End of the newest window.
    pub(super) newest_ns: Option<u64>,
    /// Rows, fading over a day...
    pub(super) rows: f64,
    /// ...and the event time in which they came, fading alike.
    pub(super) time_ns: f64,
    /// Event time that was seen in all.
    pub(super) seen_ns: f64,
}

/// The tail that is stretched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trained {
    pub(super) tail: Tail,
    pub(super) rows_per_day: f64,
    /// Learned in a warm-up, not read from a model.
    pub(super) learned: bool,
}

impl Follower {
    /// Starts from the tail of a model.
    pub fn trained(identity: Identity, settings: FollowSettings, tail: Tail, rows_per_day: f64) -> Self {
        let trained = Some(Trained { tail, rows_per_day, learned: false });
        Self::resume(identity, settings, State { trained, ..State::default() })
    }

    /// Starts from nothing: no opinion until `warm_up_rows` were seen, which are taken for benign.
    pub fn learning(identity: Identity, settings: FollowSettings) -> Self {
        Self::resume(identity, settings, State::default())
    }

    /// The same follower under other settings.
    pub fn with_settings(self, settings: FollowSettings) -> Self {
        Self::resume(self.identity, settings, self.state)
    }

    pub(super) fn resume(identity: Identity, settings: FollowSettings, state: State) -> Self {
        let mut follower = Self { identity, settings, state, tail: None };
        follower.stretch();
        follower
    }

    /// The tail as it is now; none while learning.
    pub fn tail(&self) -> Option<&Tail> {
        self.tail.as_deref()
    }

    /// Scores above it are to be handed to [`Follower::observe`]; all of them while learning.
    pub fn floor(&self) -> f64 {
        self.state.trained.as_ref().map_or(f64::NEG_INFINITY, |trained| trained.tail.score_at(TRACKED))
    }

    /// Rows a day: as seen once it has seen a day, before that as trained. None while learning.
    pub fn rows_per_day(&self) -> Option<f64> {
        let trained = self.state.trained.as_ref()?;
        let enough = if trained.learned { RATE_NS.1 } else { RATE_NS.0 };
        let seen = self.state.rows / self.state.time_ns * DAY_NS;
        let known = self.state.seen_ns >= enough && seen > 0.0 && seen.is_finite();
        Some(if known { seen } else { trained.rows_per_day })
    }

    /// What the workers need to know.
    pub fn published(&self) -> Published {
        Published { tail: self.tail.clone(), rows_per_day: self.rows_per_day(), floor: self.floor() }
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How it follows.
    pub fn settings(&self) -> &FollowSettings {
        &self.settings
    }

    /// One window: its end, the rows that had a score, and the scores above [`Follower::floor`] in any order. True when
    /// there is something new to publish.
    pub fn observe(&mut self, window_end_ns: u64, rows: u64, excesses: &[f64]) -> bool {
        if self.settings.frozen {
            return false;
        }
        let rows = rows.max(excesses.len() as u64);
        if self.state.trained.is_none() {
            return self.learn(window_end_ns, rows, excesses);
        }
        self.count(window_end_ns, rows);
        let base = self.floor();
        // Scores that are not above 0 have no factor to grow by.
        if rows == 0 || base <= 0.0 {
            return false;
        }
        let bound = base * self.state.shift.exp();
        let above = excesses.iter().filter(|s| **s > bound).count() as f64 / rows as f64;
        let most = self.settings.max_shift.max(1.0).ln();
        let shift = (self.state.shift + STEP * (above - TRACKED)).clamp(0.0, most);
        let changed = shift != self.state.shift;
        self.state.shift = shift;
        if changed {
            self.stretch();
        }
        changed
    }

    /// Gathers scores until there are enough for a tail.
    fn learn(&mut self, window_end_ns: u64, rows: u64, scores: &[f64]) -> bool {
        let state = &mut self.state;
        let (first_end, first_rows) = *state.began.get_or_insert((window_end_ns, rows));
        state.learning.extend(scores.iter().filter(|s| s.is_finite()));
        if (state.learning.len() as u64) < self.settings.warm_up_rows.max(MIN_SCORES as u64) {
            return false;
        }
        // The first window's rows came before its end. Less than a second is no time to measure.
        let seconds = (window_end_ns.saturating_sub(first_end) as f64 / 1e9).max(1.0);
        let Ok(tail) = Tail::fit(&state.learning, seconds / 86_400.0) else { return false };
        let later = (tail.rows.saturating_sub(first_rows)).max(1) as f64;
        let rows_per_day = later / seconds * 86_400.0;
        *state = State { trained: Some(Trained { tail, rows_per_day, learned: true }), ..State::default() };
        self.stretch();
        true
    }

    /// The rate of rows goes on.
    fn count(&mut self, window_end_ns: u64, rows: u64) {
        let state = &mut self.state;
        let passed = window_end_ns.saturating_sub(*state.newest_ns.get_or_insert(window_end_ns));
        state.newest_ns = state.newest_ns.max(Some(window_end_ns));
        let passed = if passed > LONGEST_SILENCE_NS { 0.0 } else { passed as f64 };
        // The rows of the first window have no time before them.
        if passed > 0.0 || state.time_ns > 0.0 {
            let fade = (-passed / DAY_NS).exp();
            state.rows = state.rows * fade + rows as f64;
            state.time_ns = state.time_ns * fade + passed;
            state.seen_ns += passed;
        }
    }

    /// The trained tail over the factor.
    fn stretch(&mut self) {
        let factor = self.state.shift.clamp(0.0, self.settings.max_shift.max(1.0).ln()).exp();
        let stretched = |tail: &Tail| Tail {
            threshold: tail.threshold * factor,
            scale: tail.scale * factor,
            body: tail.body.iter().map(|s| s * factor).collect(),
            largest: tail.largest.iter().map(|s| s * factor).collect(),
            ..tail.clone()
        };
        self.tail = self.state.trained.as_ref().map(|trained| Arc::new(stretched(&trained.tail)));
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
