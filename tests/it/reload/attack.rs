//! Operators change thresholds during an attack.

use super::{Config, Engine, Exporter, wait_for};

fn told(engine: &Engine, event: &str) -> Vec<serde_json::Value> {
    engine.events().into_iter().filter(|e| e["event"] == event).collect()
}

#[test]
fn an_incident_stays_open_whatever_is_changed_around_it() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(dir.path(), &Config::limit(50_000.0).text(), &[]);
    let attack = Exporter::start(engine.listens("edge"), 3_000, 100, Some([198, 18, 7, 7]));
    let open = wait_for("the incident", || told(&engine, "open").pop());
    assert_eq!(open["entity"]["value"], "198.18.7.7");
    let before = engine.digest();

    // Another threshold, another rule for incidents, another feature, another window, another sink.
    let mut config = Config::limit(40_000.0);
    let report = engine.becomes(&config.text());
    assert_eq!(report["diff"]["changes"][0]["component"], "detectors.limits");
    config.pipeline = config.pipeline.replace("close_after_windows = 3", "close_after_windows = 4");
    engine.becomes(&config.text());
    config.pipeline = config.pipeline.replace("[\"packets_per_s\"]", "[\"packets_per_s\", \"uniq_src\"]");
    engine.becomes(&config.text());
    config.pipeline = config.pipeline.replace("size_secs = 1", "size_secs = 2");
    let report = engine.becomes(&config.text());
    assert_eq!(report["diff"]["changes"][0]["class"], "window-restart", "{report:#}");
    config.more = "[sinks.second]\ntype = \"file\"\npath = \"second.jsonl\"".into();
    let with_second = config.text().replace("sinks = [\"file\"]", "sinks = [\"file\", \"second\"]");
    engine.becomes(&with_second);
    assert_ne!(engine.digest(), before);

    // It goes on: more windows are judged, none of them opens or closes anything.
    let windows = || engine.metric("kaminari_window_fired_total", &["ddos"]);
    let so_far = windows();
    wait_for("windows after the changes", || (windows() >= so_far + 3.0).then_some(()));
    assert_eq!((told(&engine, "open").len(), told(&engine, "close").len()), (1, 0), "{:#?}", engine.events());

    // A limit that the attack does not reach: now it is over, in the same incident, by the plan in force.
    let quiet = with_second.replace("40000.0", "9000000.0");
    engine.becomes(&quiet);
    let close = wait_for("its end", || told(&engine, "close").pop());
    attack.stop();
    assert_eq!((&close["incident_id"], &close["close_reason"]), (&open["incident_id"], &"quiet".into()));
    assert_eq!(close["plan_digest"], engine.digest());
    assert_eq!(told(&engine, "open").len(), 1);
    // Whoever came later was told the end too.
    wait_for("the end in the other file", || {
        engine.lines("second.jsonl").iter().any(|e| e["event"] == "close").then_some(())
    });
    // One line about each change in the stream.
    let notices = wait_for("the notices", || Some(engine.notices()).filter(|notices| notices.len() >= 6));
    assert_eq!(notices.len(), 6);
    assert!(notices.iter().all(|n| n["event"] == "notice" && n["attributes"]["outcome"] == "applied"), "{notices:#?}");
    let summary = engine.stop();
    assert_eq!(super::counted(&summary, "kaminari_source_socket_dropped_total", ""), 0.0);
}

#[test]
fn silence_ends_what_was_told_and_speaking_up_tells_what_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::limit(50_000.0);
    let engine = Engine::start(dir.path(), &config.text(), &[]);
    let _attack = Exporter::start(engine.listens("edge"), 3_000, 100, Some([198, 18, 7, 7]));
    let open = wait_for("the incident", || told(&engine, "open").pop());
    let mut silent = config.clone();
    silent.pipeline += "\nmode = \"shadow\"";
    engine.becomes(&silent.text());
    let close = wait_for("its end", || told(&engine, "close").pop());
    assert_eq!((&close["incident_id"], &close["close_reason"]), (&open["incident_id"], &"shadow".into()));
    wait_for("one that nobody is told of", || {
        (engine.metric("kaminari_incidents_open", &["ddos"]) == 1.0).then_some(())
    });
    assert_eq!(told(&engine, "open").len(), 1);
    engine.becomes(&config.text());
    wait_for("what is open", || (told(&engine, "open").len() == 2).then_some(()));
}
