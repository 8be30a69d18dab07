//! What a person is told: one line per change of state of an incident. Field names and meaning: `docs/incidents.md`.

use super::detection::Severity;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Version of the JSON form; rises when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// What happened to the incident.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentEventKind {
    /// It began.
    Open,
    /// It goes on; worse, or still there after the update interval.
    Update,
    /// It is over (or the program stops: see `close_reason`).
    Close,
    /// About the incident stream itself (`kind` = `rate-limited`) or a reload (`reload`); stands alone, nothing is opened or closed.
    Notice,
}

/// The entity of an incident.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EntityRef {
    /// Level, e.g. `dst_addr`.
    pub kind: String,
    /// Text form, e.g. `192.0.2.10` or `192.0.2.0/24`.
    pub value: String,
}

/// The window that caused the event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WindowRef {
    /// RFC 3339.
    pub start: String,
    /// RFC 3339.
    pub end: String,
    /// `tumbling` or `sliding`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Fired before its end.
    pub partial: bool,
    /// 0 on time, more when late data re-fired it.
    pub revision: u32,
}

/// One feature that made the detector speak.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// Feature name.
    pub feature: String,
    /// Observed value.
    pub value: f64,
    /// What the detector expected; absent when it has no notion of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<f64>,
    /// Share of the score, 0..=1.
    pub contribution: f64,
}

/// One line of the incident stream.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // documented in docs/incidents.md
pub struct IncidentEvent {
    pub schema_version: u32,
    pub event: IncidentEventKind,
    /// Deterministic: digest of the fingerprint and the window that opened it.
    pub incident_id: String,
    /// Digest of pipeline and entity: the same for every recurrence, whatever the kind of attack.
    pub fingerprint: String,
    pub pipeline: String,
    /// `threshold@0.1.0`.
    pub detector: String,
    pub kind: String,
    pub severity: Severity,
    pub score: f64,
    pub threshold: f64,
    pub message: String,
    pub entity: EntityRef,
    pub window: WindowRef,
    /// Every feature of the row.
    pub observed: Map<String, Value>,
    /// Feature -> expected value, where the detector has one.
    pub baseline: Map<String, Value>,
    pub evidence: Vec<Evidence>,
    /// Hosts that this prefix incident covers (0 for others).
    pub covered: u32,
    /// The most affected of the covered hosts, at most ten.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub covered_entities: Vec<String>,
    pub attributes: Map<String, Value>,
    pub opened_at: String,
    pub updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<String>,
    /// `quiet`, `covered`, `shutdown`, `end_of_input`, `removed` or `shadow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_reason: Option<String>,
    /// Windows in which the entity was alerted so far.
    pub windows_alerted: u32,
    /// Score of the strongest detection so far (strength: score / threshold).
    pub peak_score: f64,
    pub plan_digest: String,
    /// Digest of the model that the leading detection rests on; absent where it rests on none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<String>,
    /// Engine time at which the event left the incident stage, RFC 3339: in a replay the watermark.
    pub emitted_at: String,
}
