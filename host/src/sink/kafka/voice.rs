//! What a Kafka sink says: metrics, and a line when trouble begins, when it needs a person, and when it is over.

use crate::kafka::{Trouble, explain};
use crate::sink::SinkError;
use crate::sink::confess::failed;
use crate::telemetry::{SINK_BUFFERED, SINK_DELIVERED, SINK_SPOOL_BYTES, SINK_SPOOLED};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A topic that is not there may be about to be made: so long it is only a warning.
const MAY_COME: Duration = Duration::from_secs(10);
/// A line about records that are lost in so much time.
const LOST_LINE: Duration = Duration::from_secs(60);

pub(super) struct Voice {
    id: Arc<str>,
    brokers: String,
    topic: String,
    /// What keeps the brokers from taking records, since when, and whether a person was called.
    trouble: Option<(Trouble, Instant, bool)>,
    lost_line: Option<Instant>,
    lost_since: u64,
}

impl Voice {
    pub(super) fn new(id: Arc<str>, brokers: String, topic: String) -> Self {
        Self { id, brokers, topic, trouble: None, lost_line: None, lost_since: 0 }
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(super) fn delivered(&self, rows: u64) {
        metrics::counter!(SINK_DELIVERED, "component_id" => self.id.clone()).increment(rows);
    }

    pub(super) fn spooled(&self, rows: u64) {
        metrics::counter!(SINK_SPOOLED, "component_id" => self.id.clone()).increment(rows);
    }

    pub(super) fn levels(&self, buffered: usize, spool_bytes: Option<u64>) {
        metrics::gauge!(SINK_BUFFERED, "component_id" => self.id.clone()).set(buffered as f64);
        if let Some(bytes) = spool_bytes {
            metrics::gauge!(SINK_SPOOL_BYTES, "component_id" => self.id.clone()).set(bytes as f64);
        }
    }

    /// What keeps the brokers from taking records: a metric label and words. `None`: nothing that is known.
    pub(super) fn trouble(&self) -> Option<(&'static str, String)> {
        self.trouble.as_ref().map(|(t, ..)| (t.reason, t.to_string()))
    }

    /// The brokers do not take records because of this. Nothing is lost by it.
    pub(super) fn hindered(&mut self, error: &KafkaError) {
        let trouble = explain(error, &self.brokers);
        let (since, called) = match &self.trouble {
            Some((known, since, called)) if known.reason == trouble.reason => (*since, *called),
            _ => {
                tracing::warn!(
                    component_id = &*self.id,
                    error_type = trouble.reason,
                    topic = self.topic,
                    "the brokers take no records: {trouble}"
                );
                (Instant::now(), false)
            }
        };
        // Time does not heal these.
        let serious = match trouble.reason {
            "not_authorized" | "login_failed" | "tls" => true,
            "unknown_topic" => since.elapsed() > MAY_COME,
            _ => false,
        };
        if serious && !called {
            tracing::error!(
                component_id = &*self.id,
                error_type = trouble.reason,
                topic = self.topic,
                "the brokers will take no records until somebody acts: {trouble}"
            );
        }
        self.trouble = Some((trouble, since, called || serious));
    }

    /// The brokers take records.
    pub(super) fn relieved(&mut self) {
        if let Some((trouble, since, _)) = self.trouble.take() {
            tracing::info!(
                component_id = &*self.id,
                topic = self.topic,
                seconds = since.elapsed().as_secs(),
                "the brokers take records again (it was: {})",
                trouble.reason
            );
        }
    }

    /// The disk does not take what it should. What it is about waits in memory, or is sent twice.
    pub(super) fn spool_failed(&self, error: &SinkError) {
        tracing::warn!(component_id = &*self.id, error_type = error.reason, "spool: {error}");
    }

    /// The brokers will never take this record.
    pub(super) fn refused(&mut self, error: &KafkaError, rows: u32) {
        let trouble = explain(error, &self.brokers);
        let reason = if too_large(error) { "too_large" } else { "refused" };
        self.lost(reason, u64::from(rows), &trouble.to_string());
    }

    /// Events or rows are lost.
    pub(super) fn lost(&mut self, reason: &'static str, rows: u64, why: &str) {
        failed(&self.id, reason, rows as usize);
        self.lost_since += rows;
        if self.lost_line.is_some_and(|at| at.elapsed() < LOST_LINE) {
            return;
        }
        self.lost_line = Some(Instant::now());
        let rows = std::mem::take(&mut self.lost_since);
        tracing::error!(component_id = &*self.id, error_type = reason, topic = self.topic, rows, "records lost: {why}");
    }
}

fn too_large(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize))
}

/// True when the fault is the record's: sending it again is in vain, and others go through.
pub(super) fn records_fault(error: &KafkaError) -> bool {
    too_large(error)
        || matches!(
            error.rdkafka_error_code(),
            Some(
                Code::InvalidRecord
                    | Code::InvalidMessage
                    | Code::BadMessage
                    | Code::InvalidTimestamp
                    | Code::UnknownPartition
                    | Code::InvalidArgument
            )
        )
}
