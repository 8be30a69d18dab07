//! Against a real broker, which the environment names (`KAMINARI_TEST_BROKERS`).

use super::*;
use crate::model::flow_rows::{FlowRows, fixtures};
use crate::model::incident::IncidentEvent;
use crate::model::{Output, flow_arrow};
use crate::sink::Sink;
use crate::sink::fixtures::event;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

/// A record as a consumer sees it.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) partition: i32,
    pub(super) key: Option<String>,
    pub(super) payload: Vec<u8>,
    pub(super) headers: BTreeMap<String, String>,
}

/// All records of a topic, by partition and offset; waits until there are so many.
pub(super) fn read(brokers: &str, topic: &str, partitions: i32, records: usize) -> Vec<Got> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "test").set("fetch.wait.max.ms", "10");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut all = TopicPartitionList::new();
    (0..partitions).for_each(|p| all.add_partition_offset(topic, p, Offset::Beginning).unwrap());
    consumer.assign(&all).unwrap();
    let (mut got, until) = (Vec::new(), Instant::now() + Duration::from_secs(15));
    // A little longer: there should not be more.
    let mut enough = None;
    while Instant::now() < enough.unwrap_or(until) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            let headers = message.headers().unwrap().iter();
            let text = |v: &[u8]| String::from_utf8(v.to_vec()).unwrap();
            got.push(Got {
                partition: message.partition(),
                key: message.key().map(text),
                payload: message.payload().unwrap().to_vec(),
                headers: headers.map(|h| (h.key.to_owned(), text(h.value.unwrap()))).collect(),
            });
        }
        if got.len() >= records {
            enough.get_or_insert_with(|| Instant::now() + Duration::from_millis(200));
        }
    }
    got.sort_by_key(|g| g.partition);
    got
}

/// The broker for tests; says so when there is none.
fn brokers(what: &str) -> Option<String> {
    let found = std::env::var("KAMINARI_TEST_BROKERS").ok().filter(|b| !b.is_empty());
    if found.is_none() {
        println!("SKIPPED: {what}: no Kafka broker (cargo xtask test starts one)");
    }
    found
}

/// A name that no topic has.
fn fresh(name: &str) -> String {
    let mark = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{name}-{}-{mark}", std::process::id())
}

/// A fresh topic.
fn topic(brokers: &str, name: &str, partitions: i32) -> String {
    let topic = fresh(name);
    create(brokers, &topic, partitions);
    topic
}

fn create(brokers: &str, topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1)).set("max.message.bytes", "100000");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let results = runtime.block_on(admin.create_topics(&[new], &AdminOptions::new())).unwrap();
    results.into_iter().for_each(|r| drop(r.unwrap()));
}

pub(super) fn sink(brokers: &str, topic: &str, more: &str) -> KafkaSink {
    let text = format!("brokers = [\"{brokers}\"]\ntopic = \"{topic}\"\n{more}");
    KafkaSink::new(&"out".into(), &toml::from_str(&text).unwrap(), "sha256:00".into()).unwrap()
}

/// An event that can be told from others.
pub(super) fn numbered(n: u32) -> Output {
    Output::Incidents(vec![IncidentEvent { windows_alerted: n, ..event() }])
}

/// Its number.
pub(super) fn number(got: &Got) -> u32 {
    serde_json::from_slice::<IncidentEvent>(&got.payload).unwrap().windows_alerted
}

/// Asks until all is safe.
pub(super) fn flush(sink: &mut KafkaSink) {
    let until = Instant::now() + Duration::from_secs(20);
    while let Err(error) = sink.flush() {
        assert!(error.retry && Instant::now() < until, "{error}");
    }
}

fn spool(dir: &Path) -> String {
    format!("spool = \"{}\"", dir.join("spool").display())
}

#[test]
fn incidents_arrive_with_key_and_headers() {
    let Some(brokers) = brokers("incidents in Kafka") else { return };
    let topic = topic(&brokers, "incidents", 3);
    let mut sink = sink(&brokers, &topic, "");
    (0..5).for_each(|n| sink.deliver(&numbered(n)).unwrap());
    flush(&mut sink);
    sink.close();
    let got = read(&brokers, &topic, 3, 5);
    assert_eq!(got.iter().map(number).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    // One entity, one partition: the one where Kafka's own producers put that key.
    let place = partition::partition(b"192.0.2.0/24", 3);
    assert!(got.iter().all(|g| g.partition == place as i32 && g.key.as_deref() == Some("192.0.2.0/24")));
    assert_eq!(got[0].headers["kaminari.schema"], "incidents/1");
    assert_eq!(got[0].headers["kaminari.plan"], "sha256:00");
    assert_eq!(got[0].headers["content-type"], "application/json");
}

#[test]
fn flows_arrive_in_the_partition_of_their_key_in_every_format() {
    let Some(brokers) = brokers("flows in Kafka") else { return };
    let mut places = Vec::new();
    for format in ["arrow", "json", "goflow2"] {
        let topic = topic(&brokers, format, 4);
        let mut sink = sink(&brokers, &topic, &format!("content = \"flows\"\nformat = \"{format}\""));
        sink.deliver(&Output::Flows(fixtures::batch(200))).unwrap();
        flush(&mut sink);
        let got = read(&brokers, &topic, 4, if format == "arrow" { 4 } else { 200 });
        let mut keys = BTreeMap::new();
        let mut records = Vec::new();
        for g in &got {
            assert_eq!(g.headers["kaminari.schema"], format!("flows-{format}/1"));
            match &g.key {
                Some(key) => drop(keys.insert(key.clone(), g.partition)),
                None => {
                    for batch in flow_arrow::read(&g.payload).unwrap() {
                        let rows = FlowRows::new(&batch);
                        for record in (0..rows.len()).map(|i| rows.row(i)) {
                            keys.insert(record.dst_addr.prefix(24, 64).to_string(), g.partition);
                            records.push(record);
                        }
                    }
                }
            }
        }
        if format == "arrow" {
            records.sort_by_key(|r| r.time_received_ns);
            assert_eq!(records, (0..200).map(fixtures::record).collect::<Vec<_>>());
        }
        assert_eq!(keys.len(), 200);
        places.push(keys);
    }
    assert_eq!(places[0].values().collect::<BTreeSet<_>>().len(), 4);
    assert!(places.iter().all(|p| *p == places[0]));
}

#[test]
fn what_was_spooled_without_a_broker_arrives_in_order_when_there_is_one() {
    let Some(brokers) = brokers("the spool file") else { return };
    let dir = tempfile::tempdir().unwrap();
    let topic = topic(&brokers, "spooled", 1);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut away = sink(&nobody, &topic, &spool(dir.path()));
    (0..40).for_each(|n| away.deliver(&numbered(n)).unwrap());
    flush(&mut away);
    away.close();
    drop(away);
    let mut sink = sink(&brokers, &topic, &spool(dir.path()));
    (40..50).for_each(|n| sink.deliver(&numbered(n)).unwrap());
    let until = Instant::now() + Duration::from_secs(10);
    while std::fs::metadata(dir.path().join("spool")).unwrap().len() > 16 {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(10));
        sink.tick();
    }
    // The spool is out of the way: straight to the broker.
    sink.deliver(&numbered(50)).unwrap();
    assert_eq!(std::fs::metadata(dir.path().join("spool")).unwrap().len(), 16);
    flush(&mut sink);
    assert_eq!(read(&brokers, &topic, 1, 51).iter().map(number).collect::<Vec<_>>(), (0..51).collect::<Vec<_>>());
}

#[test]
fn flows_spooled_before_the_partitions_were_known_find_their_place() {
    let Some(brokers) = brokers("flows in the spool file") else { return };
    let dir = tempfile::tempdir().unwrap();
    let topic = topic(&brokers, "spooled-flows", 4);
    let more = format!("content = \"flows\"\n{}", spool(dir.path()));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut away = sink(&nobody, &topic, &more);
    away.deliver(&Output::Flows(fixtures::batch(200))).unwrap();
    away.close();
    drop(away);
    let mut sink = sink(&brokers, &topic, &more);
    let until = Instant::now() + Duration::from_secs(10);
    while std::fs::metadata(dir.path().join("spool")).unwrap().len() > 16 && Instant::now() < until {
        sink.tick();
    }
    let mut rows = 0;
    for g in read(&brokers, &topic, 4, 4) {
        for batch in flow_arrow::read(&g.payload).unwrap() {
            let all = FlowRows::new(&batch);
            rows += all.len();
            for record in (0..all.len()).map(|i| all.row(i)) {
                let key = record.dst_addr.prefix(24, 64).to_string();
                assert_eq!(partition::partition(key.as_bytes(), 4) as i32, g.partition);
            }
        }
    }
    assert_eq!(rows, 200);
}

#[test]
fn a_record_too_large_is_lost_and_counted_and_holds_up_nothing() {
    let Some(brokers) = brokers("records too large") else { return };
    let topic = topic(&brokers, "large", 1);
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let large = |bytes: usize| {
        // Noise: the broker's limit is on what is compressed.
        let mut n = 1_u64;
        let mut noise = || {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + (n >> 33) as u8 % 90)
        };
        let message = (0..bytes).map(|_| noise()).collect();
        Output::Incidents(vec![IncidentEvent { windows_alerted: 9, message, ..event() }])
    };
    metrics::with_local_recorder(&recorder, || {
        let mut sink = sink(&brokers, &topic, "");
        sink.deliver(&numbered(0)).unwrap();
        flush(&mut sink);
        // The broker refuses one; librdkafka itself the other.
        sink.deliver(&large(200_000)).unwrap();
        sink.deliver(&large(2_000_000)).unwrap();
        flush(&mut sink);
        sink.deliver(&numbered(1)).unwrap();
        flush(&mut sink);
    });
    assert_eq!(read(&brokers, &topic, 1, 2).iter().map(number).collect::<Vec<_>>(), [0, 1]);
    let text = recorder.handle().render();
    assert!(text.contains("kaminari_sink_failed_total{component_id=\"out\",reason=\"too_large\"} 2"), "{text}");
    assert!(text.contains("kaminari_sink_delivered_total{component_id=\"out\"} 2"), "{text}");
}

#[test]
fn a_topic_that_is_made_later_gets_everything() {
    let Some(brokers) = brokers("topics made later") else { return };
    let topic = fresh("later");
    let mut sink = sink(&brokers, &topic, "client = { \"topic.metadata.propagation.max.ms\" = 300 }");
    (0..3).for_each(|n| sink.deliver(&numbered(n)).unwrap());
    let until = Instant::now() + Duration::from_secs(10);
    while !sink.flush().unwrap_err().to_string().contains("create the topic") {
        assert!(Instant::now() < until, "nothing was said");
    }
    create(&brokers, &topic, 1);
    flush(&mut sink);
    sink.deliver(&numbered(3)).unwrap();
    flush(&mut sink);
    assert_eq!(read(&brokers, &topic, 1, 4).iter().map(number).collect::<Vec<_>>(), [0, 1, 2, 3]);
}
