//! What the engine promises about delivery, against a real broker and a million labelled flow records: whatever is killed,
//! restarted, added or taken away, the incidents are those of one undisturbed process.

use super::engine::{Detector, Engine, counted, events, settled, wait_for};
use super::stream::{ATTACKS, PARTITIONS, stream};
use kaminari_tests::kafka;
use serde_json::Value;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const KEYED: &str = "keyed = true\ncommit_interval_ms = 300\ndecode = { format = \"arrow\" }\n";

fn detector(brokers: &str, topic: &str, group: &str, incidents: &str, source: &str, dir: &Path) -> String {
    let source = format!("{KEYED}{source}");
    Detector { brokers, topic, group, incidents, source: &source, sink: "", state_dir: &dir.join("state") }.config()
}

/// The incidents of one process that nobody disturbs.
fn undisturbed(brokers: &str) -> &'static [Value] {
    static EVENTS: OnceLock<Vec<Value>> = OnceLock::new();
    EVENTS.get_or_init(|| {
        let stream = stream(brokers);
        let (group, incidents) = (kafka::unique("alone"), kafka::unique("incidents"));
        kafka::create_topic(brokers, &incidents, 3);
        let dir = tempfile::tempdir().unwrap();
        let config = detector(brokers, &stream.topic, &group, &incidents, "", dir.path());
        let engine = Engine::start(dir.path(), "alone", &config);
        let events = settled(brokers, &incidents, ATTACKS);
        let summary = engine.stop();
        assert_eq!(counted(&summary, "kaminari_window_records_total", "") as u64, stream.flows);
        assert_eq!(counted(&summary, "kaminari_window_late_records_total", ""), 0.0, "{summary}");
        let opened = events.iter().filter(|e| e["event"] == "open").count();
        assert!(opened >= ATTACKS, "{opened} incidents");
        events
    })
}

/// Pieces in which it is written.
const STEPS: usize = 25;

/// The stream once more, written at the pace of a network while engines come and go.
struct Live {
    topic: String,
    writer: std::thread::JoinHandle<()>,
}

impl Live {
    fn begin(brokers: &str, over: Duration) -> Self {
        let stream = stream(brokers);
        let topic = kafka::unique("live");
        kafka::create_topic(brokers, &topic, PARTITIONS);
        let messages = kafka::consume_all(brokers, &stream.topic, true);
        let (brokers, to) = (brokers.to_owned(), topic.clone());
        let writer = std::thread::spawn(move || {
            // Every partition in its order, all of them side by side, a few at a time.
            let of = |p: i32| messages.iter().filter(move |m| m.partition == p).collect::<Vec<_>>();
            let partitions: Vec<_> = (0..PARTITIONS).map(of).collect();
            let begun = Instant::now();
            for step in 0..STEPS {
                let part = |m: &Vec<&kafka::Message>| {
                    let at = |step: usize| m.len() * step / STEPS;
                    m[at(step)..at(step + 1)].iter().map(|m| m.payload.clone()).collect::<Vec<_>>()
                };
                for (p, messages) in (0..).zip(&partitions) {
                    kafka::produce(&brokers, &to, p, part(messages));
                }
                let due = over.mul_f64((step + 1) as f64 / STEPS as f64);
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
        });
        Self { topic, writer }
    }
}

/// A few numbers that differ from run to run, so that kills come at moments nobody chose.
fn random() -> impl FnMut(u64) -> Duration {
    let mut state = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("random moments from {state}");
    move |most_ms| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Duration::from_millis(state % most_ms)
    }
}

/// Three processes in one group; two are killed and restarted, twice; one is added. The incidents, and where they lie.
fn disturbed(brokers: &str, source: &str) -> Vec<Value> {
    let live = Live::begin(brokers, Duration::from_secs(25));
    let (group, incidents) = (kafka::unique("group"), kafka::unique("incidents"));
    kafka::create_topic(brokers, &incidents, 3);
    let dir = tempfile::tempdir().unwrap();
    let config = detector(brokers, &live.topic, &group, &incidents, source, dir.path());
    let start = |name: &str| Engine::start(dir.path(), name, &config);
    let mut engines: Vec<Option<Engine>> = ["a", "b", "c"].iter().map(|name| Some(start(name))).collect();
    let mut moment = random();
    engines[0].as_mut().unwrap().says("reads ");
    for round in 0..2 {
        for (at, name) in [(0, "a"), (1, "b")] {
            std::thread::sleep(Duration::from_millis(800) + moment(3000));
            engines[at].take().unwrap().kill();
            std::thread::sleep(moment(1500));
            engines[at] = Some(start(name));
        }
        if round == 0 {
            std::thread::sleep(moment(1000));
            engines.push(Some(start("d")));
        }
    }
    live.writer.join().unwrap();
    let expected = undisturbed(brokers).iter().filter(|e| e["event"] == "open").count();
    let events = settled(brokers, &incidents, expected);
    for engine in engines.into_iter().flatten() {
        let summary = engine.stop();
        assert_eq!(counted(&summary, "kaminari_window_late_records_total", ""), 0.0, "{summary}");
    }
    events
}

fn brief(events: &[Value]) -> Vec<String> {
    let text =
        |e: &Value| format!("{} {} {} {}", e["event"], e["incident_id"], e["entity"]["value"], e["window"]["end"]);
    events.iter().map(text).collect()
}

#[test]
fn exactly_once_kills_restarts_and_newcomers_change_nothing() {
    let Some(brokers) = kafka::brokers("exactly-once delivery") else { return };
    let expected = undisturbed(&brokers);
    let events = disturbed(&brokers, "exactly_once = true\ntransaction_timeout_ms = 10000");
    assert_eq!(brief(&events), brief(expected));
    assert_eq!(events, expected);
}

#[test]
fn at_least_once_kills_restarts_and_newcomers_lose_nothing() {
    let Some(brokers) = kafka::brokers("at-least-once delivery") else { return };
    let expected = undisturbed(&brokers);
    let mut events = disturbed(&brokers, "");
    let all = events.len();
    events.dedup();
    println!("{} of {all} events were told more than once", all - events.len());
    assert_eq!(brief(&events), brief(expected));
    assert_eq!(events, expected);
}

#[test]
fn partitions_that_move_in_the_middle_of_a_window_change_nothing() {
    let Some(brokers) = kafka::brokers("a rebalance in the middle of a window") else { return };
    let expected = undisturbed(&brokers);
    let live = Live::begin(&brokers, Duration::from_secs(12));
    let (group, incidents) = (kafka::unique("group"), kafka::unique("incidents"));
    kafka::create_topic(&brokers, &incidents, 3);
    let dir = tempfile::tempdir().unwrap();
    let config = detector(&brokers, &live.topic, &group, &incidents, "", dir.path());
    let mut first = Engine::start(dir.path(), "first", &config);
    first.says("reads ");
    std::thread::sleep(Duration::from_secs(4));
    let mut second = Engine::start(dir.path(), "second", &config);
    second.says("reads ");
    first.says("gives back ");
    std::thread::sleep(Duration::from_secs(3));
    // Leaves in good order: nothing is told twice, because the last commit is part of leaving.
    second.stop();
    live.writer.join().unwrap();
    let opened = expected.iter().filter(|e| e["event"] == "open").count();
    let events = settled(&brokers, &incidents, opened);
    first.stop();
    assert_eq!(brief(&events), brief(expected));
    assert_eq!(events, expected);
}

/// A process that hangs is thought dead; when it goes on, it is fenced: what it had begun is in nobody's incidents.
#[test]
fn a_process_that_was_thought_dead_changes_nothing() {
    let Some(brokers) = kafka::brokers("a process that hangs and comes back") else { return };
    let expected = undisturbed(&brokers);
    let live = Live::begin(&brokers, Duration::from_secs(16));
    let (group, incidents) = (kafka::unique("group"), kafka::unique("incidents"));
    kafka::create_topic(&brokers, &incidents, 3);
    let dir = tempfile::tempdir().unwrap();
    let source = "exactly_once = true\nclient = { \"session.timeout.ms\" = 6000, \"heartbeat.interval.ms\" = 1000 }";
    let config = detector(&brokers, &live.topic, &group, &incidents, source, dir.path());
    let mut zombie = Engine::start(dir.path(), "zombie", &config);
    zombie.says("reads ");
    std::thread::sleep(Duration::from_secs(4));
    zombie.hang();
    let mut heir = Engine::start(dir.path(), "heir", &config);
    heir.says("reads ");
    std::thread::sleep(Duration::from_secs(2));
    zombie.go_on();
    live.writer.join().unwrap();
    let opened = expected.iter().filter(|e| e["event"] == "open").count();
    let events = settled(&brokers, &incidents, opened);
    zombie.stop();
    heir.stop();
    assert_eq!(brief(&events), brief(expected));
    assert_eq!(events, expected);
}

#[test]
fn a_broker_that_is_away_for_twenty_seconds_costs_nothing() {
    let Some(shared) = kafka::brokers("a broker that stops for 20 s") else { return };
    let Some(mut broker) = kafka::own_broker("a broker that stops for 20 s", &kafka::Options::default()) else {
        return;
    };
    let expected = undisturbed(&shared);
    let brokers = broker.bootstrap();
    kafka::create_topic(&brokers, "flows", PARTITIONS);
    kafka::create_topic(&brokers, "incidents", 3);
    let messages = kafka::consume_all(&shared, &stream(&shared).topic, true);
    let half = |second: bool| {
        for p in 0..PARTITIONS {
            let of: Vec<Vec<u8>> = messages.iter().filter(|m| m.partition == p).map(|m| m.payload.clone()).collect();
            let (first, rest) = of.split_at(of.len() / 2);
            kafka::produce(&brokers, "flows", p, if second { rest.to_vec() } else { first.to_vec() });
        }
    };
    half(false);
    let dir = tempfile::tempdir().unwrap();
    let config = detector(&brokers, "flows", "group", "incidents", "exactly_once = true", dir.path());
    let engine = Engine::start(dir.path(), "engine", &config);
    wait_for("the first incident", || (!events(&brokers, "incidents").is_empty()).then_some(()));
    broker.stop().unwrap();
    std::thread::sleep(Duration::from_secs(20));
    broker.restart().unwrap();
    half(true);
    let opened = expected.iter().filter(|e| e["event"] == "open").count();
    let found = settled(&brokers, "incidents", opened);
    let summary = engine.stop();
    assert_eq!(counted(&summary, "kaminari_window_late_records_total", "dropped"), 0.0, "{summary}");
    assert_eq!(brief(&found), brief(expected));
}
