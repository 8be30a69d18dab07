use super::HalfSpaceTrees;
use kaminari_plugin_sdk::prelude::*;
use kaminari_plugin_sdk::testing::{Harness, Value, batch, json, window};

fn harness(config: Value) -> Harness<HalfSpaceTrees> {
    Harness::new(config).unwrap()
}

/// Two features that go together: each is usual alone, both the wrong way round are not.
fn usual(i: u64) -> [f64; 2] {
    let x = (i * 7919 % 1000) as f64;
    [x, 2.0 * x + (i * 104_729 % 97) as f64]
}

fn row([a, b]: [f64; 2]) -> Batch {
    batch().hosts([1]).f64s("a", [a]).f64s("b", [b]).build()
}

fn step(h: &mut Harness<HalfSpaceTrees>, i: u64, x: [f64; 2]) -> Verdict {
    h.detect(&window(i * 10, 10), &row(x)).unwrap()
}

fn config() -> Value {
    json!({ "features": ["a", "b"] })
}

#[test]
fn what_is_odd_only_together_is_found_and_explained() {
    let mut h = harness(config());
    let mut most = 0.0f64;
    for i in 0..1000 {
        let v = step(&mut h, i, usual(i));
        assert_eq!(v.scores[0].is_nan(), i < 250, "{i}: the first turn is not judged");
        assert_eq!(v.alerts, [], "{i}");
        most = most.max(v.scores[0]);
    }
    let together = step(&mut h, 1000, [950.0, 100.0]).scores[0];
    assert!(together > most, "{together} {most}");
    let v = step(&mut h, 1001, [500.0, 50_000.0]);
    let [alert] = &v.alerts[..] else { panic!("{v:?}, most {most}") };
    assert_eq!((&*alert.kind, alert.threshold, alert.score), ("sparse-region", 6.0, v.scores[0]));
    let why = &alert.contributions[0];
    assert_eq!((&*why.column, why.observed), ("b", 50_000.0), "{alert:?}");
    assert!((800.0..1300.0).contains(&why.expected), "{why:?}");
    assert!(alert.message.contains("times fewer than usual: b is 50.0 k"), "{}", alert.message);
}

#[test]
fn the_seed_decides() {
    let scores = |seed: u64| {
        let mut h = harness(json!({ "features": ["a", "b"], "seed": seed }));
        (0..600).map(|i| step(&mut h, i, usual(i)).scores[0]).filter(|s| !s.is_nan()).collect::<Vec<_>>()
    };
    assert_eq!(scores(1), scores(1));
    assert_ne!(scores(1), scores(2));
}

#[test]
fn alerts_and_partial_windows_teach_nothing() {
    let mut h = harness(config());
    (0..600).for_each(|i| drop(step(&mut h, i, usual(i))));
    let before = h.detector.snapshot().unwrap();
    let odd = row([500.0, 50_000.0]);
    for w in [window(0, 10), Window { partial: true, ..window(0, 10) }, Window { revision: 1, ..window(0, 10) }] {
        assert_eq!(h.detect(&w, &odd).unwrap().alerts.len(), 1);
    }
    let early = Window { partial: true, ..window(0, 10) };
    assert!(!h.detect(&early, &row(usual(3))).unwrap().scores[0].is_nan());
    assert_eq!(h.detector.snapshot().unwrap(), before);

    let mut h = harness(json!({ "features": ["a", "b"], "learn_from_alerts": true }));
    (0..500).for_each(|i| drop(step(&mut h, i, usual(i))));
    let alerts =
        |h: &mut Harness<_>, n| (n..n + 250).filter(|&i| !step(h, i, [500.0, 50_000.0]).alerts.is_empty()).count();
    assert_eq!((alerts(&mut h, 500), alerts(&mut h, 750)), (250, 0), "usual after a turn");
}

#[test]
fn ranges_may_be_given() {
    let mut h = harness(json!({ "features": ["a", "b"], "ranges": { "b": [0.0, 2500.0] } }));
    // A first turn that never moves: learned ranges would be empty.
    (0..250).for_each(|i| drop(step(&mut h, i, [usual(i)[0], 1000.0])));
    let near = step(&mut h, 250, [500.0, 1001.0]).scores[0];
    let far = step(&mut h, 251, [500.0, 2400.0]).scores[0];
    assert!(near < 2.0 && far > 4.0, "{near} {far}");
}

#[test]
fn a_scope_of_all_compares_entities() {
    let mut h = harness(json!({ "features": ["a", "b"], "scope": "all" }));
    let rows = |odd: f64| {
        let (a, b): (Vec<f64>, Vec<f64>) =
            (0..300).map(usual).map(|[a, b]| (a, if a == 0.0 { odd } else { b })).unzip();
        batch().hosts(0..300).f64s("a", a).f64s("b", b).build()
    };
    h.detect(&window(0, 10), &rows(0.0)).unwrap();
    let v = h.detect(&window(10, 10), &rows(50_000.0)).unwrap();
    assert_eq!(v.alerts.iter().map(|a| a.row).collect::<Vec<_>>(), [0], "the one that is unlike all others");
    assert_eq!(h.detector.forests.len(), 1);
}

#[test]
fn a_restored_instance_goes_on_as_if_nothing_had_happened() {
    for saved_after in [100, 700] {
        let mut first = harness(config());
        (0..saved_after).for_each(|i| drop(step(&mut first, i, usual(i))));
        let mut second = harness(config());
        second.detector.restore(HalfSpaceTrees::STATE_VERSION, &first.detector.snapshot().unwrap()).unwrap();
        let mut alerts = 0;
        for i in saved_after..1500 {
            let x = if i % 100 == 99 { [500.0, 50_000.0] } else { usual(i) };
            let (a, b) = (step(&mut first, i, x), step(&mut second, i, x));
            assert_eq!(format!("{a:?}"), format!("{b:?}"), "{i}");
            alerts += a.alerts.len();
        }
        assert!(alerts > 5, "{alerts}");
        let mut other = harness(json!({ "features": ["a", "b"], "depth": 5, "turn_rows": 50 }));
        assert!(other.detector.restore(1, &first.detector.snapshot().unwrap()).is_err());
    }
}

#[test]
fn no_value_is_no_opinion_and_entities_are_bounded() {
    let mut h = harness(json!({ "features": ["a", "b"], "max_entities": 10 }));
    assert!(step(&mut h, 0, [1.0, f64::NAN]).scores[0].is_nan());
    let many = batch().hosts(0..100).f64s("a", vec![1.0; 100]).f64s("b", vec![1.0; 100]).build();
    h.detect(&window(10, 10), &many).unwrap();
    assert_eq!(h.detector.forests.len(), 10);
}

#[test]
fn config_errors_say_where() {
    let cases = [
        (json!({ "features": [] }), "`features`: name from 1 to 64 features"),
        (json!({ "features": ["x"], "depth": 30 }), "`depth`: must be from 1 to 12"),
        (json!({ "features": ["x"], "turn_rows": 1 }), "`turn_rows`: must be from 20 to 60000"),
        (json!({ "features": ["x"], "ranges": { "y": [0, 1] } }), "`ranges.y`: is none of `features`"),
        (json!({ "features": ["x"], "ranges": { "x": [1, 1] } }), "`ranges.x`: must be [least, most]"),
    ];
    for (config, message) in cases {
        assert_eq!(Harness::<HalfSpaceTrees>::new(config).err().expect("refused").to_string(), message);
    }
}
