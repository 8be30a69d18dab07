//! What records look like, and that all formats put a flow into one place.

use super::*;
use crate::model::flow_rows::fixtures;
use crate::model::{EntityKey, FeatureFrame, KeyKind, ScoredFrame, WindowInfo};
use crate::sink::fixtures::event;
use arrow_array::{Float64Array, RecordBatch};
use std::collections::BTreeMap;

fn encoder(more: &str) -> Encoder {
    let config: KafkaSinkConfig =
        toml::from_str(&format!("brokers = [\"localhost:9092\"]\ntopic = \"t\"\n{more}")).unwrap();
    config.check().unwrap();
    Encoder::new(&config, "sha256:00".into())
}

fn records(encoder: &mut Encoder, output: &Output) -> Vec<Record> {
    let mut out = Vec::new();
    encoder.encode(output, &mut out);
    out
}

fn frame() -> FeatureFrame {
    let key = EntityKey { kind: KeyKind::DstAddr, addr: "192.0.2.9".parse().unwrap(), extra: 0 };
    let window =
        WindowInfo { start_ns: 0, end_ns: 1_000_000_000, revision: 0, watermark_ns: 1_000_000_000, partial: false };
    let column = Arc::new(Float64Array::from(vec![2.5])) as arrow_array::ArrayRef;
    let batch = RecordBatch::try_from_iter([("bits_per_s", column)]).unwrap();
    FeatureFrame { window, kind: KeyKind::DstAddr, keys: vec![key], batch }
}

#[test]
fn an_incident_is_keyed_by_its_entity() {
    let out = records(&mut encoder(""), &Output::Incidents(vec![event()]));
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].key.as_deref(), Some(&b"192.0.2.0/24"[..]));
    assert_eq!((&*out[0].topic, out[0].partition), ("t", None));
    let line = crate::sink::json_lines(&[event()]);
    assert_eq!(out[0].payload, line.trim_end().as_bytes());
    let headers: Vec<(&str, &str)> = out[0].headers.iter().map(|(k, v)| (&**k, &**v)).collect();
    let expected =
        [("kaminari.schema", "incidents/1"), ("kaminari.plan", "sha256:00"), ("content-type", "application/json")];
    assert_eq!(headers, expected);
    assert_eq!(records(&mut encoder("key = \"none\""), &Output::Incidents(vec![event()]))[0].key, None);
    assert_eq!(crate::model::incident::SCHEMA_VERSION, 1, "the header names the version");
}

#[test]
fn rows_are_objects_keyed_by_their_entity() {
    let scored = ScoredFrame {
        pipeline: "ddos".into(),
        detector: "odd".into(),
        frame: frame(),
        scores: vec![f64::NAN],
        tails: vec![],
        alerted: vec![0],
    };
    let out = records(&mut encoder("content = \"scores\""), &Output::Scores(vec![scored].into()));
    insta::assert_snapshot!(String::from_utf8_lossy(&out[0].payload), @r#"{"alert":true,"detector":"odd","entity":{"kind":"dst_addr","value":"192.0.2.9"},"features":{"bits_per_s":2.5},"pipeline":"ddos","score":null,"tail":null,"window":{"end":"1970-01-01T00:00:01Z","partial":false,"revision":0,"start":"1970-01-01T00:00:00Z"}}"#);
    assert_eq!(out[0].key.as_deref(), Some(&b"192.0.2.9"[..]));
    assert_eq!(&*out[0].headers[0].1, "scores/1");
    let rows = Output::Features(vec![("ddos".into(), frame())].into());
    let out = records(&mut encoder("content = \"features\""), &rows);
    insta::assert_snapshot!(String::from_utf8_lossy(&out[0].payload), @r#"{"entity":{"kind":"dst_addr","value":"192.0.2.9"},"features":{"bits_per_s":2.5},"pipeline":"ddos","window":{"end":"1970-01-01T00:00:01Z","partial":false,"revision":0,"start":"1970-01-01T00:00:00Z"}}"#);
}

/// Destination -> partition, whatever the format.
fn places(format: &str, partitions: u32) -> BTreeMap<String, i32> {
    let mut encoder = encoder(&format!("content = \"flows\"\nformat = \"{format}\""));
    encoder.set_partitions(partitions);
    let mut places = BTreeMap::new();
    for record in records(&mut encoder, &Output::Flows(fixtures::batch(200))) {
        let place = record.partition.unwrap();
        match record.key {
            Some(key) => drop(places.insert(String::from_utf8(key).unwrap(), place)),
            None => {
                for batch in flow_arrow::read(&record.payload).unwrap() {
                    let rows = FlowRows::new(&batch);
                    let prefixes = (0..rows.len()).map(|i| rows.row(i).dst_addr.prefix(24, 64).to_string());
                    places.extend(prefixes.map(|prefix| (prefix, place)));
                }
            }
        }
    }
    places
}

#[test]
fn every_format_puts_a_key_into_the_same_partition() {
    let arrow = places("arrow", 12);
    assert_eq!(arrow.len(), 200);
    assert_eq!(arrow, places("json", 12));
    assert_eq!(arrow, places("goflow2", 12));
    let used: std::collections::BTreeSet<i32> = arrow.values().copied().collect();
    assert_eq!(used, (0..12).collect());
    assert!(places("arrow", 1).values().all(|p| *p == 0));
}

#[test]
fn arrow_messages_are_bounded_and_lose_no_row() {
    let mut encoder = encoder("content = \"flows\"");
    let many = vec![fixtures::batch(250); 40];
    let batch = arrow_select::concat::concat_batches(many[0].schema_ref(), &many).unwrap();
    let rows = |records: &[Record]| -> Vec<usize> {
        records.iter().map(|r| flow_arrow::read(&r.payload).unwrap()[0].num_rows()).collect()
    };
    encoder.set_partitions(1);
    assert_eq!(rows(&records(&mut encoder, &Output::Flows(batch.clone()))), [4096, 4096, 1808]);
    encoder.set_partitions(7);
    assert_eq!(rows(&records(&mut encoder, &Output::Flows(batch))).iter().sum::<usize>(), 10_000);
}

#[test]
fn a_message_from_before_the_partitions_were_known_is_split_by_them() {
    let mut encoder = encoder("content = \"flows\"");
    let flows = Output::Flows(fixtures::batch(200));
    let before = records(&mut encoder, &flows);
    assert_eq!((before.len(), before[0].partition), (1, None));
    assert!(encoder.split(&before[0]).is_none());
    encoder.set_partitions(5);
    let parts: Vec<Record> = encoder.split(&before[0]).unwrap().into_iter().map(|(record, _)| record).collect();
    assert_eq!(parts, records(&mut encoder, &flows));
    assert!(encoder.split(&parts[0]).is_none());
}
