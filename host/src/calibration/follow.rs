//! A tail that follows slow drift. Comes in: per window, how many rows were scored and the scores above a floor; goes
//! out: the trained tail, moved to where the benign scores are by now. Refused: scores that would alert (an attack does
//! not teach), and moves beyond a factor of the trained tail. Does not depend on the order of scores within a window,
//! reads no clock, and holds a bounded amount whatever comes.
//!
//! How it learns: scores are counted in bins, and counts fade with a memory of about a day, so that day and night are
//! both in it. Every ten minutes of event time two quantiles of the counted scores are held against those of the trained
//! tail: how far the one moved and by what factor their distance grew moves the whole trained tail. Far out it is moved,
//! not learnt again: what is rare cannot be learnt from a day. Two quantiles move little for whatever few rows do.

use super::state::Identity;
use super::tail::{MIN_SCORES, Tail};
use super::timeline::Published;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Event time between two fits.
pub const STEP_NS: u64 = 600_000_000_000;
/// Fits a day.
const STEPS_PER_DAY: u64 = 144;
/// A silence of more steps is a time when the engine was off: nothing fades, and it does not count as a time without rows.
const LONGEST_SILENCE: u64 = 72;
/// Steps after which rows a day are known from what came; where nothing was trained a guess must do for less long.
const RATE_STEPS: (u64, u64) = (STEPS_PER_DAY, 6);
/// The quantiles that are followed: these shares of the rows are above them.
const FOLLOWED: (f64, f64) = (0.1, 0.02);
/// This share of the rows is above the floor: more than is followed, so that a fall of the scores is seen.
const FLOOR: f64 = 0.25;
/// Rows above the upper quantile, at least, for a fit.
const FIT_EXCESSES: f64 = 30.0;
/// At most this share of the rows is taken for alarms and does not teach, however many false alarms are asked for...
const MOST_ALARMS: f64 = 0.001;
/// ...and what is rarer than this never teaches, however few are.
const LEAST_TEACHING: f64 = 1e-9;
/// What the trained tail counts at the start, as a share of what the memory holds when it is full.
const TRAINED_SHARE: f64 = 0.25;
/// Bins per e-fold of distance from the trained threshold; linear close to it, 1/128 of a scale wide.
const BINS_PER_FOLD: f64 = 128.0;
/// Bins either side of the trained threshold.
pub(super) const BINS: i32 = 2048;

/// How a follower follows; stands in the config of the detector.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowSettings {
    /// The knob: what is rarer than this alerts and does not teach.
    pub false_alarms_per_day: f64,
    /// Most that threshold and scale may move: this factor of the trained ones, up or down.
    pub max_shift: f64,
    /// How long counts last: after this many hours of traffic they weigh 1/e.
    pub memory_hours: f64,
    /// Rows to learn from where no tail was trained.
    pub warm_up_rows: u64,
    /// Nothing changes.
    pub frozen: bool,
}

impl Default for FollowSettings {
    fn default() -> Self {
        Self { false_alarms_per_day: 1.0, max_shift: 4.0, memory_hours: 24.0, warm_up_rows: 20_000, frozen: false }
    }
}

/// Follows one detector's scores on one level.
#[derive(Clone, Debug, PartialEq)]
pub struct Follower {
    pub(super) identity: Identity,
    pub(super) settings: FollowSettings,
    pub(super) state: State,
    /// Scores above it alert and do not teach, and the share of benign scores that do.
    ceiling: (f64, f64),
    tail: Option<Arc<Tail>>,
}

/// What is remembered across restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// What is moved; none: still learning.
    pub(super) trained: Option<Trained>,
    /// The followed tail: the trained one, moved.
    pub(super) tail: Option<Tail>,
    /// Scores of the warm-up.
    pub(super) learning: Vec<f64>,
    /// End of the first window of the warm-up, and the rows of that window.
    pub(super) began: Option<(u64, u64)>,
    /// The step that runs.
    pub(super) step: Option<u64>,
    /// Steps that are over.
    pub(super) steps: u64,
    /// Rows that teach, fading.
    pub(super) rows: f64,
    /// Scores that teach, by bin, fading.
    pub(super) bins: BTreeMap<i32, f64>,
    /// All rows of the step that runs.
    pub(super) step_rows: f64,
    /// All rows of the steps that are over, fading...
    pub(super) rate_rows: f64,
    /// ...and those steps.
    pub(super) rate_steps: f64,
}

/// The tail that is moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trained {
    pub(super) tail: Tail,
    pub(super) rows_per_day: f64,
    /// Learnt in a warm-up, not read from a model.
    pub(super) learnt: bool,
}

impl Follower {
    /// Starts from the tail of a model.
    pub fn trained(identity: Identity, settings: FollowSettings, tail: Tail, rows_per_day: f64) -> Self {
        let mut state = State::default();
        state.start(Trained { tail, rows_per_day, learnt: false }, settings.memory_hours);
        Self::resume(identity, settings, state)
    }

    /// Starts from nothing: no opinion until `warm_up_rows` were seen, which are taken for benign.
    pub fn learning(identity: Identity, settings: FollowSettings) -> Self {
        Self::resume(identity, settings, State::default())
    }

    pub(super) fn resume(identity: Identity, settings: FollowSettings, state: State) -> Self {
        let mut follower = Self { identity, settings, state, ceiling: (f64::INFINITY, 0.0), tail: None };
        follower.settle();
        follower
    }

    /// The tail as it is now; none while learning.
    pub fn tail(&self) -> Option<&Tail> {
        self.tail.as_deref()
    }

    /// Scores above it are to be handed to [`Follower::observe`]; all of them while learning.
    pub fn floor(&self) -> f64 {
        self.tail().map_or(f64::NEG_INFINITY, |tail| tail.score_at(FLOOR))
    }

    /// Rows a day: as seen once it has seen a day, before that as trained. None while learning.
    pub fn rows_per_day(&self) -> Option<f64> {
        let trained = self.state.trained.as_ref()?;
        let long_enough = if trained.learnt { RATE_STEPS.1 } else { RATE_STEPS.0 };
        let seen = self.state.rate_rows / self.state.rate_steps * STEPS_PER_DAY as f64;
        Some(if self.state.steps >= long_enough && seen > 0.0 { seen } else { trained.rows_per_day })
    }

    /// What the workers need to know.
    pub fn published(&self) -> Published {
        Published { tail: self.tail.clone(), rows_per_day: self.rows_per_day(), floor: self.floor() }
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// One window: its end, the rows that had a score, and the scores above [`Follower::floor`] in any order. True when
    /// there is a new tail.
    pub fn observe(&mut self, window_end_ns: u64, rows: u64, excesses: &[f64]) -> bool {
        if self.settings.frozen {
            return false;
        }
        let rows = rows.max(excesses.len() as u64);
        let step = window_end_ns.saturating_sub(1) / STEP_NS;
        if self.state.trained.is_none() {
            return self.learn(window_end_ns, rows, excesses);
        }
        let changed = self.advance(step);
        let Some(trained) = &self.state.trained else { return changed };
        self.state.step_rows += rows as f64;
        let mut teaching = rows as f64;
        for score in excesses.iter().filter(|s| !s.is_nan()) {
            if *score > self.ceiling.0 {
                teaching -= 1.0;
            } else {
                *self.state.bins.entry(bin(&trained.tail, *score)).or_default() += 1.0;
            }
        }
        self.state.rows += teaching;
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
        let Ok(tail) = Tail::fit(&state.learning) else { return false };
        // The first window's rows came before its end. Less than a second is no time to measure.
        let later = (tail.rows.saturating_sub(first_rows)).max(1) as f64;
        let seconds = (window_end_ns.saturating_sub(first_end) as f64 / 1e9).max(1.0);
        let rows_per_day = later / seconds * 86_400.0;
        state.start(Trained { tail, rows_per_day, learnt: true }, self.settings.memory_hours);
        self.settle();
        true
    }

    /// Time goes on: at the end of a step the tail is fitted again and the counts fade.
    fn advance(&mut self, step: u64) -> bool {
        let Some(before) = self.state.step else {
            self.state.step = Some(step);
            return false;
        };
        if step <= before {
            return false;
        }
        let elapsed = if step - before > LONGEST_SILENCE { 1 } else { step - before };
        self.state.step = Some(step);
        self.state.steps += elapsed;
        self.state.rate_steps += elapsed as f64;
        self.state.rate_rows += std::mem::take(&mut self.state.step_rows);
        if let Some(tail) = self.moved() {
            self.state.tail = Some(tail);
        }
        let steps_of_memory = (self.settings.memory_hours * STEPS_PER_DAY as f64 / 24.0).max(1.0);
        self.state.fade((-(elapsed as f64) / steps_of_memory).exp());
        self.settle();
        true
    }

    /// The trained tail where the counted scores are. None: too few were counted.
    fn moved(&self) -> Option<Tail> {
        let (state, trained) = (&self.state, &self.state.trained.as_ref()?.tail);
        if state.rows * FOLLOWED.1 < FIT_EXCESSES {
            return None;
        }
        // Alarms are left out of the counts, and so is the share of benign scores that alert by chance.
        let alarms = self.ceiling.1;
        let counted = |share: f64| state.quantile(trained, (share - alarms) / (1.0 - alarms));
        let (from, from_upper) = (trained.score_at(FOLLOWED.0), trained.score_at(FOLLOWED.1));
        let most = self.settings.max_shift.max(1.0);
        let reach = from.abs().max(from - trained.score_at(0.5));
        let to = counted(FOLLOWED.0).clamp(from - reach * (1.0 - 1.0 / most), from + reach * (most - 1.0));
        let factor = if from_upper > from { (counted(FOLLOWED.1) - to) / (from_upper - from) } else { 1.0 };
        let factor = factor.clamp(1.0 / most, most);
        let moved = |score: f64| to + (score - from) * factor;
        Some(Tail {
            threshold: moved(trained.threshold),
            scale: trained.scale * factor,
            body: trained.body.iter().copied().map(moved).collect(),
            largest: trained.largest.iter().copied().map(moved).collect(),
            ..trained.clone()
        })
    }

    /// What follows from the state.
    fn settle(&mut self) {
        self.tail = self.state.tail.clone().map(Arc::new);
        if let (Some(tail), Some(rows_per_day)) = (&self.tail, self.rows_per_day()) {
            let share = (self.settings.false_alarms_per_day / rows_per_day).clamp(LEAST_TEACHING, MOST_ALARMS);
            self.ceiling = (tail.score_at(share), share);
        }
    }
}

impl State {
    /// The trained tail is the first thing that was seen.
    fn start(&mut self, trained: Trained, memory_hours: f64) {
        let tail = trained.tail.clone();
        let full = trained.rows_per_day * memory_hours / 24.0;
        self.rows = (full * TRAINED_SHARE).max(FIT_EXCESSES / FOLLOWED.1);
        self.bins = (-BINS..=BINS)
            .map(|b| (b, self.rows * (tail.probability(edge(&tail, b)) - tail.probability(edge(&tail, b + 1)))))
            .filter(|(_, weight)| *weight > 0.0)
            .collect();
        (self.learning, self.began) = (Vec::new(), None);
        self.tail = Some(tail);
        self.trained = Some(trained);
    }

    fn fade(&mut self, by: f64) {
        self.rows *= by;
        self.rate_rows *= by;
        self.rate_steps *= by;
        // What weighs less than a millionth of a row is forgotten.
        self.bins.retain(|_, weight| {
            *weight *= by;
            *weight > 1e-6
        });
    }

    /// The score that this share of the counted rows is above; the lowest counted where too few were.
    fn quantile(&self, trained: &Tail, share: f64) -> f64 {
        let wanted = share * self.rows;
        let mut above = 0.0;
        for (b, weight) in self.bins.iter().rev() {
            if above + weight >= wanted {
                let (low, high) = (edge(trained, *b), edge(trained, *b + 1));
                return high - (high - low) * ((wanted - above) / weight);
            }
            above += weight;
        }
        self.bins.first_key_value().map_or(edge(trained, -BINS), |(b, _)| edge(trained, *b))
    }
}

fn bin(trained: &Tail, score: f64) -> i32 {
    let distance = (score - trained.threshold) / trained.scale;
    (distance.asinh() * BINS_PER_FOLD).floor().clamp(-BINS as f64, BINS as f64) as i32
}

/// The lower edge of a bin.
fn edge(trained: &Tail, bin: i32) -> f64 {
    trained.threshold + (bin as f64 / BINS_PER_FOLD).sinh() * trained.scale
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
