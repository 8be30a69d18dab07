//! One training run, the same whoever moves the weights: first weights, order of rows, a cosine decay of the step size,
//! and early stopping on the validation loss.

use super::error::TrainError;
use super::kernel::Mlp;
use super::learner;
use super::options::Options;
use super::prepare::Matrix;
use super::random::Random;
use serde::{Deserialize, Serialize};

/// Losses after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Mean squared error over the epoch's own steps, while the weights moved.
    pub training: f64,
    /// Mean squared error of the validation rows after it.
    pub validation: f64,
}

/// A run of one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Of the weights and of the order of rows.
    pub seed: u64,
    /// Losses of every epoch.
    pub epochs: Vec<Epoch>,
    /// Position of the best one; its weights are kept.
    pub best: usize,
    /// Ended before its time: the validation loss did not get better any more.
    pub stopped_early: bool,
}

impl Run {
    /// Losses of the best epoch; not a number if there was none.
    pub fn best(&self) -> Epoch {
        self.epochs.get(self.best).copied().unwrap_or(Epoch { training: f64::NAN, validation: f64::NAN })
    }
}

/// How long a run may be. Few rows make smaller batches and more epochs, and patience grows with those.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plan {
    pub batch: usize,
    pub epochs: u32,
    pub patience: u32,
}

impl Plan {
    pub fn new(rows: usize, options: &Options) -> Self {
        // At least eight steps an epoch, of at least 32 rows.
        let batch = options.batch.min((rows / 8).max(32));
        let steps = rows.div_ceil(batch).max(1) as u32;
        let epochs = options.epochs.max(options.least_steps.div_ceil(steps));
        let patience = u64::from(options.patience) * u64::from(epochs) / u64::from(options.epochs);
        Self { batch, epochs, patience: patience.try_into().unwrap_or(u32::MAX) }
    }
}

/// Trains with one seed. `told` hears of every epoch.
pub(super) fn run(
    dims: &[usize],
    training: &Matrix,
    validation: &Matrix,
    seed: u64,
    options: &Options,
    told: &mut dyn FnMut(u32, u32, Epoch),
) -> Result<(Run, Mlp), TrainError> {
    let plan = Plan::new(training.len(), options);
    let mut random = Random::new(seed);
    let mut best = xavier(dims, options.code(dims), &mut random);
    let mut learner = learner::start(best.clone(), training, validation, plan.batch, seed, options)?;
    let per_epoch = training.len().div_ceil(plan.batch) as u64;
    let steps = (u64::from(plan.epochs) * per_epoch) as f64;
    let mut order: Vec<u32> = (0..training.len() as u32).collect();
    let mut run = Run { seed, epochs: Vec::new(), best: 0, stopped_early: false };
    for epoch in 0..plan.epochs {
        random.shuffle(&mut order);
        let first = u64::from(epoch) * per_epoch;
        let rate = |step: u64| {
            let part = step as f64 / steps;
            (f64::from(options.learning_rate) * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())) as f32
        };
        let rates: Vec<f32> = (first..first + per_epoch).map(rate).collect();
        let sum = learner.epoch(&order, plan.batch, &rates)?;
        let losses = Epoch { training: sum / training.data.len() as f64, validation: learner.validate()? };
        run.epochs.push(losses);
        told(epoch, plan.epochs, losses);
        // Written so that a loss that is not a number never counts as better.
        if epoch == 0 || losses.validation < run.best().validation {
            run.best = epoch as usize;
            best.params = learner.params()?;
        }
        let diverged = !losses.validation.is_finite();
        if diverged || epoch as usize - run.best >= plan.patience as usize {
            run.stopped_early = epoch + 1 < plan.epochs;
            break;
        }
    }
    Ok((run, best))
}

/// Glorot, Bengio 2010: uniform within sqrt(6 / (inputs + outputs)); biases 0.
fn xavier(dims: &[usize], code: usize, random: &mut Random) -> Mlp {
    let mut params = Vec::with_capacity(Mlp::len(dims));
    for d in dims.windows(2) {
        let limit = (6.0 / (d[0] + d[1]) as f64).sqrt();
        params.extend((0..d[0] * d[1]).map(|_| ((2.0 * random.unit() - 1.0) * limit) as f32));
        params.extend(std::iter::repeat_n(0.0, d[1]));
    }
    Mlp { dims: dims.to_vec(), params, code }
}
