//! What a training is asked for. Refused: numbers out of their range, and what the one who trains cannot do.

use super::error::TrainError;
use crate::inference::Input;
use crate::inference::torch::{LIBTORCH, Library};
use crate::model::Device;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What trained the model, for manifests.
const TOOL: &str = concat!("kaminari ", env!("CARGO_PKG_VERSION"));
/// Most hidden layers.
const LAYERS: usize = 16;
/// Widest hidden layer that libtorch trains.
const WIDEST: usize = 4096;
/// And that the built-in backend does, which keeps gradients of 16 rows at once.
const WIDEST_BUILT_IN: usize = 1024;
/// [`Kind::Variational`]'s, unless another is asked for.
pub const KL_WEIGHT: f64 = 0.001;

/// Every number of the recipe; the defaults are the recipe.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the model.
    pub name: String,
    /// Version of the model.
    pub version: String,
    /// What the rows are, for the manifest.
    pub input: Option<Input>,
    /// Widths of the hidden layers; none: by [`hidden_widths`].
    pub hidden: Option<Vec<usize>>,
    /// What the hidden layers make.
    pub kind: Kind,
    /// Who moves the weights.
    pub learning: Learning,
    /// Most passes over the training rows.
    pub epochs: u32,
    /// Steps at least, whatever `epochs` says: few rows make short epochs.
    pub least_steps: u32,
    /// Rows of a step.
    pub batch: usize,
    /// Step size at the start; it falls to 0 along a cosine.
    pub learning_rate: f32,
    /// Checks without a better validation loss before a run ends.
    pub patience: u32,
    /// One run each; the best by validation loss is kept.
    pub seeds: Vec<u64>,
    /// More training rows than this are thinned.
    pub max_rows: usize,
    /// Fewer training rows than this are refused.
    pub least_rows: usize,
    /// Fewer validation rows than this are refused.
    pub least_validation_rows: usize,
    /// How features are prepared.
    pub prepare: Prepare,
}

/// Of an autoencoder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Gives back what it gets.
    Plain,
    /// The same through a code that is drawn at random around what the narrowest hidden layer says, in training
    /// (Kingma, Welling 2013). What scores is the network without chance.
    Variational {
        /// Share of the code's divergence from a standard normal one, per feature, in the loss.
        kl_weight: f64,
    },
}

/// Who moves the weights.
#[derive(Clone, Default)]
pub enum Learning {
    /// One thread, without any library.
    #[default]
    BuiltIn,
    /// libtorch.
    Torch {
        /// The one that is loaded.
        library: Arc<Library>,
        /// Where it computes.
        device: Device,
    },
}

impl Learning {
    /// For manifests: `kaminari 0.1.0, libtorch 2.11 on cuda:0`.
    pub(super) fn tool(&self) -> String {
        match self {
            Learning::BuiltIn => TOOL.into(),
            Learning::Torch { device, .. } => format!("{TOOL}, libtorch {LIBTORCH} on {device}"),
        }
    }
}

impl fmt::Debug for Learning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tool())
    }
}

/// How features are prepared.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepare {
    /// A feature that goes beyond this (up or down) is no share: its logarithm is taken.
    pub count_above: f64,
    /// Least scale, as a share of the feature's spread in the training rows.
    pub floor_share: f64,
    /// The spread goes from this quantile to its mirror image; 0: from least to most.
    pub spread_quantile: f64,
    /// Scale of a feature without any spread.
    pub flat_scale: f64,
    /// Bound of prepared values, in scales.
    pub clip: f64,
}

impl Default for Prepare {
    fn default() -> Self {
        Self { count_above: 1.0, floor_share: 0.02, spread_quantile: 0.0, flat_scale: 0.1, clip: 50.0 }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "autoencoder".into(),
            version: String::new(),
            input: None,
            hidden: None,
            kind: Kind::Plain,
            learning: Learning::BuiltIn,
            epochs: 12,
            least_steps: 2000,
            batch: 512,
            learning_rate: 2e-3,
            patience: 6,
            seeds: vec![1, 2, 3],
            max_rows: 500_000,
            least_rows: 200,
            least_validation_rows: 100,
            prepare: Prepare::default(),
        }
    }
}

/// n-16-6-16-n, with a narrower waist where fewer features leave nothing to squeeze.
pub fn hidden_widths(features: usize) -> Vec<usize> {
    let outer = 16;
    let inner = 6.min((features / 2).max(1));
    vec![outer, inner, outer]
}

impl Options {
    /// Refuses what cannot be trained, whatever the rows.
    pub fn check(&self) -> Result<(), TrainError> {
        let refuse = |option, value: String, hint| Err(TrainError::Option { option, value, hint });
        let p = &self.prepare;
        if self.seeds.is_empty() {
            return refuse("seeds", "[]".into(), "at least one");
        }
        for (option, value) in [("epochs", self.epochs), ("patience", self.patience)] {
            if value == 0 {
                return refuse(option, "0".into(), "at least 1");
            }
        }
        for (option, value) in [("batch", self.batch), ("max_rows", self.max_rows)] {
            if value == 0 || value > u32::MAX as usize {
                return refuse(option, value.to_string(), "1 to 4294967295");
            }
        }
        if let Some(hidden) = &self.hidden {
            let (widest, hint) = match self.learning {
                Learning::BuiltIn => {
                    (WIDEST_BUILT_IN, "1 to 16 layers, each 1 to 1024 wide; libtorch trains up to 4096")
                }
                Learning::Torch { .. } => (WIDEST, "1 to 16 layers, each 1 to 4096 wide"),
            };
            if !(1..=LAYERS).contains(&hidden.len()) || hidden.iter().any(|width| !(1..=widest).contains(width)) {
                return refuse("hidden", format!("{hidden:?}"), hint);
            }
        }
        if let Kind::Variational { kl_weight } = self.kind {
            if !(kl_weight >= 0.0 && kl_weight.is_finite()) {
                return refuse("kl_weight", kl_weight.to_string(), "a number, 0 or above");
            }
            if matches!(self.learning, Learning::BuiltIn) {
                return Err(TrainError::NeedsTorch);
            }
        }
        for (option, value) in
            [("learning_rate", f64::from(self.learning_rate)), ("flat_scale", p.flat_scale), ("clip", p.clip)]
        {
            if !(value > 0.0 && value.is_finite()) {
                return refuse(option, value.to_string(), "a number above 0");
            }
        }
        if !(0.0..0.5).contains(&p.spread_quantile) {
            return refuse("spread_quantile", p.spread_quantile.to_string(), "0 (the whole range) to below 0.5");
        }
        if !(p.floor_share >= 0.0 && p.floor_share.is_finite()) {
            return refuse("floor_share", p.floor_share.to_string(), "a number, 0 or above");
        }
        Ok(())
    }

    /// Which of the widths is the code: the first of the narrowest hidden layers. 0: there is none.
    pub(super) fn code(&self, dims: &[usize]) -> usize {
        match self.kind {
            Kind::Plain => 0,
            Kind::Variational { .. } => (1..dims.len() - 1).min_by_key(|at| dims[*at]).unwrap_or(0),
        }
    }
}
