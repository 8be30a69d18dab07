//! The models of a plan, where they are scored. Comes in: the plan; goes out: models that plugins may be granted, each
//! proven on the backend that it will be scored by, and a line about each.

use super::build::Problem;
use crate::config::{InferencePlan, ModelPlan, Plan, code};
use crate::inference::torch::{FILE, TorchError};
use crate::inference::{Backend, Backends, Model, Options, PlaceError, Placed};
use crate::plugin::Models;
use crate::telemetry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Where a model was placed, to be told when everything stands.
pub(super) struct Told {
    id: Arc<str>,
    model: Arc<Model>,
    placed: Placed,
}

/// What `[inference]` asks of the backends.
pub fn options(plan: &InferencePlan) -> Options {
    // Beside the program, where `cargo xtask torch` puts it and a package would.
    let beside = || std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(FILE)));
    Options {
        backend: plan.backend,
        device: plan.device,
        dtype: plan.dtype,
        libtorch: plan.libtorch.clone(),
        library: plan.library.clone().or_else(beside).unwrap_or_else(|| PathBuf::from(FILE)),
        max_batch: plan.max_batch,
        max_wait: std::time::Duration::from_micros(plan.max_wait_us),
    }
}

/// The models of a plan, and what scores them.
pub(super) struct Kept {
    pub(super) of: Arc<Models>,
    /// By id.
    pub(super) digests: BTreeMap<Arc<str>, String>,
    /// Opened when the first model is needed, and then for good.
    backends: Option<Arc<Backends>>,
}

/// Loads every model that some plugin may score with; each proves itself on its golden rows. Of the plan before, models
/// that have not changed are taken over.
pub(super) fn load(plan: &Plan, before: Option<(&Plan, &Kept)>) -> (Kept, Vec<Problem>, Vec<Told>) {
    let granted: BTreeSet<&Arc<str>> = plan.plugins.values().flat_map(|p| &p.inference).collect();
    let wanted: Vec<&ModelPlan> = plan.models.values().filter(|m| granted.contains(&m.id)).collect();
    let (mut problems, mut told) = (Vec::new(), Vec::new());
    let backends = before.and_then(|(_, kept)| kept.backends.clone());
    let mut kept = Kept { of: Arc::default(), digests: BTreeMap::new(), backends };
    if wanted.is_empty() {
        return (kept, problems, told);
    }
    let backends = match &kept.backends {
        Some(backends) => backends.clone(),
        None => match Backends::open(&options(&plan.inference)) {
            Ok(backends) => kept.backends.insert(Arc::new(backends)).clone(),
            Err(error) => return (kept, vec![unusable(&error)], told),
        },
    };
    for wanted in wanted {
        let model = match read(wanted) {
            Ok(model) => model,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        kept.digests.insert(wanted.id.clone(), model.digest.clone());
        let same = before.filter(|(was, before)| {
            was.models.get(&wanted.id).is_some_and(|was| was.path == wanted.path)
                && before.digests.get(&wanted.id) == Some(&model.digest)
        });
        if same.is_some_and(|(_, before)| kept.of.adopt(&wanted.id, &before.of)) {
            continue;
        }
        match place(wanted, model, &backends) {
            Ok((model, placed)) => {
                kept.of.insert(&wanted.id, model.clone(), backends.clone() as Arc<dyn Backend>);
                told.push(Told { id: wanted.id.clone(), model, placed });
            }
            Err(problem) => problems.push(problem),
        }
    }
    (kept, problems, told)
}

fn problem(id: &str, key: &str, message: String, help: &str) -> Problem {
    Problem { code: code::MODEL_REFUSED, path: format!("models.{id}.{key}"), message, help: Some(help.into()) }
}

/// Reads a model, which must be the one that is pinned.
fn read(wanted: &ModelPlan) -> Result<Model, Problem> {
    let id = &wanted.id;
    let model = Model::load(&wanted.path).map_err(|error| {
        let missing = !wanted.path.exists();
        let help = if missing {
            "`kaminari train` makes it, or correct the path"
        } else {
            "train it anew, or restore the folder"
        };
        problem(id, "path", format!("model `{id}`: {error}"), help)
    })?;
    match wanted.sha256.as_ref().filter(|pin| model.digest != format!("sha256:{pin}")) {
        Some(pin) => {
            let text = format!("model `{id}` has the digest {}, not the pinned sha256:{pin}", model.digest);
            Err(problem(id, "sha256", text, "`kaminari model inspect FOLDER` tells the digest"))
        }
        None => Ok(model),
    }
}

fn place(wanted: &ModelPlan, model: Model, backends: &Backends) -> Result<(Arc<Model>, Placed), Problem> {
    let id = &wanted.id;
    let model = Arc::new(model);
    match backends.place(&model) {
        Ok(placed) => Ok((model, placed)),
        Err(error) => {
            let help = match &error {
                PlaceError::NoTorch { .. } => "`cargo xtask torch` prints the lines of `[inference]` that it takes",
                PlaceError::Model(_) => "export it anew, or restore the folder",
                PlaceError::Inference(_) => "export it anew, or choose another backend in `[inference]`",
            };
            Err(problem(id, "path", format!("model `{id}`: {error}"), help))
        }
    }
}

fn unusable(error: &TorchError) -> Problem {
    let key = match error {
        TorchError::NoDevice { .. } => "device",
        TorchError::Abi { .. } => "library",
        TorchError::NotFound { path, .. } if path.ends_with(FILE) => "library",
        _ => "libtorch",
    };
    let help = "or write `backend = \"auto\"`: the built-in backend then goes on without it";
    Problem {
        code: code::INFERENCE_UNUSABLE,
        path: format!("inference.{key}"),
        message: error.to_string(),
        help: Some(help.into()),
    }
}

/// Which models will score, and with what.
pub(super) fn tell(told: &[Told]) {
    for Told { id, model, placed } in told {
        metrics::gauge!(telemetry::INFERENCE_BACKEND, "backend" => placed.backend.clone()).set(1.0);
        let (backend, digest) = (&placed.backend, &*model.digest);
        let Some(measured) = &placed.measured else {
            let why = placed.no_gain.map_or_else(String::new, |why| format!(" ({why})"));
            tracing::info!(model = &**id, digest, "model loaded, scored by {backend}{why}");
            continue;
        };
        let device = &measured.device;
        // It scores the smaller batches.
        metrics::gauge!(telemetry::INFERENCE_BACKEND, "backend" => measured.cpu.clone()).set(1.0);
        let from = measured.from_rows.map_or(f64::INFINITY, |rows| rows as f64);
        let labels = [("model", id.to_string()), ("device", device.clone())];
        metrics::gauge!(telemetry::INFERENCE_CROSSOVER, &labels).set(from);
        for (rows, cpu, on_device) in &measured.rates {
            for (backend, rate) in [(&measured.cpu, cpu), (device, on_device)] {
                let labels = [("model", id.to_string()), ("backend", backend.clone()), ("rows", rows.to_string())];
                metrics::gauge!(telemetry::INFERENCE_MEASURED, &labels).set(*rate);
            }
        }
        let (cpu, figures) = (&measured.cpu, measured.figures());
        match measured.from_rows {
            Some(rows) => tracing::info!(
                model = &**id,
                digest,
                "model loaded, batches of {rows} rows and more are scored by {device}, smaller ones by {cpu}; measured \
                 ({cpu} / {device}): {figures}"
            ),
            None => tracing::info!(
                model = &**id,
                digest,
                "model loaded, scored by {cpu}: {device} is not faster; measured ({cpu} / {device}): {figures}"
            ),
        }
    }
}
