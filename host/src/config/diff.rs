//! What a change of the configuration means. Comes in: two plans, and digests of the files that they name; goes out: for each
//! component that differs, what would happen to it, by which class (docs/reload.md), and what would be forgotten. Builds
//! nothing and opens nothing.

mod components;
mod pipelines;
mod rows;
#[cfg(test)]
mod tests;

pub use components::{same_component, source_differs};
pub use pipelines::{aggregates_otherwise, forgets_levels, restarts_windows};

use super::effective;
use super::plan::Plan;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// How deep a change cuts. In the order of what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Between two windows; nothing that is open is touched.
    Hot,
    /// The pipeline's open windows are closed early and marked partial.
    WindowRestart,
    /// The source is set up anew.
    SourceRestart,
    /// Only a new process takes it up: refused.
    ProcessRestart,
}

impl Class {
    /// As documents and JSON have it.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Hot => "hot",
            Class::WindowRestart => "window-restart",
            Class::SourceRestart => "source-restart",
            Class::ProcessRestart => "process-restart",
        }
    }
}

/// What happens to a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It begins.
    Added,
    /// It goes on otherwise.
    Changed,
    /// It ends.
    Removed,
}

/// One component that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Section and name, such as `pipelines.ddos`; of sections without names the section.
    pub component: String,
    /// What happens to it.
    pub what: What,
    /// How deep it cuts.
    pub class: Class,
    /// Keys whose values differ, as dotted paths; `(file)` where the file that it names has another content, `(levels)` where
    /// its detectors judge other levels, so that others are aggregated.
    pub keys: Vec<String>,
    /// A sentence for the operator: what will happen.
    pub effect: String,
    /// What would be forgotten, each in a few words; empty: nothing.
    pub lost: Vec<String>,
}

impl Change {
    /// What differs, by name.
    fn named(&self) -> Vec<&str> {
        match &*self.keys {
            [] => vec![&self.component],
            keys => keys.iter().map(String::as_str).collect(),
        }
    }
}

/// All that differs, by component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlanDiff {
    /// See [`Change`].
    pub changes: Vec<Change>,
}

/// Digests of the files that a plan names, by id. What cannot be read is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Of each plugin's component.
    pub plugins: BTreeMap<Arc<str>, String>,
    /// Of each model's folder.
    pub models: BTreeMap<Arc<str>, String>,
}

impl Contents {
    /// Digests as `plugin` and `model` tell them by path; `None`: it cannot be read.
    pub fn of(plan: &Plan, plugin: impl Fn(&Path) -> Option<String>, model: impl Fn(&Path) -> Option<String>) -> Self {
        Self {
            plugins: plan.plugins.iter().filter_map(|(id, p)| Some((id.clone(), plugin(&p.path)?))).collect(),
            models: plan.models.iter().filter_map(|(id, m)| Some((id.clone(), model(&m.path)?))).collect(),
        }
    }
}

impl PlanDiff {
    /// True when nothing differs.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The class of the deepest change.
    pub fn deepest(&self) -> Option<Class> {
        self.changes.iter().map(|c| c.class).max()
    }

    /// Keys that only a new process takes up; of what is added or removed, the component.
    pub fn process_keys(&self) -> Vec<&str> {
        self.process_changes().flat_map(Change::named).collect()
    }

    /// Why each of those must wait for a new process, in a line.
    pub fn process_reasons(&self) -> Vec<String> {
        self.process_changes().map(|c| format!("{}: {}", c.named().join(", "), c.effect)).collect()
    }

    fn process_changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|c| c.class == Class::ProcessRestart)
    }
}

/// Stands among the keys of a change where a file has another content.
const FILE: &str = "(file)";

/// Files, and the windows of rows that are in them, are read from their beginning to their end.
const READ_ONCE: &str = "files are read once: only a new process takes it up";

/// A plan with the digests of its files.
type Side<'a> = (&'a Plan, &'a Contents);

/// What it takes to get from one plan to the other. By meaning: a default that was written out, comments and the order of
/// tables are no difference. A file is another one when its digest is, or is known on one side only.
pub fn diff(old: Side<'_>, new: Side<'_>) -> PlanDiff {
    use effective::{api, component, detector, engine, inference, model, pipeline, plugin, reload};
    let (a, b) = (old.0, new.0);
    let mut changes = Vec::new();
    let deep = "only a new process takes it up";
    let (hot, process) = (Class::Hot, Class::ProcessRestart);
    changes.extend(single("engine", process, deep, (&engine(&a.engine), &engine(&b.engine))));
    changes.extend(single("api", process, deep, (&api(&a.api), &api(&b.api))));
    changes.extend(single("reload", hot, "counts from now on", (&reload(a.reload), &reload(b.reload))));
    changes.extend(single("inference", process, deep, (&inference(&a.inference), &inference(&b.inference))));
    changes.extend(pairs("sources", &a.sources, &b.sources, component).filter_map(components::source));
    changes.extend(pairs("models", &a.models, &b.models, model).filter_map(|p| components::model(p, old, new)));
    changes.extend(pairs("plugins", &a.plugins, &b.plugins, plugin).filter_map(|p| components::plugin(p, old, new)));
    changes.extend(pairs("detectors", &a.detectors, &b.detectors, detector).filter_map(|p| components::detector(p, b)));
    changes
        .extend(pairs("pipelines", &a.pipelines, &b.pipelines, pipeline).filter_map(|p| pipelines::pipeline(p, a, b)));
    changes.extend(pairs("sinks", &a.sinks, &b.sinks, component).filter_map(components::sink));
    changes.iter_mut().for_each(|change| rows::deepen(change, a, b));
    PlanDiff { changes }
}

/// A section without names.
fn single(section: &str, class: Class, effect: &str, (old, new): (&Value, &Value)) -> Option<Change> {
    let keys = differing(section, old, new);
    (!keys.is_empty()).then(|| Change {
        component: section.to_owned(),
        what: What::Changed,
        class,
        keys,
        effect: effect.to_owned(),
        lost: Vec::new(),
    })
}

/// A named table before and after.
struct Pair<'a, T> {
    id: &'a Arc<str>,
    component: String,
    old: Option<&'a T>,
    new: Option<&'a T>,
    /// Keys that differ, where both are there.
    keys: Vec<String>,
}

impl<T> Pair<'_, T> {
    /// `None` when nothing happens to it.
    fn change(self, class: Class, effect: impl Into<String>, lost: Vec<String>) -> Option<Change> {
        let what = match (self.old, self.new) {
            (None, _) => What::Added,
            (_, None) => What::Removed,
            _ if self.keys.is_empty() => return None,
            _ => What::Changed,
        };
        Some(Change { component: self.component, what, class, keys: self.keys, effect: effect.into(), lost })
    }

    /// True when some key that differs is this one of the table, or lies below it.
    fn differs_in(&self, key: &str) -> bool {
        self.keys.iter().any(|k| is_below(k, &self.component, key))
    }

    /// True when all that differs is these keys, or lies below them.
    fn differs_only_in(&self, keys: &[&str]) -> bool {
        self.keys.iter().all(|k| keys.iter().any(|key| is_below(k, &self.component, key)))
    }
}

fn is_below(path: &str, component: &str, key: &str) -> bool {
    let rest = path.strip_prefix(component).and_then(|rest| rest.strip_prefix('.'));
    rest.and_then(|rest| rest.strip_prefix(key)).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// All tables of a section, in the order of their names.
fn pairs<'a, T>(
    section: &'static str,
    old: &'a BTreeMap<Arc<str>, T>,
    new: &'a BTreeMap<Arc<str>, T>,
    show: fn(&T) -> Value,
) -> impl Iterator<Item = Pair<'a, T>> {
    let ids: BTreeSet<&Arc<str>> = old.keys().chain(new.keys()).collect();
    ids.into_iter().map(move |id| {
        let (component, old, new) = (format!("{section}.{id}"), old.get(id), new.get(id));
        let keys = match (old, new) {
            (Some(a), Some(b)) => differing(&component, &show(a), &show(b)),
            _ => Vec::new(),
        };
        Pair { id, component, old, new, keys }
    })
}

/// Dotted paths of what differs. A table that is on one side only is one path; so is a list, unless it is one of tables, as
/// long as before.
fn differing(path: &str, old: &Value, new: &Value) -> Vec<String> {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let below =
                |table: &serde_json::Map<String, Value>, key: &String| table.get(key).cloned().unwrap_or_default();
            keys.into_iter().flat_map(|k| differing(&format!("{path}.{k}"), &below(a, k), &below(b, k))).collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() && a.iter().chain(b).all(Value::is_object) => {
            a.iter().zip(b).enumerate().flat_map(|(i, (a, b))| differing(&format!("{path}[{i}]"), a, b)).collect()
        }
        _ if old == new => Vec::new(),
        _ => vec![path.to_owned()],
    }
}

/// `` `a`, `b` and `c` `` for sentences.
fn listed<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    match names.split_last() {
        None => "nobody".into(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}
