//! What a worker does to records until they are features: flow records are aggregated by entity, rows of plugins are kept and
//! given to an extractor. In: placed records and close orders. Out: windows that fired, and their frames.

use super::next::NextFeatures;
use crate::features::{FrameBuilder, PluginFeatures};
use crate::model::{Batch, FeatureFrame, WindowInfo};
use crate::telemetry::{WINDOW_ENTITIES, WINDOW_EVICTED_ENTITIES, WINDOW_RECORD_BYTES, WINDOW_REFUSED_RECORDS};
use crate::window::{Close, Ingest, PlacedRows, Prepared, RowWindows, Shard};
use std::sync::Arc;

/// Records with their panes.
#[derive(Clone)]
pub(super) enum Placed {
    Flows(Arc<Prepared>),
    Rows(Arc<PlacedRows>),
}

impl Placed {
    /// Gives every record of a batch its pane.
    pub(super) fn new(ingest: &mut Ingest, batch: &Batch) -> Self {
        match batch {
            Batch::Flows(batch) => Placed::Flows(Arc::new(ingest.push(batch))),
            Batch::Rows(batch) => Placed::Rows(Arc::new(ingest.push_rows(batch))),
        }
    }

    /// Event time at which no window needs these records any more; 0: none of them is in a window.
    pub(super) fn needed_ns(&self) -> u64 {
        match self {
            Placed::Flows(prepared) => prepared.needed_ns(),
            Placed::Rows(placed) => placed.needed_ns(),
        }
    }
}

/// See the module.
pub(super) enum Grouping {
    Flows { shard: Box<Shard>, frames: Box<FrameBuilder> },
    Records { windows: RowWindows, features: Box<PluginFeatures> },
}

impl Grouping {
    pub(super) fn push(&mut self, placed: &Placed) {
        match (self, placed) {
            (Grouping::Flows { shard, .. }, Placed::Flows(prepared)) => shard.push(prepared),
            (Grouping::Records { windows, .. }, Placed::Rows(placed)) => windows.push(placed),
            // The config lets no source feed a pipeline of the other kind.
            _ => {}
        }
    }

    pub(super) fn close(&mut self, order: &Close) -> (Vec<WindowInfo>, Vec<FeatureFrame>) {
        match self {
            Grouping::Flows { shard, frames } => {
                let fired = shard.close(order, &mut **frames);
                (fired, frames.take())
            }
            Grouping::Records { windows, features } => {
                let (mut fired, mut frames) = (Vec::new(), Vec::new());
                for window in windows.close(order) {
                    fired.push(window.window);
                    let Some(schema) = window.rows.first().map(|rows| rows.schema()) else { continue };
                    match arrow_select::concat::concat_batches(&schema, &window.rows) {
                        Ok(rows) => frames.extend(features.frame(&window.window, rows)),
                        Err(error) => tracing::error!("a window's rows do not go together: {error}"),
                    }
                }
                (fired, frames)
            }
        }
    }

    /// What was refused so far, and how much is held: with the metrics that say so.
    pub(super) fn load(&self) -> (u64, usize) {
        match self {
            Grouping::Flows { shard, frames } => (shard.refused() + frames.forgotten(), shard.entities()),
            Grouping::Records { windows, .. } => (windows.refused(), windows.bytes()),
        }
    }

    /// Names of the metrics of [`load`](Self::load).
    pub(super) fn load_metrics(&self) -> (&'static str, &'static str) {
        match self {
            Grouping::Flows { .. } => (WINDOW_EVICTED_ENTITIES, WINDOW_ENTITIES),
            Grouping::Records { .. } => (WINDOW_REFUSED_RECORDS, WINDOW_RECORD_BYTES),
        }
    }

    /// Other features are made of the same windows.
    pub(super) fn succeed(&mut self, next: NextFeatures) {
        match (self, next) {
            (Grouping::Flows { frames, .. }, NextFeatures::Flows(next)) => *frames = next,
            (Grouping::Records { features, .. }, NextFeatures::Records(next)) => *features = next,
            // A pipeline of the other kind begins with windows of its own.
            _ => {}
        }
    }

    /// What remembers here goes on there. Err: why it begins anew.
    pub(super) fn hand_over(&mut self, next: &mut NextFeatures) -> Result<(), String> {
        let memory = self.save();
        match (self, next) {
            _ if memory.is_empty() => Ok(()),
            (Grouping::Flows { shard, .. }, NextFeatures::Flows(next)) => {
                next.restore(&memory, |key| shard.owns(key)).map_err(|e| e.to_string())
            }
            (_, NextFeatures::Records(next)) => next.restore(&memory),
            _ => Ok(()),
        }
    }

    /// What features remember of entities; empty: nothing.
    pub(super) fn save(&mut self) -> Vec<u8> {
        match self {
            Grouping::Flows { frames, .. } => frames.save(),
            Grouping::Records { features, .. } => features.save().unwrap_or_default(),
        }
    }

    /// Goes on with what was saved.
    pub(super) fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        match self {
            Grouping::Flows { shard, frames } => {
                frames.restore(saved, |key| shard.owns(key)).map_err(|e| e.to_string())
            }
            Grouping::Records { .. } if saved.is_empty() => Ok(()),
            Grouping::Records { features, .. } => features.restore(saved),
        }
    }
}
