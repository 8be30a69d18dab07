//! Sources and pipelines that come, change and go, beside others that do not notice.

use super::{Config, Engine, Exporter, counted, wait_for};
use std::net::SocketAddr;

#[test]
fn a_source_is_bound_anew_without_a_lost_datagram() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::limit(50_000.0);
    let engine = Engine::start(dir.path(), &config.text(), &[]);
    let at = engine.listens("edge");
    // The port that the system chose becomes the one of the configuration: that is another address to it.
    let with = |keys: &str| format!("listen = \"{at}\"\nreceive_buffer_bytes = 33554432\n{keys}");
    let exporters: Vec<Exporter> = (0..8).map(|_| Exporter::start(at, 3_000, 1, None)).collect();
    wait_for("windows", || (engine.metric("kaminari_window_fired_total", &["ddos"]) >= 2.0).then_some(()));
    config.source = with("");
    engine.becomes(&config.text());
    for keys in ["sockets = 2", "queue_bytes = 134217728", "sockets = 3", "sockets = 1"] {
        config.source = with(keys);
        let report = engine.becomes(&config.text());
        assert_eq!(report["diff"]["changes"][0]["class"], "source-restart", "{report:#}");
        let windows = engine.metric("kaminari_window_fired_total", &["ddos"]);
        wait_for("windows after it", || {
            (engine.metric("kaminari_window_fired_total", &["ddos"]) > windows).then_some(())
        });
    }
    let sent: u64 = exporters.into_iter().map(Exporter::stop).sum();
    let summary = engine.stop();
    assert_eq!(counted(&summary, "kaminari_source_socket_dropped_total", ""), 0.0);
    assert_eq!(counted(&summary, "kaminari_decode_flows_total", ""), sent as f64);
    assert_eq!(counted(&summary, "kaminari_window_records_total", "ddos"), sent as f64);
}

#[test]
fn all_sources_change_and_the_engine_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::limit(50_000.0);
    let engine = Engine::start(dir.path(), &config.text(), &[]);
    // Another name and another kind in place of the only source.
    let other = config.text().replace("[sources.edge]\ntype = \"udp\"", "[sources.stream]\ntype = \"tcp\"");
    let other = other.replace(
        "receive_buffer_bytes = 33554432",
        "framing = { type = \"newline\" }\ndecode = { format = \"jsonl\" }",
    );
    engine.becomes(&other.replace("sources = [\"edge\"]", "sources = [\"stream\"]"));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(engine.ask("GET", "/readyz").0, 200);
    engine.becomes(&config.text());
    let traffic = Exporter::start(engine.listens("edge"), 3_000, 1, None);
    wait_for("windows of the source that is back", || {
        (engine.metric("kaminari_window_fired_total", &["ddos"]) >= 2.0).then_some(())
    });
    let sent = traffic.stop();
    let summary = engine.stop();
    assert_eq!(counted(&summary, "kaminari_window_records_total", "ddos"), sent as f64);
}

#[test]
fn a_pipeline_that_goes_closes_its_incidents_and_a_sink_delivers_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::limit(50_000.0);
    config.more = "[pipelines.second]\nsources = [\"edge\"]\nkeys = [\"dst_prefix\"]\nfeatures = [\"packets_per_s\"]\n\
                   window = { type = \"tumbling\", size_secs = 1 }\ndetectors = [\"limits\"]\nsinks = [\"file\"]\n\
                   incident = { open_after = \"1/1\" }"
        .into();
    let engine = Engine::start(dir.path(), &config.text(), &[]);
    let to: SocketAddr = engine.listens("edge");
    let _attack = Exporter::start(to, 3_000, 100, Some([198, 18, 7, 7]));
    let of = |event: &str, pipeline: &str| {
        engine.events().into_iter().find(|e| e["event"] == event && e["pipeline"] == pipeline)
    };
    wait_for("both incidents", || of("open", "ddos").and(of("open", "second")));
    let report = engine.becomes(&Config::limit(50_000.0).text());
    let removed = &report["diff"]["changes"][0];
    assert_eq!((&removed["component"], &removed["what"]), (&"pipelines.second".into(), &"removed".into()));
    assert!(!removed["lost"].as_array().unwrap().is_empty(), "{report:#}");
    let close = wait_for("its end", || of("close", "second"));
    assert_eq!(close["close_reason"], "removed");
    assert!(of("close", "ddos").is_none());
    wait_for("no entity to be held for it", || {
        (engine.metric("kaminari_window_entities", &["\"second\""]) == 0.0).then_some(())
    });
    // The sink changes its form: what is told from now on has it, in the same file.
    let text = Config::limit(50_000.0).text().replace("path = \"incidents.jsonl\"", "path = \"other.jsonl\"");
    engine.becomes(&text);
    engine.becomes(&text.replace("50000.0", "9000000.0"));
    wait_for("the end in the other file", || {
        engine.lines("other.jsonl").into_iter().find(|e| e["event"] == "close" && e["pipeline"] == "ddos")
    });
}
