//! What plugins know is in the checkpoint of the committed positions: a killed process counts on where it stood.

use super::engine::{Engine, wait_for};
use super::rows::source;
use kaminari_tests::{kafka, plugin};
use serde_json::Value;
use std::collections::BTreeMap;

/// End of each window -> the host's score in it; a window that is told twice says the same twice.
fn scores(brokers: &str, topic: &str) -> BTreeMap<String, f64> {
    let mut scores = BTreeMap::new();
    for message in kafka::consume_all(brokers, topic, true) {
        let row: Value = serde_json::from_slice(&message.payload).unwrap();
        let (end, score) = (row["window"]["end"].as_str().unwrap().to_owned(), row["score"].as_f64().unwrap());
        assert!(scores.insert(end, score).is_none_or(|before| before == score), "{row}");
    }
    scores
}

#[test]
fn a_killed_process_knows_what_its_detectors_knew() {
    let Some(brokers) = kafka::brokers("detectors that remember") else { return };
    for exactly_once in [false, true] {
        let [topic, out, group] = ["memory-flows", "memory-scores", "memory"].map(kafka::unique);
        kafka::create_topic(&brokers, &topic, 1);
        kafka::create_topic(&brokers, &out, 1);
        let dir = tempfile::tempdir().unwrap();
        let more = format!("keyed = true\nexactly_once = {exactly_once}");
        let source = source(&brokers, &topic, &group, "jsonl", &more);
        let config = format!(
            "[engine]
             state_dir = {:?}

             [sources.flows]
             {source}

             [plugins.counter]
             path = {:?}

             [detectors.counter]
             plugin = \"counter\"

             [pipelines.p]
             sources = [\"flows\"]
             keys = [\"dst_addr\"]
             features = [\"flows\"]
             window = {{ type = \"tumbling\", size_secs = 10, event_time = \"end\", out_of_order_secs = 0, idle_timeout_secs = 3600 }}
             detectors = [\"counter\"]
             sinks = [\"scores\"]

             [sinks.scores]
             type = \"kafka\"
             brokers = [{brokers:?}]
             topic = {out:?}
             content = \"scores\"",
            dir.path().join("state"),
            plugin("counter")
        );
        let start = 1_900_000_000;
        // A record in each window; each closes the one before.
        let windows = |numbers: std::ops::Range<u64>| {
            let line = |n| {
                let end = (start + 10 * n) * 1_000_000_000u64;
                format!(
                    "{{\"time_received_ns\":{end},\"time_flow_end_ns\":{end},\"dst_addr\":\"192.0.2.1\",\"packets\":1,\"bytes\":64}}"
                )
            };
            kafka::produce(&brokers, &topic, 0, numbers.map(line));
        };
        let told = |count: usize| {
            wait_for(&format!("{count} windows"), || {
                let scores = scores(&brokers, &out);
                (scores.len() >= count).then(|| scores.into_values().collect::<Vec<_>>())
            })
        };
        let counted = |to: u32| (1..=to).map(f64::from).collect::<Vec<_>>();
        windows(0..31);
        let engine = Engine::start(dir.path(), "first", &config);
        assert_eq!(told(30), counted(30));
        // Committed: up to where windows are told, and what the plugin knew then.
        let boundary = format!("{{\"p\":{}}}", (start + 300) * 1_000_000_000u64);
        wait_for("the commit of what was told", || {
            let committed = kafka::committed(&brokers, &group, &topic);
            committed.first().is_some_and(|(_, _, said)| said.contains(&boundary)).then_some(())
        });
        engine.kill();
        windows(31..51);
        let engine = Engine::start(dir.path(), "second", &config);
        assert_eq!(told(50), counted(50), "exactly once: {exactly_once}");
        engine.stop();
    }
}
