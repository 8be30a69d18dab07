//! The figures as text for a person and as JSON for a program (docs/evaluate.md has its keys).

use super::incidents::IncidentMetrics;
use super::metrics::{Delay, Event, Metrics, MissedEvent};
use super::scores::Series;
use crate::model::time::rfc3339;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// One detector's series, labelled, with its events and figures.
#[derive(Debug)]
pub struct Evaluation {
    /// Labelled rows.
    pub series: Series,
    /// Events within the scored time.
    pub events: Vec<Event>,
    /// Its figures.
    pub metrics: Metrics,
}

/// All that is told.
#[derive(Debug, Default)]
pub struct Report {
    /// Start and end of what was scored.
    pub span: (u64, u64),
    /// Events of the labels outside of the scored time.
    pub events_outside: usize,
    /// Rows left out: partial windows.
    pub partial_rows: usize,
    /// Rows left out: a later revision came.
    pub revised_rows: usize,
    /// By pipeline, detector and level.
    pub detectors: Vec<Evaluation>,
    /// By pipeline; empty when no incidents were given.
    pub incidents: Vec<(String, IncidentMetrics)>,
    /// Oddities that may spoil the figures.
    pub warnings: Vec<String>,
}

impl Report {
    /// `--format json`.
    pub fn json(&self) -> Value {
        let detectors = self.detectors.iter().map(|d| {
            let mut value = json!(d.metrics);
            value["pipeline"] = json!(d.series.pipeline);
            value["detector"] = json!(d.series.detector);
            value["entity_kind"] = json!(d.series.entity_kind);
            value["threshold"] = json!(d.series.threshold);
            value
        });
        let incidents = self.incidents.iter().map(|(pipeline, metrics)| {
            let mut value = json!(metrics);
            value["pipeline"] = json!(pipeline);
            value
        });
        json!({
            "schema_version": 1,
            "scored": {"start": rfc3339(self.span.0), "end": rfc3339(self.span.1)},
            "events_outside": self.events_outside,
            "partial_rows": self.partial_rows,
            "revised_rows": self.revised_rows,
            "detectors": detectors.collect::<Vec<_>>(),
            "incidents": incidents.collect::<Vec<_>>(),
            "warnings": self.warnings,
        })
    }

    /// `--format text`.
    pub fn text(&self) -> String {
        let mut out = format!("scored: {} to {}\n", rfc3339(self.span.0), rfc3339(self.span.1));
        let mut left_out = Vec::new();
        for (count, what) in [
            (self.events_outside, "events outside of the scored time"),
            (self.partial_rows, "rows of partial windows"),
            (self.revised_rows, "rows that a later revision replaced"),
        ] {
            if count > 0 {
                left_out.push(format!("{count} {what}"));
            }
        }
        if !left_out.is_empty() {
            add(&mut out, format_args!("left out: {}\n", left_out.join(", ")));
        }
        for d in &self.detectors {
            let (s, m) = (&d.series, &d.metrics);
            add(&mut out, format_args!("\n{}, pipeline {}, by {}\n", s.detector, s.pipeline, s.entity_kind));
            detector(&mut out, m);
            missed(&mut out, &m.missed);
        }
        for (pipeline, m) in &self.incidents {
            add(&mut out, format_args!("\nincidents of pipeline {pipeline}\n"));
            let counts = format!("{}: {} correct, {} wrong, {} ignored", m.incidents, m.correct, m.wrong, m.ignored);
            line(&mut out, "incidents", &counts);
            line(&mut out, "precision", &ratio(m.precision));
            line(&mut out, "events found", &of(m.events_found, m.events));
            line(&mut out, "false incidents", &format!("{} a day", number(m.wrong_per_day)));
            line(&mut out, "delay", &delay(&m.delay_seconds, "s"));
            missed(&mut out, &m.missed);
        }
        out
    }
}

fn detector(out: &mut String, m: &Metrics) {
    let mut rows = format!("{}: {} attack, {} ignored", m.rows, m.attacks, m.ignored);
    for (count, what) in [(m.no_opinion, "without a score"), (m.unscored_attacks, "attacks never scored")] {
        if count > 0 {
            add(&mut rows, format_args!(", {count} {what}"));
        }
    }
    line(out, "windows", &rows);
    line(out, "alerts", &format!("{}: {} right", m.alerts, m.hits));
    let f1 = (ratio(m.precision), ratio(m.recall), ratio(m.f1));
    line(out, "precision, recall, F1", &format!("{}, {}, {}", f1.0, f1.1, f1.2));
    line(out, "ROC-AUC, PR-AUC", &format!("{}, {}", ratio(m.roc_auc), ratio(m.pr_auc)));
    if let (Some(f1), Some(at)) = (m.best_f1, m.best_f1_threshold) {
        line(out, "best F1 with hindsight", &format!("{f1:.3} at {at:.4}"));
    }
    line(out, "events found", &of(m.events_found, m.events));
    let alarms = format!("{} in {:.2} days: {} a day", m.false_alarms, m.days, number(m.false_alarms_per_day));
    line(out, "false alarms", &alarms);
    line(out, "delay", &delay(&m.delay_windows, "windows"));
}

fn missed(out: &mut String, events: &[MissedEvent]) {
    for event in events {
        let kind = if event.kind.is_empty() { String::new() } else { format!(" {}", event.kind) };
        let MissedEvent { event, entity, start, end, .. } = event;
        line(out, "missed", &format!("event {event}{kind} on {entity}, {start} to {end}"));
    }
}

fn line(out: &mut String, name: &str, value: &str) {
    add(out, format_args!("  {name:<24}{value}\n"));
}

fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes any text");
}

/// Three decimals, four where three would say 1 of what is not.
pub(super) fn ratio(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(v) if v > 0.9994 && v < 1.0 => format!("{:.4}", v.min(0.9999)),
        Some(v) => format!("{v:.3}"),
    }
}

pub(super) fn number(value: Option<f64>) -> String {
    value.map_or("-".into(), |v| format!("{v:.1}"))
}

fn of(found: usize, all: usize) -> String {
    if all == 0 { "- (no events)".into() } else { format!("{found} of {all}") }
}

fn delay(d: &Delay, unit: &str) -> String {
    let Delay { mean, median, max } = *d;
    match mean {
        None => "-".into(),
        Some(mean) => format!("mean {mean:.2}, median {}, max {} {unit}", number(median), number(max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_one_is_not_one() {
        assert_eq!(ratio(Some(1.0)), "1.000");
        assert_eq!(ratio(Some(0.99999)), "0.9999");
        assert_eq!(ratio(Some(0.9991)), "0.999");
        assert_eq!(ratio(None), "-");
    }

    #[test]
    fn text_says_what_was_left_out_and_missed() {
        let event = MissedEvent {
            event: "3".into(),
            kind: "syn_flood".into(),
            entity: "10.0.0.1".into(),
            start: "a".into(),
            end: "b".into(),
        };
        let metrics = Metrics { events: 2, events_found: 1, missed: vec![event], ..Default::default() };
        let series = Series {
            pipeline: "p".into(),
            detector: "ae".into(),
            entity_kind: "dst_addr".into(),
            rows: Vec::new(),
            threshold: None,
        };
        let detectors = vec![Evaluation { series, events: Vec::new(), metrics }];
        let report = Report { detectors, partial_rows: 2, ..Default::default() };
        let text = report.text();
        for part in [
            "left out: 2 rows of partial windows\n",
            "\nae, pipeline p, by dst_addr\n",
            "  events found            1 of 2\n",
            "  missed                  event 3 syn_flood on 10.0.0.1, a to b\n",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(report.json()["detectors"][0]["missed"][0]["kind"], "syn_flood");
    }
}
