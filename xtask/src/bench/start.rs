//! From the start of the program to `/readyz`, with the plugin to be compiled and with it in the cache.

use super::live;
use super::results::Results;
use anyhow::{Context, Result};

const REPETITIONS: usize = 5;
const GOAL_WARM_MS: f64 = 1000.0;

pub fn run(results: &mut Results) -> Result<()> {
    for rep in 1..=REPETITIONS {
        let cache = live::cache();
        if cache.exists() {
            std::fs::remove_dir_all(&cache).with_context(|| format!("cannot empty {}", cache.display()))?;
        }
        for case in ["cold cache", "warm cache"] {
            let site = live::site(|_| Ok(()))?;
            let mut engine = site.start()?;
            let ready = engine.wait_ready()?;
            results.row("start", case, "ms", ready.as_secs_f64() * 1e3, rep);
            engine.stop()?;
        }
    }
    results.figure("start to ready, plugin to be compiled", results.median("start", "cold cache"), "ms");
    let warm = results.median("start", "warm cache");
    results.at_most("start to ready, plugin in the cache", warm, GOAL_WARM_MS, "ms");
    Ok(())
}
