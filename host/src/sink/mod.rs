//! Deliver, retry, confess. Comes in: incident events, scored rows, rows of features, flow records; goes out: lines on
//! stdout or in files, records in Kafka. Refused: nothing silently; what cannot be delivered is counted in
//! `kaminari_sink_failed_total` (or `kaminari_sink_shed_total`) by reason and logged, incidents with their ids
//! (`worker.rs`, which also moves `kaminari_sink_delivered_total`).

mod confess;
pub mod file;
pub mod kafka;
pub mod render;
pub mod stdout;
pub mod worker;

use crate::config::Component;
use crate::config::registry::ComponentDef;
use crate::model::incident::IncidentEvent;
use crate::model::{Content, Output, PlanDigest};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::Path;

/// Takes output away. Blocking: every sink has a thread of its own ([`worker::SinkWorker`]).
pub trait Sink: Send {
    /// What it takes.
    fn content(&self) -> Content {
        Content::Incidents
    }

    /// Takes all of it or says why not; after an error that may pass the same output is offered again.
    fn deliver(&mut self, output: &Output) -> Result<(), SinkError>;

    /// Everything delivered is safe: on the disk, or the brokers have it. An error that may pass: ask again.
    fn flush(&mut self) -> Result<(), SinkError>;

    /// Called several times a second while nothing is delivered.
    fn tick(&mut self) {}

    /// True when it counts itself what has arrived: that is known later than `deliver` returns.
    fn counts_deliveries(&self) -> bool {
        false
    }

    /// The end: what is not safe by now is lost, and the sink says so.
    fn close(&mut self) {}
}

/// Every sink type.
pub const SINKS: &[ComponentDef] = &[stdout::DEF, file::DEF, kafka::DEF];

/// The sink that `component` describes; `plan_digest` goes where its output names the plan.
pub fn build(component: &Component, plan_digest: &PlanDigest) -> Result<Box<dyn Sink>, SinkError> {
    match component.kind {
        "stdout" => Ok(Box::new(stdout::StdoutSink::new(body(component)?))),
        "file" => Ok(Box::new(file::FileSink::open(body(component)?)?)),
        "kafka" => {
            let sink = kafka::KafkaSink::new(&component.id, &body(component)?, plan_digest.clone())?;
            Ok(Box::new(sink))
        }
        other => Err(SinkError::config(format!("sink `{}`: there is no sink type `{other}`", component.id))),
    }
}

/// What the sink that `component` describes takes; incidents when its body says nothing else.
pub fn content(component: &Component) -> Content {
    let written = component.body.get("content").filter(|_| component.kind == "kafka");
    written.and_then(|content| Content::deserialize(content.clone()).ok()).unwrap_or_default()
}

/// True when two of its kind cannot be open at once.
pub fn holds_alone(component: &Component) -> bool {
    component.kind == "kafka" && component.body.contains_key("spool")
}

/// The events of an output; for sinks that take nothing else.
fn incidents(output: &Output) -> Result<&[IncidentEvent], SinkError> {
    match output {
        Output::Incidents(events) => Ok(events),
        other => Err(SinkError::config(format!("this sink takes incidents, not {}", other.content().name()))),
    }
}

fn body<T: DeserializeOwned>(component: &Component) -> Result<T, SinkError> {
    T::deserialize(component.body.clone())
        .map_err(|e| SinkError::config(format!("sink `{}`: {}", component.id, e.message())))
}

/// Why a delivery failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// Metric label: `config`, `open`, `write`, `rotate`, `closed`, `spool_full`, `queue_full`, `unacknowledged`, or what a
    /// broker's refusal means ([`Trouble::reason`](crate::kafka::Trouble)).
    pub reason: &'static str,
    /// Whether trying again may help.
    pub retry: bool,
    message: String,
    #[source]
    source: Option<io::Error>,
}

impl SinkError {
    /// A failure of input or output on `what` (a path, or `stdout`).
    pub fn io(reason: &'static str, doing: &str, what: &Path, source: io::Error) -> Self {
        let help = match source.kind() {
            io::ErrorKind::NotFound => ": create the folder first",
            io::ErrorKind::PermissionDenied => ": give the service user write access",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ": free space or lower `keep`",
            _ => "",
        };
        let message = format!("cannot {doing} {}: {source}{help}", what.display());
        Self { reason, retry: true, message, source: Some(source) }
    }

    /// The reader has gone; it does not come back.
    pub fn closed(what: &str) -> Self {
        Self { reason: "closed", retry: false, message: format!("{what} was closed by its reader"), source: None }
    }

    /// The brokers have not taken or acknowledged something; that may pass.
    pub fn broker(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, retry: true, message: message.into(), source: None }
    }

    fn config(message: String) -> Self {
        Self { reason: "config", retry: false, message, source: None }
    }
}

/// Events as JSON lines.
fn json_lines(events: &[IncidentEvent]) -> String {
    let mut out = String::new();
    for event in events {
        out.push_str(&serde_json::to_string(event).expect("an event has only string keys"));
        out.push('\n');
    }
    out
}

#[cfg(test)]
pub(crate) mod fixtures {
    use crate::model::Severity;
    use crate::model::incident::{EntityRef, Evidence, IncidentEvent, IncidentEventKind, SCHEMA_VERSION, WindowRef};
    use serde_json::json;

    /// An event with every optional field present.
    pub fn event() -> IncidentEvent {
        let evidence = |feature: &str, value, expected, contribution| Evidence {
            feature: feature.into(),
            value,
            expected,
            contribution,
        };
        IncidentEvent {
            schema_version: SCHEMA_VERSION,
            event: IncidentEventKind::Close,
            incident_id: "5a2f0c9d1b7e4a36".into(),
            fingerprint: "9f2c5b1a77d0e814".into(),
            pipeline: "ddos".into(),
            detector: "threshold@0.1.0".into(),
            kind: "udp-amplification".into(),
            severity: Severity::High,
            score: 4.4,
            threshold: 1.0,
            message: "bits_per_s 4.4 times its limit".into(),
            entity: EntityRef { kind: "dst_prefix".into(), value: "192.0.2.0/24".into() },
            window: WindowRef {
                start: "2026-11-23T06:40:00Z".into(),
                end: "2026-11-23T06:40:01Z".into(),
                kind: "tumbling".into(),
                partial: false,
                revision: 0,
            },
            observed: json!({"bits_per_s": 2.2e9, "packets_per_s": 201_000.0}).as_object().cloned().unwrap(),
            baseline: json!({"bits_per_s": 5.0e8}).as_object().cloned().unwrap(),
            evidence: vec![
                evidence("bits_per_s", 2.2e9, Some(5.0e8), 0.7),
                evidence("packets_per_s", 201_000.0, Some(52_310.0), 0.2),
                evidence("amp_port_share", 0.973, None, 0.06),
                evidence("uniq_src", 18_233.0, Some(12.0), 0.04),
            ],
            covered: 250,
            covered_entities: vec!["192.0.2.17".into()],
            attributes: json!({"direction": "in"}).as_object().cloned().unwrap(),
            opened_at: "2026-11-23T06:40:01Z".into(),
            updated_at: "2026-11-23T06:41:01Z".into(),
            closed_at: Some("2026-11-23T06:41:01Z".into()),
            close_reason: Some("quiet".into()),
            windows_alerted: 55,
            peak_score: 4.6,
            plan_digest: "sha256:00".into(),
            model_digest: Some("sha256:1f0e".into()),
            emitted_at: "2026-11-23T06:41:01Z".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_validates_and_builds() {
        let dir = tempfile::tempdir().unwrap();
        for def in SINKS {
            (def.check)(
                toml::de::ValueDeserializer::parse(&format!("{{ {} }}", def.example.replace('\n', ", "))).unwrap(),
            )
            .unwrap_or_else(|e| panic!("{}: {e}", def.kind));
            let mut body: toml::Table = def.example.parse().unwrap();
            if let Some(path) = body.get_mut("path") {
                *path = dir.path().join("x.jsonl").display().to_string().into();
            }
            assert!(
                build(
                    &Component {
                        id: "x".into(),
                        kind: def.kind,
                        full: (def.fill)(&body),
                        files: Default::default(),
                        body
                    },
                    &"sha256:00".into()
                )
                .is_ok(),
                "{}",
                def.kind
            );
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let body = "colour = true".parse().unwrap();
        let out =
            Component { id: "out".into(), kind: "stdout", full: Default::default(), files: Default::default(), body };
        let err = build(&out, &"sha256:00".into()).err().unwrap();
        assert_eq!(err.reason, "config");
        assert!(err.to_string().contains("`out`") && err.to_string().contains("colour"), "{err}");
    }

    /// Keys of an event as the documentation writes them: `a`, `a.b`, `a[].b`.
    fn keys(value: &serde_json::Value, path: &str, out: &mut std::collections::BTreeSet<String>) {
        let serde_json::Value::Object(fields) = value else { return };
        for (key, value) in fields {
            let key = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (key.as_str(), value) {
                // Free-form: their keys are features and details of plugins.
                ("observed" | "baseline" | "attributes", _) => {}
                (_, serde_json::Value::Array(items)) => {
                    items.iter().for_each(|item| keys(item, &format!("{key}[]"), out));
                }
                _ => keys(value, &key, out),
            }
            out.insert(key);
        }
    }

    fn documentation() -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/incidents.md")).unwrap()
    }

    #[test]
    fn the_documentation_has_every_field_and_no_other() {
        let mut written = std::collections::BTreeSet::new();
        keys(&serde_json::to_value(fixtures::event()).unwrap(), "", &mut written);
        let text = documentation();
        let table = text.split("## Fields").nth(1).unwrap().split("\n## ").next().unwrap();
        let documented =
            table.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).map(String::from).collect();
        assert_eq!(written, documented);
    }

    #[test]
    fn the_documented_example_is_an_event() {
        let text = documentation();
        let line = text.lines().find(|l| l.starts_with("{\"schema_version\"")).unwrap();
        let event: IncidentEvent = serde_json::from_str(line).unwrap();
        assert_eq!(json_lines(std::slice::from_ref(&event)).trim_end(), line);
        assert!(text.contains(&render::line(&event, false)), "{}", render::line(&event, false));
    }
}
