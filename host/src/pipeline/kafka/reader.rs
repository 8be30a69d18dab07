//! The reading thread of a Kafka source. In: events of the group. Out: messages to the crew; partitions are begun, paused
//! and given back here, and nowhere else.

use super::super::gate::{Gate, Vote};
use super::committed::Committed;
use super::crew::{Again, Gauges, Opening, Preparing, ToCrew, work};
use super::factory::Factory;
use super::next::NextTask;
use super::plan::LogParts;
use super::transaction::{Transaction, TransactionError};
use crate::sink::worker::SinkHandle;
use crate::source::kafka::{Event, Feed, Start, TopicPartition};
use crate::telemetry::{SOURCE_PARTITIONS, SOURCE_PAUSED, SOURCE_POSITIONS_GONE, SOURCE_REBUILDS, WATERMARK_DELAY};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use metrics::{counter, gauge};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a task may take for its last commit when partitions go elsewhere.
const LAST_COMMIT: Duration = Duration::from_secs(20);
/// The same when the engine stops.
const STOPPING: Duration = Duration::from_secs(8);
/// Pause before something that failed at the brokers is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Tasks that are asked at a reload are waited for so long.
const KNOWS: Duration = Duration::from_secs(5);
/// How often gauges are set.
const GAUGES: Duration = Duration::from_millis(500);

/// Other pipelines over the same session.
pub(in crate::pipeline) struct Renew {
    pub(in crate::pipeline) parts: LogParts,
    /// Sinks that have a queue.
    pub(in crate::pipeline) sinks: BTreeMap<Arc<str>, Arc<SinkHandle>>,
    pub(in crate::pipeline) gate: Arc<Gate>,
}

/// A task as the reading thread sees it.
struct Ref {
    thread: usize,
    partitions: Vec<TopicPartition>,
    gauges: Arc<Gauges>,
    paused: bool,
}

struct Reader {
    feed: Feed,
    factory: Arc<Factory>,
    crew: Vec<Sender<ToCrew>>,
    tasks: BTreeMap<u64, Ref>,
    last_task: u64,
    again: Receiver<Again>,
    stop: Arc<AtomicBool>,
    gauges_at: Instant,
}

/// Reads until told to stop; then every task commits where it stands.
pub(in crate::pipeline) fn run(
    feed: Feed,
    factory: Factory,
    renewed: &Receiver<Renew>,
    stop: &Arc<AtomicBool>,
) -> Result<(), String> {
    let factory = Arc::new(factory);
    let (to_us, again) = unbounded();
    let (mut crew, mut threads): (Vec<_>, Vec<JoinHandle<()>>) = (Vec::new(), Vec::new());
    for number in 0..factory.threads() {
        // Bounded by bytes: partitions are paused when too many wait.
        let (to_thread, input) = unbounded();
        crew.push(to_thread);
        let (name, panicked) = (format!("{}-work-{number}", factory.source()), factory.panicked().clone());
        let (factory, to_us) = (factory.clone(), to_us.clone());
        let thread = super::super::running::spawn(&name, &panicked, move || work(factory, &input, &to_us));
        threads.push(thread);
    }
    if let Err(error) = feed.join() {
        return Err(format!("source {:?} cannot join its group: {error}", factory.source()));
    }
    let mut reader = Reader {
        feed,
        factory,
        crew,
        tasks: BTreeMap::new(),
        last_task: 0,
        again,
        stop: stop.clone(),
        gauges_at: Instant::now(),
    };
    while !stop.load(Ordering::Relaxed) {
        reader.step();
        renewed.try_iter().for_each(|renew| reader.renew(renew));
    }
    reader.close_all(true, STOPPING);
    reader.show();
    let all: Vec<TopicPartition> = reader.feed.positions().into_iter().map(|(at, _)| at).collect();
    reader.feed.end(&all);
    let Reader { feed, crew, factory, .. } = reader;
    drop(crew);
    feed.leave();
    let panicked = threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
    drop(factory);
    if panicked > 0 {
        let what = "a thread of a Kafka source panicked: this is a bug, its windows are made again after a restart";
        return Err(what.into());
    }
    Ok(())
}

impl Reader {
    fn step(&mut self) {
        while let Ok(Again { task, broken }) = self.again.try_recv() {
            let Some(known) = self.tasks.remove(&task) else { continue };
            let id = self.factory.source().to_string();
            counter!(SOURCE_REBUILDS, "component_id" => id, "reason" => broken.reason).increment(1);
            tracing::warn!(
                component_id = &**self.factory.source(),
                error_type = broken.reason,
                "windows of {} are made again from the committed positions: {}",
                names(&known.partitions),
                broken.message
            );
            std::thread::sleep(AGAIN);
            self.open(vec![known.partitions], true);
        }
        match self.feed.poll() {
            Event::Given(partitions) => self.given(partitions),
            Event::Taken { partitions, lost } => self.taken(&partitions, lost),
            Event::Messages(at, messages) => {
                if let Some((id, task)) = self.tasks.iter().find(|(_, t)| t.partitions.contains(&at)) {
                    task.gauges.queued.fetch_add(messages.bytes(), Ordering::Relaxed);
                    let _ = self.crew[task.thread].send(ToCrew::Messages(*id, at, messages));
                }
            }
            Event::Quiet(partitions, clock_ns) => {
                for at in partitions {
                    if let Some((id, task)) = self.tasks.iter().find(|(_, t)| t.partitions.contains(&at)) {
                        let _ = self.crew[task.thread].send(ToCrew::Quiet(*id, at, clock_ns));
                    }
                }
            }
            Event::PositionGone => self.position_gone(),
            Event::Nothing => {}
        }
        self.pause();
        self.show();
    }

    /// The pipelines of the next plan take over, if all of them can go on with what the present ones know. Built here, while the
    /// crew goes on; who shares the source with those that change does not notice.
    fn renew(&mut self, renew: Renew) {
        let Renew { parts, sinks, gate } = renew;
        let next = Arc::new(self.factory.succeed(parts, sinks));
        gate.vote(self.prepare(&next, &gate));
        if gate.wait() {
            self.factory = next;
        }
    }

    fn prepare(&self, next: &Arc<Factory>, gate: &Arc<Gate>) -> Vote {
        let mut threads: Vec<BTreeMap<u64, NextTask>> = self.crew.iter().map(|_| BTreeMap::new()).collect();
        for (id, task) in &self.tasks {
            let (tell, told) = bounded(1);
            let _ = self.crew[task.thread].send(ToCrew::Facts(*id, tell));
            let facts = match told.recv_timeout(KNOWS) {
                Ok(facts) => facts,
                // It broke, and is made again, by the factory of that time.
                Err(RecvTimeoutError::Disconnected) => continue,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("source `{}` is too far behind to change now", self.factory.source()));
                }
            };
            threads[task.thread].insert(*id, next.next_task(&self.factory, facts, gate)?);
        }
        let (vote, votes) = unbounded();
        for (thread, tasks) in self.crew.iter().zip(threads) {
            let preparing = Preparing { tasks, factory: next.clone(), vote: vote.clone(), gate: gate.clone() };
            let _ = thread.send(ToCrew::Prepare(Box::new(preparing)));
        }
        let mut notes = Vec::new();
        for _ in &self.crew {
            let late = |_| format!("source `{}` is too far behind to change now", self.factory.source());
            notes.extend(votes.recv_timeout(KNOWS).map_err(late)??);
        }
        Ok(notes)
    }

    /// Partitions are ours. What shares windows begins together: those that flow already go back to where all can begin.
    fn given(&mut self, partitions: Vec<TopicPartition>) {
        if !partitions.is_empty() {
            tracing::info!(component_id = &**self.factory.source(), "reads {}", names(&partitions));
        }
        if self.factory.is_keyed() {
            return self.open(partitions.into_iter().map(|at| vec![at]).collect(), false);
        }
        let flowing: Vec<TopicPartition> = self.tasks.values().flat_map(|t| t.partitions.clone()).collect();
        self.close_all(true, LAST_COMMIT);
        if !flowing.is_empty() {
            self.feed.end(&flowing);
        }
        let all: Vec<TopicPartition> = flowing.into_iter().chain(partitions).collect();
        self.open(if all.is_empty() { Vec::new() } else { vec![all] }, false);
        self.warn_shared();
    }

    /// Windows are shared by all partitions of a topic that is not keyed; what another process reads is missing in them.
    fn warn_shared(&self) {
        if self.tasks.is_empty() {
            return;
        }
        match self.feed.elsewhere() {
            Ok(0) => {}
            Ok(elsewhere) => tracing::warn!(
                component_id = &**self.factory.source(),
                error_type = "not_keyed",
                "{elsewhere} partitions are read by other processes of the group, and windows miss what lies in them: key the topic by the entity and set `keyed = true`, or run one process"
            ),
            Err(error) => self.feed.trouble(&error, "asking for the partitions of the topics"),
        }
    }

    fn taken(&mut self, partitions: &[TopicPartition], lost: bool) {
        let what = if lost { "has lost" } else { "gives back" };
        tracing::info!(component_id = &**self.factory.source(), "{what} {}", names(partitions));
        let theirs = |t: &Ref| t.partitions.iter().any(|p| partitions.contains(p));
        let ids: Vec<u64> = self.tasks.iter().filter(|(_, t)| theirs(t)).map(|(id, _)| *id).collect();
        let left: Vec<TopicPartition> = ids
            .iter()
            .flat_map(|id| self.tasks[id].partitions.iter())
            .filter(|p| !partitions.contains(p))
            .cloned()
            .collect();
        self.close(&ids, !lost, LAST_COMMIT);
        self.feed.end(partitions);
        if !left.is_empty() {
            // They shared windows with what has gone: these windows are made again from what is left.
            self.open(vec![left], true);
            self.warn_shared();
        }
    }

    /// Makes a task of each group of partitions, from the committed positions on. Tries until it succeeds or the engine
    /// stops. The group of consumers waits for one answer to what it gave, also where it gave nothing.
    fn open(&mut self, groups: Vec<Vec<TopicPartition>>, flowing: bool) {
        let mut transactions: Vec<Option<Transaction>> = groups.iter().map(|_| None).collect();
        let all: Vec<TopicPartition> = groups.iter().flatten().cloned().collect();
        while !self.stop.load(Ordering::Relaxed) {
            // First: nobody else can commit any more, and what they had begun is ended.
            if self.factory.is_exactly_once() && !self.take_over(&groups, &mut transactions) {
                std::thread::sleep(AGAIN);
                continue;
            }
            let committed = if all.is_empty() { Ok(Vec::new()) } else { self.feed.committed(&all) };
            match committed {
                Ok(starts) => return self.begin(&groups, transactions, &starts, flowing),
                Err(error) => {
                    self.feed.trouble(&error, "asking for the committed positions");
                    std::thread::sleep(AGAIN);
                }
            }
        }
    }

    /// Takes over the transactional ids that are still missing, side by side. False: not all.
    fn take_over(&self, groups: &[Vec<TopicPartition>], transactions: &mut [Option<Transaction>]) -> bool {
        let factory = &self.factory;
        let failed: Vec<(String, TransactionError)> = std::thread::scope(|scope| {
            let one = |(group, transaction): (&Vec<TopicPartition>, &mut Option<Transaction>)| {
                let id = factory.transactional_id(group);
                match Transaction::take_over(factory.settings(), &id) {
                    Ok(taken) => *transaction = Some(taken),
                    Err(error) => return Some((id, error)),
                }
                None
            };
            let missing = groups.iter().zip(transactions.iter_mut()).filter(|(_, t)| t.is_none());
            let threads: Vec<_> = missing.map(|pair| scope.spawn(move || one(pair))).collect();
            threads.into_iter().filter_map(|t| t.join().ok().flatten()).collect()
        });
        for (id, error) in &failed {
            match error {
                TransactionError::Kafka(error) => {
                    self.feed.trouble(error, &format!("taking over transactional id {id}"));
                }
                error => tracing::error!(component_id = &**self.factory.source(), "{error}"),
            }
        }
        failed.is_empty()
    }

    fn begin(
        &mut self,
        groups: &[Vec<TopicPartition>],
        transactions: Vec<Option<Transaction>>,
        starts: &[Start],
        flowing: bool,
    ) {
        for (partitions, transaction) in groups.iter().zip(transactions) {
            self.last_task += 1;
            let task = self.last_task;
            let theirs: Vec<Start> = starts.iter().filter(|s| partitions.contains(&s.at)).cloned().collect();
            // A partition comes back to the thread it was on.
            let thread = partitions.first().map_or(0, |at| at.partition.unsigned_abs() as usize) % self.crew.len();
            let gauges = Arc::new(Gauges::default());
            let opening = Opening { task, starts: theirs, transaction, gauges: gauges.clone() };
            let _ = self.crew[thread].send(ToCrew::Open(Box::new(opening)));
            self.tasks.insert(task, Ref { thread, partitions: partitions.clone(), gauges, paused: false });
        }
        let begun = if flowing { self.feed.seek(starts) } else { self.feed.begin(starts) };
        if let Err(error) = begun {
            // The group has taken them away meanwhile, and says so next.
            self.feed.trouble(&error, "beginning to read");
        }
    }

    fn close_all(&mut self, commit: bool, at_most: Duration) {
        let ids: Vec<u64> = self.tasks.keys().copied().collect();
        self.close(&ids, commit, at_most);
    }

    /// Ends tasks and waits for their last commits.
    fn close(&mut self, ids: &[u64], commit: bool, at_most: Duration) {
        let mut waiting = Vec::new();
        for id in ids {
            let Some(task) = self.tasks.remove(id) else { continue };
            let (done, wait) = bounded(1);
            let _ = self.crew[task.thread].send(ToCrew::Close { task: *id, commit, at_most, done });
            waiting.push(wait);
        }
        let until = Instant::now() + at_most + Duration::from_secs(2);
        for wait in waiting {
            if wait.recv_deadline(until).is_err() {
                tracing::warn!(
                    component_id = &**self.factory.source(),
                    "a task does not end in time; its windows are made again from the committed positions"
                );
            }
        }
    }

    /// Positions are not there any more: retention was shorter than the time away, or a topic was made anew.
    fn position_gone(&mut self) {
        let gone = match self.feed.gone(&self.feed.positions()) {
            Ok(gone) => gone,
            Err(error) => return self.feed.trouble(&error, "asking for the oldest messages"),
        };
        for (at, next, low) in gone {
            let id = self.factory.source().to_string();
            counter!(SOURCE_POSITIONS_GONE, "component_id" => id.clone()).increment(1);
            tracing::error!(
                component_id = id,
                error_type = "offset_gone",
                "position {next} of {at} is not there any more (retention, or the topic was made anew): what lay between is lost, going on with the oldest message, {low}"
            );
            let ids: Vec<u64> =
                self.tasks.iter().filter(|(_, t)| t.partitions.contains(&at)).map(|(id, _)| *id).collect();
            let partitions: Vec<TopicPartition> = ids.iter().flat_map(|id| self.tasks[id].partitions.clone()).collect();
            self.close(&ids, false, LAST_COMMIT);
            let moved = self.feed.committed(std::slice::from_ref(&at)).and_then(|starts| {
                let anew = |s: Start| Start { next: low, metadata: Committed::read(&s.metadata).anew().write(), ..s };
                self.feed.reset(&starts.into_iter().map(anew).collect::<Vec<_>>())
            });
            if let Err(error) = moved {
                self.feed.trouble(&error, "moving the group's position");
            }
            if !partitions.is_empty() {
                self.open(vec![partitions], true);
            }
        }
    }

    /// Who has too much waiting gets nothing more until half of it is done.
    fn pause(&mut self) {
        let limit = self.factory.queue_bytes();
        let mut waiting = vec![0usize; self.crew.len()];
        for task in self.tasks.values() {
            waiting[task.thread] += task.gauges.queued.load(Ordering::Relaxed);
        }
        for task in self.tasks.values_mut() {
            let bytes = waiting[task.thread];
            let pause = if task.paused { bytes > limit / 2 } else { bytes > limit };
            if pause != task.paused {
                task.paused = pause;
                self.feed.pause(&task.partitions, pause);
            }
        }
    }

    fn show(&mut self) {
        if self.gauges_at.elapsed() < GAUGES && !self.tasks.is_empty() {
            return;
        }
        self.gauges_at = Instant::now();
        let id = self.factory.source().to_string();
        let count = |tasks: &mut dyn Iterator<Item = &Ref>| tasks.map(|t| t.partitions.len()).sum::<usize>() as f64;
        gauge!(SOURCE_PARTITIONS, "component_id" => id.clone()).set(count(&mut self.tasks.values()));
        gauge!(SOURCE_PAUSED, "component_id" => id).set(count(&mut self.tasks.values().filter(|t| t.paused)));
        let delay = self.tasks.values().map(|t| t.gauges.delay_ns.load(Ordering::Relaxed)).max().unwrap_or(0);
        for pipeline in self.factory.pipelines() {
            gauge!(WATERMARK_DELAY, "pipeline" => pipeline.to_string()).set(delay as f64 / 1e9);
        }
    }
}

/// `flows/0, flows/3`, for a log line.
fn names(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
