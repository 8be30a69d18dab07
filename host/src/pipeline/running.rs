//! A built plan at work: spawns the threads, stops them in the order of the data, says how it went.

use super::build::{BuildError, Built, BuiltLog, BuiltSource};
use super::desk::Desk;
use super::files::{self, Pace};
use super::intake::Intake;
use super::judges::Judges;
use super::kafka::{self, Factory};
use super::outlet::Outlet;
use super::reading::Reading;
use super::router::{Router, RouterMsg};
use super::rows::RowsIntake;
use crate::config::decode_options::DecodeOptions;
use crate::plugin::Statuses;
use crate::sink::worker::{SinkHandle, SinkWorker};
use crossbeam_channel::bounded;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Batches that may wait before a router, orders and batches before a worker or a desk. Small: a batch is 1.5 MB.
const QUEUE: usize = 16;
/// Deliveries of incident events that may wait before a sink.
const SINK_QUEUE: usize = 1024;
/// Used buffers of a socket that are kept: after a burst the rest goes back to the system.
const RECYCLED: usize = 8;

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Errors of file sources: what came before them was processed.
    pub errors: Vec<String>,
}

/// Threads at work.
pub struct Running {
    stop: Arc<AtomicBool>,
    sources: Vec<JoinHandle<Result<(), String>>>,
    stages: Vec<JoinHandle<()>>,
    sinks: Vec<Arc<SinkHandle>>,
    panicked: Arc<AtomicBool>,
    connected: Vec<(Arc<str>, Arc<AtomicBool>)>,
    /// The plugin engine's clock must tick until the last call.
    judges: Option<Arc<Judges>>,
}

/// Called from the reading thread of a file: bytes read and, where known, the size.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

impl Running {
    /// Starts everything. `speed`: a replay's pace against event time (`None`: as fast as it goes).
    pub fn start(built: Built, speed: Option<f64>, progress: Option<Progress>) -> Result<Self, BuildError> {
        let stop = Arc::new(AtomicBool::new(false));
        let panicked = Arc::new(AtomicBool::new(false));
        let (mut sources, mut stages, mut routes) = (Vec::new(), Vec::new(), BTreeMap::<Arc<str>, Vec<_>>::new());
        let mut row_intakes = BTreeMap::<Arc<str>, Vec<RowsIntake>>::new();
        let mut connected = Vec::new();
        let sinks: BTreeMap<Arc<str>, Arc<SinkHandle>> = built
            .sinks
            .into_iter()
            .map(|(id, sink)| (id.clone(), Arc::new(SinkWorker::spawn(id, sink, SINK_QUEUE))))
            .collect();
        for pipeline in built.pipelines {
            let id = &pipeline.plan.id;
            let (to_router, from_intakes) = bounded::<RouterMsg>(QUEUE);
            let (to_desk, from_workers) = bounded(QUEUE);
            let (mut to_workers, worker_count) = (Vec::new(), pipeline.workers.len());
            for (number, worker) in pipeline.workers.into_iter().enumerate() {
                let (to_worker, from_router) = bounded(QUEUE);
                to_workers.push(to_worker);
                let to_desk = to_desk.clone();
                stages.push(spawn(&format!("{id}-window-{number}"), &panicked, move || {
                    worker.run(&from_router, &to_desk)
                }));
            }
            drop(to_desk);
            let its_sinks = pipeline.plan.sinks.iter().filter_map(|s| sinks.get(s).cloned());
            let its_sinks = its_sinks.map(|s| Box::new(s) as Box<dyn Outlet>).collect();
            let mut desk = Desk::new(
                id,
                pipeline.tracker,
                its_sinks,
                pipeline.scores,
                (pipeline.followers, pipeline.keeper),
                worker_count,
                built.live,
            );
            desk.resume(pipeline.saved);
            let stopped = stop.clone();
            stages.push(spawn(&format!("{id}-desk"), &panicked, move || desk.run(&from_workers, &stopped)));
            if pipeline.plan.rows.is_some() {
                for source in &pipeline.plan.sources {
                    let to_worker = to_workers[0].clone();
                    let intake = RowsIntake::new(source.clone(), pipeline.plan.clone(), to_worker);
                    row_intakes.entry(source.clone()).or_default().push(intake);
                }
                continue;
            }
            for source in &pipeline.plan.sources {
                routes.entry(source.clone()).or_default().push(to_router.clone());
            }
            let router = Router::new(id, pipeline.ingest, to_workers);
            stages.push(spawn(&format!("{id}-router"), &panicked, move || router.run(&from_intakes)));
        }
        let judges = built.judges.as_deref();
        for (id, source) in built.sources {
            let routes = routes.remove(&id).unwrap_or_default();
            let rows = row_intakes.remove(&id).unwrap_or_default();
            let forwarded = || -> Vec<Arc<SinkHandle>> {
                let theirs = built.forwards.iter().filter(|forward| forward.sources.contains(&id));
                let ids: BTreeSet<&Arc<str>> = theirs.flat_map(|forward| &forward.sinks).collect();
                ids.into_iter().filter_map(|s| sinks.get(s).cloned()).collect()
            };
            match source {
                BuiltSource::Kafka(log) => {
                    let BuiltLog { feed, config, plan, pipelines, judges, in_transaction, letters, store } = *log;
                    connected.push((id.clone(), feed.connected()));
                    let factory = Factory {
                        plan,
                        source: id.clone(),
                        settings: kafka::settings(&config),
                        config,
                        pipelines,
                        judges,
                        sinks: sinks.clone(),
                        in_transaction,
                        letters,
                        store,
                        consumer: feed.consumer(),
                        stop: stop.clone(),
                        panicked: panicked.clone(),
                    };
                    let stop = stop.clone();
                    sources.push(spawn(&format!("{id}-read"), &panicked, move || kafka::run(feed, factory, &stop)));
                }
                BuiltSource::File(files) if !rows.is_empty() => {
                    let (stop, progress) = (stop.clone(), progress.clone());
                    sources.push(spawn(&format!("{id}-file"), &panicked, move || {
                        files::rows(files, rows, Pace::new(speed), &stop, progress)
                    }));
                }
                BuiltSource::Live(live) => {
                    let mut progress = live.progress;
                    for (number, (receiver, saved)) in live.receivers.into_iter().enumerate() {
                        let reading = Reading::new(judges, &id, &live.decode)?;
                        let intake = Intake::new((id.clone(), number as u32), reading, routes.clone(), forwarded());
                        let intake = intake.resume(saved);
                        let intake = if live.waits { intake.waiting(&stop) } else { intake };
                        let intake = intake.with_progress(progress.take());
                        let (to_intake, from_receiver) = bounded(live.queue);
                        let (recycle, recycled) = bounded(RECYCLED);
                        let stop = stop.clone();
                        let name = format!("{id}-recv-{number}");
                        stages.push(spawn(&name, &panicked, move || receiver.run(&to_intake, &recycled, &stop)));
                        sources.push(spawn(&format!("{id}-decode-{number}"), &panicked, move || {
                            intake.run(&from_receiver, &recycle);
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
                    let intake = Intake::new((id.clone(), 0), none, routes.clone(), forwarded()).patient(&stop);
                    let pace = Pace::new(speed);
                    let (stop, progress) = (stop.clone(), progress.clone());
                    sources.push(spawn(&format!("{id}-file"), &panicked, move || {
                        files::flows(files, intake, pace, &stop, progress)
                    }));
                }
            }
        }
        drop(routes);
        let sinks = sinks.into_values().collect();
        Ok(Self { stop, sources, stages, sinks, panicked, connected, judges: built.judges })
    }

    /// Sources stop; what they have received is processed. Returns at once; `wait` waits.
    pub fn stop_handle(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// How each use of each plugin fares.
    pub fn plugins(&self) -> Option<Arc<Statuses>> {
        self.judges.as_ref().map(|judges| judges.statuses().clone())
    }

    /// Sources that have somebody to ask, and whether that one answers.
    pub fn connected(&self) -> &[(Arc<str>, Arc<AtomicBool>)] {
        &self.connected
    }

    /// True when every source has ended by itself.
    pub fn sources_ended(&self) -> bool {
        self.sources.iter().all(JoinHandle::is_finished)
    }

    /// True when a thread has panicked: an engine that goes on without one would look alive and see nothing.
    pub fn panicked(&self) -> bool {
        self.panicked.load(Ordering::Relaxed)
    }

    /// Waits until all has run empty: sources, then stages, then sinks.
    pub fn wait(self) -> Outcome {
        let mut outcome = Outcome::default();
        for source in self.sources {
            match source.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => outcome.errors.push(error),
                Err(_) => outcome.errors.push("a source thread panicked: this is a bug, its records are lost".into()),
            }
        }
        for stage in self.stages {
            if stage.join().is_err() {
                outcome.errors.push("a pipeline thread panicked: this is a bug, its windows are lost".into());
            }
        }
        for sink in self.sinks {
            // The pipelines' clones went with their threads.
            if let Some(sink) = Arc::into_inner(sink) {
                sink.finish();
            }
        }
        outcome
    }
}

pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    panicked: &Arc<AtomicBool>,
    run: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    // Linux shows 15 bytes of a thread's name.
    let short: String = name.chars().take(15).collect();
    let watch = Watch(panicked.clone());
    let run = move || {
        let _watch = watch;
        run()
    };
    std::thread::Builder::new().name(short).spawn(run).expect("the system can start a thread")
}

/// Tells when its thread panics.
struct Watch(Arc<AtomicBool>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_noticed_and_an_end_is_not() {
        let panicked = Arc::new(AtomicBool::new(false));
        spawn("ends", &panicked, || ()).join().unwrap();
        assert!(!panicked.load(Ordering::Relaxed));
        assert!(spawn("panics", &panicked, || panic!("as the test wants")).join().is_err());
        assert!(panicked.load(Ordering::Relaxed));
    }
}
