//! The labelled stream of the proofs: a million flow records with attacks whose place and time are known, in twelve
//! partitions by destination prefix, as the collector writes them.

use super::engine::Engine;
use kaminari_tests::{kafka, run};
use std::sync::OnceLock;

/// Partitions.
pub const PARTITIONS: i32 = 12;
/// Attacks in it.
pub const ATTACKS: usize = 9;

/// Topic with the stream, made once.
pub struct Stream {
    pub topic: String,
    /// Flow records in it.
    pub flows: u64,
}

/// The stream; the first who asks makes it.
pub fn stream(brokers: &str) -> &'static Stream {
    static STREAM: OnceLock<Stream> = OnceLock::new();
    STREAM.get_or_init(|| make(brokers))
}

fn make(brokers: &str) -> Stream {
    let dir = tempfile::tempdir().unwrap();
    let pcap = dir.path().join("flows.pcap");
    let mut args =
        vec!["generate", "flows", "--seconds", "120", "--rate", "8500", "--hosts", "3000", "--sampling", "1"];
    // One after the other and side by side, over as many prefixes, so that every partition's turn comes.
    let attacks: Vec<String> = (0..ATTACKS)
        .map(|n| {
            let kind = ["udp-amplification", "syn-flood", "carpet-bombing"][n % 3];
            let target =
                if n % 3 == 2 { format!("198.51.{}.0", 100 + n) } else { format!("203.0.{}.{}", 113 + n, 7 + n) };
            format!("{kind}@{}+{}:target={target},pps=200000,fps=2000", 8 + 11 * n, 12 + n)
        })
        .collect();
    for attack in &attacks {
        args.extend(["--attack", attack]);
    }
    let out = run(args.into_iter().chain(["--pcap", pcap.to_str().unwrap()]));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));

    let topic = kafka::unique("flows");
    kafka::create_topic(brokers, &topic, PARTITIONS);
    let config = format!(
        "[sources.capture]
         type = \"file\"
         paths = [{pcap:?}]

         [pipelines.collect]
         sources = [\"capture\"]
         sinks = [\"flows\"]

         [sinks.flows]
         type = \"kafka\"
         brokers = [{brokers:?}]
         topic = {topic:?}
         content = \"flows\""
    );
    let summary = Engine::start(dir.path(), "collector", &config).ended();
    let flows = super::engine::counted(&summary, "kaminari_decode_flows_total", "") as u64;
    let delivered = super::engine::counted(&summary, "kaminari_sink_delivered_total", "") as u64;
    assert_eq!(flows, delivered, "the collector loses nothing: {summary}");
    assert!(flows >= 1_000_000, "{flows}");
    Stream { topic, flows }
}
