//! Whatever a plugin does, the engine goes on: the next frames are judged, the counters move, the message names the
//! plugin, its version and the cause.

use crate::plugin_files::{detector, frame, host, plan};
use kaminari::config::PluginLimits;
use kaminari::detect::Detector;
use kaminari::plugin::{CallErrorKind, PluginError};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::time::{Duration, Instant};

/// Runs with a recorder of its own and hands out its text.
pub fn metered(f: impl FnOnce(&PrometheusHandle)) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || f(&handle));
}

/// Value of the sample with exactly this name and these labels.
pub fn sample(handle: &PrometheusHandle, series: &str) -> f64 {
    let text = handle.render();
    let line = text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

const POISON: f64 = 666.0;

/// Poisoned batches are dead-lettered, the others are judged, before and after.
fn one_poisoned_frame(name: &str, reason: &str) {
    metered(|metrics| {
        let mut plan = plan(name);
        plan.limits = PluginLimits { deadline_ms: 100, memory_bytes: 16 << 20, ..PluginLimits::default() };
        let plugin = host().load(&plan).unwrap();
        let mut detector = detector(&plugin, serde_json::json!({ "poison": POISON }), &["flows"]);

        assert_eq!(detector.detect(&frame(&[("flows", &[1.0, 2.0])]), 0).scores, [0.0, 0.0]);
        let judged = detector.detect(&frame(&[("flows", &[1.0, POISON, 2.0])]), 0);
        assert!(judged.scores.is_empty() && judged.detections.is_empty(), "not judged");
        let rows = |reason: &str| {
            sample(
                metrics,
                &format!(
                    "kaminari_plugin_dead_lettered_rows_total{{plugin=\"{name}\",pipeline=\"p\",reason=\"{reason}\"}}"
                ),
            )
        };
        assert_eq!(rows(reason), 3.0);
        let calls = |outcome: &str| {
            sample(
                metrics,
                &format!("kaminari_plugin_calls_total{{plugin=\"{name}\",pipeline=\"p\",outcome=\"{outcome}\"}}"),
            )
        };
        assert_eq!(calls(reason), 2.0, "once, and once more on a fresh instance");

        // The second instance broke too: a short wait, counted, then it runs again.
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut unjudged = 0;
        while detector.detect(&frame(&[("flows", &[1.0])]), 0).scores != [0.0] {
            unjudged += 1;
            assert!(Instant::now() < deadline, "it never came back");
            std::thread::sleep(Duration::from_millis(10));
        }
        if unjudged > 0 {
            assert_eq!(rows("backoff"), f64::from(unjudged));
        }
        assert_eq!(calls("ok"), 2.0);
        let restarts = format!("kaminari_plugin_restarts_total{{plugin=\"{name}\",pipeline=\"p\"}}");
        assert_eq!(sample(metrics, &restarts), 2.0);
    });
}

#[test]
fn a_panic_ends_the_instance_only() {
    one_poisoned_frame("trap", "trap");
}

#[test]
fn an_endless_loop_ends_the_instance_only() {
    one_poisoned_frame("spin", "deadline");
}

#[test]
fn running_out_of_memory_ends_the_instance_only() {
    one_poisoned_frame("oom", "oom");
}

#[test]
fn a_batch_is_judged_by_a_fresh_instance_where_that_helps() {
    metered(|metrics| {
        let plugin = host().load(&plan("trap")).unwrap();
        let mut detector = detector(&plugin, serde_json::json!({ "calls": [2] }), &["flows"]);
        for _ in 0..2 {
            assert_eq!(detector.detect(&frame(&[("flows", &[1.0])]), 0).scores, [0.0]);
        }
        assert_eq!(sample(metrics, "kaminari_plugin_restarts_total{plugin=\"trap\",pipeline=\"p\"}"), 1.0);
        assert!(!metrics.render().contains("dead_lettered_rows_total{"), "nothing was lost");
    });
}

#[test]
fn what_keeps_breaking_is_quarantined_and_the_pipeline_goes_on() {
    metered(|metrics| {
        let plugin = host().load(&plan("trap")).unwrap();
        let mut detector = detector(&plugin, serde_json::json!({}), &["flows"]);
        let gauge = "kaminari_plugin_quarantined{plugin=\"trap\",pipeline=\"p\"}";
        assert_eq!(sample(metrics, gauge), 0.0);
        let deadline = Instant::now() + Duration::from_secs(60);
        while sample(metrics, gauge) == 0.0 {
            assert!(detector.detect(&frame(&[("flows", &[1.0])]), 0).scores.is_empty());
            assert!(Instant::now() < deadline, "never quarantined");
            std::thread::sleep(Duration::from_millis(10));
        }
        let calls = "kaminari_plugin_calls_total{plugin=\"trap\",pipeline=\"p\",outcome=\"trap\"}";
        assert_eq!(sample(metrics, calls), 10.0, "five batches, each tried twice");
        detector.detect(&frame(&[("flows", &[1.0, 2.0])]), 0);
        let rows = "kaminari_plugin_dead_lettered_rows_total{plugin=\"trap\",pipeline=\"p\",reason=\"quarantine\"}";
        assert_eq!((sample(metrics, rows), sample(metrics, calls)), (2.0, 10.0), "counted, not called");
    });
}

/// The cause of one failed call.
fn cause(name: &str, config: serde_json::Value) -> (CallErrorKind, String) {
    let mut plan = plan(name);
    plan.limits = PluginLimits { deadline_ms: 100, memory_bytes: 16 << 20, ..PluginLimits::default() };
    let plugin = host().load(&plan).unwrap();
    let mut instance = plugin.instantiate("p", &config.to_string()).unwrap();
    let frame = frame(&[("flows", &[1.0])]);
    let error = instance.detect(&frame.window, frame.batch).unwrap_err();
    (error.kind.clone(), error.to_string())
}

#[test]
fn the_message_names_plugin_version_and_cause() {
    let (kind, text) = cause("trap", serde_json::json!({}));
    assert!(matches!(kind, CallErrorKind::Trap { .. }), "{kind:?}");
    assert!(text.starts_with("plugin trap@0.1.0: `detect` trapped: "), "{text}");
    assert!(text.contains("as the fixture was told, on call 1"), "the panic's own words: {text}");

    let (kind, text) = cause("spin", serde_json::json!({}));
    assert_eq!(kind, CallErrorKind::Deadline { ms: 100 });
    assert_eq!(text, "plugin spin@0.1.0: `detect` missed its deadline of 100 ms (`limits.deadline_ms`)");

    let (kind, text) = cause("oom", serde_json::json!({}));
    let CallErrorKind::OutOfMemory { bytes, cap } = kind else { panic!("not told from a panic: {kind:?}") };
    assert!(bytes > cap && cap == 16 << 20, "{bytes} {cap}");
    assert!(text.starts_with("plugin oom@0.1.0: `detect` ran out of memory"), "{text}");
}

#[test]
fn a_sleeping_plugin_does_not_hold_its_thread() {
    let began = Instant::now();
    let (kind, text) = cause("spin", serde_json::json!({ "sleep": true }));
    assert!(matches!(kind, CallErrorKind::Trap { .. }), "{kind:?}");
    assert!(text.contains("must not sleep"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(60), "it asked for an hour");
}

#[test]
fn a_bad_config_is_refused_with_its_path() {
    let plugin = host().load(&plan("threshold")).unwrap();
    let config = r#"{ "adaptive": [{ "name": "a", "feature": "x", "sigma": -1 }] }"#;
    let error = plugin.instantiate("p", config).err().expect("refused");
    assert_eq!(
        error.to_string(),
        "plugin threshold@0.1.0: `configure` answered: bad config at `adaptive[0].sigma`: must be positive, not -1"
    );
    assert!(matches!(error, PluginError::Call(_)));
}
