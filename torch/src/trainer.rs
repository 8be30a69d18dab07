//! Training of an autoencoder, variational where the network has a code: prepared rows in, losses and weights out.
//! Everything stays on the device; an epoch moves the order of rows there and one number back. Refused: rows that are
//! not there, and fewer step sizes than steps.

use crate::device::{length, upload};
use crate::fault::{Fault, Result};
use crate::network::{Place, Shape};
use kaminari_torch_abi::Activation;
use tch::{Device, Kind, Tensor};

/// What `exp(x / 2)` of is the spread of the code's noise before anything is learnt.
const FIRST_LOG_VARIANCE: f64 = -4.0;
/// Rows validated at once.
const CHUNK: i64 = 65_536;

/// A training.
pub struct Trainer {
    shape: Shape,
    /// All parameters, the head's last. The leaves are views of them, so that a step is a few operations on one tensor.
    params: Tensor,
    leaves: Vec<Layer>,
    adam: Adam,
    kl_weight: f64,
    seed: u64,
    epochs: u64,
    training: Tensor,
    validation: Tensor,
}

/// Leaves of the graph of gradients.
struct Layer {
    weight: Tensor,
    bias: Tensor,
}

impl Layer {
    fn new(place: &Place, params: &Tensor) -> Result<Self> {
        let (weight, bias) = place.views(params)?;
        let leaf = |view: Tensor| view.f_detach()?.f_set_requires_grad(true);
        Ok(Self { weight: leaf(weight)?, bias: leaf(bias)? })
    }

    /// Rows as rows.
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.bias.f_addmm(x, &self.weight.f_transpose(0, 1)?)?)
    }
}

/// What a training is of.
pub struct Rows<'a> {
    pub training: &'a [f32],
    pub validation: &'a [f32],
}

impl Trainer {
    /// From the first weights.
    pub fn new(device: Device, shape: Shape, first: &[f32], rows: &Rows, kl_weight: f64, seed: u64) -> Result<Self> {
        let width = shape.width();
        let matrix = |rows: &[f32]| upload(rows, &[-1, width], device);
        let (training, validation) = (matrix(rows.training)?, matrix(rows.validation)?);
        let mut places: Vec<Place> = shape.layers().collect();
        let mut first = first.to_vec();
        // The variance of the code: a second head beside the layer that makes its mean.
        if let Some(mean) = shape.code.checked_sub(1).and_then(|layer| places.get(layer)) {
            let head = Place { inputs: mean.inputs, outputs: mean.outputs, start: length(first.len())? };
            first.resize(first.len() + (head.inputs * head.outputs) as usize, 0.0);
            first.resize(first.len() + head.outputs as usize, FIRST_LOG_VARIANCE as f32);
            places.push(head);
        }
        let params = upload(&first, &[-1], device)?;
        let leaves = places.iter().map(|place| Layer::new(place, &params)).collect::<Result<_>>()?;
        let adam = Adam::new(&params)?;
        Ok(Self { shape, params, leaves, adam, kl_weight, seed, epochs: 0, training, validation })
    }

    /// Steps over the rows in this order; the sum of squared errors.
    pub fn epoch(&mut self, order: &[u32], batch: usize, rates: &[f32]) -> Result<f64> {
        let rows = self.training.size()[0];
        if let Some(row) = order.iter().find(|row| i64::from(**row) >= rows) {
            return Err(Fault::refused(format!("there is no training row {row} among {rows}")));
        }
        if batch == 0 || rates.len() < order.len().div_ceil(batch) {
            let (n, len) = (order.len(), rates.len());
            return Err(Fault::refused(format!("{len} step sizes for {n} rows in batches of {batch}")));
        }
        if self.shape.code != 0 {
            // Of the whole process: an epoch repeats unless two trainings run at once.
            tch::manual_seed(self.seed.wrapping_add(self.epochs) as i64);
        }
        self.epochs += 1;
        let device = self.training.device();
        let order: Vec<i64> = order.iter().map(|row| i64::from(*row)).collect();
        let order = upload(&order, &[-1], device)?;
        let mut squares = Tensor::f_zeros([0i64; 0].as_slice(), (Kind::Double, device))?;
        for (at, rate) in (0..order.size()[0]).step_by(batch).zip(rates) {
            let n = length(batch)?.min(order.size()[0] - at);
            let x = self.training.f_index_select(0, &order.f_narrow(0, at, n)?)?;
            let (error, gradient) = tch::with_grad(|| self.gradient(&x))?;
            _ = squares.f_add_(&error)?;
            self.adam.step(&mut self.params, &gradient, f64::from(*rate))?;
        }
        Ok(squares.f_double_value(&[])?)
    }

    /// Sum of squared errors of a batch, and the gradient of its loss.
    fn gradient(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let values = length(x.numel())? as f64;
        let (y, divergence) = self.forward(x, true)?;
        let squares = y.f_sub(x)?.f_square()?.f_sum(Kind::Float)?;
        let mut loss = squares.f_mul_scalar(1.0 / values)?;
        if let Some(divergence) = divergence {
            loss = loss.f_add(&divergence.f_mul_scalar(self.kl_weight / values)?)?;
        }
        let leaves: Vec<&Tensor> = self.leaves.iter().flat_map(|layer| [&layer.weight, &layer.bias]).collect();
        let parts = Tensor::f_run_backward(&[loss], &leaves, false, false)?;
        let flat = parts.iter().map(|part| part.f_reshape([-1])).collect::<std::result::Result<Vec<_>, _>>()?;
        Ok((squares.f_detach()?, Tensor::f_cat(&flat, 0)?.f_detach()?))
    }

    /// The reconstruction; with `noise`, and of a variational one, also the divergence of the code, summed up.
    fn forward(&self, x: &Tensor, noise: bool) -> Result<(Tensor, Option<Tensor>)> {
        let (mut x, mut divergence) = (x.shallow_clone(), None);
        for (at, layer) in self.leaves[..self.shape.layers().count()].iter().enumerate() {
            let mut y = layer.apply(&x)?;
            if noise && at + 1 == self.shape.code {
                let (code, kl) = self.sample(&x, y)?;
                (y, divergence) = (code, Some(kl));
            }
            x = match self.shape.activation_after(at) {
                Some(Activation::Relu) => y.f_relu()?,
                Some(Activation::Tanh) => y.f_tanh()?,
                None => y,
            };
        }
        Ok((x, divergence))
    }

    /// A code drawn around its mean, and its divergence from a standard normal one, summed over the batch (Kingma,
    /// Welling 2013).
    fn sample(&self, x: &Tensor, mean: Tensor) -> Result<(Tensor, Tensor)> {
        let Some(head) = self.leaves.last() else { return Err(Fault::refused("a network without layers")) };
        let log_variance = head.apply(x)?;
        let spread = log_variance.f_mul_scalar(0.5)?.f_exp()?;
        let code = mean.f_addcmul(&spread, &mean.f_randn_like()?.f_detach()?)?;
        let divergence = mean.f_square()?.f_add(&spread.f_square()?)?.f_sub(&log_variance)?.f_sub_scalar(1.0)?;
        Ok((code, divergence.f_sum(Kind::Float)?.f_mul_scalar(0.5)?))
    }

    /// Mean squared error of the validation rows.
    pub fn validate(&self) -> Result<f64> {
        let mut sum = Tensor::f_zeros([0i64; 0].as_slice(), (Kind::Double, self.validation.device()))?;
        let rows = self.validation.size()[0];
        for start in (0..rows).step_by(CHUNK as usize) {
            let x = self.validation.f_narrow(0, start, CHUNK.min(rows - start))?;
            let (mut y, _) = self.forward(&x, false)?;
            _ = sum.f_add_(&y.f_sub_(&x)?.f_square_()?.f_sum(Kind::Double)?)?;
        }
        Ok(sum.f_double_value(&[])? / self.validation.numel() as f64)
    }

    /// The network's weights, without the head.
    pub fn params(&self, out: &mut [f32]) -> Result<()> {
        let len: i64 = self.shape.layers().map(|layer| layer.params()).sum();
        if length(out.len())? < len {
            return Err(Fault::refused(format!("{len} parameters have no room in {}", out.len())));
        }
        Ok(self.params.f_narrow(0, 0, len)?.f_copy_data(out, len as usize)?)
    }
}

/// Kingma, Ba 2015, with the arithmetic of the engine's own training.
struct Adam {
    mean: Tensor,
    square: Tensor,
    steps: i32,
}

impl Adam {
    const BETA1: f64 = 0.9;
    const BETA2: f64 = 0.999;
    const EPSILON: f64 = 1e-8;

    fn new(params: &Tensor) -> Result<Self> {
        Ok(Self { mean: params.f_zeros_like()?, square: params.f_zeros_like()?, steps: 0 })
    }

    fn step(&mut self, params: &mut Tensor, gradient: &Tensor, rate: f64) -> Result<()> {
        self.steps += 1;
        let (one, two) = (1.0 - Self::BETA1.powi(self.steps), 1.0 - Self::BETA2.powi(self.steps));
        _ = self.mean.f_lerp_(gradient, 1.0 - Self::BETA1)?;
        _ = self.square.f_lerp_(&gradient.f_square()?, 1.0 - Self::BETA2)?;
        let spread = self.square.f_sqrt()?.f_add_scalar_(Self::EPSILON * two.sqrt())?;
        let step = self.mean.f_div(&spread)?.f_mul_scalar_(rate * two.sqrt() / one)?;
        _ = params.f_sub_(&step)?;
        Ok(())
    }
}
