//! Why nothing was trained.

use crate::inference::torch::TorchError;

/// A training that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// The rows have no columns.
    #[error("the rows have no features: name at least one")]
    NoFeatures,
    /// A column is longer or shorter than the rows.
    #[error("the {which} rows are ragged: {rows} times, but {values} values of `{feature}`")]
    Ragged {
        /// `training` or `validation`.
        which: &'static str,
        /// The column.
        feature: String,
        /// Window times.
        rows: usize,
        /// Values.
        values: usize,
    },
    /// Training and validation do not have the same features.
    #[error(
        "training and validation rows differ: feature {position} is {training} in the training rows and {validation} in \
         the validation rows; make both with the same configuration"
    )]
    Columns {
        /// First place where they differ, counted from 1.
        position: usize,
        /// Name there, or `missing`.
        training: String,
        /// Name there, or `missing`.
        validation: String,
    },
    /// A feature that says nothing.
    #[error("feature `{feature}` has no finite value in {rows} training rows; leave it out or mend its source")]
    NotFinite {
        /// The column.
        feature: String,
        /// Rows there are.
        rows: usize,
    },
    /// Too little to learn from.
    #[error(
        "{got} {which} rows are too few, at least {least} are needed{}; take more traffic, or shorter windows",
        if *left_out > 0 { format!(" ({left_out} more were left out: a feature was not finite)") } else { String::new() }
    )]
    TooFew {
        /// `training` or `validation`.
        which: &'static str,
        /// Rows that can be used.
        got: usize,
        /// Rows needed.
        least: usize,
        /// Rows left out.
        left_out: usize,
    },
    /// Every row is the same row.
    #[error("all {features} features are constant over {rows} training rows: there is nothing to learn")]
    Constant {
        /// How many.
        features: usize,
        /// Rows there are.
        rows: usize,
    },
    /// An option out of its range.
    #[error("{option} = {value} is out of range: {hint}")]
    Option {
        /// Which.
        option: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        hint: &'static str,
    },
    /// The built-in backend trains no variational autoencoders.
    #[error(
        "a variational autoencoder is trained by libtorch alone: `backend = \"torch\"` in the `train` table, or --backend torch"
    )]
    NeedsTorch,
    /// libtorch's own trouble.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// Every run ended in numbers that are not finite.
    #[error("the loss is not finite with any of {seeds} seeds; try a smaller learning rate than {learning_rate}")]
    Diverged {
        /// Runs.
        seeds: usize,
        /// As asked for.
        learning_rate: f32,
    },
}
