//! `kaminari train`: benign traffic (or rows of features) in, a model directory and a report out. Rows come through the
//! windows and features of the pipeline that will serve, so the two cannot differ. Later data calibrates: it is never
//! trained on. Or a network that is there is kept, and gets a calibration. Writes the model whole or not at all; prints
//! the report on stdout. Refused, before anything is read: what cannot be trained, or written.

use super::labels::LabelArgs;
use super::{ConfigArgs, print};
use crate::calibration::{self, Calibration, raw_score};
use crate::config::{ConfigErrors, ModelPlan, PipelinePlan, Plan, TrainArchitecture, TrainBackend, TrainPlan, code};
use crate::evaluate::{Label, Labels, Row, Series};
use crate::inference::torch::{Library, TorchError};
use crate::inference::{self, Backend, Backends, Golden, Input, Losses, Manifest, Model, ModelError, Weights};
use crate::model::time::{now_ns, rfc3339};
use crate::model::{Device, Dtype, EntityKey, WindowInfo};
use crate::pipeline::{Progress, Wanted, collect, inference_options};
use crate::telemetry;
use crate::train::{self, Histogram, KL_WEIGHT, Kind, Learning, Options, Rows, Trained};
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use miette::{IntoDiagnostic, WrapErr, miette};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Share of the time of the input that validates when there is no `--validation`.
const VALIDATION_SHARE: f64 = 0.25;
/// False alarms a day whose limits the report shows.
const MARKED: [f64; 3] = [0.1, 1.0, 10.0];

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct TrainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Model of the configuration to make; needed when there are several with a `train` table.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Benign traffic or rows to learn from: what a replay takes, read one after the other.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    input: Vec<PathBuf>,
    /// Benign traffic of another, later time: stops the training and calibrates. Default: the last quarter of the input.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    validation: Vec<PathBuf>,
    /// Source of the configuration that the files stand for; needed when the pipeline has several.
    #[arg(long, value_name = "ID")]
    source: Option<String>,
    /// Known attacks: events (CSV), the truth of `kaminari generate`, or with --label-column a table; .gz too. Windows that
    /// hold one are left out.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    how: LabelArgs,
    /// Who trains, instead of what the configuration says; where libtorch is, and its device, say `[inference]`.
    #[arg(long, value_name = "WHO", value_parser = words(&TrainBackend::WORDS))]
    backend: Option<TrainBackend>,
    /// What is trained, instead of what the configuration says; a variational autoencoder takes libtorch.
    #[arg(long, value_name = "KIND", value_parser = words(&TrainArchitecture::WORDS))]
    architecture: Option<TrainArchitecture>,
    /// Train nothing: keep the network of this model (one from PyTorch, say) and fit its calibration to the input.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["validation", "backend", "architecture"])]
    network: Option<PathBuf>,
    /// Folder to write instead of the model's `path`.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// One of a few words.
fn words<T: Copy + Send + Sync + 'static>(words: &'static [(&'static str, T)]) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(words.iter().map(|(word, _)| *word)).try_map(|given| {
        let found = words.iter().find(|(word, _)| *word == given);
        found.map(|(_, value)| *value).ok_or("not one of its values")
    })
}

/// Trains, calibrates, writes.
pub fn run(args: TrainArgs) -> miette::Result<()> {
    let plan = super::load_plan(&args.config)?;
    telemetry::install();
    let (model, recipe) = chosen(&plan, args.model.as_deref())?;
    let pipeline = &plan.pipelines[&recipe.pipeline];
    let level = recipe.level.unwrap_or(pipeline.keys[0].kind);
    let input = Input { window_secs: pipeline.window.size_ns as f64 / 1e9, level: level.name().to_owned() };
    let kept = match &args.network {
        Some(dir) => Some(kept(dir, pipeline)?),
        None => None,
    };
    let options = options(&plan, &args, model, recipe, input.clone())?;
    let features = match &kept {
        Some(kept) => kept.manifest.features.iter().map(|f| f.name.clone()).collect(),
        None => recipe.features.clone().unwrap_or_else(|| pipeline.features.clone()),
    };

    let labels = match &args.labels {
        Some(path) => Some(Labels::read(path, &args.how.options()).into_diagnostic()?),
        None => None,
    };
    if labels.as_ref().is_some_and(|labels| !labels.knows(level.name())) {
        return Err(miette!(
            help = "give a table of labels (--label-column), or train on `dst_addr` or `dst_prefix`",
            "--labels says who was attacked: that is nothing about the level `{}`",
            level.name()
        ));
    }
    let read = |paths: &[PathBuf], what: &str| {
        let wanted =
            Wanted { paths: paths.to_vec(), source: args.source.clone(), pipeline: recipe.pipeline.clone(), level };
        rows(&plan, wanted, &features, labels.as_ref(), what)
    };
    let dir = args.output.clone().unwrap_or_else(|| model.path.clone());
    // Told now, not after the training.
    Model::can_save(&dir).map_err(|error| cannot_write(&dir, error))?;
    let all = read(&args.input, "reading what to learn from")?;
    let window_ns = pipeline.window.size_ns;
    let (digest, report) = match kept {
        Some(kept) => {
            let backends = inference_options(&plan.inference);
            let scored = losses(&backends, &kept, &all.columns)?;
            let calibration = calibrated(&widened(&scored.mse), &widened(&scored.log1p), &all, window_ns)?;
            let there = kept.manifest.golden.clone().filter(|golden| !golden.rows.is_empty());
            let (golden, added) = match there {
                Some(golden) => (golden, String::new()),
                None => {
                    let golden = golden(&backends, &kept, train::golden_rows(&all, &scored.mse))?;
                    let added = format!("{} golden rows added: every load is tested with them\n", golden.rows.len());
                    (golden, added)
                }
            };
            let manifest = Manifest {
                name: model.id.to_string(),
                input: Some(input),
                calibration: Some(calibration),
                golden: Some(golden),
                ..kept.manifest.clone()
            };
            let digest = write(&dir, manifest, kept.weights.clone())?;
            (digest, format!("network kept, calibrated on {} rows\n{added}", all.len()))
        }
        None => {
            let (training, validation) = if args.validation.is_empty() {
                train::split_in_time(&all, VALIDATION_SHARE)
            } else {
                (all, read(&args.validation, "reading what validates")?)
            };
            let mut trained = learn(&training, &validation, &options)?;
            let (mse, log1p) = (widened(&trained.validation_mse), widened(&trained.validation_log1p));
            let calibration = calibrated(&mse, &log1p, &trained.validation, window_ns)?;
            trained.report.histograms.push(histogram(&calibration, &mse, &log1p));
            trained.manifest.calibration = Some(calibration);
            let digest = write(&dir, trained.manifest, trained.network)?;
            let text = trained.report.to_text();
            for (name, content) in [("report.txt", &text), ("report.html", &trained.report.to_html())] {
                let path = dir.join(name);
                let written = std::fs::write(&path, content).into_diagnostic();
                written.wrap_err_with(|| format!("cannot write {}", path.display()))?;
            }
            (digest, text)
        }
    };
    print(&report)?;
    super::talk(&format!("model {} ({digest}): {}\n", model.id, dir.display()));
    Ok(())
}

/// A model whose network is kept; the pipeline has its features.
fn kept(dir: &Path, pipeline: &PipelinePlan) -> miette::Result<Arc<Model>> {
    let model = Model::load(dir).into_diagnostic().wrap_err("the network cannot be kept")?;
    let names: Vec<&str> = pipeline.features.iter().map(String::as_str).collect();
    let fits = model.check_columns(&names).into_diagnostic();
    fits.wrap_err_with(|| format!("pipeline `{}` has other features", pipeline.id))?;
    Ok(Arc::new(model))
}

/// Both losses of every row, by whoever will score the model.
fn losses(options: &inference::Options, model: &Arc<Model>, columns: &[Vec<f64>]) -> miette::Result<Losses> {
    let backends = Backends::open(options).into_diagnostic()?;
    backends.place(model).into_diagnostic().wrap_err("the network cannot be kept")?;
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let mut losses = Losses::default();
    backends.scorer(model).and_then(|mut scorer| scorer.losses(&columns, &mut losses)).into_diagnostic()?;
    Ok(losses)
}

/// A self-test of these rows: in f64 for a perceptron, in f32 for what libtorch alone computes.
fn golden(options: &inference::Options, model: &Arc<Model>, rows: Vec<Vec<f64>>) -> miette::Result<Golden> {
    let features = &model.manifest.features;
    if let Some(network) = model.network() {
        return Ok(Golden::of(network, features, rows));
    }
    let columns: Vec<Vec<f64>> = (0..features.len()).map(|f| rows.iter().map(|row| row[f]).collect()).collect();
    let losses = losses(&inference::Options { dtype: Dtype::F32, ..options.clone() }, model, &columns)?;
    Ok(Golden { rows, mse: widened(&losses.mse), log1p: widened(&losses.log1p) })
}

fn widened(losses: &[f32]) -> Vec<f64> {
    losses.iter().map(|&x| f64::from(x)).collect()
}

fn calibrated(mse: &[f64], log1p: &[f64], rows: &Rows, window_ns: u64) -> miette::Result<Calibration> {
    Calibration::fit(mse, log1p, rows_per_day(rows, window_ns))
        .into_diagnostic()
        .wrap_err("the model cannot be calibrated: give more benign traffic to validate with")
}

/// Writes the model; tells its digest.
fn write(dir: &Path, manifest: Manifest, weights: impl Into<Weights>) -> miette::Result<String> {
    let written = Model::new(manifest, weights).and_then(|model| model.save(dir).map(|()| model.digest));
    written.map_err(|error| cannot_write(dir, error))
}

fn cannot_write(dir: &Path, error: ModelError) -> miette::Report {
    miette!("the model cannot be written to {}: {error}", dir.display())
}

fn chosen<'p>(plan: &'p Plan, name: Option<&str>) -> miette::Result<(&'p ModelPlan, &'p TrainPlan)> {
    let trainable: Vec<_> = plan.models.values().filter_map(|m| Some((m, m.train.as_ref()?))).collect();
    let known = || trainable.iter().map(|(m, _)| m.id.to_string()).collect::<Vec<_>>().join(", ");
    match (name, &trainable[..]) {
        (_, []) => Err(miette!(
            help = "add `[models.NAME.train]` with `pipeline = \"...\"`; configs/kaminari.toml explains it",
            "no model of the configuration says what it is trained from"
        )),
        (None, [only]) => Ok(*only),
        (None, _) => Err(miette!("the configuration has several models: say which with --model ({})", known())),
        (Some(name), _) => trainable
            .iter()
            .find(|(m, _)| &*m.id == name)
            .copied()
            .ok_or_else(|| miette!("--model {name:?} is no model with a `train` table; there is {}", known())),
    }
}

/// What is trained, how and by whom; loads libtorch where that does.
fn options(
    plan: &Plan,
    args: &TrainArgs,
    model: &ModelPlan,
    recipe: &TrainPlan,
    input: Input,
) -> miette::Result<Options> {
    let mut options = Options {
        name: model.id.to_string(),
        version: rfc3339(now_ns() / 1_000_000_000 * 1_000_000_000),
        input: Some(input),
        hidden: recipe.hidden.clone(),
        ..Options::default()
    };
    if let Some(seeds) = recipe.seeds {
        options.seeds = (1..=u64::from(seeds)).collect();
    }
    if let Some(epochs) = recipe.epochs {
        options.epochs = epochs;
    }
    if let Some(most) = recipe.max_rows {
        options.max_rows = most;
    }
    // A network that is kept is not trained.
    if args.network.is_none() {
        if args.architecture.unwrap_or(recipe.architecture) == TrainArchitecture::Variational {
            options.kind = Kind::Variational { kl_weight: recipe.kl_weight.unwrap_or(KL_WEIGHT) };
        }
        if args.backend.unwrap_or(recipe.backend) == TrainBackend::Torch {
            options.learning = torch(plan, model)?;
        }
        options.check().into_diagnostic().wrap_err("nothing was trained")?;
    }
    Ok(options)
}

/// The libtorch of `[inference]`, on its device or else on the first CUDA device or the CPU.
fn torch(plan: &Plan, model: &ModelPlan) -> miette::Result<Learning> {
    let wanted = inference_options(&plan.inference);
    let Some(libtorch) = &wanted.libtorch else {
        let at = format!("models.{}.train.backend", model.id);
        let text = format!("libtorch is to train, and {}", TorchError::NotConfigured);
        return Err(ConfigErrors(vec![plan.places.diagnostic(code::INFERENCE_UNUSABLE, &at, text, None)]).into());
    };
    let library = Library::open(libtorch, &wanted.library).into_diagnostic()?;
    let device = wanted.device.unwrap_or(if library.cuda().is_ok() { Device::Cuda(0) } else { Device::Cpu });
    Ok(Learning::Torch { library, device })
}

/// Whole windows on their first firing, as rows.
fn rows(plan: &Plan, wanted: Wanted, features: &[String], labels: Option<&Labels>, what: &str) -> miette::Result<Rows> {
    let bar = bar("{msg}: {bar:30} {bytes}/{total_bytes} eta {eta}", what);
    let progress = bar.clone();
    let progress = Arc::new(move |done: u64, total: u64| {
        progress.set_length(total);
        progress.set_position(done);
    }) as Progress;
    let mut rows = Rows { names: features.to_vec(), columns: vec![Vec::new(); features.len()], time_ns: Vec::new() };
    let (pipeline, level, mut told) = (wanted.pipeline.clone(), wanted.level, Vec::new());
    let files: Vec<String> = wanted.paths.iter().map(|p| p.display().to_string()).collect();
    let outcome = collect(plan, wanted, Some(progress), |frame| {
        if frame.window.partial || frame.window.revision > 0 {
            return;
        }
        for (column, name) in rows.columns.iter_mut().zip(features) {
            // The config has checked that the pipeline has the feature.
            if let Some(values) = frame.batch.column_by_name(name) {
                column.extend_from_slice(values.as_primitive::<Float64Type>().values());
            }
        }
        rows.time_ns.resize(rows.time_ns.len() + frame.keys.len(), frame.window.end_ns);
        if labels.is_some() {
            told.extend(frame.keys.iter().map(|key| unlabelled(key, &frame.window)));
        }
    })
    .map_err(|e| super::build_failed(plan, e))?;
    bar.finish_and_clear();
    if !outcome.errors.is_empty() {
        return Err(miette!("{}", outcome.errors.join("; ")));
    }
    if rows.is_empty() {
        let help = "the log says how many records were read; a window counts when the traffic goes on after its end";
        let text = format!("{}: no whole window of pipeline `{pipeline}` has a row", files.join(", "));
        return Err(miette!(help = help, "{text}"));
    }
    let Some(labels) = labels else { return Ok(rows) };
    let mut series = Series {
        pipeline: pipeline.to_string(),
        detector: format!("pipeline {pipeline}"),
        entity_kind: level.name().to_owned(),
        rows: told,
        threshold: None,
    };
    // Attacks that no row holds would be added as rows of their own, at the end.
    for warning in labels.apply(&mut series).warnings {
        super::talk(&format!("warning: {warning}\n"));
    }
    let benign = rows.filter(|at| series.rows[at].label == Label::Benign);
    super::talk(&format!(
        "{what}: {} of {} rows hold attacks and are left out\n",
        rows.len() - benign.len(),
        rows.len()
    ));
    Ok(benign)
}

/// A row as the labels want it.
fn unlabelled(key: &EntityKey, window: &WindowInfo) -> Row {
    Row {
        entity: key.to_string().into(),
        start_ns: window.start_ns,
        end_ns: window.end_ns,
        score: None,
        alert: false,
        label: Label::Benign,
        events: Vec::new(),
        scored: true,
    }
}

fn learn(training: &Rows, validation: &Rows, options: &Options) -> miette::Result<Trained> {
    let bar = bar("{msg} {bar:30} {percent:>3} % eta {eta}", "training");
    let trained = train::train(training, validation, options, &mut |at| {
        let (epochs, losses) = (u64::from(at.epochs), at.losses);
        bar.set_length(at.runs as u64 * epochs);
        bar.set_position(at.run as u64 * epochs + u64::from(at.epoch) + 1);
        bar.set_message(format!(
            "training, run {} of {}: validation loss {:.5}",
            at.run + 1,
            at.runs,
            losses.validation
        ));
    });
    bar.finish_and_clear();
    trained.into_diagnostic().wrap_err("nothing was trained")
}

fn bar(template: &str, message: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_message(message.to_owned())
}

/// The scores that the calibration rests on, with the limits that it makes of them.
fn histogram(calibration: &Calibration, mse: &[f64], log1p: &[f64]) -> Histogram {
    let scores: Vec<f32> = mse.iter().zip(log1p).map(|(m, l)| raw_score(*m, *l) as f32).collect();
    let mut histogram =
        Histogram::new("Score, both errors together", "score of a row (geometric mean of both errors)", true, &scores);
    for false_alarms in MARKED {
        let limit = calibration::limit(false_alarms, calibration.rows_per_day);
        histogram.mark(calibration.score.score_at_log10(limit), format!("{false_alarms}/day"));
    }
    histogram
}

/// Rows of all entities a day of event time.
fn rows_per_day(rows: &Rows, window_ns: u64) -> f64 {
    let (from, to) = rows.span().unwrap_or_default();
    let days = (to - from + window_ns) as f64 / 86_400e9;
    rows.len() as f64 / days
}
