//! The libtorch backend: a shared object that the engine loads when it is told where libtorch is. In and out go plain C
//! types, as `kaminari-torch-abi` says them; this crate has one exported function, [`kaminari_torch_api`].
//!
//! Refused, with a status and a text: what libtorch refuses, what does not fit together, and whatever panics. Nothing
//! unwinds into the engine.

mod api;
mod device;
mod fault;
mod group;
mod model;
mod network;
mod script;
mod trainer;

#[cfg(test)]
mod tests;

pub use api::kaminari_torch_api;
