//! What comes and goes leaves nothing: whoever has gone is in no register, and holds no memory, thread or file.

use super::{Config, Engine, Exporter, wait_for};
use kaminari_tests::plugin;
use serde_json::Value;

/// Rounds of changes that end where they began. The first fill what is bounded: caches, pools.
const ROUNDS: usize = 12;
const FIRST: usize = 4;

/// The plan of a round, the changes one after the other.
fn round(tally: &std::path::Path) -> Vec<String> {
    let mut config = Config::limit(50_000.0);
    config.plugins += &format!("\n[plugins.tally]\npath = {tally:?}");
    config.detectors += "\n[detectors.tally]\nplugin = \"tally\"\non_state_mismatch = \"reset\"";
    config.names = "\"limits\", \"tally\"";
    config.more = "[reload]\nprobation_windows = 0".into();
    let mut shadowed = config.clone();
    shadowed.detectors += "\n[detectors.stricter]\nplugin = \"threshold\"\nconfig = { limits = [ { name = \"flood\", \
                           feature = \"packets_per_s\", above = 40000.0 } ] }";
    shadowed.pipeline += "\nshadow = { detectors = [\"stricter\"] }";
    let mut more = config.clone();
    more.more += "\n[pipelines.third]\nsources = [\"edge\"]\nkeys = [\"dst_addr\"]\nfeatures = [\"packets_per_s\"]\n\
                  window = { type = \"tumbling\", size_secs = 1 }\ndetectors = [\"tally\"]\nsinks = [\"more\"]\n\
                  [sinks.more]\ntype = \"file\"\npath = \"more.jsonl\"";
    let mut windows = config.clone();
    windows.pipeline = windows.pipeline.replace("size_secs = 1", "size_secs = 2");
    [shadowed, more, windows, config].iter().map(Config::text).collect()
}

/// Names and labels of the series in `/metrics`.
fn series(engine: &Engine) -> Vec<String> {
    let text = engine.ask_text("GET", "/metrics").1;
    let mut names: Vec<String> =
        text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| Some(l.rsplit_once(' ')?.0.to_owned())).collect();
    // Which versions run is told in labels: another one takes the place of the one before.
    names.iter_mut().filter(|name| name.contains("_info{")).for_each(|name| name.truncate(name.find('{').unwrap()));
    names.sort_unstable();
    names
}

/// Uses of plugins, once those that have gone are not among them; and no shadow is left.
fn uses(engine: &Engine) -> Vec<String> {
    wait_for("the end of those who have gone", || {
        let plugins = engine.ask("GET", "/api/v1/plugins").1;
        let name = |p: &Value| format!("{} in {} as {}", p["plugin"], p["pipeline"], p["user"]);
        let uses: Vec<String> = plugins.as_array().unwrap().iter().map(name).collect();
        let shadows = engine.ask("GET", "/api/v1/shadow").1;
        (uses.len() == 2 && shadows.as_array().unwrap().is_empty()).then_some(uses)
    })
}

#[test]
fn what_has_gone_is_nowhere_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let tally = dir.path().join("tally.wasm");
    let put = |version: &str| {
        std::fs::copy(plugin(version), dir.path().join("tally.new")).unwrap();
        std::fs::rename(dir.path().join("tally.new"), &tally).unwrap();
    };
    put("tally-1");
    let plans = round(&tally);
    let first = plans.last().unwrap();
    let engine = Engine::start(dir.path(), first, &[]);
    let _traffic = Exporter::start(engine.listens("edge"), 3_000, 1, None);
    let mut level = None;
    for at in 1..=ROUNDS {
        put(["tally-1", "tally-2"][at % 2]);
        plans.iter().for_each(|plan| drop(engine.becomes(plan)));
        if at == FIRST {
            level = Some((uses(&engine), series(&engine), engine.holds()));
        }
    }
    let (used, known, (threads, files, bytes)) = level.unwrap();
    assert_eq!(uses(&engine), used);
    let (now, of_shadow) = (series(&engine), |name: &String| name.contains("third") || name.contains(":shadow"));
    assert!(now.iter().any(of_shadow), "series of those who have gone stay, as counters do: {now:#?}");
    let more: Vec<&String> = now.iter().filter(|name| !known.contains(name)).collect();
    assert!(more.is_empty() && now.len() == known.len(), "{} series, then {}: {more:#?}", known.len(), now.len());
    wait_for("threads and files as before", || {
        let (threads_now, files_now, _) = engine.holds();
        (threads_now <= threads + 2 && files_now <= files + 2).then_some(())
    });
    let (.., bytes_now) = engine.holds();
    let kib = |bytes: u64| bytes >> 10;
    println!("{} KiB after {FIRST} rounds, {} KiB after {ROUNDS}", kib(bytes), kib(bytes_now));
    assert!(bytes_now < bytes + (8 << 20), "{} KiB after {}", kib(bytes_now), kib(bytes));
}
