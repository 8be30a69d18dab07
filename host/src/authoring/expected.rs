//! What a plugin said, a JSON line per row, and how it differs from what was expected. A field that the expected line
//! does not have is not compared; numbers may differ by a tolerance.

use super::input::Batch;
use super::row;
use crate::model::Verdict;
use crate::plugin::DecodedRows;
use arrow_array::RecordBatch;
use serde_json::{Map, Value, json};
use std::fmt;

/// One line: a row of one window, or the error of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Line(pub Map<String, Value>);

/// By how much numbers may differ: relative to the larger one, and absolute near 0.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance(pub f64);

/// One line that is not as expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Which line of `expected.jsonl`, from 1.
    pub line: usize,
    /// The row in words.
    pub row: String,
    /// Field, expected, said.
    pub fields: Vec<(String, String, String)>,
}

impl Line {
    /// A call that answered with an error, or did not come back.
    pub fn error(batch: Option<&Batch>, message: &str) -> Self {
        let mut line = Map::new();
        if let Some(batch) = batch {
            line.insert("window_start".into(), seconds(batch.window.start_ns));
        }
        line.insert("error".into(), message.into());
        Self(line)
    }

    /// The rows that an extractor made of a window.
    pub fn extracted(batch: &Batch, features: &RecordBatch) -> Vec<Self> {
        let line = |row: Map<String, Value>| {
            Self(
                [("window_start".into(), seconds(batch.window.start_ns)), ("row".into(), row.into())]
                    .into_iter()
                    .collect(),
            )
        };
        row::rows(features).into_iter().map(line).collect()
    }

    /// The rows that a source made of frames, and the frames that it refused (from 1, as lines are).
    pub fn decoded(decoded: &DecodedRows) -> Vec<Self> {
        let rows = decoded.rows.as_ref().map(row::rows).unwrap_or_default();
        let rows = rows.into_iter().map(|row| Self([("row".to_owned(), row.into())].into_iter().collect()));
        let refused = decoded.rejected.iter().map(|(frame, reason)| {
            let fields = [("frame".to_owned(), (frame + 1).into()), ("rejected".to_owned(), reason.as_str().into())];
            Self(fields.into_iter().collect())
        });
        rows.chain(refused).collect()
    }

    /// The rows of a verdict.
    pub fn rows(batch: &Batch, verdict: &Verdict) -> Vec<Self> {
        let row = |(row, entity): (usize, &String)| {
            let mut line = Map::new();
            line.insert("window_start".into(), seconds(batch.window.start_ns));
            line.insert("key".into(), entity.as_str().into());
            if let Some(score) = verdict.scores.get(row) {
                line.insert("score".into(), rounded(*score));
            }
            let alerts: Vec<Value> = verdict.alerts.iter().filter(|a| a.row as usize == row).map(alert).collect();
            if !alerts.is_empty() {
                line.insert("alerts".into(), alerts.into());
            }
            Self(line)
        };
        batch.entities.iter().enumerate().map(row).collect()
    }

    /// When, who, how much: as a person reads it.
    const ORDER: [&str; 8] = ["window_start", "key", "frame", "score", "alerts", "row", "rejected", "error"];

    fn title(&self) -> String {
        let text = |name: &str| self.0.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        match (text("window_start"), text("key")) {
            (Some(start), Some(key)) => format!("window {start}, {key}"),
            (Some(start), None) => format!("window {start}"),
            _ if self.0.contains_key("error") => "at the start".into(),
            _ => text("frame").map_or("a row".into(), |frame| format!("frame {frame}")),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = Self::ORDER.iter().filter_map(|name| Some((name, self.0.get(*name)?)));
        let fields: Vec<String> = fields.map(|(name, value)| format!("\"{name}\":{value}")).collect();
        write!(f, "{{{}}}", fields.join(","))
    }
}

fn alert(alert: &crate::model::Alert) -> Value {
    let mut out = json!({
        "kind": alert.kind,
        "severity": alert.severity.name(),
        "score": rounded(alert.score),
        "threshold": rounded(alert.threshold),
        "message": alert.message,
    });
    let because = |c: &crate::model::Contribution| json!({ "column": c.column, "weight": rounded(c.weight), "observed": rounded(c.observed), "expected": rounded(c.expected) });
    if !alert.contributions.is_empty() {
        out["contributions"] = alert.contributions.iter().map(because).collect();
    }
    if !alert.attributes.is_empty() {
        out["attributes"] =
            alert.attributes.iter().map(|(k, v)| (k.clone(), v.as_str().into())).collect::<Map<_, _>>().into();
    }
    out
}

/// Seconds since the epoch; whole ones without a point.
fn seconds(ns: u64) -> Value {
    if ns.is_multiple_of(1_000_000_000) { (ns / 1_000_000_000).into() } else { (ns as f64 / 1e9).into() }
}

/// Nine digits: more say nothing to a reader, and differ between languages. What is not finite is null.
pub(super) fn rounded(x: f64) -> Value {
    format!("{x:.8e}").parse::<f64>().ok().filter(|x| x.is_finite()).map_or(Value::Null, Value::from)
}

/// Every line that differs; at the end, once, those that are missing or that nobody expected.
pub fn compare(expected: &[Line], said: &[Line], tolerance: Tolerance) -> Vec<Difference> {
    let pairs = expected.iter().zip(said).enumerate();
    let mut out: Vec<Difference> = pairs
        .map(|(at, (wanted, got))| Difference {
            line: at + 1,
            row: got.title(),
            fields: fields(wanted, got, tolerance),
        })
        .filter(|difference| !difference.fields.is_empty())
        .collect();
    let both = expected.len().min(said.len());
    let (missing, more) = (&expected[both..], &said[both..]);
    if let Some(first) = missing.first().or(more.first()) {
        let shown = |lines: &[Line]| match lines {
            [] => "nothing".to_owned(),
            [line] => line.to_string(),
            [line, others @ ..] => format!("{line} and {} more", others.len()),
        };
        let fields = vec![("lines".into(), shown(missing), shown(more))];
        out.push(Difference { line: both + 1, row: first.title(), fields });
    }
    out
}

fn fields(wanted: &Line, got: &Line, tolerance: Tolerance) -> Vec<(String, String, String)> {
    let mut out = Vec::new();
    let failed = got.0.contains_key("error") && !wanted.0.contains_key("error");
    // A call that failed has no other fields: its error says it all.
    for (name, value) in wanted.0.iter().filter(|_| !failed) {
        let said = got.0.get(name);
        if !same(value, said.unwrap_or(&Value::Null), tolerance) {
            out.push((name.clone(), shown(Some(value)), shown(said)));
        }
    }
    // No alert expected is an expectation.
    for name in ["alerts", "error"] {
        if let Some(said) = got.0.get(name).filter(|_| !wanted.0.contains_key(name)) {
            out.push((name.into(), "none".into(), shown(Some(said))));
        }
    }
    out
}

fn same(wanted: &Value, said: &Value, tolerance: Tolerance) -> bool {
    match (wanted, said) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            a == b || (a - b).abs() <= tolerance.0 * a.abs().max(b.abs()).max(1.0)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, tolerance)),
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(name, value)| same(value, b.get(name).unwrap_or(&Value::Null), tolerance))
        }
        (a, b) => a == b,
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".into(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        text.lines().map(|line| Line(serde_json::from_str(line).unwrap())).collect()
    }

    fn told(expected: &str, said: &str) -> Vec<Difference> {
        compare(&lines(expected), &lines(said), Tolerance(1e-6))
    }

    #[test]
    fn only_what_was_expected_is_compared_and_numbers_have_room() {
        let said =
            r#"{"window_start":0,"key":"192.0.2.1","score":1000.0000001,"alerts":[{"kind":"jump","score":7.0}]}"#;
        assert_eq!(told(r#"{"score":1000,"alerts":[{"kind":"jump"}]}"#, said), []);
        assert_eq!(told(r#"{"key":"192.0.2.1","alerts":[{"score":7.0000001}]}"#, said), []);
    }

    #[test]
    fn every_difference_names_line_row_and_field() {
        let said = r#"{"window_start":0,"key":"192.0.2.1","score":1,"alerts":[{"kind":"jump"}]}"#;
        let found = told(r#"{"score":2}"#, said);
        assert_eq!((found[0].line, &*found[0].row), (1, "window 0, 192.0.2.1"));
        let names: Vec<_> = found[0].fields.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["score", "alerts"], "an alert that nobody expected is a difference");
        assert_eq!(found[0].fields[0], ("score".into(), "2".into(), "1".into()));
        assert_eq!(told(said, "")[0].fields[0].2, "nothing");
        assert_eq!(told("", said)[0].fields[0].1, "nothing");
        let cut = told(&format!("{said}\n{said}\n{said}"), said);
        assert!(cut.len() == 1 && cut[0].line == 2 && cut[0].fields[0].1.ends_with("and 1 more"), "{cut:?}");
        let failed = told(said, r#"{"error":"trapped"}"#);
        assert_eq!(failed[0].fields, [("error".into(), "none".into(), "\"trapped\"".into())]);
        assert_eq!(told(r#"{"alerts":[{"kind":"jump"},{"kind":"jump"}]}"#, said).len(), 1);
        assert_eq!(told(r#"{"score":null}"#, said).len(), 1);
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        for x in [0.1 + 0.2, 1e300, -3.25, 123_456_789.123] {
            let text = rounded(x).to_string();
            let read: Value = serde_json::from_str(&text).unwrap();
            assert!(same(&read, &Value::from(x), Tolerance(1e-8)), "{x}: {text}");
        }
        assert_eq!((rounded(f64::NAN), rounded(f64::INFINITY)), (Value::Null, Value::Null));
    }
}
