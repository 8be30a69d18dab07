//! Rows of any kind on their way to the windows: what a source plugin has made of frames.

use arrow_array::RecordBatch;
use std::sync::Arc;

/// Rows with their event times.
#[derive(Clone, Debug)]
pub struct RowBatch {
    /// Source id in the config.
    pub source: Arc<str>,
    /// Partition of the source: watermarks are kept per partition.
    pub partition: u32,
    /// When they came in, ns, where that is not when they were received: records out of a log. What is idle goes by it.
    pub arrived_ns: Option<u64>,
    /// When the newest was received, ns since the Unix epoch.
    pub received_ns: u64,
    /// Event time of each row, ns since the Unix epoch.
    pub times: Arc<[u64]>,
    /// The first row's place in `times`.
    pub first: usize,
    /// The rows.
    pub batch: RecordBatch,
}

impl RowBatch {
    /// Event times of the rows.
    pub fn times(&self) -> &[u64] {
        &self.times[self.first..self.first + self.batch.num_rows()]
    }

    /// Rows `offset..offset + length`. No copy.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self { first: self.first + offset, batch: self.batch.slice(offset, length), ..self.clone() }
    }
}

/// Records on their way to the windows.
#[derive(Clone, Debug)]
pub enum Batch {
    /// Flow records.
    Flows(super::FlowBatch),
    /// Rows of a plugin.
    Rows(RowBatch),
}

impl Batch {
    /// Rows.
    pub fn len(&self) -> usize {
        match self {
            Batch::Flows(b) => b.batch.num_rows(),
            Batch::Rows(b) => b.batch.num_rows(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Partition of the source.
    pub fn partition(&self) -> u32 {
        match self {
            Batch::Flows(b) => b.partition,
            Batch::Rows(b) => b.partition,
        }
    }

    /// Rows `offset..offset + length`. No copy.
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        match self {
            Batch::Flows(b) => Batch::Flows(super::FlowBatch { batch: b.batch.slice(offset, length), ..b.clone() }),
            Batch::Rows(b) => Batch::Rows(b.slice(offset, length)),
        }
    }
}
