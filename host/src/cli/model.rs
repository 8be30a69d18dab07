//! `kaminari model inspect`: what a model directory holds, checked and tested as at a start of the engine. On stdout for
//! a person or, with `--format json`, for a program; exit code 78 and the diagnosis for a model that is refused.

use super::Format;
use super::list::table;
use crate::calibration::{Calibration, limit};
use crate::inference::{Backend, CpuBackend, Model, Training, Weights};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `model`.
#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    verb: ModelVerb,
}

#[derive(Debug, Subcommand)]
enum ModelVerb {
    /// Check and test a model directory, and show what it holds
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
struct InspectArgs {
    /// Folder with model.toml and the weights
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Form of the result
    #[arg(long, default_value = "text")]
    format: Format,
}

/// Runs the verb.
pub fn run(args: ModelArgs) -> miette::Result<()> {
    let ModelVerb::Inspect(InspectArgs { dir, format }) = args.verb;
    let loaded = Model::load(&dir).map_err(|error| error.to_string());
    match format {
        Format::Text => super::print(&as_text(&loaded.map_err(super::Told)?)),
        Format::Json => {
            super::print(&format!(
                "{}\n",
                loaded.as_ref().map_or_else(|e| json!({ "ok": false, "error": e }), as_json)
            ))?;
            // All is said on stdout: nothing is left for stderr but that it was refused.
            loaded.map(|_| ()).map_err(|_| super::Told("the model is refused".into()).into())
        }
    }
}

/// -log10 of the tail probability above which a row alerts, for one false alarm a day.
fn limit_at_one(calibration: &Calibration) -> f64 {
    limit(1.0, calibration.rows_per_day)
}

fn golden_rows(model: &Model) -> usize {
    model.manifest.golden.as_ref().map_or(0, |golden| golden.rows.len())
}

fn as_json(model: &Model) -> Value {
    let manifest = &model.manifest;
    json!({
        "ok": true,
        "name": manifest.name,
        "version": manifest.version,
        "digest": model.digest,
        "schema_digest": manifest.schema_digest(),
        "weights_sha256": manifest.weights.sha256,
        "input": manifest.input,
        "architecture": manifest.architecture,
        "features": manifest.features,
        "self_test_rows": golden_rows(model),
        "backend": model.network().map(|_| CpuBackend::detect().name()),
        "calibration": manifest.calibration,
        "limit_at_one_false_alarm_a_day": manifest.calibration.as_ref().map(limit_at_one),
        "training": manifest.training,
    })
}

fn as_text(model: &Model) -> String {
    let manifest = &model.manifest;
    let self_test = match (golden_rows(model), &model.weights) {
        (0, _) => "none: add [golden] to model.toml, and a change that no digest sees is found".to_owned(),
        (rows, Weights::Mlp(_)) => format!("{rows} rows score as they must, on {}", CpuBackend::detect().name()),
        (rows, Weights::TorchScript(_)) => {
            format!("{rows} rows, not scored here: takes libtorch; `kaminari doctor inference -c FILE` scores them")
        }
    };
    let trained_on = match &manifest.input {
        Some(input) => format!("windows of {} s, level {}", input.window_secs, input.level),
        None => "not said".to_owned(),
    };
    let kind = &manifest.architecture.kind;
    let network = match &model.weights {
        Weights::Mlp(network) => {
            let widths: Vec<String> = network.dims().iter().map(usize::to_string).collect();
            let activation = format!("{:?}", network.activation).to_lowercase();
            format!("{kind} {}, {activation}, {} weights", widths.join("-"), network.params())
        }
        Weights::TorchScript(archive) => format!("{kind}, an archive of {} bytes", archive.len()),
    };
    let name = format!("{} {}", manifest.name, manifest.version);
    let mut out = table(vec![
        ["model", name.trim_end()],
        ["digest", &model.digest],
        ["network", &network],
        ["rows", &trained_on],
        ["self-test", &self_test],
    ]);
    out += "\n# features\n";
    out += &features(model);
    out += "\n# calibration\n";
    out += &manifest
        .calibration
        .as_ref()
        .map_or_else(|| "none: the model scores, but no rate of false alarms can be asked of it\n".into(), calibration);
    if let Some(training) = &manifest.training {
        out += "\n# training\n";
        out += &trained(training);
    }
    out
}

/// A number as short as it may be without misleading.
fn number(x: f64) -> String {
    if x != 0.0 && !(1e-3..1e7).contains(&x.abs()) { format!("{x:.4e}") } else { format!("{x:.4}") }
}

fn features(model: &Model) -> String {
    let cells = model.manifest.features.iter().map(|f| {
        [f.name.clone(), format!("{:?}", f.transform).to_lowercase(), number(f.center), number(f.scale), number(f.clip)]
    });
    let head = ["NAME", "TRANSFORM", "CENTER", "SCALE", "CLIP"].map(String::from);
    columns(std::iter::once(head).chain(cells))
}

fn calibration(calibration: &Calibration) -> String {
    let mut out = String::new();
    let (rows, limit) = (calibration.rows_per_day, limit_at_one(calibration));
    writeln!(out, "{rows:.0} benign rows a day; for one false alarm a day a row alerts at 10^-{limit:.2} and rarer")
        .expect("a String takes any text");
    let t = &calibration.score;
    let limit = t.score_at_log10(limit);
    writeln!(out, "that is a score (the geometric mean of both losses) of {}", number(limit))
        .expect("a String takes any text");
    let share = format!("{:.2} %", 100.0 * t.exceed);
    let cells = [t.rows.to_string(), share, number(t.threshold), number(t.shape), number(t.scale)];
    let head = ["ROWS", "ABOVE", "THRESHOLD", "SHAPE", "SCALE"].map(String::from);
    out + &columns([head, cells])
}

fn trained(training: &Training) -> String {
    let Training { tool, rows, validation_rows, from, to, seed, seeds, epochs, loss, validation_loss, kl_weight } =
        training;
    let variational = kl_weight.map_or_else(String::new, |weight| format!("; KL weight {weight}"));
    columns([
        ["by".into(), tool.clone()],
        ["rows".into(), format!("{rows}, and {validation_rows} to validate, from {from} to {to}")],
        ["loss".into(), format!("{}, on the validation {}{variational}", number(*loss), number(*validation_loss))],
        ["run".into(), format!("{epochs} epochs, seed {seed} of {seeds} tried")],
    ])
}

fn columns<const N: usize>(rows: impl IntoIterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.into_iter().collect();
    table(rows.iter().map(|row| row.each_ref().map(String::as_str)).collect())
}
