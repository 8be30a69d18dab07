//! What librdkafka calls back: partitions given and taken (noted, and dealt with after the poll), statistics, errors, log
//! lines.

use super::TopicPartition;
use super::health::{Health, Statistics};
use crate::kafka::explain;
use crate::telemetry::SOURCE_ERRORS;
use metrics::counter;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::util::Timeout;
use rdkafka::{ClientContext, TopicPartitionList};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The same trouble is said again after this time.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// A change of what this process reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rebalance {
    Given(Vec<TopicPartition>),
    /// `lost`: others may have them already.
    Taken {
        partitions: Vec<TopicPartition>,
        lost: bool,
    },
}

/// One consumer's callbacks.
pub struct Context {
    id: Arc<str>,
    brokers: String,
    /// Nobody polls any more: what is taken is let go of at once.
    leaving: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rebalances: VecDeque<Rebalance>,
    health: Health,
    said: BTreeMap<&'static str, Instant>,
}

impl Context {
    pub(super) fn new(id: &Arc<str>, brokers: String) -> Self {
        Self { id: id.clone(), brokers, leaving: AtomicBool::new(false), state: Mutex::default() }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rebalance_due(&self) -> Option<Rebalance> {
        self.state().rebalances.pop_front()
    }

    pub(super) fn health<T>(&self, look: impl FnOnce(&Health) -> T) -> T {
        look(&self.state().health)
    }

    /// Counts an error, and says it when it was not said lately.
    pub(super) fn trouble(&self, error: &KafkaError, detail: &str) {
        let trouble = explain(error, &self.brokers);
        counter!(SOURCE_ERRORS, "component_id" => self.id.to_string(), "reason" => trouble.reason).increment(1);
        let last = self.state().said.insert(trouble.reason, Instant::now());
        if last.is_none_or(|at| at.elapsed() >= SAY_AGAIN) {
            let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
            // Positions are kept: what cannot be read now is read later.
            tracing::warn!(component_id = &*self.id, error_type = trouble.reason, "{trouble}{detail}");
        } else if let Some(at) = last {
            self.state().said.insert(trouble.reason, at);
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let one = |e: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| TopicPartition {
        topic: Arc::from(e.topic()),
        partition: e.partition(),
    };
    list.elements().iter().map(one).collect()
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        // Errors come as errors too, and are explained there.
        if matches!(level, RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical) {
            tracing::error!(component_id = &*self.id, "librdkafka {fac}: {message}");
        } else {
            tracing::debug!(component_id = &*self.id, "librdkafka {fac}: {message}");
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(statistics) => self.state().health.note(&self.id, &statistics),
            Err(error) => tracing::debug!(component_id = &*self.id, "statistics of librdkafka: {error}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.trouble(&error, reason);
    }
}

impl ConsumerContext for Context {
    /// Only noted: whoever polls must first get the windows of these partitions in order.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.leaving.load(Ordering::Relaxed) {
            // The consumer is being closed, and waits for this.
            if let Err(error) = consumer.unassign() {
                tracing::debug!(component_id = &*self.id, "leaving the group: {error}");
            }
            return;
        }
        let partitions = partitions(list);
        let rebalance = match error {
            Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Given(partitions),
            _ => Rebalance::Taken { partitions, lost: consumer.assignment_lost() },
        };
        self.state().rebalances.push_back(rebalance);
    }

    fn commit_callback(&self, result: rdkafka::error::KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // The next commit says the same and more.
            self.trouble(&error, "positions were not committed");
        }
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(Duration::from_millis(100))
    }
}
