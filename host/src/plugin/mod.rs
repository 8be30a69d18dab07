//! Sandboxes for plugins: WebAssembly components that see batches, what they were granted and nothing else. Comes in: files and
//! plans, then frames, rows of windows, rows of features; goes out: rows, features, verdicts. Refused: files that are not what the config pins, components built for
//! another contract or asking for more than plugins get, results that make no sense. No call takes longer than its
//! deadline or more memory than its cap, and whatever a plugin does, the engine goes on.
//!
//! A [`Guarded`] plugin is kept alive: restarted, tried again, and in the end left out.

mod batch;
mod bindings;
mod builder;
mod cache;
mod checkpoint;
mod compat;
mod data;
mod deadline;
mod decode_call;
mod detect_call;
mod error;
mod extract_call;
mod frame;
mod guarded;
mod handover;
mod host;
mod inference;
mod instance;
pub mod limits;
mod loaded;
mod memory;
mod models;
mod output;
mod own_metrics;
mod roles;
mod services;
mod state;
mod status;
mod supervisor;
mod waiting;

pub use cache::file_digest;
pub use compat::API_VERSION;
pub use decode_call::{DecodedRows, SourceOutput};
pub use error::{CallError, CallErrorKind, PluginError, PluginReply};
pub use frame::{FrameScorer, FrameScores};
pub use guarded::{Guarded, Unanswered, Use};
pub use handover::{NotRestored, Restored};
pub use host::PluginHost;
pub use inference::{Followed, ModelInUse, RawScores};
pub use instance::PluginInstance;
pub use loaded::{LoadedPlugin, PluginInfo};
pub use models::Models;
pub use roles::Role;
pub use state::Buckets;
pub use status::{Health, Status, Statuses};
