//! Through the program: two pipelines in one process, one of which has a hostile plugin. The other one says what it says alone.

use crate::summary::Summary;
use kaminari_tests::{kaminari, plugin, root};
use std::path::Path;

/// Bytes that the process may have had at most, with its two pipelines and whatever the plugin tried. Alone it takes some 100 MB.
const MOST: u64 = 1 << 30;

/// A run to the end of its files; what the good pipeline told, what was counted, what was logged.
fn run(dir: &Path, hostile: Option<(&str, &str)>) -> (String, Summary, String) {
    let flows = root().join("tests/scenarios/one-flooded-host/input.jsonl");
    let lines = dir.join("lines");
    let text: String = (0..600).map(|i| format!("{} name-{} {i}\n", 1_767_225_600 + i / 10, i % 7)).collect();
    std::fs::write(&lines, text).unwrap();
    let config = |of: &[&str]| match hostile {
        Some((what, call)) if of.contains(&call) => {
            format!("{{ misbehave = \"{what}\", in = \"{call}\", above = 1.0 }}")
        }
        _ => "{ above = 1.0 }".to_owned(),
    };
    let (decode, extract, detect) = (config(&["decode"]), config(&["extract"]), config(&["detect"]));
    let bad = format!(
        "[sources.lines]
         type = \"file\"
         paths = [{lines:?}]
         decode = {{ plugin = \"hostile\", config = {decode} }}
         [plugins.hostile]
         path = {:?}
         state = [\"b\"]
         metrics_series = 10
         limits = {{ deadline_ms = 100, memory_bytes = 33554432, state_bytes = 4194304 }}
         [detectors.bad]
         plugin = \"hostile\"
         config = {detect}
         [sinks.bad]
         type = \"file\"
         path = \"bad.jsonl\"
         [pipelines.bad]
         sources = [\"lines\"]
         features = [\"sum\"]
         detectors = [\"bad\"]
         sinks = [\"bad\"]
         window = {{ type = \"tumbling\", size_secs = 10 }}
         incident = {{ open_after = \"1/1\" }}
         [pipelines.bad.records]
         entity = \"name\"
         extract = {{ plugin = \"hostile\", config = {extract} }}",
        plugin("hostile")
    );
    let text = format!(
        "[api]
         enabled = false
         [sources.flows]
         type = \"file\"
         paths = [{flows:?}]
         [plugins.threshold]
         path = {:?}
         [detectors.host-limits]
         plugin = \"threshold\"
         config = {{ limits = [ {{ name = \"flood\", feature = \"packets_per_s\", above = 1000.0 }} ] }}
         [pipelines.ddos]
         sources = [\"flows\"]
         keys = [\"dst_addr\"]
         features = [\"flows\", \"packets_per_s\"]
         detectors = [\"host-limits\"]
         sinks = [\"good\"]
         window = {{ type = \"sliding\", size_secs = 5, event_time = \"end\" }}
         [sinks.good]
         type = \"file\"
         path = \"good.jsonl\"
         {}",
        plugin("threshold"),
        if hostile.is_some() { bad.as_str() } else { "" }
    );
    let (file, summary) = (dir.join("kaminari.toml"), dir.join("summary.json"));
    std::fs::write(&file, text).unwrap();
    let mut command = kaminari();
    let output = command.args(["run", "-c"]).arg(file).arg("--summary").arg(&summary).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{hostile:?}: {log}");
    let told = std::fs::read_to_string(dir.join("good.jsonl")).unwrap_or_default();
    // The plan is another one, the incidents are the same.
    let mask = |line: &str| {
        let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
        event["plan_digest"] = "masked".into();
        event["emitted_at"] = "masked".into();
        format!("{event}\n")
    };
    (told.lines().map(mask).collect(), Summary::read(&summary), log)
}

/// All of them in one call, each with the outcome that is counted (`""`: the call is answered).
fn beside(call: &str, cases: &[(&str, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    let (alone, quiet, _) = run(dir.path(), None);
    assert!(alone.lines().count() >= 2, "{alone}");
    for (what, outcome) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (told, summary, log) = run(dir.path(), Some((what, call)));
        assert_eq!(told, alone, "the incidents of the other pipeline beside {what} in {call}");
        let fired = "kaminari_window_fired_total{pipeline=\"ddos\"}";
        assert_eq!(summary.value(fired), quiet.value(fired), "all its windows, beside {what} in {call}");
        let peak = summary.0["peak_rss_bytes"].as_u64().unwrap();
        assert!(peak < MOST, "{what} in {call}: {peak} bytes");
        if !outcome.is_empty() {
            let user = if call == "decode" { "lines" } else { "bad" };
            let labels = format!("plugin=\"hostile\",pipeline=\"{user}\"");
            let calls = summary.value(&format!("kaminari_plugin_calls_total{{{labels},outcome=\"{outcome}\"}}"));
            assert!(calls >= 1.0, "{what} in {call}");
            let lost = format!("kaminari_plugin_dead_lettered_rows_total{{{labels},reason=\"{outcome}\"}}");
            assert!(summary.value(&lost) >= 1.0, "{what} in {call}");
            assert!(log.contains(&format!("plugin hostile@0.1.0: `{call}` ")), "{what} in {call}: {log}");
        } else {
            assert_eq!(summary.total("kaminari_plugin_dead_lettered_rows_total"), 0.0, "{what} in {call}: {log}");
        }
    }
}

const BOMBS: [(&str, &str); 7] = [
    ("loop", "deadline"),
    ("memory", "oom"),
    ("stack", "trap"),
    ("trap", "trap"),
    ("error", "error"),
    ("state-churn", "deadline"),
    ("logs", ""),
];

#[test]
fn a_decoder_costs_its_own_frames() {
    beside("decode", &BOMBS);
    let refused = ("million-rejects", "refused");
    beside(
        "decode",
        &[refused, ("other-columns", "refused"), ("long-reasons", "trap"), ("odd-times", ""), ("reasons", "")],
    );
}

#[test]
fn an_extractor_costs_its_own_windows() {
    beside("extract", &BOMBS);
    let none = ["duplicates", "odd-features", "no-entity", "nothing"].map(|what| (what, ""));
    beside("extract", &[&none[..], &[("other-columns", "refused"), ("series", "error")]].concat());
}

#[test]
fn a_detector_costs_its_own_judgements() {
    beside("detect", &BOMBS);
    let none = ["odd-scores", "many-alerts", "long-alerts", "alert-beyond"].map(|what| (what, ""));
    beside("detect", &[&none[..], &[("short-scores", "refused"), ("alike-alerts", "trap")]].concat());
}

/// What is made of odd features, by the pipeline's own counters.
#[test]
fn refused_entities_are_counted() {
    for (what, reason, least) in [("duplicates", "duplicate_entity", 999.0), ("no-entity", "no_entity", 7.0)] {
        let dir = tempfile::tempdir().unwrap();
        let (_, summary, _) = run(dir.path(), Some((what, "extract")));
        let refused = format!("kaminari_feature_refused_rows_total{{pipeline=\"bad\",reason=\"{reason}\"}}");
        assert!(summary.value(&refused) >= least, "{what}: {}", summary.value(&refused));
    }
}
