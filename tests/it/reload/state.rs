//! What a detector has learned goes to its successor, or the change is refused.

use super::{Config, Engine, Exporter, wait_for};
use kaminari_tests::plugin;
use std::path::Path;

/// Detector `tally` counts the windows in which it has judged a host; `limits` is there so that incidents come.
fn config(dir: &Path, version: &str, tally: &str) -> Config {
    let mut config = Config::limit(50_000.0);
    config.more = format!("[engine]\nstate_dir = {:?}\n[reload]\nprobation_windows = 0", dir.join("state"));
    config.plugins += &format!("\n[plugins.tally]\npath = {:?}", plugin(version));
    config.detectors += &format!("\n[detectors.tally]\nplugin = \"tally\"\n{tally}");
    config.names = "\"limits\", \"tally\"";
    config
}

fn handovers(engine: &Engine, outcome: &str) -> f64 {
    engine.metric("kaminari_plugin_state_handovers_total", &["plugin=\"tally\"", &format!("outcome={outcome:?}")])
}

#[test]
fn state_is_handed_over_migrated_or_the_change_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let start = config(dir.path(), "tally-1", "");
    let engine = Engine::start(dir.path(), &start.text(), &[]);
    let traffic = Exporter::start(engine.listens("edge"), 3_000, 1, None);
    wait_for("windows", || (engine.metric("kaminari_window_fired_total", &["ddos"]) >= 3.0).then_some(()));

    // The same version, configured otherwise (a key that changes nothing else).
    engine.becomes(&config(dir.path(), "tally-1", "config = { trap_in = \"nothing\" }").text());
    assert!(handovers(&engine, "restored") >= 1.0);
    // The next version migrates.
    engine.becomes(&config(dir.path(), "tally-2", "").text());
    assert!(handovers(&engine, "migrated") >= 1.0);
    // The one after cannot read it: refused, by default, and the one before goes on.
    let digest = engine.digest();
    let (status, report) = engine.reload(&config(dir.path(), "tally-1", "").text());
    assert_eq!(
        (status, &report["outcome"], &report["step"]),
        (422, &"refused".into(), &"hand_over".into()),
        "{report:#}"
    );
    assert!(report["errors"].to_string().contains("on_state_mismatch"), "{report:#}");
    assert_eq!(engine.digest(), digest);
    assert!(handovers(&engine, "refused") >= 1.0);
    let fired = engine.metric("kaminari_window_fired_total", &["ddos"]);
    wait_for("windows after the refusal", || {
        (engine.metric("kaminari_window_fired_total", &["ddos"]) > fired + 1.0).then_some(())
    });
    // By the operator's choice it begins anew, and that is told.
    let report = engine.becomes(&config(dir.path(), "tally-1", "on_state_mismatch = \"reset\"").text());
    assert!(report["notes"].to_string().contains("begins anew"), "{report:#}");
    assert!(handovers(&engine, "reset") >= 1.0);
    // Back to the version before: what it knew when it left is not forgotten.
    let (status, report) = engine.ask("POST", "/-/rollback");
    assert_eq!((status, &report["outcome"]), (200, &"applied".into()), "{report:#}");
    assert_eq!(engine.digest(), digest);
    assert_eq!(engine.metric("kaminari_plugin_info", &["plugin=\"tally\"", "version=\"2."]), 1.0);
    let (status, report) = engine.ask("POST", "/-/rollback");
    assert_eq!(status, 422, "one step back: {report:#}");
    traffic.stop();
}

#[test]
fn a_plugin_that_breaks_in_its_first_windows_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let sound = |version| {
        let mut config = config(dir.path(), version, "on_state_mismatch = \"reset\"");
        config.more = config.more.replace("probation_windows = 0", "probation_windows = 20\nprobation_faults = 1");
        config
    };
    let engine = Engine::start(dir.path(), &sound("tally-1").text(), &[]);
    let _traffic = Exporter::start(engine.listens("edge"), 3_000, 1, None);
    wait_for("windows", || (engine.metric("kaminari_window_fired_total", &["ddos"]) >= 2.0).then_some(()));
    let before = engine.digest();
    engine.becomes(&sound("tally-frail").text());
    wait_for("the plan before", || (engine.digest() == before).then_some(()));
    let last = wait_for("its report", || {
        let last = engine.ask("GET", "/api/v1/reloads").1[0].clone();
        (last["trigger"] == "probation").then_some(last)
    });
    assert_eq!(last["outcome"], "applied", "{last:#}");
    assert!(last["notes"].to_string().contains("tally"), "{last:#}");
    let uses = engine.ask("GET", "/api/v1/plugins").1;
    let tally = uses.as_array().unwrap().iter().find(|u| u["plugin"] == "tally").unwrap();
    assert!(tally["version"].as_str().unwrap().starts_with("1."), "{uses:#}");
    assert_eq!(tally["state"], "running");
}
