//! What makes a running engine take up its configuration: the verbs, the API, the watch.

use crate::run::{Engine, config, wait_for};
use kaminari_tests::run;
use std::process::Output;

const LIMIT: &str = "above = 50000.0";

fn text() -> String {
    config("127.0.0.1:0", "127.0.0.1:0", "window = { type = \"tumbling\", size_secs = 1 }")
}

fn ask(engine: &Engine, args: &[&str]) -> (Option<i32>, String, String) {
    let url = engine.url();
    let Output { status, stdout, stderr } = run([args, &["--url", url.as_str()]].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn json(engine: &Engine, path: &str) -> serde_json::Value {
    serde_json::from_str(&engine.get(path).1).unwrap()
}

#[test]
fn a_person_reloads_and_goes_back() {
    let mut engine = Engine::launch(&text());
    let file = engine.path("kaminari.toml");
    let (code, told, _) = ask(&engine, &["reload"]);
    assert!(code == Some(0) && told.starts_with("unchanged after"), "{told}");

    let before = json(&engine, "/version")["plan_digest"].clone();
    std::fs::write(&file, text().replace(LIMIT, "above = 60000.0")).unwrap();
    let (code, told, stderr) = ask(&engine, &["diff", "--live", file.to_str().unwrap()]);
    assert!(
        code == Some(2) && told.contains("    keys    detectors.host-limits.config.limits[0].above\n"),
        "{told}{stderr}"
    );
    let (code, told, stderr) = ask(&engine, &["reload"]);
    assert!(code == Some(0) && told.starts_with("applied after"), "{told}{stderr}{}", engine.log());
    assert!(told.contains("~ detectors.host-limits (hot)"), "{told}");
    assert_ne!(json(&engine, "/version")["plan_digest"], before);
    let (code, told, stderr) = ask(&engine, &["diff", "--live", file.to_str().unwrap()]);
    assert!(code == Some(0) && told.starts_with("the engine runs what the files say"), "{told}{stderr}");
    assert_eq!(json(&engine, "/api/v1/plan")["detectors"]["host-limits"]["config"]["limits"][0]["above"], 60000.0);

    std::fs::write(&file, "[pipelines").unwrap();
    let (code, told, stderr) = ask(&engine, &["reload"]);
    assert!(code == Some(1) && told.starts_with("refused at step `read`"), "{told}");
    assert!(told.contains("kaminari.toml:1:") && stderr.contains("the configuration before goes on"), "{told}{stderr}");

    let (code, told, _) = ask(&engine, &["rollback", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &report["outcome"], &report["new_digest"]), (Some(0), &"applied".into(), &before));
    assert_eq!(json(&engine, "/version")["plan_digest"], before);

    let reloads = json(&engine, "/api/v1/reloads");
    let outcomes: Vec<_> = reloads.as_array().unwrap().iter().map(|r| r["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["applied", "refused", "applied", "unchanged"]);
    assert_eq!(engine.terminate().code(), Some(0), "{}", engine.log());
    let (code, _, stderr) = ask(&engine, &["reload"]);
    assert!(code == Some(1) && stderr.contains("nothing answers on"), "{stderr}");
}

#[test]
fn the_token_is_asked_for_and_brought() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let text = text().replace("[api]", &format!("[api]\nopen_probes = true\ntoken_file = {token:?}"));
    let engine = Engine::launch(&text);
    assert_eq!((engine.get("/livez").0, engine.get("/metrics").0), (200, 401));
    let (code, _, stderr) = ask(&engine, &["reload"]);
    assert!(code == Some(1) && stderr.contains("--token-file"), "{stderr}");
    let (code, told, stderr) = ask(&engine, &["reload", "--token-file", token.to_str().unwrap()]);
    assert!(code == Some(0) && told.starts_with("unchanged"), "{told}{stderr}");
}

#[test]
fn the_watch_takes_up_what_an_editor_saves() {
    let engine = Engine::launch_with(&text(), &["--watch"]);
    for (n, limit) in ["above = 60000.0", "above = 70000.0"].into_iter().enumerate() {
        std::fs::write(engine.path(".kaminari.toml.swp"), text().replace(LIMIT, limit)).unwrap();
        std::fs::rename(engine.path(".kaminari.toml.swp"), engine.path("kaminari.toml")).unwrap();
        // Its report comes last: all else that it moves is there then.
        wait_for("the report", || (json(&engine, "/api/v1/reloads").as_array().unwrap().len() > n).then_some(()));
    }
    let metrics = engine.get("/metrics").1;
    let line = |name: &str| metrics.lines().filter(|l| l.starts_with(name)).collect::<Vec<_>>();
    assert_eq!(line("kaminari_config_info{").len(), 1, "{metrics}");
    let reloads = "kaminari_config_reloads_total{trigger=\"watch\",outcome=\"applied\"}";
    assert_eq!(line(reloads), [format!("{reloads} 2")], "{metrics}");
}
