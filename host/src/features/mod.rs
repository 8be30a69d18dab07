//! Turns the aggregates of a fired window into one row of features per entity.
//!
//! In: windows, through [`WindowSink`](crate::model::WindowSink). Out: one [`FeatureFrame`](crate::model::FeatureFrame)
//! per window and level. Judges nothing. Relative features remember each entity's own level; that memory is bounded
//! and what it forgets is counted. Rows of other kinds become features by a plugin ([`PluginFeatures`]).

pub mod catalogue;
mod frame;
mod level;
mod plugin;

pub use catalogue::FEATURES;
pub use frame::{FrameBuilder, schema};
pub use plugin::{FeatureError, PluginFeatures};
