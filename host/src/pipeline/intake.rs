//! Turns a source's deliveries into batches of flow records for every pipeline that listens to it. One thread per UDP
//! socket or file: an exporter's templates live with the one decoder that sees its datagrams. In: frames and ticks.
//! Out: flow batches. Of a socket: up to [`BATCH_ROWS`] rows, at most [`BATCH_AGE`] old. Of a file: what is read at a
//! time, whatever the clock says, because lateness is judged per batch and a replay must repeat exactly.

use super::gate::Gate;
use super::progress::Progress;
use super::reading::{Reading, RowReader};
use super::router::RouterMsg;
use super::saved::{self, Saved};
use crate::decode::DecodeStats;
use crate::model::{Batch, Delivery, FlowBatch, FrameBatch, Output};
use crate::sink::worker::SinkHandle;
use crate::telemetry::{SOURCE_DATAGRAMS, SOURCE_RECEIVED_BYTES, SOURCE_REFUSED};
use crate::window::Partition;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use metrics::counter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Rows of a full batch.
const BATCH_ROWS: usize = 8192;
/// A batch that is not full leaves after this time.
const BATCH_AGE: Duration = Duration::from_millis(50);
/// How often counters are published.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);

/// Where records go.
#[derive(Clone, Default)]
pub(super) struct Routes {
    /// By id of the pipeline.
    pub(super) pipelines: Vec<(Arc<str>, Sender<RouterMsg>)>,
    /// Sinks that take the records as they are.
    pub(super) flows: Vec<Arc<SinkHandle>>,
}

/// Ends a wait for sinks: its own source has gone, or the engine stops.
pub(super) type Waits = [Arc<AtomicBool>; 2];

/// What a reload asks of an intake. It looks for it between two batches.
pub(super) enum Ask {
    /// From now on records go there; answered when they do.
    Routes(Routes, Sender<()>),
    /// Another decoder gets ready with what this one knows, and takes over when that is the word.
    Reading(Box<Reading>, Arc<Gate>),
    /// It is to end: at its end it tells what its decoder knows, for one who takes its place; with `goes_on` also in its
    /// partition.
    Leave {
        /// Who is told.
        heir: Sender<Vec<u8>>,
        /// The partition does not end with it.
        goes_on: bool,
    },
    /// It is not to end after all.
    Stay,
}

pub(super) struct Intake {
    partition: Partition,
    reading: Reading,
    /// Who sent frames that have no address.
    origin: String,
    since: Option<Instant>,
    routes: Routes,
    /// What a reload asks.
    asks: Receiver<Ask>,
    /// What decodes from then on, if that is the word.
    next: Option<(Reading, Arc<Gate>)>,
    /// Who goes on with what its decoder knows.
    heir: Option<Sender<Vec<u8>>>,
    /// Somebody else goes on with its partition.
    goes_on: bool,
    /// What brings the records waits for sinks, until one of these is set.
    waits: Option<Waits>,
    /// What a sink did not take can be read again.
    again: bool,
    /// Where its templates are kept.
    saved: Option<Saved>,
    /// Where the positions of its source are kept.
    progress: Option<Progress>,
    published: DecodeStats,
    next_publish: Instant,
}

impl Intake {
    pub(super) fn new(partition: Partition, reading: Reading, routes: Routes, asks: Receiver<Ask>) -> Self {
        Self {
            origin: partition.0.to_string(),
            partition,
            reading,
            since: None,
            routes,
            asks,
            next: None,
            heir: None,
            goes_on: false,
            waits: None,
            again: false,
            saved: None,
            progress: None,
            published: DecodeStats::default(),
            next_publish: Instant::now(),
        }
    }

    /// Goes on with the templates that the sockets before have kept: an exporter need not come back to the same one. A plugin
    /// goes on with what it knew on this one.
    pub(super) fn resume(mut self, saved: Option<Saved>) -> Self {
        let source = self.partition.0.clone();
        let kept = match (&saved, &self.reading) {
            (None, _) => Vec::new(),
            (Some(saved), Reading::Flows(..)) => saved.load_all(|number| saved::socket(&source, number)),
            (Some(saved), Reading::Rows(_)) => saved.load().into_iter().collect(),
        };
        for kept in kept {
            if let Err(error) = self.reading.restore(&kept) {
                tracing::warn!(component_id = &*source, "what decoding knew is not used: {error}");
            }
        }
        self.saved = saved;
        self
    }

    /// Goes on with what the intakes before it knew.
    pub(super) fn knowing(mut self, known: &[Vec<u8>]) -> Self {
        for known in known {
            if let Err(error) = self.reading.restore(known) {
                tracing::warn!(component_id = &*self.partition.0, "what decoding knew is not used: {error}");
            }
        }
        self
    }

    /// The records come from a file: it waits for sinks, until `stop`, and can be read again.
    pub(super) fn patient(mut self, stop: &Waits) -> Self {
        self.again = true;
        self.waiting(stop)
    }

    /// Keeps the positions of what it was given; what is behind them can be read again.
    pub(super) fn with_progress(mut self, progress: Option<Progress>) -> Self {
        self.again |= progress.is_some();
        self.progress = progress;
        self
    }

    /// Whoever sends the records waits for sinks, until `stop`.
    pub(super) fn waiting(mut self, stop: &Waits) -> Self {
        self.waits = Some(stop.clone());
        self
    }

    /// Decodes what a receiver delivers, until it hangs up. Used buffers go back by `recycle`.
    pub(super) fn run(mut self, input: &Receiver<Delivery>, recycle: &Sender<FrameBatch>) {
        loop {
            match input.recv_timeout(BATCH_AGE) {
                Ok(Delivery::Frames(frames)) => {
                    self.frames(&frames);
                    self.progress.iter_mut().for_each(Progress::take);
                    // A full queue of used buffers is no loss: this one is dropped.
                    let _ = recycle.try_send(frames);
                }
                Ok(Delivery::Tick(ingest_ns)) => {
                    self.flush();
                    self.tell(|p| RouterMsg::Tick(p, ingest_ns));
                }
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.housekeeping();
            self.answer();
        }
        self.finish();
    }

    /// Decodes one batch of frames.
    fn frames(&mut self, frames: &FrameBatch) {
        match &mut self.reading {
            Reading::Flows(decoder, builder) => {
                decoder.decode(frames, &mut **builder);
                if builder.len() >= BATCH_ROWS {
                    self.flush();
                } else if !builder.is_empty() {
                    let since = *self.since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= BATCH_AGE {
                        self.flush();
                    }
                }
            }
            Reading::Rows(_) => self.rows(frames, false).into_iter().for_each(|batch| self.hand_on(batch)),
        }
    }

    fn rows(&mut self, frames: &FrameBatch, of_file: bool) -> Vec<Batch> {
        let Reading::Rows(decoder) = &mut self.reading else { return Vec::new() };
        let (source, partition) = (&self.partition.0, self.partition.1);
        let reader = RowReader { source, partition, arrived_ns: None, of_file, origin: &self.origin };
        reader.read(decoder, frames, &frames.frames, &mut Vec::new())
    }

    /// One read of a file, whose frames no receiver has counted, becomes one batch. `pace` is told the times of its first and
    /// last record, and may wait.
    pub(super) fn read_from_file(&mut self, frames: &FrameBatch, pace: impl FnOnce(u64, u64)) {
        let id = self.partition.0.to_string();
        counter!(SOURCE_DATAGRAMS, "component_id" => id.clone()).increment(frames.frames.len() as u64);
        counter!(SOURCE_RECEIVED_BYTES, "component_id" => id).increment(frames.data.len() as u64);
        if let Reading::Flows(decoder, builder) = &mut self.reading {
            decoder.decode(frames, &mut **builder);
            if let Some((first, last)) = builder.received_ns() {
                pace(first, last);
            }
            self.flush();
        } else {
            let batches = self.rows(frames, true);
            let times = |batch: &Batch| match batch {
                Batch::Rows(rows) => rows.times().first().copied().zip(rows.times().last().copied()),
                Batch::Flows(_) => None,
            };
            if let Some(((first, _), (_, last))) = batches.first().and_then(times).zip(batches.last().and_then(times)) {
                pace(first, last);
            }
            batches.into_iter().for_each(|batch| self.hand_on(batch));
        }
        self.housekeeping();
        self.answer();
    }

    /// Packets of a capture that no decoder saw, by reason.
    pub(super) fn skipped(&self, reasons: &[(&'static str, u64)]) {
        for (reason, n) in reasons {
            let id = self.partition.0.to_string();
            counter!(SOURCE_REFUSED, "component_id" => id, "reason" => *reason).increment(*n);
        }
    }

    /// Another file begins that needs a decoder of its own.
    pub(super) fn replace(&mut self, reading: Reading) {
        self.reading.publish(&mut self.published, &self.partition.0);
        // Its templates and exporters go with it.
        DecodeStats::default().publish(&mut self.published, &self.partition.0);
        self.reading = reading;
    }

    /// Another file begins: frames come from it.
    pub(super) fn of_file(&mut self, name: String) {
        self.origin = name;
    }

    /// Does what a reload asks.
    fn answer(&mut self) {
        while let Ok(ask) = self.asks.try_recv() {
            match ask {
                Ask::Routes(routes, done) => {
                    self.flush();
                    let ended = |id: &Arc<str>| !routes.pipelines.iter().any(|(other, _)| other == id);
                    for (_, pipeline) in self.routes.pipelines.iter().filter(|(id, _)| ended(id)) {
                        // It waits for this source no more.
                        let _ = pipeline.send(RouterMsg::End(self.partition.clone()));
                    }
                    self.routes = routes;
                    let _ = done.send(());
                }
                Ask::Reading(mut reading, gate) => {
                    gate.vote(Ok(self.hand_over(&mut reading).into_iter().collect()));
                    self.next = Some((*reading, gate));
                }
                Ask::Leave { heir, goes_on } => (self.heir, self.goes_on) = (Some(heir), goes_on),
                Ask::Stay => (self.heir, self.goes_on) = (None, false),
            }
        }
        // Nobody waits here for the word: a socket would lose what comes meanwhile.
        match self.next.as_ref().and_then(|(_, gate)| gate.word()) {
            None => {}
            Some(false) => self.next = None,
            Some(true) => {
                self.flush();
                if let Some((mut reading, _)) = self.next.take() {
                    // What was learned since the vote is known too.
                    if let Some(why) = self.hand_over(&mut reading) {
                        tracing::warn!(component_id = &*self.partition.0, "{why}");
                    }
                    self.replace(reading);
                }
            }
        }
    }

    /// What the operator should know about it.
    fn hand_over(&mut self, next: &mut Reading) -> Option<String> {
        let memory = self.reading.save();
        let error = next.restore(&memory).err()?;
        Some(format!("decoding of source `{}` begins anew, what it knew is not used: {error}", self.partition.0))
    }

    /// Publishes counters now and then.
    fn housekeeping(&mut self) {
        let now = Instant::now();
        if now >= self.next_publish {
            self.next_publish = now + PUBLISH_EVERY;
            self.reading.publish(&mut self.published, &self.partition.0);
            if let Some(saved) = self.saved.as_mut().filter(|s| s.is_due()) {
                saved.write(self.reading.save());
            }
        }
        if self.progress.as_ref().is_some_and(Progress::is_due) {
            self.flush();
            self.progress.iter_mut().for_each(|p| p.ask(&self.routes.flows));
        }
        self.progress.iter_mut().for_each(Progress::settle);
    }

    /// The source has ended: the rest leaves, and the partition holds no watermark back, unless another goes on with it.
    pub(super) fn finish(mut self) {
        self.answer();
        self.flush();
        // Else time would go on without what the next one brings, and that be late.
        if !self.goes_on {
            self.tell(RouterMsg::End);
        }
        if let Some(saved) = &mut self.saved {
            saved.write(self.reading.save());
        }
        if let Some(progress) = self.progress.take() {
            progress.finish(&self.routes.flows);
        }
        // Last: whoever takes its place begins when it is told.
        if let Some(heir) = self.heir.take() {
            let _ = heir.send(self.reading.save());
        }
        self.reading.publish(&mut self.published, &self.partition.0);
        tracing::info!(component_id = &*self.partition.0, "{}", self.reading.told());
    }

    fn flush(&mut self) {
        self.since = None;
        let Reading::Flows(_, builder) = &mut self.reading else { return };
        if builder.is_empty() {
            return;
        }
        let batch = builder.finish();
        for sink in &self.routes.flows {
            let output = Output::Flows(batch.clone());
            // Files and streams wait; a socket of datagrams does not: what finds no room is counted there.
            match &self.waits {
                Some(stop) if self.again => drop(sink.send_patiently(output, &|| is_set(stop))),
                Some(stop) => sink.send_waiting(output, &|| is_set(stop)),
                None => drop(sink.offer(output)),
            }
        }
        let (source, partition) = self.partition.clone();
        self.hand_on(Batch::Flows(FlowBatch { source, partition, arrived_ns: None, batch }));
    }

    fn hand_on(&self, batch: Batch) {
        self.tell(|_| RouterMsg::Batch(batch.clone()));
    }

    /// Waits when a pipeline is behind: this is not the socket thread, which sheds and counts when its queue is full.
    fn tell(&self, message: impl Fn(Partition) -> RouterMsg) {
        for (_, pipeline) in &self.routes.pipelines {
            let _ = pipeline.send(message(self.partition.clone()));
        }
    }
}

fn is_set(stop: &Waits) -> bool {
    stop.iter().any(|stop| stop.load(Ordering::Relaxed))
}
