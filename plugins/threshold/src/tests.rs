use super::Threshold;
use kaminari_plugin_sdk::prelude::*;
use kaminari_plugin_sdk::testing::{Harness, batch, host, json, window};

fn harness(config: impl AsRef<str>) -> Harness<Threshold> {
    Harness::new(config.as_ref().parse().unwrap()).unwrap()
}

const AMPLIFICATION: &str = r#"{ "limits": [{
    "name": "udp-amplification", "feature": "packets_per_s", "above": 20000.0, "severity": "high",
    "when": [{ "feature": "amp_port_share", "above": 0.5 }]
}] }"#;

#[test]
fn a_limit_with_a_condition_alerts_and_explains_itself() {
    let mut h = harness(AMPLIFICATION);
    let b = batch()
        .hosts(0..4)
        .f64s("packets_per_s", [50_000.0, 50_000.0, 10_000.0, f64::NAN])
        .f64s("amp_port_share", [0.9, 0.1, 0.9, 0.9])
        .build();
    let v = h.detect(&window(0, 10), &b).unwrap();
    assert_eq!(v.scores, [2.5, 0.0, 0.5, 0.0]);
    let [alert] = &v.alerts[..] else { panic!("{:?}", v.alerts) };
    assert_eq!((alert.row, &*alert.kind, alert.severity), (0, "udp-amplification", Severity::High));
    assert_eq!((alert.score, alert.threshold), (2.5, 1.0));
    assert_eq!(alert.message, "packets_per_s is 50.0 k, 2.5 times the limit of 20.0 k, with amp_port_share at 0.90");
    let told: Vec<_> =
        alert.contributions.iter().map(|c| (&*c.column, c.observed, c.expected, (c.weight * 100.0).round())).collect();
    assert_eq!(told, [("packets_per_s", 50_000.0, 20_000.0, 58.0), ("amp_port_share", 0.9, 0.5, 42.0)]);
}

#[test]
fn the_most_severe_broken_rule_names_the_alert() {
    let mut h = harness(
        r#"{ "limits": [
            { "name": "a", "feature": "x", "above": 1.0, "severity": "low" },
            { "name": "b", "feature": "y", "above": 1.0, "severity": "critical" },
            { "name": "c", "feature": "x", "above": 2.0, "severity": "critical" }
        ] }"#,
    );
    let b = batch().hosts([1, 2]).f64s("x", [4.0, 1.5]).f64s("y", [2.0, 0.0]).build();
    let v = h.detect(&window(0, 10), &b).unwrap();
    assert_eq!(v.alerts.iter().map(|a| (a.row, &*a.kind)).collect::<Vec<_>>(), [(0, "b"), (1, "a")]);
    assert_eq!(v.alerts[0].attributes, [("also".to_owned(), "c, a".to_owned())]);
    assert_eq!(v.scores, [4.0, 1.5]);
}

#[test]
fn a_feature_without_a_value_hides_no_other_rule() {
    let mut h = harness(
        r#"{ "limits": [
            { "name": "a", "feature": "x", "above": 1.0 }, { "name": "b", "feature": "y", "above": 1.0 }
        ] }"#,
    );
    let b = batch().hosts([1, 2]).f64s("x", [4.0, f64::NAN]).f64s("y", [f64::NAN, f64::NAN]).build();
    let v = h.detect(&window(0, 10), &b).unwrap();
    assert_eq!((&v.scores[..], v.alerts.len()), (&[4.0, 0.0][..], 1));
}

#[test]
fn an_alerted_entity_stays_alerted_until_clearly_below() {
    let mut h = harness(r#"{ "limits": [{ "name": "a", "feature": "x", "above": 100.0 }], "hysteresis": 0.8 }"#);
    let mut alerts = |start, x: f64| {
        let b = batch().hosts([1, 2]).f64s("x", [x, 90.0]).build();
        let v = h.detect(&window(start, 10), &b).unwrap();
        v.alerts.iter().map(|a| (a.row, a.score)).collect::<Vec<_>>()
    };
    assert_eq!(alerts(0, 90.0), []);
    assert_eq!(alerts(10, 120.0), [(0, 1.2)]);
    assert_eq!(alerts(20, 90.0), [(0, 1.0)], "only the one that was alerted");
    assert_eq!(alerts(30, 79.0), []);
    assert_eq!(alerts(40, 90.0), [], "it was over");
    assert_eq!(alerts(50, 120.0), [(0, 1.2)]);
    assert_eq!(alerts(100, 90.0), [], "a window long after");
}

const SURGE: &str = r#"{ "adaptive": [{
    "name": "traffic-surge", "feature": "flows_per_s", "sigma": 6.0, "half_life_windows": 60,
    "warm_up_windows": 30, "min": 500.0, "severity": "medium"
}] }"#;

/// Judges one window of two hosts.
fn step(h: &mut Harness<Threshold>, i: u64, x: [f64; 2]) -> Verdict {
    h.detect(&window(i * 10, 10), &batch().hosts([1, 2]).f64s("flows_per_s", x).build()).unwrap()
}

#[test]
fn an_adaptive_limit_follows_each_entity() {
    let mut h = harness(SURGE);
    for i in 0..30 {
        let wave = if i % 2 == 0 { 1.1 } else { 0.9 };
        let v = step(&mut h, i, [1000.0 * wave, 10.0 * wave]);
        assert!(v.scores.iter().all(|s| s.is_nan()), "no opinion while warming up");
    }
    let v = step(&mut h, 30, [3000.0, 30.0]);
    let [alert] = &v.alerts[..] else { panic!("only the host above `min`: {v:?}") };
    assert_eq!((alert.row, &*alert.kind), (0, "traffic-surge"));
    assert!(alert.score > 3.0 && alert.score < 3.5, "20 deviations of 6 allowed: {}", alert.score);
    assert!((alert.contributions[0].expected - 1000.0).abs() < 1.0);
    assert_eq!(alert.message, "flows_per_s is 3.00 k where 1.00 k is usual for this entity (limit 1.60 k)");
    assert_eq!(v.scores[1], 0.0);
}

#[test]
fn an_attack_does_not_become_normal_and_partial_windows_teach_nothing() {
    let mut h = harness(SURGE);
    for i in 0..60 {
        step(&mut h, i, [1000.0 + (i % 3) as f64 * 50.0, 600.0]);
    }
    let alerted = (60..72).filter(|&i| step(&mut h, i, [50_000.0, 600.0]).alerts.iter().any(|a| a.row == 0)).count();
    assert_eq!(alerted, 12, "two minutes of flood");

    let mut h = harness(SURGE);
    let early = Window { partial: true, ..window(0, 10) };
    let again = Window { revision: 1, ..window(0, 10) };
    let b = batch().hosts([1]).f64s("flows_per_s", [1000.0]).build();
    for w in [early, again].iter().cycle().take(100) {
        assert!(h.detect(w, &b).unwrap().scores[0].is_nan(), "still warming up");
    }
}

#[test]
fn entities_are_bounded() {
    let mut h = harness(SURGE.replacen('{', r#"{ "max_entities": 100, "#, 1));
    let b = batch().hosts(0..1000).f64s("flows_per_s", vec![1.0; 1000]).build();
    h.detect(&window(0, 10), &b).unwrap();
    assert_eq!((h.detector.levels.len(), h.detector.levels.evicted()), (100, 900));
}

#[test]
fn config_errors_say_where() {
    let cases = [
        (json!({}), "no rules: give `limits` or `adaptive`"),
        (
            json!({ "limits": [{ "name": "a", "feature": "x", "above": -1.0 }] }),
            "`limits[0].above`: must be positive, not -1",
        ),
        (
            json!({ "adaptive": [{ "name": "a", "feature": "x", "sigma": -6.0 }] }),
            "`adaptive[0].sigma`: must be positive, not -6",
        ),
        (
            json!({ "limits": [{ "name": "a", "feature": "x", "above": 1.0, "when": [{ "feature": "y" }] }] }),
            "`limits[0].when[0]`: needs `above` or `below`",
        ),
        (
            json!({ "limits": [{ "name": "a", "feature": "x", "abov": 1.0 }] }),
            "`limits[0].abov`: unknown field `abov`, expected one of `name`, `feature`, `above`, `when`, `severity`",
        ),
        (
            json!({ "limits": [{ "name": "a", "feature": "x", "above": 1.0 }], "hysteresis": 2.0 }),
            "`hysteresis`: must be above 0 and at most 1",
        ),
    ];
    for (config, message) in cases {
        let err = Harness::<Threshold>::new(config).err().expect("refused");
        assert_eq!(err.to_string(), message);
    }
}

#[test]
fn unknown_features_are_named_before_the_first_window() {
    let h = harness(AMPLIFICATION);
    let b = batch().hosts([1]).f64s("packets_per_s", [1.0]).f64s("flows", [1.0]).build();
    assert_eq!(
        h.requires(b.schema()).unwrap_err().to_string(),
        "`limits[0].when[0].feature`: the pipeline has no feature `amp_port_share`; it has packets_per_s, flows"
    );
}

#[test]
fn keys_tell_entities_apart_not_rows() {
    let mut h = harness(r#"{ "limits": [{ "name": "a", "feature": "x", "above": 100.0 }] }"#);
    let rows = |hosts: [u32; 2], x: [f64; 2]| batch().hosts(hosts).f64s("x", x).build();
    h.detect(&window(0, 10), &rows([1, 2], [120.0, 0.0])).unwrap();
    let v = h.detect(&window(10, 10), &rows([2, 1], [90.0, 90.0])).unwrap();
    assert_eq!(v.alerts.iter().map(|a| a.row).collect::<Vec<_>>(), [1], "host 1 moved to row 1");
    assert_ne!(host(1), host(2));
}

#[test]
fn what_was_learned_goes_on_under_other_limits() {
    let config = |sigma: f64, more: &str| {
        format!(
            r#"{{ "limits": [{{ "name": "flood", "feature": "x", "above": {} }}], "adaptive": [{more}
                {{ "name": "surge", "feature": "x", "sigma": {sigma}, "warm_up_windows": 5 }}] }}"#,
            1e6 * sigma
        )
    };
    let row = |x: f64| batch().hosts(0..1).f64s("x", [x]).build();
    let mut before = harness(config(5.0, ""));
    for n in 0..20 {
        before.detect(&window(n, 1), &row(100.0 + (n % 3) as f64)).unwrap();
    }
    let saved = before.detector.snapshot().unwrap();
    // Other limits and one rule more, before it: the level is the same, the new rule has none yet.
    let more = r#"{ "name": "other", "feature": "x", "warm_up_windows": 1000 },"#;
    let mut after = harness(config(4.0, more));
    after.detector.restore(Threshold::STATE_VERSION, &saved).unwrap();
    let verdict = after.detect(&window(20, 1), &row(5000.0)).unwrap();
    assert_eq!(verdict.alerts.len(), 1, "it is warm");
    assert_eq!(verdict.alerts[0].kind, "surge");
    // Who knows nothing is not.
    let mut anew = harness(config(4.0, more));
    assert!(anew.detect(&window(20, 1), &row(5000.0)).unwrap().alerts.is_empty());
    // The alert holds on to its rule, wherever that stands now.
    let held = after.detector.snapshot().unwrap();
    let mut back = harness(config(5.0, ""));
    back.detector.restore(Threshold::STATE_VERSION, &held).unwrap();
    assert_eq!(back.detector.snapshot().unwrap().len(), before.detector.snapshot().unwrap().len() + held_by_one());
    assert!(back.detector.restore(1, b"nothing").is_err());
}

/// Bytes that one alerted entity takes.
fn held_by_one() -> usize {
    let mut h = harness(r#"{ "limits": [{ "name": "flood", "feature": "x", "above": 1.0 }] }"#);
    let b = batch().hosts(0..1).f64s("x", [0.5]).build();
    h.detect(&window(20, 1), &b).unwrap();
    let none = h.detector.snapshot().unwrap().len();
    let b = batch().hosts(0..1).f64s("x", [5.0]).build();
    h.detect(&window(20, 1), &b).unwrap();
    h.detector.snapshot().unwrap().len() - none
}
