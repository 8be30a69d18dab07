//! `kaminari run` as an operator meets it: flows over loopback UDP in, incidents into a file while it runs, HTTP, rubbish
//! on the port, signals, exit codes.

use crate::summary::Summary;
use kaminari_tests::{kaminari, plugin, run};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes that long; a test that waits for more is stuck.
const PATIENCE: Duration = Duration::from_secs(90);

pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A child that does not outlive its test.
pub struct Running(Child);

impl Running {
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the end of the process", || self.0.try_wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running engine in a folder of its own, on ports that the system chose.
pub struct Engine {
    child: Running,
    dir: tempfile::TempDir,
    pub udp: SocketAddr,
    api: SocketAddr,
}

/// One limit on the packets of a host; `pipeline` is the rest of the pipeline's table.
pub fn config(udp: &str, api: &str, pipeline: &str) -> String {
    format!(
        "[api]
         listen = {api:?}

         [sources.edge]
         type = \"udp\"
         listen = {udp:?}
         receive_buffer_bytes = 4194304
         decode = {{ allow = [\"127.0.0.0/27\"] }}

         [plugins.threshold]
         path = {:?}

         [detectors.host-limits]
         plugin = \"threshold\"
         config = {{ limits = [ {{ name = \"packet-flood\", feature = \"packets_per_s\", above = 50000.0 }} ] }}

         [sinks.file]
         type = \"file\"
         path = \"incidents.jsonl\"

         [pipelines.ddos]
         sources = [\"edge\"]
         keys = [\"dst_addr\"]
         features = [\"packets_per_s\", \"uniq_src\"]
         detectors = [\"host-limits\"]
         sinks = [\"file\"]
         {pipeline}",
        plugin("threshold")
    )
}

impl Engine {
    fn start(pipeline: &str) -> Self {
        Self::launch(&config("127.0.0.1:0", "127.0.0.1:0", pipeline))
    }

    /// A configuration with an api, a udp source and the incidents in `incidents.jsonl`.
    pub fn launch(config: &str) -> Self {
        Self::launch_with(config, &[])
    }

    /// The same with more arguments of `run`.
    pub fn launch_with(config: &str, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config_path = dir.path().join("kaminari.toml");
        std::fs::write(&config_path, config).unwrap();
        let log = dir.path().join("log");
        let mut command = kaminari();
        command
            .args(["--log-format", "text", "--color", "never", "run", "--summary"])
            .arg(dir.path().join("summary.json"));
        command.args(args).arg("-c").arg(config_path).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = Running(command.stderr(File::create(&log).unwrap()).spawn().unwrap());
        let text = || std::fs::read_to_string(&log).unwrap();
        wait_for("the engine", || {
            if let Some(status) = child.0.try_wait().unwrap() {
                panic!("the engine ended at once ({status}): {}", text());
            }
            text().contains("running after").then_some(())
        });
        let address = |before: &str| {
            let text = text();
            let rest = text.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {text}")).1;
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        let (udp, api) = (address("listening on udp "), address("api on http://"));
        Self { child, dir, udp, api }
    }

    /// Of its HTTP surface.
    pub fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// Status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.api).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Incident events so far; a line that is still being written does not count.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("incidents.jsonl")).unwrap();
        text.split_inclusive('\n').filter(|l| l.ends_with('\n')).map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    pub fn event(&mut self, event: &str) -> serde_json::Value {
        wait_for(&format!("an event {event}"), || {
            assert!(self.child.0.try_wait().unwrap().is_none(), "the engine ended");
            self.events().into_iter().find(|e| e["event"] == event)
        })
    }

    pub fn terminate(&mut self) -> ExitStatus {
        // Twice, as `timeout` and many supervisors do: the process and then its group. That is one request.
        let kill = format!("kill -TERM {0} && kill -TERM {0}; true", self.child.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        self.child.wait()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Labelled traffic from 127.0.0.11 and up.
    pub fn traffic(&self, args: &[&str]) -> Running {
        let mut command = kaminari();
        command.args(["generate", "flows", "--hosts", "500", "--truth"]).arg(self.path("truth.jsonl"));
        command.arg("--udp").arg(self.udp.to_string()).args(args).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }
}

/// What strangers and broken exporters send. Returns how many datagrams of each kind: noise (no version that exists), too
/// short for a header, a count or length that lies, too large, strangers.
fn rubbish(to: SocketAddr, round: u64) -> [u64; 5] {
    let known = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stranger = UdpSocket::bind("127.0.0.99:0").unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ round;
    for len in (2..1400).step_by(14) {
        let mut noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(len)
        .collect();
        noise[0] |= 0x80;
        known.send_to(&noise, to).unwrap();
    }
    let v9: Vec<u8> = [0, 9, 0, 1].into_iter().chain([0; 16]).collect();
    for len in 0..v9.len() {
        known.send_to(&v9[..len], to).unwrap();
    }
    let v5: Vec<u8> = [0, 5, 0, 30].into_iter().chain([0; 20]).collect();
    let ipfix: Vec<u8> = [0, 10, 0, 8].into_iter().chain([0; 12]).collect();
    for lie in [&v5, &ipfix] {
        known.send_to(lie, to).unwrap();
    }
    known.send_to(&[9; 20_000], to).unwrap();
    // What strangers send is well formed: one record.
    let v5: Vec<u8> = [0, 5, 0, 1].into_iter().chain([0; 20 + 48]).collect();
    for _ in 0..10 {
        stranger.send_to(&v5, to).unwrap();
    }
    [(2..1400).step_by(14).count() as u64, v9.len() as u64, 2, 1, 10]
}

#[test]
fn an_attack_is_told_while_rubbish_comes_in_and_sigterm_drains() {
    let window = "window = { type = \"sliding\", size_secs = 2 }\nincident = { open_after = \"1/1\", close_after_windows = 600 }";
    let mut engine = Engine::start(window);
    assert_eq!(engine.get("/readyz"), (200, "{\"ready\":true}\n".into()));
    assert_eq!(engine.get("/livez").0, 200);
    assert_eq!(engine.get("/nothing").0, 404);

    let attack = "udp-amplification@2+4:target=198.18.7.7,fps=1000";
    let mut generate = engine.traffic(&["--seconds", "8", "--rate", "2000", "--attack", attack]);
    let mut sent = [0; 5];
    let mut round = 0;
    let status = loop {
        if let Some(status) = generate.0.try_wait().unwrap() {
            break status;
        }
        if round < 20 {
            round += 1;
            sent.iter_mut().zip(rubbish(engine.udp, round)).for_each(|(sum, n)| *sum += n);
        }
        std::thread::sleep(Duration::from_millis(100));
        assert!(engine.child.0.try_wait().unwrap().is_none(), "{}", engine.log());
    };
    assert!(status.success());
    let open = engine.event("open");
    assert_eq!((&open["entity"]["value"], &open["kind"]), (&"198.18.7.7".into(), &"packet-flood".into()));

    let version: serde_json::Value = serde_json::from_str(&engine.get("/version").1).unwrap();
    assert_eq!(version["plan_digest"], open["plan_digest"]);
    let (status, metrics) = engine.get("/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("# TYPE kaminari_decode_flows_total counter"), "{metrics}");
    assert!(metrics.contains("kaminari_incidents_open{pipeline=\"ddos\"} 1"), "{metrics}");

    // A second engine on the same port must not take half of the datagrams.
    let second = engine.path("second.toml");
    std::fs::write(&second, config(&engine.udp.to_string(), "127.0.0.1:0", window)).unwrap();
    let output = run(["run".as_ref(), "-c".as_ref(), second.as_os_str()]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("edge") && stderr.contains(&engine.udp.to_string()), "{stderr}");
    assert!(stderr.to_lowercase().contains("address already in use"), "{stderr}");

    assert_eq!(engine.terminate().code(), Some(0), "{}", engine.log());
    let events = engine.events();
    assert!(events.iter().all(|e| e["entity"]["value"] == "198.18.7.7"), "a benign host was alarmed: {events:#?}");
    assert_eq!(events.iter().filter(|e| e["event"] == "open").count(), 1);
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["close_reason"]), (&"close".into(), &"shutdown".into()));
    assert_eq!(last["incident_id"], open["incident_id"]);

    let truth = std::fs::read_to_string(engine.path("truth.jsonl")).unwrap();
    let truth: Vec<serde_json::Value> = truth.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let exporters = truth.iter().filter(|t| !t["exporter"].is_null());
    let flows: u64 = exporters.map(|t| t["flows"].as_u64().unwrap()).sum();
    let summary = Summary::read(&engine.path("summary.json"));
    assert!(flows > 15_000, "{flows}");
    for metric in ["kaminari_decode_flows_total", "kaminari_window_records_total"] {
        assert_eq!(summary.total(metric), flows as f64, "{metric}");
    }
    for metric in [
        "kaminari_source_socket_dropped_total",
        "kaminari_source_shed_datagrams_total",
        "kaminari_decode_sequence_gap_total",
    ] {
        assert_eq!(summary.total(metric), 0.0, "{metric}");
    }
    let errors = |reason: &str| {
        summary.value(&format!("kaminari_decode_errors_total{{component_id=\"edge\",reason=\"{reason}\"}}")) as u64
    };
    let refused = |reason: &str| {
        summary.value(&format!("kaminari_source_refused_total{{component_id=\"edge\",reason=\"{reason}\"}}")) as u64
    };
    let counted = [
        errors("unsupported_version"),
        errors("short_header"),
        errors("bad_count") + errors("bad_length"),
        refused("truncated"),
        refused("not_allowed"),
    ];
    assert_eq!(counted, sent);
    assert_eq!(summary.total("kaminari_decode_errors_total") as u64, sent[..3].iter().sum::<u64>(), "nothing else");
    every_metric_is_in_the_catalogue(&summary);
}

fn every_metric_is_in_the_catalogue(summary: &Summary) {
    use kaminari::telemetry::{CATALOGUE, MetricKind};
    let mut seen = 0;
    for (series, _) in summary.counters() {
        let name = series.split('{').next().unwrap();
        let known = CATALOGUE.iter().find(|metric| match metric.kind {
            MetricKind::Histogram => {
                name.strip_prefix(metric.name).is_some_and(|s| ["_bucket", "_sum", "_count"].contains(&s))
            }
            _ => metric.name == name,
        });
        let Some(known) = known else { panic!("{series} is not in the catalogue") };
        let labels = series.split_once('{').map_or("", |(_, labels)| labels);
        for label in labels.split("\",").filter_map(|pair| Some(pair.split_once("=\"")?.0)) {
            assert!(known.labels.contains(&label) || label == "le", "{series}: {label} is not in the catalogue");
        }
        seen += 1;
    }
    assert!(seen > 30, "only {seen} series");
}

/// In the exporters' time nothing moves without records; the idle timeout lets the last windows out all the same.
#[test]
fn when_traffic_stops_the_last_windows_still_come_out() {
    let mut engine = Engine::start(
        "window = { type = \"tumbling\", size_secs = 1, event_time = \"end\", out_of_order_secs = 1, idle_timeout_secs = 1 }
         incident = { open_after = \"1/1\", close_after_windows = 3 }",
    );
    let attack = "udp-amplification@0+2:target=198.18.7.7,fps=500";
    assert!(engine.traffic(&["--seconds", "2", "--rate", "200", "--attack", attack]).wait().success());
    let close = engine.event("close");
    assert_eq!((&close["entity"]["value"], &close["close_reason"]), (&"198.18.7.7".into(), &"quiet".into()));
    assert_eq!(engine.terminate().code(), Some(0), "{}", engine.log());
    let summary = Summary::read(&engine.path("summary.json"));
    assert_eq!(summary.total("kaminari_window_late_records_total"), 0.0);
}

#[test]
fn what_cannot_start_says_so_with_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kaminari.toml");
    let start = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let output = run(["run".as_ref(), "-c".as_ref(), path.as_os_str()]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let window = "window = { type = \"sliding\", size_secs = 2 }";
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let keep = TcpListener::bind(taken).unwrap();
    let (code, stderr) = start(&config("127.0.0.1:0", &taken.to_string(), window));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(&format!("api cannot listen on {taken}")), "{stderr}");
    drop(keep);

    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, stderr) = start(&config(&address, "127.0.0.1:0", window));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(&address) && stderr.contains("[sources.edge]"), "{stderr}");

    let (code, stderr) = start("[pipelines.p]\nsource = []\n");
    assert_eq!(code, Some(78), "{stderr}");
    assert_eq!(run(["run", "-c", "/nowhere/kaminari.toml"]).status.code(), Some(78));
    assert_eq!(run(["run"]).status.code(), Some(2));
    assert_eq!(run(["run", "--colour"]).status.code(), Some(2));
}
