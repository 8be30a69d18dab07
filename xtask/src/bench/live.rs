//! One run of the real engine over loopback: start, ready, traffic, settle, stop. What it used and what came of it.

use crate::engine::{Engine, Site, table};
use crate::report::{Report, Truth};
use crate::shell::target;
use crate::summary::Summary;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// After the traffic: what the socket buffer and the last windows still hold.
const SETTLE: Duration = Duration::from_secs(2);

/// What a run left.
pub struct Live {
    pub summary: Summary,
    pub truth: Truth,
    pub report: Report,
    /// How long the traffic took on the wall clock.
    pub sending: Duration,
    /// CPU seconds by thread name, from ready until the engine had settled.
    pub threads: BTreeMap<String, f64>,
    /// `/metrics` when the last flow had been sent.
    pub metrics: String,
}

/// Compiled plugins of all runs: separate from the user's own, so that it can be emptied.
pub fn cache() -> PathBuf {
    target().join("bench/cache")
}

/// A site with configs/demo.toml and the benches' plugin cache, changed by `edit`.
pub fn site(edit: impl FnOnce(&mut toml::Table) -> Result<()>) -> Result<Site> {
    let site = Site::new("bench/run")?;
    site.configure(|config| {
        table(config, &["engine"])?.insert("plugin_cache_dir".into(), cache().display().to_string().into());
        edit(config)
    })?;
    Ok(site)
}

/// No traffic: what start, idling and stop cost.
pub fn idle() -> Result<Summary> {
    let site = site(|_| Ok(()))?;
    let mut engine = site.start()?;
    engine.wait_ready()?;
    std::thread::sleep(SETTLE);
    engine.stop()?;
    site.summary()
}

/// Sends what `kaminari generate flows ARGS` makes.
pub fn run(args: &[String], edit: impl FnOnce(&mut toml::Table) -> Result<()>) -> Result<Live> {
    let site = site(edit)?;
    let mut engine = site.start()?;
    engine.wait_ready()?;
    let before = threads(&engine)?;
    let begun = Instant::now();
    let mut traffic = site.send(args)?;
    while !traffic.ended()? {
        engine.must_live()?;
        std::thread::sleep(Duration::from_millis(20));
    }
    let sending = begun.elapsed();
    let (_, metrics) = engine.get("/metrics")?;
    std::thread::sleep(SETTLE);
    let mut threads = threads(&engine)?;
    for (name, seconds) in &mut threads {
        *seconds -= before.get(name).copied().unwrap_or(0.0);
    }
    engine.stop()?;
    let (summary, truth) = (site.summary()?, site.truth()?);
    let report = Report::new(&truth, &site.events()?, &summary)?;
    Ok(Live { summary, truth, report, sending, threads, metrics })
}

/// CPU seconds of the engine's threads so far, by name.
fn threads(engine: &Engine) -> Result<BTreeMap<String, f64>> {
    let mut out = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{}/task", engine.pid()))? {
        let task = task?.path();
        // A thread that has just ended has no files any more.
        let (Ok(name), Ok(stat)) =
            (std::fs::read_to_string(task.join("comm")), std::fs::read_to_string(task.join("schedstat")))
        else {
            continue;
        };
        let ns = stat.split(' ').next().and_then(|n| n.parse::<f64>().ok()).context("schedstat is not understood")?;
        *out.entry(name.trim().to_owned()).or_insert(0.0) += ns / 1e9;
    }
    Ok(out)
}
