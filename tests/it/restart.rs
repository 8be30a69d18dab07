//! A process that reads UDP and is killed: what arrives meanwhile is gone, but templates, open incidents and levels are not.

use crate::kafka::engine::{Engine, counted, wait_for};
use kaminari_tests::{free_udp_port, plugin, run};
use serde_json::Value;

#[test]
fn a_killed_process_goes_on_with_its_templates_and_its_incidents() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_udp_port();
    let config = format!(
        "[engine]
         state_dir = \"state\"

         [sources.edge]
         type = \"udp\"
         listen = \"127.0.0.1:{port}\"
         receive_buffer_bytes = 4194304

         [plugins.threshold]
         path = {:?}

         [detectors.limits]
         plugin = \"threshold\"
         config = {{ limits = [ {{ name = \"packet-flood\", feature = \"packets_per_s\", above = 50000.0 }} ] }}

         [pipelines.ddos]
         sources = [\"edge\"]
         keys = [\"dst_addr\"]
         features = [\"packets_per_s\", \"rel_packets\"]
         window = {{ type = \"sliding\", size_secs = 2 }}
         incident = {{ close_after_windows = 4 }}
         detectors = [\"limits\"]
         sinks = [\"file\"]

         [sinks.file]
         type = \"file\"
         path = \"incidents.jsonl\"",
        plugin("threshold")
    );
    let send = |seconds: &str, attack: &str| {
        let udp = format!("127.0.0.1:{port}");
        let args = ["generate", "flows", "--udp", &udp, "--seconds", seconds, "--rate", "500", "--exporters", "v9"];
        let attack = (!attack.is_empty()).then_some(["--attack", attack]);
        let out = run(args.into_iter().chain(attack.into_iter().flatten()));
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    let events = || -> Vec<Value> {
        let text = std::fs::read_to_string(dir.path().join("incidents.jsonl")).unwrap_or_default();
        text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
    };
    let mut engine = Engine::start(dir.path(), "first", &config);
    engine.says("running after");
    send("4", "syn-flood@0.5+3.4:target=192.0.2.7,pps=200000,fps=2000");
    wait_for("an incident", || events().iter().any(|e| e["event"] == "open").then_some(()));
    // Templates are kept when a process stops, and every half minute; incidents when they change.
    let first = engine.stop();
    assert_eq!(counted(&first, "kaminari_decode_missing_template_total", ""), 0.0);
    assert_eq!(events().last().unwrap()["close_reason"], "shutdown");

    let mut engine = Engine::start(dir.path(), "second", &config);
    engine.says("running after");
    let told = events().len();
    send("4", "syn-flood@0.5+3.4:target=192.0.2.8,pps=200000,fps=2000");
    wait_for("another incident", || events()[told..].iter().any(|e| e["event"] == "open").then_some(()));
    engine.kill();
    let open = events()[told..].iter().find(|e| e["event"] == "open").unwrap()["incident_id"].clone();
    assert!(!events().iter().any(|e| e["event"] == "close" && e["incident_id"] == open));

    let mut engine = Engine::start(dir.path(), "third", &config);
    engine.says("goes on with 1 open incident(s)");
    // Benign traffic: the windows go on, and the attack is over.
    send("3", "");
    let close = || events().into_iter().find(|e| e["event"] == "close" && e["incident_id"] == open);
    let close = wait_for("the end of the incident that was open before the crash", close);
    assert_eq!(close["close_reason"], "quiet");
    engine.stop();
}
