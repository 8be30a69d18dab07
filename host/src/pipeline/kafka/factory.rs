//! Makes tasks: everything that a partition's pipelines need, each time it begins.

use super::super::assemble::Shop;
use super::super::gate::Vote;
use super::super::outlet::{Outlet, Patient};
use super::super::reading::Reading;
use super::super::shadow::Shadows;
use super::delivery::Delivery;
use super::lane::Lane;
use super::letters::{DeadLetters, Post};
use super::outlet::InTransaction;
use super::plan::LogParts;
use super::task::{Parts, Sections, Task};
use super::transaction::{Transaction, TransactionSettings};
use crate::config::OnStateMismatch;
use crate::model::{Handover, PlanDigest};
use crate::sink::worker::SinkHandle;
use crate::source::kafka::{Context, Start, TopicPartition};
use rdkafka::consumer::BaseConsumer;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// See the module.
pub(in crate::pipeline) struct Factory {
    pub(in crate::pipeline) source: Arc<str>,
    pub(in crate::pipeline) parts: LogParts,
    pub(in crate::pipeline) settings: TransactionSettings,
    /// Sinks that have a queue.
    pub(in crate::pipeline) sinks: BTreeMap<Arc<str>, Arc<SinkHandle>>,
    pub(in crate::pipeline) consumer: Arc<BaseConsumer<Context>>,
    pub(in crate::pipeline) stop: Arc<AtomicBool>,
    pub(in crate::pipeline) panicked: Arc<AtomicBool>,
    pub(in crate::pipeline) shadows: Arc<Shadows>,
}

impl Factory {
    /// The next one of the same source: other pipelines, the same session.
    pub(super) fn succeed(&self, parts: LogParts, sinks: BTreeMap<Arc<str>, Arc<SinkHandle>>) -> Self {
        Self {
            source: self.source.clone(),
            parts,
            settings: self.settings.clone(),
            sinks,
            consumer: self.consumer.clone(),
            stop: self.stop.clone(),
            panicked: self.panicked.clone(),
            shadows: self.shadows.clone(),
        }
    }

    /// Whether its detectors can go on with what those of a task know. Err: the reason of one that cannot, and must.
    pub(super) fn tries(&self, known: &Sections) -> Vote {
        let mut notes = Vec::new();
        for id in &self.parts.pipelines {
            let plan = &self.parts.plan;
            let Some(pipeline) = plan.pipelines.get(id).filter(|p| !p.is_forward()) else { continue };
            let detectors = self.parts.judges.all_detectors(plan, pipeline);
            let detectors = detectors.map_err(|p| p.into_iter().map(|p| p.message).collect::<Vec<_>>().join("; "))?;
            for mut detector in detectors {
                let Some(memory) = known.get(&format!("{id}/detector/{}", detector.id())) else { continue };
                let Err(error) = detector.restore(memory) else { continue };
                let resets =
                    plan.detectors.get(detector.id()).is_some_and(|d| d.on_state_mismatch == OnStateMismatch::Reset);
                let text = format!("detector `{}` of pipeline `{id}`", detector.id());
                if !resets {
                    detector.count_handover(Handover::Refused);
                    return Err(format!("{text} cannot go on with what its predecessor knew: {error}"));
                }
                detector.count_handover(Handover::Reset);
                notes.push(format!("{text} begins anew: {error}"));
            }
        }
        Ok(notes)
    }

    pub(super) fn source(&self) -> &Arc<str> {
        &self.source
    }

    pub(super) fn pipelines(&self) -> &[Arc<str>] {
        &self.parts.pipelines
    }

    pub(super) fn is_keyed(&self) -> bool {
        self.parts.config.keyed
    }

    pub(super) fn queue_bytes(&self) -> usize {
        self.parts.config.queue_bytes
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
        if self.is_keyed() { self.parts.config.threads.unwrap_or(cores).max(1) } else { 1 }
    }

    pub(super) fn is_exactly_once(&self) -> bool {
        self.parts.config.exactly_once
    }

    /// The transactional id of a task. It begins with the group's name, so that one prefixed ACL does.
    pub(super) fn transactional_id(&self, partitions: &[TopicPartition]) -> String {
        let group = &self.parts.config.group;
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
        known: Option<Sections>,
        delay_ns: Arc<AtomicU64>,
    ) -> Result<Task, String> {
        let transaction = transaction.map(|t| Arc::new(Mutex::new(t)));
        let reading = Reading::new(Some(&self.parts.judges), &self.source, &self.parts.config.decode)
            .map_err(|e| e.to_string())?;
        let nexts: Vec<i64> = starts.iter().map(|s| s.next).collect();
        let (mut lanes, mut flows) = (Vec::new(), Vec::new());
        let mut waited_for: BTreeMap<Arc<str>, Arc<SinkHandle>> = BTreeMap::new();
        for id in &self.parts.pipelines {
            let pipeline = self.parts.plan.pipelines.get(id).ok_or_else(|| format!("there is no pipeline {id:?}"))?;
            let mut outlets: Vec<Box<dyn Outlet>> = Vec::new();
            for sink in &pipeline.sinks {
                if let Some((config, transaction)) = self.parts.in_transaction.get(sink).zip(transaction.as_ref()) {
                    let digest = PlanDigest::from(self.parts.plan.digest.as_str());
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
            let shop = Shop { plan: &self.parts.plan, judges: Some(&self.parts.judges), live: false, store: None };
            let built = shop
                .pipeline(pipeline, None, None)
                .map_err(|problems| problems.into_iter().map(|p| p.message).collect::<Vec<_>>().join("; "))?;
            built.facts.compared.iter().for_each(|compared| self.shadows.add(compared));
            // Records as they are leave the task itself, once, whatever pipelines do.
            let (forwarded, told): (Vec<_>, Vec<_>) =
                outlets.into_iter().partition(|o| o.content() == crate::model::Content::Flows);
            flows.extend(forwarded);
            let settled = self.parts.settled.get(id).cloned().unwrap_or_default();
            lanes.push(Lane::new(built, told, settled, &nexts));
        }
        let letters = self.parts.config.dead_letter_topic.as_ref().and_then(|topic| {
            let post = match (&transaction, &self.parts.letters) {
                (Some(transaction), _) => Post::Transaction(transaction.clone()),
                (None, Some(letters)) => Post::Letters(letters.clone()),
                (None, None) => return None,
            };
            Some(DeadLetters { topic: Arc::from(topic.as_str()), post })
        });
        let delivery = Delivery::new(
            &self.source,
            crate::kafka::brokers(&self.parts.config.brokers),
            self.consumer.clone(),
            waited_for.into_values().collect(),
            flows,
            if transaction.is_some() { None } else { self.parts.letters.clone() },
            transaction,
        );
        Ok(Task::resume(Parts {
            source: self.source.clone(),
            starts,
            known,
            reading,
            lanes,
            delivery,
            letters,
            store: self.parts.store.clone(),
            plan_digest: Arc::from(self.parts.plan.digest.as_str()),
            every: Duration::from_millis(self.parts.config.commit_interval_ms.max(10)),
            delay_ns,
        }))
    }
}
