//! What a detector says: scores and alerts per row (a [`Verdict`]), and the same told about an entity (a [`Detection`]).

use super::key::EntityKey;
use super::window::WindowInfo;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How bad, for a person.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Look at it today.
    Low,
    /// Look at it now.
    Medium,
    /// Service is likely hurt.
    High,
    /// Service is down or about to be.
    Critical,
}

impl Severity {
    /// Name as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

/// One feature's part in an alert.
#[derive(Clone, PartialEq, Debug)]
pub struct Contribution {
    /// Feature name.
    pub column: String,
    /// Share of the score, 0..=1.
    pub weight: f64,
    /// Value in this row.
    pub observed: f64,
    /// What the detector expected (a limit, a level); NaN when it has no notion of it.
    pub expected: f64,
}

/// A detector's alert on one row.
#[derive(Clone, PartialEq, Debug)]
pub struct Alert {
    /// Row of the frame.
    pub row: u32,
    /// Short kebab-case name of what was seen, e.g. `syn-flood`.
    pub kind: String,
    /// How bad.
    pub severity: Severity,
    /// The detector's number.
    pub score: f64,
    /// The number above which it alerts.
    pub threshold: f64,
    /// One sentence for a person.
    pub message: String,
    /// Why, most important first.
    pub contributions: Vec<Contribution>,
    /// Free-form details.
    pub attributes: Vec<(String, String)>,
}

/// What a detector returns for one frame.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Verdict {
    /// Empty, or one per row (NaN: no opinion, e.g. still warming up).
    pub scores: Vec<f64>,
    /// Alerts, by row.
    pub alerts: Vec<Alert>,
}

/// One detector's alert on one entity in one window, with what the entity looked like.
#[derive(Clone, Debug)]
pub struct Detection {
    /// Detector id in the config.
    pub detector: Arc<str>,
    /// Plugin name and version, `threshold@0.1.0`.
    pub plugin: Arc<str>,
    /// Digest of the model (or models) that it rests on.
    pub model_digest: Option<Arc<str>>,
    /// Who.
    pub key: EntityKey,
    /// When.
    pub window: WindowInfo,
    /// What and why.
    pub alert: Alert,
    /// Every feature of the row, in frame order.
    pub observed: Vec<(Arc<str>, f64)>,
}

impl Detection {
    /// A feature's value, if the frame had it.
    pub fn feature(&self, name: &str) -> Option<f64> {
        self.observed.iter().find(|(n, _)| n.as_ref() == name).map(|(_, v)| *v)
    }
}
