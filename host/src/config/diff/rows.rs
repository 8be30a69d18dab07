//! Files are read once. What reads them, and who judges the rows of features that are in them, stays as it is for the life of the
//! process: a change of either is for a new process, be it in a component that they only refer to.

use super::{Change, Class, FILE, READ_ONCE, What, listed};
use crate::config::plan::{PipelinePlan, Plan};
use crate::config::records::decoded_by;
use std::sync::Arc;

/// Makes a change a process-restart where a file is half read.
pub(super) fn deepen(change: &mut Change, old: &Plan, new: &Plan) {
    if change.class == Class::ProcessRestart {
        return;
    }
    let Some((section, id)) = change.component.split_once('.') else { return };
    let why = match (section, change.what) {
        ("pipelines", What::Added) => read_on(new, id, old).map(|s| format!("its source `{s}` is being read")),
        ("pipelines", What::Removed) => read_on(old, id, new).map(|s| format!("its source `{s}` is read on")),
        ("detectors" | "plugins" | "models" | "sinks", What::Changed) => used(change, section, id, (old, new)),
        _ => None,
    };
    if let Some(why) = why {
        (change.class, change.effect, change.lost) = (Class::ProcessRestart, format!("{why}; {READ_ONCE}"), Vec::new());
    }
}

/// The source of a pipeline of rows of this plan, if it is in the other one, too: who takes its rows is known when it begins.
fn read_on<'a>(plan: &'a Plan, id: &str, other: &Plan) -> Option<&'a Arc<str>> {
    let pipeline = plan.pipelines.get(id).filter(|p| p.rows.is_some())?;
    pipeline.sources.iter().find(|source| other.sources.contains_key(*source))
}

/// What is used by a pipeline of rows, or decodes a file, before and after.
fn used(change: &Change, section: &str, id: &str, (old, new): (&Plan, &Plan)) -> Option<String> {
    // A model that lies where it lay, and is what it was, is not loaded anew.
    let path = format!("{section}.{id}.path");
    if section == "models" && change.keys.iter().all(|key| *key != FILE && *key != path) {
        return None;
    }
    let stays = |p: &&PipelinePlan| p.rows.is_some() && old.pipelines.contains_key(&p.id);
    let judged: Vec<&Arc<str>> =
        new.pipelines.values().filter(stays).filter(|p| uses(new, p, section, id)).map(|p| &p.id).collect();
    if !judged.is_empty() {
        let does = if section == "sinks" { "takes what is said of" } else { "judges" };
        return Some(format!("{does} rows of features in pipeline {}", listed(judged)));
    }
    let read = |s: &&crate::config::Component| s.kind == "file" && old.sources.contains_key(&s.id);
    let decodes = |plugin: &str| section == "plugins" && plugin == id || granted(new, plugin, section, id);
    let decoded: Vec<&Arc<str>> =
        new.sources.values().filter(read).filter(|s| decoded_by(s).is_some_and(decodes)).map(|s| &s.id).collect();
    (!decoded.is_empty()).then(|| format!("decodes source {}", listed(decoded)))
}

/// True when a pipeline's detectors or sinks are this component, or are made of it.
fn uses(plan: &Plan, pipeline: &PipelinePlan, section: &str, id: &str) -> bool {
    if section == "sinks" {
        return pipeline.sinks.iter().any(|sink| &**sink == id);
    }
    pipeline.all_detectors().filter_map(|d| plan.detectors.get(d)).any(|detector| match section {
        "detectors" => &*detector.id == id,
        "plugins" => &*detector.plugin == id,
        _ => granted(plan, &detector.plugin, section, id),
    })
}

/// True when a plugin may score with this model: it is loaded anew with it.
fn granted(plan: &Plan, plugin: &str, section: &str, id: &str) -> bool {
    section == "models" && plan.plugins.get(plugin).is_some_and(|p| p.inference.iter().any(|model| &**model == id))
}
