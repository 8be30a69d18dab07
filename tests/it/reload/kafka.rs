//! Pipelines over a Kafka source change while its session goes on: windows that are open stay so, and every flow is in exactly
//! one of them.

use super::{Engine, PER_DATAGRAM, datagram, log_source, wait_for};
use kaminari_tests::kafka::{Record, brokers, consume_all, create_topic, produce, unique};
use kaminari_tests::plugin;
use serde_json::Value;
use std::path::Path;

struct Topics {
    brokers: String,
    flows: String,
    windows: String,
}

impl Topics {
    fn config(&self, state_dir: Option<&Path>, above: f64, rest: &str) -> String {
        let Self { brokers, flows, windows } = self;
        let source = log_source(brokers, flows);
        let state = state_dir.map(|dir| format!("[engine]\nstate_dir = {dir:?}")).unwrap_or_default();
        format!(
            "{state}
             [api]
             listen = \"127.0.0.1:0\"
             {source}
             [plugins.threshold]
             path = {:?}
             [plugins.tally]
             path = {:?}
             [detectors.limits]
             plugin = \"threshold\"
             config = {{ limits = [ {{ name = \"packet-flood\", feature = \"packets_per_s\", above = {above:?} }} ] }}
             [detectors.tally]
             plugin = \"tally\"
             [sinks.windows]
             type = \"kafka\"
             brokers = [{brokers:?}]
             topic = {windows:?}
             content = \"features\"
             [sinks.file]
             type = \"file\"
             path = \"incidents.jsonl\"
             [pipelines.ddos]
             sources = [\"log\"]
             keys = [\"dst_addr\"]
             features = [\"packets_per_s\"]
             window = {{ type = \"tumbling\", size_secs = 2, event_time = \"end\", out_of_order_secs = 1, idle_timeout_secs = 6 }}
             detectors = [\"limits\", \"tally\"]
             sinks = [\"windows\", \"file\"]
             incident = {{ open_after = \"1/1\", close_after_windows = 100 }}
             {rest}",
            plugin("threshold"),
            plugin("tally-1"),
        )
    }

    fn rows(&self) -> Vec<Value> {
        let messages = consume_all(&self.brokers, &self.windows, false);
        messages.iter().map(|m| serde_json::from_slice(&m.payload).unwrap()).collect()
    }
}

fn proof(keeps: bool) {
    let Some(brokers) = brokers("reload::kafka") else { return };
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let topics = Topics { brokers, flows: unique("reload-flows"), windows: unique("reload-rows") };
    create_topic(&topics.brokers, &topics.flows, 2);
    create_topic(&topics.brokers, &topics.windows, 1);
    let config = |above: f64, rest: &str| topics.config(keeps.then_some(&*state), above, rest);
    let engine = Engine::start(dir.path(), &config(1000.0, ""), &[]);
    let mut sent = 0u64;
    let mut send = |target: Option<[u8; 4]>| {
        for partition in 0..2 {
            let message = Record { key: Some(b"192.0.2.1".to_vec()), ..datagram(sent as u32, 100, target).into() };
            produce(&topics.brokers, &topics.flows, partition, [message]);
            sent += PER_DATAGRAM;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let second = "[pipelines.second]\nsources = [\"log\"]\nkeys = [\"dst_prefix\"]\nfeatures = [\"packets_per_s\"]\n\
                  window = { type = \"tumbling\", size_secs = 4, event_time = \"end\", idle_timeout_secs = 6 }\n\
                  detectors = [\"limits\"]\nsinks = [\"file\"]\nincident = { open_after = \"1/1\" }";
    for step in 0..100 {
        send(Some([198, 18, 7, 7]));
        match step {
            30 => drop(engine.becomes(&config(1001.0, ""))),
            45 => drop(engine.becomes(&config(1001.0, second))),
            60 => {
                let broken = config(1002.0, second).replace("tally-1.wasm", "tally-broken.wasm");
                assert_eq!(engine.reload(&broken).0, 422);
            }
            75 => drop(engine.becomes(&config(1002.0, second).replace("tally-1.wasm", "tally-2.wasm"))),
            85 => drop(engine.becomes(&config(1002.0, "").replace("tally-1.wasm", "tally-2.wasm"))),
            _ => {}
        }
    }
    // When the log is quiet the last windows come out.
    let told = |rows: &[Value]| rows.iter().map(|r| r["features"]["flows"].as_f64().unwrap()).sum::<f64>();
    // Where a machine stands still for so long, one partition may leave the other behind: that is counted, and no loss of ours.
    let late = || engine.metric("kaminari_window_late_records_total", &["ddos", "dropped"]);
    wait_for("all windows", || (told(&topics.rows()) + late() >= sent as f64).then_some(()));
    assert_eq!(late(), 0.0, "the machine stood still");
    let rows = topics.rows();
    assert_eq!(told(&rows), sent as f64);
    let mut windows: Vec<&str> = rows.iter().map(|r| r["window"]["start"].as_str().unwrap()).collect();
    let all = windows.len();
    windows.sort_unstable();
    windows.dedup();
    assert_eq!(windows.len(), all, "one host: one row for each window, told once");
    // One incident, whatever was changed.
    let of = |event: &str, pipeline: &str| {
        engine.events().iter().filter(|e| e["event"] == event && e["pipeline"] == pipeline).count()
    };
    wait_for("the end of what went", || (of("close", "second") > 0).then_some(()));
    assert_eq!((of("open", "ddos"), of("close", "ddos")), (1, 0), "{:#?}", engine.events());
    assert_eq!((of("open", "second"), of("close", "second")), (1, 1), "{:#?}", engine.events());
    // A shadow over a log is compared, too.
    let shadowed =
        config(1002.0, "[pipelines.ddos.shadow]\ndetectors = [\"tally\"]").replace("tally-1.wasm", "tally-2.wasm");
    engine.becomes(&shadowed);
    wait_for("a comparison", || (engine.ask("GET", "/api/v1/shadow").1[0]["pipeline"] == "ddos").then_some(()));
    // The session was the same all the time.
    let log = engine.log();
    assert!(!log.contains("gives back") && !log.contains("has lost"), "{log}");
    assert_eq!(log.matches(": reads ").count() + log.matches("INFO reads ").count(), 1, "{log}");
    engine.stop();
}

#[test]
fn pipelines_over_a_log_change_and_its_session_goes_on() {
    proof(true);
}

#[test]
fn the_same_where_nothing_is_kept_on_disk() {
    proof(false);
}
