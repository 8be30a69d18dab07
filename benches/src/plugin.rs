//! What the sandbox costs: the threshold plugin through WebAssembly, with deadlines and limits on, against the same
//! code compiled natively.

use crate::Outcome;
use crate::measure::{repetition, row};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, Float64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use kaminari::config::{PluginLimits, PluginPlan};
use kaminari::model::WindowInfo;
use kaminari::plugin::{LoadedPlugin, PluginError, PluginHost};
use kaminari_plugin_sdk::testing::{self, Harness};
use serde_json::{Value, json};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use threshold::Threshold;

pub const ROWS: usize = 8192;
pub const FEATURES: usize = 16;
/// Calls before the clock starts: columns are fetched, the adaptive limits have a level.
const WARM_UP: u64 = 20;
/// More than elsewhere: at a few nanoseconds a row the ratio jumps by a quarter from one repetition to the next.
const REPETITIONS: usize = 15;
const WINDOW_NS: u64 = 10_000_000_000;

pub fn run(plugins: &Path) -> Outcome {
    let cache = tempfile::tempdir()?;
    let host = PluginHost::new(&cache.path().join("cache"))?;
    let plugin = load(&host, plugins, "threshold", PluginLimits::default())?;
    let columns: Vec<Vec<f64>> = (0..FEATURES).map(|f| column(f as u64)).collect();
    let keys: Vec<testing::Key> = (0..ROWS as u32).map(testing::host).collect();
    let native_batch = columns
        .iter()
        .enumerate()
        .fold(testing::batch().bytes("key", &keys), |b, (i, c)| b.f64s(&format!("f{i}"), c.as_slice()))
        .build();
    let arrow_batch = arrow_batch(&keys, &columns)?;

    for (name, config) in cases() {
        let mut native = Harness::<Threshold>::new(config.clone())?;
        let mut sandboxed = plugin.instantiate("bench", &config.to_string())?;
        let (mut native_windows, mut wasm_windows) = (0.., 0..);
        let mut native_call = || -> Result<u64, String> {
            let window = testing::window(native_windows.next().unwrap_or(0) * 10, 10);
            let verdict = native.detect(&window, &native_batch).map_err(|e| e.to_string())?;
            rows_without_alerts(black_box(verdict.alerts.len()))
        };
        let mut wasm_call = || -> Result<u64, String> {
            let window = window(wasm_windows.next().unwrap_or(0));
            let verdict = sandboxed.detect(&window, arrow_batch.clone()).map_err(|e| e.to_string())?;
            rows_without_alerts(black_box(verdict.alerts.len()))
        };
        for _ in 0..WARM_UP {
            native_call()?;
            wasm_call()?;
        }
        // In turns, so that a busy machine slows both alike.
        for rep in 1..=REPETITIONS {
            let per_row = |(rows, seconds): (u64, f64)| seconds * 1e9 / rows as f64;
            let native = per_row(repetition(&mut native_call)?);
            let wasm = per_row(repetition(&mut wasm_call)?);
            row("plugin", &format!("{name}: native"), "ns/row", native, rep);
            row("plugin", &format!("{name}: wasm"), "ns/row", wasm, rep);
            row("plugin", &format!("{name}: ratio"), "x", wasm / native, rep);
        }
    }
    Ok(())
}

/// A component of the folder.
pub fn load(
    host: &PluginHost,
    plugins: &Path,
    name: &str,
    limits: PluginLimits,
) -> Result<Arc<LoadedPlugin>, PluginError> {
    let path = plugins.join(format!("{name}.wasm"));
    host.load(&PluginPlan { limits, ..PluginPlan::new(name, path) })
}

/// The n-th window.
pub fn window(n: u64) -> WindowInfo {
    let start_ns = n * WINDOW_NS;
    let end_ns = start_ns + WINDOW_NS;
    WindowInfo { start_ns, end_ns, revision: 0, watermark_ns: end_ns, partial: false }
}

/// Rows of one call. The limits are out of reach, so that both sides do nothing but judge.
fn rows_without_alerts(alerts: usize) -> Result<u64, String> {
    if alerts == 0 { Ok(ROWS as u64) } else { Err(format!("{alerts} alerts where none is possible")) }
}

/// What an operator writes; the same on every feature; and the part that keeps state per entity.
fn cases() -> [(&'static str, Value); 3] {
    let limit = |feature: usize| json!({ "name": "a", "feature": format!("f{feature}"), "above": 1e6 });
    let when = json!([{ "feature": "f1", "above": 0.5 }]);
    let three: Vec<Value> = [0, 4, 8]
        .iter()
        .map(|f| json!({ "name": "a", "feature": format!("f{f}"), "above": 1e6, "when": when }))
        .collect();
    let adaptive = json!([{ "name": "s", "feature": "f2", "sigma": 6.0, "min": 1e6 }]);
    [
        ("three limits with a condition", json!({ "limits": three })),
        ("sixteen limits on one feature each", json!({ "limits": (0..FEATURES).map(limit).collect::<Vec<_>>() })),
        ("three limits and one adaptive", json!({ "limits": three, "adaptive": adaptive })),
    ]
}

/// Heavy-tailed numbers, the same in every run.
pub fn column(seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let uniform = (state >> 11) as f64 / (1u64 << 53) as f64;
        1.0 / (1.0 - uniform).max(1e-5)
    };
    (0..ROWS).map(next).collect()
}

pub fn arrow_batch(keys: &[testing::Key], columns: &[Vec<f64>]) -> Result<RecordBatch, Box<dyn std::error::Error>> {
    let mut fields = vec![Field::new("key", DataType::FixedSizeBinary(21), false)];
    fields.extend((0..FEATURES).map(|i| Field::new(format!("f{i}"), DataType::Float64, false)));
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(FixedSizeBinaryArray::try_from_iter(keys.iter())?)];
    arrays.extend(columns.iter().map(|c| Arc::new(Float64Array::from(c.clone())) as ArrayRef));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}
