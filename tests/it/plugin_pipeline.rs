//! Through the program: a detector that breaks costs its own judgements and nobody else's.

use crate::summary::Summary;
use kaminari::plugin::API_VERSION;
use kaminari_tests::{kaminari, plugin, root};
use std::path::Path;
use std::process::Output;

/// The scenario `one-flooded-host` with a second detector from the plugin `name`, configured by `config`; with `None`
/// only threshold.
fn replay(dir: &Path, second: Option<(&str, &str)>) -> (Output, String) {
    let input = root().join("tests/scenarios/one-flooded-host/input.jsonl");
    let (plugin_table, detector) = match second {
        None => (String::new(), String::new()),
        Some((name, config)) => (
            format!(
                "[plugins.{name}]\npath = {:?}\nlimits = {{ deadline_ms = 50, memory_bytes = 16777216 }}\n\
                 [detectors.second]\nplugin = \"{name}\"\nconfig = {config}\n",
                plugin(name)
            ),
            ", \"second\"".to_owned(),
        ),
    };
    let text = format!(
        "[sources.flows]
         type = \"file\"
         paths = [{input:?}]
         [plugins.threshold]
         path = {:?}
         [detectors.host-limits]
         plugin = \"threshold\"
         config = {{ limits = [ {{ name = \"flood\", feature = \"packets_per_s\", above = 1000.0 }} ] }}
         {plugin_table}
         [pipelines.ddos]
         sources = [\"flows\"]
         keys = [\"dst_addr\"]
         features = [\"flows\", \"packets_per_s\"]
         detectors = [\"host-limits\"{detector}]
         sinks = [\"out\"]
         window = {{ type = \"sliding\", size_secs = 5, event_time = \"end\" }}
         [sinks.out]
         type = \"stdout\"\n",
        plugin("threshold")
    );
    let (config, summary) = (dir.join("kaminari.toml"), dir.join("summary.json"));
    std::fs::write(&config, text).unwrap();
    let mut command = kaminari();
    command.arg("replay").arg("-c").arg(config).arg("--input").arg(input).arg("--summary").arg(summary);
    let output = command.output().unwrap();
    // The plan is another one, the incidents are the same.
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    let mask = |line: &str| {
        let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
        event["plan_digest"] = "masked".into();
        format!("{event}\n")
    };
    let lines = lines.lines().map(mask).collect();
    (output, lines)
}

/// Runs with a broken neighbour; returns the summary and stderr after checking what always holds.
fn beside(name: &str, config: &str) -> (Summary, String) {
    let dir = tempfile::tempdir().unwrap();
    let (alone, expected) = replay(dir.path(), None);
    assert_eq!(alone.status.code(), Some(0));
    assert!(expected.lines().count() >= 2, "{expected}");
    let (output, incidents) = replay(dir.path(), Some((name, config)));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(incidents, expected, "threshold's incidents beside {name}");
    (Summary::read(&dir.path().join("summary.json")), stderr)
}

fn labels(name: &str) -> String {
    format!("plugin=\"{name}\",pipeline=\"ddos\"")
}

fn every_batch_breaks_it(name: &str, outcome: &str, cause: &str) {
    let (summary, stderr) = beside(name, "{}");
    assert!(stderr.contains(&format!("plugin {name}@0.1.0: `detect` {cause}")), "{stderr}");
    let labels = labels(name);
    let calls = summary.value(&format!("kaminari_plugin_calls_total{{{labels},outcome=\"{outcome}\"}}"));
    assert!(calls >= 2.0, "each batch is tried twice: {calls}");
    assert!(summary.value(&format!("kaminari_plugin_restarts_total{{{labels}}}")) >= 1.0);
    // Every row is accounted for: broke it, or not tried while it waits.
    let rows = |reason: &str| {
        summary.value(&format!("kaminari_plugin_dead_lettered_rows_total{{{labels},reason=\"{reason}\"}}"))
    };
    assert!(rows(outcome) > 0.0);
    let all = summary.total("kaminari_feature_rows_total");
    assert!(all > 50.0);
    assert_eq!(summary.total("kaminari_plugin_dead_lettered_rows_total"), all);
    let healthy =
        summary.value(&format!("kaminari_plugin_calls_total{{{},outcome=\"ok\"}}", self::labels("threshold")));
    assert_eq!(healthy, summary.total("kaminari_window_fired_total"));
}

#[test]
fn a_trap_costs_its_own_rows() {
    every_batch_breaks_it("trap", "trap", "trapped: ");
}

#[test]
fn an_endless_loop_costs_its_own_rows() {
    every_batch_breaks_it("spin", "deadline", "missed its deadline of 50 ms");
}

#[test]
fn a_memory_bomb_costs_its_own_rows() {
    every_batch_breaks_it("oom", "oom", "ran out of memory");
}

#[test]
fn what_breaks_again_and_again_is_quarantined() {
    // Every second call of an instance: the retry on a fresh one succeeds, so no pause comes between the faults.
    let (summary, stderr) = beside("trap", "{ calls = [2] }");
    let labels = labels("trap");
    assert_eq!(summary.value(&format!("kaminari_plugin_quarantined{{{labels}}}")), 1.0);
    assert_eq!(summary.value(&format!("kaminari_plugin_quarantined{{{}}}", self::labels("threshold"))), 0.0);
    assert_eq!(summary.value(&format!("kaminari_plugin_calls_total{{{labels},outcome=\"trap\"}}")), 5.0);
    assert_eq!(summary.value(&format!("kaminari_plugin_restarts_total{{{labels}}}")), 5.0);
    let left = summary.value(&format!("kaminari_plugin_dead_lettered_rows_total{{{labels},reason=\"quarantine\"}}"));
    assert!(left > 0.0 && left < summary.total("kaminari_feature_rows_total"), "{left}");
    assert!(stderr.contains("trap@0.1.0") && stderr.contains("quarantined"), "{stderr}");
}

#[test]
fn a_plugin_of_another_contract_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (output, incidents) = replay(dir.path(), Some(("bad-version", "{}")));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), incidents.as_str()), (Some(78), ""), "{stderr}");
    let flat: String = stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    for version in ["kaminari:plugin@0.2.0", &format!("kaminari:plugin@{API_VERSION}")] {
        assert!(flat.contains(version), "{version} in {stderr}");
    }
    assert!(!dir.path().join("summary.json").exists(), "nothing ran");
}
