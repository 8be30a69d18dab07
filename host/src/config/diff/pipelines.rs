//! What happens to a pipeline that differs. Windows are closed early only when they could not go on: what is counted into
//! them, by what and for how long, is another matter now.

use super::{Change, Class, Pair, listed};
use crate::config::plan::{Mode, PipelinePlan, Plan};
use std::sync::Arc;

/// Features with this at the beginning compare with the entity's own level.
const RELATIVE: &str = "rel_";
/// The one whose level is of distinct sources, which are counted only where it is asked for.
const SOURCES: &str = "rel_uniq_src";

/// Stands among the keys of a change where detectors judge other levels, so that others are aggregated.
const LEVELS: &str = "(levels)";

/// True when the open windows of a pipeline cannot go on under the new plan, by what the pipeline itself says. A change of its
/// detectors may be a reason, too: [`aggregates_otherwise`].
///
/// Features that were there already, fewer or in another order, leave windows as they are. Any new feature may need sets that
/// nobody has counted, and counts as a reason; so does another half-life where a feature compares with levels. Windows of
/// records keep rows as they are: there, features are no reason.
pub fn restarts_windows(old: &PipelinePlan, new: &PipelinePlan) -> bool {
    if old.is_forward() || new.is_forward() {
        return old.is_forward() != new.is_forward();
    }
    let records = match (&old.records, &new.records) {
        (None, None) => false,
        (Some(a), Some(b)) => (&a.entity, a.kind, a.max_bytes) != (&b.entity, b.kind, b.max_bytes),
        _ => true,
    };
    let features = if new.records.is_some() {
        false
    } else if new.rows.is_some() {
        old.features != new.features
    } else {
        new.features.iter().any(|f| !old.features.contains(f))
    };
    let half_life = old.level_half_life_windows != new.level_half_life_windows && compares(old) && compares(new);
    old.window != new.window || old.keys != new.keys || old.rows != new.rows || records || features || half_life
}

/// True when the detectors, live and shadow together, judge other levels than before: only those are counted.
pub fn aggregates_otherwise(old: (&Plan, &PipelinePlan), new: (&Plan, &PipelinePlan)) -> bool {
    old.0.levels(old.1) != new.0.levels(new.1)
}

/// True when levels that the pipeline remembers of its entities mean nothing under the new plan: no feature compares with them
/// any more, or one compares with a number of sources that was not counted, or was counted over another window.
pub fn forgets_levels(old: &PipelinePlan, new: &PipelinePlan) -> bool {
    let counts = |p: &PipelinePlan| p.features.iter().any(|f| f == SOURCES);
    let other = !counts(old) || old.window.size_ns != new.window.size_ns;
    compares(old) && (!compares(new) || counts(new) && other)
}

/// True when some feature compares with levels.
fn compares(pipeline: &PipelinePlan) -> bool {
    let of_flows = pipeline.records.is_none() && pipeline.rows.is_none();
    of_flows && pipeline.features.iter().any(|f| f.starts_with(RELATIVE))
}

pub(super) fn pipeline(mut pair: Pair<'_, PipelinePlan>, before: &Plan, after: &Plan) -> Option<Change> {
    match (pair.old, pair.new) {
        (None, _) => pair.change(Class::Hot, "begins with what comes from now on", Vec::new()),
        (Some(old), None) if old.is_forward() => pair.change(Class::Hot, "no longer hands on", Vec::new()),
        (Some(old), None) => {
            let mut lost = vec!["its open windows".to_owned(), "its incidents: they are closed".to_owned()];
            lost.extend(levels(old));
            lost.push(learned(old.all_detectors()));
            lost.extend(old.shadow.is_some().then(comparison));
            pair.change(Class::Hot, "ends; other pipelines go on", lost)
        }
        (Some(old), Some(new)) if old.rows.is_some() || new.rows.is_some() => {
            pair.change(Class::ProcessRestart, super::READ_ONCE, Vec::new())
        }
        (Some(old), Some(new)) => {
            // Where the pipeline says otherwise itself, that is the reason.
            let otherwise = !restarts_windows(old, new) && aggregates_otherwise((before, old), (after, new));
            if otherwise {
                pair.keys.push(LEVELS.into());
            }
            let (class, effect, lost) = changed(&pair, (old, new), otherwise);
            pair.change(class, effect, lost)
        }
    }
}

fn levels(pipeline: &PipelinePlan) -> Option<String> {
    compares(pipeline).then(|| "levels of its entities".into())
}

fn learned<'a>(detectors: impl IntoIterator<Item = &'a Arc<str>>) -> String {
    format!("what {} learned here", listed(detectors))
}

fn comparison() -> String {
    "the comparison with the shadow so far".into()
}

/// What is lost where detectors are made anew that judge beside a shadow, or in one.
pub(super) fn comparisons(plan: &Plan, detectors: &[&Arc<str>]) -> Option<String> {
    let compared = |p: &&PipelinePlan| p.shadow.is_some() && p.all_detectors().any(|d| detectors.contains(&d));
    let pipelines: Vec<&Arc<str>> = plan.pipelines.values().filter(compared).map(|p| &p.id).collect();
    (!pipelines.is_empty()).then(|| format!("the comparison with the shadow of {} so far", listed(pipelines)))
}

fn changed(
    pair: &Pair<'_, PipelinePlan>,
    (old, new): (&PipelinePlan, &PipelinePlan),
    other_levels: bool,
) -> (Class, String, Vec<String>) {
    let (mut said, mut lost): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let restarts = restarts_windows(old, new) || other_levels;
    let forgets = forgets_levels(old, new);
    if restarts && old.is_forward() {
        said.push("judges from now on".into());
    } else if restarts && new.is_forward() {
        said.push("hands on from now on and judges no more; its windows are closed early, its incidents closed".into());
    } else if restarts {
        let kept = if compares(old) && !forgets { "; levels of entities are kept" } else { "" };
        said.push(format!("open windows are closed early and marked partial{kept}"));
    } else if pair.differs_in("features") {
        said.push("open windows go on; detectors are given the new features".into());
    }
    if forgets {
        lost.extend(levels(old));
    }
    if !old.is_forward() && (old.window.size_ns, old.window.kind) != (new.window.size_ns, new.window.kind) {
        lost.push("the tails of scores that its detectors followed: windows of another length have others".into());
    }
    sources(old, new, &mut said);
    detectors(old, new, &mut said, &mut lost);
    for (key, effect) in [
        ("combine", "detectors speak together by the new rule"),
        ("incident", "open incidents go on under the new rules"),
        ("sinks", "goes to the new list of sinks"),
        (
            "records.extract",
            "the plugin makes features as it is told now; what it knows is handed over; windows are closed early if it asks for \
             other columns",
        ),
    ] {
        if pair.differs_in(key) {
            said.push(effect.into());
        }
    }
    if old.mode != new.mode {
        said.push(match new.mode {
            Mode::Alert => "incidents leave from now on".into(),
            Mode::Shadow => "incidents no longer leave".into(),
        });
    }
    match (&old.shadow, &new.shadow) {
        (None, Some(_)) => said.push("a shadow begins beside it".into()),
        (Some(_), None) => {
            said.push("its shadow ends".into());
            lost.push(comparison());
        }
        (Some(a), Some(b)) if a != b || restarts => {
            said.push("the comparison with the shadow begins anew".into());
            lost.push(comparison());
        }
        _ => {}
    }
    if said.is_empty() {
        said.push("nothing that is open is touched".into());
    }
    (if restarts { Class::WindowRestart } else { Class::Hot }, said.join("; "), lost)
}

fn sources(old: &PipelinePlan, new: &PipelinePlan, said: &mut Vec<String>) {
    let only = |a: &PipelinePlan, b: &PipelinePlan| -> Vec<Arc<str>> {
        a.sources.iter().filter(|s| !b.sources.contains(s)).cloned().collect()
    };
    let (more, less) = (only(new, old), only(old, new));
    if !more.is_empty() {
        said.push(format!("takes from {} too", listed(&more)));
    }
    if !less.is_empty() {
        said.push(format!("takes nothing more from {}", listed(&less)));
    }
}

/// Who begins, ends, or changes between the pipeline and its shadow. What a detector has learned goes along.
fn detectors(old: &PipelinePlan, new: &PipelinePlan, said: &mut Vec<String>, lost: &mut Vec<String>) {
    let before: Vec<&Arc<str>> = old.all_detectors().collect();
    let after: Vec<&Arc<str>> = new.all_detectors().collect();
    let begin: Vec<_> = after.iter().copied().filter(|d| !before.contains(d)).collect();
    let end: Vec<_> = before.iter().copied().filter(|d| !after.contains(d)).collect();
    let moved = |from: &PipelinePlan, to: &PipelinePlan| -> Vec<Arc<str>> {
        let here = |d: &&Arc<str>| !from.detectors.contains(d) && from.all_detectors().any(|f| f == *d);
        to.detectors.iter().filter(here).cloned().collect()
    };
    let (promoted, silenced) = (moved(old, new), moved(new, old));
    if !promoted.is_empty() {
        said.push(format!("{} judged in silence and now counts, with what was learned", listed(&promoted)));
    }
    if !silenced.is_empty() {
        said.push(format!("{} goes on in silence, with what was learned", listed(&silenced)));
    }
    if !begin.is_empty() {
        said.push(format!("{} judges from the next window on", listed(begin)));
    }
    if !end.is_empty() {
        lost.push(learned(end));
    }
}
