//! Feeds a pipeline of rows: lines of a file that are windows of features already. In: batches of frames. Out: whole
//! windows, straight to the pipeline's worker. Rows of a window that has gone already are late: counted and dropped.

use super::worker::WorkerMsg;
use crate::config::PipelinePlan;
use crate::config::decode_options::DecodeOptions;
use crate::decode::{DecodeStats, FeatureRow, MissingColumn, RowsDecoder};
use crate::features;
use crate::model::{EntityKey, FeatureFrame, FrameBatch, WindowInfo};
use crate::telemetry::{SOURCE_DATAGRAMS, SOURCE_RECEIVED_BYTES, WINDOW_LATE_RECORDS, WINDOW_RECORDS};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, Float64Array, RecordBatch};
use arrow_buffer::Buffer;
use crossbeam_channel::Sender;
use metrics::counter;
use std::sync::Arc;

/// One source's rows for one pipeline.
pub(super) struct RowsIntake {
    source: Arc<str>,
    plan: PipelinePlan,
    decoder: RowsDecoder,
    worker: Sender<WorkerMsg>,
    seq: u64,
    /// Rows of the window that is being read.
    open: Vec<FeatureRow>,
    published: DecodeStats,
}

impl RowsIntake {
    pub(super) fn new(source: Arc<str>, plan: PipelinePlan, worker: Sender<WorkerMsg>) -> Self {
        let decoder = decoder(&plan, &DecodeOptions::default());
        Self { source, plan, decoder, worker, seq: 0, open: Vec::new(), published: DecodeStats::default() }
    }

    /// Another file begins.
    pub(super) fn open(&mut self, options: &DecodeOptions) {
        self.publish();
        self.published = DecodeStats::default();
        self.decoder = decoder(&self.plan, options);
    }

    /// One read of a file. Tells the windows of its first and its last row.
    pub(super) fn read(&mut self, frames: &FrameBatch) -> Result<Option<(u64, u64)>, MissingColumn> {
        let id = self.source.to_string();
        counter!(SOURCE_DATAGRAMS, "component_id" => id.clone()).increment(frames.frames.len() as u64);
        counter!(SOURCE_RECEIVED_BYTES, "component_id" => id).increment(frames.data.len() as u64);
        let mut rows = Vec::new();
        let read = self.decoder.decode(frames, &mut rows);
        let times = rows.first().zip(rows.last()).map(|(first, last)| (first.start_ns, last.start_ns));
        for mut row in rows {
            // A window begins on a multiple of its length, wherever in it the row says that it is.
            row.start_ns -= row.start_ns % self.plan.window.size_ns;
            match self.open.first().map(|open| row.start_ns.cmp(&open.start_ns)) {
                Some(std::cmp::Ordering::Less) => {
                    let pipeline = self.plan.id.to_string();
                    counter!(WINDOW_LATE_RECORDS, "pipeline" => pipeline, "disposition" => "dropped").increment(1);
                    continue;
                }
                Some(std::cmp::Ordering::Greater) => self.fire(),
                _ => {}
            }
            self.open.push(row);
        }
        self.publish();
        read.map(|()| times)
    }

    /// The source has ended.
    pub(super) fn finish(mut self) {
        self.fire();
        self.publish();
        tracing::info!(component_id = &*self.source, "{}", self.decoder.stats());
    }

    fn publish(&mut self) {
        self.decoder.stats().publish(&mut self.published, &self.source);
    }

    fn fire(&mut self) {
        let rows = std::mem::take(&mut self.open);
        let Some(first) = rows.first() else { return };
        counter!(WINDOW_RECORDS, "pipeline" => self.plan.id.to_string()).increment(rows.len() as u64);
        let end_ns = first.start_ns + self.plan.window.size_ns;
        let window = WindowInfo { start_ns: first.start_ns, end_ns, revision: 0, watermark_ns: end_ns, partial: false };
        let frame = frame(window, &self.plan, &rows);
        self.seq += 1;
        let _ = self.worker.send(WorkerMsg::Frame(self.seq, Box::new(frame)));
    }
}

fn decoder(plan: &PipelinePlan, options: &DecodeOptions) -> RowsDecoder {
    let rows = plan.rows.as_ref().expect("only pipelines of rows are given to this room");
    RowsDecoder::new(rows, &plan.features, options)
}

fn frame(window: WindowInfo, plan: &PipelinePlan, rows: &[FeatureRow]) -> FeatureFrame {
    let names: Vec<&str> = plan.features.iter().map(String::as_str).collect();
    let keys: Vec<EntityKey> = rows.iter().map(|r| r.key).collect();
    let bytes: Vec<u8> = keys.iter().flat_map(|k| k.to_bytes()).collect();
    let keys_column = FixedSizeBinaryArray::new(EntityKey::WIDTH as i32, Buffer::from_vec(bytes), None);
    let mut columns: Vec<ArrayRef> = vec![Arc::new(keys_column)];
    for at in 0..names.len() {
        columns.push(Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.values[at]))));
    }
    let batch = RecordBatch::try_new(features::schema(&names), columns).expect("every row has a value per feature");
    FeatureFrame { window, kind: keys[0].kind, keys, batch }
}
