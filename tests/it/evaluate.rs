//! `kaminari evaluate` on scores made by hand: every figure below was worked out on paper.

use kaminari_tests::run;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Output;

/// A window of one minute. `alert` left out where it is null.
fn row(host: &str, minute: u64, score: Value, alert: Value) -> Value {
    let time = |m: u64| format!("2026-01-01T00:{m:02}:00Z");
    let mut row = json!({
        "pipeline": "edge", "detector": "ae",
        "entity": {"kind": "dst_addr", "value": host},
        "window": {"start": time(minute), "end": time(minute + 1), "partial": false, "revision": 0},
        "score": score, "threshold": 0.5, "features": {"flows": 3.0},
    });
    if !alert.is_null() {
        row["alert"] = alert;
    }
    row
}

/// Ten minutes. 10.0.0.1 is attacked in minutes 2 to 4, found in 3 and 4; 10.0.0.2 in minute 6, missed; 10.0.0.3 is
/// not attacked and alerted in 0, 1 and 8.
fn scores() -> Vec<Value> {
    let mut rows = vec![
        row("10.0.0.1", 2, json!(0.3), json!(false)),
        row("10.0.0.1", 3, json!(0.9), json!(true)),
        row("10.0.0.1", 4, json!(0.7), json!(true)),
        row("10.0.0.1", 5, json!(0.1), json!(false)),
        row("10.0.0.2", 6, json!(null), json!(false)),
        row("10.0.0.3", 0, json!(0.7), json!(true)),
        row("10.0.0.3", 1, json!(0.6), json!(true)),
        row("10.0.0.3", 8, json!(0.5), json!(true)),
        row("10.0.0.3", 9, json!(0.2), json!(false)),
        // Not counted: its window was not over.
        row("10.0.0.3", 7, json!(0.99), json!(true)),
    ];
    rows[9]["window"]["partial"] = json!(true);
    rows
}

/// 2026-01-01 is 1767225600. The last event lies outside of the scored time.
const EVENTS: &str = "event,start,end,kind,dst
1,1767225720,1767225900,syn-flood,10.0.0.1
2,1767225970.5,1767225990,amplification,10.0.0.2
3,1767312000,1767312001,amplification,10.0.0.3
";

fn put(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|r| format!("{r}\n")).collect()
}

fn evaluate(scores: &Path, labels: &Path, more: &[&str]) -> Output {
    let paths = ["--scores", scores.to_str().unwrap(), "--labels", labels.to_str().unwrap()];
    run(["evaluate"].iter().chain(&paths).chain(more))
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn near(found: &Value, expect: f64) {
    assert!(found.as_f64().is_some_and(|f| (f - expect).abs() < 1e-9), "{found}, not {expect}");
}

/// A diagnostic without what wrapping puts in, in the middle of a path too.
fn squashed(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_whitespace() && *c != '│').collect()
}

#[test]
fn figures_of_scores_made_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let scores = put(dir.path(), "scores.jsonl", &lines(&scores()));
    let labels = put(dir.path(), "events.csv", EVENTS);
    let (page, file) = (dir.path().join("page.html"), dir.path().join("out.json"));
    let more = ["--format", "json", "--plot", page.to_str().unwrap(), "--output", file.to_str().unwrap()];
    let output = evaluate(&scores, &labels, &more);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let all = json_of(&output);
    assert_eq!((&all["partial_rows"], &all["events_outside"]), (&json!(1), &json!(1)));
    assert_eq!(all["scored"], json!({"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:10:00Z"}));
    let d = &all["detectors"][0];
    assert_eq!((&d["pipeline"], &d["detector"], &d["entity_kind"]), (&json!("edge"), &json!("ae"), &json!("dst_addr")));
    let counts = ["rows", "attacks", "ignored", "no_opinion", "alerts", "hits", "events", "events_found"];
    assert_eq!(counts.map(|name| d[name].as_u64().unwrap()), [9, 4, 0, 1, 5, 2, 2, 1]);
    near(&d["precision"], 2.0 / 5.0);
    near(&d["recall"], 2.0 / 4.0);
    near(&d["f1"], 4.0 / 9.0);
    // Attacks 0.9, 0.7, 0.3, none; benign 0.7, 0.6, 0.5, 0.2, 0.1. 0.9 beats 5; 0.7 beats 4 and ties one; 0.3 beats 2;
    // no score beats none: 5 + 4.5 + 2 of 20.
    near(&d["roc_auc"], 11.5 / 20.0);
    // Precision where attacks come: 1/1; 2/3 (0.7 is shared with a benign row); 3/6; 4/9.
    near(&d["pr_auc"], (1.0 + 2.0 / 3.0 + 0.5 + 4.0 / 9.0) / 4.0);
    near(&d["event_recall"], 0.5);
    // Minutes 0 and 1 are one alarm, 8 is another; ten minutes are 1/144 of a day.
    near(&d["false_alarms"], 2.0);
    near(&d["false_alarms_per_day"], 288.0);
    // Found in the second window of the event.
    assert_eq!(d["delay_windows"], json!({"mean": 1.0, "median": 1.0, "max": 1.0}));
    assert_eq!(d["missed"][0]["event"], "2");
    assert_eq!(d["missed"][0]["kind"], "amplification");
    assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(file).unwrap()).unwrap(), all);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.matches("<svg").count() == 4);
}

#[test]
fn text_is_for_a_person() {
    let dir = tempfile::tempdir().unwrap();
    let scores = put(dir.path(), "scores.jsonl", &lines(&scores()));
    let labels = put(dir.path(), "events.csv", EVENTS);
    let text = String::from_utf8(evaluate(&scores, &labels, &[]).stdout).unwrap();
    for line in [
        "left out: 1 events outside of the scored time, 1 rows of partial windows",
        "ae, pipeline edge, by dst_addr",
        "  windows                 9: 4 attack, 0 ignored, 1 without a score",
        "  precision, recall, F1   0.400, 0.500, 0.444",
        "  events found            1 of 2",
        "  false alarms            2 in 0.01 days: 288.0 a day",
        "  missed                  event 2 amplification on 10.0.0.2, 2026-01-01T00:06:10.5Z to 2026-01-01T00:06:30Z",
    ] {
        assert!(text.lines().any(|l| l == line), "no line `{line}` in\n{text}");
    }
}

#[test]
fn a_threshold_and_partial_windows_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let bare: Vec<Value> = scores()
        .into_iter()
        .map(|mut r| {
            r.as_object_mut().unwrap().remove("alert");
            r
        })
        .collect();
    let scores = put(dir.path(), "scores.jsonl", &lines(&bare));
    let labels = put(dir.path(), "events.csv", EVENTS);
    let output = evaluate(&scores, &labels, &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = squashed(&output.stderr);
    assert!(told.contains("give--threshold"), "{told}");
    let d = json_of(&evaluate(&scores, &labels, &["--threshold", "0.7", "--partial", "--format", "json"]));
    let d = &d["detectors"][0];
    // 0.9, 0.7 and the benign 0.7 and 0.99: the last one is of a partial window.
    assert_eq!(
        (&d["rows"], &d["alerts"], &d["hits"], &d["threshold"]),
        (&json!(10), &json!(4), &json!(2), &json!(0.7))
    );
}

#[test]
fn incidents_are_held_against_the_same_labels() {
    let dir = tempfile::tempdir().unwrap();
    let event = |name: &str, id: &str, host: &str, minute: u64| {
        let time = |m: u64| format!("2026-01-01T00:{m:02}:00Z");
        json!({
            "event": name, "incident_id": id, "pipeline": "edge", "entity": {"kind": "dst_addr", "value": host},
            "window": {"start": time(minute), "end": time(minute + 1)}, "opened_at": time(4),
        })
    };
    let told =
        [event("open", "a", "10.0.0.1", 3), event("close", "a", "10.0.0.1", 8), event("open", "b", "10.0.0.3", 1)];
    let scores = put(dir.path(), "scores.jsonl", &lines(&scores()));
    let labels = put(dir.path(), "events.csv", EVENTS);
    let incidents = put(dir.path(), "incidents.jsonl", &lines(&told));
    let more = ["--format", "json", "--incidents", incidents.to_str().unwrap()];
    let all = json_of(&evaluate(&scores, &labels, &more));
    let i = &all["incidents"][0];
    let counts = ["incidents", "correct", "wrong", "ignored", "events", "events_found"];
    assert_eq!(counts.map(|name| i[name].as_u64().unwrap()), [2, 1, 1, 0, 2, 1]);
    near(&i["wrong_per_day"], 144.0);
    // The event began in minute 2, the incident opened at minute 4.
    assert_eq!(i["delay_seconds"], json!({"mean": 120.0, "median": 120.0, "max": 120.0}));
    assert_eq!(i["missed"][0]["event"], "2");
}

#[test]
fn a_file_without_an_attack_has_false_alarms_only() {
    let dir = tempfile::tempdir().unwrap();
    let scores = put(dir.path(), "scores.jsonl", &lines(&scores()));
    // A table without an entity: a label holds for everybody. One of a minute each, all of them 0.
    let table: String = (0..10).map(|m| format!("{},0\n", 1_767_225_600 + m * 60)).collect();
    let labels = put(dir.path(), "labels.csv", &format!("time,botnet\n{table}"));
    let output = evaluate(&scores, &labels, &["--label-column", "botnet", "--format", "json"]);
    let all = json_of(&output);
    let d = &all["detectors"][0];
    for name in ["precision", "recall", "f1", "roc_auc", "pr_auc", "event_recall"] {
        assert_eq!(d[name], Value::Null, "{name}");
    }
    // 10.0.0.1 in 3 and 4, 10.0.0.3 in 0 and 1, and in 8.
    assert_eq!((&d["alerts"], &d["false_alarms"]), (&json!(5), &json!(3)));
    near(&d["false_alarms_per_day"], 432.0);
}

#[test]
fn bad_input_is_told_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let good = put(dir.path(), "scores.jsonl", &lines(&scores()));
    let labels = put(dir.path(), "events.csv", EVENTS);
    let told = |scores: &Path, labels: &Path, more: &[&str]| {
        let output = evaluate(scores, labels, more);
        assert_eq!(output.status.code(), Some(1));
        squashed(&output.stderr)
    };
    let empty = put(dir.path(), "empty", "");
    let broken = put(dir.path(), "broken.jsonl", &(lines(&scores()[..1]) + "nonsense\n"));
    let nowhere = dir.path().join("nowhere");
    let table = put(dir.path(), "table.csv", "t,bot\n1,2\n");
    for (found, part) in [
        (told(&empty, &labels, &[]), "empty:noscoredrow"),
        (told(&good, &empty, &[]), "empty:thefileisempty"),
        (told(&broken, &labels, &[]), "broken.jsonl:2:notascoredrow"),
        (told(&nowhere, &labels, &[]), "nowhere:Nosuchfile"),
        (told(&good, &table, &[]), "itscolumnsare:t,bot"),
        (told(&good, &table, &["--label-column", "label"]), "nocolumn`time`;thereare:t,bot"),
        (told(&good, &labels, &["--detector", "x"]), "norowofdetector`x`;thereare:ae"),
    ] {
        assert!(found.contains(part), "{part} is not in {found}");
    }
}

#[test]
fn labels_of_another_time_or_network_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let scores = put(dir.path(), "scores.jsonl", &lines(&scores()));
    let warned = |labels: &str| {
        let labels = put(dir.path(), "labels.csv", labels);
        let output = evaluate(&scores, &labels, &[]);
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let told = warned("event,start,end,dst\n1,120,180,10.0.0.1\n");
    assert!(
        told.starts_with("warning: none of the 1 events lies in the scored time, 2026-01-01T00:00:00Z to "),
        "{told}"
    );
    let told = warned("event,start,end,dst\n1,1767225720,1767225900,192.0.2.1\n");
    assert!(told.starts_with("warning: 1 attacked entity has no score from ae: 192.0.2.1."), "{told}");
}
