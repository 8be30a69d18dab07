//! Training of autoencoders. Comes in: benign rows of features, those to learn from and later ones to validate with; goes
//! out: a model (manifest and weights), the validation rows' losses for the calibration, and a report for people. Refused:
//! too few rows, features that say nothing, rows that do not fit each other. Rows with a feature that is not finite are
//! left out and counted. Repeatable: the same rows and options make the same weights, whatever the processor (machines
//! whose libm rounds a logarithm or cosine otherwise may differ in the last bit); where libtorch moves the weights, on
//! the same device.

mod chart;
mod error;
mod golden;
mod html;
mod kernel;
mod learner;
mod options;
mod prepare;
mod random;
mod report;
#[cfg(test)]
mod report_tests;
mod rows;
mod run;
#[cfg(test)]
mod tests;
mod text;

pub use error::TrainError;
pub use golden::golden_rows;
pub use options::{KL_WEIGHT, Kind, Learning, Options, Prepare, hidden_widths};
pub use prepare::Seen;
pub use report::{Data, FeatureReport, Histogram, Mark, Report};
pub use rows::{Rows, split_in_time};
pub use run::{Epoch, Run};

use crate::inference::{Activation, Architecture, FORMAT_VERSION, Layer, Manifest, Network, Training, WeightsFile};
use crate::model::time::rfc3339;
use kernel::{Mlp, Workspace};
use prepare::Matrix;

/// Where a training stands: one per epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Run, counted from 0.
    pub run: usize,
    /// Runs there will be.
    pub runs: usize,
    /// Epoch of the run, counted from 0.
    pub epoch: u32,
    /// Most epochs a run may have.
    pub epochs: u32,
    /// Losses after this epoch.
    pub losses: Epoch,
}

/// A model and what is known of it.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Without calibration and digest of the weights.
    pub manifest: Manifest,
    /// The weights of the best run.
    pub network: Network,
    /// The weights of every run, in the order of the seeds.
    pub networks: Vec<Network>,
    /// Validation rows that `validation_mse` and `validation_log1p` belong to: those with finite features.
    pub validation: Rows,
    /// Mean squared error of each.
    pub validation_mse: Vec<f32>,
    /// Mean log1p error of each.
    pub validation_log1p: Vec<f32>,
    /// For people.
    pub report: Report,
}

/// Trains one network per seed and keeps the best.
pub fn train(
    training: &Rows,
    validation: &Rows,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Trained, TrainError> {
    options.check()?;
    let (learned, left_out) = usable(training, "training", options.least_rows)?;
    same_columns(training, validation)?;
    let (held, held_left_out) = usable(validation, "validation", options.least_validation_rows)?;
    if learned.columns.iter().all(|c| c.iter().all(|x| *x == c[0])) {
        return Err(TrainError::Constant { features: learned.names.len(), rows: learned.len() });
    }
    let data = Data::of(&learned, left_out, options.max_rows);
    let held_data = Data::of(&held, held_left_out, usize::MAX);
    let learned = learned.thinned(options.max_rows);

    let (features, seen) = prepare::fit(&learned, &options.prepare);
    let matrix = Matrix::new(&learned, &features);
    // Early stopping looks at no more rows than an epoch has; the losses handed back are of all.
    let held_matrix = Matrix::new(&held, &features);
    let stop_matrix = Matrix::new(&held.thinned(options.max_rows), &features);
    let width = features.len();
    let hidden = options.hidden.clone().unwrap_or_else(|| hidden_widths(width));
    let dims: Vec<usize> = std::iter::once(width).chain(hidden).chain(std::iter::once(width)).collect();

    let runs = options.seeds.len();
    let mut done: Vec<(Run, Mlp)> = Vec::with_capacity(runs);
    for (k, seed) in options.seeds.iter().enumerate() {
        let told = &mut |epoch, epochs, losses| progress(Progress { run: k, runs, epoch, epochs, losses });
        done.push(run::run(&dims, &matrix, &stop_matrix, *seed, options, told)?);
    }
    let finite = done.iter().enumerate().filter(|(_, (run, _))| run.best().validation.is_finite());
    let best = finite.min_by(|a, b| a.1.0.best().validation.total_cmp(&b.1.0.best().validation)).map(|(k, _)| k);
    let best = best.ok_or(TrainError::Diverged { seeds: options.seeds.len(), learning_rate: options.learning_rate })?;
    let judged = Judged::new(&done[best].1, &held_matrix);
    let networks: Vec<Network> = done.iter().map(|(_, mlp)| network(mlp)).collect();
    let network = networks[best].clone();
    let runs: Vec<Run> = done.into_iter().map(|(run, _)| run).collect();
    let golden = golden::golden(&features, &network, &held, &judged.mse);
    let losses = runs[best].best();
    let from = data.from_ns.saturating_sub(options.input.as_ref().map_or(0, |i| (i.window_secs * 1e9) as u64));
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        name: options.name.clone(),
        version: options.version.clone(),
        input: options.input.clone(),
        architecture: Architecture::of(&network),
        weights: WeightsFile::default(),
        features,
        calibration: None,
        golden: Some(golden),
        training: Some(Training {
            tool: options.learning.tool(),
            rows: learned.len() as u64,
            validation_rows: held.len() as u64,
            from: rfc3339(from),
            to: rfc3339(data.to_ns),
            seed: runs[best].seed,
            seeds: runs.len() as u32,
            epochs: runs[best].best as u32 + 1,
            loss: losses.training,
            validation_loss: losses.validation,
            kl_weight: match options.kind {
                Kind::Plain => None,
                Kind::Variational { kl_weight } => Some(kl_weight),
            },
        }),
    };
    let report = Report::new(&manifest, options.kind, data, held_data, runs, best, seen, &judged, &held_matrix);
    let Judged { mse, log1p, .. } = judged;
    Ok(Trained { manifest, network, networks, validation: held, validation_mse: mse, validation_log1p: log1p, report })
}

/// Losses of rows, and each feature's part in them.
struct Judged {
    mse: Vec<f32>,
    log1p: Vec<f32>,
    /// Per feature: mean and greatest squared error.
    features: Vec<(f64, f64)>,
}

impl Judged {
    fn new(mlp: &Mlp, rows: &Matrix) -> Self {
        let mut ws = Workspace::forward_only(&mlp.dims, 512);
        let (mut mse, mut log1p) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let mut features = vec![(0.0, 0.0f64); rows.width];
        let n = rows.width as f64;
        learner::reconstruct(mlp, &mut ws, rows, |_, x, y| {
            let (mut sum, mut logs) = (0.0, 0.0);
            for ((x, y), (mean, worst)) in x.iter().zip(y).zip(&mut features) {
                let error = f64::from((x - y) * (x - y));
                sum += error;
                logs += error.ln_1p();
                *mean += error / rows.len() as f64;
                *worst = worst.max(error);
            }
            mse.push((sum / n) as f32);
            log1p.push((logs / n) as f32);
        });
        Self { mse, log1p, features }
    }
}

fn network(mlp: &Mlp) -> Network {
    let mut at = 0;
    let mut take = |n: usize| {
        at += n;
        mlp.params[at - n..at].to_vec()
    };
    let layers =
        mlp.dims.windows(2).map(|d| Layer { inputs: d[0], outputs: d[1], weight: take(d[0] * d[1]), bias: take(d[1]) });
    Network { layers: layers.collect(), activation: Activation::Tanh, code: (mlp.code > 0).then_some(mlp.code) }
}

/// The finite ones of the rows, and how many were left out.
fn usable(rows: &Rows, which: &'static str, least: usize) -> Result<(Rows, usize), TrainError> {
    rows.check(which)?;
    if which == "training" && !rows.is_empty() {
        let silent = rows.columns.iter().position(|c| !c.iter().any(|x| x.is_finite()));
        if let Some(at) = silent {
            return Err(TrainError::NotFinite { feature: rows.names[at].clone(), rows: rows.len() });
        }
    }
    let (finite, left_out) = rows.finite();
    if finite.len() < least.max(1) {
        return Err(TrainError::TooFew { which, got: finite.len(), least: least.max(1), left_out });
    }
    Ok((finite, left_out))
}

fn same_columns(training: &Rows, validation: &Rows) -> Result<(), TrainError> {
    let most = training.names.len().max(validation.names.len());
    let name = |rows: &Rows, at: usize| rows.names.get(at).map_or_else(|| "missing".to_owned(), |n| format!("`{n}`"));
    match (0..most).find(|&at| training.names.get(at) != validation.names.get(at)) {
        None => Ok(()),
        Some(at) => Err(TrainError::Columns {
            position: at + 1,
            training: name(training, at),
            validation: name(validation, at),
        }),
    }
}
