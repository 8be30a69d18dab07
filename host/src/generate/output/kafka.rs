//! Datagrams into a Kafka topic, one message each, as a collector of raw datagrams writes them: the key is the exporter's
//! address, so that an exporter's datagrams stay in order and its templates come before its data.

use super::Output;
use crate::config::kafka::{KafkaProperties, KafkaSecurity};
use crate::generate::GenerateError;
use crate::kafka::{Record, client};
use crate::model::FrameBatch;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer};
use std::sync::Arc;
use std::time::Duration;

/// How long the brokers may take for what is left at the end.
const LAST: Duration = Duration::from_secs(60);

/// The producer.
pub struct KafkaOutput {
    producer: BaseProducer,
    brokers: String,
    topic: Arc<str>,
}

impl KafkaOutput {
    /// A producer for a topic of brokers that ask for no login.
    pub fn connect(brokers: &str, topic: &str) -> Result<Self, GenerateError> {
        let failed = |why: String| GenerateError::Kafka { brokers: brokers.into(), topic: topic.into(), why };
        let list = [brokers.to_owned()];
        let mut config = client(&list, &KafkaSecurity::default(), &KafkaProperties::new())
            .map_err(|error| failed(error.to_string()))?;
        config.set("enable.idempotence", "true").set("compression.codec", "lz4").set("linger.ms", "20");
        let producer: BaseProducer = config.create().map_err(|error| failed(error.to_string()))?;
        let metadata = producer.client().fetch_metadata(Some(topic), Duration::from_secs(10));
        let metadata = metadata.map_err(|error| failed(error.to_string()))?;
        if metadata.topics().iter().any(|t| t.error().is_some() || t.partitions().is_empty()) {
            return Err(failed("there is no such topic: create it first".into()));
        }
        Ok(Self { producer, brokers: brokers.into(), topic: topic.into() })
    }
}

impl Output for KafkaOutput {
    fn send(&mut self, frames: &FrameBatch) -> Result<u64, GenerateError> {
        let sent_ns = crate::model::time::now_ns();
        for frame in &frames.frames {
            let mut record = Record {
                topic: self.topic.clone(),
                partition: None,
                key: Some(frame.peer.ip().to_string().into_bytes()),
                payload: frames.bytes(frame).to_vec(),
                headers: Arc::from([]),
            };
            while let Err(refused) = record.send(&self.producer, ()) {
                let (refused, ()) = *refused;
                if refused.error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    let (brokers, topic) = (self.brokers.clone(), self.topic.to_string());
                    return Err(GenerateError::Kafka { brokers, topic, why: refused.error.to_string() });
                }
                record = refused.record;
                self.producer.poll(Duration::from_millis(20));
            }
        }
        self.producer.poll(Duration::ZERO);
        Ok(sent_ns)
    }

    fn finish(&mut self) -> Result<(), GenerateError> {
        self.producer.flush(LAST).map_err(|error| GenerateError::Kafka {
            brokers: self.brokers.clone(),
            topic: self.topic.to_string(),
            why: error.to_string(),
        })
    }
}
