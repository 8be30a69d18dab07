//! Who moves the weights. Comes in: first weights, prepared rows, and epoch by epoch an order of rows with step sizes;
//! goes out: losses and weights. The arithmetic of a step (Adam: Kingma, Ba 2015) is the same in both.

use super::error::TrainError;
use super::kernel::{LANES, Mlp, Workspace, forward, gradient};
use super::options::{Kind, Learning, Options};
use super::prepare::Matrix;
use crate::inference::torch::{Trainer, TrainerSpec};

/// A training in progress.
pub(super) trait Learner {
    /// Steps of `batch` rows in this order, with a step size each. The sum of squared errors.
    fn epoch(&mut self, order: &[u32], batch: usize, rates: &[f32]) -> Result<f64, TrainError>;

    /// Mean squared error of the validation rows, without noise.
    fn validate(&mut self) -> Result<f64, TrainError>;

    /// The weights as they are now, as [`Mlp::params`].
    fn params(&mut self) -> Result<Vec<f32>, TrainError>;
}

/// The one that was chosen; `batch` is the most rows of a step.
pub(super) fn start<'a>(
    first: Mlp,
    training: &'a Matrix,
    validation: &'a Matrix,
    batch: usize,
    seed: u64,
    options: &Options,
) -> Result<Box<dyn Learner + 'a>, TrainError> {
    let Learning::Torch { library, device } = &options.learning else {
        return Ok(Box::new(BuiltIn::new(first, training, validation, batch)));
    };
    let kl_weight = match options.kind {
        Kind::Plain => 0.0,
        Kind::Variational { kl_weight } => kl_weight,
    };
    let (network, training, validation) = (&super::network(&first), &*training.data, &*validation.data);
    let spec = TrainerSpec { network, kl_weight, seed, training, validation };
    Ok(Box::new(Trainer::new(library, *device, &spec)?))
}

impl Learner for Trainer {
    fn epoch(&mut self, order: &[u32], batch: usize, rates: &[f32]) -> Result<f64, TrainError> {
        Ok(self.epoch(order, batch, rates)?)
    }

    fn validate(&mut self) -> Result<f64, TrainError> {
        Ok(self.validate()?)
    }

    fn params(&mut self) -> Result<Vec<f32>, TrainError> {
        Ok(self.params()?)
    }
}

/// The kernel beside this file.
struct BuiltIn<'a> {
    mlp: Mlp,
    ws: Workspace,
    adam: Adam,
    training: &'a Matrix,
    validation: &'a Matrix,
}

impl<'a> BuiltIn<'a> {
    fn new(first: Mlp, training: &'a Matrix, validation: &'a Matrix, batch: usize) -> Self {
        let (ws, adam) = (Workspace::new(&first.dims, batch), Adam::new(first.params.len()));
        Self { mlp: first, ws, adam, training, validation }
    }
}

impl Learner for BuiltIn<'_> {
    fn epoch(&mut self, order: &[u32], batch: usize, rates: &[f32]) -> Result<f64, TrainError> {
        let mut sum = 0.0;
        for (rows, rate) in order.chunks(batch).zip(rates) {
            self.ws.load(self.training.width, rows.iter().map(|r| self.training.row(*r as usize)));
            sum += gradient(&self.mlp, &mut self.ws);
            self.adam.step(&mut self.mlp.params, &self.ws.gradient, *rate);
        }
        Ok(sum)
    }

    fn validate(&mut self) -> Result<f64, TrainError> {
        let mut sum = 0.0;
        reconstruct(&self.mlp, &mut self.ws, self.validation, |_, x, y| {
            sum += f64::from(x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f32>());
        });
        Ok(sum / self.validation.data.len() as f64)
    }

    fn params(&mut self) -> Result<Vec<f32>, TrainError> {
        Ok(self.mlp.params.clone())
    }
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
