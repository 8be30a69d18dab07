//! The engine on the series: `kaminari replay --scores`, a run per series, all detectors of the configuration in it.
//! Scores come back per window and go to the rows they are of, in the order of the file. A row that the engine did not
//! take (its window had gone) or had no opinion on has none.

use crate::data::Series;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::process::{Command, Stdio};

/// Length of the windows, as the configuration has it.
const WINDOW_SECS: i64 = 300;

/// Scores by detector: per series, per row; NaN where there is none. `kaminari` makes a fresh command of the engine.
pub fn run(
    kaminari: impl Fn() -> Command,
    config: &Path,
    series: &[Series],
    scratch: &Path,
) -> Result<BTreeMap<String, Vec<Vec<f64>>>> {
    let mut all: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
    let file = scratch.join("scores.jsonl");
    for (i, one) in series.iter().enumerate() {
        let mut replay = kaminari();
        replay.args(["--quiet", "replay", "-c"]).arg(config).arg("--input").arg(&one.file).arg("--scores").arg(&file);
        let output = replay.stdout(Stdio::null()).output().context("cannot start kaminari")?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kaminari replay of {} failed: {why}", one.name);
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for (detector, scores) in rows(one, &text).with_context(|| format!("in the scores of {}", one.name))? {
            let of = all.entry(detector).or_default();
            ensure!(of.len() == i, "a detector scored some series only");
            of.push(scores);
        }
    }
    ensure!(all.values().all(|of| of.len() == series.len()), "a detector scored some series only");
    Ok(all)
}

/// The scores of one replay, by detector, per row.
fn rows(series: &Series, lines: &str) -> Result<BTreeMap<String, Vec<f64>>> {
    let mut told: BTreeMap<String, BTreeMap<i64, VecDeque<f64>>> = BTreeMap::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line)?;
        let detector = line["detector"].as_str().context("a line without a detector")?;
        let start = line["window"]["start"].as_str().context("a line without a window")?;
        let start = start.parse::<jiff::Timestamp>()?.as_second();
        let score = line["score"].as_f64().unwrap_or(f64::NAN);
        told.entry(detector.to_owned()).or_default().entry(start).or_default().push_back(score);
    }
    told.into_iter().map(|(detector, told)| Ok((detector, place(series, told)?))).collect()
}

/// Rows of one window have its scores in their order; rows of a window that had gone have none.
fn place(series: &Series, mut told: BTreeMap<i64, VecDeque<f64>>) -> Result<Vec<f64>> {
    let mut open = i64::MIN;
    let mut scores = Vec::with_capacity(series.times.len());
    for time in &series.times {
        let window = time - time.rem_euclid(WINDOW_SECS);
        let score = if window < open { Some(f64::NAN) } else { told.get_mut(&window).and_then(VecDeque::pop_front) };
        scores.push(score.context("a row was not judged")?);
        open = open.max(window);
    }
    ensure!(told.values().all(VecDeque::is_empty), "more scores than rows");
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(times: &[i64]) -> Series {
        Series { name: "x".into(), file: "x".into(), times: times.to_vec(), windows: Vec::new() }
    }

    fn line(start: &str, score: &str) -> String {
        format!(r#"{{"detector":"d","window":{{"start":"1970-01-01T{start}Z"}},"score":{score}}}"#)
    }

    #[test]
    fn scores_go_to_their_rows_in_the_order_of_the_file() {
        // Two rows share a window, one comes too late.
        let s = series(&[0, 300, 310, 10, 600]);
        let lines = [line("00:00:00", "null"), line("00:05:00", "1"), line("00:05:00", "2"), line("00:10:00", "3")];
        let scores = rows(&s, &lines.join("\n")).unwrap().remove("d").unwrap();
        assert_eq!((&scores[1..3], scores[4]), (&[1.0, 2.0][..], 3.0));
        assert!(scores[0].is_nan() && scores[3].is_nan());
        assert!(rows(&s, &lines[..3].join("\n")).unwrap_err().to_string().contains("was not judged"));
        let more = [&lines[..], &lines[3..]].concat().join("\n");
        assert!(rows(&s, &more).unwrap_err().to_string().contains("more scores"));
    }
}
