//! The threads that decode and judge. A task stays on one; each thread has its tasks' messages in the order in which they
//! were read. In: what the reading thread hands over. Out: tasks that broke, to be made again.

use super::delivery::Broken;
use super::factory::Factory;
use super::task::{Sections, Task};
use super::transaction::Transaction;
use crate::source::kafka::{Messages, Start, TopicPartition};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A thread looks after its tasks' commits at least so often.
const LOOK: Duration = Duration::from_millis(20);

/// What a thread is told.
pub(super) enum ToCrew {
    Open(Box<Opening>),
    Messages(u64, TopicPartition, Messages),
    Quiet(u64, TopicPartition, u64),
    /// The task ends; with a last commit or without.
    Close {
        task: u64,
        commit: bool,
        at_most: Duration,
        done: Sender<Option<Sections>>,
    },
    /// What the task knows.
    Knows(u64, Sender<Sections>),
    /// Tasks to come are made by this one; pipelines that it has no more end now.
    Factory(Arc<Factory>),
}

/// A task to be made.
pub(super) struct Opening {
    pub(super) task: u64,
    pub(super) starts: Vec<Start>,
    pub(super) transaction: Option<Transaction>,
    /// What the task before it knew, where no checkpoint has it.
    pub(super) known: Option<Sections>,
    pub(super) gauges: Arc<Gauges>,
}

/// What the reading thread sees of a task.
#[derive(Default)]
pub(super) struct Gauges {
    /// Bytes that wait.
    pub(super) queued: AtomicUsize,
    /// How far the watermark is behind, ns.
    pub(super) delay_ns: Arc<AtomicU64>,
}

/// A task that has to be made again.
pub(super) struct Again {
    pub(super) task: u64,
    pub(super) broken: Broken,
}

/// Runs until the reading thread hangs up.
pub(super) fn work(factory: Arc<Factory>, input: &Receiver<ToCrew>, again: &Sender<Again>) {
    let mut factory = factory;
    let mut tasks: BTreeMap<u64, (Task, Arc<Gauges>)> = BTreeMap::new();
    loop {
        match input.recv_timeout(LOOK) {
            Ok(ToCrew::Open(opening)) => {
                let Opening { task, starts, transaction, known, gauges } = *opening;
                match factory.task(starts, transaction, known, gauges.delay_ns.clone()) {
                    Ok(made) => drop(tasks.insert(task, (made, gauges))),
                    Err(message) => drop(again.send(Again { task, broken: Broken::new("build", message) })),
                }
            }
            Ok(ToCrew::Messages(task, at, messages)) => {
                if let Some((task, gauges)) = tasks.get_mut(&task) {
                    task.messages(&at, &messages);
                    gauges.queued.fetch_sub(messages.bytes(), Ordering::Relaxed);
                }
            }
            Ok(ToCrew::Quiet(task, at, clock_ns)) => {
                if let Some((task, _)) = tasks.get_mut(&task) {
                    task.quiet(&at, clock_ns);
                }
            }
            Ok(ToCrew::Close { task, commit, at_most, done }) => {
                let known = tasks.remove(&task).and_then(|(task, _)| task.close(commit, at_most));
                // Who asked may have stopped waiting.
                let _ = done.send(known);
            }
            Ok(ToCrew::Knows(task, tell)) => {
                let known = tasks.get_mut(&task).map(|(task, _)| task.known()).unwrap_or_default();
                let _ = tell.send(known);
            }
            Ok(ToCrew::Factory(next)) => {
                tasks.values_mut().for_each(|(task, _)| task.only(next.pipelines()));
                factory = next;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let broken: Vec<(u64, Broken)> =
            tasks.iter_mut().filter_map(|(id, (task, _))| Some((*id, task.tend().err()?))).collect();
        for (id, broken) in broken {
            drop(tasks.remove(&id).and_then(|(task, _)| task.close(false, Duration::ZERO)));
            // The reading thread is gone only when all ends.
            let _ = again.send(Again { task: id, broken });
        }
    }
    tasks.into_values().for_each(|(task, _)| drop(task.close(false, Duration::ZERO)));
}
