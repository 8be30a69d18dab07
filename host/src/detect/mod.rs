//! Judges frames of features. Comes in: [`FeatureFrame`]s; goes out: [`Judgement`]s, i.e. scores per row and
//! detections. Scores become comparable through tails that follow the traffic (`follow`), and detectors can speak
//! together (`combine`). A detector that breaks is restarted, and in the end left out: the rows it did not judge are counted in
//! `kaminari_plugin_dead_lettered_rows_total`. Remembers nothing across windows; plugins do.

use crate::model::{Detection, FeatureFrame, Handover, KeyKind};
use follow::{Followable, Heard, Observed};
use std::sync::Arc;

mod combine;
mod combiner;
pub mod follow;
mod plugin;

pub use combiner::{COMBINED, Combiner, SHADOW_COMBINED};
pub use plugin::{DetectError, Offer, PluginDetector};

/// What a detector says about one frame.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Alerted rows.
    pub detections: Vec<Detection>,
    /// Empty, or one per row (NaN: no opinion, or the row was not judged).
    pub scores: Vec<f64>,
    /// -log10 of how rare each score is; empty where no tail is known. Comparable between detectors.
    pub tails: Vec<f64>,
    /// What the followers of its scores learn from the frame.
    pub observed: Vec<Observed>,
}

impl Judgement {
    /// Rows that were alerted, ascending.
    pub fn alerted(&self) -> Vec<u32> {
        let mut rows: Vec<u32> = self.detections.iter().map(|d| d.alert.row).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }
}

/// Judges frames. Belongs to one thread.
pub trait Detector: Send {
    /// Id in the config.
    fn id(&self) -> &Arc<str>;

    /// Levels it judges; `None`: all.
    fn levels(&self) -> Option<&[KeyKind]>;

    /// Scores of it that can be followed.
    fn followable(&self) -> &[Followable];

    /// Its scores are followed: these say what they mean. Called before the first frame, and when others are followed.
    fn hear(&mut self, followed: &[Heard]);

    /// What it knows, for a checkpoint; `None`: nothing that is kept.
    fn save(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// Goes on with what one of its id has saved. Err: why it begins anew.
    fn restore(&mut self, saved: &[u8]) -> Result<Handover, String> {
        let _ = saved;
        Ok(Handover::Restored)
    }

    /// Counts what became of what its predecessor knew.
    fn count_handover(&self, handover: Handover) {
        let _ = handover;
    }

    /// Judges one frame of the close order `order`. Never fails: what cannot be judged is counted and logged.
    fn detect(&mut self, frame: &FeatureFrame, order: u64) -> Judgement;
}
