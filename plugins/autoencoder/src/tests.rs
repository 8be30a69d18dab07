use super::Autoencoder;
use kaminari_plugin_sdk::prelude::*;
use kaminari_plugin_sdk::testing::{FakeModel, Harness, batch, json, model, window};

/// A million rows a day, so that one false alarm a day is a limit of 6.
fn harness(config: kaminari_plugin_sdk::testing::Value) -> Harness<Autoencoder> {
    model("ddos", FakeModel::new([("uniq_src", 14.0, 100.0), ("syn_share", 0.02, 0.2), ("bytes", 1000.0, 1000.0)]));
    Harness::new(config).unwrap()
}

#[test]
fn a_rare_row_alerts_and_names_what_made_it_rare() {
    let mut h = harness(json!({ "model": "ddos" }));
    let b = batch()
        .hosts(0..3)
        .f64s("uniq_src", [14.0, 812.0, f64::NAN])
        .f64s("syn_share", [0.02, 0.98, 0.98])
        .f64s("bytes", [2000.0, 1000.0, 1000.0])
        .build();
    let v = h.detect(&window(0, 10), &b).unwrap();
    assert!((v.scores[0] - 1.0 / 3.0).abs() < 1e-9 && v.scores[1] > 28.0 && v.scores[2].is_nan(), "{:?}", v.scores);
    let [alert] = &v.alerts[..] else { panic!("{:?}", v.alerts) };
    assert_eq!((alert.row, &*alert.kind, alert.severity), (1, "anomaly", Severity::Critical));
    assert_eq!((alert.score, alert.threshold), (v.scores[1], 6.0));
    assert_eq!(
        alert.message,
        "unlike benign traffic (rarer than 1 in 10^15): uniq_src is 812 where 14.0 is expected, \
         syn_share is 0.98 where 0.02 is expected"
    );
    let told: Vec<_> = alert.contributions.iter().map(|c| (&*c.column, c.observed, c.expected)).collect();
    assert_eq!(told, [("uniq_src", 812.0, 14.0), ("syn_share", 0.98, 0.02)], "and nothing of what is as expected");
    let (sources, syn) = ((7.98f64 * 7.98).ln_1p(), (4.8f64 * 4.8).ln_1p());
    assert!((alert.contributions[0].weight - sources / (sources + syn)).abs() < 1e-9);
}

#[test]
fn a_window_without_rows_has_no_scores_and_no_alerts() {
    let mut h = harness(json!({ "model": "ddos" }));
    let empty: [f64; 0] = [];
    let b = batch().hosts(0..0).f64s("uniq_src", empty).f64s("syn_share", empty).f64s("bytes", empty).build();
    let v = h.detect(&window(0, 10), &b).unwrap();
    assert!(v.scores.is_empty() && v.alerts.is_empty());
}

#[test]
fn a_rarity_that_somebody_may_have_seen_is_told_as_it_is() {
    let mut h = harness(json!({ "model": "ddos" }));
    let b = batch().hosts([1]).f64s("uniq_src", [14.0]).f64s("syn_share", [0.02]).f64s("bytes", [7000.0]).build();
    let v = h.detect(&window(0, 10), &b).unwrap();
    assert!(v.alerts[0].message.starts_with("unlike benign traffic (1 in 10^12.0): bytes is 7.00 k"), "{:?}", v.alerts);
}

#[test]
fn the_limit_is_that_of_the_false_alarms_a_day() {
    let b = batch().hosts([1]).f64s("uniq_src", [14.0]).f64s("syn_share", [0.02]).f64s("bytes", [5000.0]).build();
    for (alarms, alerts) in [(1.0, 0), (4.0, 0), (5.0, 1), (1e9, 1)] {
        let mut h = harness(json!({ "model": "ddos", "false_alarms_per_day": alarms }));
        let v = h.detect(&window(0, 10), &b).unwrap();
        assert_eq!((v.scores[0], v.alerts.len()), (16.0 / 3.0, alerts), "{alarms} a day");
    }
}

#[test]
fn severity_is_how_far_above_the_limit() {
    let mut h = harness(json!({ "model": "ddos" }));
    let mut severity = |tail: f64| {
        let bytes = 1000.0 + 1000.0 * (3.0 * tail).sqrt();
        let b = batch().hosts([1]).f64s("uniq_src", [14.0]).f64s("syn_share", [0.02]).f64s("bytes", [bytes]).build();
        h.detect(&window(0, 10), &b).unwrap().alerts.first().map(|a| a.severity)
    };
    use Severity::{Critical, High, Medium};
    let found = [5.9, 6.1, 7.9, 8.1, 9.9, 10.1].map(&mut severity);
    assert_eq!(found, [None, Some(Medium), Some(Medium), Some(High), Some(High), Some(Critical)]);
}

#[test]
fn small_rows_have_scores_and_no_alerts() {
    let mut h = harness(json!({ "model": "ddos", "min_volume": { "flows": 5.0, "packets": 20.0 } }));
    let b = batch()
        .hosts(0..4)
        .f64s("uniq_src", [812.0; 4])
        .f64s("syn_share", [0.98; 4])
        .f64s("bytes", [1000.0; 4])
        .f64s("flows", [5.0, 4.0, 100.0, f64::NAN])
        .f64s("packets", [20.0, 100.0, 19.0, 100.0])
        .build();
    let v = h.detect(&window(0, 10), &b).unwrap();
    assert!(v.scores.iter().all(|s| *s > 6.0));
    assert_eq!(v.alerts.iter().map(|a| a.row).collect::<Vec<_>>(), [0]);
}

#[test]
fn the_rarest_rows_come_first() {
    let mut h = harness(json!({ "model": "ddos" }));
    let rows = 2500;
    let odd: Vec<f64> = (0..rows).map(|i| 1000.0 + 1000.0 * f64::from(100 + (i * 7919) % rows)).collect();
    let n = odd.len();
    let b = batch().hosts(0..rows as u32).f64s("uniq_src", vec![14.0; n]).f64s("syn_share", vec![0.02; n]);
    let v = h.detect(&window(0, 10), &b.f64s("bytes", odd).build()).unwrap();
    assert_eq!(v.alerts.len(), n, "the host cuts and counts");
    assert!(v.alerts.is_sorted_by(|a, b| a.score >= b.score));
    assert!(v.alerts.iter().all(|a| a.score == v.scores[a.row as usize] && a.contributions.len() == 1));
}

#[test]
fn at_most_eight_reasons_are_told() {
    let names: Vec<String> = (0..12).map(|i| format!("f{i}")).collect();
    model("wide", FakeModel::new(names.iter().map(|n| (n.as_str(), 0.0, 1.0))));
    let mut h = Harness::<Autoencoder>::new(json!({ "model": "wide" })).unwrap();
    let b = names.iter().enumerate().fold(batch().hosts([1]), |b, (i, name)| b.f64s(name, [1.0 + i as f64]));
    let v = h.detect(&window(0, 10), &b.build()).unwrap();
    let told: Vec<_> = v.alerts[0].contributions.iter().map(|c| &*c.column).collect();
    assert_eq!(told, ["f11", "f10", "f9", "f8", "f7", "f6", "f5", "f4"]);
}

#[test]
fn a_swapped_model_judges_from_the_next_window_on() {
    let mut h = harness(json!({ "model": "ddos" }));
    let b = batch().hosts([1]).f64s("uniq_src", [812.0]).f64s("syn_share", [0.02]).f64s("bytes", [1000.0]).build();
    assert_eq!(h.detect(&window(0, 10), &b).unwrap().alerts.len(), 1);
    model("ddos", FakeModel::new([("uniq_src", 800.0, 100.0)]));
    assert_eq!(h.detect(&window(10, 10), &b).unwrap().alerts, []);
    model("ddos", FakeModel::new([("uniq_dst", 800.0, 100.0)]));
    let error = h.detect(&window(20, 10), &b).unwrap_err();
    assert!(matches!(&error, Error::Schema(m) if m.contains("uniq_dst")), "{error}");
}

#[test]
fn missing_features_are_named_before_the_first_window() {
    let h = harness(json!({ "model": "ddos", "min_volume": { "flows": 5.0 } }));
    let some = batch().hosts([1]).f64s("uniq_src", [1.0]).build();
    assert_eq!(
        h.requires(some.schema()).unwrap_err().to_string(),
        "`model`: model `ddos` takes features that the pipeline does not have: `syn_share`, `bytes`"
    );
    let all = batch().hosts([1]).f64s("uniq_src", [1.0]).f64s("syn_share", [1.0]).f64s("bytes", [1.0]);
    let error = h.requires(all.build().schema()).unwrap_err().to_string();
    assert!(error.starts_with("`min_volume.flows`: the pipeline has no feature `flows`"), "{error}");
}

#[test]
fn config_errors_say_where() {
    model("ddos", FakeModel::new([("x", 0.0, 1.0)]));
    model("raw", FakeModel::new([("x", 0.0, 1.0)]).uncalibrated());
    let cases = [
        (json!({}), "missing field `model`"),
        (json!({ "model": "none" }), "`model`: not found: there is no model `none`: see `testing::model`"),
        (json!({ "model": "raw" }), "`model`: the model has no calibration"),
        (json!({ "model": "ddos", "false_alarms_per_day": 0.0 }), "`false_alarms_per_day`: must be above 0, not 0"),
        (
            json!({ "model": "ddos", "severity": { "high": 3.0, "critical": 2.0 } }),
            "`severity`: `high` must not be negative (3), nor `critical` below it (2)",
        ),
        (
            json!({ "model": "ddos", "min_volume": { "flows": "many" } }),
            "`min_volume.flows`: invalid type: string \"many\", expected f64",
        ),
    ];
    for (config, message) in cases {
        let error = Harness::<Autoencoder>::new(config).err().expect("refused");
        assert_eq!(error.to_string(), message);
    }
}
