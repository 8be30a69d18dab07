//! What two ways of reading the same traffic have in common: a pipeline that counts and tells every row of features.

use super::engine::{Engine, counted, wait_for};
use kaminari_tests::{kafka, plugin, run};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Rows by entity and begin of the window.
pub type Rows = BTreeMap<(String, String), Map<String, Value>>;

/// The configuration of one pipeline over one source, whose rows of features go to a topic.
pub fn config(brokers: &str, source: &str, window: &str, to: &str) -> String {
    format!(
        "[sources.in]
         {source}

         [plugins.threshold]
         path = {:?}

         [detectors.never]
         plugin = \"threshold\"
         config = {{ limits = [ {{ name = \"never\", feature = \"packets_per_s\", above = 1e15 }} ] }}

         [pipelines.count]
         sources = [\"in\"]
         keys = [\"dst_addr\"]
         features = [\"flows\", \"packets_per_s\", \"uniq_src\", \"uniq_dst_port\", \"syn_share\", \"amp_port_share\"]
         window = {{ {window} }}
         detectors = [\"never\"]
         sinks = [\"rows\"]

         [sinks.rows]
         type = \"kafka\"
         brokers = [{brokers:?}]
         topic = {to:?}
         content = \"features\"",
        plugin("threshold")
    )
}

/// The body of a Kafka source. `more`: other keys.
pub fn source(brokers: &str, topic: &str, group: &str, format: &str, more: &str) -> String {
    format!(
        "type = \"kafka\"
         brokers = [{brokers:?}]
         topics = [{topic:?}]
         group = {group:?}
         start = \"earliest\"
         commit_interval_ms = 200
         decode = {{ format = {format:?} }}
         {more}"
    )
}

/// The rows in a topic. No window is told twice.
pub fn rows(brokers: &str, topic: &str) -> Rows {
    let mut rows = Rows::new();
    for message in kafka::consume_all(brokers, topic, true) {
        let row: Value = serde_json::from_slice(&message.payload).unwrap();
        let text = |pointer: &str| row.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        let key = (text("/entity/value"), text("/window/start"));
        let before = rows.insert(key, row["features"].as_object().unwrap().clone());
        assert!(before.is_none(), "told twice: {row}");
    }
    rows
}

/// A feature summed over all rows.
pub fn sum(rows: &Rows, feature: &str) -> f64 {
    rows.values().map(|row| row[feature].as_f64().unwrap()).sum()
}

/// Waits until rows of so many flows were told.
pub fn of_flows(brokers: &str, topic: &str, flows: u64) -> Rows {
    let mut last = 0.0;
    wait_for(&format!("the rows of {flows} flows"), || {
        let rows = rows(brokers, topic);
        let now = sum(&rows, "flows");
        if now != last {
            println!("{topic}: {now} of {flows} flows");
            last = now;
        }
        (now >= flows as f64).then_some(rows)
    })
}

/// The rows of a capture, read by the engine itself, and how many flows they have.
pub fn of_capture(brokers: &str, dir: &Path, pcap: &Path, window: &str) -> (Rows, u64) {
    let to = kafka::unique("direct");
    kafka::create_topic(brokers, &to, 1);
    let source = format!("type = \"file\"\npaths = [{pcap:?}]");
    let summary = Engine::start(dir, "direct", &config(brokers, &source, window, &to)).ended();
    assert_eq!(counted(&summary, "kaminari_window_late_records_total", ""), 0.0, "{summary}");
    let flows = counted(&summary, "kaminari_decode_flows_total", "") as u64;
    let rows = rows(brokers, &to);
    assert_eq!(sum(&rows, "flows"), flows as f64);
    (rows, flows)
}

/// `kaminari generate flows`, to the end.
pub fn generate(args: &[&str]) {
    let out = run(["generate", "flows"].iter().chain(args));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// Asserts that both are the same, and says where they are not.
pub fn assert_same(found: &Rows, expected: &Rows) {
    let differ = |key: &&(String, String)| found.get(*key) != expected.get(*key);
    let keys: std::collections::BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let wrong: Vec<_> = keys.iter().copied().filter(differ).collect();
    for key in wrong.iter().take(5) {
        println!("{key:?}\n  found    {:?}\n  expected {:?}", found.get(*key), expected.get(*key));
    }
    assert!(wrong.is_empty(), "{} of {} rows differ", wrong.len(), keys.len());
}
