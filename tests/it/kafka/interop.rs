//! Other collectors before a topic: nfacctd and GoFlow2, as their users run them, get NetFlow from exporters and write what
//! they write; the engine's rows of features are those that it makes of the same NetFlow without them.

use super::engine::{Engine, counted, wait_for};
use super::rows::{self, Rows};
use kaminari_tests::{free_udp_port, kafka, tool};
use std::fs::File;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A collector's process. Ended when dropped.
struct Collector {
    child: Child,
    log: PathBuf,
    port: u16,
}

impl Collector {
    /// Starts it and waits until it listens on the port.
    fn start(mut command: Command, log: PathBuf, port: u16) -> Self {
        let out = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        // Its times of day are in its machine's zone.
        let child = command.env("TZ", "UTC").spawn().unwrap();
        let mut collector = Self { child, log, port };
        wait_for("the collector to listen", || {
            let ended = collector.child.try_wait().unwrap();
            assert!(ended.is_none(), "the collector has ended: {}", collector.log());
            // Nobody else can have it then.
            UdpSocket::bind(("127.0.0.1", port)).is_err().then_some(())
        });
        collector
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the collector on port {} says: {}", self.port, self.log());
        }
        // It has children of its own, which it ends when it is asked to end. nfacctd hears SIGTERM only when datagrams come.
        let _ = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same traffic as often as it is asked for: four seconds that end in the past.
struct Traffic {
    exporters: &'static str,
    window: String,
}

/// Two seconds after the begin of any window of 8 seconds, and two before its end.
const START: &str = "2026-06-01T00:00:02Z";

impl Traffic {
    /// Windows of so many seconds. Collectors do not write in order of time.
    fn of(exporters: &'static str, window_secs: u32) -> Self {
        let order = "event_time = \"end\", out_of_order_secs = 6, idle_timeout_secs = 3";
        Self { exporters, window: format!("type = \"tumbling\", size_secs = {window_secs}, {order}") }
    }

    /// `to`: `--udp` and where, or `--pcap` and the file.
    fn make(&self, to: [&str; 2]) {
        let stream = ["--seconds", "4", "--rate", "300", "--hosts", "50", "--sampling", "10", "--start", START];
        let attack = ["--attack", "syn-flood@1+2:target=203.0.113.7,pps=20000,fps=100"];
        rows::generate(&[&stream[..], &attack, &["--exporters", self.exporters], &to].concat());
    }

    /// What a collector gets that listens on this port.
    fn send(&self, port: u16) {
        self.make(["--udp", &format!("127.0.0.1:{port}")]);
    }

    /// The rows that the engine makes of it by itself.
    fn direct(&self, brokers: &str, dir: &Path) -> (Rows, u64) {
        let pcap = dir.join("flows.pcap");
        self.make(["--pcap", pcap.to_str().unwrap()]);
        let (rows, flows) = rows::of_capture(brokers, dir, &pcap, &self.window);
        assert!(flows > 500 && rows.len() > 20, "{flows} flows, {} rows", rows.len());
        assert!(rows.values().any(|row| row["syn_share"].as_f64() > Some(0.9)));
        (rows, flows)
    }
}

/// An engine that reads a collector's topic.
struct Reader {
    engine: Engine,
    to: String,
}

impl Reader {
    fn start(brokers: &str, dir: &Path, topic: &str, format: &str, traffic: &Traffic) -> Self {
        let (to, group) = (kafka::unique("rows"), kafka::unique("group"));
        kafka::create_topic(brokers, &to, 1);
        let source = rows::source(brokers, topic, &group, format, "");
        let mut engine = Engine::start(dir, topic, &rows::config(brokers, &source, &traffic.window, &to));
        engine.says("reads ");
        Self { engine, to }
    }

    /// Waits for all rows and compares, but for the features that the collector is known to lose.
    fn agrees(self, brokers: &str, (expected, flows): &(Rows, u64), lost: &[&str]) {
        let found = rows::of_flows(brokers, &self.to, *flows);
        let summary = self.engine.stop();
        let kept = |mut rows: Rows| {
            rows.values_mut().for_each(|row| row.retain(|name, _| !lost.contains(&name.as_str())));
            rows
        };
        rows::assert_same(&kept(found), &kept(expected.clone()));
        for name in ["kaminari_decode_errors_total", "kaminari_window_late_records_total"] {
            assert_eq!(counted(&summary, name, ""), 0.0, "{name}: {summary}");
        }
        assert_eq!(counted(&summary, "kaminari_decode_flows_total", "") as u64, *flows);
    }
}

/// The first of the brokers: host, port.
fn first(brokers: &str) -> (&str, &str) {
    brokers.split(',').next().unwrap().rsplit_once(':').unwrap()
}

/// As docs/formats.md has it. Each plugin writes the same records, to a topic and in forms of its own.
fn nfacctd_conf(brokers: &str, port: u16, plugins: &[(&str, &str)]) -> String {
    let (host, broker_port) = first(brokers);
    let names: Vec<String> = (0..plugins.len()).map(|n| format!("kafka[p{n}]")).collect();
    let mut conf =
        format!("daemonize: false\nnfacctd_ip: 127.0.0.1\nnfacctd_port: {port}\nplugins: {}\n", names.join(", "));
    for (n, (topic, forms)) in plugins.iter().enumerate() {
        let keys = [
            "kafka_output: json",
            &format!("kafka_broker_host: {host}"),
            &format!("kafka_broker_port: {broker_port}"),
            &format!("kafka_topic: {topic}"),
            "kafka_refresh_time: 1",
            "aggregate: src_host, dst_host, src_port, dst_port, proto, tcpflags, tos, in_iface, out_iface, peer_src_ip, sampling_rate, timestamp_start, timestamp_end",
        ];
        for line in keys.into_iter().chain(forms.split_terminator(';')) {
            let (key, value) = line.split_once(": ").unwrap();
            conf += &format!("{key}[p{n}]: {value}\n");
        }
    }
    conf
}

/// nfacctd between exporters and engines, one engine for each of its plugins (their forms). What it wrote.
fn nfacctd_before_kaminari(what: &str, traffic: &Traffic, forms: &[&str], lost: &[&str]) -> Option<Vec<String>> {
    let brokers = kafka::brokers(what)?;
    let nfacctd = tool(what, "nfacctd", "KAMINARI_TEST_NFACCTD")?;
    let version = Command::new(&nfacctd).arg("-V").output().unwrap();
    if !String::from_utf8_lossy(&version.stdout).lines().any(|line| line == "kafka") {
        println!("SKIPPED: {what}: {} was built without Kafka", nfacctd.display());
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let topics: Vec<String> = forms.iter().map(|_| kafka::unique("pmacct")).collect();
    topics.iter().for_each(|topic| kafka::create_topic(&brokers, topic, 1));
    let start = |topic| Reader::start(&brokers, dir.path(), topic, "pmacct", traffic);
    let readers: Vec<Reader> = topics.iter().map(|topic| start(topic)).collect();
    let port = free_udp_port();
    let conf = dir.path().join("nfacctd.conf");
    let plugins: Vec<_> = topics.iter().map(String::as_str).zip(forms.iter().copied()).collect();
    std::fs::write(&conf, nfacctd_conf(&brokers, port, &plugins)).unwrap();
    let mut command = Command::new(nfacctd);
    command.arg("-f").arg(&conf);
    let collector = Collector::start(command, dir.path().join("nfacctd.log"), port);
    traffic.send(port);
    let expected = traffic.direct(&brokers, dir.path());
    readers.into_iter().for_each(|reader| reader.agrees(&brokers, &expected, lost));
    drop(collector);
    let text = |topic: &String| -> String {
        let all = kafka::consume_all(&brokers, topic, true);
        all.into_iter().map(|m| String::from_utf8(m.payload).unwrap() + "\0").collect()
    };
    Some(topics.iter().map(text).collect())
}

#[test]
fn nfacctd_with_ipfix_changes_nothing() {
    let forms = [
        "kafka_markers: true",
        "timestamps_since_epoch: true;kafka_num_protos: true;kafka_multi_values: 16384",
        "timestamps_rfc3339: true",
    ];
    let traffic = Traffic::of("ipfix", 1);
    // Of TCP flags in two bytes, as IANA has them, pmacct 1.7.7 takes the first, which is 0.
    let lost = ["syn_share"];
    let written = nfacctd_before_kaminari("nfacctd with IPFIX before kaminari", &traffic, &forms, &lost);
    let Some(written) = written else { return };
    // They are what they are meant to be.
    let has = |n: usize, text: &str| assert!(written[n].contains(text), "{text} in {:.3000}", written[n]);
    let (date, tcp) = ("\"timestamp_end\": \"2026-06-01 00:00:0", "\"ip_proto\": \"tcp\"");
    [date, tcp, "\"purge_init\"", "\"purge_close\""].iter().for_each(|text| has(0, text));
    ["\"timestamp_end\": \"178", "\"ip_proto\": \"6\"", "}\n{"].iter().for_each(|text| has(1, text));
    has(2, "\"timestamp_end\": \"2026-06-01T00:00:0");
}

/// pmacct makes whole seconds of the times of v5 and v9: of a window that holds them all nothing is lost.
#[test]
fn nfacctd_with_netflow_changes_nothing() {
    let forms = ["", "timestamps_since_epoch: true"];
    nfacctd_before_kaminari("nfacctd with NetFlow v5 and v9 before kaminari", &Traffic::of("v5,v9", 8), &forms, &[]);
}

fn goflow2_before_kaminari(format: &str, ours: &str) {
    let what = format!("GoFlow2 ({format}) before kaminari");
    let Some(brokers) = kafka::brokers(&what) else { return };
    let Some(goflow2) = tool(&what, "goflow2", "KAMINARI_TEST_GOFLOW2") else { return };
    let dir = tempfile::tempdir().unwrap();
    let topic = kafka::unique("goflow2");
    kafka::create_topic(&brokers, &topic, 1);
    let traffic = Traffic::of("v5,v9,ipfix", 1);
    let reader = Reader::start(&brokers, dir.path(), &topic, ours, &traffic);
    let port = free_udp_port();
    let mut command = Command::new(goflow2);
    // One worker: a template and the data behind it stay in order.
    command.args(["-listen", &format!("netflow://127.0.0.1:{port}?count=1&workers=1"), "-addr", "127.0.0.1:0"]);
    command.args(["-transport", "kafka", "-transport.kafka.brokers", &brokers, "-transport.kafka.topic", &topic]);
    command.args(["-transport.kafka.flushfreq", "100ms", "-format", format]);
    let collector = Collector::start(command, dir.path().join("goflow2.log"), port);
    traffic.send(port);
    reader.agrees(&brokers, &traffic.direct(&brokers, dir.path()), &[]);
    drop(collector);
}

#[test]
fn goflow2_in_protobuf_before_kaminari_changes_nothing() {
    goflow2_before_kaminari("bin", "goflow2");
}

#[test]
fn goflow2_in_json_before_kaminari_changes_nothing() {
    goflow2_before_kaminari("json", "goflow2_json");
}
