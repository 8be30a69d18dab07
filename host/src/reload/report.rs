//! What came of each reload, for people who ask (`GET /api/v1/reloads`).

use crate::config::diff::PlanDiff;
use serde::Serialize;

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A file has changed.
    Watch,
    /// SIGHUP.
    Signal,
    /// `POST /-/reload`.
    Api,
    /// `POST /-/rollback`.
    Rollback,
    /// The new plan broke too often in its first windows.
    Probation,
}

impl Trigger {
    /// As metrics and the API have it.
    pub const fn name(self) -> &'static str {
        match self {
            Trigger::Watch => "watch",
            Trigger::Signal => "signal",
            Trigger::Api => "api",
            Trigger::Rollback => "rollback",
            Trigger::Probation => "probation",
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The new plan is in force.
    Applied,
    /// There was nothing to change.
    Unchanged,
    /// The plan is none, or cannot be had without a new process; the old one goes on.
    Refused,
    /// A step failed or took too long; the old plan goes on.
    Failed,
}

impl Outcome {
    /// As metrics and the API have it.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::Unchanged => "unchanged",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
        }
    }
}

/// One reload.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Counts up from 1 in the life of the process.
    pub number: u64,
    /// Who asked.
    pub trigger: Trigger,
    /// When it began, RFC 3339.
    pub began_at: String,
    /// How long it took, milliseconds.
    pub took_ms: f64,
    /// How it ended.
    pub outcome: Outcome,
    /// Digest of the plan before.
    pub old_digest: String,
    /// Digest of the plan that was asked for; none: it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_digest: Option<String>,
    /// What differs.
    #[serde(skip_serializing_if = "PlanDiff::is_empty")]
    pub diff: PlanDiff,
    /// The step that failed: `read`, `diff`, `build`, `connect`, `checkpoint`, `hand_over`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<&'static str>,
    /// What is wrong, each with its place where there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// What else the operator should know: states that were reset, sources that were restarted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
