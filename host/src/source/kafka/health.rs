//! How the connection stands, by librdkafka's statistics: which partitions are at their end, how far behind they are, and
//! whether their brokers answer. And a clock that stands still while they do not: a partition is silent when its log has
//! nothing new, not when nobody can be asked.

use super::TopicPartition;
use crate::telemetry::{SOURCE_CONNECTED, SOURCE_LAG};
use metrics::gauge;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What is read of librdkafka's statistics (its STATISTICS.md).
#[derive(Debug, Deserialize)]
pub(super) struct Statistics {
    brokers: BTreeMap<String, Broker>,
    topics: BTreeMap<String, Topic>,
}

#[derive(Debug, Deserialize)]
struct Broker {
    nodeid: i32,
    state: String,
}

#[derive(Debug, Deserialize)]
struct Topic {
    topic: String,
    partitions: BTreeMap<String, Partition>,
}

#[derive(Debug, Deserialize)]
struct Partition {
    partition: i32,
    leader: i32,
    fetch_state: String,
    fetchq_cnt: i64,
    next_offset: i64,
    hi_offset: i64,
    ls_offset: i64,
}

/// How often librdkafka tells.
pub(super) const STATISTICS_MS: u64 = 250;
/// What was told longer ago says nothing about now.
const FRESH: Duration = Duration::from_millis(4 * STATISTICS_MS);

/// What the last statistics said.
#[derive(Debug, Default)]
pub(super) struct Health {
    told: Option<Instant>,
    /// Every broker that leads one of our partitions answers.
    connected: Arc<AtomicBool>,
    partitions: BTreeMap<TopicPartition, Standing>,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    at_end: bool,
    /// Position after the newest message that can be read.
    end: i64,
}

impl Health {
    /// Takes statistics in, and moves the metrics.
    pub fn note(&mut self, id: &str, statistics: &Statistics) {
        self.told = Some(Instant::now());
        let up = |node: i32| statistics.brokers.values().any(|b| b.nodeid == node && b.state == "UP");
        let before = std::mem::take(&mut self.partitions);
        let lag = |p: &TopicPartition, lag: i64| {
            let (topic, partition) = (p.topic.to_string(), p.partition.to_string());
            gauge!(SOURCE_LAG, "component_id" => id.to_owned(), "topic" => topic, "partition" => partition)
                .set(lag as f64);
        };
        let mut connected = true;
        for topic in statistics.topics.values() {
            let name: Arc<str> = Arc::from(topic.topic.as_str());
            for p in topic.partitions.values().filter(|p| p.partition >= 0 && p.fetch_state == "active") {
                connected &= up(p.leader);
                let end = if p.ls_offset >= 0 { p.ls_offset } else { p.hi_offset };
                let at_end = end >= 0 && p.fetchq_cnt == 0 && p.next_offset >= end;
                let key = TopicPartition { topic: name.clone(), partition: p.partition };
                // By what was read, not by what was committed: open windows hold positions back, and that is no lag.
                if end >= 0 && p.next_offset >= 0 {
                    lag(&key, (end - p.next_offset).max(0) + p.fetchq_cnt);
                }
                self.partitions.insert(key, Standing { at_end, end });
            }
        }
        // Whoever has them now tells.
        before.keys().filter(|p| !self.partitions.contains_key(*p)).for_each(|p| lag(p, 0));
        connected &= statistics.brokers.values().any(|b| b.nodeid >= 0 && b.state == "UP");
        self.connected.store(connected, Ordering::Relaxed);
        gauge!(SOURCE_CONNECTED, "component_id" => id.to_owned()).set(f64::from(u8::from(connected)));
    }

    /// What the last statistics said, for others to look at.
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.connected.clone()
    }

    /// True when the brokers answered a moment ago.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed) && self.told.is_some_and(|told| told.elapsed() < FRESH)
    }

    /// True when the partition's log has nothing after `next`.
    pub fn is_at_end(&self, partition: &TopicPartition, next: i64) -> bool {
        self.partitions.get(partition).is_some_and(|s| s.at_end || (s.end >= 0 && next >= s.end))
    }
}

/// Time that goes on only while the brokers answer, ns; starts at the wall clock.
#[derive(Debug)]
pub(super) struct Clock {
    now_ns: u64,
    last: Instant,
}

/// The most that one step counts: more is a thread that was held up, and saw nothing.
const STEP: Duration = Duration::from_millis(500);

impl Clock {
    pub fn new(now_ns: u64) -> Self {
        Self { now_ns, last: Instant::now() }
    }

    /// The time now.
    pub fn step(&mut self, connected: bool) -> u64 {
        let since = std::mem::replace(&mut self.last, Instant::now()).elapsed().min(STEP);
        if connected {
            self.now_ns += since.as_nanos() as u64;
        }
        self.now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stands_still_while_nobody_answers() {
        let mut clock = Clock::new(1000);
        clock.last = Instant::now().checked_sub(Duration::from_secs(20)).unwrap();
        assert_eq!(clock.step(false), 1000);
        clock.last = Instant::now().checked_sub(Duration::from_secs(20)).unwrap();
        assert_eq!(clock.step(true), 1000 + STEP.as_nanos() as u64, "a thread that was held up saw nothing");
    }

    #[test]
    fn a_partition_is_at_its_end_by_what_can_be_read() {
        let text = serde_json::json!({
            "brokers": {"b": {"nodeid": 1, "state": "UP"}, "c": {"nodeid": 2, "state": "DOWN"}},
            "topics": {"flows": {"topic": "flows", "partitions": {
                "0": {"partition": 0, "leader": 1, "fetch_state": "active", "fetchq_cnt": 0, "next_offset": 7, "hi_offset": 9, "ls_offset": 7},
                "1": {"partition": 1, "leader": 1, "fetch_state": "active", "fetchq_cnt": 3, "next_offset": 9, "hi_offset": 9, "ls_offset": 9},
            }}}
        });
        let mut health = Health::default();
        let p = |partition| TopicPartition { topic: "flows".into(), partition };
        health.note("x", &serde_json::from_value(text.clone()).unwrap());
        assert!(health.is_connected());
        assert!(health.is_at_end(&p(0), 5) && !health.is_at_end(&p(1), 6) && health.is_at_end(&p(1), 9));
        assert!(!health.is_at_end(&p(2), 0));
        let down = text.to_string().replace("\"leader\":1", "\"leader\":2");
        health.note("x", &serde_json::from_str(&down).unwrap());
        assert!(!health.is_connected());
    }
}
