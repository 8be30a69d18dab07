//! The parts of a running engine: a pipeline, a source, each with its threads. In: what was built. Out: handles by which it is
//! fed, changed and ended.

use super::assemble::{BuiltPipeline, Facts};
use super::build::{BuildError, BuiltLog, BuiltSource};
use super::desk::{Desk, DeskParts, Ending};
use super::files::{self, Pace};
use super::intake::{Ask, Intake, Routes};
use super::judges::Judges;
use super::kafka::{self, Factory};
use super::outlet::Outlet;
use super::reading::Reading;
use super::router::{Router, RouterMsg};
use super::rows::RowsIntake;
use super::running::{Progress, spawn};
use super::shadow::Shadows;
use super::worker::WorkerMsg;
use crate::config::decode_options::DecodeOptions;
use crate::config::{Component, PipelinePlan};
use crate::plugin::FrameScorer;
use crate::sink::worker::SinkHandle;
use crate::source::Held;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// Batches that may wait before a router, orders and batches before a worker or a desk. Small: a batch is 1.5 MB.
const QUEUE: usize = 16;
/// Used buffers of a socket that are kept: after a burst the rest goes back to the system.
const RECYCLED: usize = 8;
/// What a reload may ask of an intake at once.
const ASKS: usize = 8;

/// Sinks by id.
pub(super) type Sinks = BTreeMap<Arc<str>, Arc<SinkHandle>>;

/// A pipeline at work.
pub(super) struct LivePipeline {
    pub(super) plan: PipelinePlan,
    pub(super) facts: Facts,
    pub(super) scorers: Vec<Arc<FrameScorer>>,
    /// `None`: it takes rows of features, from files alone.
    pub(super) router: Option<Sender<RouterMsg>>,
    /// Where rows of features go.
    pub(super) rows: Option<Sender<WorkerMsg>>,
    pub(super) threads: Vec<JoinHandle<()>>,
    /// Windows that were settled.
    pub(super) settled: Arc<AtomicU64>,
    removed: Arc<AtomicBool>,
}

/// What all parts of an engine share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) stop: Arc<AtomicBool>,
    pub(super) panicked: Arc<AtomicBool>,
    pub(super) live: bool,
    pub(super) speed: Option<f64>,
    pub(super) progress: Option<Progress>,
    pub(super) shadows: Arc<Shadows>,
}

/// Sinks of a pipeline, as its desk has them.
pub(super) fn outlets(plan: &PipelinePlan, sinks: &Sinks) -> Vec<Box<dyn Outlet>> {
    plan.sinks.iter().filter_map(|s| sinks.get(s).cloned()).map(|s| Box::new(s) as Box<dyn Outlet>).collect()
}

impl LivePipeline {
    pub(super) fn start(built: BuiltPipeline, sinks: &Sinks, common: &Common) -> Self {
        let BuiltPipeline { plan, ingest, workers, followers, keeper, saved, tracker, shadow, scores, facts } = built;
        let id = plan.id.clone();
        facts.compared.iter().for_each(|compared| common.shadows.add(compared));
        let panicked = &common.panicked;
        let (to_router, from_intakes) = bounded::<RouterMsg>(QUEUE);
        let (to_desk, from_workers) = bounded(QUEUE);
        let (mut to_workers, mut threads, worker_count) = (Vec::new(), Vec::new(), workers.len());
        let scorers = workers.iter().map(|w| w.panel.scorer.clone()).collect();
        for (number, worker) in workers.into_iter().enumerate() {
            let (to_worker, from_router) = bounded(QUEUE);
            to_workers.push(to_worker);
            let to_desk = to_desk.clone();
            let name = format!("{id}-window-{number}");
            threads.push(spawn(&name, panicked, move || worker.run(&from_router, &to_desk)));
        }
        drop(to_desk);
        let settled: Arc<AtomicU64> = Arc::default();
        let mut desk = Desk::new(DeskParts {
            settled: settled.clone(),
            pipeline: id.clone(),
            tracker,
            outlets: outlets(&plan, sinks),
            scores,
            followers,
            keeper,
            shadow,
            workers: worker_count,
            live: common.live,
        });
        desk.resume(saved, plan.window.size_ns);
        let removed = Arc::new(AtomicBool::new(false));
        let ending = Ending { stopped: common.stop.clone(), removed: removed.clone() };
        threads.push(spawn(&format!("{id}-desk"), panicked, move || desk.run(&from_workers, &ending)));
        let (mut router, mut rows) = (None, None);
        if plan.rows.is_some() {
            rows = to_workers.first().cloned();
        } else {
            let it = Router::new(&id, ingest, to_workers);
            threads.push(spawn(&format!("{id}-router"), panicked, move || it.run(&from_intakes)));
            router = Some(to_router);
        }
        Self { plan, facts, scorers, router, rows, threads, settled, removed }
    }

    /// The configuration has it no more: it ends when its sources let go of it. Gives its threads.
    pub(super) fn remove(self) -> Vec<JoinHandle<()>> {
        self.removed.store(true, Ordering::Relaxed);
        self.threads
    }
}

/// A source at work.
pub(super) struct LiveSource {
    pub(super) component: Component,
    pub(super) stop: Arc<AtomicBool>,
    /// Whoever decodes waits for no sink any more.
    pub(super) hurry: Arc<AtomicBool>,
    pub(super) receivers: Vec<JoinHandle<()>>,
    pub(super) readers: Vec<JoinHandle<Result<(), String>>>,
    /// Of each of its intakes.
    pub(super) asks: Vec<Sender<Ask>>,
    /// It has somebody to ask; whether that one answers.
    pub(super) connected: Option<Arc<AtomicBool>>,
    /// What a successor may go on with.
    pub(super) held: Option<Held>,
    /// Of a Kafka source.
    pub(super) log: Option<LiveLog>,
}

/// A Kafka source at work.
pub(super) struct LiveLog {
    /// What its tasks are made of.
    pub(super) parts: kafka::LogParts,
    pub(super) renew: Sender<kafka::Renew>,
}

/// What decoders before knew.
#[derive(Default)]
pub(super) struct Heirs {
    /// By intake.
    pub(super) known: Vec<Vec<u8>>,
    /// Those that have not ended yet will tell it there.
    pub(super) late: Vec<Receiver<Vec<u8>>>,
}

impl Heirs {
    /// Waits so long.
    pub(super) fn wait(told: Vec<Receiver<Vec<u8>>>, until: Instant) -> Self {
        let mut heirs = Self::default();
        for told in told {
            match told.recv_deadline(until) {
                Ok(known) => heirs.known.push(known),
                Err(RecvTimeoutError::Timeout) => heirs.late.push(told),
                // It has ended otherwise.
                Err(RecvTimeoutError::Disconnected) => {}
            }
        }
        heirs
    }
}

/// What a source needs besides itself.
pub(super) struct Feeds<'a> {
    pub(super) routes: Routes,
    /// Pipelines of rows of features.
    pub(super) rows: Vec<RowsIntake>,
    pub(super) sinks: &'a Sinks,
    pub(super) judges: Option<&'a Judges>,
}

impl LiveSource {
    /// `heirs`: tell what the decoders of the one before knew, when these have ended.
    pub(super) fn start(
        component: Component,
        source: BuiltSource,
        feeds: Feeds<'_>,
        heirs: Heirs,
        common: &Common,
    ) -> Result<Self, BuildError> {
        let Feeds { routes, rows, sinks, judges } = feeds;
        let id = component.id.clone();
        let stop = Arc::new(AtomicBool::new(common.stop.load(Ordering::Relaxed)));
        let panicked = &common.panicked;
        let hurry = Arc::new(AtomicBool::new(false));
        let waits = [hurry.clone(), common.stop.clone()];
        let mut live = Self {
            component,
            stop: stop.clone(),
            hurry,
            receivers: Vec::new(),
            readers: Vec::new(),
            asks: Vec::new(),
            connected: None,
            held: None,
            log: None,
        };
        let mut asked = || -> Receiver<Ask> {
            let (ask, asked) = bounded(ASKS);
            live.asks.push(ask);
            asked
        };
        match source {
            BuiltSource::Kafka(log) => {
                let BuiltLog { feed, parts } = *log;
                live.connected = Some(feed.connected());
                let factory = Factory {
                    source: id.clone(),
                    settings: kafka::settings(&parts.config),
                    sinks: parts.sinks(sinks),
                    parts: parts.clone(),
                    consumer: feed.consumer(),
                    stop: stop.clone(),
                    panicked: panicked.clone(),
                    shadows: common.shadows.clone(),
                };
                let (renew, renewed) = bounded(1);
                live.log = Some(LiveLog { parts, renew });
                let run = move || kafka::run(feed, factory, &renewed, &stop);
                live.readers.push(spawn(&format!("{id}-read"), panicked, run));
            }
            BuiltSource::File(files) if !rows.is_empty() => {
                let (pace, progress) = (Pace::new(common.speed), common.progress.clone());
                let run = move || files::rows(files, rows, pace, &stop, progress);
                live.readers.push(spawn(&format!("{id}-file"), panicked, run));
            }
            BuiltSource::Live(source) => {
                live.held = source.held;
                let mut progress = source.progress;
                for (number, (receiver, saved)) in source.receivers.into_iter().enumerate() {
                    let reading = Reading::new(judges, &id, &source.decode)?;
                    let intake = Intake::new((id.clone(), number as u32), reading, routes.clone(), asked());
                    let intake = intake.resume(saved).knowing(&heirs.known);
                    // Nothing is lost by waiting there, and all stays in order: what the one before still has comes first.
                    let before = if source.waits { heirs.late.clone() } else { Vec::new() };
                    let intake = if source.waits { intake.waiting(&waits) } else { intake };
                    let intake = intake.with_progress(progress.take());
                    let (to_intake, from_receiver) = bounded(source.queue);
                    let (recycle, recycled) = bounded(RECYCLED);
                    let stop = stop.clone();
                    let receive = move || receiver.run(&to_intake, &recycled, &stop);
                    live.receivers.push(spawn(&format!("{id}-recv-{number}"), panicked, receive));
                    live.readers.push(spawn(&format!("{id}-decode-{number}"), panicked, move || {
                        let known: Vec<Vec<u8>> = before.iter().filter_map(|heir| heir.recv().ok()).collect();
                        intake.knowing(&known).run(&from_receiver, &recycle);
                        Ok(())
                    }));
                }
            }
            BuiltSource::File(files) => {
                let files = files
                    .into_iter()
                    .map(|(reader, options)| Ok((reader, options.format, Reading::new(judges, &id, &options)?)))
                    .collect::<Result<Vec<_>, BuildError>>()?;
                // Each file brings what reads it.
                let none = Reading::new(None, &id, &DecodeOptions::default())?;
                let intake = Intake::new((id.clone(), 0), none, routes, asked()).patient(&waits);
                let (pace, progress) = (Pace::new(common.speed), common.progress.clone());
                let run = move || files::flows(files, intake, pace, &stop, progress);
                live.readers.push(spawn(&format!("{id}-file"), panicked, run));
            }
        }
        Ok(live)
    }

    /// It is to end, and one with so many intakes goes on for it: what its decoders know then.
    pub(super) fn leave(&self, intakes: usize) -> Vec<Receiver<Vec<u8>>> {
        let ask = |(number, asks): (usize, &Sender<Ask>)| {
            let (tell, told) = bounded(1);
            asks.try_send(Ask::Leave { heir: tell, goes_on: number < intakes }).ok().map(|()| told)
        };
        self.asks.iter().enumerate().filter_map(ask).collect()
    }

    /// It is not to end after all.
    pub(super) fn stay(&self) {
        // One that has no room for it is stuck, and ends its partition one day without a word: it is idle then anyhow.
        self.asks.iter().for_each(|asks| drop(asks.try_send(Ask::Stay)));
    }

    /// True when all its threads have ended.
    pub(super) fn is_over(&self) -> bool {
        self.has_ended() && self.receivers.iter().all(JoinHandle::is_finished)
    }

    /// True when it has come to its end by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.readers.iter().all(JoinHandle::is_finished)
    }
}
