//! What a reload takes and whom it disturbs. One engine under a steady load over loopback UDP, in one run: blocks without
//! reloads and blocks with one every 0.6 s take turns, so that both see the same machine. Two pipelines over two sources; one
//! is left alone, the other changes. Both tell an incident once a window: from the window's end to what was told is the delay.
//! Then the same where both read one Kafka topic, which a collector writes (`log.rs`).
//! Refused: a reload that ends otherwise than it must.

mod exporter;
mod log;
mod plan;

use super::results::{Results, percentile};
use crate::engine::{Engine, Site};
use crate::report::short;
use crate::shell::target;
use anyhow::{Context, Result, bail};
use exporter::Exporter;
use plan::{CHANGED, Kind, NEIGHBOUR, Plan, ROUND, Sources};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Flows a second, over both sources.
const RATE: f64 = 100_000.0;
const SOURCES: f64 = 2.0;
/// Blocks of each sort.
const BLOCKS: usize = 4;
const BLOCK: Duration = Duration::from_secs(30);
/// No even part of a window: each begins at another place between two window ends.
const EVERY: Duration = Duration::from_millis(606);
const PER_BLOCK: usize = 50;
/// After the blocks, as fast as they go, until there were so many: does memory still grow?
const IN_ALL: usize = 400;
/// Memory is looked at after each round, when the same runs; these are told.
const LOOKS: [usize; 3] = [20, 200, IN_ALL];
/// Until both pipelines have windows and incidents.
const WARM_UP: Duration = Duration::from_secs(5);
/// Windows that end in the last second of a block may be told in the next: they count for none.
const MARGIN: f64 = 1.0;
/// Until what was sent is in the windows.
const SETTLE: Duration = Duration::from_secs(3);
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const GOAL_RATIO: f64 = 1.5;

/// From when to when, in seconds of the wall clock; with reloads or without.
struct Block {
    begun: f64,
    ended: f64,
    reloads: bool,
}

/// A window of a pipeline of which was told.
struct Told {
    /// Seconds of the wall clock.
    end: f64,
    emitted: f64,
}

/// One engine and what is changed in it.
struct Run {
    /// Of its rows.
    group: &'static str,
    /// Ends the names of its figures.
    of: &'static str,
    site: Site,
    engine: Engine,
    plan: Plan,
    done: usize,
}

pub fn run(results: &mut Results) -> Result<()> {
    let site = Site::new("bench/reload")?;
    let other = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let to = [site.udp, other];
    let mut run = Run::start("reload", "", site, Sources::Udp(to))?;
    let exporters = to.map(|to| Exporter::start(to, RATE / SOURCES));
    std::thread::sleep(WARM_UP);
    let blocks = run.blocks(results, BLOCKS)?;
    while run.done < IN_ALL {
        run.reload(results)?;
    }
    let [edge, others] = exporters.map(|e| e?.stop());
    let sent = [(CHANGED, edge?), (NEIGHBOUR, others?)];
    let look = |results: &mut Results| {
        for look in LOOKS {
            let bytes = results.median("reload memory", &format!("after {look}"));
            results.figure(&format!("resident memory after {look} reloads"), bytes / 1e6, "MB");
        }
    };
    run.end(results, &blocks, sent, RATE)?;
    look(results);
    log::run(results)
}

impl Run {
    fn start(group: &'static str, of: &'static str, site: Site, sources: Sources) -> Result<Self> {
        let plugin = target().join("plugins/threshold.wasm");
        let plan = Plan::new(&site.dir, site.config(), site.api, sources, plugin)?;
        let mut engine = site.start()?;
        engine.wait_ready()?;
        Ok(Self { group, of, site, engine, plan, done: 0 })
    }

    /// So many blocks of each sort, in turns.
    fn blocks(&mut self, results: &mut Results, of_each: usize) -> Result<Vec<Block>> {
        let mut blocks = Vec::new();
        for _ in 0..of_each {
            let begun = now();
            std::thread::sleep(BLOCK);
            blocks.push(Block { begun, ended: now(), reloads: false });
            self.engine.must_live()?;
            blocks.push(self.block(results)?);
        }
        Ok(blocks)
    }

    /// A block with reloads.
    fn block(&mut self, results: &mut Results) -> Result<Block> {
        let (since, begun) = (Instant::now(), now());
        for n in 1..=PER_BLOCK {
            self.reload(results)?;
            std::thread::sleep((EVERY * n as u32).saturating_sub(since.elapsed()));
        }
        Ok(Block { begun, ended: now(), reloads: true })
    }

    /// The next change.
    fn reload(&mut self, results: &mut Results) -> Result<()> {
        let kind = ROUND[self.done % ROUND.len()];
        self.done += 1;
        let done = self.done;
        self.plan.change(kind)?;
        let (status, answer) = self.engine.ask("POST", "/-/reload", ANSWER_WITHIN).with_context(|| kind.name())?;
        self.engine.must_live()?;
        let report: Value = serde_json::from_str(&answer).with_context(|| format!("{status}: {answer}"))?;
        if report["outcome"] != kind.outcome() {
            bail!("reload {done} ({}) should be {}: {status} {report:#}", kind.name(), kind.outcome());
        }
        let took = report["took_ms"].as_f64().context("the report has no took_ms")?;
        results.row(self.group, kind.name(), "ms", took, done);
        if done.is_multiple_of(ROUND.len()) {
            let memory = format!("{} memory", self.group);
            results.row(&memory, &format!("after {done}"), "bytes", resident(&self.engine)?, 1);
        }
        Ok(())
    }

    /// Nobody sends any more: what all of it was.
    fn end(self, results: &mut Results, blocks: &[Block], sent: [(&str, u64); 2], rate: f64) -> Result<()> {
        let Self { group, of, site, mut engine, done, .. } = self;
        std::thread::sleep(SETTLE);
        engine.stop()?;
        let names = Names { group, of };
        names.times(results);
        names.disturbed(results, &site.events()?, blocks)?;
        names.lost(results, &site, sent, (done, rate))?;
        // Compiled plugins of all the contents: nobody asks for them again.
        let cache = site.dir.join("cache");
        std::fs::remove_dir_all(&cache).with_context(|| format!("cannot remove {}", cache.display()))
    }
}

/// What rows and figures are called.
#[derive(Clone, Copy)]
struct Names {
    group: &'static str,
    of: &'static str,
}

impl Names {
    /// By kind, as the engine says.
    fn times(self, results: &mut Results) {
        let Self { group, of } = self;
        for kind in Kind::ALL {
            let took = results.values(group, kind.name());
            let [p50, p99] = [0.5, 0.99].map(|p| short(percentile(&took, p)));
            results.told(
                &format!("reload: {}{of}", kind.name()),
                format!("p50 {p50} ms, p99 {p99} ms (n {})", took.len()),
            );
        }
    }

    /// Delays of both pipelines in both sorts of blocks.
    fn disturbed(self, results: &mut Results, events: &[Value], blocks: &[Block]) -> Result<()> {
        let Self { group, of } = self;
        for pipeline in [NEIGHBOUR, CHANGED] {
            let told = windows(events, pipeline)?;
            let p99 = [false, true].map(|reloads| {
                let case = format!("{pipeline} {}", if reloads { "with reloads" } else { "without reloads" });
                let mine = |t: &&Told| {
                    let within = |b: &Block| b.reloads == reloads && t.end >= b.begun && t.end < b.ended - MARGIN;
                    blocks.iter().any(within)
                };
                let delays: Vec<f64> = told.iter().filter(mine).map(|t| (t.emitted - t.end) * 1e3).collect();
                for (n, delay) in delays.iter().enumerate() {
                    results.row(&format!("{group} delay"), &case, "ms", *delay, n + 1);
                }
                let at = |p| percentile(&delays, p);
                let [p50, p99, max] = [0.5, 0.99, 1.0].map(|p| short(at(p)));
                let said = format!("p50 {p50} ms, p99 {p99} ms, max {max} ms (n {})", delays.len());
                results.told(&format!("window end to incident: {case}{of}"), said);
                at(0.99)
            });
            let ratio = p99[1] / p99[0];
            results.row(&format!("{group} delay"), &format!("{pipeline} p99 with over without"), "x", ratio, 1);
            if pipeline == NEIGHBOUR {
                results.at_most(&format!("the same: neighbour, p99 with over without{of}"), ratio, GOAL_RATIO, "x");
                let (missing, of) = missing(&told);
                results.row(group, "windows missing", "windows", missing as f64, 1);
                results.said(
                    &format!("windows of the neighbour missing{of}"),
                    format!("{missing} of {of}"),
                    "0",
                    missing == 0,
                );
            }
        }
        Ok(())
    }

    /// Each flow is in a window of its pipeline.
    fn lost(
        self,
        results: &mut Results,
        site: &Site,
        sent: [(&str, u64); 2],
        (done, rate): (usize, f64),
    ) -> Result<()> {
        let Self { group, of } = self;
        let summary = site.summary()?;
        let mut missing = 0.0;
        for (pipeline, flows) in sent {
            let windowed = summary.total("kaminari_window_records_total", &format!("\"{pipeline}\""));
            results.row(group, &format!("{pipeline} flows sent"), "flows", flows as f64, 1);
            results.row(group, &format!("{pipeline} flows windowed"), "flows", windowed, 1);
            missing += (flows as f64 - windowed).abs();
        }
        let losses: Vec<(&str, f64)> = summary.losses().into_iter().filter(|(_, n)| *n > 0.0).collect();
        losses.iter().for_each(|(place, n)| results.row(group, place, "count", *n, 1));
        let places: String = losses.iter().map(|(place, n)| format!(", {place} {}", short(*n))).collect();
        let all: u64 = sent.iter().map(|(_, flows)| flows).sum();
        let said = format!("{} of {}{places}", short(missing), short(all as f64));
        let goal = format!("0 at {}/s", short(rate));
        results.said(&format!("flows lost in all of it{of}"), said, &goal, missing == 0.0 && losses.is_empty());
        let refused = results.values(group, Kind::BrokenText.name()).len()
            + results.values(group, Kind::BrokenPlugin.name()).len();
        let said = format!("{} applied, {refused} refused as they must be", done - refused);
        results.told(&format!("reloads{of}"), said);
        Ok(())
    }
}

/// Whole windows of the pipeline that an incident was told of; of those that were told of twice, the first.
fn windows(events: &[Value], pipeline: &str) -> Result<Vec<Told>> {
    let (mut seen, mut out) = (BTreeSet::new(), Vec::new());
    let whole = |e: &&Value| {
        let kind = e["event"].as_str();
        e["pipeline"] == pipeline && matches!(kind, Some("open" | "update")) && e["window"]["partial"] != true
    };
    for event in events.iter().filter(whole) {
        let end = event["window"]["end"].as_str().context("an event has no window")?;
        if seen.insert(end) {
            out.push(Told { end: seconds(end)?, emitted: seconds(event["emitted_at"].as_str().unwrap_or_default())? });
        }
    }
    Ok(out)
}

/// Windows of a second between the first and the last of which nothing was told, and how many there should be.
fn missing(told: &[Told]) -> (usize, usize) {
    let ends: BTreeSet<i64> = told.iter().map(|t| t.end.round() as i64).collect();
    let of = ends.last().zip(ends.first()).map_or(0, |(last, first)| (last - first) as usize + 1);
    (of - ends.len(), of)
}

/// Resident bytes of the engine.
fn resident(engine: &Engine) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid()))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.context("/proc/PID/status is not understood")? * 1024.0)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn seconds(text: &str) -> Result<f64> {
    let at: jiff::Timestamp = text.parse().with_context(|| format!("no time: {text:?}"))?;
    Ok(at.as_nanosecond() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(kind: &str, end: &str, emitted: &str, partial: bool) -> Value {
        let window = json!({ "end": end, "partial": partial });
        json!({ "event": kind, "pipeline": NEIGHBOUR, "window": window, "emitted_at": emitted })
    }

    #[test]
    fn delays_are_of_whole_windows_each_once() {
        let events = [
            event("open", "2026-11-29T12:00:01Z", "2026-11-29T12:00:01.25Z", false),
            event("update", "2026-11-29T12:00:01Z", "2026-11-29T12:00:01.75Z", false),
            event("update", "2026-11-29T12:00:02Z", "2026-11-29T12:00:01.5Z", true),
            event("update", "2026-11-29T12:00:04Z", "2026-11-29T12:00:04.5Z", false),
            event("close", "2026-11-29T12:00:05Z", "2026-11-29T12:00:05.5Z", false),
        ];
        let told = windows(&events, NEIGHBOUR).unwrap();
        let delays: Vec<f64> = told.iter().map(|t| ((t.emitted - t.end) * 1e3).round()).collect();
        assert_eq!(delays, [250.0, 500.0]);
        assert_eq!(missing(&told), (2, 4));
        assert!(windows(&events, CHANGED).unwrap().is_empty());
        assert_eq!(missing(&[]), (0, 0));
    }
}
