//! Write kaminari plugins in Rust: sources ([`Source`]: frames to rows), features ([`Extractor`]: rows of a window to rows of
//! features) and detectors ([`Detector`]).
//!
//! A detector is a type that implements [`Detector`] and one line of [`export_detector!`]. It gets a [`Batch`] of
//! feature rows per window, copies in only the columns it asks for, and returns a [`Verdict`]. The same crate builds
//! natively: `cargo test` runs it against [`testing`] batches, no WebAssembly involved.
//!
//! ```
//! use kaminari_plugin_sdk::prelude::*;
//!
//! config! {
//!     struct Config { feature: String, z: f64 }
//! }
//!
//! struct ZScore { config: Config, level: Ewma }
//!
//! impl Detector for ZScore {
//!     type Config = Config;
//!     fn new(config: Config) -> Result<Self> {
//!         Ok(Self { config, level: Ewma::half_life(60.0) })
//!     }
//!     fn detect(&mut self, _window: &Window, batch: &Batch) -> Result<Verdict> {
//!         let x = batch.f64s(&self.config.feature)?;
//!         let scores = x.iter().map(|&x| self.level.z_then_update(x)).collect();
//!         let alert = |_row: usize| Alert::new("outlier", Severity::Medium);
//!         Ok(Verdict::above(scores, self.config.z, alert))
//!     }
//! }
//!
//! export_detector!(ZScore, name = "zscore");
//! # fn main() {}
//! ```
//!
//! Build it with `crate-type = ["cdylib", "rlib"]` for `wasm32-wasip2` and `-Ctarget-feature=+simd128` (vector code
//! over columns runs twice as fast with it).

#![warn(missing_docs)]

mod batch;
#[cfg(target_arch = "wasm32")]
#[allow(missing_docs, clippy::all)]
pub mod bindings;
pub mod bucket;
pub mod clock;
pub mod error;
mod ewma;
mod export;
mod extractor;
#[cfg(target_arch = "wasm32")]
#[allow(missing_docs)]
mod guest;
pub mod inference;
mod key_map;
mod lanes;
pub mod log;
pub mod metrics;
mod rows;
mod source;
pub mod state;
pub mod testing;
mod text;
mod verdict;
mod window;

pub use batch::{Batch, BytesColumn, Column, DataType, Field, Keys, Schema};
pub use error::{Error, Result};
pub use ewma::Ewma;
pub use extractor::Extractor;
pub use key_map::{Key, KeyMap};
pub use lanes::{Lanes, Mask};
pub use rows::Rows;
pub use source::{Decoded, Frame, Frames, Source};
pub use text::short;
pub use verdict::{Alert, Contribution, Severity, Verdict};
pub use window::Window;

pub use schemars;
pub use serde;

#[doc(hidden)]
pub use export::__rt;

/// A detector: feature rows of one window in, scores and alerts out.
///
/// One instance judges every window of one pipeline in turn and may keep state between calls. After a trap, a missed
/// deadline or running out of memory the host throws the instance away and makes a new one with the same
/// configuration: state starts anew, or where [`Detector::snapshot`] last saved it.
pub trait Detector: Sized {
    /// The plugin's own table of the operator's configuration.
    type Config: serde::de::DeserializeOwned + schemars::JsonSchema;

    /// Checks the configuration and makes an instance. Complain with [`error::config`].
    fn new(config: Self::Config) -> Result<Self>;

    /// Called before the first window: does the input have what the configuration names?
    /// [`Schema::require`] complains for you.
    fn requires(&self, schema: &Schema) -> Result<()> {
        let _ = schema;
        Ok(())
    }

    /// Of what [`snapshot`](Self::snapshot) gives; raise it when that changes. 0: nothing is saved.
    const STATE_VERSION: u32 = 0;

    /// What decides about later calls, for the host's checkpoints: `state::to_bytes(&self.levels)`. Asked between calls.
    fn snapshot(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    /// Goes on with what an instance before has saved, under the version that it had. An error: it begins anew.
    fn restore(&mut self, version: u32, bytes: &[u8]) -> Result<()> {
        let _ = (version, bytes);
        Ok(())
    }

    /// What an instance of state version `from` has saved, in the form of this one's [`STATE_VERSION`](Self::STATE_VERSION): then
    /// [`restore`](Self::restore) gets that. Without it `restore` gets the bytes as they are, under the version that they had.
    ///
    /// ```
    /// # use kaminari_plugin_sdk::prelude::*;
    /// # config! { struct Config {} }
    /// # struct It(Vec<(Key, Ewma)>, Vec<Key>);
    /// # impl Detector for It {
    /// #     type Config = Config;
    /// #     fn new(_: Config) -> Result<Self> { Ok(It(vec![], vec![])) }
    /// #     fn detect(&mut self, _: &Window, b: &Batch) -> Result<Verdict> { Ok(Verdict::scores(vec![0.0; b.len()])) }
    /// const STATE_VERSION: u32 = 2;
    ///
    /// fn migrate(&self, from: u32, bytes: &[u8]) -> Result<Vec<u8>> {
    ///     if from != 1 {
    ///         return Err(error::no_migration(from));
    ///     }
    ///     let levels: Vec<(Key, Ewma)> = state::from_bytes(bytes)?;
    ///     state::to_bytes(&(levels, Vec::<Key>::new()))
    /// }
    /// # }
    /// # let before = state::to_bytes(&Vec::<(Key, Ewma)>::new())?;
    /// # assert!(It(vec![], vec![]).migrate(1, &before).is_ok());
    /// # assert!(It(vec![], vec![]).migrate(3, &before).is_err());
    /// # Ok::<(), Error>(())
    /// ```
    fn migrate(&self, from: u32, bytes: &[u8]) -> Result<Vec<u8>> {
        let _ = bytes;
        Err(error::no_migration(from))
    }

    /// Judges rows of one window.
    fn detect(&mut self, window: &Window, batch: &Batch) -> Result<Verdict>;
}

/// Everything a plugin usually needs.
pub mod prelude {
    pub use crate::{
        Alert, Batch, Contribution, DataType, Decoded, Detector, Error, Ewma, Extractor, Frame, Frames, Key, KeyMap,
        Result, Rows, Schema, Severity, Source, Verdict, Window, bucket, clock, config, error, export_detector,
        export_extractor, export_plugin, export_source, inference, log, metrics, state,
    };
}

/// The guide's detector compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/first-plugin.md")]
struct FirstPlugin;
