//! What every backend does: the built-in CPU kernel, and whatever comes later.

use super::model::Model;
use super::panel::OneByOne;
use std::sync::Arc;

/// Losses of rows, by reduction. NaN: a feature of the row is not finite.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// Mean squared error over the (preprocessed) features.
    pub mse: Vec<f32>,
    /// Mean of ln(1 + squared error) over the features: one feature alone cannot own it.
    pub log1p: Vec<f32>,
}

/// One feature's part in a row's error.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureError {
    /// Position in the model's features.
    pub feature: usize,
    /// Raw value in the row.
    pub observed: f64,
    /// The reconstruction, back in the feature's own unit.
    pub expected: f64,
    /// Squared error of the preprocessed value.
    pub error: f64,
}

/// Makes scorers of models.
pub trait Backend: Send + Sync {
    /// `cpu/avx512`, ...: for logs and the metric `kaminari_inference_backend`.
    fn name(&self) -> String;

    /// A scorer for one thread.
    fn scorer(&self, model: &Arc<Model>) -> Result<Box<dyn Scorer>, InferenceError>;

    /// Several models over the same rows, for one thread. A backend with a device of its own moves the rows there once.
    fn panel(&self, models: &[Arc<Model>]) -> Result<Box<dyn Panel>, InferenceError> {
        Ok(Box::new(OneByOne::new(self, models)?))
    }
}

/// Several models over the same rows, used by one thread.
pub trait Panel: Send {
    /// Features that the models take together, each once.
    fn columns(&self) -> &[String];

    /// Losses of every row for every model, in their order. `columns`: one slice per name of [`Panel::columns`].
    fn losses(&mut self, columns: &[&[f64]], out: &mut [Losses]) -> Result<(), InferenceError>;
}

/// One model on one device, used by one thread.
pub trait Scorer: Send {
    /// Losses of every row. `columns`: one slice per feature of the model, in its order, all of the same length.
    fn losses(&mut self, columns: &[&[f64]], out: &mut Losses) -> Result<(), InferenceError>;

    /// Every feature's part in the error of one row (raw values in the model's order), largest error first. Nothing from
    /// a model that tells a loss and no reconstruction.
    fn explain(&mut self, row: &[f64]) -> Result<Vec<FeatureError>, InferenceError>;
}

/// Scoring went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferenceError {
    /// Not the columns that the model has.
    #[error("the model takes {expected} features, not {got}")]
    Columns {
        /// Features of the model.
        expected: usize,
        /// Columns offered.
        got: usize,
    },
    /// Columns of different lengths.
    #[error("column {column} has {got} rows, and the first has {expected}")]
    Lengths {
        /// Which.
        column: usize,
        /// Rows of the first.
        expected: usize,
        /// Rows of this one.
        got: usize,
    },
    /// A TorchScript archive, and no libtorch.
    #[error(
        "model {model} is a TorchScript archive, which libtorch alone computes: `cargo xtask torch` or `kaminari doctor \
         inference` tell the lines of `[inference]` that it takes"
    )]
    NeedsTorch {
        /// Name of the model.
        model: String,
    },
    /// A backend's own trouble.
    #[error("{backend}: {message}")]
    Backend {
        /// Which.
        backend: String,
        /// What kind of trouble.
        reason: Reason,
        /// What it said.
        message: String,
    },
}

/// Why a device did not score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It cannot do this; it may do something else.
    Refused,
    /// It has no memory for it.
    OutOfMemory,
    /// It is gone.
    DeviceLost,
}

impl Reason {
    /// As a label.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Refused => "refused",
            Reason::OutOfMemory => "out_of_memory",
            Reason::DeviceLost => "device_lost",
        }
    }
}
