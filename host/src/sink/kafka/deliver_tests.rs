//! Brokers that are slow, silent, gone, or refuse: librdkafka's own mock of a cluster.

use super::*;
use crate::sink::kafka::tests::{flush, number, numbered, read, sink};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::path::Path;

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster() -> (Cluster, String) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    (cluster, brokers)
}

/// With a spool file, and little patience.
fn spooling(brokers: &str, dir: &Path) -> KafkaSink {
    let mut sink = sink(brokers, "t", &format!("spool = \"{}\"", dir.join("spool").display()));
    sink.silence = Duration::from_millis(300);
    sink
}

/// Runs until the brokers have what is in the spool file.
fn drained(sink: &mut KafkaSink) {
    let until = Instant::now() + Duration::from_secs(15);
    while sink.spool.as_ref().is_some_and(|spool| spool.bytes() > 0) {
        assert!(Instant::now() < until, "{} bytes are left", sink.spool.as_ref().unwrap().bytes());
        std::thread::sleep(Duration::from_millis(5));
        sink.tick();
    }
}

fn counted(text: &str, metric: &str, reason: &str) -> u64 {
    let labels = if reason.is_empty() { String::new() } else { format!(",reason=\"{reason}\"") };
    let name = format!("{metric}{{component_id=\"out\"{labels}}} ");
    text.lines().find_map(|l| l.strip_prefix(&name)).map_or(0, |n| n.parse().unwrap())
}

#[test]
fn a_broker_that_falls_silent_costs_nothing_with_a_spool() {
    let (cluster, brokers) = cluster();
    let dir = tempfile::tempdir().unwrap();
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        let mut sink = spooling(&brokers, dir.path());
        (0..5).for_each(|n| sink.deliver(&numbered(n)).unwrap());
        flush(&mut sink);
        drained(&mut sink);
        cluster.broker_down(-1).unwrap();
        // These are with the producer, ...
        (5..10).for_each(|n| sink.deliver(&numbered(n)).unwrap());
        assert_eq!((sink.direct, sink.spool.as_ref().unwrap().bytes()), (5, 0));
        // ... and come back to the file, which is safe enough.
        flush(&mut sink);
        assert_eq!(sink.direct, 0);
        (10..15).for_each(|n| sink.deliver(&numbered(n)).unwrap());
        sink.close();
        drop(sink);
        cluster.broker_up(-1).unwrap();
        let mut sink = spooling(&brokers, dir.path());
        (15..20).for_each(|n| sink.deliver(&numbered(n)).unwrap());
        drained(&mut sink);
        flush(&mut sink);
    });
    let mut numbers: Vec<u32> = read(&brokers, "t", 1, 20).iter().map(number).collect();
    numbers.dedup();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    let text = recorder.handle().render();
    assert!(counted(&text, "kaminari_sink_spooled_total", "") >= 10, "{text}");
    assert!(counted(&text, "kaminari_sink_delivered_total", "") >= 20, "{text}");
    assert!(!text.contains("kaminari_sink_failed_total"), "{text}");
}

#[test]
fn records_with_the_producer_are_older_than_the_spool() {
    let (cluster, brokers) = cluster();
    let dir = tempfile::tempdir().unwrap();
    let mut sink = spooling(&brokers, dir.path());
    sink.deliver(&numbered(0)).unwrap();
    flush(&mut sink);
    drained(&mut sink);
    cluster.broker_down(-1).unwrap();
    (1..4).for_each(|n| sink.deliver(&numbered(n)).unwrap());
    // As when the producer had no room for them.
    let mut records = Vec::new();
    (4..7).for_each(|n| sink.encoder.encode_each(&numbered(n), &mut |record, rows| records.push((record, rows))));
    sink.keep(records).unwrap();
    std::thread::sleep(sink.silence);
    sink.tick();
    assert_eq!(sink.direct, 0);
    cluster.broker_up(-1).unwrap();
    drained(&mut sink);
    let mut numbers: Vec<u32> = read(&brokers, "t", 1, 7).iter().map(number).collect();
    numbers.dedup();
    assert_eq!(numbers, (0..7).collect::<Vec<_>>());
}

#[test]
fn what_is_not_allowed_is_kept_and_tried_again() {
    let (cluster, brokers) = cluster();
    let mut sink = sink(&brokers, "t", "");
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED];
    cluster.request_errors(RDKafkaApiKey::Produce, &refused);
    (0..3).for_each(|n| sink.deliver(&numbered(n)).unwrap());
    let until = Instant::now() + Duration::from_secs(5);
    while sink.again.is_empty() {
        assert!(Instant::now() < until);
        sink.tick();
    }
    let error = sink.deliver(&numbered(3)).unwrap_err();
    assert_eq!((error.reason, error.retry), ("not_authorized", true));
    assert!(error.to_string().contains("grant"), "{error}");
    flush(&mut sink);
    assert!(sink.voice.trouble().is_none());
    sink.deliver(&numbered(3)).unwrap();
    flush(&mut sink);
    let numbers: Vec<u32> = read(&brokers, "t", 1, 4).iter().map(number).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
}

#[test]
fn what_nobody_acknowledged_at_the_end_is_counted() {
    let (cluster, brokers) = cluster();
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        let mut sink = sink(&brokers, "t", "");
        cluster.broker_down(-1).unwrap();
        (0..3).for_each(|n| sink.deliver(&numbered(n)).unwrap());
        assert_eq!(sink.flush().unwrap_err().reason, "unacknowledged");
        sink.close();
    });
    let text = recorder.handle().render();
    assert_eq!(counted(&text, "kaminari_sink_failed_total", "unacknowledged"), 3, "{text}");
}

#[test]
fn a_full_spool_asks_to_wait() {
    let (cluster, brokers) = cluster();
    let dir = tempfile::tempdir().unwrap();
    cluster.broker_down(-1).unwrap();
    let path = dir.path().join("spool").display().to_string();
    let mut sink = sink(&brokers, "t", &format!("spool = \"{path}\"\nspool_bytes = 10000"));
    let refused = (0..20).map(|n| sink.deliver(&numbered(n))).find_map(Result::err).unwrap();
    assert_eq!((refused.reason, refused.retry), ("spool_full", true));
    assert!(std::fs::metadata(path).unwrap().len() <= 10_016);
    assert!(sink.flush().is_ok(), "what it took is safe");
}

#[test]
fn a_full_buffer_asks_to_wait_and_offers_nothing_twice() {
    let (cluster, brokers) = cluster();
    cluster.broker_round_trip_time(-1, Duration::from_millis(100)).unwrap();
    let mut sink = sink(&brokers, "t", "buffer_bytes = 1048576");
    let many = |n: u32| {
        let Output::Incidents(mut events) = numbered(n) else { unreachable!() };
        events = vec![events.remove(0); 300];
        Output::Incidents(events)
    };
    let mut refused = 0;
    for n in 0..6 {
        while let Err(error) = sink.deliver(&many(n)) {
            assert_eq!((error.reason, error.retry), ("queue_full", true));
            refused += 1;
        }
    }
    assert!(refused > 0);
    flush(&mut sink);
    let numbers: Vec<u32> = read(&brokers, "t", 1, 1800).iter().map(number).collect();
    assert_eq!(numbers.len(), 1800);
    assert!(numbers.is_sorted());
}
