//! Sources at a change of the plan: those that are no more end, new ones begin, changed ones take the place of the old. In: what
//! was built beside the running ones. Out: sources at work, and notes for the operator where one could not be had.

use super::super::build::{self, BuildError, BuiltSource};
use super::super::intake::Ask;
use super::super::judges::Judges;
use super::super::live::{Heirs, LiveSource};
use super::super::receivers;
use super::super::running::{Parts, Running, joined, spawn};
use super::Generation;
use crate::config::diff::source_differs;
use crate::config::{Component, Plan};
use crate::source::Held;
use crossbeam_channel::{Receiver, bounded};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Sources that are told where records go from now on are waited for so long: one may stand before a sink that is stuck.
const ROUTED: Duration = Duration::from_secs(5);
/// One that can only be opened after the one before waits so long for its end.
const ENDS: Duration = Duration::from_secs(15);
/// A source that is opened anew has so long to hand on what it has.
const LEAVES: Duration = Duration::from_secs(3);

impl Running {
    /// Ends sources that are no more, begins those that are new, and puts those that have changed in the place of the old.
    pub(super) fn change_sources(
        &self,
        parts: &mut Parts,
        old: &Plan,
        next: &Generation,
        mut built: BTreeMap<Arc<str>, BuiltSource>,
    ) -> Vec<String> {
        let mut notes = Vec::new();
        let ids: BTreeSet<Arc<str>> = old.sources.keys().chain(next.plan.sources.keys()).cloned().collect();
        for id in ids {
            let Some(component) = next.plan.sources.get(&id) else {
                if let Some(source) = parts.sources.remove(&id) {
                    // What it still has need not wait for a sink that is stuck.
                    source.hurry.store(true, Ordering::Relaxed);
                    self.end_source(parts, source);
                }
                continue;
            };
            if parts.sources.get(&id).is_some_and(|s| !source_differs(&s.component, component)) {
                continue;
            }
            let mut source = built.remove(&id);
            let before = parts.sources.remove(&id);
            let intakes = source.as_ref().map_or(1, BuiltSource::intakes);
            let heirs = before.as_ref().map(|before| before.leave(intakes)).unwrap_or_default();
            if let Some(Err(error)) = source.as_mut().and_then(BuiltSource::take_over) {
                tracing::error!(component_id = &*id, "the source stays as it was: {error}");
                notes.push(format!("source `{id}` stays as it was: {error}"));
                before.iter().for_each(LiveSource::stay);
                parts.sources.extend(before.map(|before| (id, before)));
                continue;
            }
            // The one before hands on all that it has; its successor goes on with what it knew.
            if let Some(before) = &before {
                before.stop.store(true, Ordering::Release);
                notes.push(format!("source `{id}` was set up anew"));
            }
            let heirs = Heirs::wait(heirs, Instant::now() + LEAVES);
            // What holds what its successor needs lets go of it first.
            let until = Instant::now() + ENDS;
            while source.is_none() && before.as_ref().is_some_and(|b| !b.is_over()) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            before.into_iter().for_each(|before| self.end_source(parts, before));
            let source = source.map_or_else(|| build::source(&next.plan, component, &next.judges), Ok);
            let bound = source.as_ref().ok().and_then(BuiltSource::bound);
            let started = source
                .and_then(|source| LiveSource::start(component.clone(), source, parts.feeds(&id), heirs, &self.common));
            match started {
                Ok(live) => {
                    if let Some(at) = bound {
                        tracing::info!(component_id = &*id, "listening on {at}");
                    }
                    parts.sources.insert(id, live);
                }
                Err(error) => {
                    tracing::error!(component_id = &*id, "the source does not run: {error}");
                    notes.push(format!("source `{id}` does not run: {error}"));
                }
            }
        }
        notes
    }

    /// Lets a source run out, aside.
    fn end_source(&self, parts: &mut Parts, source: LiveSource) {
        source.stop.store(true, Ordering::Release);
        let LiveSource { component, receivers, readers, .. } = source;
        parts.gone.extend(receivers);
        parts.gone.push(spawn("source-end", &self.common.panicked, move || {
            for error in joined(readers) {
                tracing::error!(component_id = &*component.id, "{error}");
            }
        }));
    }
}

impl Parts {
    /// Tells every source where its records go now.
    pub(super) fn route(&self) -> Vec<String> {
        let mut answers: Vec<(Arc<str>, Receiver<()>)> = Vec::new();
        for (id, source) in &self.sources {
            let routes = self.routes(id);
            for asks in &source.asks {
                let (done, answer) = bounded(1);
                if asks.send_timeout(Ask::Routes(routes.clone(), done), ROUTED).is_ok() {
                    answers.push((id.clone(), answer));
                }
            }
        }
        let until = Instant::now() + ROUTED;
        let mut late = BTreeSet::new();
        for (id, answer) in answers {
            // A source that has ended has nothing to route.
            if let Err(crossbeam_channel::RecvTimeoutError::Timeout) = answer.recv_deadline(until) {
                late.insert(id);
            }
        }
        let late = late.into_iter();
        late.map(|id| format!("source `{id}` waits for a sink, and takes its new ways when that goes on")).collect()
    }
}

/// A source that can be opened beside the one whose place it takes; `None`: only after it.
pub(super) fn beside(
    plan: &Plan,
    (was, held): (&Component, Option<&Held>),
    component: &Component,
    judges: &Arc<Judges>,
) -> Result<Option<BuiltSource>, BuildError> {
    if component.kind == crate::source::file::DEF.kind {
        let text = format!("source `{}` reads files, which are read once: start a new process", component.id);
        return Err(BuildError::Input(text));
    }
    if let Some(receivers) = receivers::beside(plan, held, component)? {
        return Ok(Some(BuiltSource::Live(Box::new(receivers))));
    }
    Ok(match receivers::holds_alone(was, component) {
        true => None,
        false => Some(build::source(plan, component, judges)?),
    })
}
