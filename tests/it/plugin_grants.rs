//! What a plugin is not granted it is refused, with the line of the configuration that grants it; what it is granted outlives
//! its faults, its instances and the process, and is the same in every run.

use crate::kafka::engine::{Engine, wait_for};
use crate::plugin_files::{host, plan};
use crate::records;
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use kaminari::config::PluginPlan;
use kaminari::model::WindowInfo;
use kaminari::plugin::{Guarded, Role, Unanswered, Use};
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::sync::Arc;

fn used(plan: &PluginPlan, role: Role, config: &Value) -> Guarded {
    let of = Use { role, pipeline: "p".into(), user: "u".into(), config: config.to_string() };
    Guarded::new(host().load(plan).unwrap(), of).unwrap()
}

fn rows(value: f64) -> RecordBatch {
    let columns: [(&str, ArrayRef); 2] =
        [("name", Arc::new(StringArray::from(vec!["a"]))), ("value", Arc::new(Float64Array::from(vec![value])))];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// The window that ends then, and is told then.
fn window(end_secs: u64) -> WindowInfo {
    let end_ns = end_secs * 1_000_000_000;
    WindowInfo { start_ns: 0, end_ns, revision: 0, watermark_ns: end_ns, partial: false }
}

/// The rows of one window through the extractor of the fixture `roles`: how often the name was seen.
fn seen(extractor: &mut Guarded, end_secs: u64, value: f64) -> Result<f64, Unanswered> {
    let agreed = extractor.ask(|i| i.features_of(&rows(0.0).schema())).unwrap();
    let made = extractor.call(&|| "a row".into(), &mut |i| i.extract(&window(end_secs), rows(value), &agreed))?;
    use arrow_array::cast::AsArray;
    Ok(made.column(2).as_primitive::<arrow_array::types::UInt64Type>().value(0) as f64)
}

fn counting(config: &Value) -> Guarded {
    used(&PluginPlan { state: vec!["seen".into()], ..plan("roles") }, Role::FeatureExtractor, config)
}

#[test]
fn what_is_not_granted_is_refused_with_the_line_that_grants_it() {
    for (what, line) in [
        ("ungranted-bucket", "bucket `never`: name it in `plugins.hostile.state`"),
        ("ungranted-metric", "metrics: set `plugins.hostile.metrics_series`"),
        ("ungranted-model", "model `never`: name it in `plugins.hostile.inference`"),
    ] {
        let config = json!({ "misbehave": what, "in": "extract" });
        let mut extractor = used(&plan("hostile"), Role::FeatureExtractor, &config);
        let error = seen(&mut extractor, 10, 1.0).unwrap_err();
        let text = error.cause.unwrap().to_string();
        assert_eq!(error.reason, "error");
        assert!(text.starts_with("plugin hostile@0.1.0: `extract` answered: not granted: "), "{text}");
        assert!(text.contains(line), "{line:?} in {text}");
    }
    // Another bucket than those that are granted.
    let other = PluginPlan { state: vec!["other".into()], ..plan("roles") };
    let mut extractor = used(&other, Role::FeatureExtractor, &json!({ "sum": "sum", "bucket": "seen" }));
    let text = seen(&mut extractor, 10, 1.0).unwrap_err().cause.unwrap().to_string();
    assert!(text.contains("bucket `seen`: name it in `plugins.roles.state`"), "{text}");
}

#[test]
fn a_call_that_fails_has_changed_nothing() {
    let mut extractor = counting(&json!({ "sum": "sum", "bucket": "seen", "trap_above": 100.0 }));
    assert_eq!(seen(&mut extractor, 10, 1.0).unwrap(), 1.0);
    // The bucket was written before it trapped, on both instances.
    assert_eq!(seen(&mut extractor, 20, 200.0).unwrap_err().reason, "trap");
    let next = wait_for("the end of its pause", || match seen(&mut extractor, 30, 1.0) {
        Ok(seen) => Some(seen),
        Err(error) => {
            assert_eq!(error.reason, "backoff");
            None
        }
    });
    assert_eq!(next, 2.0, "state outlived the trap, and what the trap had written did not");
}

#[test]
fn what_expires_does_so_by_the_time_of_the_data() {
    let mut extractor = counting(&json!({ "sum": "sum", "bucket": "seen", "ttl_secs": 60 }));
    assert_eq!(seen(&mut extractor, 10, 1.0).unwrap(), 1.0);
    assert_eq!(seen(&mut extractor, 69, 1.0).unwrap(), 2.0, "kept until 70");
    assert_eq!(seen(&mut extractor, 128, 1.0).unwrap(), 3.0, "kept until 129");
    assert_eq!(seen(&mut extractor, 188, 1.0).unwrap(), 1.0, "188 is when it expires");
}

#[test]
fn another_process_goes_on_counting() {
    let dir = tempfile::tempdir().unwrap();
    let port = kaminari_tests::free_udp_port();
    let source = format!("type = \"udp\"\nlisten = \"127.0.0.1:{port}\"\ndecode = {{ plugin = \"roles\" }}");
    let sink = "[sinks.out]\ntype = \"file\"\npath = \"incidents.jsonl\"";
    let config = records::config(&source, "sum = \"sum\", bucket = \"seen\"", sink)
        .replace("feature = \"sum\", above = 10.0", "feature = \"seen\", above = 3.5");
    let events = || std::fs::read_to_string(dir.path().join("incidents.jsonl")).unwrap_or_default();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let run = |name: &str, windows: std::ops::Range<u64>| {
        let mut engine = Engine::start(dir.path(), name, &config);
        engine.says("running after");
        for n in windows {
            socket.send_to(format!("{} alpha 1", 1_767_225_600 + 10 * n).as_bytes(), ("127.0.0.1", port)).unwrap();
        }
        engine.stop()
    };
    run("first", 0..3);
    assert_eq!(events(), "", "three times is not above 3.5");
    let counted = run("second", 5..6);
    let told = events();
    assert!(told.contains("\"alpha\""), "the fourth time, of which one was in this process: {told:?}\n{counted:#}");
}

#[test]
fn a_replay_says_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let lines = dir.path().join("lines.txt");
    let text: String = (0..300).map(|i| format!("{} name-{} {}\n", 1_767_225_600 + i, i % 5, i % 3)).collect();
    std::fs::write(&lines, text).unwrap();
    let source = format!("type = \"file\"\npaths = [{lines:?}]\ndecode = {{ plugin = \"roles\" }}");
    let extract = "sum = \"sum\", bucket = \"seen\", ttl_secs = 25, metrics = true";
    let config = records::config(&source, extract, "[sinks.out]\ntype = \"stdout\"")
        .replace("feature = \"sum\", above = 10.0", "feature = \"seen\", above = 1.5");
    let file = dir.path().join("kaminari.toml");
    std::fs::write(&file, config).unwrap();
    let replay = |name: &str| {
        let scores = dir.path().join(name);
        let mut command = kaminari_tests::kaminari();
        command.args(["replay", "-c"]).arg(&file).arg("--input").arg(&lines).arg("--scores").arg(&scores);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        (String::from_utf8(output.stdout).unwrap(), std::fs::read_to_string(scores).unwrap())
    };
    let first = replay("first");
    assert!(first.0.lines().count() >= 5 && first.1.lines().count() > 100, "{} {}", first.0, first.1);
    assert!(first == replay("second"), "incidents and scores, byte for byte");
}
