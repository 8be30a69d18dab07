//! One pipeline over the partitions of one task, from records to incidents, on one thread: what comes out depends on what
//! lies in the partitions and on nothing else, so that a restart anywhere can repeat it. In: batches with their positions.
//! Out: outputs to the outlets, and from which position on everything could be made again.

use super::super::assemble::{BuiltPipeline, Facts};
use super::super::desk::{Desk, DeskParts};
use super::super::gate::Vote;
use super::super::grouping::Placed;
use super::super::next::NextPipeline;
use super::super::outlet::Outlet;
use super::super::router::Meters;
use super::super::worker::{Judged, Worker};
use crate::config::PipelinePlan;
use crate::detect::Detector;
use crate::features::catalogue;
use crate::model::Batch;
use crate::plugin::FrameScorer;
use crate::window::{Backlog, Close, Ingest, Partition};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

pub(super) struct Lane {
    plan: PipelinePlan,
    facts: Facts,
    ingest: Ingest,
    worker: Worker,
    desk: Desk,
    meters: Meters,
    /// By the partition's number in the task.
    backlogs: Vec<Backlog>,
    seq: u64,
}

/// What must be known of a lane to make what it becomes.
pub(super) struct Known {
    pub(super) facts: Facts,
    pub(super) scorer: Arc<FrameScorer>,
}

/// What a lane becomes at a reload.
pub(super) struct NextLane {
    pub(super) plan: PipelinePlan,
    pub(super) becomes: NextPipeline,
    pub(super) facts: Facts,
}

impl Lane {
    /// A pipeline that begins at these positions.
    pub(super) fn new(
        mut built: BuiltPipeline,
        outlets: Vec<Box<dyn Outlet>>,
        settled: Arc<AtomicU64>,
        starts: &[i64],
    ) -> Self {
        let plan = built.plan;
        let worker = built.workers.remove(0);
        let desk = Desk::new(DeskParts {
            pipeline: plan.id.clone(),
            tracker: built.tracker,
            outlets,
            scores: None,
            followers: built.followers,
            keeper: None,
            shadow: built.shadow,
            workers: 1,
            settled,
            live: true,
        });
        Self {
            ingest: Ingest::of_log(plan.window, catalogue::needs(&plan.features)),
            meters: Meters::new(&plan.id),
            plan,
            facts: built.facts,
            worker,
            desk,
            backlogs: starts.iter().map(|next| Backlog::new(*next)).collect(),
            seq: 0,
        }
    }

    /// Event time waits until each partition has said something.
    pub(super) fn expect(&mut self, source: &Arc<str>) {
        (0..self.backlogs.len()).for_each(|number| self.ingest.expect(&(source.clone(), number as u32)));
    }

    /// Pipeline id.
    pub(super) fn id(&self) -> &Arc<str> {
        &self.plan.id
    }

    /// See [`Known`].
    pub(super) fn known(&self) -> Known {
        Known { facts: self.facts.clone(), scorer: self.worker.panel.scorer.clone() }
    }

    /// Hands what it knows to what it becomes.
    pub(super) fn ready(&mut self, next: &mut NextLane) -> Vote {
        next.becomes.workers.first_mut().map_or_else(|| Ok(Vec::new()), |worker| self.worker.ready(worker))
    }

    /// Becomes what was made ready, at these positions of its partitions. Windows of another kind begin here: those that are
    /// open go as far as they have come, and nothing before is needed again.
    pub(super) fn succeed(&mut self, next: NextLane, positions: &[i64], source: &Arc<str>) {
        let NextLane { plan, becomes: NextPipeline { mut workers, desk, ingest, fresh, gate: _ }, facts } = next;
        if ingest.is_some() {
            self.ingest.close_all().iter().for_each(|order| self.order(order));
            self.publish();
            self.ingest = Ingest::of_log(plan.window, catalogue::needs(&plan.features));
            self.meters.begin_anew();
            self.backlogs = positions.iter().map(|next| Backlog::new(*next)).collect();
            self.expect(source);
        }
        self.seq += 1;
        fresh.iter().for_each(|timeline| timeline.start_at(self.seq));
        workers.pop().into_iter().for_each(|next| self.worker.succeed(next));
        self.desk.take(Judged { seq: self.seq, next: Some(Box::new(desk)), ..Judged::default() });
        (self.plan, self.facts) = (plan, facts);
    }

    /// Records of the positions `first..next` of a partition.
    pub(super) fn push(&mut self, batch: &Batch, first: i64, next: i64) {
        let (mut rest, mut needed_ns) = (batch.clone(), 0);
        while !rest.is_empty() {
            // Partitions that share windows come in an order of their own each time: there a batch is as good as a record.
            let count = match &rest {
                _ if self.backlogs.len() > 1 => rest.len(),
                Batch::Flows(rest) => self.ingest.until_close(rest),
                Batch::Rows(rest) => self.ingest.rows_until_close(rest),
            };
            let placed = Placed::new(&mut self.ingest, &rest.slice(0, count));
            needed_ns = needed_ns.max(placed.needed_ns());
            self.worker.grouping.push(&placed);
            self.close();
            rest = rest.slice(count, rest.len() - count);
        }
        self.backlogs[batch.partition() as usize].push(first, next, needed_ns);
    }

    /// Positions without a record.
    pub(super) fn skip(&mut self, partition: usize, first: i64, next: i64) {
        self.backlogs[partition].push(first, next, 0);
    }

    /// A partition has nothing new at this time of the source's clock.
    pub(super) fn quiet(&mut self, partition: &Partition, clock_ns: u64) {
        self.ingest.heartbeat(partition, clock_ns);
        self.close();
    }

    fn close(&mut self) {
        self.ingest.close().iter().for_each(|order| self.order(order));
    }

    fn order(&mut self, order: &Close) {
        self.seq += 1;
        let judged = self.worker.close(self.seq, order);
        self.desk.take(judged);
    }

    /// The configuration has it no more.
    pub(super) fn end(&mut self, reason: &str) {
        self.desk.end(reason);
    }

    /// Publishes counters.
    pub(super) fn publish(&mut self) {
        self.meters.publish(self.ingest.counts());
    }

    /// How far the watermark is behind the newest event time, ns.
    pub(super) fn delay_ns(&self) -> u64 {
        self.ingest.delay_ns()
    }

    /// True when an incident was told since it was last asked.
    pub(super) fn has_told(&mut self) -> bool {
        self.desk.has_told()
    }

    /// Windows that end here or before are told.
    pub(super) fn boundary_ns(&self) -> Option<u64> {
        self.ingest.boundary_ns()
    }

    /// The first position of each partition that a window to come needs.
    pub(super) fn safe(&mut self) -> Vec<i64> {
        let boundary = self.ingest.boundary_ns().unwrap_or(0);
        self.backlogs.iter_mut().map(|b| b.safe(boundary)).collect()
    }

    /// What decides about later events, under names that begin with the pipeline's id.
    pub(super) fn save(&mut self, out: &mut BTreeMap<String, Vec<u8>>) {
        let levels = self.worker.grouping.save();
        let (tracker, followers) = self.desk.state();
        for (name, bytes) in [("incidents", tracker.save()), ("levels", levels), ("tails", followers.save())] {
            if !bytes.is_empty() {
                out.insert(format!("{}/{name}", self.plan.id), bytes);
            }
        }
        for seat in &mut self.worker.panel.seats {
            if let Some(memory) = seat.detector.save() {
                out.insert(format!("{}/detector/{}", self.plan.id, seat.detector.id()), memory);
            }
        }
    }

    /// Goes on behind `boundary_ns` with what was saved there.
    pub(super) fn restore(&mut self, boundary_ns: Option<u64>, saved: &BTreeMap<String, Vec<u8>>) {
        self.restore_parts(boundary_ns, saved);
        self.begin();
    }

    /// Begins, knowing nothing.
    pub(super) fn begin(&mut self) {
        self.desk.begin_shadow();
    }

    fn restore_parts(&mut self, boundary_ns: Option<u64>, saved: &BTreeMap<String, Vec<u8>>) {
        if let Some(boundary_ns) = boundary_ns {
            self.ingest.resume(boundary_ns);
        }
        let section = |name: &str| saved.get(&format!("{}/{name}", self.plan.id));
        let (tracker, followers) = self.desk.state();
        let restored = [
            ("incidents", section("incidents").map(|bytes| tracker.restore(bytes).map_err(|e| e.to_string()))),
            ("levels", section("levels").map(|bytes| self.worker.grouping.restore(bytes))),
        ];
        tracker.expect_windows_of(self.plan.window.size_ns);
        for (what, result) in restored {
            if let Some(Err(error)) = result {
                tracing::error!(pipeline = &*self.plan.id, "the {what} of the checkpoint are not used: {error}");
            }
        }
        let memory = |d: &dyn Detector| saved.get(&format!("{}/detector/{}", self.plan.id, d.id())).cloned();
        let memories: Vec<_> = self.worker.panel.seats.iter().map(|s| memory(&*s.detector)).collect();
        self.worker.panel.restore(&self.plan.id, memories);
        match section("tails").map(|bytes| followers.restore(bytes)) {
            Some(Ok(skipped)) => skipped.iter().for_each(|why| {
                tracing::warn!(pipeline = &*self.plan.id, "a tail of the checkpoint is not used: {why}")
            }),
            Some(Err(error)) => {
                tracing::error!(pipeline = &*self.plan.id, "the tails of the checkpoint are not used: {error}");
            }
            None => {}
        }
    }
}
