//! What happens to sources, models, plugins, detectors and sinks that differ.

use super::pipelines::comparisons;
use super::{Change, Class, FILE, Pair, Side, listed};
use crate::config::contents;
use crate::config::plan::{Component, DetectorPlan, ModelPlan, OnStateMismatch, Plan, PluginPlan};
use crate::config::records::decoded_by;
use std::sync::Arc;

/// True when a source or sink means something else than before, and so has to be made anew.
pub fn source_differs(old: &Component, new: &Component) -> bool {
    old.kind != new.kind || old.full != new.full || !contents::differing(old, new).is_empty()
}

/// Adds the keys of files that are read when a source or sink is made, and hold something else now.
fn with_contents(mut pair: Pair<'_, Component>) -> Pair<'_, Component> {
    if let (Some(old), Some(new)) = (pair.old, pair.new) {
        for key in contents::differing(old, new) {
            let key = format!("{}.{key}", pair.component);
            let named = |k: &String| key.strip_prefix(k).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            if !pair.keys.iter().any(named) {
                pair.keys.push(key);
            }
        }
    }
    pair
}

/// True when a component is there in both and means the same, or in neither.
pub fn same_component(old: Option<&Component>, new: Option<&Component>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => !source_differs(old, new),
        (old, new) => old.is_none() && new.is_none(),
    }
}

pub(super) fn source(pair: Pair<'_, Component>) -> Option<Change> {
    let pair = with_contents(pair);
    match (pair.old, pair.new) {
        (None, _) => pair.change(Class::Hot, "is opened", Vec::new()),
        (Some(old), None) => {
            let effect = "is closed; what it has brought is still judged";
            pair.change(Class::Hot, effect, remembers(old).into_iter().collect())
        }
        (Some(_), Some(new)) if new.kind == "file" => pair.change(Class::ProcessRestart, super::READ_ONCE, Vec::new()),
        (Some(old), Some(new)) => {
            let other = old.kind != new.kind || decoded_by(old) != decoded_by(new);
            let lost = remembers(old).filter(|_| other).into_iter().collect();
            let effect = match keeps_socket(old, new) {
                true => "is set up anew and goes on with its sockets and connections; its pipelines go on",
                false => "is closed and opened anew; its pipelines go on",
            };
            pair.change(Class::SourceRestart, effect, lost)
        }
    }
}

/// True when a source listens where it did, so that what is open stays open.
fn keeps_socket(old: &Component, new: &Component) -> bool {
    let keys: &[&str] = match new.kind {
        "udp" | "tcp" => &["listen"],
        "unix" => &["path", "kind"],
        _ => return false,
    };
    old.kind == new.kind && keys.iter().all(|key| old.full.get(key) == new.full.get(key))
}

/// What goes with a source.
fn remembers(source: &Component) -> Option<String> {
    match (decoded_by(source), source.kind) {
        (Some(plugin), _) => Some(format!("what its decoder `{plugin}` remembers")),
        (None, "file") => None,
        (None, "tail") => Some("how far it has read".into()),
        (None, _) => Some("templates and sampling rates of its exporters".into()),
    }
}

pub(super) fn sink(pair: Pair<'_, Component>) -> Option<Change> {
    let effect = match (pair.old, pair.new) {
        (None, _) => "is opened",
        (_, None) => "what is queued is delivered first, then it is closed",
        _ => "what is queued is delivered first, then it is opened anew",
    };
    with_contents(pair).change(Class::Hot, effect, Vec::new())
}

pub(super) fn model(mut pair: Pair<'_, ModelPlan>, (old, a): Side<'_>, (new, b): Side<'_>) -> Option<Change> {
    if pair.old.is_none() {
        return pair.change(Class::Hot, "is loaded", Vec::new());
    }
    let judged_by = scorers(old, pair.id);
    let lost = || {
        let tails = format!("the tails that {} followed since the old model was trained", listed(judged_by.clone()));
        if judged_by.is_empty() { Vec::new() } else { vec![tails] }
    };
    if pair.new.is_none() {
        let lost = lost();
        return pair.change(Class::Hot, "is no longer loaded", lost);
    }
    let other = a.models.get(pair.id) != b.models.get(pair.id);
    if !other && pair.differs_only_in(&["train"]) {
        return pair.change(Class::Hot, "is for `kaminari train`: the engine goes on as it is", Vec::new());
    }
    if !other {
        return pair.change(Class::Hot, "is the same model as before", Vec::new());
    }
    pair.keys.push(FILE.into());
    let users = scorers(new, pair.id);
    let effect = match users.is_empty() {
        true => "is loaded; no detector scores by it".to_owned(),
        false => format!("is loaded beside the old one; {} score by it from the next window on", listed(users)),
    };
    let mut lost = lost();
    lost.extend(comparisons(new, &scorers(new, pair.id)));
    pair.change(Class::Hot, effect, lost)
}

/// Detectors whose plugins may score with the model.
fn scorers<'a>(plan: &'a Plan, model: &Arc<str>) -> Vec<&'a Arc<str>> {
    let granted = |d: &DetectorPlan| plan.plugins.get(&d.plugin).is_some_and(|p| p.inference.contains(model));
    plan.detectors.iter().filter(|(_, d)| granted(d)).map(|(id, _)| id).collect()
}

pub(super) fn plugin(mut pair: Pair<'_, PluginPlan>, (_, a): Side<'_>, (new, b): Side<'_>) -> Option<Change> {
    let Some(old) = pair.old else { return pair.change(Class::Hot, "is loaded", Vec::new()) };
    let kept = pair.new.map_or(&[] as &[_], |p| &p.state);
    let gone = old.state.iter().filter(|bucket| !kept.contains(bucket));
    let mut lost: Vec<String> = gone.map(|bucket| format!("what it keeps in the bucket `{bucket}`")).collect();
    if pair.new.is_none() {
        return pair.change(Class::Hot, "is no longer loaded", lost);
    }
    let (before, after) = (a.plugins.get(pair.id), b.plugins.get(pair.id));
    if before != after {
        pair.keys.push(FILE.into());
    } else if before.is_some() && pair.differs_only_in(&["path", "sha256"]) {
        return pair.change(Class::Hot, "is the same plugin as before", lost);
    }
    let effect = taken_up(new, pair.id);
    let users: Vec<_> = new.detectors.values().filter(|d| d.plugin == *pair.id).map(|d| &d.id).collect();
    lost.extend(comparisons(new, &users));
    pair.change(Class::Hot, effect, lost)
}

/// Who goes on with a plugin that is another one now, and what becomes of what they know.
fn taken_up(plan: &Plan, plugin: &Arc<str>) -> String {
    let detectors: Vec<&DetectorPlan> = plan.detectors.values().filter(|d| d.plugin == *plugin).collect();
    let sources = plan.sources.values().filter(|s| decoded_by(s) == Some(plugin)).map(|s| &s.id).collect::<Vec<_>>();
    let of_records = |p: &crate::config::PipelinePlan| p.records.as_ref().is_some_and(|r| r.plugin == *plugin);
    let pipelines = plan.pipelines.values().filter(|p| of_records(p)).map(|p| &p.id).collect::<Vec<_>>();
    let mut users = Vec::new();
    for (noun, ids) in [
        ("detector", detectors.iter().map(|d| &d.id).collect()),
        ("decoder of source", sources),
        ("features of pipeline", pipelines),
    ] {
        if !ids.is_empty() {
            users.push(format!("{noun}{} {}", if ids.len() > 1 { "s" } else { "" }, listed(ids)));
        }
    }
    if users.is_empty() {
        return "is loaded; nobody uses it".into();
    }
    let mut effect =
        format!("is loaded beside the old one and taken by: {}; what they know is handed over", users.join(", "));
    if let Some(first) = detectors.first() {
        let alike = detectors.iter().all(|d| d.on_state_mismatch == first.on_state_mismatch);
        effect.push_str(&match alike {
            true => format!(", and {}", otherwise(first.on_state_mismatch)),
            false => ", and `on_state_mismatch` of each detector says what is done when it cannot be read".into(),
        });
    }
    effect
}

/// When the successor cannot read what the predecessor knew.
fn otherwise(mismatch: OnStateMismatch) -> &'static str {
    match mismatch {
        OnStateMismatch::Refuse => "when it cannot be read the change is refused",
        OnStateMismatch::Reset => "when it cannot be read the detector begins anew",
    }
}

pub(super) fn detector(pair: Pair<'_, DetectorPlan>, plan: &Plan) -> Option<Change> {
    let (old, new) = match (pair.old, pair.new) {
        (Some(old), Some(new)) => (old, new),
        (None, _) => return pair.change(Class::Hot, "judges from the next window on", Vec::new()),
        (_, None) => return pair.change(Class::Hot, "no longer judges", vec!["what it has learned".into()]),
    };
    let mut lost = Vec::new();
    let effect = if pair.differs_only_in(&["on_state_mismatch"]) {
        "counts for this change already".to_owned()
    } else if pair.differs_only_in(&["on_state_mismatch", "calibration"]) {
        match new.follow.follow {
            true => "the tail of its scores is followed on, within the new bounds".to_owned(),
            false => "the tail of its scores stays as it is".to_owned(),
        }
    } else {
        lost.extend(comparisons(plan, &[pair.id]));
        let to = if old.plugin == new.plugin { String::new() } else { format!(" to plugin `{}`", new.plugin) };
        format!("what it knows is handed over{to}, and {}", otherwise(new.on_state_mismatch))
    };
    pair.change(Class::Hot, effect, lost)
}
