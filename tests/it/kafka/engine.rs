//! Processes of kaminari on a broker, as an operator runs them: started, stopped, killed.

use kaminari_tests::{kafka, kaminari, plugin};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes that long; a test that waits for more is stuck.
pub const PATIENCE: Duration = Duration::from_secs(240);

pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// One process. Killed when dropped.
pub struct Engine {
    child: Child,
    log: PathBuf,
    summary: PathBuf,
}

impl Engine {
    /// Starts `kaminari run` with this configuration, in `dir`, under a name of its own there.
    pub fn start(dir: &Path, name: &str, config: &str) -> Self {
        let path = |end: &str| dir.join(format!("{name}.{end}"));
        std::fs::write(path("toml"), config).unwrap();
        let log = File::options().create(true).append(true).open(path("log")).unwrap();
        let mut command = kaminari();
        command.args(["--log-format", "text", "--color", "never", "run", "--summary"]).arg(path("json"));
        command.arg("-c").arg(path("toml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self { child: command.spawn().unwrap(), log: path("log"), summary: path("json") }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log has this text.
    pub fn says(&mut self, text: &str) {
        wait_for(&format!("the line {text:?}"), || {
            let log = self.log();
            if log.contains(text) {
                return Some(());
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the engine has ended: {log}");
            None
        });
    }

    /// As a machine that hangs does: nothing runs until `go_on`.
    pub fn hang(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = std::process::Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// As a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As an operator does: SIGTERM, and waits. What it counted.
    pub fn stop(self) -> Value {
        self.signal("-TERM");
        self.ended()
    }

    /// Waits for its end. What it counted.
    pub fn ended(mut self) -> Value {
        let status = wait_for("the end of the process", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.log());
        serde_json::from_str(&std::fs::read_to_string(&self.summary).unwrap()).unwrap()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Fails when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.log());
        }
    }
}

/// The sum of a counter over all its labels, of those that contain `label`.
pub fn counted(summary: &Value, name: &str, label: &str) -> f64 {
    let counters = summary["counters"].as_object().unwrap();
    let has = |key: &str| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
    counters.iter().filter(|(k, _)| has(k) && k.contains(label)).fold(0.0, |sum, (_, v)| sum + v.as_f64().unwrap())
}

/// What a detector reads and where it tells.
pub struct Detector<'a> {
    pub brokers: &'a str,
    pub topic: &'a str,
    pub group: &'a str,
    pub incidents: &'a str,
    /// More keys of the source.
    pub source: &'a str,
    /// More keys of the sink.
    pub sink: &'a str,
    pub state_dir: &'a Path,
}

impl Detector<'_> {
    /// Flow records of a topic, limits on hosts and prefixes, incidents to another topic.
    pub fn config(&self) -> String {
        let Self { brokers, topic, group, incidents, source, sink, state_dir } = self;
        format!(
            "[engine]
             state_dir = {state_dir:?}

             [sources.flows]
             type = \"kafka\"
             brokers = [{brokers:?}]
             topics = [{topic:?}]
             group = {group:?}
             start = \"earliest\"
             {source}

             [plugins.threshold]
             path = {:?}

             [detectors.limits]
             plugin = \"threshold\"
             config = {{ limits = [ {{ name = \"packet-flood\", feature = \"packets_per_s\", above = 20000.0 }} ] }}

             [pipelines.ddos]
             sources = [\"flows\"]
             keys = [\"dst_addr\", \"dst_prefix\"]
             features = [\"packets_per_s\", \"bits_per_s\", \"uniq_src\", \"rel_packets\"]
             window = {{ type = \"sliding\", size_secs = 10, event_time = \"end\", idle_timeout_secs = 3 }}
             incident = {{ close_after_windows = 5 }}
             detectors = [\"limits\"]
             sinks = [\"out\"]

             [sinks.out]
             type = \"kafka\"
             brokers = [{brokers:?}]
             topic = {incidents:?}
             {sink}",
            plugin("threshold")
        )
    }
}

/// Incident events in a topic that no transaction has taken back, without what differs from run to run.
pub fn events(brokers: &str, topic: &str) -> Vec<Value> {
    let read = kafka::consume_all(brokers, topic, true);
    let mut events: Vec<Value> = read
        .iter()
        .map(|m| {
            let mut event: Value = serde_json::from_slice(&m.payload).unwrap();
            let fields = event.as_object_mut().unwrap();
            // When it was said, and by which configuration (another group, another topic).
            assert!(fields.remove("emitted_at").is_some() && fields.remove("plan_digest").is_some());
            event
        })
        .collect();
    events.sort_by_key(Value::to_string);
    events
}

/// Waits until every incident is closed and nothing more comes. What is told twice counts once.
pub fn settled(brokers: &str, topic: &str, at_least: usize) -> Vec<Value> {
    let mut last = (Instant::now(), 0);
    wait_for("all incidents to close", || {
        let now = events(brokers, topic);
        let of = |kind: &str| {
            let ids = now.iter().filter(|e| e["event"] == kind).map(|e| e["incident_id"].to_string());
            ids.collect::<BTreeSet<_>>()
        };
        if now.len() != last.1 {
            last = (Instant::now(), now.len());
        }
        let quiet = last.0.elapsed() > Duration::from_secs(5);
        let (open, close) = (of("open"), of("close"));
        (quiet && open.len() >= at_least && open.is_subset(&close)).then_some(now)
    })
}
