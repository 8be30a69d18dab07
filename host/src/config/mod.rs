//! Text in, a [`plan::Plan`] or a precise complaint out. Builds and opens nothing.

pub mod decode_options;
pub mod plan;
pub mod registry;

pub use plan::*;

/// Finds the place in the operator's files that a dotted path came from.
#[derive(Debug, Default)]
pub struct Places {}
