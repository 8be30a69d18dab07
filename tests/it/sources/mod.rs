//! Sources that bring streams, as an operator meets them: JSON lines over TCP, TLS and unix sockets, files that grow; what
//! is refused, by reason; and that nothing is lost where the documents say so.

mod streams;
mod tail;
pub mod tls;

use crate::kafka::engine::{Engine, counted, wait_for};
use kaminari_tests::plugin;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;

/// A source `in` with these keys, and a limit on the packets of a host.
fn config(source: &str) -> String {
    format!(
        "[engine]
         state_dir = \"state\"

         [sources.in]
         {source}

         [plugins.threshold]
         path = {:?}

         [detectors.limits]
         plugin = \"threshold\"
         config = {{ limits = [ {{ name = \"packet-flood\", feature = \"packets_per_s\", above = 50000.0 }} ] }}

         [pipelines.ddos]
         sources = [\"in\"]
         keys = [\"dst_addr\"]
         features = [\"packets_per_s\"]
         window = {{ type = \"sliding\", size_secs = 2 }}
         incident = {{ open_after = \"1/1\" }}
         detectors = [\"limits\"]
         sinks = [\"file\"]

         [sinks.file]
         type = \"file\"
         path = \"incidents.jsonl\"",
        plugin("threshold")
    )
}

/// A flow record as a line, without its end; `n` tells it from others.
pub fn line(n: usize, packets: u64) -> String {
    format!(
        "{{\"src_addr\":\"198.51.100.1\",\"dst_addr\":\"192.0.2.7\",\"proto\":17,\"src_port\":{},\"bytes\":{n},\"packets\":{packets}}}",
        n % 60_000
    )
}

pub fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|n| line(n, 1) + "\n").collect()
}

/// Starts an engine with a source that listens, and says where.
fn listening(dir: &Path, source: &str) -> (Engine, SocketAddr) {
    let mut engine = Engine::start(dir, "engine", &config(source));
    engine.says("running after");
    let log = engine.log();
    let rest = log.split_once("listening on ").unwrap_or_else(|| panic!("{log}")).1;
    let address = rest.split_whitespace().nth(1).unwrap().parse().unwrap();
    (engine, address)
}

fn flows(summary: &Value) -> u64 {
    counted(summary, "kaminari_decode_flows_total", "") as u64
}

fn refused(summary: &Value, reason: &str) -> u64 {
    counted(summary, "kaminari_source_refused_total", &format!("reason=\"{reason}\"")) as u64
}

fn connections(summary: &Value, what: &str, reason: &str) -> u64 {
    counted(summary, &format!("kaminari_source_connections_{what}_total"), &format!("reason=\"{reason}\"")) as u64
}

/// Waits until somebody has been told of the flood.
fn told(dir: &Path) {
    wait_for("an incident", || {
        let text = std::fs::read_to_string(dir.join("incidents.jsonl")).unwrap_or_default();
        text.contains("packet-flood").then_some(())
    });
}
