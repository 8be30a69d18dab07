//! How much a plugin that loops delays another pipeline of the process: figures, for a person. The bound is only against one
//! that waits for the other.

use crate::run::Engine;
use kaminari_tests::plugin;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// Bounds and counts of the histogram of one pipeline.
fn delays(text: &str) -> Vec<(f64, u64)> {
    let prefix = "kaminari_detection_delay_seconds_bucket{pipeline=\"good\",le=\"";
    let buckets = text.lines().filter_map(|line| line.strip_prefix(prefix)?.split_once("\"} "));
    buckets.map(|(bound, n)| (bound.parse().unwrap_or(f64::INFINITY), n.parse().unwrap())).collect()
}

/// The bound below which so many of a hundred are.
fn quantile(buckets: &[(f64, u64)], percent: u64) -> f64 {
    let all = buckets.last().map_or(0, |b| b.1);
    buckets.iter().find(|(_, n)| n * 100 >= all * percent).map_or(f64::INFINITY, |b| b.0)
}

fn measure(bad: &str, seconds: u64) -> (u64, f64, f64) {
    let pipeline = |name: &str, source: &str, config: &str| {
        format!(
            "[detectors.{name}]
             plugin = \"hostile\"
             config = {{ above = 0.0 }}
             [pipelines.{name}]
             sources = [{source:?}]
             features = [\"sum\"]
             detectors = [\"{name}\"]
             sinks = [\"file\"]
             window = {{ type = \"tumbling\", size_secs = 1, event_time = \"received\" }}
             incident = {{ open_after = \"1/1\", close_after_windows = 1, max_open_per_minute = 100000 }}
             [pipelines.{name}.records]
             entity = \"name\"
             extract = {{ plugin = \"hostile\", config = {config} }}"
        )
    };
    let engine = Engine::launch(&format!(
        "[api]
         listen = \"127.0.0.1:0\"
         [sources.edge]
         type = \"udp\"
         listen = \"127.0.0.1:0\"
         decode = {{ plugin = \"hostile\" }}
         [plugins.hostile]
         path = {:?}
         limits = {{ deadline_ms = 250 }}
         [sinks.file]
         type = \"file\"
         path = \"incidents.jsonl\"
         {}
         {}",
        plugin("hostile"),
        pipeline("good", "edge", "{}"),
        pipeline("bad", "edge", bad)
    ));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut n = 0u64;
    while Instant::now() < until {
        // A name of its own each time: every window opens incidents, and is a value of the histogram.
        socket.send_to(format!("1 name-{n} 1").as_bytes(), engine.udp).unwrap();
        n += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let buckets = delays(&engine.get("/metrics").1);
    (buckets.last().map_or(0, |b| b.1), quantile(&buckets, 50), quantile(&buckets, 99))
}

#[test]
#[ignore = "a measurement: cargo test -p kaminari-tests --test it hostile::delay -- --ignored --nocapture"]
fn a_looping_neighbour_delays_nobody() {
    for (name, config) in [("none", "{}"), ("loops in extract", "{ misbehave = \"loop\", in = \"extract\" }")] {
        let (windows, p50, p99) = measure(config, 20);
        println!("neighbour {name}: {windows} windows; p50 below {p50} s, p99 below {p99} s after the window's end");
        assert!(windows >= 10 && p99 <= 5.0, "{name}: {windows} {p99}");
    }
}
