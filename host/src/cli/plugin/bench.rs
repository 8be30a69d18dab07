//! `kaminari plugin bench`: what a detector (no other role) costs per row, per call and at its start, beside one that does nothing. The
//! rows are those of a scenario, repeated with entities of their own. CPU time of this thread: a busy machine should not
//! make a plugin look slower than it is.

use super::{LimitArgs, Target, bytes, load};
use crate::authoring::{Batch, Grants, Scenario};
use crate::cli::Format;
use crate::cli::list::table;
use crate::config::{PluginLimits, default_cache_dir};
use crate::model::{Addr, EntityKey, KeyKind};
use crate::plugin::{LoadedPlugin, PluginInstance, Role};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, RecordBatch, UInt32Array};
use arrow_buffer::Buffer;
use clap::Args;
use miette::{IntoDiagnostic, WrapErr, miette};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Arguments of `plugin bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The component, or a plugin's folder
    #[arg(value_name = "FILE.wasm|DIR")]
    target: PathBuf,
    /// The scenario whose configuration and rows are used; else the first
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Rows of a batch; the engine gives at most 8192 at once
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..=8192))]
    rows: u32,
    /// CPU time of each repetition
    #[arg(long, value_name = "MS", default_value_t = 300)]
    repetition_ms: u64,
    /// Form of the result
    #[arg(long, default_value = "text")]
    format: Format,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Looks at nothing and says nothing (`empty.wat`).
const EMPTY: &[u8] = include_bytes!("../../../templates/plugin/empty.wasm");
const REPETITIONS: usize = 5;
const WARM_UP: usize = 3;
/// Instances that are started.
const STARTS: usize = 20;

/// What was measured; seconds are of CPU time but for `compile` and `load`.
struct Figures {
    name: String,
    size: usize,
    compile: f64,
    load: f64,
    start: f64,
    /// A call without rows.
    call: f64,
    row: f64,
    memory: usize,
}

/// Measures and tells.
pub fn run(args: BenchArgs) -> miette::Result<()> {
    let target = Target::open(&args.target, &args.limits)?;
    let scenarios = Scenario::all(&target.folder).into_diagnostic()?;
    let wanted = |s: &&Scenario| args.scenario.as_ref().is_none_or(|name| s.name == *name);
    let scenario = scenarios.iter().find(wanted).ok_or_else(|| {
        let which = args.scenario.as_ref().map_or(String::new(), |name| format!(" `{name}`"));
        miette!("{} has no scenario{which} in tests/ to take rows from", target.folder.display())
    })?;
    target.load()?.require(Role::Detector).into_diagnostic()?;
    let batch = repeated(scenario, args.rows as usize)?;
    let columns = batch.rows.num_columns() - 1;
    let scratch = Scratch::new()?;
    let empty = scratch.0.join("empty.wasm");
    std::fs::write(&empty, EMPTY).into_diagnostic()?;
    let nothing = target_of(&empty, PluginLimits::default());
    let long = Duration::from_millis(args.repetition_ms);
    let config = scenario.config.to_string();
    let figures = [
        measure(&target, &config, &batch, long, &scratch.0.join("a"))?,
        measure(&nothing, "{}", &batch, long, &scratch.0.join("b"))?,
    ];
    let rows = args.rows;
    match args.format {
        Format::Text => {
            let head = format!("{rows} rows of {columns} features and `key`, as in tests/{}\n\n", scenario.name);
            crate::cli::print(&(head + &as_text(&figures)))
        }
        Format::Json => {
            let [plugin, empty] = figures.each_ref().map(as_json);
            let found = json!({ "rows": rows, "features": columns, "scenario": scenario.name, "plugin": plugin, "empty": empty });
            crate::cli::print(&format!("{found}\n"))
        }
    }
}

fn target_of(wasm: &Path, limits: PluginLimits) -> Target {
    Target { wasm: wasm.to_owned(), folder: PathBuf::new(), limits, grants: Grants::default() }
}

fn measure(target: &Target, config: &str, batch: &Batch, long: Duration, cache: &Path) -> miette::Result<Figures> {
    // First into an empty cache, then out of it.
    let began = Instant::now();
    load(cache, &target.wasm, target.limits, &target.grants)?;
    let compile = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let plugin = load(cache, &target.wasm, target.limits, &target.grants)?;
    let load = began.elapsed().as_secs_f64();

    let fresh = || plugin.instantiate("bench", config).into_diagnostic().wrap_err("the plugin does not start");
    let began = thread_cpu();
    for _ in 0..STARTS {
        fresh()?;
    }
    let start = (thread_cpu() - began).as_secs_f64() / STARTS as f64;
    let mut instance = fresh()?;
    instance.requires(batch.rows.schema_ref()).into_diagnostic()?;
    let none = Batch { rows: batch.rows.slice(0, 0), ..batch.clone() };
    let call = per_call(&mut instance, &plugin, &none, long)?;
    let full = per_call(&mut instance, &plugin, batch, long)?;
    Ok(Figures {
        name: plugin.label().to_string(),
        size: std::fs::metadata(&target.wasm).into_diagnostic()?.len() as usize,
        compile,
        load,
        start,
        call,
        row: full / batch.rows.num_rows() as f64,
        memory: instance.memory_bytes(),
    })
}

/// Median CPU seconds of a call.
fn per_call(
    instance: &mut PluginInstance,
    plugin: &LoadedPlugin,
    batch: &Batch,
    long: Duration,
) -> miette::Result<f64> {
    let mut window = batch.window;
    let mut call = || {
        // Time goes on: a detector may look at it.
        let length = window.end_ns - window.start_ns;
        (window.start_ns, window.end_ns, window.watermark_ns) =
            (window.end_ns, window.end_ns + length, window.end_ns + length);
        let said = instance.detect(&window, batch.rows.clone());
        said.map(drop).into_diagnostic().wrap_err_with(|| format!("{} does not judge the rows", plugin.label()))
    };
    for _ in 0..WARM_UP {
        call()?;
    }
    let mut found = Vec::new();
    for _ in 0..REPETITIONS {
        let (began, mut calls) = (thread_cpu(), 0u32);
        let spent = loop {
            call()?;
            calls += 1;
            let spent = thread_cpu() - began;
            if spent >= long {
                break spent;
            }
        };
        found.push(spent.as_secs_f64() / f64::from(calls));
    }
    found.sort_by(f64::total_cmp);
    Ok(found[REPETITIONS / 2])
}

/// The rows of a scenario's largest window as often as it takes, each of an entity of its own.
fn repeated(scenario: &Scenario, rows: usize) -> miette::Result<Batch> {
    let windows = scenario.input.features().into_diagnostic()?;
    let largest = windows.iter().max_by_key(|batch| batch.rows.num_rows());
    let largest = largest.ok_or_else(|| miette!("tests/{} has no rows", scenario.name))?;
    let have = largest.rows.num_rows() as u32;
    let indices = UInt32Array::from_iter_values((0..rows as u32).map(|row| row % have));
    let taken = arrow_select::take::take_record_batch(&largest.rows, &indices).into_diagnostic()?;
    let host = |n: u32| {
        let addr = Addr::from_v4_bytes((0x0a00_0000 | n).to_be_bytes());
        EntityKey { kind: KeyKind::DstAddr, addr, extra: 0 }.to_bytes()
    };
    let keys: Vec<u8> = (0..rows as u32).flat_map(host).collect();
    let keys = FixedSizeBinaryArray::new(EntityKey::WIDTH as i32, Buffer::from_vec(keys), None);
    let mut columns = vec![Arc::new(keys) as ArrayRef];
    columns.extend(taken.columns()[1..].iter().cloned());
    let rows = RecordBatch::try_new(taken.schema(), columns).into_diagnostic()?;
    Ok(Batch { window: largest.window, entities: Vec::new(), rows })
}

/// CPU time that this thread has used.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec that lives here; every Linux has a clock per thread.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A folder that is gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> miette::Result<Self> {
        let dir = default_cache_dir().join(format!("bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).into_diagnostic().wrap_err_with(|| format!("cannot make {}", dir.display()))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Three digits and a unit.
fn time(seconds: f64) -> String {
    let (scale, unit) =
        [(1.0, "s"), (1e3, "ms"), (1e6, "us")].into_iter().find(|(s, _)| seconds * s >= 1.0).unwrap_or((1e9, "ns"));
    let value = seconds * scale;
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

fn as_text(figures: &[Figures; 2]) -> String {
    let mut rows = vec![["".to_owned(), figures[0].name.clone(), figures[1].name.clone()]];
    let mut row = |what: &str, value: &dyn Fn(&Figures) -> String| {
        rows.push([what.to_owned(), value(&figures[0]), value(&figures[1])]);
    };
    row("per row", &|f| time(f.row));
    row("call without rows", &|f| time(f.call));
    row("start of an instance", &|f| time(f.start));
    row("memory", &|f| bytes(f.memory));
    row("component", &|f| bytes(f.size));
    row("compile", &|f| time(f.compile));
    row("load from the cache", &|f| time(f.load));
    table(rows.iter().map(|row| row.each_ref().map(String::as_str)).collect())
}

fn as_json(f: &Figures) -> serde_json::Value {
    json!({
        "name": f.name,
        "ns_per_row": f.row * 1e9,
        "ns_per_empty_call": f.call * 1e9,
        "start_us": f.start * 1e6,
        "memory_bytes": f.memory,
        "size_bytes": f.size,
        "compile_ms": f.compile * 1e3,
        "load_ms": f.load * 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        assert_eq!([2.5, 0.0125, 4.5e-7].map(time), ["2.50 s", "12.5 ms", "450 ns"]);
    }

    /// KAMINARI_BLESS=1 makes the component anew.
    #[test]
    fn the_empty_plugin_is_what_its_text_says() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/plugin");
        let made = wat::parse_file(dir.join("empty.wat")).unwrap();
        if std::env::var_os("KAMINARI_BLESS").is_some() {
            std::fs::write(dir.join("empty.wasm"), &made).unwrap();
        }
        assert!(made == EMPTY, "empty.wasm is not made of empty.wat");
    }
}
