//! The file of `kaminari replay --scores`: one JSON object per scored row. Comes in: the file; goes out: rows, one
//! series per pipeline, detector and level of entities (scores of different detectors do not compare, and a host's
//! window is no prefix's). Refused: lines that are no scored row, rows that do not say whether they were alerted.

use super::input::{Entity, InputError, Window, lines};
use super::metrics::{Label, Row};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// What to take.
#[derive(Clone, Debug, Default)]
pub struct ScoreOptions {
    /// Only this detector.
    pub detector: Option<String>,
    /// Windows judged before their end too.
    pub partial: bool,
    /// Take each row's tail (how rare its score is, after following the drift) for its score.
    pub tails: bool,
    /// Alerts are scores at or above this, whatever the rows say.
    pub threshold: Option<f64>,
}

/// The rows of one detector at one level.
#[derive(Clone, Debug)]
pub struct Series {
    /// Pipeline id.
    pub pipeline: String,
    /// Detector id.
    pub detector: String,
    /// Level of the entities, e.g. `dst_addr`.
    pub entity_kind: String,
    /// Its rows in the order of the file, all labelled benign until labels come.
    pub rows: Vec<Row>,
    /// The threshold, when all rows have the same.
    pub threshold: Option<f64>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Scores {
    /// By pipeline, detector, level.
    pub series: Vec<Series>,
    /// Rows left out because their window was partial.
    pub partial: usize,
    /// Rows left out because a later revision of their window came.
    pub revised: usize,
}

/// A line. What is not named here (the features) is skipped.
#[derive(Deserialize)]
struct Line {
    pipeline: String,
    detector: String,
    entity: Entity,
    window: Window,
    score: Option<f64>,
    tail: Option<f64>,
    alert: Option<bool>,
    threshold: Option<f64>,
}

#[derive(Default)]
struct Building {
    rows: Vec<Row>,
    /// Entity and window to its place in `rows`.
    places: HashMap<(Arc<str>, u64, u64), usize>,
    thresholds: Vec<Option<f64>>,
}

/// Reads the file.
pub fn read_scores(path: &Path, options: &ScoreOptions) -> Result<Scores, InputError> {
    let mut found: BTreeMap<(String, String, String), Building> = BTreeMap::new();
    let (mut names, mut detectors) = (HashSet::<Arc<str>>::new(), std::collections::BTreeSet::new());
    let (mut partial, mut revised) = (0, 0);
    lines(path, |number, text| {
        let wrong = |what: String| InputError::line(path, number, what);
        let line: Line = serde_json::from_str(text)
            .map_err(|e| wrong(format!("not a scored row of `kaminari replay --scores`: {e}")))?;
        if options.detector.as_ref().is_some_and(|d| *d != line.detector) {
            detectors.insert(line.detector);
            return Ok(());
        }
        let (start_ns, end_ns) = line.window.span().map_err(wrong)?;
        if end_ns <= start_ns {
            return Err(wrong("the window ends before it begins".into()));
        }
        if line.window.partial && !options.partial {
            partial += 1;
            return Ok(());
        }
        let score = if options.tails { line.tail } else { line.score };
        let alert = match (options.threshold, line.alert) {
            (Some(threshold), _) => score.is_some_and(|s| s >= threshold),
            (None, Some(alert)) => alert,
            (None, None) => {
                return Err(wrong("the row has no `alert`: give --threshold to say which scores are one".into()));
            }
        };
        let entity = match names.get(&*line.entity.value) {
            Some(name) => name.clone(),
            None => {
                let name: Arc<str> = line.entity.value.into();
                names.insert(name.clone());
                name
            }
        };
        let series = found.entry((line.pipeline, line.detector, line.entity.kind)).or_default();
        let row = Row {
            entity: entity.clone(),
            start_ns,
            end_ns,
            score,
            alert,
            label: Label::Benign,
            events: Vec::new(),
            scored: true,
        };
        // A row's threshold is one for its score.
        let threshold = options.threshold.or(line.threshold.filter(|_| !options.tails));
        // Revisions come one after the other: the last is what the detector thought in the end.
        match series.places.entry((entity, start_ns, end_ns)) {
            std::collections::hash_map::Entry::Occupied(place) => {
                revised += 1;
                series.rows[*place.get()] = row;
                series.thresholds[*place.get()] = threshold;
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(series.rows.len());
                series.rows.push(row);
                series.thresholds.push(threshold);
            }
        }
        Ok(())
    })?;
    if found.is_empty() {
        return Err(InputError::empty(path, &nothing(options, &detectors, partial)));
    }
    let series = found.into_iter().map(|((pipeline, detector, entity_kind), built)| Series {
        pipeline,
        detector,
        entity_kind,
        threshold: built.thresholds[0].filter(|t| built.thresholds.iter().all(|o| *o == Some(*t))),
        rows: built.rows,
    });
    Ok(Scores { series: series.collect(), partial, revised })
}

fn nothing(options: &ScoreOptions, detectors: &std::collections::BTreeSet<String>, partial: usize) -> String {
    match &options.detector {
        _ if partial > 0 => format!("all {partial} rows are of partial windows: give --partial to take them"),
        Some(id) if !detectors.is_empty() => {
            let known: Vec<&str> = detectors.iter().map(String::as_str).collect();
            format!("no row of detector `{id}`; there are: {}", known.join(", "))
        }
        _ => "no scored row: was it written by `kaminari replay --scores`, and did the detectors run?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(detector: &str, entity: &str, minute: u64, more: &str) -> String {
        format!(
            r#"{{"pipeline":"p","detector":"{detector}","entity":{{"kind":"dst_addr","value":"{entity}"}},"window":{{"start":"1970-01-01T00:{minute:02}:00Z","end":"1970-01-01T00:{:02}:00Z","partial":{}}},"features":{{"a":1}},{}}}"#,
            minute + 1,
            more.contains("early"),
            more.replace("early ", ""),
        )
    }

    fn read(lines: &[String], options: &ScoreOptions) -> Result<Scores, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scores.jsonl");
        std::fs::write(&path, lines.join("\n")).unwrap();
        read_scores(&path, options).map_err(|e| e.to_string().rsplit('/').next().unwrap().to_owned())
    }

    #[test]
    fn rows_are_sorted_into_series_and_the_last_revision_counts() {
        let rows = [
            line("ae", "10.0.0.1", 0, r#""score":1.0,"alert":false,"threshold":2.0"#),
            line("limits", "10.0.0.1", 0, r#""score":null,"alert":false,"threshold":null"#),
            line("ae", "10.0.0.1", 1, r#"early "score":9.0,"alert":true,"threshold":2.0"#),
            line("ae", "10.0.0.1", 0, r#""score":3.0,"alert":true,"threshold":2.0"#),
        ];
        let scores = read(&rows, &ScoreOptions::default()).unwrap();
        assert_eq!((scores.series.len(), scores.partial, scores.revised), (2, 1, 1));
        let ae = &scores.series[0];
        assert_eq!((&*ae.detector, ae.rows.len(), ae.threshold), ("ae", 1, Some(2.0)));
        assert_eq!((ae.rows[0].score, ae.rows[0].alert), (Some(3.0), true));
        assert_eq!((ae.rows[0].start_ns, ae.rows[0].end_ns), (0, 60_000_000_000));
        assert_eq!((scores.series[1].rows[0].score, scores.series[1].threshold), (None, None));
        let all = read(&rows, &ScoreOptions { partial: true, ..Default::default() }).unwrap();
        assert_eq!((all.series[0].rows.len(), all.partial), (2, 0));
    }

    #[test]
    fn a_threshold_decides_whatever_the_rows_say() {
        let rows = [
            line("ae", "a", 0, r#""score":2.0,"alert":false"#),
            line("ae", "b", 0, r#""score":1.9,"alert":true"#),
            line("ae", "c", 0, r#""score":null"#),
        ];
        let scores = read(&rows, &ScoreOptions { threshold: Some(2.0), ..Default::default() }).unwrap();
        let alerts: Vec<bool> = scores.series[0].rows.iter().map(|r| r.alert).collect();
        assert_eq!((alerts, scores.series[0].threshold), (vec![true, false, false], Some(2.0)));
        let rows = [line("ae", "a", 0, r#""score":2.0,"tail":5.5,"alert":false,"threshold":3.0"#), rows[2].clone()];
        let tails = ScoreOptions { tails: true, threshold: Some(5.0), ..Default::default() };
        let scores = read(&rows, &tails).unwrap();
        assert_eq!((scores.series[0].rows[0].score, scores.series[0].rows[0].alert), (Some(5.5), true));
        let error = read(&rows, &ScoreOptions::default()).unwrap_err();
        assert_eq!(error, "scores.jsonl:2: the row has no `alert`: give --threshold to say which scores are one");
    }

    #[test]
    fn bad_lines_and_empty_files_say_what_is_wrong() {
        let good = line("ae", "a", 0, r#""score":2.0,"alert":false"#);
        let error = read(&[good.clone(), String::new(), "{\"x\":".into()], &ScoreOptions::default()).unwrap_err();
        assert!(error.starts_with("scores.jsonl:3: not a scored row of `kaminari replay --scores`: "), "{error}");
        let error = read(&[good.replace("00:01:00", "later")], &ScoreOptions::default()).unwrap_err();
        assert!(error.contains("scores.jsonl:1: window time `1970-01-01Tlater"), "{error}");
        let error = read(&[], &ScoreOptions::default()).unwrap_err();
        assert!(error.starts_with("scores.jsonl: no scored row"), "{error}");
        let other = ScoreOptions { detector: Some("x".into()), ..Default::default() };
        assert_eq!(read(&[good], &other).unwrap_err(), "scores.jsonl: no row of detector `x`; there are: ae");
        let early = line("ae", "a", 0, r#"early "score":2.0,"alert":false"#);
        let error = read(&[early], &ScoreOptions::default()).unwrap_err();
        assert!(error.contains("all 1 rows are of partial windows"), "{error}");
    }
}
