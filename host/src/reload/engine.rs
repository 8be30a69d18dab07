//! The steps of a reload. In: a trigger, and the configuration files as they lie there; out: a [`Report`], and the new plan in
//! force or the old one untouched. Make before break: read, load, compare, build, connect, hand over; only the last step touches
//! what runs. Each has a time in which it must be done. Moves `kaminari_config_*`.

use super::probation::Probation;
use super::report::{Outcome, Report, Trigger};
use super::stable::{Digests, StillWritten, settled};
use super::{Busy, Control, memory, watch};
use crate::config::diff::{Change, PlanDiff, What, diff};
use crate::config::{self, ConfigErrors, Plan};
use crate::incident::reload_notice;
use crate::model::time::{now_ns, rfc3339};
use crate::pipeline::{BuildError, Generation, NotChanged, Problem, Running, registry};
use crate::plugin::Statuses;
use crate::telemetry::{
    self, CONFIG_LAST_RELOAD_SUCCESS, CONFIG_LAST_RELOAD_SUCCESSFUL, CONFIG_RELOAD_DURATION, CONFIG_RELOADS,
};
use metrics::{counter, gauge, histogram};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Reports that are kept.
const HISTORY: usize = 100;
/// A file that somebody is writing is waited for so long.
const SETTLE: Duration = Duration::from_secs(10);
/// A step that runs is looked at so often.
const LOOK: Duration = Duration::from_millis(50);
/// How long those who change may take to hand over what they know; what comes meanwhile waits.
const HAND_OVER: Duration = Duration::from_secs(10);

/// A running engine that can be reloaded.
pub struct Engine {
    /// The configuration files, as they were named.
    files: Vec<PathBuf>,
    running: Arc<Running>,
    state: Mutex<State>,
    /// Held while a reload runs.
    busy: Mutex<()>,
}

#[derive(Default)]
struct State {
    history: VecDeque<Report>,
    number: u64,
    /// What ran before the last change.
    previous: Option<Generation>,
    probation: Option<Probation>,
    /// What the files held when they were last read.
    seen: Digests,
}

/// What stood in the way.
struct Stopped {
    outcome: Outcome,
    step: &'static str,
    errors: Vec<String>,
}

impl Stopped {
    fn new(outcome: Outcome, step: &'static str, error: impl Into<String>) -> Self {
        Self { outcome, step, errors: vec![error.into()] }
    }
}

/// A reload that goes well.
#[derive(Default)]
struct Done {
    new_digest: Option<String>,
    diff: PlanDiff,
    notes: Vec<String>,
    unchanged: bool,
}

impl Engine {
    /// Takes an engine that runs the plan of these files; `seen`: what they held when they were read.
    pub fn new(files: Vec<PathBuf>, running: Running, seen: Digests) -> Arc<Self> {
        let state = State { seen, ..State::default() };
        let (running, state) = (Arc::new(running), Mutex::new(state));
        let engine = Arc::new(Self { files, running, state, busy: Mutex::default() });
        gauge!(CONFIG_LAST_RELOAD_SUCCESSFUL).set(1.0);
        gauge!(CONFIG_LAST_RELOAD_SUCCESS).set(now_ns() as f64 / 1e9);
        engine.publish();
        engine
    }

    /// What runs.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// What the files held that decide what runs, when they were last read.
    pub fn seen(&self) -> Digests {
        self.state().seen.clone()
    }

    /// No reload begins any more; one that runs is waited for.
    pub fn end_reloads(&self) -> MutexGuard<'_, ()> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after a change that is on probation: one that breaks too often is taken back.
    pub fn tend(self: &Arc<Self>) {
        let verdict = {
            let mut state = self.state();
            let Some(probation) = &mut state.probation else { return };
            match probation.look() {
                None => return,
                Some(verdict) => {
                    state.probation = None;
                    verdict
                }
            }
        };
        if let Err(why) = verdict {
            tracing::error!("the last change is taken back: {why}");
            let engine = self.clone();
            std::thread::spawn(move || {
                if engine.go_back(Trigger::Probation, Some(why)).is_err() {
                    tracing::error!("it is not: another reload is running");
                }
            });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a reload, alone, and tells what came of it.
    fn run(&self, trigger: Trigger, steps: impl FnOnce(&Generation) -> Result<Done, Stopped>) -> Result<Report, Busy> {
        let _alone = match self.busy.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Busy),
        };
        let (begun, began_at) = (Instant::now(), rfc3339(now_ns()));
        let Some(now) = self.running.generation() else { return Err(Busy) };
        let done = steps(&now);
        let number = {
            let mut state = self.state();
            state.number += 1;
            state.number
        };
        let mut report = Report {
            number,
            trigger,
            began_at,
            took_ms: begun.elapsed().as_secs_f64() * 1e3,
            outcome: Outcome::Applied,
            old_digest: now.plan.digest.clone(),
            new_digest: None,
            diff: PlanDiff::default(),
            step: None,
            errors: Vec::new(),
            notes: Vec::new(),
        };
        match done {
            Ok(Done { new_digest, diff, notes, unchanged }) => {
                report.outcome = if unchanged { Outcome::Unchanged } else { Outcome::Applied };
                (report.new_digest, report.diff, report.notes) = (new_digest, diff, notes);
            }
            Err(Stopped { outcome, step, errors }) => {
                (report.outcome, report.step, report.errors) = (outcome, Some(step), errors);
            }
        }
        self.tell(&report);
        // What was built and thrown away, too.
        drop(now);
        memory::give_back();
        let mut state = self.state();
        state.history.push_front(report.clone());
        state.history.truncate(HISTORY);
        Ok(report)
    }

    /// Log, metrics, and one line in the stream of incidents.
    fn tell(&self, report: &Report) {
        let (trigger, outcome) = (report.trigger.name(), report.outcome.name());
        counter!(CONFIG_RELOADS, "trigger" => trigger, "outcome" => outcome).increment(1);
        histogram!(CONFIG_RELOAD_DURATION, "outcome" => outcome).record(report.took_ms / 1e3);
        let good = matches!(report.outcome, Outcome::Applied | Outcome::Unchanged);
        gauge!(CONFIG_LAST_RELOAD_SUCCESSFUL).set(if good { 1.0 } else { 0.0 });
        if good {
            gauge!(CONFIG_LAST_RELOAD_SUCCESS).set(now_ns() as f64 / 1e9);
        }
        let took = format!("{:.0} ms", report.took_ms);
        match report.outcome {
            Outcome::Unchanged => return tracing::info!(trigger, "reload: nothing differs"),
            Outcome::Applied => {
                self.publish();
                let changes: Vec<String> = report.diff.changes.iter().map(summary).collect();
                tracing::info!(
                    trigger,
                    plan_digest = report.new_digest,
                    changes = changes.join(", "),
                    "reload: the new plan is in force after {took}"
                );
                report.notes.iter().for_each(|note| tracing::warn!(trigger, "reload: {note}"));
            }
            Outcome::Refused | Outcome::Failed => {
                let step = report.step.unwrap_or_default();
                for error in &report.errors {
                    tracing::error!(trigger, step, "reload {outcome}, the plan before goes on: {error}");
                }
            }
        }
        let changes: Vec<String> = report.diff.changes.iter().map(summary).collect();
        let message = match report.outcome {
            Outcome::Applied => format!("a new plan is in force: {}", changes.join(", ")),
            _ => format!("a new plan was {outcome}, the one before goes on: {}", report.errors.join("; ")),
        };
        let plan = self.running.plan();
        self.running.tell(&reload_notice(&plan.digest, now_ns(), (trigger, outcome), &message));
    }

    /// Metrics that say what runs.
    fn publish(&self) {
        let Some(now) = self.running.generation() else { return };
        let text = |s: &str| s.to_owned();
        telemetry::set_info(telemetry::CONFIG_INFO, vec![vec![("digest", now.plan.digest.clone())]]);
        let plugin = |(id, info): (Arc<str>, crate::plugin::PluginInfo)| {
            vec![("plugin", text(&id)), ("version", info.version), ("digest", info.digest), ("api", info.api_version)]
        };
        telemetry::set_info(telemetry::PLUGIN_INFO, now.plugins().into_iter().map(plugin).collect());
        let model = |(id, version, digest): (Arc<str>, String, String)| {
            vec![("model", text(&id)), ("version", version), ("digest", digest)]
        };
        telemetry::set_info(telemetry::MODEL_INFO, now.models().into_iter().map(model).collect());
    }

    fn reload_steps(&self, now: &Generation) -> Result<Done, Stopped> {
        use Outcome::{Failed, Refused};
        let unsettled = |error: StillWritten| Stopped::new(Failed, "read", error.to_string());
        let mut files = watch::files(&now.plan);
        self.state().seen = settled(&files, SETTLE).map_err(unsettled)?;
        let plan = config::load(&self.files, &registry()).map_err(|errors| Stopped {
            outcome: Refused,
            step: "read",
            errors: told(&errors),
        })?;
        // It may name others.
        let named = watch::files(&plan);
        if named != files {
            files = named;
            let all = settled(&files, SETTLE).map_err(unsettled)?;
            let mut state = self.state();
            let earlier = std::mem::take(&mut state.seen);
            state.seen = all.read_before(earlier);
        }
        let timeout = Duration::from_secs(plan.reload.timeout_secs);
        let (running, next) = (self.running.clone(), plan.clone());
        let (next, problems) = self.within("build", timeout, move || running.load_next(next))?;
        if !problems.is_empty() {
            return Err(Stopped { outcome: Refused, step: "build", errors: placed(&plan, problems) });
        }
        let Some(next) = next else { return Err(Stopped::new(Failed, "build", "the engine has no plugin host")) };
        self.take_up(now, &next, false, timeout)
    }

    /// From a plan whose plugins are loaded to one in force.
    fn take_up(&self, now: &Generation, next: &Generation, back: bool, timeout: Duration) -> Result<Done, Stopped> {
        use Outcome::{Failed, Refused};
        let differs = diff((&now.plan, &now.contents()), (&next.plan, &next.contents()));
        let errors = differs.process_reasons();
        if !errors.is_empty() {
            return Err(Stopped { outcome: Refused, step: "diff", errors });
        }
        let new_digest = Some(next.plan.digest.clone());
        if differs.is_empty() && next.plan.digest == now.plan.digest {
            return Ok(Done { new_digest, unchanged: true, ..Done::default() });
        }
        let (running, wanted) = (self.running.clone(), next.clone());
        let unreachable = self.within("connect", timeout, move || running.connect_next(&wanted))?;
        if !unreachable.is_empty() {
            return Err(Stopped { outcome: Refused, step: "connect", errors: placed(&next.plan, unreachable) });
        }
        let (running, wanted) = (self.running.clone(), next.clone());
        // Whoever is made from here on belongs to the change.
        let before = self.running.plugins().map(|s| s.all()).unwrap_or_default();
        let change =
            self.within("build", timeout, move || running.prepare(&wanted, back))?.map_err(|error| match error {
                BuildError::Checkpoint(why) => Stopped::new(Failed, "checkpoint", why),
                BuildError::Problems(problems) => {
                    Stopped { outcome: Refused, step: "build", errors: placed(&next.plan, problems) }
                }
                other => Stopped::new(Refused, "build", other.to_string()),
            })?;
        let changed = self.running.commit(change, HAND_OVER.min(timeout)).map_err(|NotChanged { step, message }| {
            let outcome = if step == "hand_over" { Refused } else { Failed };
            Stopped::new(outcome, step, message)
        })?;
        let mut state = self.state();
        state.previous = Some(now.clone());
        let plan = next.plan.reload;
        state.probation = Probation::begin(plan, changed.settled, before, self.running.plugins());
        Ok(Done { new_digest, diff: differs, notes: changed.notes, unchanged: false })
    }

    /// One step on a thread of its own: who takes too long is left behind, and so is whoever works when the engine stops.
    fn within<T: Send + 'static>(
        &self,
        step: &'static str,
        at_most: Duration,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let failed = |why: String| Stopped::new(Outcome::Failed, step, why);
        let (tell, told) = mpsc::channel();
        std::thread::Builder::new()
            .name(format!("reload-{step}"))
            .spawn(move || drop(tell.send(run())))
            .map_err(|e| failed(format!("cannot start a thread: {e}")))?;
        let until = Instant::now() + at_most;
        loop {
            match told.recv_timeout(LOOK) {
                Ok(done) => return Ok(done),
                Err(RecvTimeoutError::Disconnected) => return Err(failed("it panicked: this is a bug".into())),
                Err(RecvTimeoutError::Timeout) if self.running.is_stopping() => {
                    return Err(failed("the engine is stopping".into()));
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => {
                    let secs = at_most.as_secs();
                    return Err(failed(format!("it took longer than {secs} s (`timeout_secs` in `[reload]`)")));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn go_back(&self, trigger: Trigger, why: Option<String>) -> Result<Report, Busy> {
        self.run(trigger, |now| {
            let previous = self.state().previous.take();
            let Some(previous) = previous else {
                let text = "there is no plan before this one to go back to";
                return Err(Stopped::new(Outcome::Refused, "read", text));
            };
            let timeout = Duration::from_secs(now.plan.reload.timeout_secs);
            let back = self.take_up(now, &previous, true, timeout);
            let mut state = self.state();
            match back {
                Ok(mut done) => {
                    // One step back; and what was left is no way forward.
                    (state.previous, state.probation) = (None, None);
                    done.notes.extend(why);
                    done.notes.push(
                        "the configuration files still say otherwise: correct them before the next reload".into(),
                    );
                    Ok(done)
                }
                Err(stopped) => {
                    state.previous = Some(previous);
                    Err(stopped)
                }
            }
        })
    }
}

impl Control for Engine {
    fn reload(&self, trigger: Trigger) -> Result<Report, Busy> {
        self.run(trigger, |now| self.reload_steps(now))
    }

    fn rollback(&self, trigger: Trigger) -> Result<Report, Busy> {
        self.go_back(trigger, None)
    }

    fn history(&self) -> Vec<Report> {
        self.state().history.iter().cloned().collect()
    }

    fn plan(&self) -> Arc<Plan> {
        self.running.plan()
    }

    fn plugins(&self) -> Option<Arc<Statuses>> {
        self.running.plugins()
    }

    fn not_connected(&self) -> Vec<Arc<str>> {
        self.running.not_connected()
    }

    fn shadows(&self) -> serde_json::Value {
        serde_json::to_value(self.running.shadows()).unwrap_or_default()
    }
}

/// `changed detectors.limits`.
fn summary(change: &Change) -> String {
    let what = match change.what {
        What::Added => "added",
        What::Changed => "changed",
        What::Removed => "removed",
    };
    format!("{what} {}", change.component)
}

/// Problems with their places, as lines.
fn placed(plan: &Plan, problems: Vec<Problem>) -> Vec<String> {
    let found = problems.into_iter().map(|p| plan.places.diagnostic(p.code, &p.path, p.message, p.help));
    told(&ConfigErrors(found.collect()))
}

fn told(errors: &ConfigErrors) -> Vec<String> {
    let line = |d: &config::ConfigDiagnostic| match (d.place(), d.help_text()) {
        (Some((file, line, column, _)), Some(help)) => format!("{file}:{line}:{column}: {} ({help})", d.message()),
        (Some((file, line, column, _)), None) => format!("{file}:{line}:{column}: {}", d.message()),
        (None, Some(help)) => format!("{} ({help})", d.message()),
        (None, None) => d.message().to_owned(),
    };
    errors.0.iter().filter(|d| !d.is_warning()).map(line).collect()
}
