//! One detector (`zmax` over 16 features) natively and as a plugin in Rust, Python and JavaScript, with deadlines and limits
//! on. The native one reads its columns where they lie; a plugin's are copied into its sandbox.

use crate::Outcome;
use crate::measure::{repetition, row};
use crate::plugin::{FEATURES, ROWS, arrow_batch, column, load, window};
use kaminari::config::PluginLimits;
use kaminari::plugin::{PluginHost, PluginInstance};
use kaminari_plugin_sdk::testing::{self, Harness};
use serde_json::json;
use std::hint::black_box;
use std::path::Path;
use zmax::ZMax;

/// Calls before the clock starts.
const WARM_UP: usize = 20;
const REPETITIONS: usize = 15;
/// A call takes tens of milliseconds.
const SLOW_WARM_UP: usize = 2;
const SLOW_REPETITIONS: usize = 5;
/// File without `.wasm`, and what it is written in.
const SCRIPTS: [(&str, &str); 2] = [("python-zmax", "Python"), ("javascript-zmax", "JavaScript")];

pub fn run(plugins: &Path) -> Outcome {
    let cache = tempfile::tempdir()?;
    let host = PluginHost::new(&cache.path().join("cache"))?;
    let names: Vec<String> = (0..FEATURES).map(|f| format!("f{f}")).collect();
    let columns: Vec<Vec<f64>> = (0..FEATURES).map(|f| column(f as u64)).collect();
    let keys: Vec<testing::Key> = (0..ROWS as u32).map(testing::host).collect();
    let batch = arrow_batch(&keys, &columns)?;
    // Out of reach, so that all do nothing but judge.
    let config = json!({ "features": names, "z": 1e12 });

    let mut native = Harness::<ZMax>::new(config.clone())?;
    let native_batch = names.iter().zip(&columns).fold(testing::batch(), |b, (n, c)| b.f64s(n, c.as_slice())).build();
    let mut windows = 0..;
    let mut native_call = || -> Result<u64, String> {
        let at = testing::window(windows.next().unwrap_or(0) * 10, 10);
        let said = native.detect(&at, &native_batch).map_err(|e| e.to_string())?;
        black_box(said.scores.len());
        Ok(ROWS as u64)
    };
    let plugin = load(&host, plugins, "zmax", PluginLimits::default())?;
    let mut sandboxed = plugin.instantiate("bench", &config.to_string())?;
    let mut windows = 0..;
    let mut judge = |instance: &mut PluginInstance| -> Result<u64, String> {
        let said = instance.detect(&window(windows.next().unwrap_or(0)), batch.clone()).map_err(|e| e.to_string())?;
        if black_box(said.alerts.len()) > 0 { Err("an alert where none is possible".into()) } else { Ok(ROWS as u64) }
    };
    for _ in 0..WARM_UP {
        native_call()?;
        judge(&mut sandboxed)?;
    }
    let per_row = |(rows, seconds): (u64, f64)| seconds * 1e9 / rows as f64;
    // In turns, so that a busy machine slows both alike.
    for rep in 1..=REPETITIONS {
        let native = per_row(repetition(&mut native_call)?);
        let wasm = per_row(repetition(|| judge(&mut sandboxed))?);
        row("languages", "zmax native", "ns/row", native, rep);
        row("languages", "zmax Rust", "ns/row", wasm, rep);
        row("languages", "zmax Rust: ratio", "x", wasm / native, rep);
    }
    for (file, language) in SCRIPTS {
        if !plugins.join(format!("{file}.wasm")).is_file() {
            eprintln!("SKIPPED: languages: no {file}.wasm");
            continue;
        }
        let limits = PluginLimits { memory_bytes: 256 << 20, deadline_ms: 10_000, ..PluginLimits::default() };
        let plugin = load(&host, plugins, file, limits)?;
        let mut instance = plugin.instantiate("bench", &config.to_string())?;
        for _ in 0..SLOW_WARM_UP {
            judge(&mut instance)?;
        }
        for rep in 1..=SLOW_REPETITIONS {
            row("languages", &format!("zmax {language}"), "ns/row", per_row(repetition(|| judge(&mut instance))?), rep);
        }
        row("languages", &format!("zmax {language}: memory"), "bytes", instance.memory_bytes() as f64, 1);
    }
    Ok(())
}
