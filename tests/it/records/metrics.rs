//! Lines of metrics over TCP and out of files, as series of their own.

use crate::kafka::engine::{Engine, counted, wait_for};
use kaminari_tests::plugin;
use serde_json::Value;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;

fn config(source: &str) -> String {
    format!(
        "[sources.in]
         {source}

         [plugins.metrics]
         path = {:?}
         [plugins.aggregate]
         path = {:?}
         [plugins.threshold]
         path = {:?}

         [detectors.limit]
         plugin = \"threshold\"
         config = {{ limits = [ {{ name = \"too-high\", feature = \"mean\", above = 50.0 }} ] }}

         [pipelines.load]
         sources = [\"in\"]
         features = [\"mean\", \"mean / max\"]
         window = {{ type = \"tumbling\", size_secs = 60, out_of_order_secs = 0, idle_timeout_secs = 3600 }}
         incident = {{ open_after = \"1/1\", close_after_windows = 2 }}
         detectors = [\"limit\"]
         sinks = [\"out\"]

         [pipelines.load.records]
         entity = \"series\"

         [pipelines.load.records.extract]
         plugin = \"aggregate\"
         [pipelines.load.records.extract.config]
         entity = {{ name = \"series\", column = \"series\" }}
         features = [{{ name = \"mean\", of = \"mean\", column = \"value\" }}, {{ name = \"max\", of = \"max\", column = \"value\" }}]

         [sinks.out]
         type = \"file\"
         path = \"out.jsonl\"",
        plugin("metrics-source"),
        plugin("aggregate"),
        plugin("threshold")
    )
}

fn events(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("out.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn graphite_over_tcp_tells_which_series_is_too_high() {
    let dir = tempfile::tempdir().unwrap();
    let source = "type = \"tcp\"\nlisten = \"127.0.0.1:0\"\nframing = { type = \"newline\" }\ndecode = { plugin = \"metrics\", config = { format = \"graphite\" } }";
    let mut engine = Engine::start(dir.path(), "engine", &config(source));
    engine.says("running after");
    let log = engine.log();
    let at = log.split_once("listening on ").unwrap().1.split_whitespace().nth(1).unwrap().to_owned();
    let mut stream = TcpStream::connect(at).unwrap();
    for minute in 0..10u64 {
        for second in 0..6 {
            let time = 1_392_388_200 + 60 * minute + 10 * second;
            let high = if (3..5).contains(&minute) { 90 } else { 10 };
            writeln!(stream, "web.1.load {high} {time}\na.series.with.a.long.name 20 {time}").unwrap();
        }
    }
    writeln!(stream, "rubbish").unwrap();
    drop(stream);
    wait_for("the end of the incident", || events(dir.path()).iter().any(|e| e["event"] == "close").then_some(()));
    let summary = engine.stop();
    assert_eq!(counted(&summary, "kaminari_decode_errors_total", "reason=\"field_count\""), 1.0, "{summary}");
    assert_eq!(counted(&summary, "kaminari_window_records_total", ""), 120.0);
    let events = events(dir.path());
    assert_eq!(events.iter().filter(|e| e["event"] == "open").count(), 1, "{events:?}");
    assert_eq!(events[0]["entity"], serde_json::json!({ "kind": "name", "value": "web.1.load" }));
    assert_eq!(events[0]["observed"]["mean"], 90.0);
    assert_eq!(events[0]["observed"]["mean / max"], 1.0);
    assert_eq!(events[0]["window"]["start"], "2014-02-14T14:33:00Z");
}
