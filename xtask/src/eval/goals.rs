//! What is wanted of a detector, and what it did: the table and its JSON. Comes in: the JSON of `kaminari evaluate`
//! (docs/evaluate.md) per test file.

use serde_json::{Value, json};
use std::fmt::Write as _;

/// Least and most that is wanted.
pub struct Goals {
    pub f1: f64,
    pub pr_auc: f64,
    /// Share of events; 1 is all of them.
    pub event_recall: f64,
    pub false_alarms_per_day: f64,
}

/// Flow records, per destination.
pub const FLOWS: Goals = Goals { f1: 0.95, pr_auc: 0.98, event_recall: 1.0, false_alarms_per_day: 2.0 };
/// CTU-13, a whole network.
pub const CTU: Goals = Goals { f1: 0.88, pr_auc: 0.98, event_recall: 1.0, false_alarms_per_day: 10.0 };

/// One test file.
pub struct Tested {
    pub name: String,
    /// What `kaminari evaluate` says.
    pub found: Value,
    /// Scoring and evaluating it.
    pub replay_seconds: f64,
}

impl Goals {
    pub fn json(&self) -> Value {
        json!({
            "f1": self.f1, "pr_auc": self.pr_auc, "event_recall": self.event_recall,
            "false_alarms_per_day": self.false_alarms_per_day,
        })
    }

    /// Goal by goal; null where the file cannot tell: without attacks there are only false alarms.
    fn met(&self, detector: &Value) -> Value {
        let value = |name: &str| detector[name].as_f64();
        json!({
            "f1": value("f1").map(|v| v >= self.f1),
            "pr_auc": value("pr_auc").map(|v| v >= self.pr_auc),
            "event_recall": value("event_recall").map(|v| v >= self.event_recall),
            "false_alarms_per_day": value("false_alarms_per_day").map(|v| v <= self.false_alarms_per_day),
        })
    }
}

impl Tested {
    /// The evaluation, and per detector which goals it met.
    pub fn json(&self, goals: &Goals) -> Value {
        let mut evaluation = self.found.clone();
        if let Some(detectors) = evaluation["detectors"].as_array_mut() {
            for detector in detectors {
                detector["goals_met"] = goals.met(detector);
            }
        }
        json!({"name": self.name, "seconds": self.replay_seconds, "evaluation": evaluation})
    }
}

/// A row per test file and detector, the goals below. What misses its goal has a `!`.
pub fn table(tested: &[Tested], goals: &Goals) -> String {
    let head = [
        "test",
        "detector",
        "windows",
        "attacks",
        "precision",
        "recall",
        "F1",
        "ROC-AUC",
        "PR-AUC",
        "events",
        "false alarms/day",
        "delay",
    ];
    let mut rows = vec![head.map(String::from)];
    let mut missed = Vec::new();
    for test in tested {
        for detector in test.found["detectors"].as_array().into_iter().flatten() {
            rows.push(row(&test.name, detector, &goals.met(detector)));
            for event in detector["missed"].as_array().into_iter().flatten() {
                let word = |name: &str| event[name].as_str().unwrap_or("").to_owned();
                let (id, kind, entity, start) = (word("event"), word("kind"), word("entity"), word("start"));
                missed.push(format!("missed in {}: event {id} {kind} on {entity} at {start}", test.name));
            }
        }
    }
    let all = if goals.event_recall >= 1.0 { "all".to_owned() } else { format!("{:.2}", goals.event_recall) };
    let mut wanted: [String; 12] = std::array::from_fn(|_| String::new());
    wanted[0] = "goal".into();
    wanted[6] = format!(">= {:.2}", goals.f1);
    wanted[8] = format!(">= {:.2}", goals.pr_auc);
    wanted[9] = all;
    wanted[10] = format!("<= {}", goals.false_alarms_per_day);
    rows.push(wanted);
    let mut out = aligned(&rows);
    for line in missed {
        writeln!(out, "{line}").expect("a string takes everything");
    }
    out
}

fn row(test: &str, d: &Value, met: &Value) -> [String; 12] {
    let mark = |name: &str| if met[name] == json!(false) { " !" } else { "" };
    let share = |name: &str| d[name].as_f64().map_or("-".into(), |v| format!("{v:.4}"));
    let count = |name: &str| d[name].as_u64().map_or("-".into(), |v| v.to_string());
    let tenths = |v: &Value, n: usize| v.as_f64().map_or("-".into(), |v| format!("{v:.n$}"));
    let events = match d["events"].as_u64() {
        Some(0) | None => "-".into(),
        Some(all) => format!("{}/{all}{}", count("events_found"), mark("event_recall")),
    };
    [
        test.into(),
        d["detector"].as_str().unwrap_or("?").into(),
        count("rows"),
        count("attacks"),
        share("precision"),
        share("recall"),
        share("f1") + mark("f1"),
        share("roc_auc"),
        share("pr_auc") + mark("pr_auc"),
        events,
        tenths(&d["false_alarms_per_day"], 1) + mark("false_alarms_per_day"),
        tenths(&d["delay_windows"]["mean"], 2),
    ]
}

/// Columns as wide as their widest cell.
fn aligned(rows: &[[String; 12]]) -> String {
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; 12] = std::array::from_fn(width);
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end()).expect("a string takes everything");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tested(name: &str, detector: Value) -> Tested {
        Tested { name: name.into(), found: json!({"detectors": [detector]}), replay_seconds: 1.0 }
    }

    #[test]
    fn goals_stand_beside_the_figures() {
        let good = json!({"detector": "ae", "rows": 1700, "attacks": 75, "precision": 0.9, "recall": 0.9, "f1": 0.88,
            "roc_auc": 0.999, "pr_auc": 0.981, "events": 5, "events_found": 5, "event_recall": 1.0,
            "false_alarms_per_day": 10.0, "delay_windows": {"mean": 0.25}, "missed": []});
        let mut bad = good.clone();
        for (name, value) in
            [("f1", 0.8799), ("pr_auc", 0.9799), ("event_recall", 0.8), ("false_alarms_per_day", 10.01)]
        {
            bad[name] = json!(value);
        }
        bad["events_found"] = json!(4);
        bad["missed"] = json!([{"event": "3", "kind": "", "entity": "*", "start": "then"}]);
        // No attack in it: only false alarms can be told.
        let benign = json!({"detector": "ae", "rows": 10, "attacks": 0, "precision": null, "recall": null, "f1": null,
            "roc_auc": null, "pr_auc": null, "events": 0, "events_found": 0, "event_recall": null,
            "false_alarms_per_day": 0.5, "delay_windows": {"mean": null}, "missed": []});
        let all = [tested("a", good), tested("b", bad), tested("c", benign)];
        let text = table(&all, &CTU);
        let words: Vec<String> = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(words[1], "a ae 1700 75 0.9000 0.9000 0.8800 0.9990 0.9810 5/5 10.0 0.25");
        assert_eq!(words[2], "b ae 1700 75 0.9000 0.9000 0.8799 ! 0.9990 0.9799 ! 4/5 ! 10.0 ! 0.25");
        assert_eq!(words[3], "c ae 10 0 - - - - - - 0.5 -");
        assert_eq!(words[4], "goal >= 0.88 >= 0.98 all <= 10");
        assert_eq!(words[5], "missed in b: event 3 on * at then");
        let met = all[1].json(&CTU)["evaluation"]["detectors"][0]["goals_met"].clone();
        assert_eq!(met, json!({"f1": false, "pr_auc": false, "event_recall": false, "false_alarms_per_day": false}));
        let met = all[2].json(&CTU)["evaluation"]["detectors"][0]["goals_met"].clone();
        assert_eq!(met, json!({"f1": null, "pr_auc": null, "event_recall": null, "false_alarms_per_day": true}));
    }
}
