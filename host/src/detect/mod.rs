//! Judges frames of features. Comes in: [`FeatureFrame`]s; goes out: [`Judgement`]s, i.e. scores per row and
//! detections. A detector that breaks is restarted, and in the end left out: the rows it did not judge are counted in
//! `kaminari_plugin_dead_lettered_rows_total`. Remembers nothing across windows; plugins do.

use crate::model::{Detection, FeatureFrame, KeyKind};
use std::sync::Arc;

mod combine;
mod plugin;
mod supervisor;

pub use combine::{Member, Rule};
pub use plugin::{DetectError, PluginDetector};

/// What a detector says about one frame.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Alerted rows.
    pub detections: Vec<Detection>,
    /// Empty, or one per row (NaN: no opinion, or the row was not judged).
    pub scores: Vec<f64>,
}

/// Judges frames. Belongs to one thread.
pub trait Detector: Send {
    /// Id in the config.
    fn id(&self) -> &Arc<str>;

    /// Levels it judges; `None`: all.
    fn levels(&self) -> Option<&[KeyKind]>;

    /// Judges one frame. Never fails: what cannot be judged is counted and logged.
    fn detect(&mut self, frame: &FeatureFrame) -> Judgement;
}
