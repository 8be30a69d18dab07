//! When positions are committed. At least once: when every sink has said that all before is delivered. Exactly once:
//! together with the outputs, in the task's transaction. In: positions to commit. Out: commits; a task whose transaction
//! broke is told so, and is made again from what is committed.

use super::super::outlet::Outlet;
use super::factory::Ways;
use super::letters::Letters;
use super::transaction::Transaction;
use crate::kafka::explain;
use crate::model::Output;
use crate::sink::worker::{SinkHandle, is_lost};
use crate::source::kafka::{Context, Start, commit_now, positions};
use crate::telemetry::SOURCE_COMMITS;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use metrics::counter;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long sinks outside the transaction may take before it is given up.
const SINKS: Duration = Duration::from_secs(30);

/// A task that cannot go on as it is.
#[derive(Debug)]
pub(super) struct Broken {
    /// Metric label.
    pub(super) reason: &'static str,
    /// For a person.
    pub(super) message: String,
}

impl Broken {
    pub(super) fn new(reason: &'static str, message: String) -> Self {
        Self { reason, message }
    }
}

/// What is done once positions are committed.
type Then = Box<dyn FnOnce() + Send>;

pub(super) struct Delivery {
    source: Arc<str>,
    brokers: String,
    consumer: Arc<BaseConsumer<Context>>,
    /// All that must have delivered what came before.
    sinks: Vec<Arc<SinkHandle>>,
    /// Of sinks that a reload took away: told when they have delivered what they were given.
    parting: Vec<Receiver<()>>,
    /// Where decoded records go as they are.
    flows: Vec<Box<dyn Outlet>>,
    letters: Option<Arc<Letters>>,
    transaction: Option<Arc<Mutex<Transaction>>>,
    pending: Option<Pending>,
}

struct Pending {
    answers: Vec<Receiver<()>>,
    /// Of sinks that are asked no more.
    parting: Vec<Receiver<()>>,
    starts: Vec<Start>,
    then: Then,
}

impl Delivery {
    pub(super) fn new(
        source: &Arc<str>,
        brokers: String,
        consumer: Arc<BaseConsumer<Context>>,
        Ways { sinks, flows }: Ways,
        letters: Option<Arc<Letters>>,
        transaction: Option<Arc<Mutex<Transaction>>>,
    ) -> Self {
        let (source, sinks) = (source.clone(), sinks.into_values().collect());
        let (parting, pending) = (Vec::new(), None);
        Self { source, brokers, consumer, sinks, parting, flows, letters, transaction, pending }
    }

    /// From now on outputs go there. What sinks have that are not among them is waited for before the next commit.
    pub(super) fn succeed(&mut self, Ways { sinks, flows }: Ways) {
        let before = std::mem::replace(&mut self.sinks, sinks.into_values().collect());
        let gone = before.iter().filter(|b| !self.sinks.iter().any(|s| Arc::ptr_eq(b, s)));
        self.parting.extend(gone.map(|sink| sink.barrier()));
        self.flows = flows;
    }

    /// Outputs that no pipeline makes: records as they are.
    pub(super) fn forward(&mut self, output: &Output) {
        self.flows.iter_mut().for_each(|outlet| outlet.put(output.clone()));
    }

    /// Its transaction, for outlets to come.
    pub(super) fn transaction(&self) -> Option<Arc<Mutex<Transaction>>> {
        self.transaction.clone()
    }

    pub(super) fn is_transactional(&self) -> bool {
        self.transaction.is_some()
    }

    /// True when the last commit is done with.
    pub(super) fn is_ready(&self) -> bool {
        self.pending.is_none()
    }

    /// True when something waits for a commit to become visible.
    pub(super) fn has_unsent(&self) -> bool {
        self.transaction.as_ref().is_some_and(|t| lock(t).is_open())
    }

    /// Commits these positions when all that came before is delivered.
    pub(super) fn commit(&mut self, starts: Vec<Start>, then: Then) -> Result<(), Broken> {
        let answers: Vec<_> = self.sinks.iter().map(|s| s.barrier()).collect();
        let parting = std::mem::take(&mut self.parting);
        let Some(transaction) = self.transaction.clone() else {
            self.pending = Some(Pending { answers, parting, starts, then });
            return self.tend();
        };
        let until = Instant::now() + SINKS;
        for answer in answers.into_iter().chain(parting) {
            answer.recv_deadline(until).map_err(|error| {
                let why = match error {
                    RecvTimeoutError::Timeout => "a sink outside the transaction does not answer",
                    RecvTimeoutError::Disconnected => "a sink outside the transaction could not deliver",
                };
                Broken::new("sink", why.to_owned())
            })?;
        }
        let list = positions(&starts);
        let mut transaction = lock(&transaction);
        let done = if transaction.is_open() {
            let group = self.consumer.group_metadata();
            let group = group.ok_or_else(|| Broken::new("group", "this process is in no group".to_owned()))?;
            transaction.commit(&list, &group)
        } else {
            // Nothing was told: positions alone need no transaction, and a zombie's are refused by the group.
            commit_now(&self.consumer, &list)
        };
        self.count(if done.is_ok() { "done" } else { "aborted" });
        done.map_err(|error| {
            let trouble = explain(&error, &self.brokers);
            Broken::new(trouble.reason, trouble.to_string())
        })?;
        then();
        Ok(())
    }

    /// Looks whether what a commit waits for has happened.
    pub(super) fn tend(&mut self) -> Result<(), Broken> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        // Who has gone cannot make up for it: the task begins again, and tells it to those who came after.
        if is_lost(&mut pending.parting) {
            self.pending = None;
            self.count("failed");
            return Err(Broken::new("sink", "a sink that a reload took away could not deliver what it had".to_owned()));
        }
        let lost = is_lost(&mut pending.answers);
        if lost {
            self.pending = None;
            self.count("failed");
            let why = "a sink could not deliver: positions stay where they are, and what it missed is told again after a restart";
            tracing::error!(component_id = &*self.source, "{why}");
            return Ok(());
        }
        let delivered = pending.answers.is_empty()
            && pending.parting.is_empty()
            && self.letters.as_ref().is_none_or(|l| l.are_delivered());
        if delivered && let Some(Pending { starts, then, .. }) = self.pending.take() {
            match commit_now(&self.consumer, &positions(&starts)) {
                Ok(()) => {
                    self.count("done");
                    then();
                }
                Err(error) => {
                    // The next commit says the same and more; who lost its partitions is told by the group.
                    self.count("failed");
                    let trouble = explain(&error, &self.brokers);
                    tracing::warn!(
                        component_id = &*self.source,
                        error_type = trouble.reason,
                        "positions were not committed: {trouble}"
                    );
                }
            }
        }
        Ok(())
    }

    /// The task ends: what is not committed is left.
    pub(super) fn close(&mut self) {
        if let Some(transaction) = &self.transaction {
            lock(transaction).abort();
        }
        if let Some(letters) = &self.letters {
            letters.flush(Duration::from_secs(2));
        }
    }

    pub(super) fn count(&self, outcome: &'static str) {
        counter!(SOURCE_COMMITS, "component_id" => self.source.to_string(), "outcome" => outcome).increment(1);
    }
}

fn lock(transaction: &Arc<Mutex<Transaction>>) -> MutexGuard<'_, Transaction> {
    transaction.lock().unwrap_or_else(PoisonError::into_inner)
}
