//! What the engine (`host`) and its libtorch backend (`kaminari-torch`, a shared object) agree on: plain C types and
//! one entry point. No dependencies, no code: either side may be built by another compiler.
//!
//! The engine loads libtorch and the shared object by full path, asks [`SYMBOL`] for the [`Api`], and refuses another
//! [`ABI_VERSION`]. The first two fields of [`Api`] never move. Anything else that changes raises the version.
//!
//! Conventions. Functions return a [`Status`]; where it is not [`Status::Ok`], the caller's [`Failure`] holds a text.
//! Pointers are never null unless said so and are valid for the call only. Handles are freed once, by their own
//! function; a group keeps its models alive. An empty list has a length of 0 and any pointer but null. Handles may be
//! used from any thread; a buffer, a group or a trainer from one thread at a time. A device is -1 for the CPU, else the
//! number of a CUDA device.

use std::ffi::{c_char, c_void};

/// Raised with every change.
pub const ABI_VERSION: u32 = 1;

/// Name of the entry point, a function of type [`Entry`].
pub const SYMBOL: &str = "kaminari_torch_api";

/// Gives the table; it lives as long as the shared object.
pub type Entry = unsafe extern "C" fn() -> *const Api;

/// The device that is no CUDA device.
pub const CPU: i32 = -1;

/// How a call ended.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// The request cannot be done; another may.
    Refused = 1,
    /// The device has no memory for it.
    OutOfMemory = 2,
    /// The device is not there (any more), or in a state from which it does not come back by itself.
    DeviceLost = 3,
}

/// Where the text of an error goes.
#[repr(C)]
pub struct Failure {
    /// UTF-8, cut where the room ends; not terminated.
    pub text: [u8; 1024],
    /// Bytes of it.
    pub len: usize,
}

impl Failure {
    /// No text.
    pub const fn new() -> Self {
        Self { text: [0; 1024], len: 0 }
    }
}

impl Default for Failure {
    fn default() -> Self {
        Self::new()
    }
}

/// Arithmetic of the network. Preprocessing is in `f64`, losses are summed in `f32`, whatever it is.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single; never TF32.
    F32 = 0,
    /// IEEE half.
    F16 = 1,
    /// bfloat16.
    Bf16 = 2,
}

/// After the layers of a perceptron.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Hyperbolic tangent.
    Tanh = 0,
    /// max(0, x).
    Relu = 1,
}

/// One input of a model: `clamp((transform(x) - center) / scale, -clip, clip)`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Not 0: sign(x) ln(1 + |x|) is the transform; else none.
    pub log1p: i32,
    /// Subtracted.
    pub center: f64,
    /// Divided by.
    pub scale: f64,
    /// Bound.
    pub clip: f64,
}

/// A network of linear layers, an activation after each but the last.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Mlp {
    /// Widths: inputs, hidden layers, outputs.
    pub dims: *const u32,
    /// How many of them; two or more.
    pub dims_len: usize,
    /// Of the hidden layers.
    pub activation: Activation,
    /// Position in `dims` of a hidden layer without activation (the code of a variational autoencoder); 0: none.
    pub code: u32,
    /// Layer by layer: weights (outputs x inputs, row after row), then biases.
    pub params: *const f32,
    /// How many.
    pub params_len: usize,
}

/// A model for a device: what scores.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ModelSpec {
    /// Where it computes.
    pub device: i32,
    /// With what arithmetic.
    pub dtype: Dtype,
    /// Inputs in order.
    pub features: *const Feature,
    /// How many.
    pub features_len: usize,
    /// The network; null: `script` is one.
    pub mlp: *const Mlp,
    /// A TorchScript archive: takes (rows, features), gives as much back (the reconstruction), or a loss a row as (rows)
    /// or (rows, 1). Null: `mlp` is there.
    pub script: *const u8,
    /// Bytes of it.
    pub script_len: usize,
}

/// A model in a group: where its features are in the group's matrix.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Handle of the model; lives longer than the group. All of a group are on one device.
    pub model: *mut c_void,
    /// Column of the matrix, per feature of the model.
    pub columns: *const u32,
    /// What the caller subtracts from that column's values before they become `f32`, per feature.
    pub offsets: *const f64,
}

/// Memory that a device reads fast (pinned, for a CUDA device), owned by the backend, filled by the caller.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// For [`Api::score`] and [`Api::buffer_free`].
    pub handle: *mut c_void,
    /// As many floats as were asked for.
    pub floats: *mut f32,
}

/// What is trained: an autoencoder, variational where the network has a `code`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TrainSpec {
    /// Where.
    pub device: i32,
    /// The network with its first weights.
    pub mlp: *const Mlp,
    /// Share of the Kullback-Leibler divergence of the code, per feature, in the loss; for a variational one.
    pub kl_weight: f64,
    /// Seeds the noise of a variational one.
    pub seed: u64,
    /// Prepared rows to learn from, one after the other.
    pub training: *const f32,
    /// How many.
    pub training_rows: usize,
    /// Prepared rows to validate with.
    pub validation: *const f32,
    /// How many.
    pub validation_rows: usize,
}

// SAFETY: a table of functions and a text, neither of which ever changes.
unsafe impl Send for Api {}
// SAFETY: as above.
unsafe impl Sync for Api {}

/// The functions.
#[repr(C)]
pub struct Api {
    /// [`ABI_VERSION`] of the shared object.
    pub abi: u32,
    /// Bytes of this table.
    pub size: u32,
    /// Version of libtorch that it was built for (`2.11.0`), terminated by 0.
    pub built_for: *const c_char,
    /// Once, before anything else: threads of one operation on the CPU; turns TF32 off, by an environment variable:
    /// nobody may change the environment meanwhile.
    pub start: unsafe extern "C" fn(threads: i32, failure: *mut Failure) -> Status,
    /// Number of CUDA devices that can be used.
    pub cuda_devices: unsafe extern "C" fn(count: *mut i32, failure: *mut Failure) -> Status,
    /// A buffer of so many floats for a device.
    pub buffer_new:
        unsafe extern "C" fn(device: i32, floats: usize, buffer: *mut Buffer, failure: *mut Failure) -> Status,
    /// Frees it.
    pub buffer_free: unsafe extern "C" fn(buffer: *mut c_void),
    /// A model on its device.
    pub model_new:
        unsafe extern "C" fn(spec: *const ModelSpec, model: *mut *mut c_void, failure: *mut Failure) -> Status,
    /// Frees it.
    pub model_free: unsafe extern "C" fn(model: *mut c_void),
    /// The network alone: `rows` prepared rows, one after the other; its output as it is. `out` has room for
    /// `out_len` floats; `width` gets how many there are a row.
    pub forward: unsafe extern "C" fn(
        model: *mut c_void,
        prepared: *const f32,
        rows: usize,
        out: *mut f32,
        out_len: usize,
        width: *mut usize,
        failure: *mut Failure,
    ) -> Status,
    /// Models that score the same rows: one transfer to the device, one back.
    pub group_new: unsafe extern "C" fn(
        members: *const Member,
        members_len: usize,
        columns: usize,
        group: *mut *mut c_void,
        failure: *mut Failure,
    ) -> Status,
    /// Frees it.
    pub group_free: unsafe extern "C" fn(group: *mut c_void),
    /// Scores what a buffer of the group's device holds: parts one after the other, each a matrix of the group's columns (column after
    /// column, `part_rows[i]` values each). `losses` gets for every model, in order, the mean squared errors of all rows,
    /// then their mean log1p errors; NaN for a row with a feature that is not finite. A model that tells a loss itself
    /// tells it for both; below 0 it is 0.
    pub score: unsafe extern "C" fn(
        group: *mut c_void,
        buffer: *mut c_void,
        part_rows: *const usize,
        parts: usize,
        losses: *mut f32,
        losses_len: usize,
        failure: *mut Failure,
    ) -> Status,
    /// Moves floats of a buffer to its device and `back` of them (as many at most) back to the host, and waits: the floor of every score.
    pub transfer:
        unsafe extern "C" fn(buffer: *mut c_void, floats: usize, back: usize, failure: *mut Failure) -> Status,
    /// Begins a training.
    pub trainer_new:
        unsafe extern "C" fn(spec: *const TrainSpec, trainer: *mut *mut c_void, failure: *mut Failure) -> Status,
    /// Frees it.
    pub trainer_free: unsafe extern "C" fn(trainer: *mut c_void),
    /// Steps of Adam over the rows in this order, `batch` each, with one step size per step. `squares` gets the sum of
    /// squared errors over all values.
    pub trainer_epoch: unsafe extern "C" fn(
        trainer: *mut c_void,
        order: *const u32,
        rows: usize,
        batch: usize,
        rates: *const f32,
        rates_len: usize,
        squares: *mut f64,
        failure: *mut Failure,
    ) -> Status,
    /// Mean squared error of the validation rows, without noise.
    pub trainer_validate: unsafe extern "C" fn(trainer: *mut c_void, loss: *mut f64, failure: *mut Failure) -> Status,
    /// The network's weights as they are now, as in [`Mlp::params`].
    pub trainer_params: unsafe extern "C" fn(
        trainer: *mut c_void,
        params: *mut f32,
        params_len: usize,
        failure: *mut Failure,
    ) -> Status,
}
