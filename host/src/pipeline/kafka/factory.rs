//! Makes tasks: everything that a partition's pipelines need, each time it begins.

use super::super::build::build_pipeline;
use super::super::judges::Judges;
use super::super::outlet::{Outlet, Patient};
use super::super::reading::Reading;
use super::delivery::Delivery;
use super::lane::Lane;
use super::letters::{DeadLetters, Letters, Post};
use super::outlet::InTransaction;
use super::task::{Parts, Task};
use super::transaction::{Transaction, TransactionSettings};
use crate::checkpoint::Store;
use crate::config::Plan;
use crate::model::KeyLevel;
use crate::sink::kafka::KafkaSinkConfig;
use crate::sink::worker::SinkHandle;
use crate::source::kafka::{Context, KafkaConfig, Start, TopicPartition};
use rdkafka::consumer::BaseConsumer;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// See the module.
pub(in crate::pipeline) struct Factory {
    /// With one window worker: a task is one thread's.
    pub(in crate::pipeline) plan: Plan,
    pub(in crate::pipeline) source: Arc<str>,
    pub(in crate::pipeline) config: KafkaConfig,
    pub(in crate::pipeline) settings: TransactionSettings,
    /// Pipelines that read the source.
    pub(in crate::pipeline) pipelines: Vec<Arc<str>>,
    pub(in crate::pipeline) judges: Arc<Judges>,
    /// Sinks that have a queue.
    pub(in crate::pipeline) sinks: BTreeMap<Arc<str>, Arc<SinkHandle>>,
    /// Sinks whose records go into the task's transaction.
    pub(in crate::pipeline) in_transaction: BTreeMap<Arc<str>, KafkaSinkConfig>,
    pub(in crate::pipeline) letters: Option<Arc<Letters>>,
    pub(in crate::pipeline) store: Option<Arc<Store>>,
    pub(in crate::pipeline) consumer: Arc<BaseConsumer<Context>>,
    pub(in crate::pipeline) stop: Arc<AtomicBool>,
    pub(in crate::pipeline) panicked: Arc<AtomicBool>,
}

impl Factory {
    pub(super) fn source(&self) -> &Arc<str> {
        &self.source
    }

    pub(super) fn pipelines(&self) -> &[Arc<str>] {
        &self.pipelines
    }

    pub(super) fn is_keyed(&self) -> bool {
        self.config.keyed
    }

    pub(super) fn queue_bytes(&self) -> usize {
        self.config.queue_bytes
    }

    pub(super) fn settings(&self) -> &TransactionSettings {
        &self.settings
    }

    pub(super) fn panicked(&self) -> &Arc<AtomicBool> {
        &self.panicked
    }

    /// Threads of the crew. Without keys all partitions share windows, and so one thread.
    pub(super) fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if self.is_keyed() { self.config.threads.unwrap_or(cores).max(1) } else { 1 }
    }

    pub(super) fn is_exactly_once(&self) -> bool {
        self.config.exactly_once
    }

    /// The transactional id of a task. It begins with the group's name, so that one prefixed ACL does.
    pub(super) fn transactional_id(&self, partitions: &[TopicPartition]) -> String {
        let group = &self.config.group;
        match partitions {
            [only] if self.is_keyed() => format!("{group}.{}.{}.{}", self.source, only.topic, only.partition),
            _ => format!("{group}.{}.all", self.source),
        }
    }

    /// A task that begins there.
    pub(super) fn task(
        &self,
        starts: Vec<Start>,
        transaction: Option<Transaction>,
        delay_ns: Arc<AtomicU64>,
    ) -> Result<Task, String> {
        let transaction = transaction.map(|t| Arc::new(Mutex::new(t)));
        let reading = Reading::new(Some(&self.judges), &self.source, &self.config.decode).map_err(|e| e.to_string())?;
        let nexts: Vec<i64> = starts.iter().map(|s| s.next).collect();
        let (mut lanes, mut flows) = (Vec::new(), Vec::new());
        let mut waited_for: BTreeMap<Arc<str>, Arc<SinkHandle>> = BTreeMap::new();
        for id in &self.pipelines {
            let pipeline = self.plan.pipelines.get(id).ok_or_else(|| format!("there is no pipeline {id:?}"))?;
            let mut outlets: Vec<Box<dyn Outlet>> = Vec::new();
            for sink in &pipeline.sinks {
                if let Some((config, transaction)) = self.in_transaction.get(sink).zip(transaction.as_ref()) {
                    let digest = Arc::from(self.plan.digest.as_str());
                    outlets.push(Box::new(InTransaction::new(sink, config, digest, transaction.clone())?));
                } else if let Some(handle) = self.sinks.get(sink) {
                    waited_for.insert(sink.clone(), handle.clone());
                    outlets.push(Box::new(Patient { sink: handle.clone(), stop: self.stop.clone() }));
                }
            }
            if pipeline.is_forward() {
                flows.extend(outlets);
                continue;
            }
            let levels: Vec<KeyLevel> =
                pipeline.keys.iter().copied().filter(|k| self.plan.judges(pipeline, k.kind)).collect();
            let judges = || self.judges.detectors(&self.plan, pipeline);
            let built = build_pipeline(&self.plan, pipeline, &levels, Some(&self.judges), judges, None, false)
                .map_err(|problems| problems.into_iter().map(|p| p.message).collect::<Vec<_>>().join("; "))?;
            // Records as they are leave the task itself, once, whatever pipelines do.
            let (forwarded, told): (Vec<_>, Vec<_>) =
                outlets.into_iter().partition(|o| o.content() == crate::model::Content::Flows);
            flows.extend(forwarded);
            lanes.push(Lane::new(built, told, &nexts));
        }
        let letters = self.config.dead_letter_topic.as_ref().and_then(|topic| {
            let post = match (&transaction, &self.letters) {
                (Some(transaction), _) => Post::Transaction(transaction.clone()),
                (None, Some(letters)) => Post::Letters(letters.clone()),
                (None, None) => return None,
            };
            Some(DeadLetters { topic: Arc::from(topic.as_str()), post })
        });
        let delivery = Delivery::new(
            &self.source,
            crate::kafka::brokers(&self.config.brokers),
            self.consumer.clone(),
            waited_for.into_values().collect(),
            flows,
            if transaction.is_some() { None } else { self.letters.clone() },
            transaction,
        );
        Ok(Task::resume(Parts {
            source: self.source.clone(),
            starts,
            reading,
            lanes,
            delivery,
            letters,
            store: self.store.clone(),
            plan_digest: Arc::from(self.plan.digest.as_str()),
            every: Duration::from_millis(self.config.commit_interval_ms.max(10)),
            delay_ns,
        }))
    }
}
