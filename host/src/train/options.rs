//! What a training is asked for.

use crate::inference::Input;

/// Every number of the recipe; the defaults are the recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Name of the model.
    pub name: String,
    /// Version of the model.
    pub version: String,
    /// What the rows are, for the manifest.
    pub input: Option<Input>,
    /// Widths of the hidden layers; none: by [`hidden_widths`].
    pub hidden: Option<Vec<usize>>,
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
