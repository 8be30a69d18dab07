//! Parquet files: batches of rows, handed on as Arrow IPC streams, which decoding reads without knowing the file. Comes
//! in: a path; goes out: one frame per batch. Refuses what is no Parquet file, and gzip around one (Parquet compresses
//! its own pages).

use crate::model::FrameBatch;
use crate::model::frames::NO_PEER;
use arrow_ipc::writer::StreamWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::fs::File;

/// Rows of one frame: as many as a batch of flow records has.
const ROWS: usize = 8192;

/// An open Parquet file.
pub(super) struct Parquet {
    reader: ParquetRecordBatchReader,
    rows: u64,
    read: u64,
}

impl Parquet {
    pub(super) fn open(file: File) -> Result<Self, String> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| format!("no Parquet file: {e}"))?;
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let reader = builder.with_batch_size(ROWS).build().map_err(|e| e.to_string())?;
        Ok(Self { reader, rows, read: 0 })
    }

    /// Adds the next batch. False: there is none.
    pub(super) fn next(&mut self, out: &mut FrameBatch) -> Result<bool, String> {
        let Some(batch) = self.reader.next() else { return Ok(false) };
        let batch = batch.map_err(|e| format!("row {}: {e}", self.read + 1))?;
        self.read += batch.num_rows() as u64;
        let mut bytes = Vec::new();
        let written = StreamWriter::try_new(&mut bytes, &batch.schema())
            .and_then(|mut writer| writer.write(&batch).and_then(|()| writer.finish()));
        written.map_err(|e| e.to_string())?;
        out.push(&bytes, NO_PEER, 0);
        Ok(true)
    }

    /// Rows read and in all.
    pub(super) fn position(&self) -> (u64, u64) {
        (self.read, self.rows)
    }
}
