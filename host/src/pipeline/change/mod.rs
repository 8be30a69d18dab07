//! A running engine becomes what another plan says. In: the next plan with its plugins and models; out: a [`Change`], built
//! beside what runs, and then, in one step, taken up: all or nothing. Whatever has not changed is not touched; what has changed
//! takes over between two windows; what is no more ends when its records have run out. Refused: what cannot be built, and
//! whoever cannot go on with what its predecessor knew.

mod sources;

use super::assemble::{Before, BuiltPipeline, Facts, Shop};
use super::build::{self, BuildError, BuiltSource, Problem, sink_problem};
use super::differs::{same_plugin, touched};
use super::gate::Asking;
use super::intake::Ask;
use super::judges::{self, Judges, Loaded};
use super::kafka::{self, LogParts, Renew};
use super::live::{LivePipeline, LiveSource, outlets};
use super::models;
use super::next::NextPipeline;
use super::reading::Reading;
use super::receivers;
use super::router::RouterMsg;
use super::running::{Running, SINK_QUEUE, spawn};
use super::saved;
use crate::config::diff::{Contents, same_component, source_differs};
use crate::config::{Component, PipelinePlan, Plan};
use crate::model::PlanDigest;
use crate::sink::worker::{Begin, SinkHandle, SinkWorker};
use crate::source::Held;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A plan with its plugins and models. Kept by who may want to go back to it.
#[derive(Clone)]
pub struct Generation {
    /// The plan.
    pub plan: Arc<Plan>,
    judges: Arc<Judges>,
}

impl Generation {
    /// Digests of the files that it names.
    pub fn contents(&self) -> Contents {
        self.judges.contents()
    }

    /// Every model that some plugin may score with: its id in the plan, version and digest.
    pub fn models(&self) -> Vec<(Arc<str>, String, String)> {
        self.judges.model_infos()
    }

    /// Every plugin: its id in the plan, and who it says it is.
    pub fn plugins(&self) -> Vec<(Arc<str>, crate::plugin::PluginInfo)> {
        self.judges.loaded().map(|p| (p.id().clone(), p.info().clone())).collect()
    }
}

/// What a plan asks for that is not there yet, built and waiting.
pub struct Change {
    next: Generation,
    sinks: BTreeMap<Arc<str>, (Arc<SinkHandle>, Begin)>,
    pipelines: Vec<BuiltPipeline>,
    succeed: Vec<(PipelinePlan, NextPipeline, Facts)>,
    readings: Vec<(Arc<str>, Vec<Reading>)>,
    sources: BTreeMap<Arc<str>, BuiltSource>,
    renew: BTreeMap<Arc<str>, LogParts>,
    asking: Asking,
}

/// What must be known of a source to make what it becomes.
struct Known {
    component: Component,
    intakes: usize,
    held: Option<Held>,
    log: Option<LogParts>,
}

impl Known {
    fn of(source: &LiveSource) -> Self {
        let log = source.log.as_ref().map(|log| log.parts.clone());
        Self { component: source.component.clone(), intakes: source.asks.len(), held: source.held.clone(), log }
    }
}

/// A change that is in force.
#[derive(Default)]
pub struct Changed {
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Of each pipeline that has changed or is new: how many windows it has settled, counting on, and how many it had then.
    pub settled: Vec<(Arc<str>, Arc<AtomicU64>, u64)>,
}

/// A change that did not come to be; what ran before runs on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NotChanged {
    /// Which step.
    pub step: &'static str,
    /// Why.
    pub message: String,
}

impl Running {
    /// What runs now.
    pub fn generation(&self) -> Option<Generation> {
        let parts = self.parts();
        Some(Generation { plan: parts.plan.clone(), judges: parts.judges.clone()? })
    }

    /// Loads the plugins and models of a plan, as far as they are not those that run.
    pub fn load_next(&self, plan: Plan) -> (Option<Generation>, Vec<Problem>) {
        let Some(now) = self.generation() else { return (None, Vec::new()) };
        let Loaded { judges, mut problems, told } = judges::succeed(&plan, (&now.plan, &now.judges));
        problems.extend(kafka::problems(&plan, true));
        problems.extend(receivers::problems(&plan, true));
        if problems.is_empty() {
            models::tell(&told);
        }
        (Some(Generation { plan: Arc::new(plan), judges }), problems)
    }

    /// Asks the brokers of sinks that are new or have changed.
    pub fn connect_next(&self, next: &Generation) -> Vec<Problem> {
        let now = self.plan();
        let same = |id: &Arc<str>| same_component(now.sinks.get(id), next.plan.sinks.get(id));
        kafka::unreachable_sinks(&next.plan, &|id| !same(id))
    }

    /// Builds what the next plan has and the present one has not. Nothing that runs is touched. `back`: it was in force before,
    /// and whoever cannot read what its successor knows goes on with what it knew itself.
    pub fn prepare(&self, next: &Generation, back: bool) -> Result<Change, BuildError> {
        let store = saved::store(&next.plan);
        if store.is_none() && next.plan.engine.state_dir.is_some() {
            return Err(BuildError::Checkpoint("nothing can be written to `state_dir` of `[engine]`".into()));
        }
        let shop =
            Shop { plan: &next.plan, judges: Some(&next.judges), live: true, store: store.as_ref(), digest: None };
        let mut problems = Vec::new();
        // Only looked at: the lock is not held while plugins start.
        let (now, sinks, facts, sources) = {
            let parts = self.parts();
            let facts = |p: &LivePipeline| (p.plan.clone(), p.facts.clone(), p.scorers.clone(), p.rows.is_some());
            let pipelines: BTreeMap<_, _> = parts.pipelines.iter().map(|(id, p)| (id.clone(), facts(p))).collect();
            let sources: BTreeMap<_, _> = parts.sources.iter().map(|(id, s)| (id.clone(), Known::of(s))).collect();
            let Some(judges) = parts.judges.clone() else {
                return Err(BuildError::Input("the engine has no plugin host".into()));
            };
            (Generation { plan: parts.plan.clone(), judges }, parts.sinks.clone(), pipelines, sources)
        };
        let asking = Asking::new();
        let mut next_sinks = sinks.clone();
        next_sinks.retain(|id, _| same_component(now.plan.sinks.get(id), next.plan.sinks.get(id)));
        let mut new_sinks = BTreeMap::new();
        for (id, component) in &next.plan.sinks {
            if next_sinks.contains_key(id) || kafka::only_in_transactions(&next.plan, id) {
                continue;
            }
            match self.sink(component, sinks.get(id)) {
                Ok((handle, begin)) => {
                    let handle = Arc::new(handle);
                    next_sinks.insert(id.clone(), handle.clone());
                    new_sinks.insert(id.clone(), (handle, begin));
                }
                Err(problem) => problems.push(problem),
            }
        }
        let (mut pipelines, mut succeed) = (Vec::new(), Vec::new());
        for pipeline in next.plan.pipelines.values().filter(|p| !p.is_forward()) {
            if kafka::is_of_log(&next.plan, pipeline) {
                problems.extend(next.judges.all_detectors(&next.plan, pipeline).err().into_iter().flatten());
                problems.extend(next.judges.features(&next.plan, pipeline).err().into_iter().flatten());
                continue;
            }
            let Some((was, facts, scorers, of_rows)) = facts.get(&pipeline.id) else {
                match shop.pipeline(pipeline, None, None) {
                    Ok(built) => pipelines.push(built),
                    Err(more) => problems.extend(more),
                }
                continue;
            };
            if !touched(was, (&now.plan, &now.judges), (&next.plan, &next.judges), pipeline) {
                continue;
            }
            let before = Before { plan: &now.plan, judges: Some(&now.judges), pipeline: was, facts, scorers, back };
            if *of_rows || pipeline.rows.is_some() {
                let text = format!(
                    "pipeline `{}` takes rows of features from files, which are read once: start a new process",
                    pipeline.id
                );
                return Err(BuildError::Input(text));
            }
            match shop.succeed(pipeline, before, outlets(pipeline, &next_sinks), asking.gate()) {
                Ok((becomes, facts)) => succeed.push((pipeline.clone(), becomes, facts)),
                Err(more) => problems.extend(more),
            }
        }
        if !problems.is_empty() {
            return Err(BuildError::Problems(problems));
        }
        let (mut new_sources, mut readings, mut renew) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        for (id, component) in &next.plan.sources {
            match sources.get(id) {
                None => drop(new_sources.insert(id.clone(), build::source(&next.plan, component, &next.judges)?)),
                Some(Known { component: was, held, .. }) if source_differs(was, component) => {
                    if let Some(source) = sources::beside(&next.plan, (was, held.as_ref()), component, &next.judges)? {
                        new_sources.insert(id.clone(), source);
                    }
                }
                Some(Known { log, .. }) if component.kind == crate::source::kafka::DEF.kind => {
                    let (was, is) = ((&*now.plan, &*now.judges), (&*next.plan, &*next.judges));
                    if let Some(log) = log.as_ref().filter(|_| kafka::is_touched(was, is, id)) {
                        renew.insert(id.clone(), log.succeed(&next.plan, &next.judges, back));
                    }
                }
                Some(Known { intakes, .. }) => {
                    let Some(decode) = receivers::decode(component)? else { continue };
                    let Some(plugin) = &decode.plugin else { continue };
                    if !same_plugin(&now.judges, &next.judges, plugin) {
                        let each = (0..*intakes).map(|_| Reading::new(Some(&next.judges), id, &decode));
                        readings.push((id.clone(), each.collect::<Result<Vec<_>, _>>()?));
                    }
                }
            }
        }
        Ok(Change {
            next: next.clone(),
            sinks: new_sinks,
            pipelines,
            succeed,
            readings,
            sources: new_sources,
            renew,
            asking,
        })
    }

    /// A sink that is new (then it is opened now) or takes the place of another.
    fn sink(&self, component: &Component, before: Option<&Arc<SinkHandle>>) -> Result<(SinkHandle, Begin), Problem> {
        let digest = self.parts().digest.clone();
        let make = |component: &Component, digest: &PlanDigest| crate::sink::build(component, digest);
        let failed = |error| sink_problem(component, &error);
        // A file that two would hold is opened when the one before has let go of it.
        let mut first = match (before, crate::sink::holds_alone(component)) {
            (Some(_), true) => None,
            _ => Some(make(component, &digest).map_err(failed)?),
        };
        let again = component.clone();
        let make = Box::new(move || first.take().map_or_else(|| crate::sink::build(&again, &digest), Ok));
        Ok(SinkWorker::spawn_after(component.id.clone(), crate::sink::content(component), SINK_QUEUE, make))
    }

    /// Takes a change up: first all who change hand over what they know, and say whether they are ready; then all change.
    pub fn commit(&self, change: Change, at_most: Duration) -> Result<Changed, NotChanged> {
        let Change { next, sinks, pipelines, succeed, readings, sources, renew, asking } = change;
        let failed = |message| NotChanged { step: "hand_over", message };
        if self.is_stopping() {
            return Err(failed("the engine is stopping".into()));
        }
        let mut parts = self.parts();
        // Votes.
        let mut seats = 0;
        let mut facts = Vec::with_capacity(succeed.len());
        for (plan, becomes, after) in succeed {
            let Some(router) = parts.pipelines.get(&plan.id).and_then(|p| p.router.clone()) else { continue };
            seats += becomes.workers.len();
            facts.push((plan, after));
            let message = RouterMsg::Succeed(Box::new(becomes));
            if router.send_timeout(message, at_most).is_err() {
                return Err(failed("a pipeline is too far behind to change now".into()));
            }
        }
        for (id, each) in readings {
            let Some(source) = parts.sources.get(&id) else { continue };
            for (asks, reading) in source.asks.iter().zip(each) {
                seats += usize::from(asks.try_send(Ask::Reading(Box::new(reading), asking.gate())).is_ok());
            }
        }
        let (mut renewed, mut of_logs) = (Vec::new(), Vec::new());
        for (id, log) in renew {
            let Some(renew) = parts.sources.get(&id).and_then(|s| s.log.as_ref()).map(|l| &l.renew) else { continue };
            let mut all = parts.sinks.clone();
            all.retain(|id, _| same_component(parts.plan.sinks.get(id), next.plan.sinks.get(id)));
            all.extend(sinks.iter().map(|(id, (handle, _))| (id.clone(), handle.clone())));
            let settled =
                |(id, count): (&Arc<str>, &Arc<AtomicU64>)| (id.clone(), count.clone(), count.load(Ordering::Relaxed));
            of_logs.extend(log.settled.iter().map(settled));
            if renew.try_send(Renew { sinks: log.sinks(&all), parts: log.clone(), gate: asking.gate() }).is_ok() {
                seats += 1;
                renewed.push((id, log));
            }
        }
        let notes = asking.votes(seats, at_most).map_err(|why| {
            let step = if why.starts_with("checkpoint") { "checkpoint" } else { "hand_over" };
            NotChanged { step, message: why }
        })?;
        // From here on nothing can fail that has been promised.
        asking.open();
        let mut changed = Changed { notes, settled: of_logs };
        let old = std::mem::replace(&mut parts.plan, next.plan.clone());
        parts.judges = Some(next.judges.clone());
        let digest: Arc<str> = next.plan.digest.as_str().into();
        for (plan, after) in facts {
            let Some(live) = parts.pipelines.get_mut(&plan.id) else { continue };
            after.compared.iter().for_each(|compared| self.common.shadows.add(compared));
            (live.plan, live.facts) = (plan, after);
            changed.settled.push((live.plan.id.clone(), live.settled.clone(), live.settled.load(Ordering::Relaxed)));
        }
        for (id, (handle, begin)) in sinks {
            begin.begin(parts.sinks.insert(id, handle));
        }
        let stays = |id: &Arc<str>| next.plan.sinks.contains_key(id) && !kafka::only_in_transactions(&next.plan, id);
        let leaving: Vec<Arc<SinkHandle>> = parts.sinks.extract_if(.., |id, _| !stays(id)).map(|(_, s)| s).collect();
        let runs = |id: &Arc<str>| {
            next.plan.pipelines.get(id).is_some_and(|p| !p.is_forward() && !kafka::is_of_log(&next.plan, p))
        };
        let removed: Vec<LivePipeline> = parts.pipelines.extract_if(.., |id, _| !runs(id)).map(|(_, p)| p).collect();
        for built in pipelines {
            let live = LivePipeline::start(built, &parts.sinks, &self.common);
            changed.settled.push((live.plan.id.clone(), live.settled.clone(), 0));
            parts.pipelines.insert(live.plan.id.clone(), live);
        }
        changed.notes.extend(parts.route());
        changed.notes.extend(self.change_sources(&mut parts, &old, &next, sources));
        let logs = parts.sources.iter_mut().filter_map(|(id, source)| Some((id, source.log.as_mut()?)));
        for (id, log) in logs {
            log.parts.digest.set(digest.clone());
            if let Some((_, parts)) = renewed.iter().find(|(renewed, _)| renewed == id) {
                log.parts = parts.clone();
            }
        }
        for pipeline in removed {
            let threads = pipeline.remove();
            parts.gone.extend(threads);
        }
        parts.pipelines.values().for_each(|p| p.facts.digest.set(digest.clone()));
        parts.digest.set(digest);
        for sink in leaving {
            parts.gone.push(spawn("sink-end", &self.common.panicked, move || sink.retire()));
        }
        parts.gone.retain(|thread| !thread.is_finished());
        Ok(changed)
    }
}
