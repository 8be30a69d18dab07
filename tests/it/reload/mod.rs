//! A running engine takes up another configuration, as an operator has it: files are changed, HTTP and signals ask, and what
//! comes out is looked at.

mod attack;
mod configmap;
mod kafka;
mod leaves;
mod log;
mod neighbours;
mod rows;
mod shadow;
mod sources;
mod state;
mod steps;
mod storm;
mod streams;

use kaminari_tests::{kaminari, plugin};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nothing here takes that long; a test that waits for more is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running engine with its configuration in `kaminari.toml` of a folder of its own. Killed when dropped.
struct Engine {
    child: Child,
    dir: PathBuf,
    api: SocketAddr,
}

impl Engine {
    /// Starts it; `args` are further ones of `run`.
    fn start(dir: &Path, config: &str, args: &[&str]) -> Self {
        let path = dir.join("kaminari.toml");
        std::fs::write(&path, config).unwrap();
        Self::start_with(dir, &path, args)
    }

    fn start_with(dir: &Path, config: &Path, args: &[&str]) -> Self {
        let log = dir.join("log");
        let mut command = kaminari();
        command.args(["--log-format", "text", "--color", "never", "run", "--summary"]).arg(dir.join("summary.json"));
        command.arg("-c").arg(config).args(args).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        let text = || std::fs::read_to_string(&log).unwrap();
        wait_for("the engine", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the engine ended at once ({status}): {}", text());
            }
            text().contains("running after").then_some(())
        });
        let text = text();
        let at = text.split_once("api on http://").unwrap_or_else(|| panic!("no api: {text}")).1;
        let api = at.split_whitespace().next().unwrap().parse().unwrap();
        Self { child, dir: dir.to_owned(), api }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }

    /// Where a source listens, as last told.
    fn listens(&self, source: &str) -> SocketAddr {
        let log = self.log();
        let told = log.lines().rev().find(|l| l.contains("listening on ") && l.contains(&format!("{source:?}")));
        let told = told.unwrap_or_else(|| panic!("{source} does not listen: {log}"));
        told.split_once("listening on ").unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// As editors do it.
    fn write(&self, config: &str) {
        let aside = self.dir.join("kaminari.toml.new");
        std::fs::write(&aside, config).unwrap();
        std::fs::rename(aside, self.dir.join("kaminari.toml")).unwrap();
    }

    fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        let (status, body) = self.ask_text(method, path);
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    fn ask_text(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.api).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// A new configuration, by request.
    fn reload(&self, config: &str) -> (u16, Value) {
        self.write(config);
        self.ask("POST", "/-/reload")
    }

    /// The same, which must come to be.
    fn becomes(&self, config: &str) -> Value {
        let (status, report) = self.reload(config);
        assert_eq!((status, &report["outcome"]), (200, &"applied".into()), "{report:#}\n{}", self.log());
        report
    }

    /// The newest of at least so many reports with this outcome. What a reload moves (plan, metrics, log) is there before
    /// its report is, but not all at once: who waits for one of them must not yet ask for another.
    fn reported(&self, outcome: &str, at_least: usize) -> Value {
        wait_for(&format!("{at_least} reports of a reload that was {outcome}"), || {
            let mut all = self.ask("GET", "/api/v1/reloads").1.as_array().unwrap().clone();
            all.retain(|report| report["outcome"] == outcome);
            (all.len() >= at_least).then(|| all.swap_remove(0))
        })
    }

    /// Digest of the plan in force.
    fn digest(&self) -> String {
        self.ask("GET", "/version").1["plan_digest"].as_str().unwrap().to_owned()
    }

    /// Sum of a metric over the series whose labels contain all of these.
    fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.ask_text("GET", "/metrics").1;
        let series = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|r| r.starts_with('{') || r.starts_with(' ')) && labels.iter().all(|l| line.contains(l))
        };
        text.lines().filter(series).map(|l| l.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }

    /// Events of incidents so far, without the lines about reloads; a line that is still being written does not count.
    fn events(&self) -> Vec<Value> {
        self.lines("incidents.jsonl").into_iter().filter(|e| e["kind"] != "reload").collect()
    }

    /// What the stream of incidents says about reloads.
    fn notices(&self) -> Vec<Value> {
        self.lines("incidents.jsonl").into_iter().filter(|e| e["kind"] == "reload").collect()
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        text.split_inclusive('\n').filter(|l| l.ends_with('\n')).map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    fn signal(&self, signal: &str) {
        let sent = std::process::Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// SIGTERM, and its end. What it counted.
    fn stop(mut self) -> Value {
        self.signal("-TERM");
        let status = wait_for("the end of the process", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.log());
        serde_json::from_str(&std::fs::read_to_string(self.dir.join("summary.json")).unwrap()).unwrap()
    }

    /// Names of its threads.
    fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let mut names: Vec<String> =
            tasks.filter_map(|t| std::fs::read_to_string(t.unwrap().path().join("comm")).ok()).collect();
        names.sort_unstable();
        names
    }

    /// Threads, open files, resident bytes.
    fn holds(&self) -> (usize, usize, u64) {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let count = |what: &str| std::fs::read_dir(proc.join(what)).unwrap().count();
        let pages = std::fs::read_to_string(proc.join("statm")).unwrap();
        (count("task"), count("fd"), pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Fails when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum of a counter in a summary, over all labels that contain `label`.
fn counted(summary: &Value, name: &str, label: &str) -> f64 {
    let counters = summary["counters"].as_object().unwrap();
    let has = |key: &str| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
    counters.iter().filter(|(k, _)| has(k) && k.contains(label)).map(|(_, v)| v.as_f64().unwrap()).sum()
}

/// Flows of one NetFlow v5 datagram.
const PER_DATAGRAM: u64 = 30;

/// One datagram: 30 flows of `packets` packets each, to hosts `198.18.0.1` and up, or all to `target`.
fn datagram(sequence: u32, packets: u32, target: Option<[u8; 4]>) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut out = vec![0, 5, 0, PER_DATAGRAM as u8];
    out.extend(100_000u32.to_be_bytes());
    out.extend((now.as_secs() as u32).to_be_bytes());
    out.extend(now.subsec_nanos().to_be_bytes());
    out.extend(sequence.to_be_bytes());
    out.extend([0; 4]);
    for i in 0..PER_DATAGRAM as u8 {
        out.extend([192, 0, 2, i]);
        out.extend(target.unwrap_or([198, 18, 0, i]));
        out.extend([0; 8]);
        out.extend(packets.to_be_bytes());
        out.extend((packets * 100).to_be_bytes());
        out.extend(99_000u32.to_be_bytes());
        out.extend(99_900u32.to_be_bytes());
        out.extend([0x30, 0x39, 0, 80, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    out
}

/// An exporter that sends steadily, on a thread of its own, until it is told to stop.
struct Exporter {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Exporter {
    /// So many flows a second.
    fn start(to: SocketAddr, flows_per_second: u64, packets: u32, target: Option<[u8; 4]>) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let (begun, mut sequence) = (Instant::now(), 0u32);
            while !until.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * flows_per_second as f64) as u64;
                while count.load(Ordering::Relaxed) < due {
                    socket.send_to(&datagram(sequence, packets, target), to).unwrap();
                    sequence = sequence.wrapping_add(PER_DATAGRAM as u32);
                    count.fetch_add(PER_DATAGRAM, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self { stop, sent, thread: Some(thread) }
    }

    /// Stops. Flows that were sent.
    fn stop(mut self) -> u64 {
        self.end();
        self.sent.load(Ordering::Relaxed)
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|t| t.join().unwrap());
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.end();
    }
}

/// The source `log`: datagrams of NetFlow in a topic, which is the name of the group, too. Keys may follow.
fn log_source(brokers: &str, topic: &str) -> String {
    format!(
        "[sources.log]\ntype = \"kafka\"\nbrokers = [{brokers:?}]\ntopics = [{topic:?}]\ngroup = {topic:?}\n\
         start = \"earliest\"\ncommit_interval_ms = 200\ndecode = {{ format = \"netflow\" }}\n"
    )
}

/// A configuration in parts that tests exchange.
#[derive(Clone)]
struct Config {
    /// More sections.
    more: String,
    api: String,
    /// Keys of the source `edge`.
    source: String,
    plugins: String,
    detectors: String,
    /// Keys of the pipeline `ddos`, without sources, detectors and sinks.
    pipeline: String,
    names: &'static str,
}

impl Config {
    /// One limit on the packets of a host in windows of a second.
    fn limit(above: f64) -> Self {
        Self {
            more: String::new(),
            api: "listen = \"127.0.0.1:0\"".into(),
            source: "listen = \"127.0.0.1:0\"\nreceive_buffer_bytes = 33554432".into(),
            plugins: format!("[plugins.threshold]\npath = {:?}", plugin("threshold")),
            detectors: format!(
                "[detectors.limits]\nplugin = \"threshold\"\n\
                 config = {{ limits = [ {{ name = \"packet-flood\", feature = \"packets_per_s\", above = {above:?} }} ] }}"
            ),
            pipeline: "keys = [\"dst_addr\"]\nfeatures = [\"packets_per_s\"]\n\
                       window = { type = \"tumbling\", size_secs = 1 }\n\
                       incident = { open_after = \"1/1\", close_after_windows = 3 }"
                .into(),
            names: "\"limits\"",
        }
    }

    fn text(&self) -> String {
        let Self { more, api, source, plugins, detectors, pipeline, names } = self;
        format!(
            "[api]\n{api}\n[sources.edge]\ntype = \"udp\"\n{source}\n{plugins}\n{detectors}\n\
             [sinks.file]\ntype = \"file\"\npath = \"incidents.jsonl\"\n\
             [pipelines.ddos]\nsources = [\"edge\"]\ndetectors = [{names}]\nsinks = [\"file\"]\n{pipeline}\n{more}\n"
        )
    }
}
