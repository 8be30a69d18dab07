//! Sandboxes for detectors: WebAssembly components that see batches, the models they were granted and nothing else. Comes in: files and plans, then
//! windows of features; goes out: verdicts. Refused: files that are not what the config pins, components built for
//! another contract or asking for more than plugins get, results that make no sense. No call takes longer than its
//! deadline or more memory than its cap, and whatever a plugin does, the engine goes on.
//!
//! Knows nothing of detectors' lives: restarting, retrying and quarantine are `detect`'s.

mod batch;
mod bindings;
mod builder;
mod cache;
mod checkpoint;
mod compat;
mod data;
mod error;
mod frame;
mod host;
mod inference;
mod instance;
pub mod limits;
mod loaded;
mod models;
mod output;
mod services;
mod waiting;

pub use compat::API_VERSION;
pub use error::{CallError, CallErrorKind, PluginError, PluginReply};
pub use frame::{FrameScorer, FrameScores};
pub use host::PluginHost;
pub use inference::{Followed, ModelInUse, RawScores};
pub use instance::PluginInstance;
pub use loaded::{LoadedPlugin, PluginInfo};
pub use models::Models;
