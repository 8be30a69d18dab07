//! Models that score rows of features. Comes in: a model directory (`model.toml` + `weights.safetensors`) and columns of
//! features; goes out: one loss per row and reduction, and what a feature was expected to be. Refused: damaged or
//! mismatched models, with what differs; rows with a feature that is not finite have no loss (NaN) and are counted.
//! Knows nothing of windows, plugins or incidents.

mod check;
mod cpu;
mod error;
mod kernel;
mod lanes;
mod manifest;
mod model;
mod network;
pub mod reference;
mod register;
mod scorer;
mod weights;

#[cfg(test)]
mod tests;

pub use cpu::{CpuBackend, CpuScorer, Isa};
pub use error::ModelError;
pub use manifest::{
    Activation, Architecture, FORMAT_VERSION, FeatureSpec, Golden, Input, MAX_CLIP, MLP, Manifest, TORCHSCRIPT,
    Training, Transform, VARIATIONAL, WeightsFile,
};
pub use model::Model;
pub use network::{Layer, Network, Weights};
pub use scorer::{Backend, FeatureError, InferenceError, Losses, Scorer};
