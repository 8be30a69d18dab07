//! What the backend made for us, freed when it is dropped, and its calls with Rust's types. Nothing here knows what a
//! window or a model directory is.

use super::error::TorchError;
use super::library::Library;
use crate::inference::manifest::{Activation, FeatureSpec, Transform};
use crate::inference::network::{Network, Weights};
use crate::model::{Device, Dtype};
use kaminari_torch_abi as abi;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

impl Library {
    /// Calls, and takes the error's text.
    pub(super) fn call(&self, f: impl FnOnce(*mut abi::Failure) -> abi::Status) -> Result<(), TorchError> {
        let mut failure = abi::Failure::new();
        match f(&mut failure) {
            abi::Status::Ok => Ok(()),
            status => {
                let text = failure.text.get(..failure.len).unwrap_or(&failure.text);
                Err(TorchError::call(status, String::from_utf8_lossy(text).trim().to_owned()))
            }
        }
    }
}

pub(super) fn device(device: Device) -> i32 {
    match device {
        Device::Cpu => abi::CPU,
        Device::Cuda(number) => number.into(),
    }
}

/// Memory that the device reads fast.
pub struct Buffer {
    library: Arc<Library>,
    raw: abi::Buffer,
    floats: usize,
}

// SAFETY: the memory is the buffer's own; the ABI lets handles go from thread to thread.
unsafe impl Send for Buffer {}

impl Buffer {
    /// Of so many floats.
    pub fn new(library: &Arc<Library>, on: Device, floats: usize) -> Result<Self, TorchError> {
        let mut raw = abi::Buffer { handle: ptr::null_mut(), floats: ptr::null_mut() };
        library.call(|failure| unsafe { (library.api.buffer_new)(device(on), floats, &mut raw, failure) })?;
        Ok(Self { library: library.clone(), raw, floats })
    }

    /// How many floats.
    pub fn capacity(&self) -> usize {
        self.floats
    }

    /// Where they are.
    pub(super) fn pointer(&self) -> *mut f32 {
        self.raw.floats
    }

    /// All of it.
    pub fn floats(&mut self) -> &mut [f32] {
        // SAFETY: as many floats as were asked for, and nobody else has the buffer.
        unsafe { std::slice::from_raw_parts_mut(self.raw.floats, self.floats) }
    }

    /// Moves floats to the device and some of them back: the floor of every score, for benchmarks.
    pub fn transfer(&mut self, floats: usize, back: usize) -> Result<(), TorchError> {
        let library = &self.library;
        library.call(|failure| unsafe { (library.api.transfer)(self.raw.handle, floats, back, failure) })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: made by `buffer_new`, freed once.
        unsafe { (self.library.api.buffer_free)(self.raw.handle) }
    }
}

/// A network as the ABI has it; `f` sees it while it lives.
pub(super) fn with_mlp<T>(network: &Network, f: impl FnOnce(&abi::Mlp) -> T) -> T {
    let dims: Vec<u32> = network.dims().iter().map(|&width| width as u32).collect();
    let params: Vec<f32> = network.layers.iter().flat_map(|l| l.weight.iter().chain(&l.bias)).copied().collect();
    f(&abi::Mlp {
        dims: dims.as_ptr(),
        dims_len: dims.len(),
        activation: match network.activation {
            Activation::Tanh => abi::Activation::Tanh,
            Activation::Relu => abi::Activation::Relu,
        },
        code: network.code.unwrap_or(0) as u32,
        params: params.as_ptr(),
        params_len: params.len(),
    })
}

/// A model on a device.
pub struct DeviceModel {
    library: Arc<Library>,
    handle: *mut c_void,
}

// SAFETY: the ABI lets handles go from thread to thread, and models be used from several at once.
unsafe impl Send for DeviceModel {}
// SAFETY: as above.
unsafe impl Sync for DeviceModel {}

impl DeviceModel {
    /// Puts it there.
    pub fn new(
        library: &Arc<Library>,
        weights: &Weights,
        features: &[FeatureSpec],
        on: Device,
        dtype: Dtype,
    ) -> Result<Self, TorchError> {
        let features: Vec<abi::Feature> = features
            .iter()
            .map(|f| abi::Feature {
                log1p: i32::from(f.transform == Transform::Log1p),
                center: f.center,
                scale: f.scale,
                clip: f.clip,
            })
            .collect();
        let spec = |mlp: *const abi::Mlp, script: &[u8]| abi::ModelSpec {
            device: device(on),
            dtype: match dtype {
                Dtype::F32 => abi::Dtype::F32,
                Dtype::F16 => abi::Dtype::F16,
                Dtype::Bf16 => abi::Dtype::Bf16,
            },
            features: features.as_ptr(),
            features_len: features.len(),
            mlp,
            script: if mlp.is_null() { script.as_ptr() } else { ptr::null() },
            script_len: script.len(),
        };
        let mut handle = ptr::null_mut();
        let mut make = |spec: abi::ModelSpec| {
            library.call(|failure| unsafe { (library.api.model_new)(&spec, &mut handle, failure) })
        };
        match weights {
            Weights::Mlp(network) => with_mlp(network, |mlp| make(spec(mlp, &[])))?,
            Weights::TorchScript(archive) => make(spec(ptr::null(), archive))?,
        }
        Ok(Self { library: library.clone(), handle })
    }

    /// The network's output for one prepared row, as it is.
    pub fn forward(&self, prepared: &[f32]) -> Result<Vec<f32>, TorchError> {
        let (mut out, mut width) = (vec![0.0; prepared.len().max(1)], 0);
        let library = &self.library;
        library.call(|failure| unsafe {
            let (rows, room) = (1, out.len());
            (library.api.forward)(self.handle, prepared.as_ptr(), rows, out.as_mut_ptr(), room, &mut width, failure)
        })?;
        out.truncate(width);
        Ok(out)
    }
}

impl Drop for DeviceModel {
    fn drop(&mut self) {
        // SAFETY: made by `model_new`, freed once; groups hold their models.
        unsafe { (self.library.api.model_free)(self.handle) }
    }
}

/// Where a model finds its features in the matrix of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Column, per feature.
    pub columns: Vec<u32>,
    /// What was subtracted from it, per feature.
    pub offsets: Vec<f64>,
}

/// Models that score the same rows.
pub struct Group {
    library: Arc<Library>,
    handle: *mut c_void,
    /// They live as long.
    models: Vec<Arc<DeviceModel>>,
    columns: usize,
}

// SAFETY: the ABI lets handles go from thread to thread; `score` borrows mutably.
unsafe impl Send for Group {}

impl Group {
    /// Of a matrix with so many columns.
    pub fn new(
        library: &Arc<Library>,
        models: Vec<Arc<DeviceModel>>,
        places: &[Place],
        columns: usize,
    ) -> Result<Self, TorchError> {
        let member = |(model, place): (&Arc<DeviceModel>, &Place)| abi::Member {
            model: model.handle,
            columns: place.columns.as_ptr(),
            offsets: place.offsets.as_ptr(),
        };
        let members: Vec<abi::Member> = models.iter().zip(places).map(member).collect();
        let mut handle = ptr::null_mut();
        library.call(|failure| unsafe {
            (library.api.group_new)(members.as_ptr(), members.len(), columns, &mut handle, failure)
        })?;
        Ok(Self { library: library.clone(), handle, models, columns })
    }

    /// Scores the parts that the buffer holds; per model the mean squared errors of all rows, then their mean log1p
    /// errors.
    pub fn score(&mut self, buffer: &mut Buffer, parts: &[usize], out: &mut Vec<f32>) -> Result<(), TorchError> {
        let rows: usize = parts.iter().sum();
        debug_assert!(rows * self.columns <= buffer.capacity());
        out.resize(2 * self.models.len() * rows, 0.0);
        let library = &self.library;
        library.call(|failure| unsafe {
            (library.api.score)(
                self.handle,
                buffer.raw.handle,
                parts.as_ptr(),
                parts.len(),
                out.as_mut_ptr(),
                out.len(),
                failure,
            )
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: made by `group_new`, freed once, before its models.
        unsafe { (self.library.api.group_free)(self.handle) }
    }
}
