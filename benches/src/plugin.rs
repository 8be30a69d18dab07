//! What the sandbox costs: the threshold plugin through WebAssembly, with deadlines and limits on, against the same
//! code compiled natively. One line of JSON per case on stdout. Usage: `bench_plugin PATH/threshold.wasm`.

use arrow_array::{ArrayRef, FixedSizeBinaryArray, Float64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use kaminari::config::{PluginLimits, PluginPlan};
use kaminari::model::WindowInfo;
use kaminari::plugin::PluginHost;
use kaminari_plugin_sdk::testing::{self, Harness};
use serde_json::{Value, json};
use std::sync::Arc;
use threshold::Threshold;

const ROWS: usize = 8192;
const FEATURES: usize = 16;
const CALLS: usize = 200;
const ROUNDS: usize = 9;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: bench_plugin PATH/threshold.wasm")?;
    let cache = tempfile::tempdir()?;
    let host = PluginHost::new(&cache.path().join("cache"))?;
    let plan = PluginPlan { id: "threshold".into(), path: path.into(), sha256: None, limits: PluginLimits::default() };
    let plugin = host.load(&plan)?;
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
        let (mut native_ns, mut wasm_ns) = (Vec::new(), Vec::new());
        let mut window_index = 0;
        // In turns, so that a busy machine slows both alike; CPU time of this thread, so that it matters little.
        for _ in 0..ROUNDS {
            let first = window_index;
            native_ns.push(per_row(|i| {
                let window = testing::window((first + i) * 10, 10);
                native.detect(&window, &native_batch).map(|v| v.alerts.len()).map_err(|e| e.to_string())
            })?);
            wasm_ns.push(per_row(|i| {
                let (start_ns, end_ns) = ((first + i) * 10_000_000_000, (first + i + 1) * 10_000_000_000);
                let window = WindowInfo { start_ns, end_ns, revision: 0, watermark_ns: end_ns, partial: false };
                let verdict = sandboxed.detect(&window, arrow_batch.clone());
                verdict.map(|v| v.alerts.len()).map_err(|e| e.to_string())
            })?);
            window_index += CALLS as u64;
        }
        let (native, wasm) = (median(native_ns), median(wasm_ns));
        let line = json!({
            "bench": "plugin_call", "case": name, "rows": ROWS, "features": FEATURES,
            "native_ns_per_row": round(native), "wasm_ns_per_row": round(wasm), "ratio": round(wasm / native),
        });
        println!("{line}");
    }
    Ok(())
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
        ("sixteen limits, one per feature", json!({ "limits": (0..FEATURES).map(limit).collect::<Vec<_>>() })),
        ("three limits and one adaptive", json!({ "limits": three, "adaptive": adaptive })),
    ]
}

/// Heavy-tailed numbers, the same in every run.
fn column(seed: u64) -> Vec<f64> {
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

fn arrow_batch(keys: &[testing::Key], columns: &[Vec<f64>]) -> Result<RecordBatch, Box<dyn std::error::Error>> {
    let mut fields = vec![Field::new("key", DataType::FixedSizeBinary(21), false)];
    fields.extend((0..FEATURES).map(|i| Field::new(format!("f{i}"), DataType::Float64, false)));
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(FixedSizeBinaryArray::try_from_iter(keys.iter())?)];
    arrays.extend(columns.iter().map(|c| Arc::new(Float64Array::from(c.clone())) as ArrayRef));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// CPU nanoseconds of this thread per row, over `CALLS` calls after a few to warm up.
fn per_row(mut call: impl FnMut(u64) -> Result<usize, String>) -> Result<f64, String> {
    for i in 0..10 {
        call(i)?;
    }
    let began = thread_cpu_ns();
    for i in 0..CALLS as u64 {
        std::hint::black_box(call(i)?);
    }
    Ok((thread_cpu_ns() - began) as f64 / (CALLS * ROWS) as f64)
}

fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec that lives here.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0, "every Linux has a clock per thread");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn round(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}
