//! A pipeline of rows reads files, once: what is known of it when it begins counts until it ends.

use super::{Config, Engine, wait_for};
use serde_json::Value;
use std::path::Path;

/// A source, a detector and a pipeline of rows of that name.
fn of_rows(name: &str, file: &Path, above: f64) -> String {
    format!(
        "\n[sources.{name}]\ntype = \"file\"\npaths = [{file:?}]\n[detectors.{name}]\nplugin = \"threshold\"\n\
         config = {{ limits = [ {{ name = \"high\", feature = \"load\", above = {above:?} }} ] }}\n{}",
        pipeline(name, name)
    )
}

fn pipeline(name: &str, source: &str) -> String {
    format!(
        "\n[pipelines.{name}]\nsources = [\"{source}\"]\nrows = {{ time = \"t\", window_secs = 60 }}\nfeatures = [\"load\"]\n\
         detectors = [\"{source}\"]\nsinks = [\"file\"]\nincident = {{ open_after = \"1/1\", close_after_windows = 3 }}"
    )
}

#[track_caller]
fn refused(engine: &Engine, config: &str, errors: &[&str]) {
    let before = engine.digest();
    let (status, report) = engine.reload(config);
    assert_eq!((status, &report["outcome"], &report["step"]), (422, &"refused".into(), &"diff".into()), "{report:#}");
    assert_eq!(report["errors"], serde_json::json!(errors));
    assert_eq!(engine.digest(), before);
}

#[test]
fn it_comes_and_goes_with_its_source_and_does_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let rows: String =
        (0..60).map(|i| format!("{},{}\n", 1_700_000_000 + i * 60, if i == 30 { 99.0 } else { 1.0 })).collect();
    let (one, two) = (dir.path().join("one.csv"), dir.path().join("two.csv"));
    std::fs::write(&one, format!("t,load\n{rows}")).unwrap();
    std::fs::copy(&one, &two).unwrap();
    let with = |more: String| {
        let mut config = Config::limit(50_000.0);
        config.more = more;
        config.text()
    };
    let told = |engine: &Engine, pipeline: &str| {
        wait_for("an incident of the rows", || {
            let of = |e: &Value| e["pipeline"] == pipeline && e["event"] == "open";
            engine.events().into_iter().find(of)
        })
    };
    let engine = Engine::start(dir.path(), &with(of_rows("one", &one, 50.0)), &[]);
    told(&engine, "one");

    let why = "rows of features in pipeline `one`; files are read once: only a new process takes it up";
    let changed = with(of_rows("one", &one, 60.0));
    refused(&engine, &changed, &[&format!("detectors.one.config.limits[0].above: judges {why}")]);
    let sink = with(of_rows("one", &one, 50.0)).replace("incidents.jsonl", "others.jsonl");
    refused(&engine, &sink, &[&format!("sinks.file.path: takes what is said of {why}")]);
    let source = with(of_rows("one", &two, 50.0));
    refused(&engine, &source, &["sources.one.paths: files are read once: only a new process takes it up"]);
    let more = with(of_rows("one", &one, 50.0) + &pipeline("more", "one"));
    let read = "pipelines.more: its source `one` is being read; files are read once: only a new process takes it up";
    refused(&engine, &more, &[read]);

    // With a source of its own it begins, and another one does not notice.
    engine.becomes(&with(of_rows("one", &one, 50.0) + &of_rows("two", &two, 50.0)));
    told(&engine, "two");
    engine.becomes(&with(of_rows("two", &two, 50.0)));
    // Of those that stay everything else may change.
    engine.becomes(&with(of_rows("two", &two, 50.0)).replace("above = 50000.0", "above = 40000.0"));
    let opened = engine.events().iter().filter(|e| e["event"] == "open").count();
    assert_eq!(opened, 2, "{:#?}", engine.events());
    engine.stop();
}
