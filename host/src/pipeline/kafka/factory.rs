//! Makes tasks: everything that a partition's pipelines need, each time it begins.

use super::super::assemble::{BuiltPipeline, Shop};
use super::super::build::Problem;
use super::super::outlet::{Outlet, Patient};
use super::super::reading::Reading;
use super::super::shadow::Shadows;
use super::delivery::Delivery;
use super::lane::Lane;
use super::letters::{DeadLetters, Post};
use super::outlet::InTransaction;
use super::plan::LogParts;
use super::task::{Parts, Task};
use super::transaction::{Transaction, TransactionSettings};
use crate::config::PipelinePlan;
use crate::model::Content;
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

    /// Its plan is in force: events say so from here on.
    pub(super) fn begin(&self) {
        self.parts.digest.set(self.parts.plan.digest.as_str().into());
    }

    pub(super) fn pipeline(&self, id: &Arc<str>) -> Result<&PipelinePlan, String> {
        self.parts.plan.pipelines.get(id).ok_or_else(|| format!("there is no pipeline {id:?}"))
    }

    pub(super) fn shop(&self) -> Shop<'_> {
        let LogParts { plan, judges, digest, .. } = &self.parts;
        Shop { plan, judges: Some(judges), live: false, store: None, digest: Some(digest) }
    }

    pub(super) fn reading(&self) -> Result<Reading, String> {
        let decode = &self.parts.config.decode;
        Reading::new(Some(&self.parts.judges), &self.source, decode).map_err(|e| e.to_string())
    }

    /// Where a pipeline's outputs go; what it tells itself only where that is `asked` for. Records as they are leave the task
    /// itself, once, whatever pipelines do.
    pub(super) fn outlets(
        &self,
        pipeline: &PipelinePlan,
        transaction: Option<&Arc<Mutex<Transaction>>>,
        ways: &mut Ways,
        asked: bool,
    ) -> Result<Vec<Box<dyn Outlet>>, String> {
        let mut told: Vec<Box<dyn Outlet>> = Vec::new();
        for sink in &pipeline.sinks {
            let into = self.parts.in_transaction.get(sink).zip(transaction);
            let handle = self.sinks.get(sink).filter(|_| into.is_none());
            ways.sinks.extend(handle.map(|handle| (sink.clone(), handle.clone())));
            let content = into.map(|(config, _)| config.content).or(handle.map(|handle| handle.content()));
            if content != Some(Content::Flows) && (!asked || pipeline.is_forward()) {
                continue;
            }
            let outlet: Box<dyn Outlet> = if let Some((config, transaction)) = into {
                let digest = self.parts.digest.clone();
                Box::new(InTransaction::new(sink, config, digest, transaction.clone())?)
            } else if let Some(handle) = handle {
                Box::new(Patient { sink: handle.clone(), stop: self.stop.clone() })
            } else {
                continue;
            };
            if content == Some(Content::Flows) { &mut ways.flows } else { &mut told }.push(outlet);
        }
        Ok(told)
    }

    /// A pipeline that begins.
    pub(super) fn lane(&self, pipeline: &PipelinePlan, told: Vec<Box<dyn Outlet>>) -> Result<NewLane, String> {
        let built = self.shop().pipeline(pipeline, None, None).map_err(said)?;
        built.facts.compared.iter().for_each(|compared| self.shadows.add(compared));
        let settled = self.parts.settled.get(&pipeline.id).cloned().unwrap_or_default();
        Ok(NewLane { built, told, settled })
    }

    /// A task that begins there.
    pub(super) fn task(
        &self,
        starts: Vec<Start>,
        transaction: Option<Transaction>,
        delay_ns: Arc<AtomicU64>,
    ) -> Result<Task, String> {
        let transaction = transaction.map(|t| Arc::new(Mutex::new(t)));
        let nexts: Vec<i64> = starts.iter().map(|s| s.next).collect();
        let (mut lanes, mut ways) = (Vec::new(), Ways::default());
        for id in &self.parts.pipelines {
            let pipeline = self.pipeline(id)?;
            let told = self.outlets(pipeline, transaction.as_ref(), &mut ways, true)?;
            if !pipeline.is_forward() {
                lanes.push(self.lane(pipeline, told)?.at(&nexts));
            }
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
            ways,
            if transaction.is_some() { None } else { self.parts.letters.clone() },
            transaction,
        );
        Ok(Task::resume(Parts {
            source: self.source.clone(),
            starts,
            reading: self.reading()?,
            lanes,
            delivery,
            letters,
            store: self.parts.store.clone(),
            plan_digest: self.parts.digest.clone(),
            every: Duration::from_millis(self.parts.config.commit_interval_ms.max(10)),
            delay_ns,
        }))
    }
}

/// Where a task's outputs go, besides those of its pipelines' own.
#[derive(Default)]
pub(super) struct Ways {
    /// Sinks that must have delivered before positions are committed.
    pub(super) sinks: BTreeMap<Arc<str>, Arc<SinkHandle>>,
    /// Where decoded records go as they are.
    pub(super) flows: Vec<Box<dyn Outlet>>,
}

/// A pipeline that is to begin.
pub(super) struct NewLane {
    built: BuiltPipeline,
    told: Vec<Box<dyn Outlet>>,
    settled: Arc<AtomicU64>,
}

impl NewLane {
    /// At these positions.
    pub(super) fn at(self, nexts: &[i64]) -> Lane {
        Lane::new(self.built, self.told, self.settled, nexts)
    }
}

/// Problems in one line.
pub(super) fn said(problems: Vec<Problem>) -> String {
    problems.into_iter().map(|p| p.message).collect::<Vec<_>>().join("; ")
}
