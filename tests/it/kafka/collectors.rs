//! Our own collector before a topic: in whatever format it writes flow records, the rows of features that a detector makes
//! of them are those of the same capture read at once.

use super::engine::{Engine, counted};
use super::rows;
use kaminari_tests::kafka;

const WINDOW: &str = "type = \"tumbling\", size_secs = 1, event_time = \"end\", idle_timeout_secs = 1";
/// What the collector is told to write, and the detector to read.
const FORMATS: [[&str; 2]; 3] = [["arrow", "arrow"], ["goflow2", "goflow2"], ["json", "jsonl"]];
const PARTITIONS: i32 = 2;

#[test]
fn every_format_of_flows_gives_the_same_rows() {
    let Some(brokers) = kafka::brokers("flow records there and back") else { return };
    let dir = tempfile::tempdir().unwrap();
    let pcap = dir.path().join("flows.pcap");
    let stream = ["--seconds", "5", "--rate", "500", "--hosts", "60", "--sampling", "10", "--attack"];
    let attack = "syn-flood@1+3:target=203.0.113.7,pps=20000,fps=300";
    rows::generate(&[&stream[..], &[attack, "--pcap", pcap.to_str().unwrap()]].concat());
    let (expected, flows) = rows::of_capture(&brokers, dir.path(), &pcap, WINDOW);

    let topics = FORMATS.map(|[format, _]| kafka::unique(format));
    let mut collector = format!(
        "[sources.capture]\ntype = \"file\"\npaths = [{pcap:?}]\n
         [pipelines.all]\nsources = [\"capture\"]\nsinks = [\"arrow\", \"goflow2\", \"json\"]\n"
    );
    for ([format, _], topic) in FORMATS.iter().zip(&topics) {
        kafka::create_topic(&brokers, topic, PARTITIONS);
        collector += &format!("[sinks.{format}]\ntype = \"kafka\"\nbrokers = [{brokers:?}]\ntopic = {topic:?}\n");
        collector += &format!("content = \"flows\"\nformat = {format:?}\n");
    }
    let summary = Engine::start(dir.path(), "collector", &collector).ended();
    assert_eq!(counted(&summary, "kaminari_sink_delivered_total", "") as u64, 3 * flows, "{summary}");

    let detectors: Vec<_> = FORMATS
        .iter()
        .zip(&topics)
        .map(|([_, format], topic)| {
            let (to, group) = (kafka::unique("rows"), kafka::unique("group"));
            kafka::create_topic(&brokers, &to, 1);
            let source = rows::source(&brokers, topic, &group, format, "keyed = true");
            (Engine::start(dir.path(), topic, &rows::config(&brokers, &source, WINDOW, &to)), to)
        })
        .collect();
    for (engine, to) in detectors {
        let found = rows::of_flows(&brokers, &to, flows);
        let summary = engine.stop();
        rows::assert_same(&found, &expected);
        assert_eq!(counted(&summary, "kaminari_decode_errors_total", ""), 0.0, "{summary}");
        assert_eq!(counted(&summary, "kaminari_decode_flows_total", "") as u64, flows);
    }
}
