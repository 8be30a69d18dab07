use super::ZScore;
use kaminari_plugin_sdk::prelude::*;
use kaminari_plugin_sdk::testing::{Harness, Value, batch, json, window};

fn harness(config: Value) -> Harness<ZScore> {
    Harness::new(config).unwrap()
}

fn usual(i: u64) -> f64 {
    100.0 + (i * 7919 % 13) as f64
}

fn step(h: &mut Harness<ZScore>, i: u64, x: [f64; 2]) -> Verdict {
    h.detect(&window(i * 10, 10), &batch().hosts([1, 2]).f64s("flows", x).build()).unwrap()
}

#[test]
fn each_entity_is_held_against_its_own_level() {
    for method in ["ewma", "robust"] {
        let mut h = harness(json!({ "features": ["flows"], "method": method }));
        for i in 0..30 {
            assert!(step(&mut h, i, [usual(i), 10.0 * usual(i)]).scores[0].is_nan(), "warming up");
        }
        (30..100).for_each(|i| assert_eq!(step(&mut h, i, [usual(i), 10.0 * usual(i)]).alerts, [], "{method} {i}"));
        let v = step(&mut h, 100, [1000.0, 1000.0]);
        let [alert] = &v.alerts[..] else { panic!("only the small one: {v:?}") };
        assert_eq!((alert.row, &*alert.kind, alert.threshold, alert.score), (0, "deviation", 6.0, v.scores[0]));
        let [why] = &alert.contributions[..] else { panic!("{alert:?}") };
        assert_eq!((&*why.column, why.weight, why.observed), ("flows", 1.0, 1000.0));
        assert!((100.0..113.0).contains(&why.expected), "{why:?}");
        assert!(alert.message.contains("deviations above the 10"), "{}", alert.message);
    }
}

#[test]
fn sides_are_told_apart() {
    let alerts = |direction: &str, x: f64| {
        let mut h = harness(json!({ "features": ["flows"], "direction": direction }));
        (0..60).for_each(|i| drop(step(&mut h, i, [usual(i); 2])));
        step(&mut h, 60, [x, usual(0)]).alerts.len()
    };
    assert_eq!(["up", "down", "both"].map(|d| alerts(d, 500.0)), [1, 0, 1]);
    assert_eq!(["up", "down", "both"].map(|d| alerts(d, 0.0)), [0, 1, 1]);
}

#[test]
fn alerts_teach_only_where_that_is_asked_for_and_partial_windows_never() {
    let alerted = |learn: bool| {
        let mut h = harness(json!({ "features": ["flows"], "learn_from_alerts": learn, "half_life_windows": 10 }));
        (0..60).for_each(|i| drop(step(&mut h, i, [usual(i); 2])));
        (60..160).filter(|&i| !step(&mut h, i, [300.0, usual(i)]).alerts.is_empty()).count()
    };
    assert_eq!(alerted(false), 100);
    assert!(alerted(true) < 100);

    let mut h = harness(json!({ "features": ["flows"] }));
    (0..60).for_each(|i| drop(step(&mut h, i, [usual(i); 2])));
    let before = h.detector.snapshot().unwrap();
    let b = batch().hosts([1]).f64s("flows", [300.0]).build();
    for w in [Window { partial: true, ..window(0, 10) }, Window { revision: 1, ..window(0, 10) }] {
        assert_eq!(h.detect(&w, &b).unwrap().alerts.len(), 1);
    }
    assert_eq!(h.detector.snapshot().unwrap(), before);
}

#[test]
fn a_restored_instance_goes_on_as_if_nothing_had_happened() {
    for method in ["ewma", "robust"] {
        // Saved while warming up and after.
        for saved_after in [11, 80] {
            let config = || json!({ "features": ["flows"], "method": method, "z": 3.0 });
            let x = |i: u64| [if i.is_multiple_of(50) { 900.0 } else { usual(i) }, usual(3 * i)];
            let mut first = harness(config());
            (1..saved_after).for_each(|i| drop(step(&mut first, i, x(i))));
            let mut second = harness(config());
            second.detector.restore(ZScore::STATE_VERSION, &first.detector.snapshot().unwrap()).unwrap();
            let mut alerts = 0;
            for i in saved_after..300 {
                let (a, b) = (step(&mut first, i, x(i)), step(&mut second, i, x(i)));
                assert_eq!(format!("{a:?}"), format!("{b:?}"), "{method} {i}");
                alerts += a.alerts.len();
            }
            assert!(alerts >= 4, "{alerts}");
        }
    }
    let saved = harness(json!({ "features": ["flows"] }));
    let mut h = saved;
    step(&mut h, 0, [1.0, 1.0]);
    let bytes = h.detector.snapshot().unwrap();
    let mut other = harness(json!({ "features": ["flows"], "method": "ewma" }));
    assert!(other.detector.restore(1, &bytes).is_err());
}

#[test]
fn a_feature_without_a_value_hides_no_other_and_entities_are_bounded() {
    let mut h = harness(json!({ "features": ["a", "b"], "max_entities": 10 }));
    let rows = |a: f64, b: f64| batch().hosts([1]).f64s("a", [a]).f64s("b", [b]).build();
    (0..60).for_each(|i| drop(h.detect(&window(i, 1), &rows(usual(i), usual(i))).unwrap()));
    let v = h.detect(&window(60, 1), &rows(f64::NAN, 900.0)).unwrap();
    assert_eq!(v.alerts[0].contributions[0].column, "b");
    let many = batch().hosts(0..100).f64s("a", vec![1.0; 100]).f64s("b", vec![1.0; 100]).build();
    h.detect(&window(61, 1), &many).unwrap();
    assert_eq!(h.detector.levels.len(), 10);
}

#[test]
fn config_errors_say_where() {
    let cases = [
        (json!({ "features": [] }), "`features`: name at least one feature"),
        (json!({ "features": ["x"], "z": -1 }), "`z`: must be positive, not -1"),
        (
            json!({ "features": ["x"], "warm_up_windows": 1 }),
            "`warm_up_windows`: must be from 2 to 1000: one window has no deviation",
        ),
        (json!({ "features": ["x"], "method": "mad" }), "`method`: unknown variant `mad`, expected `ewma` or `robust`"),
    ];
    for (config, message) in cases {
        assert_eq!(Harness::<ZScore>::new(config).err().expect("refused").to_string(), message);
    }
}
