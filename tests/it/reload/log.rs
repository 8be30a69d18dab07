//! Pipelines over one log: some change, come and go while the others go on, exactly once.

use super::{Engine, PER_DATAGRAM, datagram, log_source, wait_for};
use kaminari_tests::kafka::{Record, brokers, consume_all, create_topic, produce, unique};
use kaminari_tests::plugin;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Hosts that are attacked, each in a partition of its own.
const HOSTS: [[u8; 4]; 2] = [[198, 18, 7, 7], [198, 18, 7, 8]];

struct Log {
    brokers: String,
    flows: String,
    /// Rows of windows of the pipeline that nobody changes, and of the one that is changed.
    steady: String,
    busy: String,
    incidents: String,
    sent: u64,
}

impl Log {
    fn new(brokers: String) -> Self {
        let log = Self {
            brokers,
            flows: unique("log-flows"),
            steady: unique("log-steady"),
            busy: unique("log-busy"),
            incidents: unique("log-incidents"),
            sent: 0,
        };
        create_topic(&log.brokers, &log.flows, 2);
        [&log.steady, &log.busy, &log.incidents].iter().for_each(|topic| create_topic(&log.brokers, topic, 1));
        log
    }

    /// A datagram for each host.
    fn send(&mut self) {
        for (partition, host) in HOSTS.into_iter().enumerate() {
            let message = Record { key: Some(host.to_vec()), ..datagram(self.sent as u32, 100, Some(host)).into() };
            produce(&self.brokers, &self.flows, partition as i32, [message]);
            self.sent += PER_DATAGRAM;
        }
        std::thread::sleep(Duration::from_millis(60));
    }

    fn config(&self, state_dir: &Path, source: &str, busy: &Busy) -> String {
        let Self { brokers, flows, .. } = self;
        let pipeline = |id: &str, sinks: &str, window_secs: u32, detectors: &str| {
            format!(
                "[pipelines.{id}]
                 sources = [\"log\"]
                 keys = [\"dst_addr\"]
                 features = [\"packets_per_s\"]
                 window = {{ type = \"tumbling\", size_secs = {window_secs}, event_time = \"end\", out_of_order_secs = 1, idle_timeout_secs = 6 }}
                 detectors = [{detectors}]
                 sinks = [{sinks}]
                 incident = {{ open_after = \"1/1\", close_after_windows = 100 }}\n"
            )
        };
        let sink = |id: &str, topic: &str, content: &str| {
            format!(
                "[sinks.{id}]\ntype = \"kafka\"\nbrokers = [{brokers:?}]\ntopic = {topic:?}\ncontent = {content:?}\n"
            )
        };
        let log = log_source(brokers, flows);
        let Busy { window_secs, above, tally, third } = *busy;
        let mut text = format!(
            "[engine]
             state_dir = {state_dir:?}
             [api]
             listen = \"127.0.0.1:0\"
             {log}
             keyed = true
             {source}
             [plugins.threshold]
             path = {:?}
             [plugins.tally]
             path = {:?}
             [detectors.always]
             plugin = \"threshold\"
             config = {{ limits = [ {{ name = \"packet-flood\", feature = \"packets_per_s\", above = 1000.0 }} ] }}
             [detectors.limits]
             plugin = \"threshold\"
             config = {{ limits = [ {{ name = \"packet-flood\", feature = \"packets_per_s\", above = {above:?} }} ] }}
             [detectors.tally]
             plugin = \"tally\"
             on_state_mismatch = \"reset\"\n",
            plugin("threshold"),
            plugin(tally),
        );
        text += &sink("steady-rows", &self.steady, "features");
        text += &sink("busy-rows", &self.busy, "features");
        text += &sink("incidents", &self.incidents, "incidents");
        text += &pipeline("steady", "\"steady-rows\", \"incidents\"", 2, "\"always\"");
        text += &pipeline("busy", "\"busy-rows\", \"incidents\"", window_secs, "\"limits\", \"tally\"");
        if third {
            text += &pipeline("third", "\"incidents\"", 4, "\"always\"");
        }
        text
    }

    fn rows(&self, topic: &str) -> Vec<Value> {
        let messages = consume_all(&self.brokers, topic, true);
        messages.iter().map(|m| serde_json::from_slice(&m.payload).unwrap()).collect()
    }

    /// Rows of all windows, once every flow is in one. Where a machine stands still for so long that a partition seems silent,
    /// flows are late, and counted: that is told from a loss.
    fn all_rows(&self, engine: &Engine, topic: &str) -> Vec<Value> {
        let late = || engine.metric("kaminari_window_late_records_total", &["dropped"]);
        let all = |rows: &Vec<Value>| flows(rows) >= self.sent as f64 || late() > 0.0;
        let rows = wait_for("all windows", || Some(self.rows(topic)).filter(all));
        assert_eq!(late(), 0.0, "the machine stood still");
        rows
    }
}

/// What is changed.
struct Busy {
    window_secs: u32,
    above: f64,
    tally: &'static str,
    third: bool,
}

fn flows(rows: &[Value]) -> f64 {
    rows.iter().map(|r| r["features"]["flows"].as_f64().unwrap()).sum()
}

#[test]
fn who_shares_a_log_with_those_that_change_does_not_notice() {
    let Some(brokers) = brokers("reload::log") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(brokers);
    let config = |log: &Log, busy: &Busy| log.config(&dir.path().join("state"), "exactly_once = true", busy);
    let mut busy = Busy { window_secs: 2, above: 1000.0, tally: "tally-1", third: false };
    let mut engine = Engine::start(dir.path(), &config(&log, &busy), &[]);
    for step in 0..110 {
        log.send();
        match step {
            10 => busy.window_secs = 3,
            20 => busy.third = true,
            30 => busy.above = 1001.0,
            40 => busy.tally = "tally-2",
            50 => {
                let broken = Busy { tally: "tally-broken", ..busy };
                assert_eq!(engine.reload(&config(&log, &broken)).0, 422);
                continue;
            }
            60 => (busy.window_secs, busy.third) = (4, false),
            70 => busy.above = 1002.0,
            // Between two commits, or in one: what is told and what is read go together.
            75 => busy.window_secs = 2,
            _ => continue,
        }
        let report = engine.becomes(&config(&log, &busy));
        assert_eq!(report.get("notes"), None, "{report:#}");
        if step == 70 {
            assert_eq!(engine.metric("kaminari_source_rebuilds_total", &[]), 0.0);
            let handovers = |outcome| engine.metric("kaminari_plugin_state_handovers_total", &["tally", outcome]);
            assert!(handovers("migrated") >= 2.0 && handovers("reset") == 0.0);
            let log = engine.log();
            assert!(!log.contains("gives back") && !log.contains("has lost"), "{log}");
        }
        if step == 75 {
            engine.signal("-KILL");
            engine = Engine::start(dir.path(), &config(&log, &busy), &[]);
        }
    }
    let steady = log.all_rows(&engine, &log.steady);
    assert_eq!(flows(&steady), log.sent as f64);
    let windows: BTreeSet<String> =
        steady.iter().map(|r| format!("{} {}", r["window"]["start"], r["entity"])).collect();
    assert_eq!(windows.len(), steady.len(), "each window was told once, and whole: {windows:#?}");
    let busy_rows = log.all_rows(&engine, &log.busy);
    assert_eq!(flows(&busy_rows), log.sent as f64, "every flow is in one window");
    // An incident of each host in both, whatever was changed.
    let events = log.rows(&log.incidents);
    let of = |event: &str, pipeline: &str| {
        events.iter().filter(|e| e["event"] == event && e["pipeline"] == pipeline).count()
    };
    let all = ["steady", "busy", "third"].map(|pipeline| (of("open", pipeline), of("close", pipeline)));
    assert_eq!(all, [(2, 0), (2, 0), (2, 2)], "{events:#?}");
    // What was not changed names the plan in force, too.
    let digest = engine.digest();
    let last = consume_all(&log.brokers, &log.steady, true).pop().unwrap();
    let named = last.headers.iter().find(|(name, _)| name == "kaminari.plan").unwrap();
    assert_eq!(String::from_utf8_lossy(&named.1), digest);
    engine.stop();
}

#[test]
fn a_plugin_that_breaks_over_a_log_is_taken_back() {
    let Some(brokers) = brokers("reload::log") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::new(brokers);
    let config = |log: &Log, tally| {
        let busy = Busy { window_secs: 1, above: 1000.0, tally, third: false };
        let text = log.config(&dir.path().join("state"), "", &busy);
        format!("[reload]\nprobation_windows = 20\nprobation_faults = 1\n{text}")
    };
    let with_another = config(&log, "tally-1")
        + "[sources.edge]\ntype = \"udp\"\nlisten = \"127.0.0.1:0\"\n[sinks.another]\ntype = \"file\"\npath = \"another\"\n\
           [pipelines.another]\nsources = [\"edge\"]\nkeys = [\"dst_addr\"]\nfeatures = [\"packets_per_s\"]\n\
           window = { type = \"tumbling\", size_secs = 1 }\ndetectors = [\"always\"]\nsinks = [\"another\"]\n";
    let engine = Engine::start(dir.path(), &with_another, &[]);
    // A sink of others ends with them: nobody here holds it.
    engine.becomes(&config(&log, "tally-1"));
    wait_for("the end of another's sink", || (!engine.threads().contains(&"sink-another\n".to_owned())).then_some(()));
    let fired = |engine: &Engine| engine.metric("kaminari_window_fired_total", &["busy"]);
    wait_for("windows", || {
        log.send();
        (fired(&engine) >= 2.0).then_some(())
    });
    let before = engine.digest();
    engine.becomes(&config(&log, "tally-frail"));
    let last = wait_for("its report", || {
        log.send();
        let last = engine.ask("GET", "/api/v1/reloads").1[0].clone();
        (last["trigger"] == "probation").then_some(last)
    });
    assert_eq!((&last["outcome"], engine.digest()), (&"applied".into(), before), "{last:#}");
    assert!(last["notes"].to_string().contains("tally"), "{last:#}");
    let so_far = fired(&engine);
    wait_for("windows after it", || {
        log.send();
        (fired(&engine) > so_far + 2.0).then_some(())
    });
    assert_eq!(flows(&log.all_rows(&engine, &log.steady)), log.sent as f64);
    assert_eq!(flows(&log.all_rows(&engine, &log.busy)), log.sent as f64);
    engine.stop();
}
