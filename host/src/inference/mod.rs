//! Models that score rows of features. Comes in: a model directory (`model.toml` + `weights.safetensors`) and columns of
//! features; goes out: one loss per row and reduction, and what a feature was expected to be. Refused: damaged or
//! mismatched models, with what differs; rows with a feature that is not finite have no loss (NaN) and are counted.
//! Knows nothing of windows, plugins or incidents.

mod backends;
mod check;
mod cpu;
mod crossover;
mod error;
mod health;
mod kernel;
mod lanes;
mod manifest;
mod model;
mod network;
mod panel;
mod placed;
pub mod reference;
mod register;
mod scorer;
pub mod torch;
mod weights;

#[cfg(test)]
mod tests;

pub use backends::{Backends, Options, PlaceError, Placed};
pub use cpu::{CpuBackend, CpuScorer, Isa};
pub use crossover::Measured;
pub use error::ModelError;
pub use manifest::{
    Activation, Architecture, FORMAT_VERSION, FeatureSpec, Golden, Input, MAX_CLIP, MLP, Manifest, TORCHSCRIPT,
    Training, Transform, VARIATIONAL, WeightsFile,
};
pub use model::Model;
pub use network::{Layer, Network, Weights};
pub use panel::Columns;
pub use scorer::{Backend, FeatureError, InferenceError, Losses, Panel, Reason, Scorer};
