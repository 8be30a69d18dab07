//! Dead letters: messages that cannot be decoded go to a topic of their own, as they are, with the reason. With
//! exactly-once delivery they are part of the task's transaction; else a producer of the source's sends them, and positions
//! are committed when they have arrived.

use super::transaction::{Transaction, TransactionSettings};
use crate::kafka::{Header, Record, SettingsError, client, explain};
use crate::telemetry::SOURCE_DEAD_LETTERED;
use metrics::counter;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, DeliveryResult, NoCustomPartitioner, Producer, ProducerContext};
use rdkafka::{ClientContext, config::RDKafkaLogLevel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A source's producer of dead letters.
pub(in crate::pipeline) struct Letters {
    producer: BaseProducer<Reports>,
}

struct Reports {
    id: Arc<str>,
    brokers: String,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        tracing::debug!(component_id = &*self.id, ?level, "librdkafka {fac}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(component_id = &*self.id, "librdkafka: {error}: {reason}");
    }
}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let trouble = explain(error, &self.brokers);
            counter!(SOURCE_DEAD_LETTERED, "component_id" => self.id.to_string(), "reason" => "lost").increment(1);
            let topic = message.topic();
            tracing::error!(component_id = &*self.id, "a dead letter did not reach topic {topic}: {trouble}");
        }
    }
}

impl Letters {
    pub(in crate::pipeline) fn new(id: &Arc<str>, settings: &TransactionSettings) -> Result<Self, SettingsError> {
        let mut config = client(&settings.brokers, &settings.security, &settings.client)?;
        // As long as the brokers are away letters wait, and positions with them.
        config.set("enable.idempotence", "true").set("message.timeout.ms", "0");
        let reports = Reports { id: id.clone(), brokers: crate::kafka::brokers(&settings.brokers) };
        Ok(Self { producer: config.create_with_context(reports)? })
    }

    fn send(&self, record: Record) {
        let mut record = record;
        while let Err(refused) = record.send(&self.producer, ()) {
            record = refused.0.record;
            self.producer.poll(Duration::from_millis(100));
        }
        self.producer.poll(Duration::ZERO);
    }

    /// True when all have arrived (or are lost, and that was said).
    pub(super) fn are_delivered(&self) -> bool {
        self.producer.poll(Duration::ZERO);
        self.producer.in_flight_count() == 0
    }

    /// Waits for them.
    pub(super) fn flush(&self, at_most: Duration) -> bool {
        self.producer.flush(at_most).is_ok()
    }
}

/// How a task sends them.
#[derive(Clone)]
pub(super) enum Post {
    Letters(Arc<Letters>),
    Transaction(Arc<Mutex<Transaction>>),
}

/// A task's way to the dead-letter topic.
pub(super) struct DeadLetters {
    pub(super) topic: Arc<str>,
    pub(super) post: Post,
}

impl DeadLetters {
    /// Sends a message as it came.
    pub(super) fn send(&self, source: &str, reason: &str, origin: String, key: Option<&[u8]>, payload: &[u8]) {
        counter!(SOURCE_DEAD_LETTERED, "component_id" => source.to_owned(), "reason" => reason.to_owned()).increment(1);
        let headers: Arc<[Header]> = Arc::from([
            ("kaminari.reason".into(), reason.into()),
            ("kaminari.source".into(), source.into()),
            ("kaminari.origin".into(), origin.into()),
        ]);
        let (key, payload) = (key.map(<[u8]>::to_vec), payload.to_vec());
        let record = Record { topic: self.topic.clone(), partition: None, key, payload, headers };
        match &self.post {
            Post::Letters(letters) => letters.send(record),
            Post::Transaction(transaction) => {
                transaction.lock().unwrap_or_else(PoisonError::into_inner).send(record);
            }
        }
    }
}
