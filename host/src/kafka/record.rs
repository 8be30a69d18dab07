//! One record on its way to a topic.

use rdkafka::error::KafkaError;
use rdkafka::message::{Header as RdHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Partitioner, ProducerContext};
use std::sync::Arc;

/// Name and value of a header.
pub type Header = (Arc<str>, Arc<str>);

/// A record that a topic shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition; `None`: the producer's choice, by the key.
    pub partition: Option<i32>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub payload: Vec<u8>,
    /// Headers.
    pub headers: Arc<[Header]>,
}

/// A record that the producer did not take, given back.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: KafkaError,
    /// The record.
    pub record: Record,
}

impl Record {
    /// Hands it to a producer, which takes a copy. `opaque` comes back with the delivery report.
    pub fn send<C, P>(
        self,
        producer: &BaseProducer<C, P>,
        opaque: C::DeliveryOpaque,
    ) -> Result<(), Box<(Refused, C::DeliveryOpaque)>>
    where
        P: Partitioner + Send + Sync + 'static,
        C: ProducerContext<P> + 'static,
    {
        let mut headers = OwnedHeaders::new_with_capacity(self.headers.len());
        for (key, value) in self.headers.iter() {
            headers = headers.insert(RdHeader { key, value: Some(value.as_bytes()) });
        }
        let mut record =
            BaseRecord::with_opaque_to(&self.topic, opaque).payload(self.payload.as_slice()).headers(headers);
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        if let Some(key) = &self.key {
            record = record.key(key.as_slice());
        }
        match producer.send(record) {
            Ok(()) => Ok(()),
            Err((error, record)) => {
                let opaque = record.delivery_opaque;
                Err(Box::new((Refused { error, record: self }, opaque)))
            }
        }
    }
}
