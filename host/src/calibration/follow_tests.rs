use super::*;
use crate::calibration::limit;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const MINUTE: u64 = 60_000_000_000;
/// Rows of a window of a minute: 144 000 a day.
const ROWS: usize = 100;
const ROWS_PER_DAY: f64 = 144_000.0;
const FALSE_ALARMS: f64 = 50.0;

fn identity() -> Identity {
    Identity { pipeline: "ddos".into(), detector: "ae".into(), level: "dst_addr".into(), model: "sha256:1234".into() }
}

/// Benign traffic: exponential scores, a window after the other.
struct Traffic {
    rng: StdRng,
    now_ns: u64,
}

impl Traffic {
    fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), now_ns: 1_700_000_000_000_000_000 }
    }

    fn scores(&mut self, n: usize, size: f64) -> Vec<f64> {
        (0..n).map(|_| -size * (1.0 - self.rng.random::<f64>()).ln()).collect()
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

fn trained_with(settings: FollowSettings) -> Follower {
    let tail = Tail::fit(&Traffic::new(99).scores(144_000, 1.0), 1.0).expect("scores enough");
    Follower::trained(identity(), settings, tail, ROWS_PER_DAY)
}

fn trained() -> Follower {
    trained_with(FollowSettings::default())
}

fn near_nominal(alarms: usize, days: f64) -> bool {
    let nominal = FALSE_ALARMS * days;
    (alarms as f64) > nominal / 3.0 && (alarms as f64) < nominal * 3.0
}

/// What the trained limit makes of scores of this size, a day long.
fn without_following(size: f64) -> usize {
    let fixed = trained();
    let limit = fixed.tail().expect("a tail").score_at_log10(limit(FALSE_ALARMS, ROWS_PER_DAY));
    Traffic::new(77).scores(144_000, size).iter().filter(|s| **s > limit).count()
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
fn follows_a_drift_within_its_bound() {
    for (max_shift, size) in [(1.25, 1.2), (4.0, 3.0)] {
        let settings = FollowSettings { max_shift, ..FollowSettings::default() };
        let (mut follower, mut traffic) = (trained_with(settings), Traffic::new(2));
        for minute in 0..2880 {
            traffic.window(&mut follower, size_at(size, f64::from(minute) / 2880.0), &[]);
        }
        let alarms = traffic.minutes(&mut follower, 1440, size);
        assert!(near_nominal(alarms, 1.0), "size {size}: {alarms} alarms a day after the drift");
        assert!(without_following(size) > 3 * alarms.max(FALSE_ALARMS as usize), "size {size}");
    }
}

fn size_at(size: f64, part: f64) -> f64 {
    size.powf(part)
}

#[test]
fn a_calm_does_not_make_it_more_sensitive_than_trained() {
    let (mut follower, mut traffic) = (trained(), Traffic::new(2));
    traffic.minutes(&mut follower, 1440, 0.3);
    assert_eq!(follower.tail(), trained().tail());
}

#[test]
fn an_hour_of_attack_on_some_teaches_next_to_nothing() {
    let (mut follower, mut traffic) = (trained(), Traffic::new(3));
    traffic.minutes(&mut follower, 600, 1.0);
    // Five attacked entities, as wild as can be.
    for _ in 0..60 {
        traffic.window(&mut follower, 1.0, &[1e12; 5]);
    }
    let after = follower.tail().expect("a tail").threshold / trained().tail().expect("a tail").threshold;
    assert!((1.0..1.04).contains(&after), "{after}");
}

#[test]
fn an_attack_on_all_raises_the_bar_by_the_bound_at_most() {
    let (mut follower, mut traffic) = (trained(), Traffic::new(4));
    for _ in 0..500 {
        traffic.window(&mut follower, 1.0, &[1e12; 900]);
    }
    let after = follower.tail().expect("a tail").threshold / trained().tail().expect("a tail").threshold;
    assert!((after - 1.25).abs() < 1e-9, "{after}");
    traffic.minutes(&mut follower, 1440, 1.0);
    let later = follower.tail().expect("a tail").threshold / trained().tail().expect("a tail").threshold;
    assert!(later < 1.1, "it comes back: {later}");
}

#[test]
fn the_order_within_a_window_does_not_matter() {
    let (mut one, mut other) = (trained(), trained());
    let mut traffic = Traffic::new(5);
    for minute in 1..300 {
        let mut scores = traffic.scores(ROWS, 1.3);
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
    let settings = FollowSettings { warm_up_rows: 30_000, ..FollowSettings::default() };
    let mut follower = Follower::learning(identity(), settings);
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
    let settings = FollowSettings { warm_up_rows: 500, ..FollowSettings::default() };
    let start = || Follower::learning(identity(), settings.clone());
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
    let mut follower = trained_with(FollowSettings { frozen: true, ..FollowSettings::default() });
    let before = follower.clone();
    Traffic::new(8).minutes(&mut follower, 1440, 2.0);
    assert!(follower == before);
}

#[test]
fn a_week_off_is_no_week_without_rows() {
    let (mut follower, mut traffic) = (trained(), Traffic::new(9));
    traffic.minutes(&mut follower, 2000, 1.0);
    let before = follower.rows_per_day().expect("a rate");
    // A night without traffic, then a week of the engine being off.
    traffic.now_ns += 8 * 60 * MINUTE;
    traffic.window(&mut follower, 1.0, &[]);
    let night = follower.rows_per_day().expect("a rate");
    assert!(night < before, "a silent night is part of the day");
    traffic.now_ns += 7 * 1440 * MINUTE;
    traffic.window(&mut follower, 1.0, &[]);
    let week = follower.rows_per_day().expect("a rate");
    assert!((week / night - 1.0).abs() < 0.02, "{night} {week}");
}

#[test]
fn scores_below_zero_are_not_stretched() {
    let scores: Vec<f64> = Traffic::new(10).scores(10_000, 1.0).iter().map(|s| s - 100.0).collect();
    let tail = Tail::fit(&scores, 1.0).expect("scores enough");
    let mut follower = Follower::trained(identity(), FollowSettings::default(), tail.clone(), 10_000.0);
    for minute in 1..100 {
        assert!(!follower.observe(minute * MINUTE, 100, &[0.0; 50]));
    }
    assert_eq!(follower.tail(), Some(&tail));
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
        let mut follower = trained_with(FollowSettings { max_shift, ..FollowSettings::default() });
        let model = trained().tail().expect("a tail").clone();
        let mut now = 0u64;
        for (later, rows, scores, times) in windows {
            now = now.wrapping_add(later);
            follower.observe(now, rows, &scores.repeat(times));
            let tail = follower.tail().expect("a tail");
            tail.check().map_err(|e| TestCaseError::fail(e.to_string()))?;
            let factor = tail.threshold / model.threshold;
            prop_assert!((1.0..=max_shift * (1.0 + 1e-9)).contains(&factor), "{factor}");
            prop_assert!((tail.scale / model.scale / factor - 1.0).abs() < 1e-9);
            prop_assert!(follower.floor().is_finite());
            prop_assert!(follower.rows_per_day().is_some_and(|r| r > 0.0 && r.is_finite()));
        }
    }
}
