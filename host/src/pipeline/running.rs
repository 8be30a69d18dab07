//! A built plan at work: spawns the threads, stops them in the order of the data, says how it went. What it consists of may
//! change while it runs (`change.rs`).

use super::build::{BuildError, Built};
use super::intake::Routes;
use super::judges::Judges;
use super::live::{Common, Feeds, Heirs, LivePipeline, LiveSource, Sinks};
use super::rows::RowsIntake;
use crate::config::Plan;
use crate::model::{Content, PlanDigest};
use crate::plugin::Statuses;
use crate::sink::worker::{SinkHandle, SinkWorker};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// Deliveries of incident events that may wait before a sink.
pub(super) const SINK_QUEUE: usize = 1024;

/// How a run ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Errors of file sources: what came before them was processed.
    pub errors: Vec<String>,
}

/// Threads at work. Shared by those who watch, change and end it.
pub struct Running {
    pub(super) common: Common,
    parts: Mutex<Parts>,
}

/// What it consists of now.
pub(super) struct Parts {
    pub(super) plan: Arc<Plan>,
    /// The plugin engine's clock must tick until the last call.
    pub(super) judges: Option<Arc<Judges>>,
    pub(super) sources: BTreeMap<Arc<str>, LiveSource>,
    pub(super) pipelines: BTreeMap<Arc<str>, LivePipeline>,
    pub(super) sinks: Sinks,
    /// In what sinks write.
    pub(super) digest: PlanDigest,
    /// Threads of what the configuration has no more.
    pub(super) gone: Vec<JoinHandle<()>>,
    pub(super) errors: Vec<String>,
}

/// Called from the reading thread of a file: bytes read and, where known, the size.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

impl Running {
    /// Starts everything. `speed`: a replay's pace against event time (`None`: as fast as it goes).
    pub fn start(built: Built, speed: Option<f64>, progress: Option<Progress>) -> Result<Self, BuildError> {
        let Built { sources, pipelines, sinks, plan, digest, live, judges, bound: _ } = built;
        let (stop, panicked, shadows) = (Arc::default(), Arc::default(), Arc::default());
        let common = Common { stop, panicked, live, speed, progress, shadows };
        let spawned = |(id, sink): (Arc<str>, _)| (id.clone(), Arc::new(SinkWorker::spawn(id, sink, SINK_QUEUE)));
        let sinks: Sinks = sinks.into_iter().map(spawned).collect();
        let pipelines = pipelines.into_iter().map(|built| LivePipeline::start(built, &sinks, &common));
        let pipelines = pipelines.map(|p| (p.plan.id.clone(), p)).collect();
        let (gone, errors) = (Vec::new(), Vec::new());
        let mut parts = Parts { plan, judges, sources: BTreeMap::new(), pipelines, sinks, digest, gone, errors };
        for (id, source) in sources {
            let Some(component) = parts.plan.sources.get(&id).cloned() else { continue };
            let live = LiveSource::start(component, source, parts.feeds(&id), Heirs::default(), &common)?;
            parts.sources.insert(id, live);
        }
        Ok(Self { common, parts: Mutex::new(parts) })
    }

    pub(super) fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sources stop; what they have received is processed. Returns at once; `wait` waits.
    pub fn stop(&self) {
        self.common.stop.store(true, Ordering::Relaxed);
        self.parts().sources.values().for_each(|source| source.stop.store(true, Ordering::Relaxed));
    }

    /// True once it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.common.stop.load(Ordering::Relaxed)
    }

    /// The plan in force.
    pub fn plan(&self) -> Arc<Plan> {
        self.parts().plan.clone()
    }

    /// How each use of each plugin fares.
    pub fn plugins(&self) -> Option<Arc<Statuses>> {
        self.parts().judges.as_ref().map(|judges| judges.statuses().clone())
    }

    /// Sources that have somebody to ask and have no answer.
    pub fn not_connected(&self) -> Vec<Arc<str>> {
        let parts = self.parts();
        let silent = |s: &LiveSource| s.connected.as_ref().is_some_and(|up| !up.load(Ordering::Relaxed));
        parts.sources.iter().filter(|(_, s)| silent(s)).map(|(id, _)| id.clone()).collect()
    }

    /// How each shadow compares with what is live, by pipeline.
    pub fn shadows(&self) -> Vec<crate::incident::compare::Report> {
        self.common.shadows.reports()
    }

    /// Sinks that take incidents.
    pub fn tell(&self, event: &crate::model::incident::IncidentEvent) {
        let sinks: Vec<Arc<SinkHandle>> = self.parts().sinks.values().cloned().collect();
        for sink in sinks.iter().filter(|s| s.content() == Content::Incidents) {
            sink.send(crate::model::Output::Incidents(vec![event.clone()]));
        }
    }

    /// True when every source has ended by itself. Not while what there is changes.
    pub fn sources_ended(&self) -> bool {
        match self.parts.try_lock() {
            Ok(parts) => parts.sources.values().all(LiveSource::has_ended),
            Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => false,
        }
    }

    /// True when a thread has panicked: an engine that goes on without one would look alive and see nothing.
    pub fn panicked(&self) -> bool {
        self.common.panicked.load(Ordering::Relaxed)
    }

    /// Waits until all has run empty: sources, then stages, then sinks.
    pub fn wait(&self) -> Outcome {
        let (sources, pipelines, sinks, gone, errors) = {
            let mut parts = self.parts();
            let Parts { sources, pipelines, sinks, gone, errors, .. } = &mut *parts;
            (
                std::mem::take(sources),
                std::mem::take(pipelines),
                std::mem::take(sinks),
                std::mem::take(gone),
                std::mem::take(errors),
            )
        };
        let mut outcome = Outcome { errors };
        for source in sources.into_values() {
            outcome.errors.extend(joined(source.readers));
            outcome.errors.extend(lost(source.receivers, "a source"));
        }
        // They end when nobody feeds them any more.
        let threads = pipelines.into_values().flat_map(|p| p.threads).collect();
        outcome.errors.extend(lost(threads, "a pipeline"));
        outcome.errors.extend(lost(gone, "an ended part's"));
        for sink in sinks.into_values() {
            // The pipelines' clones went with their threads.
            if let Some(sink) = Arc::into_inner(sink) {
                sink.finish();
            }
        }
        outcome
    }
}

/// What readers of sources say at their end.
pub(super) fn joined(readers: Vec<JoinHandle<Result<(), String>>>) -> Vec<String> {
    let end = |reader: JoinHandle<Result<(), String>>| match reader.join() {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(_) => Some("a source thread panicked: this is a bug, its records are lost".into()),
    };
    readers.into_iter().filter_map(end).collect()
}

/// Threads that did not end well.
fn lost(threads: Vec<JoinHandle<()>>, whose: &str) -> Vec<String> {
    let panicked = threads.into_iter().map(JoinHandle::join).filter(Result::is_err);
    panicked.map(|_| format!("{whose} thread panicked: this is a bug, what it had is lost")).collect()
}

impl Parts {
    /// Where the records of a source go.
    pub(super) fn routes(&self, id: &Arc<str>) -> Routes {
        let readers = self.pipelines.values().filter(|p| p.plan.sources.contains(id));
        let pipelines = readers.filter_map(|p| Some((p.plan.id.clone(), p.router.clone()?))).collect();
        // The plan's own pipelines: those that hand records on as they are do not run.
        let all = self.plan.pipelines.values().filter(|p| p.sources.contains(id));
        let ids: BTreeSet<&Arc<str>> = all.flat_map(|p| &p.sinks).collect();
        let flows = ids.into_iter().filter_map(|s| self.sinks.get(s)).filter(|s| s.content() == Content::Flows);
        Routes { pipelines, flows: flows.cloned().collect() }
    }

    /// All that a source needs.
    pub(super) fn feeds(&self, id: &Arc<str>) -> Feeds<'_> {
        let of_rows = self.pipelines.values().filter(|p| p.plan.sources.contains(id));
        let rows = of_rows.filter_map(|p| Some(RowsIntake::new(id.clone(), p.plan.clone(), p.rows.clone()?)));
        Feeds { routes: self.routes(id), rows: rows.collect(), sinks: &self.sinks, judges: self.judges.as_deref() }
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
