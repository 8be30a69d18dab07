//! What goes wrong with brokers, rights and topics, as an operator meets it: what is said, what is counted, what happens
//! next. docs/kafka.md has the table.

use super::engine::{Detector, Engine, counted, events, wait_for};
use kaminari_tests::kafka::{self, Resource};
use serde_json::Value;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Librdkafka hears of topics and partitions soon.
const SOON: &str = "client = { \"topic.metadata.refresh.interval.ms\" = 500 }\n";
const KEYED: &str = "keyed = true\ncommit_interval_ms = 200\ndecode = { format = \"jsonl\" }\n";
const SHARED: &str = "commit_interval_ms = 200\ndecode = { format = \"jsonl\" }\n";

struct Case {
    dir: tempfile::TempDir,
    brokers: String,
    topic: String,
    group: String,
    incidents: String,
}

impl Case {
    fn new(brokers: &str, name: &str) -> Self {
        let [topic, group, incidents] =
            ["flows", "group", "incidents"].map(|what| kafka::unique(&format!("{name}-{what}")));
        Self { dir: tempfile::tempdir().unwrap(), brokers: brokers.to_owned(), topic, group, incidents }
    }

    /// The same with topics; that of the incidents has one partition.
    fn with_topics(brokers: &str, name: &str, partitions: i32) -> Self {
        let case = Self::new(brokers, name);
        kafka::create_topic(brokers, &case.topic, partitions);
        kafka::create_topic(brokers, &case.incidents, 1);
        case
    }

    fn config(&self, source: &str, sink: &str) -> String {
        let Self { brokers, topic, group, incidents, .. } = self;
        Detector { brokers, topic, group, incidents, source, sink, state_dir: &self.dir.path().join("state") }.config()
    }

    fn start(&self, name: &str, source: &str) -> Engine {
        Engine::start(self.dir.path(), name, &self.config(source, ""))
    }

    /// Writes a flood of five seconds against `target`, that many seconds from now.
    fn flood(&self, partition: i32, target: &str, seconds_from_now: i64) {
        kafka::produce(&self.brokers, &self.topic, partition, flood(target, seconds_from_now));
    }

    /// The hosts against which incidents were opened, once there are so many.
    fn opened(&self, at_least: usize) -> Vec<String> {
        let mut seen = Vec::new();
        wait_for(&format!("{at_least} incidents"), || {
            let hosts = opened(&self.brokers, &self.incidents);
            if hosts != seen {
                println!("incidents: {hosts:?}");
                seen.clone_from(&hosts);
            }
            (hosts.len() >= at_least).then_some(hosts)
        })
    }
}

fn now_secs() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn flood(target: &str, seconds_from_now: i64) -> Vec<String> {
    let now = now_secs();
    let record = |second: i64| {
        let end = (now + seconds_from_now + second) * 1_000_000_000;
        format!(
            "{{\"time_flow_start_ns\":{end},\"time_flow_end_ns\":{end},\"src_addr\":\"198.51.100.7\",\"dst_addr\":\"{target}\",\"proto\":17,\"packets\":200000,\"bytes\":20000000}}"
        )
    };
    (0..5).map(record).collect()
}

fn opened(brokers: &str, topic: &str) -> Vec<String> {
    let host = |e: &Value| e["event"] == "open" && e["entity"]["kind"] == "dst_addr";
    let mut hosts: Vec<String> = events(brokers, topic)
        .iter()
        .filter(|e| host(e))
        .map(|e| e["entity"]["value"].as_str().unwrap().to_owned())
        .collect();
    hosts.sort();
    hosts
}

fn validate(dir: &Path, config: &str) -> String {
    let path = dir.join("validate.toml");
    std::fs::write(&path, config).unwrap();
    let out = kaminari_tests::run(["--color", "never", "validate", "-c", path.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(78), "{}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8(out.stderr).unwrap()
}

#[test]
fn a_broker_that_is_not_there_is_named_and_tried_again() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let case = Case::new(&format!("127.0.0.1:{port}"), "nobody");
    let mut engine = case.start("engine", KEYED);
    engine.says(&format!("Kafka at 127.0.0.1:{port}"));
    engine.says("check `brokers` and that one of them listens there");
    let summary = engine.stop();
    assert!(counted(&summary, "kaminari_source_errors_total", "unreachable") >= 1.0, "{summary}");
    let told = validate(case.dir.path(), &case.config(KEYED, ""));
    assert!(told.contains("kaminari::config::kafka") && told.contains(&format!("127.0.0.1:{port}")), "{told}");
}

#[test]
fn a_topic_that_is_not_there_is_read_when_it_comes() {
    let Some(brokers) = kafka::brokers("an unknown topic") else { return };
    let case = Case::new(&brokers, "unknown");
    let told = validate(case.dir.path(), &case.config(KEYED, ""));
    assert!(told.contains(&case.topic) && told.contains("create the topic, or correct its name"), "{told}");
    let mut engine = case.start("engine", &format!("{KEYED}{SOON}"));
    engine.says("create the topic, or correct its name");
    kafka::create_topic(&brokers, &case.incidents, 1);
    kafka::create_topic(&brokers, &case.topic, 2);
    case.flood(1, "192.0.2.1", 0);
    assert_eq!(case.opened(1), ["192.0.2.1"]);
    let summary = engine.stop();
    assert!(counted(&summary, "kaminari_source_errors_total", "unknown_topic") >= 1.0, "{summary}");
}

#[test]
fn rights_that_are_missing_are_named_and_work_once_granted() {
    let Some(listeners) = kafka::listeners("rights at a Kafka broker") else { return };
    let case = Case::with_topics(&listeners.plaintext, "rights", 1);
    case.flood(0, "192.0.2.1", 0);
    let secret = case.dir.path().join("password");
    std::fs::write(&secret, "reader-secret\n").unwrap();
    let security = format!(
        "security = {{ protocol = \"sasl_plaintext\", mechanism = \"PLAIN\", username = \"reader\", password = {{ file = {secret:?} }} }}\n"
    );
    // The sink logs in as nobody: what a source may do says nothing about a sink.
    let config = case.config(&format!("{KEYED}{SOON}{security}"), "");
    let config = config.replacen(&format!("{:?}", case.brokers), &format!("{:?}", listeners.sasl), 1);
    let mut engine = Engine::start(case.dir.path(), "engine", &config);
    engine.says("grant READ");
    listeners.acl("reader", &[Resource::Topic(&case.topic)], &["Read", "Describe"]);
    engine.says("grant READ on the consumer group");
    listeners.acl("reader", &[Resource::Group(&case.group)], &["Read"]);
    assert_eq!(case.opened(1), ["192.0.2.1"]);
    let summary = engine.stop();
    assert!(counted(&summary, "kaminari_source_errors_total", "not_authorized") >= 1.0, "{summary}");
}

#[test]
fn a_wrong_password_is_said_and_no_right_one_is_shown() {
    let Some(listeners) = kafka::listeners("logins at a Kafka broker") else { return };
    let case = Case::new(&listeners.sasl, "password");
    let secret = case.dir.path().join("password");
    std::fs::write(&secret, "not-the-secret").unwrap();
    let security = format!(
        "security = {{ protocol = \"sasl_plaintext\", mechanism = \"SCRAM-SHA-256\", username = \"scram\", password = {{ file = {secret:?} }} }}\n"
    );
    let mut engine = case.start("engine", &format!("{KEYED}{security}"));
    engine.says("check `security.mechanism`, `username` and `password`");
    let log = engine.log();
    assert!(!log.contains("not-the-secret"), "{log}");
    let summary = engine.stop();
    assert!(counted(&summary, "kaminari_source_errors_total", "login_failed") >= 1.0, "{summary}");
}

#[test]
fn encrypted_and_logged_in_exactly_once() {
    let Some(listeners) = kafka::listeners("TLS and SASL") else { return };
    let case = Case::with_topics(&listeners.plaintext, "tls", 2);
    let (user, password) = kafka::SCRAM_USER;
    listeners.acl(user, &[Resource::Topic(&case.topic)], &["Read", "Describe"]);
    listeners.acl(user, &[Resource::Topic(&case.incidents)], &["Write", "Describe"]);
    listeners.acl(user, &[Resource::Group(&case.group)], &["Read"]);
    for partition in 0..2 {
        let id = format!("{}.flows.{}.{partition}", case.group, case.topic);
        listeners.acl(user, &[Resource::TransactionalId(&id)], &["Write", "Describe"]);
    }
    let secret = case.dir.path().join("password");
    std::fs::write(&secret, password).unwrap();
    let security = format!(
        "security = {{ protocol = \"sasl_ssl\", mechanism = \"SCRAM-SHA-512\", username = {user:?}, password = {{ file = {secret:?} }}, ca_file = {:?} }}\n",
        listeners.ca
    );
    let config = case.config(&format!("{KEYED}{security}exactly_once = true\n"), &security);
    let config = config.replace(&format!("{:?}", case.brokers), &format!("{:?}", listeners.sasl_ssl));
    let engine = Engine::start(case.dir.path(), "engine", &config);
    case.flood(1, "192.0.2.1", 0);
    assert_eq!(case.opened(1), ["192.0.2.1"]);
    engine.stop();
    // A certificate that nobody vouches for is refused, with what to do.
    let other = config.replace(&format!("ca_file = {:?}", listeners.ca), "verify_hostname = true");
    let mut engine = Engine::start(case.dir.path(), "other", &other);
    engine.says("check `security.ca_file`");
    engine.stop();
}

#[test]
fn a_topic_made_anew_is_read_from_its_start() {
    let Some(brokers) = kafka::brokers("a topic that is deleted") else { return };
    let case = Case::with_topics(&brokers, "anew", 1);
    let mut engine = case.start("engine", &format!("{KEYED}{SOON}"));
    case.flood(0, "192.0.2.1", 0);
    assert_eq!(case.opened(1), ["192.0.2.1"]);
    kafka::delete_topic(&brokers, &case.topic);
    engine.says("create the topic, or correct its name");
    kafka::create_topic(&brokers, &case.topic, 1);
    // Well after the first, which still holds the watermark back no longer than it lasts.
    case.flood(0, "192.0.2.2", 0);
    assert_eq!(case.opened(2), ["192.0.2.1", "192.0.2.2"]);
    engine.stop();
}

#[test]
fn a_position_that_is_gone_is_an_error_and_reading_goes_on_with_the_oldest() {
    let Some(brokers) = kafka::brokers("a position that is gone") else { return };
    let case = Case::with_topics(&brokers, "gone", 1);
    case.flood(0, "192.0.2.1", 0);
    let engine = case.start("before", KEYED);
    assert_eq!(case.opened(1), ["192.0.2.1"]);
    engine.stop();
    // While nobody reads, retention takes what was not read.
    case.flood(0, "192.0.2.2", 0);
    let end = kafka::end_offsets(&brokers, &case.topic)[0].1;
    kafka::delete_records(&brokers, &case.topic, 0, end);
    case.flood(0, "192.0.2.3", 60);
    let mut engine = case.start("after", KEYED);
    engine.says("is not there any more");
    assert_eq!(case.opened(2), ["192.0.2.1", "192.0.2.3"]);
    let log = engine.log();
    assert!(log.contains("ERROR") && log.contains(&format!("the oldest message, {end}")), "{log}");
    let summary = engine.stop();
    assert_eq!(counted(&summary, "kaminari_source_positions_gone_total", ""), 1.0, "{summary}");
}

#[test]
fn from_the_latest_means_once_not_after_every_crash() {
    let Some(brokers) = kafka::brokers("start = latest") else { return };
    let case = Case::with_topics(&brokers, "latest", 1);
    case.flood(0, "192.0.2.1", 0);
    let config = case.config(&format!("{KEYED}{SOON}"), "").replace("start = \"earliest\"", "start = \"latest\"");
    let mut engine = Engine::start(case.dir.path(), "killed", &config);
    engine.says("reads ");
    // Before the first record, and before the first commit is due.
    wait_for("the position at which it began", || {
        (!kafka::committed(&brokers, &case.group, &case.topic).is_empty()).then_some(())
    });
    engine.kill();
    case.flood(0, "192.0.2.2", 60);
    let mut engine = Engine::start(case.dir.path(), "again", &config);
    assert_eq!(case.opened(1), ["192.0.2.2"]);
    // Partitions that come while it reads are read whole.
    kafka::add_partitions(&brokers, &case.topic, 3);
    case.flood(2, "192.0.2.3", 60);
    engine.says(&format!("{}/2", case.topic));
    assert_eq!(case.opened(2), ["192.0.2.2", "192.0.2.3"]);
    engine.stop();
}

#[test]
fn exporters_whose_clocks_are_wrong_are_counted_and_disturb_nobody() {
    let Some(brokers) = kafka::brokers("exporters whose clocks are wrong") else { return };
    let case = Case::with_topics(&brokers, "clocks", 1);
    // A day ahead: the time counts at which its message was written. Right. An hour behind.
    for (target, seconds) in [("192.0.2.9", -60), ("192.0.2.1", 86_400), ("192.0.2.3", 0), ("192.0.2.2", -3600)] {
        let received = |second: i64| format!("{{\"time_received_ns\":{},", (now_secs() + second) * 1_000_000_000);
        let lines = flood(target, seconds).into_iter().zip(0..);
        kafka::produce(&brokers, &case.topic, 0, lines.map(|(line, n)| line.replacen('{', &received(n), 1)));
    }
    let engine = case.start("engine", KEYED);
    assert_eq!(case.opened(3), ["192.0.2.1", "192.0.2.3", "192.0.2.9"]);
    let summary = engine.stop();
    assert_eq!(counted(&summary, "kaminari_window_future_records_total", ""), 5.0, "{summary}");
    assert_eq!(counted(&summary, "kaminari_window_late_records_total", "dropped"), 5.0, "{summary}");
    assert_eq!(opened(&brokers, &case.incidents), ["192.0.2.1", "192.0.2.3", "192.0.2.9"]);
}

#[test]
fn a_silent_partition_holds_nobody_up() {
    let Some(brokers) = kafka::brokers("a partition that is silent") else { return };
    for source in [KEYED, SHARED] {
        let case = Case::with_topics(&brokers, "silent", 2);
        // It has said something once, so its watermark counts.
        case.flood(1, "192.0.2.9", -30);
        let engine = case.start("engine", source);
        case.flood(0, "192.0.2.1", 0);
        case.flood(0, "192.0.2.2", 30);
        assert_eq!(case.opened(3), ["192.0.2.1", "192.0.2.2", "192.0.2.9"], "{source}");
        let summary = engine.stop();
        assert_eq!(counted(&summary, "kaminari_window_late_records_total", ""), 0.0, "{summary}");
    }
}

#[test]
fn processes_that_share_what_is_not_keyed_are_told() {
    let Some(brokers) = kafka::brokers("two processes on a topic that is not keyed") else { return };
    let case = Case::with_topics(&brokers, "shared", 2);
    let mut first = case.start("first", SHARED);
    first.says("reads ");
    assert!(!first.log().contains("keyed = true"), "{}", first.log());
    let mut second = case.start("second", SHARED);
    first.says("key the topic by the entity and set `keyed = true`");
    second.says("key the topic by the entity and set `keyed = true`");
    second.stop();
    first.stop();
}

#[test]
fn what_a_producer_wrote_twice_counts_twice() {
    let Some(brokers) = kafka::brokers("records that are there twice") else { return };
    let case = Case::with_topics(&brokers, "twice", 1);
    let lines = flood("192.0.2.1", 0);
    kafka::produce(&brokers, &case.topic, 0, lines.clone());
    kafka::produce(&brokers, &case.topic, 0, lines);
    let engine = case.start("engine", KEYED);
    assert_eq!(case.opened(1), ["192.0.2.1"]);
    let summary = engine.stop();
    assert_eq!(counted(&summary, "kaminari_window_records_total", ""), 10.0, "{summary}");
    assert_eq!(counted(&summary, "kaminari_source_refused_total", ""), 0.0, "{summary}");
}

#[test]
fn a_checkpoint_that_cannot_be_written_holds_positions_back_and_tells_nothing_twice() {
    let Some(brokers) = kafka::brokers("a disk that takes no checkpoints") else { return };
    let case = Case::with_topics(&brokers, "full", 1);
    let mut engine = case.start("engine", KEYED);
    let committed = || kafka::committed(&brokers, &case.group, &case.topic).first().map_or(0, |(_, offset, _)| *offset);
    engine.says("reads ");
    let folder = case.dir.path().join("state/checkpoints");
    let away = case.dir.path().join("away");
    std::fs::rename(&folder, &away).unwrap();
    std::fs::write(&folder, "no folder").unwrap();
    case.flood(0, "192.0.2.1", 0);
    engine.says("positions stay where they are");
    assert_eq!(case.opened(1), ["192.0.2.1"]);
    // Some more tries.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!((committed(), opened(&brokers, &case.incidents).len()), (0, 1));
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    wait_for("the commit", || (committed() == 5).then_some(()));
    let summary = engine.stop();
    assert!(counted(&summary, "kaminari_source_commits_total", "failed") >= 2.0, "{summary}");
    assert_eq!(opened(&brokers, &case.incidents), ["192.0.2.1"]);
}
