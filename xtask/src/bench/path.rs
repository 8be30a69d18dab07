//! The whole path over loopback UDP at 300k flows/s: CPU seconds per million flows windowed, by thread too, and what was
//! lost. A run without traffic tells what start-up costs; it is subtracted. The pipeline of configs/demo.toml with its
//! plain limits, the same with all four levels, and the same with its two autoencoders besides.

use super::live::{self, Live};
use super::results::Results;
use crate::report::short;
use crate::shell::say;
use anyhow::Result;

/// Flows a second that are offered.
const RATE: f64 = 300_000.0;
/// The sender starts and ends too: a little less than the rate over its lifetime is the rate.
const NEARLY: f64 = 0.97;
const GOAL_CPU_SECONDS: f64 = 1.5;
/// Case, exporters, seconds.
const CASES: [(&str, &str, u32); 4] =
    [("v5+v9+ipfix", "v5,v9,ipfix", 20), ("v5", "v5", 8), ("v9", "v9", 8), ("ipfix", "ipfix", 8)];

pub fn run(results: &mut Results) -> Result<()> {
    // Compiles the plugin where that is to be done; the second finds it in the cache, as all further runs do.
    live::idle()?;
    let idle = live::idle()?;
    results.row("path", "no traffic", "cpu_s", idle.cpu_seconds, 1);
    results.row("path", "no traffic", "peak_rss_bytes", idle.peak_rss_bytes, 1);
    results.figure("start, idle, stop without traffic", idle.cpu_seconds, "CPU s");
    for (case, exporters, seconds) in CASES {
        let live = live::run(&args(exporters, seconds), |_| Ok(()))?;
        keep(results, case, &live, idle.cpu_seconds);
    }
    let (case, exporters, seconds) = CASES[0];
    let live = live::run(&args(exporters, seconds), live::four_levels)?;
    keep(results, &format!("{case} four levels"), &live, idle.cpu_seconds);
    let live = live::run_trained(&args(exporters, seconds))?;
    keep(results, &format!("{case} with autoencoders"), &live, idle.cpu_seconds);
    Ok(())
}

fn args(exporters: &str, seconds: u32) -> Vec<String> {
    let (seconds, rate) = (seconds.to_string(), RATE.to_string());
    ["--seconds", &seconds, "--rate", &rate, "--exporters", exporters].map(String::from).to_vec()
}

fn keep(results: &mut Results, case: &str, live: &Live, idle_seconds: f64) {
    let (sent, summary) = (live.truth.flows(), &live.summary);
    // Of the flows that were worked on: a run that loses half of them is not cheaper.
    let millions = summary.windowed().max(1) as f64 / 1e6;
    let offered = sent as f64 / live.sending.as_secs_f64();
    let cpu = (summary.cpu_seconds - idle_seconds) / millions;
    let missing = sent.saturating_sub(summary.windowed().min(summary.received()));
    // More than a second's worth: the queues took what the engine did not keep up with, and a longer run would lose it.
    let behind = sent as f64 - live::metric(&live.metrics, "kaminari_window_records_total");
    let losses: Vec<(&str, f64)> = summary.losses().into_iter().filter(|(_, n)| *n > 0.0).collect();

    let mut row = |unit: &str, value: f64| results.row("path", case, unit, value, 1);
    row("cpu_s", summary.cpu_seconds);
    row("cpu_s_per_m", cpu);
    row("offered_flows_per_s", offered);
    row("flows_sent", sent as f64);
    row("flows_received", summary.received() as f64);
    row("flows_windowed", summary.windowed() as f64);
    row("flows_not_windowed_when_sending_ended", behind);
    row("peak_rss_bytes", summary.peak_rss_bytes);
    losses.iter().for_each(|(place, n)| row(place, *n));
    for (name, seconds) in &live.threads {
        results.row("thread", &format!("{case} {name}"), "cpu_s_per_m", seconds / millions, 1);
    }
    let mut busiest: Vec<(&String, &f64)> = live.threads.iter().collect();
    busiest.sort_by(|a, b| b.1.total_cmp(a.1));
    let busiest = busiest.iter().take(6).map(|(name, s)| format!("{name} {:.3}", *s / millions));
    say(&format!("path: {case}: CPU s per million flows by thread: {}", busiest.collect::<Vec<_>>().join(", ")));

    results.at_most(&format!("path {case}, per million flows"), cpu, GOAL_CPU_SECONDS, "CPU s");
    let lost: String = losses.iter().map(|(place, n)| format!(", {place} {}", short(*n))).collect();
    let said = format!(
        "{missing} of {} at {}/s, {} behind at the end{lost}",
        short(sent as f64),
        short(offered),
        short(behind)
    );
    let met = missing == 0 && losses.is_empty() && offered >= NEARLY * RATE;
    results.said(&format!("path {case}, flows lost"), said, &format!("0 at {}/s", short(RATE)), met);
}
