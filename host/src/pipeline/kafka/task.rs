//! What is done with the partitions of one task: decoding, all pipelines of the source, positions. On one thread; the same
//! messages always give the same outputs. In: messages, quiet times. Out: outputs, dead letters, committed positions.

use super::super::gate::Vote;
use super::super::reading::{Reading, RowReader};
use super::committed::Committed;
use super::delivery::{Broken, Delivery};
use super::lane::Lane;
use super::letters::DeadLetters;
use super::next::{NextTask, TaskFacts};
use crate::checkpoint::{Checkpoint, CheckpointError, Position, Store};
use crate::decode::DecodeStats;
use crate::model::time::now_ns;
use crate::model::{Batch, FlowBatch, Frame, Output, PlanDigest};
use crate::source::kafka::{Messages, Start, TopicPartition};
use crate::telemetry::SOURCE_REFUSED;
use metrics::counter;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// In silence event time goes on and windows are told, all of them empty: that is committed at most so often.
const SILENT: Duration = Duration::from_secs(10);
/// Pause before a checkpoint that was not written is tried again, and between lines about it.
const AGAIN: Duration = Duration::from_secs(1);
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// How often counters are published.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);

/// What a task knows, by name.
type Sections = BTreeMap<String, Vec<u8>>;

/// One partition of a task.
struct Part {
    at: TopicPartition,
    /// The next position.
    next: i64,
    /// Messages before it were processed in another life: only windows need them again.
    seen: i64,
}

pub(super) struct Task {
    pub(super) source: Arc<str>,
    parts: Vec<Part>,
    reading: Reading,
    lanes: Vec<Lane>,
    delivery: Delivery,
    letters: Option<DeadLetters>,
    checkpoints: Option<Checkpoints>,
    plan_digest: PlanDigest,
    /// What was committed last.
    committed: Vec<Start>,
    every: Duration,
    due: Instant,
    /// Where nothing but empty windows was told, the next commit is then.
    silent_until: Instant,
    /// An incident was told since the last commit.
    told: bool,
    /// How long the last checkpoint took: taking them shall not become the work.
    cost: Duration,
    /// When it was last said that checkpoints cannot be written.
    complained: Option<Instant>,
    published: DecodeStats,
    publish_at: Instant,
    delay_ns: Arc<AtomicU64>,
}

/// Where a task keeps what it knows.
pub(super) struct Checkpoints {
    pub(super) store: Arc<Store>,
    pub(super) lane: String,
}

/// What a task is made of.
pub(super) struct Parts {
    pub(super) source: Arc<str>,
    pub(super) starts: Vec<Start>,
    pub(super) reading: Reading,
    pub(super) lanes: Vec<Lane>,
    pub(super) delivery: Delivery,
    pub(super) letters: Option<DeadLetters>,
    pub(super) store: Option<Arc<Store>>,
    pub(super) plan_digest: PlanDigest,
    pub(super) every: Duration,
    /// Where the task tells how far its watermark is behind.
    pub(super) delay_ns: Arc<AtomicU64>,
}

impl Task {
    /// Goes on where the committed positions stand, with what their checkpoint knows.
    pub(super) fn resume(parts: Parts) -> Self {
        let Parts { source, starts, mut reading, mut lanes, delivery, letters, store, plan_digest, every, delay_ns } =
            parts;
        let said: Vec<Committed> = starts.iter().map(|s| Committed::read(&s.metadata)).collect();
        // Partitions that share windows were committed together; where they were not, what they know is no one thing. New
        // ones know nothing yet.
        let told = || said.iter().filter(|c| **c != Committed::default());
        let state =
            told().next().and_then(|c| c.state.clone()).filter(|id| told().all(|c| c.state.as_ref() == Some(id)));
        let lane = lane_name(&source, &starts);
        let saved = restored(store.as_deref(), &lane, state.as_deref(), &source);
        for lane in &mut lanes {
            let told = said.iter().filter_map(|c| c.told.get(&**lane.id()).copied()).max();
            lane.restore(told, &saved);
            lane.expect(&source);
        }
        if let Some(templates) = saved.get("templates")
            && let Err(error) = reading.restore(templates)
        {
            tracing::warn!(component_id = &*source, "the templates of the checkpoint are not used: {error}");
        }
        let parts = starts
            .iter()
            .zip(&said)
            .map(|(start, said)| Part { at: start.at.clone(), next: start.next, seen: said.seen })
            .collect();
        Self {
            source,
            parts,
            reading,
            lanes,
            delivery,
            letters,
            checkpoints: store.map(|store| Checkpoints { store, lane }),
            plan_digest,
            committed: starts,
            every,
            due: Instant::now() + every,
            silent_until: Instant::now(),
            told: false,
            cost: Duration::ZERO,
            complained: None,
            published: DecodeStats::default(),
            publish_at: Instant::now(),
            delay_ns,
        }
    }

    /// Which of the task's partitions it is.
    fn number(&self, at: &TopicPartition) -> Option<usize> {
        self.parts.iter().position(|p| p.at == *at)
    }

    /// Messages of one partition.
    pub(super) fn messages(&mut self, at: &TopicPartition, messages: &Messages) {
        let Some(number) = self.number(at) else { return };
        let mut new = Vec::with_capacity(messages.offsets.len());
        let mut next = self.parts[number].next;
        for (i, (frame, &offset)) in messages.frames.frames.iter().zip(&messages.offsets).enumerate() {
            if offset < next {
                // Delivered twice: its windows have it.
                counter!(SOURCE_REFUSED, "component_id" => self.source.to_string(), "reason" => "duplicate")
                    .increment(1);
                continue;
            }
            new.push((i, *frame, offset));
            next = offset + 1;
        }
        // What is read again ends where what was seen ends: outputs of single records are told from there on.
        let seen = self.parts[number].seen;
        let (again, fresh) = new.split_at(new.partition_point(|(_, _, offset)| *offset < seen));
        for some in [again, fresh].into_iter().filter(|some| !some.is_empty()) {
            match self.reading {
                Reading::Flows(..) => self.flows(number, at, messages, some),
                Reading::Rows(_) => self.rows(number, at, messages, some),
            }
        }
    }

    fn flows(&mut self, number: usize, at: &TopicPartition, messages: &Messages, new: &[(usize, Frame, i64)]) {
        let Reading::Flows(decoder, builder) = &mut self.reading else { return };
        let Part { next: first, seen, .. } = self.parts[number];
        let mut next = first;
        for (i, frame, offset) in new {
            let bytes = messages.frames.bytes(frame);
            let before = decoder.stats().refusals;
            let errors = self.letters.is_some().then(|| decoder.stats().own_errors());
            decoder.frame(bytes, frame, &mut **builder);
            if decoder.stats().refusals != before
                && *offset >= seen
                && let Some((letters, errors)) = self.letters.as_ref().zip(errors)
            {
                // None: the message only ended the waiting of an earlier one's data.
                if let Some(reason) = decoder.stats().reasons_since(&errors).first() {
                    letters.send(&self.source, reason.name(), format!("{at}/{offset}"), messages.key(*i), bytes);
                }
            }
            next = offset + 1;
        }
        self.parts[number].next = next;
        if builder.is_empty() {
            self.lanes.iter_mut().for_each(|lane| lane.skip(number, first, next));
            return;
        }
        let batch = builder.finish();
        if new.first().is_some_and(|(_, _, offset)| *offset >= seen) {
            self.delivery.forward(&Output::Flows(batch.clone()));
        }
        let (source, arrived_ns) = (self.source.clone(), Some(messages.arrived_ns));
        let batch = Batch::Flows(FlowBatch { source, partition: number as u32, arrived_ns, batch });
        self.lanes.iter_mut().for_each(|lane| lane.push(&batch, first, next));
    }

    /// A plugin gets all messages in one call.
    fn rows(&mut self, number: usize, at: &TopicPartition, messages: &Messages, new: &[(usize, Frame, i64)]) {
        let Reading::Rows(decoder) = &mut self.reading else { return };
        let Part { next: first, seen, .. } = self.parts[number];
        let next = new.last().map_or(first, |(_, _, offset)| offset + 1);
        self.parts[number].next = next;
        let frames: Vec<Frame> = new.iter().map(|(_, frame, _)| *frame).collect();
        let reader = RowReader {
            source: &self.source,
            partition: number as u32,
            arrived_ns: Some(messages.arrived_ns),
            of_file: false,
            origin: &at.to_string(),
        };
        let mut refused = Vec::new();
        let batches = reader.read(decoder, &messages.frames, &frames, &mut refused);
        let is_new = new.first().is_some_and(|(_, _, offset)| *offset >= seen);
        if let Some(letters) = self.letters.as_ref().filter(|_| is_new) {
            for refused in refused {
                let (i, frame, offset) = &new[refused.frame];
                let bytes = messages.frames.bytes(frame);
                letters.send(&self.source, &refused.reason, format!("{at}/{offset}"), messages.key(*i), bytes);
            }
        }
        if batches.is_empty() {
            self.lanes.iter_mut().for_each(|lane| lane.skip(number, first, next));
        }
        for batch in batches {
            self.lanes.iter_mut().for_each(|lane| lane.push(&batch, first, next));
        }
    }

    /// A partition has nothing new at this time of the source's clock.
    pub(super) fn quiet(&mut self, at: &TopicPartition, clock_ns: u64) {
        let Some(number) = self.number(at) else { return };
        let partition = (self.source.clone(), number as u32);
        self.lanes.iter_mut().for_each(|lane| lane.quiet(&partition, clock_ns));
    }

    /// Commits when it is time, and publishes counters now and then.
    pub(super) fn tend(&mut self) -> Result<(), Broken> {
        self.delivery.tend()?;
        let now = Instant::now();
        if now >= self.publish_at {
            self.publish_at = now + PUBLISH_EVERY;
            self.publish();
        }
        // Readers of committed records see an incident when its transaction ends: soon.
        let told = self.lanes.iter_mut().fold(false, |told, lane| lane.has_told() | told);
        self.told |= told;
        if told && self.delivery.is_transactional() {
            self.due = self.due.min(now + self.cost * 20);
        }
        if now < self.due || !self.delivery.is_ready() {
            return Ok(());
        }
        self.commit()
    }

    fn publish(&mut self) {
        self.reading.publish(&mut self.published, &self.source);
        self.lanes.iter_mut().for_each(Lane::publish);
        let delay = self.lanes.iter().map(Lane::delay_ns).max().unwrap_or(0);
        self.delay_ns.store(delay, Ordering::Relaxed);
    }

    /// Commits where all stands now. Later, with sinks that have yet to say that they are done.
    fn commit(&mut self) -> Result<(), Broken> {
        let begun = Instant::now();
        let told: BTreeMap<String, u64> =
            self.lanes.iter().filter_map(|l| Some((l.id().to_string(), l.boundary_ns()?))).collect();
        let safe: Vec<Vec<i64>> = self.lanes.iter_mut().map(Lane::safe).collect();
        let position = |number: usize| safe.iter().map(|s| s[number]).min().unwrap_or(self.parts[number].next);
        let positions: Vec<i64> = (0..self.parts.len()).map(position).collect();
        let said: Vec<Committed> = self.committed.iter().map(|c| Committed::read(&c.metadata)).collect();
        let seen = said.iter().zip(&self.parts).all(|(said, part)| said.seen == part.next.max(part.seen));
        let same = seen && self.committed.iter().zip(&positions).all(|(committed, next)| committed.next == *next);
        let silent = same && !std::mem::take(&mut self.told) && !self.delivery.has_unsent();
        self.due = begun + self.every.max(self.cost * 20);
        if silent && (said.iter().all(|said| said.told == told) || begun < self.silent_until) {
            return Ok(());
        }
        self.silent_until = begun + SILENT;
        let id = match self.checkpoint(&positions) {
            Ok(id) => id,
            Err(error) => {
                // Positions do not move without what is known there, so nothing is lost; and nothing is made again, so that
                // a full disk tells nothing twice. (A transaction that stays open too long for it breaks, and begins anew.)
                self.delivery.count("failed");
                self.told = true;
                self.due = begun + AGAIN;
                if self.complained.is_none_or(|at| at.elapsed() >= SAY_AGAIN) {
                    self.complained = Some(begun);
                    let why = "positions stay where they are until it can be written";
                    tracing::warn!(component_id = &*self.source, error_type = "checkpoint", "{error}: {why}");
                }
                return Ok(());
            }
        };
        self.complained = None;
        let starts: Vec<Start> = self
            .parts
            .iter()
            .zip(&positions)
            .map(|(part, next)| {
                let seen = part.next.max(part.seen);
                let metadata = Committed::new(seen, id.clone(), told.clone()).write();
                Start { at: part.at.clone(), next: *next, metadata }
            })
            .collect();
        self.committed.clone_from(&starts);
        self.cost = begun.elapsed();
        let written = self.checkpoints.as_ref().map(|c| (c.store.clone(), c.lane.clone())).zip(id);
        let source = self.source.clone();
        let sweep = move || {
            if let Some(((store, lane), id)) = written
                && let Err(error) = store.sweep(&lane, &id)
            {
                tracing::warn!(component_id = &*source, "old checkpoints are left: {error}");
            }
        };
        self.delivery.commit(starts, Box::new(sweep))?;
        self.due = Instant::now() + self.every.max(self.cost * 20);
        Ok(())
    }

    /// Writes what is known; the id under which it is found.
    fn checkpoint(&mut self, positions: &[i64]) -> Result<Option<String>, CheckpointError> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(None) };
        let (store, lane) = (checkpoints.store.clone(), checkpoints.lane.clone());
        let sections = self.known();
        let position = |(part, next): (&Part, &i64)| Position {
            topic: part.at.topic.to_string(),
            partition: part.at.partition,
            next: *next,
        };
        let checkpoint = Checkpoint {
            plan_digest: self.plan_digest.get().to_string(),
            written_ns: now_ns(),
            positions: self.parts.iter().zip(positions).map(position).collect(),
            sections,
        };
        let id = crate::checkpoint::new_id();
        store.write(&lane, &id, &checkpoint)?;
        Ok(Some(id))
    }

    /// All that it knows.
    fn known(&mut self) -> Sections {
        let mut sections = BTreeMap::new();
        self.lanes.iter_mut().for_each(|lane| lane.save(&mut sections));
        let templates = self.reading.save();
        if !templates.is_empty() {
            sections.insert("templates".into(), templates);
        }
        sections
    }

    /// See [`TaskFacts`].
    pub(super) fn facts(&self) -> TaskFacts {
        let lanes = self.lanes.iter().map(|lane| (lane.id().clone(), lane.known())).collect();
        TaskFacts { transaction: self.delivery.transaction(), lanes }
    }

    /// Hands what it knows to what it becomes. Err: somebody cannot go on with it, and must.
    pub(super) fn ready(&mut self, next: &mut NextTask) -> Vote {
        let mut notes = Vec::new();
        for next in &mut next.changed {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| *lane.id() == next.plan.id) {
                notes.extend(lane.ready(next)?);
            }
        }
        if let Some(reading) = &mut next.reading
            && let Err(error) = reading.restore(&self.reading.save())
        {
            notes.push(format!("decoding of source `{}` begins anew, what it knew is not used: {error}", self.source));
        }
        Ok(notes)
    }

    /// Becomes what was made ready, between two messages. Soon it commits, so that windows that ended early are not told again.
    pub(super) fn succeed(&mut self, next: NextTask) {
        let NextTask { pipelines, changed, new, reading, ways, digest } = next;
        let positions: Vec<i64> = self.parts.iter().map(|part| part.next).collect();
        for lane in self.lanes.iter_mut().filter(|lane| !pipelines.contains(lane.id())) {
            lane.end("removed");
        }
        self.lanes.retain(|lane| pipelines.contains(lane.id()));
        for next in changed {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| *lane.id() == next.plan.id) {
                lane.succeed(next, &positions, &self.source);
            }
        }
        for new in new {
            let mut lane = new.at(&positions);
            lane.expect(&self.source);
            lane.begin();
            self.lanes.push(lane);
        }
        if let Some(reading) = reading {
            self.reading.publish(&mut self.published, &self.source);
            DecodeStats::default().publish(&mut self.published, &self.source);
            self.reading = reading;
        }
        self.delivery.succeed(ways);
        self.plan_digest = digest;
        (self.due, self.silent_until, self.told) = (Instant::now(), Instant::now(), true);
    }

    /// The partitions go elsewhere, or the engine stops: commits where all stands, and waits for it.
    pub(super) fn close(mut self, commit: bool, at_most: Duration) {
        self.publish();
        if commit {
            let until = Instant::now() + at_most;
            self.silent_until = Instant::now();
            let done = self.settle(until).and_then(|()| self.commit()).and_then(|()| self.settle(until));
            if let Err(broken) = done {
                tracing::warn!(
                    component_id = &*self.source,
                    error_type = broken.reason,
                    "partitions were given back without a last commit, their windows are made again: {}",
                    broken.message
                );
            }
        }
        self.delivery.close();
        // Its gauges go with it.
        DecodeStats::default().publish(&mut self.published, &self.source);
        self.delay_ns.store(0, Ordering::Relaxed);
    }

    fn settle(&mut self, until: Instant) -> Result<(), Broken> {
        while !self.delivery.is_ready() {
            if Instant::now() >= until {
                return Err(Broken::new("sink", "sinks have not delivered everything".to_owned()));
            }
            self.delivery.tend()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// The name of a task's checkpoints: the same for whoever has the partitions.
fn lane_name(source: &str, starts: &[Start]) -> String {
    match starts {
        [only] => format!("{source}.{}.{}", only.at.topic, only.at.partition),
        _ => format!("{source}.all"),
    }
}

/// The sections of a checkpoint, or none with a line that says so.
fn restored(store: Option<&Store>, lane: &str, state: Option<&str>, source: &str) -> BTreeMap<String, Vec<u8>> {
    let Some(id) = state else { return BTreeMap::new() };
    let Some(store) = store else {
        tracing::warn!(
            component_id = source,
            "the positions of {lane} have a checkpoint, and `engine.state_dir` is not set: open incidents and levels begin anew"
        );
        return BTreeMap::new();
    };
    match store.read(lane, id) {
        Ok(Some(checkpoint)) => return checkpoint.sections,
        Ok(None) => tracing::warn!(
            component_id = source,
            "checkpoint {id} of {lane} is not in `engine.state_dir` (was it written on another machine?): open incidents and levels begin anew"
        ),
        Err(error) => tracing::error!(component_id = source, "{error}: open incidents and levels begin anew"),
    }
    BTreeMap::new()
}
