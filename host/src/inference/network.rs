//! What a model computes with: the weights of a multi-layer perceptron, as PyTorch's `nn.Sequential` of `nn.Linear` and
//! activations has them, or a TorchScript archive.

use super::manifest::Activation;
use std::sync::Arc;

/// Whatever the weights file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Weights {
    /// Every backend computes with it.
    Mlp(Network),
    /// A TorchScript archive, which libtorch alone reads: prepared rows (rows, features) in, as much or a loss a row out.
    TorchScript(Arc<[u8]>),
}

impl From<Network> for Weights {
    fn from(network: Network) -> Self {
        Weights::Mlp(network)
    }
}

/// `y = W x + b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Width of x.
    pub inputs: usize,
    /// Width of y.
    pub outputs: usize,
    /// W, row after row: `outputs` x `inputs`.
    pub weight: Vec<f32>,
    /// b: `outputs`.
    pub bias: Vec<f32>,
}

/// Layers with an activation after each but the last, and but the one that makes the code.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// In order.
    pub layers: Vec<Layer>,
    /// Of the hidden layers.
    pub activation: Activation,
    /// Width number so many (the inputs are number 0) is the code of a variational autoencoder.
    pub code: Option<usize>,
}

impl Network {
    /// What follows the layer of this number, from 0.
    pub fn activation_after(&self, layer: usize) -> Option<Activation> {
        let linear = layer + 1 == self.layers.len() || self.code == Some(layer + 1);
        (!linear).then_some(self.activation)
    }

    /// Inputs, hidden layers, outputs.
    pub fn dims(&self) -> Vec<usize> {
        self.layers.first().map(|l| l.inputs).into_iter().chain(self.layers.iter().map(|l| l.outputs)).collect()
    }

    /// Number of weights and biases.
    pub fn params(&self) -> usize {
        self.layers.iter().map(|layer| layer.weight.len() + layer.bias.len()).sum()
    }
}
