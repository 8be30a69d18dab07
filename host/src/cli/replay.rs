//! `kaminari replay`: a recorded capture or flow file through the real pipelines, in event time. Incidents go to stdout
//! as JSON lines (or text), never to the sinks of the configuration; scored rows to `--scores`. Runs repeat exactly. A
//! signal stops it: what was read is finished, and the exit code says that it was not all.

use super::ConfigArgs;
use super::signals::{self, Signals};
use crate::pipeline::{Input, Progress, Running, ScoreWriter, build, publish_process, summarise};
use crate::sink::stdout::{Format, StdoutConfig, StdoutSink};
use crate::telemetry;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use miette::{IntoDiagnostic, WrapErr, miette};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Captures (pcap, pcapng), JSON lines, CSV (.gz too) or Parquet; several are read one after the other.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    input: Vec<PathBuf>,
    /// Source of the configuration that the file stands for; needed when there are several.
    #[arg(long, value_name = "ID")]
    source: Option<String>,
    /// Pace against the time of the records: 1 is real time, 10 ten times as fast, max as fast as it goes.
    #[arg(long, default_value = "max", value_parser = parse_speed)]
    speed: Speed,
    /// Write every scored row as a JSON line.
    #[arg(long, value_name = "FILE")]
    scores: Option<PathBuf>,
    /// Form of the incidents on stdout.
    #[arg(long, default_value = "json")]
    format: ReplayFormat,
    /// At the end, write counters, CPU seconds and peak memory as JSON.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
}

/// `json` or `text`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ReplayFormat {
    /// One JSON object per line.
    Json,
    /// One readable line per event.
    Text,
}

/// A pace.
#[derive(Clone, Copy, Debug)]
pub struct Speed(Option<f64>);

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed(None));
    }
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() && n > 0.0 => Ok(Speed(Some(n))),
        _ => Err("a positive number or max".into()),
    }
}

/// Replays to the end of the file.
pub fn run(args: ReplayArgs) -> miette::Result<()> {
    let started = Instant::now();
    let plan = super::load_plan(&args.config)?;
    let metrics = telemetry::install();
    let scores = match &args.scores {
        Some(path) => Some(
            ScoreWriter::create(path).into_diagnostic().wrap_err_with(|| format!("cannot write {}", path.display()))?,
        ),
        None => None,
    };
    let format = match args.format {
        ReplayFormat::Json => Format::Json,
        ReplayFormat::Text => Format::Text,
    };
    let sinks: Vec<(String, Box<dyn crate::sink::Sink>)> =
        vec![("stdout".into(), Box::new(StdoutSink::new(StdoutConfig { format: Some(format) })))];
    let input = Input::Replay { paths: args.input.clone(), source: args.source.clone(), sinks, scores };
    let built = build(&plan, input).map_err(|e| super::build_failed(&plan, e))?;
    let bar = std::io::stderr().is_terminal().then(progress_bar);
    let progress = bar.clone().map(|bar| {
        Arc::new(move |done: u64, total: u64| {
            bar.set_length(total);
            bar.set_position(done);
        }) as Progress
    });
    let runtime = signals::runtime()?;
    let mut signals = runtime.block_on(async { Signals::catch() })?;
    let running = Running::start(built, args.speed.0, progress).map_err(|e| super::build_failed(&plan, e))?;
    let upkeep = telemetry::Upkeep::new(metrics.clone());
    let stopped = runtime.block_on(signals.until_stopped(&running, Duration::from_millis(5), &|| upkeep.tend()));
    runtime.spawn(signals.then_leave());
    let mut outcome = running.wait();
    if stopped {
        outcome.errors.push("stopped by a signal before the end of the input".into());
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    publish_process();
    metrics.run_upkeep();
    let summary = summarise(&telemetry::render(&metrics), started);
    super::run::report(&plan, &summary);
    if let Some(path) = &args.summary {
        super::run::write_summary(path, &summary)?;
    }
    if outcome.errors.is_empty() { Ok(()) } else { Err(miette!("{}", outcome.errors.join("; "))) }
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}
