//! Why a model directory is refused: each error names the file, the key or tensor, and what to do.

use std::path::PathBuf;

/// A model that cannot be read, written or trusted.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file or the folder is not there.
    #[error("{}: not found; a model is a folder with model.toml and the weights file that it names", path.display())]
    NotFound {
        /// What is missing.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The manifest is no TOML, or has a key that is unknown, missing or of the wrong type.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Toml {
        /// File.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// A key of the manifest has a value that cannot be.
    #[error("{}: {key}: {problem}", path.display())]
    Key {
        /// File.
        path: PathBuf,
        /// `features[3].scale`.
        key: String,
        /// Expected, found, and what to do.
        problem: String,
    },
    /// The weights file as a whole.
    #[error("{}: {problem}", path.display())]
    Weights {
        /// File.
        path: PathBuf,
        /// Expected, found, and what to do.
        problem: String,
    },
    /// One tensor of it.
    #[error("{}: tensor `{tensor}`: {problem}", path.display())]
    Tensor {
        /// File.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// Expected, found, and what to do.
        problem: String,
    },
    /// The model does not score its golden rows as it should.
    #[error(
        "{}: self-test: row {row} of golden.rows has {loss} {got}, and golden.{loss} says {expected}; the manifest and \
         the weights are not of one model, or the preprocessing was changed: export both again",
        path.display()
    )]
    SelfTest {
        /// File.
        path: PathBuf,
        /// From 0.
        row: usize,
        /// `mse` or `log1p`.
        loss: &'static str,
        /// Scored here.
        got: f64,
        /// In the manifest.
        expected: f64,
    },
    /// Columns that the model takes and that are not offered.
    #[error(
        "model {model} takes features that are not offered: {}; add them to the pipeline's features or train anew",
        missing.join(", ")
    )]
    Features {
        /// Name of the model.
        model: String,
        /// Every missing one.
        missing: Vec<String>,
    },
}
