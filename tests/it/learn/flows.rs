//! The way through with flow records, and that it does not matter how they come.

use super::*;
use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

#[test]
fn a_model_learned_from_benign_minutes_tells_the_attack_and_nothing_else() {
    let made = &MADE.place;
    let (report, told) = &MADE.told;
    assert_eq!(*report, made.text("model/report.txt"));
    assert!(report.contains("windows of 2 s") && report.contains("syn_share"), "{report}");
    assert!(told.contains("model hosts (sha256:"), "{told}");
    let files: BTreeSet<String> =
        std::fs::read_dir(made.path("model")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(
        files.iter().map(String::as_str).collect::<Vec<_>>(),
        ["model.toml", "report.html", "report.txt", "weights.safetensors"]
    );
    let inspected = made.ok("model inspect model");
    for part in ["mlp-autoencoder 7-8-3-8-7", "level dst_addr", "32 rows score as they must", "benign rows a day"] {
        assert!(inspected.contains(part), "no `{part}` in {inspected}");
    }

    let place = Place::plain();
    copy_model(&place.path("model"));
    let events = place.replay(&format!("--input {} --scores scores.jsonl", attacked()));
    assert_eq!(entities(&events), [VICTIM]);
    let open = opened(&events);
    assert_eq!((&open["kind"], &open["window"]["start"]), (&"anomaly".into(), &"2026-01-01T00:00:10Z".into()));
    assert!(open["message"].as_str().unwrap().contains("syn_share is 1.00 where 0.0"), "{open}");
    assert!(inspected.contains(open["model_digest"].as_str().unwrap()), "{open}");
    let evidence = open["evidence"].as_array().unwrap();
    assert!(evidence.len() >= 3, "{open}");
    for one in evidence {
        assert!(FEATURES.contains(&one["feature"].as_str().unwrap()), "{one}");
        assert!(one["value"].is_f64() && one["expected"].is_f64() && one["contribution"].is_f64(), "{one}");
    }

    let scores = place.scores("scores.jsonl", "odd-hosts");
    for row in &scores {
        let victim = row["entity"]["value"] == VICTIM;
        assert_eq!(row["alert"].as_bool().unwrap(), victim, "{row}");
        let (score, tail) = (row["score"].as_f64().unwrap(), row["tail"].as_f64().unwrap());
        assert!(score == tail && if victim { tail > 6.4 } else { tail < 6.0 }, "{row}");
    }

    let truth = made.path("truth.jsonl");
    place.put("incidents.jsonl", &events.iter().map(|e| format!("{e}\n")).collect::<String>());
    let report = place.ok(&format!(
        "evaluate --scores scores.jsonl --labels {} --incidents incidents.jsonl --format json",
        truth.display()
    ));
    let report: Value = serde_json::from_str(&report).unwrap();
    let d = &report["detectors"][0];
    assert_eq!((&d["events_found"], &d["alerts"], &d["hits"]), (&1.into(), &3.into(), &3.into()), "{report:#}");
    let i = &report["incidents"][0];
    assert_eq!((&i["events_found"], &i["wrong"]), (&1.into(), &0.into()), "{report:#}");
}

#[test]
fn the_number_of_workers_changes_nothing() {
    let place = Place::plain();
    copy_model(&place.path("model"));
    place.put("three.toml", "[engine]\nwindow_workers = 3\n");
    let replay = |config: &str, scores: &str| {
        let words = format!("replay --source flows --input {} --scores {scores} -c {config}", attacked());
        let events = place.ok(&words);
        let digest = lines(&events)[0]["plan_digest"].as_str().unwrap().to_owned();
        (events.replace(&digest, "masked"), digest, place.text(scores))
    };
    let (one, digest, scores) = replay("kaminari.toml", "one.jsonl");
    let (three, other, more) = replay("kaminari.toml three.toml", "three.jsonl");
    assert_ne!(digest, other);
    assert!(one == three, "{one}\n{three}");
    assert!(scores == more);
}

/// The columns that the features rest on.
const COLUMNS: [&str; 10] = [
    "time_received_ns",
    "src_addr",
    "dst_addr",
    "src_port",
    "dst_port",
    "proto",
    "tcp_flags",
    "packets",
    "bytes",
    "sampling_rate",
];

/// What `kaminari decode` printed, as CSV with other names and a semicolon, gzipped.
fn csv(records: &[Value]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    let head = COLUMNS.join(";").replace("time_received_ns", "Seen");
    writeln!(out, "{}", head.replace("src_addr", "SrcIP").replace("dst_addr", "DstIP")).unwrap();
    for record in records {
        let cell = |name: &&str| record[*name].as_str().map_or_else(|| record[*name].to_string(), str::to_owned);
        writeln!(out, "{}", COLUMNS.iter().map(cell).collect::<Vec<_>>().join(";")).unwrap();
    }
    out.finish().unwrap()
}

/// The same as Parquet: what JSON has as text is text, all else numbers.
fn parquet(records: &[Value]) -> Vec<u8> {
    let column = |name: &&'static str| {
        let values = records.iter().map(|r| &r[*name]);
        let array: ArrayRef = if records[0][*name].is_string() {
            Arc::new(StringArray::from_iter_values(values.map(|v| v.as_str().unwrap())))
        } else {
            Arc::new(UInt64Array::from_iter_values(values.map(|v| v.as_u64().unwrap_or_else(|| panic!("{name}: {v}")))))
        };
        (*name, array)
    };
    let batch = RecordBatch::try_from_iter(COLUMNS.iter().map(column)).unwrap();
    let mut out = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut out, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    out
}

#[test]
fn json_lines_csv_and_parquet_are_the_same_flows_as_the_capture() {
    let place = Place::plain();
    copy_model(&place.path("model"));
    let written = |capture: &str, name: &str| {
        let text = place.ok(&format!("decode {capture}"));
        let records = lines(&text);
        assert!(records.len() > 5000, "{}", records.len());
        place.put(&format!("{name}.jsonl"), &text);
        std::fs::write(place.path(&format!("{name}.csv.gz")), csv(&records)).unwrap();
        std::fs::write(place.path(&format!("{name}.parquet")), parquet(&records)).unwrap();
    };
    written(&benign(), "benign");
    written(&attacked(), "attacked");

    let events = place.replay(&format!("--input {} --scores capture.scores", attacked()));
    let weights = weights_digest(&MADE.place.path("model"));
    for (file, source) in [("jsonl", "flows"), ("csv.gz", "foreign"), ("parquet", "flows")] {
        let words = format!("-c kaminari.toml --source {source}");
        let replayed = lines(&place.ok(&format!("replay {words} --input attacked.{file} --scores {file}.scores")));
        assert!(replayed == events, "incidents of {file} differ");
        assert!(place.text(&format!("{file}.scores")) == place.text("capture.scores"), "scores of {file} differ");

        place.ok(&format!("train {words} --input benign.{file} --output {file}.model"));
        assert_eq!(weights_digest(&place.path(&format!("{file}.model"))), weights, "{file}");
    }
}

#[test]
fn an_attack_in_the_input_is_left_out_where_labels_say_so() {
    let place = Place::plain();
    let truth = MADE.place.path("truth.jsonl");
    let train = format!("train -c kaminari.toml --source flows --input {} --output m", attacked());
    let output = place.run(&format!("{train} --labels {}", truth.display()));
    let told = stderr(&output);
    assert!(output.status.success() && told.contains(" rows hold attacks and are left out"), "{told}");
    assert!(told.contains("reading what to learn from: 3 of "), "{told}");
    assert!(!told.contains("warning"), "{told}");

    // Another time base: nothing is left out, and that is told.
    place.put("old.csv", "event,start,end,dst\n1,1000,1060,198.18.7.7\n");
    let output = place.run(&format!("{train} --labels old.csv"));
    let told = stderr(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("warning: none of the 1 events lies in the scored time, 2026-01-01T00:00:00Z"), "{told}");
    assert!(told.contains("learn from: 0 of "), "{told}");
}

/// A network from elsewhere keeps its weights, and gets the calibration of the traffic that it will judge.
#[test]
fn a_network_from_pytorch_gets_a_calibration() {
    let from = kaminari_tests::root().join("tests/fixtures/pytorch-model");
    let features = "\"flows_per_s\", \"bits_per_s\", \"packets_per_s\", \"uniq_src\", \"mean_packet_size\"";
    let text = config(&["odd-hosts"], "", "")
        .replace(&format!("features = {FEATURES:?}"), &format!("features = [{features}]"));
    let place = Place::new(&text);
    let train = format!("train -c kaminari.toml --source flows --input {} --network", benign());
    let said = place.ok(&format!("{train} {}", from.display()));
    assert!(said.starts_with("network kept, calibrated on "), "{said}");
    let network = |dir: &Path| kaminari::inference::Model::load(dir).unwrap().weights;
    assert!(network(&place.path("model")) == network(&from));
    let inspected = place.ok("model inspect model");
    for part in ["rows       windows of 2 s, level dst_addr", "64 rows score as they must", "benign rows a day"] {
        assert!(inspected.contains(part), "no `{part}` in {inspected}");
    }
    place.ok("validate -c kaminari.toml");

    let other = Place::plain();
    let told = other.fails(1, &format!("{train} {}", from.display()));
    assert!(told.contains("flows_per_s") && told.contains("pipeline `hosts` has other features"), "{told}");
    assert!(!other.path("model").exists());
}
