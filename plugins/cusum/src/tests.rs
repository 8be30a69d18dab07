use super::Cusum;
use kaminari_plugin_sdk::prelude::*;
use kaminari_plugin_sdk::testing::{Harness, Value, batch, json, window};

fn harness(config: Value) -> Harness<Cusum> {
    Harness::new(config).unwrap()
}

/// Around 106 with a deviation of 3.7.
fn usual(i: u64) -> f64 {
    100.0 + (i * 7919 % 13) as f64
}

fn step(h: &mut Harness<Cusum>, i: u64, x: f64) -> Verdict {
    h.detect(&window(i * 10, 10), &batch().hosts([1]).f64s("flows", [x]).build()).unwrap()
}

/// Windows that alert when from 200 on `shift` is added.
fn alerted(config: Value, shift: f64) -> Vec<u64> {
    let mut h = harness(config);
    let shifted = |i: u64| usual(i) + if i >= 200 { shift } else { 0.0 };
    (0..300).filter(|&i| !step(&mut h, i, shifted(i)).alerts.is_empty()).collect()
}

#[test]
fn a_shift_of_one_deviation_is_found_that_no_single_value_shows() {
    let up = alerted(json!({ "features": ["flows"] }), 4.0);
    assert!(up[0] > 205 && up[0] < 230, "{up:?}");
    let down = alerted(json!({ "features": ["flows"] }), -4.0);
    assert!(down[0] > 205 && down[0] < 230, "{down:?}");
    assert_eq!(alerted(json!({ "features": ["flows"] }), 0.0), [] as [u64; 0]);
}

#[test]
fn it_warms_up_and_explains_itself() {
    let mut h = harness(json!({ "features": ["flows"] }));
    for i in 0..200 {
        assert_eq!(step(&mut h, i, usual(i)).scores[0].is_nan(), i < 60, "{i}");
    }
    let v = (200..).map(|i| step(&mut h, i, 120.0)).find(|v| !v.alerts.is_empty()).unwrap();
    let alert = &v.alerts[0];
    assert_eq!((&*alert.kind, alert.threshold), ("level-shift", 1.0));
    let [why] = &alert.contributions[..] else { panic!("{alert:?}") };
    assert_eq!((&*why.column, why.weight, why.observed), ("flows", 1.0, 120.0));
    assert!((104.0..108.0).contains(&why.expected), "{why:?}");
    assert!(alert.message.starts_with("flows has been above its level of 10"), "{}", alert.message);
}

#[test]
fn one_outlier_is_no_shift() {
    let mut h = harness(json!({ "features": ["flows"] }));
    (0..200).for_each(|i| drop(step(&mut h, i, usual(i))));
    assert_eq!(step(&mut h, 200, 1e9).alerts, []);
}

#[test]
fn after_an_alarm_it_does_as_it_was_told() {
    let with = |after: &str| alerted(json!({ "features": ["flows"], "after_alarm": after }), 30.0);
    assert_eq!(with("relearn").len(), 1, "told once");
    let (reset, hold) = (with("reset").len(), with("hold").len());
    assert!((20..50).contains(&reset), "every few windows: {reset}");
    assert!(hold > 90, "{hold}");
    // It ends with the shift.
    let mut h = harness(json!({ "features": ["flows"], "after_alarm": "hold" }));
    (0..200).for_each(|i| drop(step(&mut h, i, usual(i))));
    (200..260).for_each(|i| drop(step(&mut h, i, 140.0)));
    let late = (260..320).filter(|&i| !step(&mut h, i, usual(i)).alerts.is_empty()).count();
    assert!((1..30).contains(&late), "{late}");
}

#[test]
fn alerts_and_partial_windows_teach_nothing() {
    let mut h = harness(json!({ "features": ["flows"], "h": 3.0 }));
    (0..200).for_each(|i| drop(step(&mut h, i, usual(i))));
    let b = batch().hosts([1]).f64s("flows", [300.0]).build();
    let before = h.detector.snapshot().unwrap();
    for w in [Window { partial: true, ..window(0, 10) }, Window { revision: 1, ..window(0, 10) }] {
        assert_eq!(h.detect(&w, &b).unwrap().alerts.len(), 1, "judged");
    }
    assert_eq!(h.detector.snapshot().unwrap(), before);
    let level = |h: &Harness<Cusum>| h.detector.entities.iter().next().unwrap().1[0].level;
    let was = level(&h);
    assert_eq!(step(&mut h, 200, 300.0).alerts.len(), 1);
    assert_eq!(level(&h), was);
}

#[test]
fn a_level_that_is_held_does_not_drift() {
    let drift = |half_life: u32| {
        let mut h = harness(json!({ "features": ["flows"], "half_life_windows": half_life, "k": 1.0 }));
        (0..2000).filter(|&i| !step(&mut h, i, usual(i) + i as f64 / 60.0).alerts.is_empty()).count()
    };
    assert_eq!(drift(20), 0, "followed");
    assert!(drift(0) > 0, "held against the warm-up");
}

#[test]
fn a_restored_instance_goes_on_as_if_nothing_had_happened() {
    for after in ["reset", "relearn", "hold"] {
        for saved_after in [20, 205] {
            let config = || json!({ "features": ["flows"], "after_alarm": after });
            let x = |i: u64| usual(i) + if i >= 200 { 5.0 } else { 0.0 };
            let mut first = harness(config());
            (0..saved_after).for_each(|i| drop(step(&mut first, i, x(i))));
            let mut second = harness(config());
            second.detector.restore(Cusum::STATE_VERSION, &first.detector.snapshot().unwrap()).unwrap();
            let mut alerts = 0;
            for i in saved_after..400 {
                let (a, b) = (step(&mut first, i, x(i)), step(&mut second, i, x(i)));
                assert_eq!(format!("{a:?}"), format!("{b:?}"), "{after} {i}");
                alerts += a.alerts.len();
            }
            assert!(alerts > 0);
        }
    }
    let mut other = harness(json!({ "features": ["a", "b"] }));
    let mut first = harness(json!({ "features": ["flows"] }));
    step(&mut first, 0, 1.0);
    assert!(other.detector.restore(1, &first.detector.snapshot().unwrap()).is_err());
}

#[test]
fn entities_are_bounded_and_config_errors_say_where() {
    let mut h = harness(json!({ "features": ["flows"], "max_entities": 10 }));
    h.detect(&window(0, 10), &batch().hosts(0..100).f64s("flows", vec![1.0; 100]).build()).unwrap();
    assert_eq!(h.detector.entities.len(), 10);
    let cases = [
        (json!({ "features": [] }), "`features`: name at least one feature"),
        (json!({ "features": ["x"], "h": 0 }), "`h`: must be positive, not 0"),
        (json!({ "features": ["x"], "k": 5 }), "`k`: must be below `max_z`: no value could raise a sum"),
        (
            json!({ "features": ["x"], "after_alarm": "stop" }),
            "`after_alarm`: unknown variant `stop`, expected one of `reset`, `relearn`, `hold`",
        ),
    ];
    for (config, message) in cases {
        assert_eq!(Harness::<Cusum>::new(config).err().expect("refused").to_string(), message);
    }
}
