//! Weights of a multi-layer perceptron, as PyTorch's `nn.Sequential` of `nn.Linear` and activations has them.

use super::manifest::Activation;

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

/// Layers with an activation after each but the last.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// In order.
    pub layers: Vec<Layer>,
    /// Of the hidden layers.
    pub activation: Activation,
}
