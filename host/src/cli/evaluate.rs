//! `kaminari evaluate`: scores (and incidents) of a replay against labels. Figures go to stdout as text or JSON, to
//! `--output` as JSON, to `--plot` as a page. What may spoil them is told on stderr. docs/evaluate.md explains them.

use super::Format;
use crate::evaluate::{
    Evaluation, FlowTime, Incident, InputError, LabelOptions, Labels, Report, ScoreOptions, TableOptions, TimeUnit,
    evaluate, evaluate_incidents, label, page, read_incidents, read_scores,
};
use clap::ValueEnum;
use miette::{IntoDiagnostic, WrapErr};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct EvaluateArgs {
    /// Scored rows, as `kaminari replay --scores` writes them; .gz too
    #[arg(long, value_name = "FILE")]
    scores: PathBuf,
    /// What really happened: events (CSV), the truth of `kaminari generate`, or with --label-column a table; .gz too
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// Incidents, as `kaminari replay` prints them
    #[arg(long, value_name = "FILE")]
    incidents: Option<PathBuf>,
    /// Only this detector
    #[arg(long, value_name = "ID")]
    detector: Option<String>,
    /// What rows are ranked by: the detector's score, or how rare it is once drift is followed
    #[arg(long, value_name = "WHAT", default_value = "score")]
    by: By,
    /// Alerts are scores (--by) at or above this, whatever the rows say
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    threshold: Option<f64>,
    /// Windows judged before their end count too
    #[arg(long)]
    partial: bool,
    /// Labelled flows (columns ts, dst, event): a window is an attack when it holds a flow of one
    #[arg(long, value_name = "FILE", conflicts_with = "label_column")]
    flows: Option<PathBuf>,
    /// Which time of a labelled flow counts: as event_time of the pipeline's window
    #[arg(long, value_name = "WHICH", default_value = "start", requires = "flows")]
    flow_time: Which,
    /// Unit of times given as numbers in labels
    #[arg(long, value_name = "UNIT", default_value = "seconds")]
    label_time_unit: Unit,
    /// The labels are a table: its column with the label, a number
    #[arg(long, value_name = "COLUMN")]
    label_column: Option<String>,
    /// Column of the time in the table
    #[arg(long, value_name = "COLUMN", default_value = "time", requires = "label_column")]
    label_time: String,
    /// Column of the entity in the table; without it labels hold for everybody
    #[arg(long, value_name = "COLUMN", requires = "label_column")]
    label_entity: Option<String>,
    /// Column of the event in the table; without it events are runs of attacks
    #[arg(long, value_name = "COLUMN", requires = "label_column")]
    label_event: Option<String>,
    /// A label above this is an attack
    #[arg(long, value_name = "NUMBER", default_value = "0", requires = "label_column", allow_negative_numbers = true)]
    positive_above: f64,
    /// A label above this, and no attack, is neither attack nor benign
    #[arg(long, value_name = "NUMBER", requires = "label_column", allow_negative_numbers = true)]
    ignore_above: Option<f64>,
    /// Attacks with no longer pause are one event; at least one window
    #[arg(long, value_name = "SECONDS", default_value = "60", requires = "label_column")]
    event_pause: u32,
    /// Form of the figures on stdout
    #[arg(long, default_value = "text")]
    format: Format,
    /// Write the figures as JSON too
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write curves, histogram and timeline as an HTML page
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// A number of a scored row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum By {
    /// `score`
    Score,
    /// `tail`
    Tail,
}

/// A time of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Which {
    /// Its start
    Start,
    /// Its end (column dur)
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Unit {
    /// s
    Seconds,
    /// ms
    Millis,
    /// us
    Micros,
    /// ns
    Nanos,
}

/// Reads, evaluates, tells.
pub fn run(args: EvaluateArgs) -> miette::Result<()> {
    let report = evaluated(&args).into_diagnostic()?;
    for warning in &report.warnings {
        super::talk(&format!("warning: {warning}\n"));
    }
    let json = format!("{:#}\n", report.json());
    if let Some(path) = &args.output {
        write(path, &json)?;
    }
    if let Some(path) = &args.plot {
        write(path, &page(&report))?;
    }
    super::print(&match args.format {
        Format::Text => report.text(),
        Format::Json => json,
    })
}

fn evaluated(args: &EvaluateArgs) -> Result<Report, InputError> {
    let labels = Labels::read(&args.labels, &label_options(args))?;
    let incidents = args.incidents.as_deref().map(read_incidents).transpose()?;
    let options = ScoreOptions {
        detector: args.detector.clone(),
        partial: args.partial,
        tails: args.by == By::Tail,
        threshold: args.threshold,
    };
    let scores = read_scores(&args.scores, &options)?;
    let rows = || scores.series.iter().flat_map(|s| &s.rows);
    let start = rows().map(|r| r.start_ns).min().unwrap_or(0);
    let span = (start, rows().map(|r| r.end_ns).max().unwrap_or(start));
    let mut report = Report { span, partial_rows: scores.partial, revised_rows: scores.revised, ..Default::default() };
    let mut pipelines: BTreeSet<String> = scores.series.iter().map(|s| s.pipeline.clone()).collect();
    for mut series in scores.series {
        let labelled = label(&mut series, &labels);
        report.events_outside = report.events_outside.max(labelled.outside);
        report.warnings.extend(labelled.warnings);
        let metrics = evaluate(&series.rows, &labelled.events);
        report.detectors.push(Evaluation { series, events: labelled.events, metrics });
    }
    if let Some(incidents) = incidents {
        pipelines.extend(incidents.iter().map(|i| i.pipeline.clone()));
        for pipeline in pipelines {
            let mine: Vec<&Incident> = incidents.iter().filter(|i| i.pipeline == pipeline).collect();
            let metrics = evaluate_incidents(&mine, &labels, span);
            report.incidents.push((pipeline, metrics));
        }
    }
    Ok(report)
}

fn label_options(args: &EvaluateArgs) -> LabelOptions {
    let table = args.label_column.clone().map(|label| TableOptions {
        time: args.label_time.clone(),
        entity: args.label_entity.clone(),
        label,
        attack_above: args.positive_above,
        ignore_above: args.ignore_above,
        event: args.label_event.clone(),
        pause_ns: u64::from(args.event_pause) * crate::model::time::SECOND,
    });
    LabelOptions {
        time_unit: match args.label_time_unit {
            Unit::Seconds => TimeUnit::Seconds,
            Unit::Millis => TimeUnit::Millis,
            Unit::Micros => TimeUnit::Micros,
            Unit::Nanos => TimeUnit::Nanos,
        },
        flows: args.flows.clone(),
        flow_time: match args.flow_time {
            Which::Start => FlowTime::Start,
            Which::End => FlowTime::End,
        },
        table,
    }
}

fn write(path: &Path, text: &str) -> miette::Result<()> {
    std::fs::write(path, text).into_diagnostic().wrap_err_with(|| format!("cannot write {}", path.display()))
}
