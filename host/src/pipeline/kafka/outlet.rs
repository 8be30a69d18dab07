//! Outputs into the task's transaction, as the sink's own records.

use super::super::outlet::Outlet;
use super::transaction::Transaction;
use crate::kafka::{Record, brokers, explain};
use crate::model::{Content, Output, PlanDigest};
use crate::sink::kafka::{Encoder, KafkaSinkConfig};
use crate::telemetry::SINK_DELIVERED;
use metrics::{Counter, counter};
use std::sync::{Arc, Mutex, PoisonError};

pub(super) struct InTransaction {
    content: Content,
    encoder: Encoder,
    transaction: Arc<Mutex<Transaction>>,
    records: Vec<Record>,
    delivered: Counter,
}

impl InTransaction {
    pub(super) fn new(
        id: &Arc<str>,
        config: &KafkaSinkConfig,
        plan_digest: PlanDigest,
        transaction: Arc<Mutex<Transaction>>,
    ) -> Result<Self, String> {
        let mut encoder = Encoder::new(config, plan_digest);
        if encoder.needs_partitions() {
            let partitions = transaction.lock().unwrap_or_else(PoisonError::into_inner).partitions(&config.topic);
            encoder.set_partitions(partitions.map_err(|e| explain(&e, &brokers(&config.brokers)).to_string())?);
        }
        Ok(Self {
            content: config.content,
            encoder,
            transaction,
            records: Vec::new(),
            delivered: counter!(SINK_DELIVERED, "component_id" => id.to_string()),
        })
    }
}

impl Outlet for InTransaction {
    fn content(&self) -> Content {
        self.content
    }

    fn put(&mut self, output: Output) {
        self.encoder.encode(&output, &mut self.records);
        let mut transaction = self.transaction.lock().unwrap_or_else(PoisonError::into_inner);
        self.records.drain(..).for_each(|record| transaction.send(record));
        self.delivered.increment(output.len() as u64);
    }
}
