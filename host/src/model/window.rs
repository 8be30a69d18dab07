//! A window of event time, and the rows of features that it became.

use super::key::{EntityKey, KeyKind};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use std::sync::Arc;

/// The span of event time that a frame of features covers. `start_ns <= event time < end_ns`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowInfo {
    /// Start, inclusive, ns since the Unix epoch.
    pub start_ns: u64,
    /// End, exclusive.
    pub end_ns: u64,
    /// Rises by one on every firing of the same window: 0 on time, more when late data re-fired it.
    pub revision: u32,
    /// Event time when the window fired: where the watermark stood when its last pane closed (or, for a firing again,
    /// before the next one did). Does not depend on how many panes one batch of records closed.
    pub watermark_ns: u64,
    /// Fired before its end (early firing), or cut short by a shutdown.
    pub partial: bool,
}

impl WindowInfo {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        (self.end_ns - self.start_ns) as f64 / 1e9
    }
}

/// One closed (or early fired) window of one level: one row of features per entity.
///
/// `batch` has the column `key` (`FixedSizeBinary(21)`, see [`EntityKey::to_bytes`]) and then one
/// non-null `Float64` column per feature, in the order of the config. `keys[i]` is row i's entity.
#[derive(Clone, Debug)]
pub struct FeatureFrame {
    /// The span.
    pub window: WindowInfo,
    /// Level that all rows belong to.
    pub kind: KeyKind,
    /// The entity of each row.
    pub keys: Vec<EntityKey>,
    /// `key` and the features.
    pub batch: RecordBatch,
}

impl FeatureFrame {
    /// The features (all columns of doubles): name, and the values in row order.
    pub fn features(&self) -> Vec<(Arc<str>, &[f64])> {
        let fields = self.batch.schema_ref().fields();
        let columns = fields.iter().zip(self.batch.columns()).filter_map(|(field, column)| {
            let values = column.as_primitive_opt::<Float64Type>()?;
            Some((Arc::from(field.name().as_str()), &values.values()[..]))
        });
        columns.collect()
    }
}
