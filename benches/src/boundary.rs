//! What the sandbox costs where the plugin does nothing: a call, a column, a start. A call's figure is the host's side too:
//! deadline, meters, the handle of the batch.

use crate::Outcome;
use crate::measure::{repetition, row};
use crate::plugin::{FEATURES, ROWS, arrow_batch, column, load, window};
use kaminari::config::PluginLimits;
use kaminari::plugin::{PluginHost, PluginInstance};
use kaminari_plugin_sdk::testing;
use serde_json::json;
use std::path::Path;
use std::time::Instant;

const REPETITIONS: usize = 9;
/// Calls between two looks at the clock.
const CALLS: u64 = 64;
/// Starts are short: the median of many.
const STARTS: usize = 50;
const COLUMNS: [usize; 4] = [0, 1, 4, 16];
/// Looks at nothing and says nothing.
const EMPTY: &[u8] = include_bytes!("../../host/templates/plugin/empty.wasm");
/// A plugin of the size that plugins have.
const PLAIN: (&str, &str) = ("zmax", r#"{"features": ["f0"], "z": 6.0}"#);

pub fn run(plugins: &Path) -> Outcome {
    let dir = tempfile::tempdir()?;
    let cache = dir.path().join("cache");
    let host = PluginHost::new(&cache)?;
    let columns: Vec<Vec<f64>> = (0..FEATURES).map(|f| column(f as u64)).collect();
    let keys: Vec<testing::Key> = (0..ROWS as u32).map(testing::host).collect();
    let batch = arrow_batch(&keys, &columns)?;
    let limits = PluginLimits::default();

    std::fs::write(dir.path().join("empty.wasm"), EMPTY)?;
    let mut empty = load(&host, dir.path(), "empty", limits)?.instantiate("bench", "{}")?;
    calls("empty call", "ns", 1e9, &mut empty, &batch)?;

    let plugin = load(&host, plugins, "columns", limits)?;
    for taken in COLUMNS {
        let names: Vec<String> = (0..taken).map(|f| format!("f{f}")).collect();
        let config = json!({ "columns": names }).to_string();
        let mut instance = plugin.instantiate("bench", &config)?;
        calls(&format!("{taken} columns of {ROWS} rows"), "us", 1e6, &mut instance, &batch)?;
        calls(&format!("{taken} columns of 1 row"), "us", 1e6, &mut instance, &batch.slice(0, 1))?;
    }
    starts(plugins, &batch)
}

fn calls(case: &str, unit: &str, scale: f64, plugin: &mut PluginInstance, batch: &arrow_array::RecordBatch) -> Outcome {
    let mut windows = 0..;
    // Asking for the CPU time takes as long as a short call: it is asked once for many.
    let mut call = || {
        for _ in 0..CALLS {
            plugin.detect(&window(windows.next().unwrap_or(0)), batch.clone())?;
        }
        Ok::<_, kaminari::plugin::CallError>(CALLS)
    };
    call()?;
    for rep in 1..=REPETITIONS {
        let (calls, seconds) = repetition(&mut call)?;
        row("boundary", case, unit, seconds * scale / calls as f64, rep);
    }
    Ok(())
}

/// Wall time: others may help to compile.
fn starts(plugins: &Path, batch: &arrow_array::RecordBatch) -> Outcome {
    let (file, config) = PLAIN;
    let limits = PluginLimits::default();
    let us = |case: &str, began: Instant, rep| row("boundary", case, "us", began.elapsed().as_secs_f64() * 1e6, rep);
    for rep in 1..=5 {
        let dir = tempfile::tempdir()?;
        let host = PluginHost::new(&dir.path().join("cache"))?;
        let began = Instant::now();
        load(&host, plugins, file, limits)?;
        us("load: compiled", began, rep);
    }
    let dir = tempfile::tempdir()?;
    let host = PluginHost::new(&dir.path().join("cache"))?;
    let loaded = load(&host, plugins, file, limits)?;
    for rep in 1..=STARTS {
        let began = Instant::now();
        load(&host, plugins, file, limits)?;
        us("load: from the cache", began, rep);
        let began = Instant::now();
        let mut instance = loaded.instantiate("bench", config)?;
        instance.detect(&window(0), batch.slice(0, 1))?;
        us("instance and first call", began, rep);
    }
    Ok(())
}
