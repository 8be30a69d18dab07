//! One per pipeline: puts batches of all its sources into event time and hands them, with the panes to close, to every
//! worker. In: batches, ticks and ends of partitions. Out: prepared batches and close orders, the same to all workers.

use super::grouping::Placed;
use super::next::NextPipeline;
use super::worker::WorkerMsg;
use crate::model::Batch;
use crate::telemetry::{
    WATERMARK_DELAY, WINDOW_FUTURE_RECORDS, WINDOW_LATE_RECORDS, WINDOW_RECORDS, WINDOW_REPLAYED_RECORDS,
    WINDOW_SPREAD_CLIPPED_BYTES,
};
use crate::window::{Ingest, IngestCounts, Partition};
use crossbeam_channel::{Receiver, Sender};
use metrics::{Counter, Gauge, counter, gauge};
use std::sync::Arc;

/// What a pipeline is told by its sources' intakes.
pub(super) enum RouterMsg {
    Batch(Batch),
    /// All that the partition received before this ingest time has been sent.
    Tick(Partition, u64),
    /// The partition has ended.
    End(Partition),
    /// What the pipeline becomes at a reload.
    Succeed(Box<NextPipeline>),
}

pub(super) struct Router {
    ingest: Ingest,
    workers: Vec<Sender<WorkerMsg>>,
    seq: u64,
    meters: Meters,
    delay: Gauge,
}

/// What happened to a pipeline's records, as metrics.
pub(super) struct Meters {
    seen: IngestCounts,
    records: Counter,
    late_accepted: Counter,
    late_dropped: Counter,
    future: Counter,
    clipped: Counter,
    replayed: Counter,
}

impl Meters {
    pub(super) fn new(pipeline: &Arc<str>) -> Self {
        let p = pipeline.to_string();
        let late = |disposition: &'static str| counter!(WINDOW_LATE_RECORDS, "pipeline" => p.clone(), "disposition" => disposition);
        Self {
            seen: IngestCounts::default(),
            records: counter!(WINDOW_RECORDS, "pipeline" => p.clone()),
            late_accepted: late("accepted"),
            late_dropped: late("dropped"),
            future: counter!(WINDOW_FUTURE_RECORDS, "pipeline" => p.clone()),
            clipped: counter!(WINDOW_SPREAD_CLIPPED_BYTES, "pipeline" => p.clone()),
            replayed: counter!(WINDOW_REPLAYED_RECORDS, "pipeline" => p.clone()),
        }
    }

    /// Counts begin at zero again.
    pub(super) fn begin_anew(&mut self) {
        self.seen = IngestCounts::default();
    }

    /// Counts what happened since the last time.
    pub(super) fn publish(&mut self, now: IngestCounts) {
        let before = std::mem::replace(&mut self.seen, now);
        self.records.increment(now.records - before.records);
        self.late_accepted.increment(now.late_accepted - before.late_accepted);
        self.late_dropped.increment(now.late_dropped - before.late_dropped);
        self.future.increment(now.future - before.future);
        self.clipped.increment(now.spread_clipped_bytes - before.spread_clipped_bytes);
        self.replayed.increment(now.replayed - before.replayed);
    }
}

impl Router {
    pub(super) fn new(pipeline: &Arc<str>, ingest: Ingest, workers: Vec<Sender<WorkerMsg>>) -> Self {
        let delay = gauge!(WATERMARK_DELAY, "pipeline" => pipeline.to_string());
        Self { ingest, workers, seq: 0, meters: Meters::new(pipeline), delay }
    }

    /// Runs until every intake has hung up, then closes all windows.
    pub(super) fn run(mut self, input: &Receiver<RouterMsg>) {
        while let Ok(message) = input.recv() {
            match message {
                RouterMsg::Batch(batch) => {
                    let placed = Placed::new(&mut self.ingest, &batch);
                    self.send(|| WorkerMsg::Records(placed.clone()));
                }
                RouterMsg::Tick(partition, ingest_ns) => self.ingest.heartbeat(&partition, ingest_ns),
                RouterMsg::End(partition) => self.ingest.end_partition(&partition),
                RouterMsg::Succeed(next) => self.succeed(*next),
            }
            for order in self.ingest.close() {
                self.order(order);
            }
            self.publish();
        }
        for order in self.ingest.close_all() {
            self.order(order);
        }
        self.publish();
    }

    /// All workers get ready; when all who are asked are, the change takes its place among the orders.
    fn succeed(&mut self, next: NextPipeline) {
        let NextPipeline { workers, desk, ingest, fresh, gate } = next;
        for (worker, next) in self.workers.iter().zip(workers) {
            let _ = worker.send(WorkerMsg::Prepare(Box::new(next), gate.clone()));
        }
        if !gate.wait() {
            return;
        }
        if let Some(ingest) = ingest {
            // Windows that are open go as far as they have come, judged by those who have seen their records.
            for order in self.ingest.close_all() {
                self.order(order);
            }
            self.publish();
            self.ingest = ingest;
            self.meters.begin_anew();
        }
        self.seq += 1;
        fresh.iter().for_each(|timeline| timeline.start_at(self.seq));
        let mut desk = Some(Box::new(desk));
        for worker in &self.workers {
            let _ = worker.send(WorkerMsg::Apply(self.seq, desk.take()));
        }
    }

    fn order(&mut self, order: crate::window::Close) {
        self.seq += 1;
        let seq = self.seq;
        self.send(|| WorkerMsg::Close(seq, order));
    }

    fn send(&self, message: impl Fn() -> WorkerMsg) {
        for worker in &self.workers {
            // A worker ends only when this sender is gone; if it died by a bug, its share is lost and said so there.
            let _ = worker.send(message());
        }
    }

    fn publish(&mut self) {
        self.meters.publish(self.ingest.counts());
        self.delay.set(self.ingest.delay_ns() as f64 / 1e9);
    }
}
