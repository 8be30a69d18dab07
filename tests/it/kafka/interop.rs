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
        // It has children of its own, which it ends when it is asked to end.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
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

/// The same traffic as often as it is asked for, from now on.
struct Traffic {
    start: String,
}

impl Traffic {
    fn now() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let date = Command::new("date").args(["-u", "-d", &format!("@{now}"), "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
        Self { start: String::from_utf8(date.stdout).unwrap().trim().to_owned() }
    }

    /// `to`: `--udp` and where, or `--pcap` and the file.
    fn make(&self, to: [&str; 2]) {
        let stream = ["--seconds", "4", "--rate", "300", "--hosts", "50", "--start", &self.start];
        rows::generate(&[&stream[..], &to].concat());
    }

    /// The rows that the engine makes of it by itself.
    fn direct(&self, brokers: &str, dir: &Path) -> (Rows, u64) {
        let pcap = dir.join("flows.pcap");
        self.make(["--pcap", pcap.to_str().unwrap()]);
        let (rows, flows) = rows::of_capture(brokers, dir, &pcap, WINDOW);
        assert!(flows > 1000 && rows.len() > 100, "{flows} flows, {} rows", rows.len());
        (rows, flows)
    }
}

/// nfacctd tells its cache in no order of time, and so does GoFlow2, whose datagrams are decoded side by side.
const WINDOW: &str =
    "type = \"tumbling\", size_secs = 1, event_time = \"end\", out_of_order_secs = 7, idle_timeout_secs = 3";

/// An engine that reads a collector's topic.
struct Reader {
    engine: Engine,
    to: String,
}

impl Reader {
    fn start(brokers: &str, dir: &Path, topic: &str, format: &str) -> Self {
        let (to, group) = (kafka::unique("rows"), kafka::unique("group"));
        kafka::create_topic(brokers, &to, 1);
        let source = rows::source(brokers, topic, &group, format, "");
        let mut engine = Engine::start(dir, topic, &rows::config(brokers, &source, WINDOW, &to));
        engine.says("reads ");
        Self { engine, to }
    }

    /// Waits for all rows and compares.
    fn agrees(self, brokers: &str, (expected, flows): &(Rows, u64)) {
        let found = rows::of_flows(brokers, &self.to, *flows);
        let summary = self.engine.stop();
        rows::assert_same(&found, expected);
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

/// As docs/formats.md has it, with two plugins that write the same records in different forms.
fn nfacctd_conf(brokers: &str, port: u16, plain: &str, other: &str) -> String {
    let (host, broker_port) = first(brokers);
    let mut conf = format!("daemonize: false\nnfacctd_ip: 127.0.0.1\nnfacctd_port: {port}\nplugins: kafka[a], kafka[b]\n");
    for (name, topic) in [("a", plain), ("b", other)] {
        conf += &format!("kafka_output[{name}]: json\nkafka_broker_host[{name}]: {host}\n");
        conf += &format!("kafka_broker_port[{name}]: {broker_port}\nkafka_topic[{name}]: {topic}\n");
        conf += &format!("kafka_refresh_time[{name}]: 1\n");
        conf += &format!(
            "aggregate[{name}]: src_host, dst_host, src_port, dst_port, proto, tcpflags, tos, in_iface, out_iface, peer_src_ip, sampling_rate, timestamp_start, timestamp_end\n"
        );
    }
    conf + "kafka_markers[a]: true\ntimestamps_since_epoch[b]: true\nkafka_num_protos[b]: true\nkafka_multi_values[b]: 16384\n"
}

#[test]
fn nfacctd_before_kaminari_changes_nothing() {
    const WHAT: &str = "nfacctd before kaminari";
    let Some(brokers) = kafka::brokers(WHAT) else { return };
    let Some(nfacctd) = tool(WHAT, "nfacctd", "KAMINARI_TEST_NFACCTD") else { return };
    let version = Command::new(&nfacctd).arg("-V").output().unwrap();
    if !String::from_utf8_lossy(&version.stdout).lines().any(|line| line == "kafka") {
        println!("SKIPPED: {WHAT}: {} was built without Kafka", nfacctd.display());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [plain, other] = ["pmacct-names", "pmacct-numbers"].map(kafka::unique);
    [&plain, &other].map(|topic| kafka::create_topic(&brokers, topic, 1));
    let readers = [&plain, &other].map(|topic| Reader::start(&brokers, dir.path(), topic, "pmacct"));
    let port = free_udp_port();
    let conf = dir.path().join("nfacctd.conf");
    std::fs::write(&conf, nfacctd_conf(&brokers, port, &plain, &other)).unwrap();
    let mut command = Command::new(nfacctd);
    command.arg("-f").arg(&conf);
    let collector = Collector::start(command, dir.path().join("nfacctd.log"), port);
    let traffic = Traffic::now();
    traffic.make(["--udp", &format!("127.0.0.1:{port}")]);
    let expected = traffic.direct(&brokers, dir.path());
    for reader in readers {
        reader.agrees(&brokers, &expected);
    }
    drop(collector);
    // They are what they are meant to be.
    let text = |topic: &str| -> Vec<String> {
        kafka::consume_all(&brokers, topic, true).into_iter().map(|m| String::from_utf8(m.payload).unwrap()).collect()
    };
    let (plain, other) = (text(&plain), text(&other));
    assert!(plain.iter().any(|m| m.contains("purge_init")) && plain.iter().any(|m| m.contains("purge_close")));
    assert!(plain.iter().any(|m| m.contains("\"ip_proto\": \"udp\"")), "{}", plain[1]);
    let date = |m: &String| m.contains("\"timestamp_end\": \"20");
    assert!(plain.iter().any(date) && !other.iter().any(date), "{}", other[0]);
    assert!(other.iter().any(|m| m.trim().contains('\n')), "several in a message: {}", other[0]);
}

fn goflow2_before_kaminari(format: &str, ours: &str) {
    let what = format!("GoFlow2 ({format}) before kaminari");
    let Some(brokers) = kafka::brokers(&what) else { return };
    let Some(goflow2) = tool(&what, "goflow2", "KAMINARI_TEST_GOFLOW2") else { return };
    let dir = tempfile::tempdir().unwrap();
    let topic = kafka::unique("goflow2");
    kafka::create_topic(&brokers, &topic, 1);
    let reader = Reader::start(&brokers, dir.path(), &topic, ours);
    let port = free_udp_port();
    let mut command = Command::new(goflow2);
    // One worker: a template and the data behind it stay in order.
    command.args(["-listen", &format!("netflow://127.0.0.1:{port}?count=1&workers=1"), "-addr", "127.0.0.1:0"]);
    command.args(["-transport", "kafka", "-transport.kafka.brokers", &brokers, "-transport.kafka.topic", &topic]);
    command.args(["-transport.kafka.flushfreq", "100ms", "-format", format]);
    let collector = Collector::start(command, dir.path().join("goflow2.log"), port);
    let traffic = Traffic::now();
    traffic.make(["--udp", &format!("127.0.0.1:{port}")]);
    reader.agrees(&brokers, &traffic.direct(&brokers, dir.path()));
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
