//! `model.toml`: everything about a model but its weights.

use super::network::Network;
use crate::calibration::Calibration;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The format this engine reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// `model.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Name of the model.
    pub name: String,
    /// Which one of that name; `kaminari train` writes the time.
    #[serde(default)]
    pub version: String,
    /// What the rows are that it was trained on.
    #[serde(default)]
    pub input: Option<Input>,
    /// The network.
    pub architecture: Architecture,
    /// Where the weights are.
    #[serde(default)]
    pub weights: WeightsFile,
    /// Inputs in order, each with its preprocessing.
    pub features: Vec<FeatureSpec>,
    /// Tails of benign scores; without them the model scores, and no false alarm rate can be asked for.
    #[serde(default)]
    pub calibration: Option<Calibration>,
    /// Rows with the losses they must have: the self-test of every load.
    #[serde(default)]
    pub golden: Option<Golden>,
    /// How it was trained.
    #[serde(default)]
    pub training: Option<Training>,
}

impl Manifest {
    /// `sha256:` over what the rows must be: names and transforms of the features, in order.
    pub fn schema_digest(&self) -> String {
        let mut hash = Sha256::new();
        for feature in &self.features {
            hash.update(format!("{}\t{:?}\n", feature.name, feature.transform));
        }
        format!("sha256:{}", hex(&hash.finalize()))
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What the rows are that the model was trained on; a pipeline that offers others is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Length of the window, seconds.
    pub window_secs: f64,
    /// Level of the entities (`dst_addr`, ...).
    pub level: String,
}

/// Linear layers with an activation after each but the last.
pub const MLP: &str = "mlp-autoencoder";
/// The same, without an activation after the layer that makes the code.
pub const VARIATIONAL: &str = "variational-autoencoder";
/// Whatever a TorchScript archive computes.
pub const TORCHSCRIPT: &str = "torchscript";

/// The network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// [`MLP`], [`VARIATIONAL`] or [`TORCHSCRIPT`], which has nothing else here.
    pub kind: String,
    /// Widths: inputs, hidden layers, outputs (as many as inputs).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dims: Vec<usize>,
    /// After every layer but the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// [`VARIATIONAL`]: which of `dims` is the code, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<usize>,
    /// What stands before `0.weight` in the weights file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tensor_prefix: String,
}

impl Architecture {
    /// The perceptron of such a network.
    pub fn of(network: &Network) -> Self {
        let kind = if network.code.is_some() { VARIATIONAL } else { MLP };
        let (dims, activation) = (network.dims(), Some(network.activation));
        Self { kind: kind.into(), dims, activation, code: network.code, tensor_prefix: String::new() }
    }
}

/// Activation function of the hidden layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Hyperbolic tangent.
    Tanh,
    /// max(0, x).
    Relu,
}

/// The weights' file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WeightsFile {
    /// Name, in the folder of the manifest.
    pub file: String,
    /// Lower-case hex sha256 of it; empty: not pinned.
    pub sha256: String,
}

impl Default for WeightsFile {
    fn default() -> Self {
        Self { file: "weights.safetensors".into(), sha256: String::new() }
    }
}

/// One input: `clamp((transform(x) - center) / scale, -clip, clip)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSpec {
    /// Column of the frame.
    pub name: String,
    /// Applied first.
    #[serde(default)]
    pub transform: Transform,
    /// Subtracted.
    pub center: f64,
    /// Divided by; above 0. Training keeps it above a floor, so that a feature that was constant cannot own the error.
    pub scale: f64,
    /// Bound of the result, at most [`MAX_CLIP`].
    #[serde(default = "default_clip")]
    pub clip: f64,
}

/// Largest bound of a preprocessed feature: the network computes in `f32`, and its squares must have room.
pub const MAX_CLIP: f64 = 1e6;

fn default_clip() -> f64 {
    MAX_CLIP
}

impl FeatureSpec {
    /// A raw feature as the network sees it.
    pub fn prepare(&self, raw: f64) -> f64 {
        ((self.transform.apply(raw) - self.center) / self.scale).clamp(-self.clip, self.clip)
    }

    /// Back from what the network says to the feature's own unit.
    pub fn restore(&self, prepared: f64) -> f64 {
        self.transform.undo(prepared * self.scale + self.center)
    }
}

/// Applied to a raw feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transform {
    /// None.
    #[default]
    Identity,
    /// ln(1 + x) for x >= 0, and -ln(1 - x) below.
    Log1p,
}

impl Transform {
    /// The transform.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Transform::Identity => x,
            Transform::Log1p => x.abs().ln_1p().copysign(x),
        }
    }

    /// Its inverse.
    pub fn undo(self, y: f64) -> f64 {
        match self {
            Transform::Identity => y,
            Transform::Log1p => y.abs().exp_m1().copysign(y),
        }
    }
}

/// The self-test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Raw features, a row each.
    pub rows: Vec<Vec<f64>>,
    /// Mean squared error of each row.
    pub mse: Vec<f64>,
    /// Mean log1p error of each row.
    pub log1p: Vec<f64>,
}

/// How a model was trained: for people, and to repeat it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// `kaminari 0.1.0`.
    pub tool: String,
    /// Rows trained on.
    pub rows: u64,
    /// Rows of the validation.
    pub validation_rows: u64,
    /// First window, RFC 3339.
    pub from: String,
    /// End of the last window.
    pub to: String,
    /// Seed of the best run.
    pub seed: u64,
    /// Seeds tried.
    pub seeds: u32,
    /// Epochs of the best run.
    pub epochs: u32,
    /// Loss of the best run on the training rows.
    pub loss: f64,
    /// And on the validation rows.
    pub validation_loss: f64,
    /// Of a variational autoencoder: share of the code's divergence in what was minimised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_weight: Option<f64>,
}
