//! One run of the real engine over loopback: start, ready, traffic, settle, stop. What it used and what came of it.

use crate::engine::{Engine, Site, table, without_models};
use crate::report::{Report, Truth};
use crate::shell::target;
use crate::summary::Summary;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// After the traffic: what the socket buffer and the last windows still hold ...
const SETTLE: Duration = Duration::from_secs(2);
/// ... and what the queues hold, when the engine is behind.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(20);

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

/// A site with the plain limits of configs/demo.toml and the benches' plugin cache, changed by `edit`. The figures of all
/// runs are of the same engine: models are a case of their own.
pub fn site(edit: impl FnOnce(&mut toml::Table) -> Result<()>) -> Result<Site> {
    site_with_models(|config| {
        without_models(config)?;
        edit(config)
    })
}

/// The same with its autoencoders.
fn site_with_models(edit: impl FnOnce(&mut toml::Table) -> Result<()>) -> Result<Site> {
    let site = Site::new("bench/run")?;
    site.configure(|config| {
        table(config, &["engine"])?.insert("plugin_cache_dir".into(), cache().display().to_string().into());
        edit(config)
    })?;
    Ok(site)
}

/// All four levels, each judged: a level that no detector judges is not aggregated.
pub fn four_levels(config: &mut toml::Table) -> Result<()> {
    let pipeline = table(config, &["pipelines", "ddos"])?;
    pipeline.insert("keys".into(), vec!["dst_addr", "dst_prefix", "src_addr", "interface"].into());
    let detector = table(config, &["detectors", "host-limits"])?;
    detector.insert("keys".into(), vec!["dst_addr", "src_addr", "interface"].into());
    Ok(())
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
    send(&site(edit)?, args)
}

/// The same to an engine whose autoencoders were trained before.
pub fn run_trained(args: &[String]) -> Result<Live> {
    let site = site_with_models(|_| Ok(()))?;
    site.train()?;
    send(&site, args)
}

fn send(site: &Site, args: &[String]) -> Result<Live> {
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
    settle(&mut engine)?;
    let mut threads = threads(&engine)?;
    for (name, seconds) in &mut threads {
        *seconds -= before.get(name).copied().unwrap_or(0.0);
    }
    engine.stop()?;
    let (summary, truth) = (site.summary()?, site.truth()?);
    let report = Report::new(&truth, &site.events()?, &summary)?;
    Ok(Live { summary, truth, report, sending, threads, metrics })
}

/// Waits until no more records come out of the queues.
fn settle(engine: &mut Engine) -> Result<()> {
    let (begun, mut before) = (Instant::now(), f64::NAN);
    loop {
        std::thread::sleep(SETTLE / 2);
        engine.must_live()?;
        let now = metric(&engine.get("/metrics")?.1, "kaminari_window_records_total");
        if begun.elapsed() >= SETTLE && now == before || begun.elapsed() > CATCH_UP_WITHIN {
            return Ok(());
        }
        before = now;
    }
}

/// Sum of a metric's samples on a page of `/metrics`.
pub fn metric(page: &str, name: &str) -> f64 {
    let samples = page.lines().filter(|l| l.split(['{', ' ']).next() == Some(name));
    samples.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).fold(0.0, |sum, v| sum + v)
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

#[cfg(test)]
mod tests {
    use super::metric;

    #[test]
    fn samples_are_summed_over_labels_and_only_of_that_name() {
        let page = "# TYPE a_total counter\na_total{x=\"1\"} 3\na_total{x=\"2\"} 4\na_total_more 9\nb 5\n";
        assert_eq!([metric(page, "a_total"), metric(page, "b"), metric(page, "c")], [7.0, 5.0, 0.0]);
    }
}
