//! A model directory, read and checked.

use super::manifest::Manifest;
use super::network::Network;
use std::path::PathBuf;

/// A model that may be scored with.
#[derive(Clone, Debug)]
pub struct Model {
    /// `model.toml`.
    pub manifest: Manifest,
    /// The weights.
    pub network: Network,
    /// `sha256:` over manifest and weights: stands in every incident that rests on it.
    pub digest: String,
    /// Where it was read from.
    pub dir: PathBuf,
}
