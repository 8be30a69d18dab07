//! Windows that another system has counted: rows of features in, model and figures out.

use super::*;
use std::fmt::Write;

/// The whole network in windows of 60 s. `more` goes into the table of the pipeline.
fn place() -> Place {
    Place::new(&format!(
        "[sources.windows]
         type = \"file\"
         paths = [\"unused.csv\"]
         decode = {{ format = \"csv\" }}

         # Another pipeline, of flow records: rows are not for it.
         [sources.edge]
         type = \"udp\"
         listen = \"127.0.0.1:0\"

         [models.network]
         path = \"model\"
         train = {{ pipeline = \"network\", hidden = [4, 2, 4], seeds = 1, epochs = 2 }}

         [plugins.autoencoder]
         path = {:?}
         inference = [\"network\"]

         [plugins.threshold]
         path = {:?}

         [detectors.odd]
         plugin = \"autoencoder\"
         config = {{ model = \"network\", false_alarms_per_day = 0.1 }}

         [detectors.limits]
         plugin = \"threshold\"
         config = {{ limits = [ {{ name = \"flood\", feature = \"packets\", above = 1e9 }} ] }}

         [pipelines.network]
         sources = [\"windows\"]
         rows = {{ time = \"t\", window_secs = 60 }}
         features = [\"flows\", \"bytes\", \"udp / flows\"]
         detectors = [\"odd\"]
         sinks = [\"out\"]
         incident = {{ open_after = \"1/1\" }}

         [pipelines.hosts]
         sources = [\"edge\"]
         keys = [\"dst_addr\"]
         features = [\"packets\"]
         detectors = [\"limits\"]
         sinks = [\"out\"]
         window = {{ type = \"sliding\", size_secs = 10 }}

         [sinks.out]
         type = \"stdout\"\n",
        plugin("autoencoder"),
        plugin("threshold")
    ))
}

/// 2026-01-01T00:00:00Z.
const START: u64 = 1_767_225_600;

/// `minutes` rows from minute `from` on; in `attacked` ones UDP makes most of many flows.
fn windows(from: u64, minutes: u64, attacked: &[u64]) -> String {
    let mut out = String::from("t,flows,bytes,udp,attack,remark\n");
    let mut state = 7 + from;
    for minute in from..from + minutes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let noise = |shift: u32| f64::from((state >> shift) as u16) / 65_536.0;
        let day = (minute as f64 / 120.0).sin();
        let attack = attacked.contains(&minute);
        let flows = (1000.0 + 300.0 * day + 100.0 * noise(20)) * if attack { 6.0 } else { 1.0 };
        let bytes = flows * (800.0 + 100.0 * noise(30)) * if attack { 0.2 } else { 1.0 };
        let udp = flows * if attack { 0.95 } else { 0.1 + 0.05 * noise(40) };
        writeln!(out, "{},{flows:.0},{bytes:.0},{udp:.0},{},-", START + minute * 60, u8::from(attack)).unwrap();
    }
    out
}

const TRAIN: &str = "train -c kaminari.toml --input benign.csv";
const REPLAY: &str = "replay -c kaminari.toml --source windows --scores scores.jsonl --input";

#[test]
fn rows_train_a_model_and_are_evaluated() {
    let place = place();
    place.put("benign.csv", &windows(0, 1200, &[]));
    place.put("later.csv", &windows(1200, 400, &[]));
    place.put("test.csv", &windows(1600, 200, &[1700, 1701, 1702]));
    let report = place.ok(&format!("{TRAIN} --validation later.csv"));
    assert!(report.contains("level network, windows of 60 s") && report.contains("udp / flows"), "{report}");
    assert!(report.contains("training    1 200 rows") && report.contains("validation  400 rows"), "{report}");

    let events = lines(&place.ok(&format!("{REPLAY} test.csv")));
    let open = opened(&events);
    assert_eq!((&open["pipeline"], &open["entity"]["kind"]), (&"network".into(), &"network".into()));
    assert_eq!(
        (&open["window"]["start"], &open["evidence"][0]["feature"]),
        (&"2026-01-02T04:20:00Z".into(), &"udp / flows".into()),
        "{open}"
    );
    assert_eq!(events.iter().filter(|e| e["event"] == "open").count(), 1);

    let labels = "--labels test.csv --label-column attack --label-time t --format json";
    let report: Value = serde_json::from_str(&place.ok(&format!("evaluate --scores scores.jsonl {labels}"))).unwrap();
    let d = &report["detectors"][0];
    let counts = ["rows", "attacks", "hits", "events", "events_found"].map(|n| d[n].as_u64().unwrap());
    assert_eq!(counts, [200, 3, 3, 1, 1], "{report:#}");
    assert!(d["roc_auc"].as_f64().unwrap() > 0.99 && d["false_alarms"].as_f64() == Some(0.0), "{report:#}");
}

#[test]
fn a_row_with_an_empty_cell_is_not_learned_from_and_has_no_score() {
    let place = place();
    let spoilt = |text: &str, minute: u64| {
        let start = format!("{},", START + minute * 60);
        let spoil = |line: &str| match line.strip_prefix(&start) {
            Some(rest) => format!("{start}{}\n", &rest[rest.find(',').unwrap()..]),
            None => format!("{line}\n"),
        };
        text.lines().map(spoil).collect::<String>()
    };
    place.put("benign.csv", &spoilt(&windows(0, 1200, &[]), 5));
    let report = place.ok(TRAIN);
    assert!(report.contains("note: 1 training rows were left out: a feature was not finite"), "{report}");

    // The attack of which a number is missing is no alert, and no harm to the rows beside it.
    place.put("test.csv", &spoilt(&windows(1200, 30, &[1210, 1212]), 1212));
    let events = lines(&place.ok(&format!("{REPLAY} test.csv")));
    assert_eq!(opened(&events)["windows_alerted"], 1);
    let rows = place.scores("scores.jsonl", "odd");
    assert_eq!(rows.len(), 30);
    for (row, minute) in rows.iter().zip(1200..) {
        assert_eq!(row["score"].is_null(), minute == 1212, "{row}");
        assert_eq!(row["tail"].is_null(), minute == 1212, "{row}");
        assert_eq!(row["alert"], minute == 1210, "{row}");
        assert_eq!(row["features"]["flows"].is_null(), minute == 1212, "{row}");
    }
}

#[test]
fn rows_that_cannot_be_learned_from_are_told() {
    let place = place();
    place.put("benign.csv", "t,flows,bytes\n1,2,3\n");
    let told = place.fails(1, TRAIN);
    assert!(told.contains("there is no column `udp` in the rows; they have t, flows, bytes"), "{told}");

    let nothing = |text: String| {
        let lines =
            text.lines().map(|l| l.replace(",-", "").splitn(4, ',').take(3).collect::<Vec<_>>().join(",") + ",");
        lines.collect::<Vec<_>>().join("\n").replacen("bytes,", "bytes,udp", 1) + "\n"
    };
    place.put("benign.csv", &nothing(windows(0, 400, &[])));
    let told = place.fails(1, TRAIN);
    assert!(told.contains("feature `udp / flows` has no finite value in"), "{told}");

    place.put("benign.csv", &windows(0, 100, &[]));
    let told = place.fails(1, TRAIN);
    assert!(told.contains("training rows are too few, at least 200 are needed; take more traffic"), "{told}");

    place.put("benign.csv", "t,flows,bytes,udp\n");
    let told = place.fails(1, TRAIN);
    assert!(told.contains("benign.csv: no whole window of pipeline `network` has a row"), "{told}");
    assert!(!place.path("model").exists());
}

/// The same configuration has a pipeline of rows and one of flow records: a replayed file is for one kind.
#[test]
fn a_replay_feeds_rows_to_pipelines_of_rows_and_flows_to_the_others() {
    let place = place();
    place.put("benign.csv", &windows(0, 1200, &[]));
    place.ok(TRAIN);
    let pipelines = || {
        let rows = lines(&place.text("scores.jsonl"));
        rows.iter().map(|r| r["pipeline"].as_str().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    place.ok(&format!("{REPLAY} benign.csv"));
    assert_eq!(pipelines().into_iter().collect::<Vec<_>>(), ["network"]);
    place.ok(&format!("replay -c kaminari.toml --source edge --scores scores.jsonl --input {}", benign()));
    assert_eq!(pipelines().into_iter().collect::<Vec<_>>(), ["hosts"]);
}
