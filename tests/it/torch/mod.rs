//! libtorch as a backend, on the CPU: as PyTorch scores, in one piece or through the queue of a device, beside the
//! built-in kernel, and what is said when it cannot be had. The tests that take libtorch are skipped without it.

mod backends;
mod evaluation;
mod files;
mod parity;

use kaminari::inference::torch::{Library, TorchBackend};
use kaminari::inference::{Backend, Losses, Model, Options};
use kaminari::model::{BackendChoice, Device, Dtype};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// libtorch on the CPU; with a queue, as a CUDA device has one, if asked for.
fn torch(what: &str, dtype: Dtype, queued: bool) -> Option<Arc<TorchBackend>> {
    let (libtorch, library) = kaminari_tests::libtorch(what)?;
    let library = Library::open(&libtorch, &library).unwrap();
    Some(TorchBackend::new(&library, Device::Cpu, dtype, 512, Duration::from_millis(2), queued).unwrap())
}

fn options(libtorch: Option<PathBuf>, library: PathBuf, backend: BackendChoice) -> Options {
    Options {
        backend,
        device: Some(Device::Cpu),
        dtype: Dtype::F32,
        libtorch,
        library,
        max_batch: 4096,
        max_wait: Duration::from_millis(1),
    }
}

/// Rows as columns.
fn columns(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    (0..rows[0].len()).map(|feature| rows.iter().map(|row| row[feature]).collect()).collect()
}

fn losses(backend: &dyn Backend, model: &Arc<Model>, rows: &[Vec<f64>]) -> Losses {
    let columns = columns(rows);
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let mut losses = Losses::default();
    backend.scorer(model).unwrap().losses(&columns, &mut losses).unwrap();
    losses
}
