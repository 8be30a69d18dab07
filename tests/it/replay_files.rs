//! Files through the real pipeline: the same every time, in other people's columns, broken off, and into a pipe that
//! nobody reads to the end.

use crate::summary::Summary;
use kaminari_tests::{kaminari, plugin, run, shared};
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

/// A folder with a configuration whose file source has this `decode` table.
struct Case(tempfile::TempDir);

impl Case {
    fn new(decode: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[sources.flows]
             type = \"file\"
             paths = [\"unused.pcap\"]
             decode = {{ {decode} }}
             [plugins.threshold]
             path = {:?}
             [detectors.host-limits]
             plugin = \"threshold\"
             keys = [\"dst_addr\"]
             config = {{ limits = [ {{ name = \"flood\", feature = \"packets_per_s\", above = 3000.0 }} ] }}
             [pipelines.ddos]
             sources = [\"flows\"]
             keys = [\"dst_addr\", \"dst_prefix\", \"interface\"]
             features = [\"flows\", \"packets_per_s\", \"bits_per_s\", \"uniq_src\", \"entropy_src_port\", \"rel_packets\"]
             detectors = [\"host-limits\"]
             sinks = [\"out\"]
             window = {{ type = \"sliding\", size_secs = 10, slide_secs = 2, event_time = \"end\" }}
             [sinks.out]
             type = \"stdout\"\n",
            plugin("threshold")
        );
        std::fs::write(dir.path().join("kaminari.toml"), text).unwrap();
        std::fs::write(dir.path().join("three-workers.toml"), "[engine]\nwindow_workers = 3\n").unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn replay(&self, input: &Path, args: &[&str]) -> Output {
        let mut command = kaminari();
        command.current_dir(self.0.path()).args(["replay", "--summary", "summary.json", "--input"]).arg(input);
        command.args(["-c", "kaminari.toml"]).args(args).output().unwrap()
    }

    fn summary(&self) -> Summary {
        Summary::read(&self.path("summary.json"))
    }

    /// 20 s of three exporters with one flood.
    fn capture(&self) -> PathBuf {
        let path = self.path("flows.pcap");
        let attack = "syn-flood@6+6:target=198.18.7.7,pps=20000,fps=500";
        let mut command = kaminari();
        command.args(["generate", "flows", "--seconds", "20", "--rate", "300", "--hosts", "200", "--attack", attack]);
        assert!(command.arg("--pcap").arg(&path).output().unwrap().status.success());
        path
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_replay_repeats_exactly() {
    let case = Case::new("");
    let capture = case.capture();
    let first = case.replay(&capture, &["--scores", "first.jsonl"]);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let events: Vec<serde_json::Value> =
        first.stdout.split_inclusive(|b| *b == b'\n').map(|l| serde_json::from_slice(l).unwrap()).collect();
    let told: HashSet<&str> = events.iter().map(|e| e["entity"]["value"].as_str().unwrap()).collect();
    assert_eq!(told, HashSet::from(["198.18.7.7"]));
    let rows = case.summary().total("kaminari_feature_rows_total");
    let (flows, records) = ("kaminari_decode_flows_total", "kaminari_window_records_total");
    assert!(case.summary().total(flows) > 6000.0 && case.summary().total(flows) == case.summary().total(records));

    assert!(case.replay(&capture, &["--scores", "second.jsonl"]).stdout == first.stdout, "incidents differ");
    // Another plan has another digest, but judges the same.
    let workers = case.replay(&capture, &["three-workers.toml", "--scores", "third.jsonl"]);
    assert_eq!(workers.status.code(), Some(0), "{}", stderr(&workers));
    let scores = std::fs::read_to_string(case.path("first.jsonl")).unwrap();
    for other in ["second.jsonl", "third.jsonl"] {
        assert!(std::fs::read_to_string(case.path(other)).unwrap() == scores, "{other} has other scores");
    }

    let mut seen = HashSet::new();
    let mut alerted = 0;
    for line in scores.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["entity"]["kind"], "dst_addr", "the detector judges hosts only: {line}");
        assert!(row["features"]["uniq_src"].as_f64().unwrap() >= 1.0, "{line}");
        alerted += usize::from(row["score"].as_f64().unwrap() > 1.0);
        assert!(seen.insert(format!("{}{}", row["entity"], row["window"])), "twice: {line}");
    }
    assert!(seen.len() > 500 && seen.len() as f64 == rows, "{} of {rows}", seen.len());
    assert!(alerted >= 3, "{alerted}");
}

#[test]
fn csv_in_other_peoples_columns() {
    let Some(folder) = shared("data/flows") else { return };
    let case = Case::new(
        "time_unit = \"seconds\", columns = { time_flow_start_ns = \"ts\", duration = \"dur\", src_addr = \"src\", \
         dst_addr = \"dst\", src_port = \"sport\", dst_port = \"dport\", tcp_flags = \"flags\" }",
    );
    let input = folder.join("validation.csv.gz");
    let output = case.replay(&input, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let file = std::fs::File::open(&input).unwrap();
    let lines = BufReader::new(flate2::read::MultiGzDecoder::new(file)).lines().count() - 1;
    let summary = case.summary();
    assert_eq!(summary.total("kaminari_decode_flows_total"), lines as f64);
    assert_eq!(summary.total("kaminari_window_records_total"), lines as f64);
    assert_eq!(summary.total("kaminari_decode_errors_total"), 0.0);
}

#[test]
fn what_came_before_the_break_of_a_capture_counts() {
    let case = Case::new("");
    let capture = case.capture();
    let whole = case.replay(&capture, &[]);
    let all = case.summary().total("kaminari_decode_flows_total");
    let bytes = std::fs::read(&capture).unwrap();
    let cut = case.path("cut.pcap");
    std::fs::write(&cut, &bytes[..bytes.len() * 4 / 5 + 1]).unwrap();
    let output = case.replay(&cut, &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output).replace("\n  │ ", " ");
    assert!(told.contains("cut.pcap: packet ") && told.contains("packets before it were read"), "{told}");
    let some = case.summary().total("kaminari_decode_flows_total");
    assert!(some > all / 2.0 && some < all, "{some} of {all}");
    // The flood was over by then: it opens just as in the whole file.
    let first = |output: &Output| output.stdout.split(|b| *b == b'\n').next().unwrap().to_vec();
    assert!(!first(&output).is_empty());
    assert_eq!(first(&output), first(&whole));
}

#[test]
fn decode_prints_as_many_lines_as_it_counts() {
    let Some(corpus) = shared("corpus/flow") else { return };
    for case in ["nf9-softflowd-valid01", "nf5-softflowd", "ipfix-yaf-like-basic"] {
        let output = run(["decode".as_ref(), corpus.join(case).join("packets.pcap").as_os_str()]);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{case}: {told}");
        let lines = String::from_utf8(output.stdout).unwrap();
        for line in lines.lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(record["src_addr"].is_string() && record["bytes"].is_u64(), "{case}: {line}");
        }
        let counted = told.split_once(" packets, ").unwrap().1.split_once(" records").unwrap().0;
        assert!(lines.lines().count() > 0 && counted == lines.lines().count().to_string(), "{case}: {told}");
    }
}

/// `| head -1`: whoever has seen enough is no error.
#[test]
fn a_reader_may_leave() {
    let case = Case::new("");
    let capture = case.capture();
    let leaves = |args: &[&str]| {
        let mut command = kaminari();
        command.current_dir(case.0.path()).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        line
    };
    // More than a pipe holds.
    let line = leaves(&["decode", capture.to_str().unwrap()]);
    assert!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["src_addr"].is_string());
    assert_eq!(leaves(&["list", "--format", "json"]).lines().count(), 1);
    assert!(leaves(&["replay", "-c", "kaminari.toml", "--input", capture.to_str().unwrap()]).contains("\"open\""));
}
