//! libtorch, loaded at run time where the operator says it is. Comes in: models and rows; goes out: losses, computed on
//! the CPU or on a CUDA device. The program neither links nor needs it. The C interface is `torch/abi`, the shared object
//! behind it `torch/`.

mod backend;
mod error;
mod handles;
mod library;
mod locate;
mod matrix;
mod queue;
mod trainer;

pub use backend::TorchBackend;
pub use error::TorchError;
pub use handles::Buffer;
pub use library::{FILE, LIBTORCH, Library, nvidia_driver};
pub use locate::{Found, Place, everywhere};
pub use trainer::{Trainer, TrainerSpec};
