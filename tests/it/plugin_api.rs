//! `GET /api/v1/plugins`: how each use of each plugin fares, while it fares ill.

use crate::kafka::engine::wait_for;
use crate::records;
use crate::run::Engine;
use serde_json::Value;
use std::net::UdpSocket;

fn plugins(engine: &Engine) -> Vec<Value> {
    let (status, body) = engine.get("/api/v1/plugins");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn every_use_is_told_with_its_state_and_last_error() {
    let source = "type = \"udp\"\nlisten = \"127.0.0.1:0\"\n\
                  decode = { plugin = \"roles\", config = { trap_on = \"boom\" } }";
    let sink = "[sinks.out]\ntype = \"file\"\npath = \"incidents.jsonl\"\n[api]\nlisten = \"127.0.0.1:0\"";
    let engine = Engine::launch(&records::config(source, "sum = \"sum\"", sink));
    let told = plugins(&engine);
    let uses: Vec<_> =
        told.iter().map(|p| [&p["pipeline"], &p["user"], &p["role"]].map(|v| v.as_str().unwrap())).collect();
    let expected =
        [["in", "decode", "source-decoder"], ["p", "extract", "feature-extractor"], ["p", "sums", "detector"]];
    assert_eq!(uses, expected);
    for one in &told {
        assert_eq!(
            (&one["plugin"], &one["name"], &one["state"]),
            (&"roles".into(), &"roles".into(), &"running".into())
        );
        assert_eq!((&one["version"], &one["api_version"]), (&"0.1.0".into(), &kaminari::plugin::API_VERSION.into()));
        assert_eq!(one["digest"].as_str().unwrap().len(), 64);
        assert_eq!((&one["faults"], &one["restarts"], &one["dead_lettered"]), (&0.into(), &0.into(), &0.into()));
        assert!(one["last_error"].is_null() && one["retry_ms"].is_null(), "{one}");
    }
    // A line that breaks it, again and again.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let state = |wanted: &str| {
        wait_for(wanted, || {
            socket.send_to(b"boom", engine.udp).unwrap();
            plugins(&engine).into_iter().find(|p| p["pipeline"] == "in" && p["state"] == wanted)
        })
    };
    let waits = state("backoff");
    assert!(waits["retry_ms"].is_u64() && waits["faults"].as_u64().unwrap() >= 1, "{waits}");
    let left_out = state("quarantined");
    assert_eq!(left_out["faults"], 5);
    assert!(
        left_out["restarts"].as_u64().unwrap() >= 5 && left_out["dead_lettered"].as_u64().unwrap() >= 5,
        "{left_out}"
    );
    let error = left_out["last_error"].as_str().unwrap();
    assert!(error.starts_with("plugin roles@0.1.0: `decode` trapped: "), "{error}");
    let (_, metrics) = engine.get("/metrics");
    for (pipeline, state) in [("in", "quarantined"), ("p", "running")] {
        let uses = if pipeline == "p" { 2 } else { 1 };
        let line =
            format!("kaminari_plugin_state{{plugin=\"roles\",pipeline=\"{pipeline}\",state=\"{state}\"}} {uses}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    assert!(plugins(&engine).iter().filter(|p| p["pipeline"] == "p").all(|p| p["state"] == "running"));
}
