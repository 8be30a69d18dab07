//! Files that grow, while they are rotated and the engine is killed.

use super::{config, flows, lines, refused, told};
use crate::kafka::engine::{Engine, counted, wait_for};
use kaminari_tests::kafka;
use rdkafka::mocking::MockCluster;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

const SOURCE: &str = "type = \"tail\"\npaths = [\"*.lines\"]\npoll_interval_ms = 20\ndecode = { format = \"jsonl\" }\n";

fn append(path: &Path, text: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn lines_are_read_over_every_kind_of_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("flows.lines");
    append(&log, &lines(0..1_000));
    let mut engine = Engine::start(dir.path(), "engine", &config(SOURCE));
    engine.says("flows.lines from byte");
    // From the end on; a line in two pieces.
    let text = lines(0..1_000);
    let (first, second) = text.split_at(text.len() / 2);
    append(&log, first);
    append(&log, second);
    // Renamed, with its writer still at it; a new one beside it.
    let mut writer = OpenOptions::new().append(true).open(&log).unwrap();
    std::fs::rename(&log, dir.path().join("flows.1")).unwrap();
    append(&log, &lines(1_000..2_000));
    engine.says("flows.lines from byte 0");
    writer.write_all(lines(2_000..3_000).as_bytes()).unwrap();
    append(&log, &format!("{}\n", "x".repeat(70_000)));
    // Another file that appears later, with a flood in it.
    append(&dir.path().join("other.lines"), &(super::line(3_000, 1_000_000) + "\n"));
    told(dir.path());
    let summary = engine.stop();
    assert_eq!(flows(&summary), 3_001);
    assert_eq!(refused(&summary, "oversized"), 1);
    assert_eq!(counted(&summary, "kaminari_source_rotations_total", ""), 1.0);
}

#[test]
fn copytruncate_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("flows.lines");
    append(&log, &lines(0..10));
    let mut engine = Engine::start(dir.path(), "engine", &config(&format!("{SOURCE}start = \"beginning\"")));
    engine.says("flows.lines from byte 0");
    // All of it is read when it is kept.
    let size = std::fs::metadata(&log).unwrap().len();
    wait_for("the position", || kept(dir.path()).contains(&format!("\"next\":{size}")).then_some(()));
    std::fs::copy(&log, dir.path().join("flows.1")).unwrap();
    OpenOptions::new().write(true).open(&log).unwrap().set_len(0).unwrap();
    append(&log, &lines(10..1_000));
    let size = std::fs::metadata(&log).unwrap().len();
    wait_for("the position", || kept(dir.path()).contains(&format!("\"next\":{size}")).then_some(()));
    let summary = engine.stop();
    assert_eq!(flows(&summary), 1_000);
    assert_eq!(counted(&summary, "kaminari_source_truncations_total", ""), 1.0);
}

/// What stands in the files of positions.
fn kept(dir: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(dir.join("state/checkpoints")) else { return String::new() };
    let of_files = entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("in%2efiles."));
    of_files.map(|e| String::from_utf8_lossy(&std::fs::read(e.path()).unwrap_or_default()).into_owned()).collect()
}

/// Lines go on to a topic while the process is killed again and again and the file is rotated: each arrives.
#[test]
fn killed_and_started_again_it_loses_no_line() {
    let cluster = MockCluster::new(1).unwrap();
    let (brokers, topic) = (cluster.bootstrap_servers(), "flows");
    cluster.create_topic(topic, 1, 1).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("flows.lines");
    let config = format!(
        "[engine]
         state_dir = \"state\"
         [sources.in]
         {SOURCE}
         start = \"beginning\"
         [pipelines.collect]
         sources = [\"in\"]
         sinks = [\"topic\"]
         [sinks.topic]
         type = \"kafka\"
         brokers = [{brokers:?}]
         topic = {topic:?}
         content = \"flows\"
         format = \"json\"
         key = \"none\""
    );
    let arrived = || -> BTreeSet<u64> {
        let messages = kafka::consume_all(brokers.as_str(), topic, false);
        messages
            .iter()
            .map(|m| serde_json::from_slice::<Value>(&m.payload).unwrap()["bytes"].as_u64().unwrap())
            .collect()
    };
    let mut written = 0;
    let mut write = |n: usize| {
        append(&log, &lines(written..written + n));
        written += n;
    };
    for life in 0..4 {
        let mut engine = Engine::start(dir.path(), &format!("life-{life}"), &config);
        engine.says("running after");
        for _ in 0..20 {
            write(500);
            std::thread::sleep(std::time::Duration::from_millis(25 * (life + 1)));
        }
        // Killed wherever it is; then the file goes on, and is rotated while nobody looks.
        engine.kill();
        write(100);
        std::fs::rename(&log, dir.path().join(format!("flows.{life}"))).unwrap();
        write(100);
    }
    let mut engine = Engine::start(dir.path(), "last", &config);
    engine.says("running after");
    let all = wait_for("every line", || Some(arrived()).filter(|all| all.len() == written));
    assert_eq!(all, (0..written as u64).collect());
    let summary = engine.stop();
    let again = flows(&summary);
    // What a stop has kept is not read again.
    let engine = Engine::start(dir.path(), "after", &config);
    let summary = engine.stop();
    assert!(flows(&summary) == 0 && again > 0, "{again} {summary:#}");
}
