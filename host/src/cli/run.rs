//! `kaminari run`: the daemon. Takes up a changed configuration on SIGHUP, on request and, with `--watch`, by itself. Stops on
//! SIGTERM or SIGINT (sources stop, queues run empty, windows close, incidents
//! leave) or, when all sources are files, at their end. A second signal ends it at once.

use super::signals::{self, Signals};
use super::{ConfigArgs, talk};
use crate::api;
use crate::config::{ConfigErrors, Plan, code};
use crate::pipeline::{Input, Running, Summary, build, publish_process, summarise};
use crate::reload::stable::Digests;
use crate::reload::watch::{self, Pace, Watch};
use crate::reload::{Control, Engine, Trigger, memory};
use crate::telemetry;
use miette::{IntoDiagnostic, WrapErr, miette};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// At the end, write counters, CPU seconds and peak memory as JSON.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Take up changes of the configuration, of plugins and of models as soon as their files have changed.
    #[arg(long, env = "KAMINARI_WATCH")]
    watch: bool,
}

/// How often the running engine is looked after.
const LOOK: Duration = Duration::from_millis(100);

/// Runs until told to stop.
pub fn run(args: RunArgs) -> miette::Result<()> {
    let started = Instant::now();
    memory::few_pools();
    let seen = Digests::of(&args.config.config);
    let plan = super::load_plan(&args.config)?;
    let seen = Digests::of(&watch::files(&plan)).read_before(seen);
    let metrics = telemetry::install();
    let guard = api::Guard::new(&plan.api).map_err(|e| {
        let told = plan.places.diagnostic(code::BAD_VALUE, "api.token_file", e.to_string(), None);
        miette::Report::from(ConfigErrors(vec![told]))
    })?;
    let guard = Arc::new(guard);
    let built = build(&plan, Input::Live).map_err(|e| super::build_failed(&plan, e))?;
    for (id, address) in &built.bound {
        tracing::info!(component_id = &**id, "listening on {address}");
    }
    // Signals are caught before anything runs, so that none can fall between.
    let runtime = signals::runtime()?;
    let ready = Arc::new(AtomicBool::new(false));
    let listener = match plan.api.enabled {
        true => Some(
            runtime
                .block_on(api::bind(plan.api.listen))
                .map_err(|e| miette!("api cannot listen on {}: {e} (`[api] listen` sets it)", plan.api.listen))?,
        ),
        false => None,
    };
    let mut signals = runtime.block_on(async { Signals::catch() })?;
    let running = Running::start(built, None, None).map_err(|e| super::build_failed(&plan, e))?;
    let engine = Engine::new(args.config.config.clone(), running, seen);
    if let Some(listener) = listener {
        tracing::info!("api on http://{}", listener.local_addr().into_diagnostic()?);
        let state = api::State { metrics: metrics.clone(), ready: ready.clone(), control: engine.clone(), guard };
        runtime.spawn(api::serve(listener, state));
    }
    let watch = match args.watch {
        true => Some(watched(&engine).into_diagnostic().wrap_err("cannot watch the configuration")?),
        false => None,
    };
    let hangup = runtime.block_on(async { signals::on_hangup(engine.clone()) })?;
    runtime.spawn(hangup);
    ready.store(true, Ordering::Relaxed);
    tracing::info!(plan_digest = plan.digest, "running after {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let running = engine.running();
    let upkeep = telemetry::Upkeep::new(metrics.clone());
    let tend = || {
        engine.tend();
        upkeep.tend();
    };
    runtime.block_on(signals.until_stopped(running, LOOK, &tend));
    ready.store(false, Ordering::Relaxed);
    runtime.spawn(signals.then_leave());
    drop(watch);
    // A change that is under way is finished first.
    let _none = engine.end_reloads();
    let plan = running.plan();
    let outcome = running.wait();
    publish_process();
    metrics.run_upkeep();
    let summary = summarise(&telemetry::render(&metrics), started);
    report(&plan, &summary);
    if let Some(path) = &args.summary {
        write_summary(path, &summary)?;
    }
    if outcome.errors.is_empty() { Ok(()) } else { Err(miette!("{}", outcome.errors.join("; "))) }
}

/// Reloads when files have changed, until it is dropped.
fn watched(engine: &Arc<Engine>) -> std::io::Result<Watch> {
    let (looking, reloading) = (engine.clone(), engine.clone());
    Watch::start(Pace::default(), move || looking.seen(), move || reloading.reload(Trigger::Watch))
}

/// The line an operator reads at the end.
pub(super) fn report(plan: &Plan, s: &Summary) {
    let (flows, rows) = (s.total(telemetry::DECODE_FLOWS), s.total(telemetry::DECODE_ROWS));
    let what = match (flows > 0.0, rows > 0.0) {
        (true, true) => "flows and rows",
        (false, true) => "rows",
        _ => "flows",
    };
    let came = flows + rows;
    let lost = [
        ("kernel drops", s.total(telemetry::SOURCE_SOCKET_DROPPED)),
        ("shed", s.total(telemetry::SOURCE_SHED)),
        ("refused", s.total(telemetry::SOURCE_REFUSED)),
        ("decode errors", s.total(telemetry::DECODE_ERRORS)),
        ("sequence gaps", s.total(telemetry::DECODE_SEQUENCE_GAP)),
        ("late dropped", late_dropped(s)),
        ("entities refused", s.total(telemetry::WINDOW_EVICTED_ENTITIES)),
        ("records refused", s.total(telemetry::WINDOW_REFUSED_RECORDS)),
        ("rows of features refused", s.total(telemetry::FEATURE_REFUSED_ROWS)),
        ("rows not judged", s.total(telemetry::PLUGIN_DEAD_LETTERED_ROWS)),
        ("events undelivered", s.total(telemetry::SINK_FAILED)),
    ];
    let lost: Vec<String> = lost.iter().filter(|(_, n)| *n > 0.0).map(|(what, n)| format!("{what} {n}")).collect();
    let lost = if lost.is_empty() { "nothing lost".to_string() } else { lost.join(", ") };
    let per_million = if came > 0.0 { s.cpu_seconds / came * 1e6 } else { 0.0 };
    talk(&format!(
        "{} datagrams, {came} {what}, {} rows judged, {} incidents in {} pipeline(s); {lost}; {:.2} CPU s ({per_million:.2} per million {what}), peak {:.0} MB, {:.1} s\n",
        s.total(telemetry::SOURCE_DATAGRAMS),
        s.total(telemetry::FEATURE_ROWS),
        s.total(telemetry::INCIDENTS_OPENED),
        plan.pipelines.len(),
        s.cpu_seconds,
        s.peak_rss_bytes as f64 / 1e6,
        s.uptime_seconds,
    ));
}

fn late_dropped(s: &Summary) -> f64 {
    let dropped = |(name, _): &(&String, &f64)| {
        name.starts_with(telemetry::WINDOW_LATE_RECORDS) && name.contains("disposition=\"dropped\"")
    };
    s.counters.iter().filter(dropped).fold(0.0, |sum, (_, v)| sum + v)
}

pub(super) fn write_summary(path: &std::path::Path, summary: &Summary) -> miette::Result<()> {
    let text = serde_json::to_string_pretty(summary).into_diagnostic()?;
    std::fs::write(path, text + "\n").into_diagnostic().wrap_err_with(|| format!("cannot write {}", path.display()))
}
