//! Records out of a topic: what a killed process had not told is made again, with what its plugins knew; what a plugin refuses
//! is a dead letter.

use super::config;
use crate::kafka::engine::{Engine, wait_for};
use kaminari_tests::kafka;
use serde_json::Value;
use std::collections::BTreeMap;

/// End of each window -> sum and how often the name was seen; a window that is told twice says the same twice.
fn features(brokers: &str, topic: &str) -> BTreeMap<String, (f64, f64)> {
    let mut rows = BTreeMap::new();
    for message in kafka::consume_all(brokers, topic, true) {
        let row: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(row["entity"]["value"], "alpha", "{row}");
        let number = |name: &str| row["features"][name].as_f64().unwrap();
        let (end, this) = (row["window"]["end"].as_str().unwrap().to_owned(), (number("sum"), number("seen")));
        assert!(rows.insert(end, this).is_none_or(|before| before == this), "{row}");
    }
    rows
}

#[test]
fn a_killed_process_makes_its_windows_again_with_what_its_plugins_knew() {
    let Some(brokers) = kafka::brokers("records that are made again") else { return };
    for exactly_once in [false, true] {
        let [topic, out, dead, group] = ["records", "records-rows", "records-dead", "records"].map(kafka::unique);
        [&topic, &out, &dead].iter().for_each(|t| kafka::create_topic(&brokers, t, 1));
        let dir = tempfile::tempdir().unwrap();
        let source = format!(
            "type = \"kafka\"
             brokers = [{brokers:?}]
             topics = [{topic:?}]
             group = {group:?}
             start = \"earliest\"
             keyed = true
             exactly_once = {exactly_once}
             commit_interval_ms = 200
             dead_letter_topic = {dead:?}
             decode = {{ plugin = \"roles\" }}"
        );
        let sink =
            format!("[sinks.out]\ntype = \"kafka\"\nbrokers = [{brokers:?}]\ntopic = {out:?}\ncontent = \"features\"");
        let config = config(&source, "sum = \"sum\", bucket = \"seen\"", &sink);
        // Two records in each window, and rubbish; each window closes the one before.
        let windows = |numbers: std::ops::Range<u64>| {
            let lines = numbers.flat_map(|n| {
                let second = 1_900_000_000 + 10 * n;
                [format!("{second} alpha 1"), format!("rubbish {n}"), format!("{} alpha {n}", second + 9)]
            });
            kafka::produce(&brokers, &topic, 0, lines);
        };
        let told = |count: usize| {
            wait_for(&format!("{count} windows"), || {
                let rows = features(&brokers, &out);
                (rows.len() >= count).then(|| rows.into_values().collect::<Vec<_>>())
            })
        };
        let expected = |to: u32| (0..to).map(|n| (1.0 + f64::from(n), f64::from(n + 1))).collect::<Vec<_>>();
        windows(0..31);
        let engine = Engine::start(dir.path(), "first", &config);
        assert_eq!(told(30), expected(30));
        let boundary = format!("{{\"p\":{}}}", 1_900_000_300 * 1_000_000_000u64);
        wait_for("the commit of what was told", || {
            let committed = kafka::committed(&brokers, &group, &topic);
            committed.first().is_some_and(|(_, _, said)| said.contains(&boundary)).then_some(())
        });
        engine.kill();
        windows(31..51);
        let engine = Engine::start(dir.path(), "second", &config);
        assert_eq!(told(50), expected(50), "exactly once: {exactly_once}");
        engine.stop();
        let mut letters: Vec<String> = kafka::consume_all(&brokers, &dead, true)
            .iter()
            .map(|m| String::from_utf8(m.payload.clone()).unwrap())
            .collect();
        if !exactly_once {
            letters.dedup();
        }
        assert_eq!(letters, (0..51).map(|n| format!("rubbish {n}")).collect::<Vec<_>>());
    }
}
