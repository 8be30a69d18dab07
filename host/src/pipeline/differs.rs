//! What a reload has to change: pipelines that mean something else than before, be it in what they refer to. In: a plan with its
//! plugins, and the next one.

use super::judges::{Judges, seats};
use crate::config::diff::same_component;
use crate::config::{PipelinePlan, Plan};
use std::sync::Arc;

/// True when a plugin is the same file, loaded once.
pub(super) fn same_plugin(now: &Judges, next: &Judges, id: &str) -> bool {
    match (now.plugin(id), next.plugin(id)) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// True when what decodes a source is the same plugin as before, or none.
pub(super) fn same_decoder((old, now): (&Plan, &Judges), (new, next): (&Plan, &Judges), source: &Arc<str>) -> bool {
    let plugin = new.sources.get(source).and_then(crate::config::records::decoded_by);
    same_component(old.sources.get(source), new.sources.get(source))
        && plugin.is_none_or(|plugin| same_plugin(now, next, plugin))
}

/// True when something of a pipeline of the next plan differs from what it was.
pub(super) fn touched(
    was: &PipelinePlan,
    (old, now): (&Plan, &Judges),
    (new, next): (&Plan, &Judges),
    pipeline: &PipelinePlan,
) -> bool {
    let detector = |id: &Arc<str>| {
        let plans = old.detectors.get(id).zip(new.detectors.get(id));
        plans.is_none_or(|(a, b)| a != b || !same_plugin(now, next, &b.plugin))
    };
    was != pipeline
        || seats(pipeline).iter().any(detector)
        || pipeline.sinks.iter().any(|id| !same_component(old.sinks.get(id), new.sinks.get(id)))
        || pipeline.records.as_ref().is_some_and(|records| {
            let decodes = |id: &Arc<str>| same_decoder((old, now), (new, next), id);
            !same_plugin(now, next, &records.plugin) || !pipeline.sources.iter().all(decodes)
        })
}
