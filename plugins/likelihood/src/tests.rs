use super::Likelihood;
use kaminari_plugin_sdk::prelude::*;
use kaminari_plugin_sdk::testing::{Harness, Value, batch, json, window};

fn harness(config: Value) -> Harness<Likelihood> {
    Harness::new(config).unwrap()
}

/// A metric with a rhythm and a little noise.
fn usual(i: u64) -> f64 {
    100.0 + 20.0 * (i as f64 / 24.0).sin() + (i * 7919 % 13) as f64 / 4.0
}

fn step(h: &mut Harness<Likelihood>, i: u64, x: f64) -> Verdict {
    h.detect(&window(i * 300, 300), &batch().hosts([1]).f64s("value", [x]).build()).unwrap()
}

#[test]
fn a_value_never_seen_alerts_and_explains_itself() {
    let mut h = harness(json!({ "features": ["value"] }));
    for i in 0..400 {
        let v = step(&mut h, i, usual(i));
        assert_eq!(v.scores[0].is_nan(), i < 70, "{i}: no opinion while warming up");
    }
    let v = step(&mut h, 400, 400.0);
    let [alert] = &v.alerts[..] else { panic!("{v:?}") };
    assert!(alert.kind.starts_with("unusual-"), "{}", alert.kind);
    assert_eq!((alert.threshold, alert.score), (2.6, v.scores[0]));
    let [why] = &alert.contributions[..] else { panic!("{alert:?}") };
    assert_eq!((&*why.column, why.weight, why.observed), ("value", 1.0, 400.0));
    assert!((75.0..125.0).contains(&why.expected), "{why:?}");
    assert_eq!(step(&mut h, 401, 200.0).scores, [0.0], "less than what was told");
    assert!(step(&mut h, 402, 400.0).alerts.len() == 1, "it lasts, and was not learned");
}

#[test]
fn values_changes_and_spreads_are_told_apart() {
    let first = |usual: &dyn Fn(u64) -> f64, odd: &dyn Fn(u64) -> f64| {
        let mut h = harness(json!({ "features": ["value"], "limit": 2.0 }));
        (0..2000).for_each(|i| drop(step(&mut h, i, usual(i))));
        (2000..2400).flat_map(|i| step(&mut h, i, odd(i)).alerts).map(|a| a.kind).next()
    };
    // Slowly up and down, then a jump within the range.
    let slow = |i: u64| 1000.0 * (i as f64 / 100.0).sin() + (i * 7919 % 13) as f64;
    let jump = |_| -700.0;
    assert!(slow(1999) > 0.0);
    assert_eq!(first(&slow, &jump).as_deref(), Some("unusual-change"));
    // Noise that grows slowly out of its range.
    let noise = |i: u64| (i * 7919 % 13) as f64;
    assert_eq!(first(&noise, &|_| 6.0).as_deref(), Some("unusual-spread"), "a flat line");
    assert_eq!(first(&|i| i as f64 % 2.0, &|_| 0.5).as_deref(), Some("unusual-value"), "between two values");
}

#[test]
fn alerts_teach_only_where_that_is_asked_for() {
    let alerted = |learn: bool| {
        let mut h = harness(json!({ "features": ["value"], "learn_from_alerts": learn, "quiet_half_life_windows": 0 }));
        (0..400).for_each(|i| drop(step(&mut h, i, usual(i))));
        (400..420).filter(|&i| !step(&mut h, i, 500.0).alerts.is_empty()).count()
    };
    assert_eq!(alerted(false), 20, "an attack does not become normal");
    assert!(alerted(true) < 20, "{}", alerted(true));
}

#[test]
fn partial_windows_are_judged_and_teach_nothing() {
    let mut h = harness(json!({ "features": ["value"] }));
    let b = batch().hosts([1]).f64s("value", [1.0]).build();
    let early = Window { partial: true, ..window(0, 300) };
    let again = Window { revision: 1, ..window(0, 300) };
    for w in [early, again].iter().cycle().take(200) {
        assert!(h.detect(w, &b).unwrap().scores[0].is_nan());
    }
    (0..400).for_each(|i| drop(step(&mut h, i, usual(i))));
    let before = h.detector.snapshot().unwrap();
    let odd = batch().hosts([1]).f64s("value", [900.0]).build();
    for _ in 0..3 {
        assert_eq!(h.detect(&early, &odd).unwrap().alerts.len(), 1);
    }
    assert_eq!(h.detector.snapshot().unwrap(), before);
}

#[test]
fn a_restored_instance_goes_on_as_if_nothing_had_happened() {
    let config = || json!({ "features": ["value", "other"], "learn_from_alerts": true });
    let rows = |i: u64| {
        let odd = if i.is_multiple_of(197) { i as f64 * i as f64 } else { 0.0 };
        batch()
            .hosts([1, 2])
            .f64s("value", [usual(i) + odd, usual(3 * i)])
            .f64s("other", [usual(i + 9), f64::NAN])
            .build()
    };
    let mut first = harness(config());
    (0..500).for_each(|i| drop(first.detect(&window(i * 300, 300), &rows(i)).unwrap()));
    let mut second = harness(config());
    second.detector.restore(Likelihood::STATE_VERSION, &first.detector.snapshot().unwrap()).unwrap();
    let mut alerts = 0;
    for i in 500..1000 {
        let (a, b) = (first.detect(&window(i * 300, 300), &rows(i)), second.detect(&window(i * 300, 300), &rows(i)));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(a, b, "window {i}");
        alerts += a.alerts.len();
    }
    assert!(alerts > 0);
    let mut other = harness(json!({ "features": ["value"] }));
    let why = other.detector.restore(1, &first.detector.snapshot().unwrap()).unwrap_err();
    assert_eq!(why.to_string(), "the saved state is of other features");
}

#[test]
fn no_value_is_no_opinion_and_entities_are_bounded() {
    let mut h = harness(json!({ "features": ["value"], "max_entities": 10 }));
    (0..100).for_each(|i| drop(step(&mut h, i, usual(i))));
    assert!(step(&mut h, 100, f64::NAN).scores[0].is_nan());
    let many = batch().hosts(0..100).f64s("value", vec![1.0; 100]).build();
    h.detect(&window(90_000, 300), &many).unwrap();
    assert_eq!(h.detector.entities.len(), 10);
}

#[test]
fn config_errors_say_where() {
    let cases = [
        (json!({ "features": [] }), "`features`: name at least one feature"),
        (json!({ "features": ["x"], "limit": 0 }), "`limit`: must be positive, not 0"),
        (json!({ "features": ["x"], "memory": 1 }), "`memory`: must be from 8 to 4096"),
        (
            json!({ "features": ["x"], "warm_up_windows": 5 }),
            "`warm_up_windows`: must be at least 40: the first windows say little",
        ),
    ];
    for (config, message) in cases {
        assert_eq!(Harness::<Likelihood>::new(config).err().expect("refused").to_string(), message);
    }
    let h = harness(json!({ "features": ["x"] }));
    let b = batch().hosts([1]).f64s("y", [1.0]).build();
    assert_eq!(
        h.requires(b.schema()).unwrap_err().to_string(),
        "`features[0]`: the pipeline has no feature `x`; it has y"
    );
}
