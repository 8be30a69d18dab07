use super::super::metrics::evaluate;
use super::*;
use std::sync::Arc;

const SECOND: u64 = 1_000_000_000;

fn row(entity: &str, start: u64, end: u64) -> Row {
    Row {
        entity: Arc::from(entity),
        start_ns: start * SECOND,
        end_ns: end * SECOND,
        score: Some(0.0),
        alert: false,
        label: Label::Benign,
        events: Vec::new(),
        scored: true,
    }
}

/// `minutes` windows of 60 s of each.
fn series(kind: &str, entities: &[&str], minutes: u64) -> Series {
    let rows = entities.iter().flat_map(|e| (0..minutes).map(|m| row(e, m * 60, m * 60 + 60))).collect();
    Series { pipeline: "p".into(), detector: "ae".into(), entity_kind: kind.into(), rows, threshold: None }
}

fn options() -> LabelOptions {
    LabelOptions { time_unit: TimeUnit::Seconds, flows: None, flow_time: FlowTime::Start, table: None }
}

fn table() -> TableOptions {
    TableOptions {
        time: "t".into(),
        entity: None,
        label: "bot".into(),
        attack_above: 50.0,
        ignore_above: Some(0.0),
        event: None,
        pause_ns: 60 * SECOND,
    }
}

/// The labels that this text is.
fn labels(text: &str, options: &LabelOptions) -> Result<Labels, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels");
    std::fs::write(&path, text).unwrap();
    Labels::read(&path, options).map_err(|e| bare(&e.to_string()))
}

/// A message without the folders of its paths.
fn bare(text: &str) -> String {
    text.split(' ').map(|word| word.rsplit('/').next().unwrap_or(word)).collect::<Vec<_>>().join(" ")
}

fn with_flows(text: &str, flows: &str, time: FlowTime) -> Result<Labels, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flows.csv");
    std::fs::write(&path, flows).unwrap();
    labels(text, &LabelOptions { flows: Some(path), flow_time: time, ..options() })
}

/// `entity@minute` of the rows with that label.
fn rows_of(series: &Series, label: Label) -> Vec<String> {
    let rows = series.rows.iter().filter(|r| r.label == label);
    rows.map(|r| format!("{}@{}{}", r.entity, r.start_ns / SECOND / 60, if r.scored { "" } else { " unscored" }))
        .collect()
}

const EVENTS: &str =
    "event,start,end,kind,dst\n1,70,120,syn,10.0.0.1\n2,130,250,amp,10.0.0.2\n3,99999,99999.5,amp,10.0.0.2\n";

#[test]
fn without_flows_a_window_is_an_attack_when_it_overlaps_the_event() {
    let mut s = series("dst_addr", &["10.0.0.1", "10.0.0.2"], 6);
    let found = labels(EVENTS, &options()).unwrap().apply(&mut s);
    // The end is exclusive: event 1 ends where minute 2 begins.
    assert_eq!(rows_of(&s, Label::Attack), ["10.0.0.1@1", "10.0.0.2@2", "10.0.0.2@3", "10.0.0.2@4"]);
    assert_eq!((found.events.len(), found.outside, found.warnings.len()), (2, 1, 0));
    assert_eq!(s.rows[1].events, [0]);
}

#[test]
fn a_prefix_is_attacked_with_its_host_and_a_host_perhaps_with_its_prefix() {
    let mut s = series("dst_prefix", &["10.0.0.0/24", "10.0.1.0/24"], 2);
    labels(EVENTS, &options()).unwrap().apply(&mut s);
    assert_eq!(rows_of(&s, Label::Attack), ["10.0.0.0/24@1"]);
    let carpet = "event,start,end,kind,dst\n1,0,60,carpet,10.0.0.0/24\n";
    let mut s = series("dst_addr", &["10.0.0.1", "10.0.1.1"], 1);
    let found = labels(carpet, &options()).unwrap().apply(&mut s);
    assert_eq!(
        (rows_of(&s, Label::Ignored), rows_of(&s, Label::Benign)),
        (vec!["10.0.0.1@0".into()], vec!["10.0.1.1@0".into()])
    );
    assert_eq!(found.warnings, [""; 0]);
    let mut s = series("src_addr", &["10.0.0.1"], 2);
    let found = labels(EVENTS, &options()).unwrap().apply(&mut s);
    assert_eq!(rows_of(&s, Label::Ignored).len(), 2);
    assert!(found.warnings[0].contains("nothing of src_addr"), "{:?}", found.warnings);
}

#[test]
fn with_flows_a_window_is_an_attack_when_it_holds_a_flow_of_one() {
    let flows = "ts,dur,dst,event\n5,0,10.0.0.1,0\n75,50,10.0.0.1,1\n131,0,10.0.0.2,2\n249,0,10.0.0.2,2\n";
    let mut s = series("dst_addr", &["10.0.0.1", "10.0.0.2"], 6);
    with_flows(EVENTS, flows, FlowTime::Start).unwrap().apply(&mut s);
    assert_eq!(rows_of(&s, Label::Attack), ["10.0.0.1@1", "10.0.0.2@2", "10.0.0.2@4"]);
    // By its end the first flow is of minute 2, and the event lasts until then.
    let mut s = series("dst_addr", &["10.0.0.1", "10.0.0.2"], 6);
    let found = with_flows(EVENTS, flows, FlowTime::End).unwrap().apply(&mut s);
    assert_eq!(rows_of(&s, Label::Attack), ["10.0.0.1@2", "10.0.0.2@2", "10.0.0.2@4"]);
    assert_eq!(found.events[0].end_ns, 125 * SECOND + 1);
    let mut s = series("dst_prefix", &["10.0.0.0/24"], 6);
    with_flows(EVENTS, flows, FlowTime::Start).unwrap().apply(&mut s);
    assert_eq!(rows_of(&s, Label::Attack), ["10.0.0.0/24@1", "10.0.0.0/24@2", "10.0.0.0/24@4"]);
}

#[test]
fn attacks_that_were_never_scored_are_misses() {
    let flows = "ts,dst,event\n75,10.0.0.1,1\n131,10.0.0.2,2\n249,10.0.0.2,2\n";
    let mut s = series("dst_addr", &["10.0.0.1"], 6);
    let found = with_flows(EVENTS, flows, FlowTime::Start).unwrap().apply(&mut s);
    assert_eq!(rows_of(&s, Label::Attack), ["10.0.0.1@1", "10.0.0.2@2 unscored", "10.0.0.2@4 unscored"]);
    assert!(found.warnings[0].starts_with("1 attacked entity has no score from ae: 10.0.0.2."), "{:?}", found.warnings);
    let m = evaluate(&s.rows, &found.events);
    assert_eq!((m.rows, m.attacks, m.unscored_attacks, m.events, m.recall), (6, 3, 2, 2, Some(0.0)));
}

#[test]
fn oddities_are_told() {
    let mut s = series("dst_addr", &["10.0.0.1"], 1);
    let found = labels("event,start,end,dst\n1,1e9,1.1e9,10.0.0.1\n", &options()).unwrap().apply(&mut s);
    assert!(
        found.warnings[0].starts_with("none of the 1 events lies in the scored time, 1970-01-01T00:00:00Z"),
        "{:?}",
        found.warnings
    );
    let mut s = series("dst_addr", &["10.0.0.1", "10.0.0.2"], 6);
    let found = with_flows(EVENTS, "ts,dst,event\n75,10.0.0.1,1\n", FlowTime::Start).unwrap().apply(&mut s);
    assert_eq!(found.warnings, ["no flow belongs to event 2: left out"]);
    assert_eq!(found.events.len(), 1);
}

#[test]
fn bad_files_are_refused() {
    let error = |text: &str| labels(text, &options()).unwrap_err();
    assert!(error("").contains("the file is empty"));
    assert!(error("t,bot\n1,2\n").ends_with("a table of labels; its columns are: t, bot"), "{}", error("t,bot\n1,2\n"));
    assert_eq!(error("event,start,end\n1,2,3\n"), "labels: no column `dst`; there are: event, start, end");
    assert_eq!(error("event,start,end,dst\n1,3,2,a\n"), "labels:2: the event ends before it begins");
    assert!(error("event,start,end,dst\n1,x,2,a\n").starts_with("labels:2: `start` is `x`, neither"));
    assert!(
        error("{\"attack\":1}\n").starts_with("labels:1: not a line of `kaminari generate --truth`: missing field")
    );
    let flows = |text: &str| with_flows(EVENTS, text, FlowTime::Start).unwrap_err();
    assert!(flows("ts,dst,event\n1,10.0.0.1,9\n").starts_with("flows.csv:2: event `9` does not stand in labels"));
    assert_eq!(flows("ts,src\n"), "flows.csv: no column `dst`; there are: ts, src");
    assert_eq!(flows("ts,dst,event\n"), "flows.csv: no flows");
    let t = LabelOptions { table: Some(table()), ..options() };
    assert_eq!(labels("t,b\n1,2\n", &t).unwrap_err(), "labels: no column `bot`; there are: t, b");
    assert_eq!(labels("t,bot\n1,\n", &t).unwrap_err(), "labels:2: `bot` is ``, no number");
    assert_eq!(labels("t,bot\n", &t).unwrap_err(), "labels: no rows");
}

#[test]
fn our_own_truth_is_a_list_of_events() {
    let truth = r#"{"attack":0,"kind":"syn-flood","entity":"dst_addr","target":"10.0.0.1","start_ns":70000000000,"end_ns":110000000000}
{"exporter":"10.9.9.9","version":"v9","flows":1}
"#;
    let mut s = series("dst_addr", &["10.0.0.1"], 3);
    let found = labels(truth, &options()).unwrap().apply(&mut s);
    assert_eq!((rows_of(&s, Label::Attack), &*found.events[0].kind), (vec!["10.0.0.1@1".to_owned()], "syn-flood"));
}

#[test]
fn a_table_labels_windows_and_runs_are_events() {
    // Windows of 10 s: 0 benign, 1-2 attack, 3 ignored, 4 attack (same run), 5-11 benign, 12 attack, 13 not labelled.
    let mut text = String::from("t,bot\n");
    for (n, bot) in [0, 60, 51, 50, 99, 0, 0, 0, 0, 0, 0, 0, 80].iter().enumerate() {
        text += &format!("{},{bot}\n", n * 10);
    }
    let rows = (0..14).map(|n| row("net", n * 10, n * 10 + 10)).collect();
    let mut s = Series { rows, ..series("any", &[], 0) };
    let t = LabelOptions { table: Some(table()), ..options() };
    let found = labels(&text, &t).unwrap().apply(&mut s);
    let of = |label| s.rows.iter().enumerate().filter(|(_, r)| r.label == label).map(|(i, _)| i).collect::<Vec<_>>();
    assert_eq!((of(Label::Attack), of(Label::Ignored)), (vec![1, 2, 4, 12], vec![3, 13]));
    let events: Vec<_> = found.events.iter().map(|e| (e.start_ns / SECOND, e.end_ns / SECOND)).collect();
    // 50 s to 120 s: a pause of 70 s.
    assert_eq!(events, [(10, 50), (120, 130)]);
    assert_eq!(found.warnings, ["1 of 14 rows of ae have no label: ignored"]);
}

#[test]
fn a_table_may_name_entities_and_events() {
    let text = "t,who,bot,id\n0,a,99,x\n0,b,0,\n60,a,0,\n120,a,99,y\n60,c,99,z\n";
    let options = LabelOptions {
        table: Some(TableOptions { entity: Some("who".into()), event: Some("id".into()), ..table() }),
        ..options()
    };
    let mut s = series("host", &["a", "b"], 3);
    let found = labels(text, &options).unwrap().apply(&mut s);
    assert_eq!(rows_of(&s, Label::Attack), ["a@0", "a@2", "c@1 unscored"]);
    assert_eq!(found.events.iter().map(|e| &*e.id).collect::<Vec<_>>(), ["x", "y", "z"]);
    assert_eq!(rows_of(&s, Label::Ignored), ["b@1", "b@2"]);
    let mut s = series("host", &["x", "y"], 3);
    let found = labels(text, &options).unwrap().apply(&mut s);
    assert!(found.warnings[0].contains("labels are of a, b, c, scores of x, y"), "{:?}", found.warnings);
}

#[test]
fn a_wrong_unit_is_told() {
    let t = LabelOptions { table: Some(table()), time_unit: TimeUnit::Nanos, ..options() };
    let mut s = series("host", &["a", "b"], 3);
    s.rows.iter_mut().for_each(|r| (r.start_ns, r.end_ns) = (r.start_ns + SECOND, r.end_ns + SECOND));
    let found = labels("t,bot\n0,0\n60,99\n", &t).unwrap().apply(&mut s);
    assert!(found.warnings[0].starts_with("no label lies in the scored time"), "{:?}", found.warnings);
    assert!(found.warnings[1].starts_with("the labels name no entity"), "{:?}", found.warnings);
}
