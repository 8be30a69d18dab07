//! A training that libtorch does. Comes in: prepared rows and the first weights; goes out: losses and weights, epoch by
//! epoch. Refused: a CUDA device that is not there. What a recipe is, the caller knows.

use super::error::TorchError;
use super::handles::{device, with_mlp};
use super::library::Library;
use crate::inference::network::Network;
use crate::model::Device;
use kaminari_torch_abi as abi;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

/// What is trained, and how.
pub struct TrainerSpec<'a> {
    /// With the first weights; one with a code is variational.
    pub network: &'a Network,
    /// Share of the divergence of the code, per feature, in the loss of a variational one.
    pub kl_weight: f64,
    /// Of its noise.
    pub seed: u64,
    /// Prepared rows to learn from, one after the other.
    pub training: &'a [f32],
    /// Prepared rows to validate with.
    pub validation: &'a [f32],
}

/// A training on a device.
pub struct Trainer {
    library: Arc<Library>,
    handle: *mut c_void,
    params: usize,
}

// SAFETY: the ABI lets handles go from thread to thread; every call borrows mutably.
unsafe impl Send for Trainer {}

impl Trainer {
    /// Moves rows and weights to the device.
    pub fn new(library: &Arc<Library>, on: Device, spec: &TrainerSpec) -> Result<Self, TorchError> {
        library.has(on)?;
        let width = spec.network.layers.first().map_or(1, |layer| layer.inputs.max(1));
        let mut handle = ptr::null_mut();
        with_mlp(spec.network, |mlp| {
            let spec = abi::TrainSpec {
                device: device(on),
                mlp,
                kl_weight: spec.kl_weight,
                seed: spec.seed,
                training: spec.training.as_ptr(),
                training_rows: spec.training.len() / width,
                validation: spec.validation.as_ptr(),
                validation_rows: spec.validation.len() / width,
            };
            library.call(|failure| unsafe { (library.api.trainer_new)(&spec, &mut handle, failure) })
        })?;
        Ok(Self { library: library.clone(), handle, params: spec.network.params() })
    }

    /// Steps of `batch` rows in this order, with a step size each. The sum of squared errors.
    pub fn epoch(&mut self, order: &[u32], batch: usize, rates: &[f32]) -> Result<f64, TorchError> {
        let (library, mut squares) = (&self.library, 0.0);
        library.call(|failure| unsafe {
            (library.api.trainer_epoch)(
                self.handle,
                order.as_ptr(),
                order.len(),
                batch,
                rates.as_ptr(),
                rates.len(),
                &mut squares,
                failure,
            )
        })?;
        Ok(squares)
    }

    /// Mean squared error of the validation rows, without noise.
    pub fn validate(&mut self) -> Result<f64, TorchError> {
        let (library, mut loss) = (&self.library, 0.0);
        library.call(|failure| unsafe { (library.api.trainer_validate)(self.handle, &mut loss, failure) })?;
        Ok(loss)
    }

    /// The weights as they are now: layer by layer, weights (outputs x inputs), then biases.
    pub fn params(&mut self) -> Result<Vec<f32>, TorchError> {
        let (library, mut out) = (&self.library, vec![0.0; self.params]);
        library.call(|failure| unsafe {
            (library.api.trainer_params)(self.handle, out.as_mut_ptr(), out.len(), failure)
        })?;
        Ok(out)
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        // SAFETY: made by `trainer_new`, freed once.
        unsafe { (self.library.api.trainer_free)(self.handle) }
    }
}
