//! Flows through Kafka: what a collector takes to write a topic, and what detectors take from the topic to incidents, by
//! format, as configs/collector.toml and configs/detector.toml set them up; and what a second process brings. The broker is
//! on the same machine. Refused: a run that loses a record, leaves one unread, or finds other incidents than there are.
//! The detectors' CPU seconds are of their processes alone, from their start to their end.

mod detect;
mod stream;

use super::results::Results;
use super::{live, micro};
use crate::kafka::for_bench;
use crate::shell::say;
use anyhow::Result;
use detect::{Group, Reading};
pub use stream::create;
use stream::{Format, Stream, Topic};

/// Repetitions of each case.
const REPETITIONS: usize = 3;
/// The usual stream: flows a second of event time, seconds.
const USUAL: (u32, u32) = (100_000, 24);
/// One with few flows a second, where windows cost more per flow.
const SLOW: (u32, u32) = (10_000, 60);
const SCALE_GOAL: f64 = 1.5;
/// Wall seconds that give a rate.
const SHORTEST: f64 = 1.5;

pub fn run(results: &mut Results) -> Result<()> {
    micro::pmacct(results)?;
    // Compiles the plugin into the cache.
    live::idle()?;
    let broker = for_bench()?;
    let usual = Stream::make("usual", USUAL)?;
    let mut arrow = None;
    for format in Format::ALL {
        let topic = write(results, &broker, &usual, format)?;
        read(results, &broker, &topic, &format.to_string())?;
        if format == Format::Arrow {
            arrow = Some(topic);
        }
    }
    if let Some(arrow) = arrow {
        scale(results, &broker, &arrow)?;
    }
    let slow = Stream::make("slow", SLOW)?;
    let topic = slow.write(&broker, Format::Arrow)?;
    read(results, &broker, &topic, &format!("arrow at {}k flows/s", SLOW.0 / 1000))
}

type Broker = crate::kafka::ForBench;

fn write(results: &mut Results, broker: &Broker, stream: &Stream, format: Format) -> Result<Topic> {
    let case = format!("{format} written");
    let mut topic = stream.write(broker, format)?;
    let mut rep = 1;
    loop {
        let mut row = |unit: &str, value: f64| results.row("kafka", &case, unit, value, rep);
        row("flows", topic.flows as f64);
        if let Some(cpu) = topic.collector_cpu_seconds {
            row("cpu_s_per_m", cpu * 1e6 / topic.flows as f64);
        }
        if let Some(bytes) = topic.log_bytes {
            row("bytes_per_flow", bytes as f64 / topic.flows as f64);
        }
        if rep == REPETITIONS || topic.collector_cpu_seconds.is_none() {
            break;
        }
        rep += 1;
        topic = stream.write(broker, format)?;
    }
    let cpu = results.median_of("kafka", &case, "cpu_s_per_m");
    if cpu.is_finite() {
        results.figure(&format!("collector, capture to {format} in Kafka, per million flows"), cpu, "CPU s");
    }
    let bytes = results.median_of("kafka", &case, "bytes_per_flow");
    if bytes.is_finite() {
        results.figure(&format!("{format} in the topic (lz4), per flow"), bytes, "bytes");
    }
    Ok(topic)
}

/// One process, as it is set up.
fn read(results: &mut Results, broker: &Broker, topic: &Topic, case: &str) -> Result<()> {
    for rep in 1..=REPETITIONS {
        let reading = Group { processes: 1, threads: None }.read(broker, topic)?;
        keep(results, case, topic, &reading, rep);
    }
    let median = |unit: &str| results.median_of("kafka", case, unit);
    let (cpu, rate, rss) = (median("cpu_s_per_m"), median("flows_per_s"), median("peak_rss_bytes"));
    let name = format!("Kafka, {case} to incidents, per million flows");
    results.figure(&name, cpu, "CPU s");
    if rate.is_finite() {
        results.figure(&format!("Kafka, {case} to incidents, one process"), rate, "flows/s");
    }
    results.figure(&format!("Kafka, {case}, peak memory"), rss / 1e6, "MB");
    let said = format!("{} of {} in each of {REPETITIONS} runs", topic.attacks, topic.attacks);
    results.said(&format!("Kafka, {case}, attacks found"), said, "all and no more", true);
    Ok(())
}

/// One process and two with one thread each, in turns.
fn scale(results: &mut Results, broker: &Broker, topic: &Topic) -> Result<()> {
    let case = |processes| format!("arrow by {processes} x one thread");
    for rep in 1..=REPETITIONS {
        let rates = [1, 2].map(|processes| -> Result<f64> {
            let reading = Group { processes, threads: Some(1) }.read(broker, topic)?;
            keep(results, &case(processes), topic, &reading, rep);
            Ok(topic.flows as f64 / reading.wall_seconds)
        });
        let [one, two] = rates;
        results.row("kafka", "arrow two processes over one", "x", two? / one?, rep);
    }
    for processes in [1, 2] {
        let of = |unit: &str| results.median_of("kafka", &case(processes), unit);
        let (rate, cpu) = (of("flows_per_s"), of("cpu_s_per_m"));
        results.figure(&format!("Kafka, {}", case(processes)), rate, "flows/s");
        results.figure(&format!("Kafka, {}, per million flows", case(processes)), cpu, "CPU s");
    }
    let ratio = results.median("kafka", "arrow two processes over one");
    results.at_least("Kafka, two processes over one (the broker shares the cores)", ratio, SCALE_GOAL, "x");
    Ok(())
}

fn keep(results: &mut Results, case: &str, topic: &Topic, reading: &Reading, rep: usize) {
    let millions = topic.flows as f64 / 1e6;
    let mut row = |unit: &str, value: f64| results.row("kafka", case, unit, value, rep);
    row("wall_s", reading.wall_seconds);
    // Of a short topic the looks at the counters see too little.
    if reading.wall_seconds >= SHORTEST {
        row("flows_per_s", topic.flows as f64 / reading.wall_seconds);
    }
    row("cpu_s", reading.cpu_seconds());
    row("cpu_s_per_m", reading.cpu_seconds() / millions);
    row("peak_rss_bytes", reading.peak_rss_bytes);
    row("incidents", topic.attacks as f64);
    row("load_average", reading.load);
    if let Some(seconds) = reading.broker_cpu_seconds {
        row("broker_cpu_s_per_m", seconds / millions);
    }
    for (process, n) in reading.processes.iter().zip(1..) {
        row(&format!("process_{n}_flows"), process.flows as f64);
        row(&format!("process_{n}_cpu_s"), process.cpu_seconds);
    }
    say(&format!(
        "kafka: {case}: {:.2} s, {:.3} CPU s per million flows, load {:.2}",
        reading.wall_seconds,
        reading.cpu_seconds() / millions,
        reading.load
    ));
}
