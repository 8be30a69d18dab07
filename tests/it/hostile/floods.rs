//! Much of what a little of is allowed: alerts, reasons, log lines, series, state.

use super::*;
use crate::plugin_faults::{metered, sample};
use kaminari::decode::PluginDecoder;
use kaminari::plugin::Health;

fn detecting(what: &str) -> Used {
    Used::new(&granted("hostile"), Role::Detector, &does(what, "detect")).unwrap()
}

#[test]
fn alerts_beyond_the_limit_are_cut_and_counted() {
    metered(|metrics| {
        let mut used = detecting("many-alerts");
        assert_eq!(used.judges().alerts.len(), 1000);
        assert_eq!(counted(metrics, "hostile", "alerts_refused_total", ",reason=\"limit\""), 19_000.0);
        // A million do not fit what a call may bring.
        let mut used = detecting("million-alerts");
        let (reason, text) = used.fails();
        assert!(["trap", "oom", "deadline"].contains(&reason), "{reason}: {text}");
    });
}

#[test]
fn long_texts_of_alerts_are_cut() {
    let verdict = detecting("long-alerts").judges();
    let [alert] = &verdict.alerts[..] else { panic!("{}", verdict.alerts.len()) };
    assert!(alert.kind.len() <= 64 && alert.message.len() <= 1024, "{} {}", alert.kind.len(), alert.message.len());
    assert!(!alert.message.contains(char::is_control), "nothing that a terminal would act on");
    assert_eq!((alert.contributions.len(), alert.attributes.len()), (32, 32));
    assert!(alert.contributions.iter().all(|c| c.column.len() <= 256));
    assert!(alert.attributes.iter().all(|(_, v)| v.len() <= 1024));
}

#[test]
fn reasons_are_few() {
    metered(|metrics| {
        let config = does("reasons", "decode").as_object().unwrap().clone();
        let mut decoder = PluginDecoder::new(host().load(&tight("hostile")).unwrap(), &"s".into(), &config).unwrap();
        let mut input = FrameBatch::default();
        (0..1000).for_each(|_| input.push(b"x", NO_PEER, 1));
        let (mut out, mut refused) = (Vec::new(), Vec::new());
        decoder.decode(&input, &input.frames, "test", &mut out, &mut refused);
        assert_eq!(refused.len(), 1000);
        let text = metrics.render();
        let series = text.lines().filter(|l| l.starts_with("kaminari_decode_errors_total{")).count();
        assert_eq!(series, 65);
        assert_eq!(sample(metrics, "kaminari_decode_errors_total{component_id=\"s\",reason=\"other\"}"), 936.0);
    });
}

#[test]
fn log_lines_are_withheld_and_counted() {
    metered(|metrics| {
        for (role, call) in WORK {
            Used::new(&granted("hostile"), role, &does("logs", call)).unwrap().call().unwrap();
        }
        let withheld = sample(metrics, "kaminari_plugin_logs_suppressed_total{plugin=\"hostile\"}");
        assert!(withheld > 3.0 * 9_000.0, "{withheld}");
        detecting("long-log").judges();
        detecting("print").judges();
    });
}

#[test]
fn series_are_as_many_as_granted() {
    metered(|metrics| {
        let mut used = detecting("series");
        let (reason, text) = used.fails();
        assert_eq!(reason, "error");
        assert!(text.contains("over quota") && text.contains("the 10 of `plugins.hostile.metrics_series`"), "{text}");
        assert_eq!(sample(metrics, "kaminari_plugin_series_refused_total{plugin=\"hostile\"}"), 9_990.0);
        let text = metrics.render();
        assert_eq!(text.lines().filter(|l| l.starts_with("kaminari_plugin_custom_flood{")).count(), 10);

        let (_, text) = detecting("long-metric").fails();
        assert!(text.contains("is no name") && text.len() < 300, "{text}");
        let (_, text) = detecting("odd-metrics").fails();
        assert!(text.contains("NaN is no value of a distribution"), "{text}");
        metrics.render();
    });
}

#[test]
fn state_is_as_much_as_granted() {
    metered(|_| {
        let mut used = detecting("state");
        let (reason, text) = used.fails();
        assert_eq!(reason, "error");
        assert!(text.contains("4194304 are allowed (`plugins.hostile.limits.state_bytes`)"), "{text}");
        assert_eq!(
            used.guarded.save().map_or(0, |saved| saved.len()) / 4096,
            0,
            "the call failed: nothing of it stays"
        );

        // The same key again and again: the host remembers what was there before, once.
        let mut used = detecting("state-churn");
        assert_eq!(used.fails().0, "deadline");
        assert!(matches!(used.status().health().0, Health::Backoff(_) | Health::Running));
        let (reason, text) = detecting("state-get").fails();
        assert_eq!(reason, "error");
        assert!(text.contains("the values asked for are more than"), "{text}");
    });
}

#[test]
fn odd_features_are_refused_by_entity_or_judged_as_they_are() {
    for (what, rows) in [("duplicates", 2000), ("no-entity", 4), ("odd-features", 8)] {
        let mut used = Used::new(&tight("hostile"), Role::FeatureExtractor, &does(what, "extract")).unwrap();
        let Ok(Answer::Features(features)) = used.call() else { panic!("{what}") };
        assert_eq!(features.num_rows(), rows, "{what}: what the pipeline makes of them is told in `pipeline`");
    }
}
