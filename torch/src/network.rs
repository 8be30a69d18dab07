//! Linear layers: what [`Mlp`] describes in, tensors of a device out, and the forward pass. Refused: a description that
//! does not fit together.

use crate::device::{length, upload};
use crate::fault::{Fault, Result};
use kaminari_torch_abi::{Activation, Mlp};
use tch::{Device, Kind, Tensor};

/// What a network looks like, without its weights.
#[derive(Clone, Debug)]
pub struct Shape {
    dims: Vec<i64>,
    activation: Activation,
    /// Position in `dims` of the code of a variational one; 0: none.
    pub code: usize,
}

/// Where a layer's parameters are among all of them.
pub struct Place {
    pub inputs: i64,
    pub outputs: i64,
    /// First weight; the biases follow the weights.
    pub start: i64,
}

impl Place {
    /// The weights (outputs x inputs) and biases, as views.
    pub fn views(&self, params: &Tensor) -> Result<(Tensor, Tensor)> {
        let weights = self.inputs * self.outputs;
        let weight = params.f_narrow(0, self.start, weights)?.f_view([self.outputs, self.inputs])?;
        Ok((weight, params.f_narrow(0, self.start + weights, self.outputs)?))
    }

    /// How many there are.
    pub fn params(&self) -> i64 {
        (self.inputs + 1) * self.outputs
    }
}

impl Shape {
    /// Reads and checks a description of a network that takes and gives as many values.
    ///
    /// # Safety
    /// Its pointers are valid.
    pub unsafe fn read(mlp: &Mlp) -> Result<(Self, &[f32])> {
        // SAFETY: by the caller.
        let (dims, params) = unsafe {
            (std::slice::from_raw_parts(mlp.dims, mlp.dims_len), std::slice::from_raw_parts(mlp.params, mlp.params_len))
        };
        let shape = Self {
            dims: dims.iter().map(|d| i64::from(*d)).collect(),
            activation: mlp.activation,
            code: mlp.code as usize,
        };
        let fits = dims.len() >= 2 && !dims.contains(&0) && dims.first() == dims.last();
        if !fits || (mlp.code != 0 && shape.code + 1 >= dims.len()) {
            return Err(Fault::refused(format!("layers of {dims:?} with the code at {} are no autoencoder", mlp.code)));
        }
        let expected = shape.layers().map(|layer| layer.params()).sum::<i64>();
        if length(params.len())? != expected {
            let got = params.len();
            return Err(Fault::refused(format!("layers of {dims:?} have {expected} parameters, not {got}")));
        }
        Ok((shape, params))
    }

    /// Values that go in, and come out.
    pub fn width(&self) -> i64 {
        self.dims[0]
    }

    /// In order.
    pub fn layers(&self) -> impl Iterator<Item = Place> {
        let mut start = 0;
        self.dims.windows(2).map(move |d| {
            let layer = Place { inputs: d[0], outputs: d[1], start };
            start += layer.params();
            layer
        })
    }

    /// The parameters of a network whose values come, and go, in this order.
    pub fn reordered(&self, params: &[f32], order: &[usize]) -> Vec<f32> {
        let mut to = params.to_vec();
        let layers: Vec<(usize, usize, usize)> =
            self.layers().map(|l| (l.inputs as usize, l.outputs as usize, l.start as usize)).collect();
        if let Some(&(inputs, outputs, start)) = layers.first() {
            let rows = to[start..start + inputs * outputs].chunks_exact_mut(inputs);
            for (to, from) in rows.zip(params[start..].chunks_exact(inputs)) {
                to.iter_mut().zip(order).for_each(|(to, &input)| *to = from[input]);
            }
        }
        if let Some(&(inputs, outputs, start)) = layers.last() {
            // The first layer may be the last.
            let from = to[start..start + (inputs + 1) * outputs].to_vec();
            let (weights, biases) = from.split_at(inputs * outputs);
            for (at, &output) in order.iter().enumerate() {
                let row = start + at * inputs;
                to[row..row + inputs].copy_from_slice(&weights[output * inputs..(output + 1) * inputs]);
                to[start + inputs * outputs + at] = biases[output];
            }
        }
        to
    }

    /// Of that layer, counted from 0.
    pub fn activation_after(&self, layer: usize) -> Option<Activation> {
        let last = layer + 2 == self.dims.len();
        (!last && layer + 1 != self.code).then_some(self.activation)
    }
}

/// A network on a device.
pub struct Network {
    layers: Vec<Layer>,
}

struct Layer {
    weight: Tensor,
    bias: Tensor,
    activation: Option<Activation>,
}

impl Network {
    /// On the device, in that arithmetic.
    pub fn new(shape: &Shape, params: &[f32], device: Device, kind: Kind) -> Result<Self> {
        let params = upload(params, &[length(params.len())?], device)?.f_to_kind(kind)?;
        let layer = |(at, place): (usize, Place)| {
            let (weight, bias) = place.views(&params)?;
            Ok(Layer { weight, bias, activation: shape.activation_after(at) })
        };
        Ok(Self { layers: shape.layers().enumerate().map(layer).collect::<Result<_>>()? })
    }

    /// [width, rows] to as much. In between rows are rows, for which CUDA adds biases as it multiplies; the last product
    /// turns them back into columns.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let mut x = input.f_transpose(0, 1)?;
        let Some((last, hidden)) = self.layers.split_last() else { return Ok(input.shallow_clone()) };
        for layer in hidden {
            x = layer.bias.f_addmm(&x, &layer.weight.f_transpose(0, 1)?)?;
            // In place: nobody else has seen it. (tch's `_addmm_activation`, which would be one kernel on CUDA, puts its
            // last argument where libtorch has the factor of the bias.)
            match layer.activation {
                Some(Activation::Relu) => _ = x.f_relu_()?,
                Some(Activation::Tanh) => _ = x.f_tanh_()?,
                None => {}
            }
        }
        Ok(last.bias.f_view([-1, 1])?.f_addmm(&last.weight, &x.f_transpose(0, 1)?)?)
    }
}
