use super::*;
use crate::calibration::limit;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const MINUTE: u64 = 60_000_000_000;
/// Rows of a window of a minute: 144 000 a day.
const ROWS: usize = 100;
const ROWS_PER_DAY: f64 = 144_000.0;
const FALSE_ALARMS: f64 = 20.0;

fn identity() -> Identity {
    Identity { pipeline: "ddos".into(), detector: "ae".into(), level: "dst_addr".into(), model: "sha256:1234".into() }
}

fn settings() -> FollowSettings {
    FollowSettings { false_alarms_per_day: FALSE_ALARMS, ..FollowSettings::default() }
}

/// Benign traffic: scores with a heavy-ish tail, a window after the other.
struct Traffic {
    rng: StdRng,
    now_ns: u64,
}

impl Traffic {
    fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), now_ns: 1_700_000_000_000_000_000 }
    }

    fn scores(&mut self, n: usize, size: f64) -> Vec<f64> {
        // Generalised Pareto of shape 0.1 on a level of 2: like errors, never near zero.
        let mut score = || size * (2.0 + ((1.0 - self.rng.random::<f64>()).powf(-0.1) - 1.0) / 0.1);
        (0..n).map(|_| score()).collect()
    }

    /// One window of benign rows of this size and `more` rows besides. Returns the false alarms.
    fn window(&mut self, follower: &mut Follower, size: f64, more: &[f64]) -> usize {
        let mut scores = self.scores(ROWS, size);
        let alarms = match (follower.tail(), follower.rows_per_day()) {
            (Some(tail), Some(rows)) => {
                let limit = limit(FALSE_ALARMS, rows);
                scores.iter().filter(|s| tail.log10(**s) > limit).count()
            }
            _ => 0,
        };
        scores.extend(more);
        self.now_ns += MINUTE;
        let floor = follower.floor();
        let rows = scores.len() as u64;
        scores.retain(|s| *s > floor);
        follower.observe(self.now_ns, rows, &scores);
        alarms
    }

    fn minutes(&mut self, follower: &mut Follower, minutes: usize, size: f64) -> usize {
        (0..minutes).map(|_| self.window(follower, size, &[])).sum()
    }
}

fn trained() -> Follower {
    let tail = Tail::fit(&Traffic::new(99).scores(144_000, 1.0)).expect("scores enough");
    Follower::trained(identity(), settings(), tail, ROWS_PER_DAY)
}

fn limit_score(follower: &Follower) -> f64 {
    let limit = limit(FALSE_ALARMS, follower.rows_per_day().expect("a rate"));
    follower.tail().expect("a tail").score_at_log10(limit)
}

fn near_nominal(alarms: usize, days: f64) -> bool {
    let nominal = FALSE_ALARMS * days;
    (alarms as f64) > nominal / 3.0 && (alarms as f64) < nominal * 3.0
}

#[test]
fn benign_days_stay_at_the_nominal_rate() {
    let (mut follower, mut traffic) = (trained(), Traffic::new(1));
    let alarms = traffic.minutes(&mut follower, 3 * 1440, 1.0);
    assert!(near_nominal(alarms, 3.0), "{alarms} alarms in three days");
    let rows = follower.rows_per_day().expect("a rate");
    assert!((rows / ROWS_PER_DAY - 1.0).abs() < 0.02, "{rows}");
}

#[test]
fn follows_a_slow_drift_up_and_down() {
    for factor in [3.0, 1.0 / 3.0_f64] {
        let (mut follower, mut traffic) = (trained(), Traffic::new(2));
        traffic.minutes(&mut follower, 1440, 1.0);
        for minute in 0..1440 {
            traffic.window(&mut follower, factor.powf(f64::from(minute) / 1440.0), &[]);
        }
        traffic.minutes(&mut follower, 3 * 1440, factor);
        let alarms = traffic.minutes(&mut follower, 1440, factor);
        assert!(near_nominal(alarms, 1.0), "factor {factor}: {alarms} alarms a day after the drift");
        // The trained tail would say otherwise.
        let fixed = trained();
        let limit = limit_score(&fixed);
        let without = traffic.scores(144_000, factor).iter().filter(|s| **s > limit).count();
        assert!(!near_nominal(without, 1.0), "factor {factor}: {without} without following");
    }
}

#[test]
fn an_hour_of_attack_teaches_nothing() {
    let (mut follower, mut traffic) = (trained(), Traffic::new(3));
    let (mut calm, mut other) = (trained(), Traffic::new(3));
    traffic.minutes(&mut follower, 1440, 1.0);
    other.minutes(&mut calm, 1440, 1.0);
    // As many attacked entities as benign ones.
    let flood = vec![1e6; ROWS];
    for _ in 0..60 {
        traffic.window(&mut follower, 1.0, &flood);
        other.window(&mut calm, 1.0, &[]);
    }
    // Rows a day are more for a while, and so is the limit; the tail is the same.
    let at = |f: &Follower| f.tail().expect("a tail").score_at_log10(4.0);
    assert!((at(&follower) / at(&calm) - 1.0).abs() < 0.002);
    traffic.minutes(&mut follower, 60, 1.0);
    other.minutes(&mut calm, 60, 1.0);
    assert!((at(&follower) / at(&calm) - 1.0).abs() < 0.01);
    assert!(limit_score(&follower) / limit_score(&calm) < 1.02);
}

#[test]
fn an_attack_just_below_the_limit_moves_little() {
    let (mut follower, mut traffic) = (trained(), Traffic::new(4));
    traffic.minutes(&mut follower, 1440, 1.0);
    let before = limit_score(&follower);
    // One entity in a hundred for an hour.
    for _ in 0..60 {
        let just_below = limit_score(&follower) * 0.99;
        traffic.window(&mut follower, 1.0, &[just_below]);
    }
    traffic.minutes(&mut follower, 20, 1.0);
    let after = limit_score(&follower);
    assert!(after / before < 1.1, "{before} -> {after}");
}

#[test]
fn the_order_within_a_window_does_not_matter() {
    let (mut one, mut other) = (trained(), trained());
    let mut traffic = Traffic::new(5);
    for minute in 1..300 {
        let mut scores = traffic.scores(ROWS, 1.0);
        one.observe(minute * MINUTE, ROWS as u64, &scores);
        scores.reverse();
        scores.rotate_left(minute as usize % ROWS);
        other.observe(minute * MINUTE, ROWS as u64, &scores);
    }
    assert_ne!(one.tail(), trained().tail());
    assert!(one == other, "{:?} {:?}", one.tail(), other.tail());
}

#[test]
fn learns_from_nothing() {
    let mut follower = Follower::learning(identity(), FollowSettings { warm_up_rows: 30_000, ..settings() });
    let mut traffic = Traffic::new(6);
    assert_eq!(follower.floor(), f64::NEG_INFINITY);
    traffic.minutes(&mut follower, 299, 5.0);
    assert_eq!((follower.tail(), follower.rows_per_day()), (None, None));
    traffic.minutes(&mut follower, 1, 5.0);
    assert!(follower.tail().is_some());
    assert!((follower.rows_per_day().expect("a rate") / ROWS_PER_DAY - 1.0).abs() < 0.02);
    assert!(follower.state.learning.is_empty());
    let alarms = traffic.minutes(&mut follower, 2 * 1440, 5.0);
    assert!(near_nominal(alarms, 2.0), "{alarms}");
}

#[test]
fn learning_starts_the_same_in_any_order() {
    let start = || Follower::learning(identity(), FollowSettings { warm_up_rows: 500, ..settings() });
    let (mut one, mut other) = (start(), start());
    let mut traffic = Traffic::new(7);
    for minute in 1..30 {
        let mut scores = traffic.scores(ROWS, 1.0);
        scores[3] = f64::NAN;
        one.observe(minute * MINUTE, 99, &scores);
        scores.reverse();
        other.observe(minute * MINUTE, 99, &scores);
    }
    assert!(one.tail().is_some());
    assert_eq!((one.tail(), one.published()), (other.tail(), other.published()));
}

#[test]
fn frozen_never_changes() {
    let mut follower = Follower { settings: FollowSettings { frozen: true, ..settings() }, ..trained() };
    let before = follower.clone();
    Traffic::new(8).minutes(&mut follower, 1440, 2.0);
    assert!(follower == before);
}

#[test]
fn silence_teaches_nothing() {
    let (mut follower, mut traffic) = (trained(), Traffic::new(9));
    traffic.minutes(&mut follower, 2000, 1.5);
    let before = follower.clone();
    // A night without traffic, then a week of the engine being off.
    traffic.now_ns += 8 * 60 * MINUTE;
    traffic.window(&mut follower, 1.5, &[]);
    let night = follower.rows_per_day().expect("a rate");
    assert!(night < before.rows_per_day().expect("a rate"), "a silent night is part of the day");
    traffic.now_ns += 7 * 1440 * MINUTE;
    traffic.window(&mut follower, 1.5, &[]);
    let week = follower.rows_per_day().expect("a rate");
    assert!((week / night - 1.0).abs() < 0.02, "{night} {week}");
    let moved = limit_score(&follower) / limit_score(&before);
    assert!((moved - 1.0).abs() < 0.05, "{moved}");
}

#[test]
fn what_is_held_is_bounded() {
    let (mut follower, mut rng) = (trained(), StdRng::seed_from_u64(10));
    for minute in 1..500 {
        let scores: Vec<f64> = (0..1000).map(|_| rng.random_range(-20.0..20.0_f64).exp()).collect();
        follower.observe(minute * MINUTE, 1000, &scores);
    }
    assert!(follower.state.bins.len() <= 2 * BINS as usize + 1);
    assert!(follower.state.learning.is_empty());
}

fn within(tail: &Tail, trained: &Tail, most: f64) -> bool {
    // The scores of the tests are above 0: a factor up or down.
    let near = |now: f64, then: f64| now <= then * most * (1.0 + 1e-9) && now >= then / most * (1.0 - 1e-9);
    near(tail.threshold, trained.threshold) && near(tail.scale, trained.scale) && tail.shape == trained.shape
}

fn any_score() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        0.0..10.0,
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(0.0),
        Just(f64::MAX)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_bounds_hold_whatever_comes(
        windows in prop::collection::vec(
            (prop_oneof![0..20 * MINUTE, any::<u64>()], prop_oneof![0..2000u64, any::<u64>()],
             prop::collection::vec(any_score(), 0..50), 1usize..200),
            1..60),
        max_shift in 1.0..10.0,
    ) {
        let start = trained();
        let model = start.tail().expect("a tail").clone();
        let mut follower = Follower { settings: FollowSettings { max_shift, ..settings() }, ..start };
        let mut now = 0u64;
        for (later, rows, scores, times) in windows {
            now = now.wrapping_add(later);
            let scores = scores.repeat(times);
            follower.observe(now, rows, &scores);
            let tail = follower.tail().expect("a tail");
            tail.check().map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert!(within(tail, &model, max_shift), "{tail:?} {model:?}");
            prop_assert!(follower.floor().is_finite());
            prop_assert!(follower.rows_per_day().is_some_and(|r| r > 0.0 && r.is_finite()));
        }
    }
}
