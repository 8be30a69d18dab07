//! Why libtorch does not score: each error names the file and what to do.

use crate::inference::scorer::{InferenceError, Reason};
use kaminari_torch_abi::Status;
use std::path::PathBuf;

/// What sets it right, for most of these.
const HELP: &str =
    "`kaminari doctor inference` tells what is there, `cargo xtask torch` fetches and builds what is not";

/// libtorch cannot be had, or did not do as it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TorchError {
    /// The configuration does not say where libtorch is.
    #[error("`inference.libtorch` is not set; {HELP}")]
    NotConfigured,
    /// A file is not there.
    #[error("{}: there is no such file; {hint}; {HELP}", path.display())]
    NotFound {
        /// Which.
        path: PathBuf,
        /// What it would be.
        hint: &'static str,
    },
    /// Another libtorch than the one that the backend was built for.
    #[error("{} is libtorch {found}, and the backend is built for {wanted}; {HELP}", dir.display())]
    Version {
        /// Where libtorch is.
        dir: PathBuf,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// The loader refuses a file.
    #[error("{} cannot be loaded: {message}; {HELP}", path.display())]
    Load {
        /// Which.
        path: PathBuf,
        /// What the loader said.
        message: String,
    },
    /// A shared object that is no backend of this engine, or one of another version.
    #[error("{} is {found}, and this engine wants version {wanted}; build it anew: `cargo xtask torch`", path.display())]
    Abi {
        /// Which.
        path: PathBuf,
        /// What it is.
        found: String,
        /// [`kaminari_torch_abi::ABI_VERSION`].
        wanted: u32,
    },
    /// A process has one libtorch.
    #[error("libtorch of {} is loaded already, {} cannot be loaded beside it: restart the engine", loaded.display(), wanted.display())]
    Another {
        /// The one in use.
        loaded: PathBuf,
        /// The one asked for.
        wanted: PathBuf,
    },
    /// The CUDA device is not there.
    #[error("there is no device {device}: {why}")]
    NoDevice {
        /// Which.
        device: String,
        /// What was found instead.
        why: String,
    },
    /// A call failed.
    #[error("{message}")]
    Call {
        /// How.
        reason: Reason,
        /// What libtorch said.
        message: String,
    },
}

impl TorchError {
    pub(super) fn call(status: Status, message: String) -> Self {
        let reason = match status {
            Status::OutOfMemory => Reason::OutOfMemory,
            Status::DeviceLost => Reason::DeviceLost,
            _ => Reason::Refused,
        };
        TorchError::Call { reason, message }
    }

    /// As a scorer tells it.
    pub(super) fn told_by(self, backend: &str) -> InferenceError {
        let (reason, message) = match self {
            TorchError::Call { reason, message } => (reason, message),
            other => (Reason::Refused, other.to_string()),
        };
        InferenceError::Backend { backend: backend.into(), reason, message }
    }
}
