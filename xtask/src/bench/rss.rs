//! Peak memory with 50,000 destination hosts of which nearly all are in every 10 s window: the least popular one has
//! four flows in it at this rate.

use super::live;
use super::results::Results;
use crate::engine::table;
use anyhow::Result;

const HOSTS: &str = "50000";
const RATE: &str = "100000";
/// Longer than a window.
const SECONDS: &str = "14";
const GOAL_MB: f64 = 200.0;

pub fn run(results: &mut Results) -> Result<()> {
    let args = ["--hosts", HOSTS, "--rate", RATE, "--seconds", SECONDS].map(String::from);
    let host = live::run(&args, only_hosts)?;
    keep(results, "dst_addr", &host);
    results.at_most("peak memory, 50k hosts, dst_addr", host.summary.peak_rss_bytes / 1e6, GOAL_MB, "MB");
    let all = live::run(&args, live::four_levels)?;
    keep(results, "four levels", &all);
    // Ten times as many sources as hosts: a level of its own.
    results.figure("peak memory, 50k hosts and 500k sources, four levels", all.summary.peak_rss_bytes / 1e6, "MB");
    Ok(())
}

/// One level; the detector that judges prefixes goes.
fn only_hosts(config: &mut toml::Table) -> Result<()> {
    table(config, &["detectors"])?.remove("prefix-limits");
    let pipeline = table(config, &["pipelines", "ddos"])?;
    pipeline.insert("keys".into(), vec!["dst_addr"].into());
    pipeline.insert("detectors".into(), vec!["host-limits"].into());
    Ok(())
}

fn keep(results: &mut Results, case: &str, live: &live::Live) {
    let entities = live::metric(&live.metrics, "kaminari_window_entities");
    results.row("rss", case, "peak_rss_bytes", live.summary.peak_rss_bytes, 1);
    results.row("rss", case, "entities_over_all_panes", entities, 1);
    results.row("rss", case, "flows_lost", live.truth.flows().saturating_sub(live.summary.windowed()) as f64, 1);
}
