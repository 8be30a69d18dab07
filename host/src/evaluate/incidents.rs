//! Incidents against labels: what a person was told. Comes in: the JSON lines of `kaminari replay` (docs/incidents.md);
//! goes out: how many were true, which events were told and how late. An incident is true when it concerns an attacked
//! entity, or a network around it or within it, while the attack went on.

use super::input::{Entity, InputError, Window, lines, rfc3339};
use super::labels::{Labels, overlap};
use super::metrics::{Delay, Event, MissedEvent};
use super::net::Who;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// One incident, from its opening to its last word.
#[derive(Clone, PartialEq, Debug)]
pub struct Incident {
    /// Pipeline id.
    pub pipeline: String,
    /// Level of the entity.
    pub entity_kind: String,
    /// Who.
    pub entity: String,
    /// Start of the window that opened it.
    pub start_ns: u64,
    /// End of the newest alerted window it told of.
    pub end_ns: u64,
    /// When it was told first, event time.
    pub opened_ns: u64,
}

/// Incidents of one pipeline against labels.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct IncidentMetrics {
    /// All of them.
    pub incidents: usize,
    /// Those that tell of an event.
    pub correct: usize,
    /// Those that tell of nothing.
    pub wrong: usize,
    /// Those the labels say nothing about.
    pub ignored: usize,
    /// correct / (correct + wrong).
    pub precision: Option<f64>,
    /// Events.
    pub events: usize,
    /// Events that were told.
    pub events_found: usize,
    /// events_found / events.
    pub event_recall: Option<f64>,
    /// wrong / days.
    pub wrong_per_day: Option<f64>,
    /// From the start of an event to the opening of its first incident, event time.
    pub delay_seconds: Delay,
    /// Events that were not told.
    pub missed: Vec<MissedEvent>,
}

#[derive(Deserialize)]
struct Line {
    event: String,
    incident_id: String,
    pipeline: String,
    entity: Entity,
    window: Window,
    opened_at: String,
}

/// Reads the file, in the order of opening. No line is no incident.
pub fn read_incidents(path: &Path) -> Result<Vec<Incident>, InputError> {
    let mut found: Vec<Incident> = Vec::new();
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    lines(path, |number, text| {
        let wrong = |what: String| InputError::line(path, number, what);
        let line: Line = serde_json::from_str(text)
            .map_err(|e| wrong(format!("not an incident event of `kaminari replay`: {e}")))?;
        let (start_ns, end_ns) = line.window.span().map_err(wrong)?;
        // A notice tells how many were withheld: nobody is accused.
        if line.event == "notice" {
            return Ok(());
        }
        let place = *places.entry((line.pipeline.clone(), line.incident_id)).or_insert(found.len());
        if place == found.len() {
            let opened_ns = rfc3339(&line.opened_at)
                .ok_or_else(|| wrong(format!("`opened_at` is `{}`, no RFC 3339", line.opened_at)))?;
            let Entity { kind, value } = line.entity;
            found.push(Incident {
                pipeline: line.pipeline,
                entity_kind: kind,
                entity: value,
                start_ns,
                end_ns,
                opened_ns,
            });
        } else if line.event != "close" {
            // The window of a close is the quiet one that ended it.
            found[place].end_ns = found[place].end_ns.max(end_ns);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The figures of the incidents of one pipeline over that time.
pub fn evaluate_incidents(incidents: &[&Incident], labels: &Labels, span: (u64, u64)) -> IncidentMetrics {
    let (events, quiet) = labels.within(span);
    let with_who =
        |list: &[Event]| -> Vec<(Event, Who)> { list.iter().map(|e| (e.clone(), Who::parse(&e.entity))).collect() };
    let (events, quiet) = (with_who(&events), with_who(&quiet));
    let mut told: Vec<Option<u64>> = vec![None; events.len()];
    let mut out = IncidentMetrics { incidents: incidents.len(), events: events.len(), ..Default::default() };
    for incident in incidents {
        let who = Who::parse(&incident.entity);
        let concerns = |(event, target): &(Event, Who)| {
            (who.holds(target) || target.holds(&who))
                && overlap((event.start_ns, event.end_ns), (incident.start_ns, incident.end_ns))
        };
        if !labels.knows(&incident.entity_kind) {
            out.ignored += 1;
            continue;
        }
        let mut correct = false;
        for (event, told) in events.iter().zip(&mut told).filter(|(e, _)| concerns(e)) {
            let delay = incident.opened_ns.saturating_sub(event.0.start_ns);
            *told = Some(told.map_or(delay, |t| t.min(delay)));
            correct = true;
        }
        match correct {
            true => out.correct += 1,
            false if quiet.iter().any(concerns) => out.ignored += 1,
            false => out.wrong += 1,
        }
    }
    let judged = out.correct + out.wrong;
    let days = (span.1 - span.0) as f64 / 86_400e9;
    out.precision = (judged > 0 && !events.is_empty()).then(|| out.correct as f64 / judged as f64);
    out.wrong_per_day = (days > 0.0).then(|| out.wrong as f64 / days);
    out.events_found = told.iter().flatten().count();
    out.event_recall = (!events.is_empty()).then(|| out.events_found as f64 / events.len() as f64);
    out.delay_seconds = Delay::of(told.iter().flatten().map(|ns| *ns as f64 / 1e9).collect());
    let missed = events.iter().zip(&told).filter(|(_, told)| told.is_none());
    out.missed = missed.map(|((event, _), _)| MissedEvent::new(event)).collect();
    out
}

#[cfg(test)]
mod tests {
    use super::super::labels::LabelOptions;
    use super::super::{FlowTime, TimeUnit};
    use super::*;

    fn line(event: &str, id: &str, entity: &str, minutes: (u64, u64), opened: u64) -> String {
        format!(
            r#"{{"event":"{event}","incident_id":"{id}","pipeline":"p","entity":{{"kind":"dst_addr","value":"{entity}"}},"window":{{"start":"1970-01-01T00:{:02}:00Z","end":"1970-01-01T00:{:02}:00Z"}},"opened_at":"1970-01-01T00:{opened:02}:00Z"}}"#,
            minutes.0, minutes.1
        )
    }

    #[test]
    fn incidents_by_hand() {
        let dir = tempfile::tempdir().unwrap();
        let (told, truth) = (dir.path().join("incidents.jsonl"), dir.path().join("events.csv"));
        std::fs::write(
            &truth,
            "event,start,end,kind,dst\n1,90,290,flood,10.0.0.1\n2,600,700,flood,10.0.0.2\n3,9000,9001,flood,10.0.0.3\n",
        )
        .unwrap();
        let lines = [
            // Event 1 began at 90 s, was told at 240 s: 150 s. The second incident of it does not count again.
            line("open", "a", "10.0.0.1", (3, 4), 4),
            line("update", "a", "10.0.0.1", (4, 5), 4),
            line("close", "a", "10.0.0.1", (9, 10), 4),
            line("open", "b", "10.0.0.1", (4, 5), 5),
            // Nobody attacked 10.0.0.9, and event 2 came after the alerted windows of c, if before its close.
            line("open", "d", "10.0.0.9", (4, 5), 5),
            line("open", "c", "10.0.0.2", (4, 5), 5),
            line("close", "c", "10.0.0.2", (12, 13), 5),
            line("notice", "n", "p", (4, 5), 5),
        ];
        std::fs::write(&told, lines.join("\n")).unwrap();
        let incidents = read_incidents(&told).unwrap();
        assert_eq!(incidents.len(), 4);
        assert_eq!((incidents[0].start_ns, incidents[0].end_ns), (180_000_000_000, 300_000_000_000));
        let options =
            LabelOptions { time_unit: TimeUnit::Seconds, flows: None, flow_time: FlowTime::Start, table: None };
        let labels = Labels::read(&truth, &options).unwrap();
        let all: Vec<&Incident> = incidents.iter().collect();
        // A span of 30 minutes: event 3 is outside, two wrong ones are 96 a day.
        let m = evaluate_incidents(&all, &labels, (0, 1800 * 1_000_000_000));
        assert_eq!((m.incidents, m.correct, m.wrong, m.ignored), (4, 2, 2, 0));
        assert_eq!((m.precision, m.events, m.events_found, m.event_recall), (Some(0.5), 2, 1, Some(0.5)));
        assert!((m.wrong_per_day.unwrap() - 96.0).abs() < 1e-9);
        assert_eq!(m.delay_seconds, Delay { mean: Some(150.0), median: Some(150.0), max: Some(150.0) });
        assert_eq!(m.missed.iter().map(|e| &*e.event).collect::<Vec<_>>(), ["2"]);
    }

    #[test]
    fn no_incident_is_a_result_and_a_broken_line_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incidents.jsonl");
        std::fs::write(&path, "").unwrap();
        assert_eq!(read_incidents(&path).unwrap(), []);
        std::fs::write(&path, line("open", "a", "x", (0, 1), 1) + "\n{}\n").unwrap();
        let error = read_incidents(&path).unwrap_err().to_string();
        assert!(
            error.contains("incidents.jsonl:2: not an incident event of `kaminari replay`: missing field"),
            "{error}"
        );
    }
}
