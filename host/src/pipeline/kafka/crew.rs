//! The threads that decode and judge. A task stays on one; each thread has its tasks' messages in the order in which they
//! were read. In: what the reading thread hands over. Out: tasks that broke, to be made again.

use super::super::gate::{Gate, Vote};
use super::delivery::Broken;
use super::factory::Factory;
use super::next::{NextTask, TaskFacts};
use super::task::Task;
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
        done: Sender<()>,
    },
    /// What must be known of the task to make what it becomes.
    Facts(u64, Sender<TaskFacts>),
    /// All get ready for the next plan.
    Prepare(Box<Preparing>),
}

/// What the tasks of a thread are to become.
pub(super) struct Preparing {
    /// By task.
    pub(super) tasks: BTreeMap<u64, NextTask>,
    /// Makes tasks from then on.
    pub(super) factory: Arc<Factory>,
    pub(super) vote: Sender<Vote>,
    /// Where the word is heard.
    pub(super) gate: Arc<Gate>,
}

/// A task to be made.
pub(super) struct Opening {
    pub(super) task: u64,
    pub(super) starts: Vec<Start>,
    pub(super) transaction: Option<Transaction>,
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
                let Opening { task, starts, transaction, gauges } = *opening;
                match factory.task(starts, transaction, gauges.delay_ns.clone()) {
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
                tasks.remove(&task).into_iter().for_each(|(task, _)| task.close(commit, at_most));
                // Who asked may have stopped waiting.
                let _ = done.send(());
            }
            Ok(ToCrew::Facts(task, tell)) => {
                tasks.get(&task).into_iter().for_each(|(task, _)| drop(tell.send(task.facts())));
            }
            Ok(ToCrew::Prepare(preparing)) => {
                if let Some(next) = prepare(*preparing, &mut tasks) {
                    factory = next;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let broken: Vec<(u64, Broken)> =
            tasks.iter_mut().filter_map(|(id, (task, _))| Some((*id, task.tend().err()?))).collect();
        for (id, broken) in broken {
            tasks.remove(&id).into_iter().for_each(|(task, _)| task.close(false, Duration::ZERO));
            // The reading thread is gone only when all ends.
            let _ = again.send(Again { task: id, broken });
        }
    }
    tasks.into_values().for_each(|(task, _)| task.close(false, Duration::ZERO));
}

/// Hands what tasks know to what they become, says whether that can go on with it, and waits for the word of all. It is short:
/// what is built was built before. Gives what makes tasks from then on.
fn prepare(preparing: Preparing, tasks: &mut BTreeMap<u64, (Task, Arc<Gauges>)>) -> Option<Arc<Factory>> {
    let Preparing { tasks: mut next, factory, vote, gate } = preparing;
    let ready = next.iter_mut().filter_map(|(id, next)| tasks.get_mut(id).map(|(task, _)| task.ready(next)));
    // Who asked may have stopped waiting: then the word is no.
    let _ = vote.send(ready.collect::<Result<Vec<_>, _>>().map(|notes| notes.concat()));
    if !gate.wait() {
        return None;
    }
    factory.begin();
    for (id, next) in next {
        if let Some((task, _)) = tasks.get_mut(&id) {
            task.succeed(next);
        }
    }
    Some(factory)
}
