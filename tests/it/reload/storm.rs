//! Two hundred reloads in two minutes under a hundred thousand flows a second: every flow is in exactly one set of windows, no
//! incident comes twice or is missing, and nothing is left of what was.

use super::{Config, Engine, Exporter, counted, wait_for};
use kaminari_tests::kafka::{brokers, consume_all, create_topic, unique};
use kaminari_tests::plugin;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const FLOWS_PER_SECOND: u64 = 100_000;
const RELOADS: usize = 200;
const LASTS: Duration = Duration::from_secs(120);

/// One of the plans that take turns; `step` decides which.
fn plan(dir: &Path, brokers: &str, topic: &str, step: usize) -> Config {
    // A third of the attack: where the machine is busy with others, a window may have less than all of it.
    let mut config = Config::limit([2_000_000.0, 2_000_001.0, 2_000_002.0][step % 3]);
    config.plugins += &format!("\n[plugins.tally]\npath = {:?}", dir.join("tally.wasm"));
    config.detectors += "\n[detectors.tally]\nplugin = \"tally\"\non_state_mismatch = \"reset\"";
    if step % 7 == 1 {
        config.pipeline = config.pipeline.replace("size_secs = 1", "size_secs = 2");
    }
    if step % 5 == 2 {
        config.names = "\"limits\", \"tally\"";
    } else {
        config.more += "\n[pipelines.tallies]\nsources = [\"edge\"]\nkeys = [\"dst_addr\"]\nfeatures = [\"packets_per_s\"]\n\
                        window = { type = \"tumbling\", size_secs = 1 }\ndetectors = [\"tally\"]\nsinks = [\"tells\"]\n\
                        mode = \"shadow\"\n[sinks.tells]\ntype = \"file\"\npath = \"tells.jsonl\"";
    }
    if step % 11 == 3 {
        config.more += &format!(
            "\n[plugins.autoencoder]\npath = {:?}\ninference = [\"net\"]\n[models.net]\npath = {:?}\n\
             [detectors.net]\nplugin = \"autoencoder\"\nconfig = {{ model = \"net\" }}\n\
             [pipelines.deep]\nsources = [\"edge\"]\nkeys = [\"dst_addr\"]\nfeatures = [\"uniq_src\"]\n\
             window = {{ type = \"tumbling\", size_secs = 10 }}\ndetectors = [\"net\"]\nmode = \"shadow\"",
            plugin("autoencoder"),
            dir.join("model"),
        );
    }
    // The windows of `ddos` go out as they are.
    config.more += &format!(
        "\n[sinks.windows]\ntype = \"kafka\"\nbrokers = [{brokers:?}]\ntopic = {topic:?}\ncontent = \"features\"\n\
         [reload]\nprobation_windows = 0"
    );
    config
}

fn text(config: &Config) -> String {
    config.text().replace("sinks = [\"file\"]\nkeys", "sinks = [\"file\", \"windows\"]\nkeys")
}

/// The pipeline's own incidents, in order.
fn told(engine: &Engine) -> Vec<(String, String)> {
    let of = |e: Value| Some((e["event"].as_str()?.to_owned(), e["incident_id"].as_str()?.to_owned()));
    engine.events().into_iter().filter(|e| e["pipeline"] == "ddos" && e["event"] != "update").filter_map(of).collect()
}

#[test]
fn two_hundred_reloads_lose_nothing_and_leave_nothing() {
    let Some(brokers) = brokers("reload::storm") else { return };
    let dir = tempfile::tempdir().unwrap();
    let topic = unique("reload-windows");
    create_topic(&brokers, &topic, 1);
    let versions = [plugin("tally-1"), plugin("tally-2")];
    std::fs::copy(&versions[0], dir.path().join("tally.wasm")).unwrap();
    super::steps::copy_model(&dir.path().join("model"));
    let make = |step| plan(dir.path(), &brokers, &topic, step);
    let engine = Engine::start(dir.path(), &text(&make(0)), &[]);
    let to = engine.listens("edge");
    let attack = Exporter::start(to, 60_000, 100, Some([198, 18, 7, 7]));
    let benign = Exporter::start(to, FLOWS_PER_SECOND - 60_000, 1, None);
    wait_for("the incident", || (!told(&engine).is_empty()).then_some(()));

    let (begun, mut outcomes, mut level) = (Instant::now(), BTreeMap::<String, usize>::new(), None);
    for step in 1..=RELOADS {
        // A plugin or a model changes where it lies, too.
        if step % 13 == 0 {
            let aside = dir.path().join("tally.new");
            std::fs::copy(&versions[step / 13 % 2], &aside).unwrap();
            std::fs::rename(aside, dir.path().join("tally.wasm")).unwrap();
        }
        let config = text(&make(step));
        let broken = match step % 10 {
            4 => config.replace("[pipelines.ddos]", "[pipelines.ddos"),
            6 => config.replace("feature = \"packets_per_s\"", "feature = \"pakets_per_s\""),
            8 => config.replace("tally.wasm", "nothing.wasm"),
            _ => config,
        };
        let (status, report) = engine.reload(&broken);
        let outcome = report["outcome"].as_str().unwrap_or_else(|| panic!("{status}: {report:#}")).to_owned();
        let expected = if [4, 6, 8].contains(&(step % 10)) { "refused" } else { "applied" };
        assert_eq!(outcome, expected, "step {step}: {report:#}\n{}", engine.log());
        *outcomes.entry(outcome).or_default() += 1;
        if step == RELOADS / 4 {
            level = Some(engine.holds());
        }
        let due = LASTS.mul_f64(step as f64 / RELOADS as f64);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    let took = begun.elapsed();
    // The plan that it began with, so that the same parts run.
    engine.becomes(&text(&make(0)));
    let sent = attack.stop() + benign.stop();
    // The attack is over: one incident, from the first plan to the last.
    let events = wait_for("the end of the incident", || {
        let events = told(&engine);
        (events.len() >= 2).then_some(events)
    });
    let whole = || engine.events().into_iter().filter(|e| e["event"] != "update").collect::<Vec<_>>();
    assert_eq!(events.len(), 2, "{:#?}", whole());
    assert_eq!((&*events[0].0, &*events[1].0), ("open", "close"));
    assert_eq!(events[0].1, events[1].1);

    // Nothing is left of what was: threads, files, memory.
    let (threads, files, bytes) = level.unwrap();
    wait_for("threads and files as before", || {
        let (threads_now, files_now, _) = engine.holds();
        (threads_now <= threads + 2 && files_now <= files + 4).then_some(())
    });
    let (.., bytes_now) = engine.holds();
    let mib = |bytes: u64| bytes / (1 << 20);
    assert!(bytes_now < bytes + bytes / 4, "{} MiB after {}", mib(bytes_now), mib(bytes));
    let log = engine.log();
    let summary = engine.stop();
    eprintln!(
        "{RELOADS} reloads in {took:?}: {outcomes:?}; {sent} flows; {} MiB at a quarter, {} MiB at the end, {threads} threads, {files} files",
        mib(bytes),
        mib(bytes_now)
    );
    assert!(!log.contains("panicked"), "{log}");
    for lost in
        ["kaminari_source_socket_dropped_total", "kaminari_source_shed_datagrams_total", "kaminari_decode_errors_total"]
    {
        assert_eq!(counted(&summary, lost, ""), 0.0, "{lost}");
    }
    assert_eq!(counted(&summary, "kaminari_decode_flows_total", ""), sent as f64);
    assert_eq!(counted(&summary, "kaminari_window_records_total", "\"ddos\""), sent as f64);
    assert_eq!(counted(&summary, "kaminari_window_late_records_total", "\"ddos\""), 0.0);
    // Every flow in exactly one row of one window, each window told once.
    let rows: Vec<Value> =
        consume_all(&brokers, &topic, false).iter().map(|m| serde_json::from_slice(&m.payload).unwrap()).collect();
    let flows: f64 = rows.iter().map(|row| row["features"]["flows"].as_f64().unwrap()).sum();
    assert_eq!(flows, sent as f64, "{:#}", rows[0]);
}
