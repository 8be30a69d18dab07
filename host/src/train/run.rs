//! One training run: Adam (Kingma, Ba 2015) with a cosine decay, and early stopping on the validation loss.

use super::kernel::{LANES, Mlp, Workspace, forward, gradient};
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
) -> (Run, Mlp) {
    let plan = Plan::new(training.len(), options);
    let mut random = Random::new(seed);
    let mut mlp = xavier(dims, &mut random);
    let mut ws = Workspace::new(dims, plan.batch);
    let mut adam = Adam::new(mlp.params.len());
    let steps = u64::from(plan.epochs) * training.len().div_ceil(plan.batch) as u64;
    let mut order: Vec<u32> = (0..training.len() as u32).collect();
    let mut run = Run { seed, epochs: Vec::new(), best: 0, stopped_early: false };
    let mut best = mlp.clone();
    for epoch in 0..plan.epochs {
        random.shuffle(&mut order);
        let mut sum = 0.0;
        for rows in order.chunks(plan.batch) {
            ws.load(training.width, rows.iter().map(|r| training.row(*r as usize)));
            sum += gradient(&mlp, &mut ws);
            let part = adam.steps as f64 / steps as f64;
            let rate = f64::from(options.learning_rate) * 0.5 * (1.0 + (std::f64::consts::PI * part).cos());
            adam.step(&mut mlp.params, &ws.gradient, rate as f32);
        }
        let losses =
            Epoch { training: sum / training.data.len() as f64, validation: mean_loss(&mlp, &mut ws, validation) };
        run.epochs.push(losses);
        told(epoch, plan.epochs, losses);
        // Written so that a loss that is not a number never counts as better.
        if epoch == 0 || losses.validation < run.best().validation {
            run.best = epoch as usize;
            best.params.copy_from_slice(&mlp.params);
        }
        let diverged = !losses.validation.is_finite();
        if diverged || epoch as usize - run.best >= plan.patience as usize {
            run.stopped_early = epoch + 1 < plan.epochs;
            break;
        }
    }
    (run, best)
}

/// Glorot, Bengio 2010: uniform within sqrt(6 / (inputs + outputs)); biases 0.
fn xavier(dims: &[usize], random: &mut Random) -> Mlp {
    let mut params = Vec::with_capacity(Mlp::len(dims));
    for d in dims.windows(2) {
        let limit = (6.0 / (d[0] + d[1]) as f64).sqrt();
        params.extend((0..d[0] * d[1]).map(|_| ((2.0 * random.unit() - 1.0) * limit) as f32));
        params.extend(std::iter::repeat_n(0.0, d[1]));
    }
    Mlp { dims: dims.to_vec(), params }
}

struct Adam {
    mean: Vec<f32>,
    square: Vec<f32>,
    steps: u64,
}

impl Adam {
    const BETA1: f64 = 0.9;
    const BETA2: f64 = 0.999;

    fn new(len: usize) -> Self {
        Self { mean: vec![0.0; len], square: vec![0.0; len], steps: 0 }
    }

    fn step(&mut self, params: &mut [f32], gradient: &[f32], rate: f32) {
        self.steps += 1;
        let t = self.steps as f64;
        let (one, two) = (1.0 - Self::BETA1.powf(t), 1.0 - Self::BETA2.powf(t));
        let rate = (f64::from(rate) * two.sqrt() / one) as f32;
        let (b1, b2, eps) = (Self::BETA1 as f32, Self::BETA2 as f32, (1e-8 * two.sqrt()) as f32);
        let state = self.mean.iter_mut().zip(self.square.iter_mut());
        for ((p, g), (m, s)) in params.iter_mut().zip(gradient).zip(state) {
            *m = b1 * *m + (1.0 - b1) * g;
            *s = b2 * *s + (1.0 - b2) * g * g;
            *p -= rate * *m / (s.sqrt() + eps);
        }
    }
}

/// Runs all rows through the network; `each` gets a row's number, its prepared values and their reconstruction.
pub(super) fn reconstruct(mlp: &Mlp, ws: &mut Workspace, rows: &Matrix, mut each: impl FnMut(usize, &[f32], &[f32])) {
    let mut out = vec![0.0; rows.width];
    let mut at = 0;
    while at < rows.len() {
        let n = ws.capacity().min(rows.len() - at);
        ws.load(rows.width, (at..at + n).map(|r| rows.row(r)));
        forward(mlp, ws);
        let y = &ws.values[mlp.dims.len() - 1];
        for r in 0..n {
            for (i, out) in out.iter_mut().enumerate() {
                *out = y[r / LANES * rows.width + i][r % LANES];
            }
            each(at + r, rows.row(at + r), &out);
        }
        at += n;
    }
}

fn mean_loss(mlp: &Mlp, ws: &mut Workspace, rows: &Matrix) -> f64 {
    let mut sum = 0.0;
    reconstruct(mlp, ws, rows, |_, x, y| {
        sum += f64::from(x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f32>());
    });
    sum / rows.data.len() as f64
}
