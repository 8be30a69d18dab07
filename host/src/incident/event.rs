//! Incidents as the lines that leave: fields and their meaning are in `docs/incidents.md`.

use super::Context;
use super::id;
use super::limit::Withheld;
use super::track::{Cover, Incident};
use crate::model::incident::{EntityRef, Evidence, IncidentEvent, IncidentEventKind, SCHEMA_VERSION, WindowRef};
use crate::model::{Addr, Severity, WindowInfo, time::rfc3339};
use serde_json::{Map, Value};

/// Covered hosts that an event names.
const COVERED_NAMED: usize = 10;

/// Why an incident is over.
pub struct Closing<'a> {
    /// The window that closed it.
    pub window: &'a WindowInfo,
    /// `quiet`, `covered`, `shutdown`, `end_of_input`.
    pub reason: &'a str,
    /// The prefix incident that covers it from now on.
    pub prefix_incident: Option<&'a str>,
}

impl Context {
    /// The line for `incident` at engine time `at_ns`.
    pub(super) fn event(
        &self,
        kind: IncidentEventKind,
        incident: &Incident,
        cover: Option<&Cover>,
        at_ns: u64,
        closing: Option<&Closing<'_>>,
    ) -> IncidentEvent {
        let (lead, alert) = (&incident.lead, &incident.lead.alert);
        let at = rfc3339(at_ns);
        let mut attributes: Map<String, Value> =
            alert.attributes.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect();
        let other_kinds: Vec<Value> =
            incident.kinds.iter().filter(|k| **k != alert.kind).map(|k| Value::from(k.as_str())).collect();
        if !other_kinds.is_empty() {
            attributes.insert("other_kinds".into(), Value::Array(other_kinds));
        }
        if let Some(id) = closing.and_then(|c| c.prefix_incident) {
            attributes.insert("prefix_incident".into(), Value::from(id));
        }
        IncidentEvent {
            schema_version: SCHEMA_VERSION,
            event: kind,
            incident_id: incident.id.clone(),
            fingerprint: incident.fingerprint.clone(),
            pipeline: self.pipeline.to_string(),
            detector: lead.plugin.to_string(),
            kind: alert.kind.clone(),
            severity: incident.severity,
            score: finite(alert.score),
            threshold: finite(alert.threshold),
            message: alert.message.clone(),
            entity: EntityRef { kind: lead.key.kind.name().into(), value: lead.key.to_string() },
            window: self.window(closing.map_or(&lead.window, |c| c.window)),
            observed: lead.observed.iter().map(|(name, v)| (name.to_string(), Value::from(*v))).collect(),
            baseline: alert
                .contributions
                .iter()
                .filter(|c| c.expected.is_finite())
                .map(|c| (c.column.clone(), Value::from(c.expected)))
                .collect(),
            evidence: alert
                .contributions
                .iter()
                .map(|c| Evidence {
                    feature: c.column.clone(),
                    value: finite(c.observed),
                    expected: c.expected.is_finite().then_some(c.expected),
                    contribution: finite(c.weight),
                })
                .collect(),
            covered: cover.map_or(0, |c| u32::try_from(c.hosts.len()).unwrap_or(u32::MAX)),
            covered_entities: cover.map(most_affected).unwrap_or_default(),
            attributes,
            opened_at: rfc3339(incident.opened_at_ns),
            updated_at: at.clone(),
            closed_at: closing.map(|_| at.clone()),
            close_reason: closing.map(|c| c.reason.into()),
            windows_alerted: incident.windows_alerted,
            peak_score: finite(incident.peak.1),
            plan_digest: self.plan_digest.get().to_string(),
            model_digest: lead.model_digest.as_ref().map(ToString::to_string),
            emitted_at: at,
        }
    }

    /// The one line that says how many incidents a minute withheld.
    pub(super) fn rate_limited(&self, w: &Withheld, per_minute: u32, at_ns: u64) -> IncidentEvent {
        let fingerprint = id::pipeline_fingerprint(&self.pipeline);
        let at = rfc3339(at_ns);
        let noun = if w.withheld == 1 { "incident" } else { "incidents" };
        IncidentEvent {
            schema_version: SCHEMA_VERSION,
            event: IncidentEventKind::Notice,
            incident_id: id::incident_id(&fingerprint, w.start_ns),
            fingerprint,
            pipeline: self.pipeline.to_string(),
            detector: concat!("kaminari@", env!("CARGO_PKG_VERSION")).into(),
            kind: "rate-limited".into(),
            severity: w.worst,
            score: w.withheld as f64,
            threshold: f64::from(per_minute),
            message: format!(
                "{} {noun} withheld in this minute: the limit is {per_minute} new ones a minute",
                w.withheld
            ),
            entity: EntityRef { kind: "pipeline".into(), value: self.pipeline.to_string() },
            window: self.window(&WindowInfo {
                start_ns: w.start_ns,
                end_ns: w.end_ns,
                revision: 0,
                watermark_ns: at_ns,
                partial: at_ns < w.end_ns,
            }),
            observed: Map::from_iter([
                ("withheld".to_string(), Value::from(w.withheld)),
                ("opened".to_string(), Value::from(w.opened)),
            ]),
            baseline: Map::new(),
            evidence: Vec::new(),
            covered: 0,
            covered_entities: Vec::new(),
            attributes: Map::new(),
            opened_at: at.clone(),
            updated_at: at.clone(),
            closed_at: None,
            close_reason: None,
            windows_alerted: 0,
            peak_score: w.withheld as f64,
            plan_digest: self.plan_digest.get().to_string(),
            model_digest: None,
            emitted_at: at,
        }
    }

    fn window(&self, w: &WindowInfo) -> WindowRef {
        WindowRef {
            start: rfc3339(w.start_ns),
            end: rfc3339(w.end_ns),
            kind: self.window_kind.into(),
            partial: w.partial,
            revision: w.revision,
        }
    }
}

/// By packets, then by address.
fn most_affected(cover: &Cover) -> Vec<String> {
    let mut hosts: Vec<(&Addr, f64)> = cover.hosts.iter().map(|(a, p)| (a, *p)).collect();
    hosts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    hosts.iter().take(COVERED_NAMED).map(|(a, _)| a.to_string()).collect()
}

/// JSON has no infinity: the nearest number that it has, and 0 for NaN.
fn finite(v: f64) -> f64 {
    if v.is_nan() { 0.0 } else { v.clamp(f64::MIN, f64::MAX) }
}

/// One line about a reload, so that changes and alerts can be lined up: who asked (`trigger`), how it ended, what it was.
/// `plan_digest` is the plan that is in force after it.
pub fn reload_notice(plan_digest: &str, at_ns: u64, (trigger, outcome): (&str, &str), message: &str) -> IncidentEvent {
    let fingerprint = id::pipeline_fingerprint("");
    let at = rfc3339(at_ns);
    let about = EntityRef { kind: "engine".into(), value: "configuration".into() };
    IncidentEvent {
        schema_version: SCHEMA_VERSION,
        event: IncidentEventKind::Notice,
        incident_id: id::incident_id(&fingerprint, at_ns),
        fingerprint,
        pipeline: String::new(),
        detector: concat!("kaminari@", env!("CARGO_PKG_VERSION")).into(),
        kind: "reload".into(),
        severity: Severity::Info,
        score: 0.0,
        threshold: 0.0,
        message: message.into(),
        entity: about,
        window: WindowRef { start: at.clone(), end: at.clone(), kind: String::new(), partial: false, revision: 0 },
        observed: Map::new(),
        baseline: Map::new(),
        evidence: Vec::new(),
        covered: 0,
        covered_entities: Vec::new(),
        attributes: Map::from_iter(
            [("trigger", trigger), ("outcome", outcome)].map(|(k, v)| (k.into(), Value::from(v))),
        ),
        opened_at: at.clone(),
        updated_at: at.clone(),
        closed_at: None,
        close_reason: None,
        windows_alerted: 0,
        peak_score: 0.0,
        plan_digest: plan_digest.into(),
        model_digest: None,
        emitted_at: at,
    }
}
