//! Bytes in, flow records out. Comes in: frames of a source (datagrams, packets of a capture, lines of a text file,
//! messages of a topic); goes out: [`FlowRecord`](crate::model::FlowRecord)s pushed into a sink one by one, or columns of
//! them. Refuses what it cannot read, never as a whole: each refusal has a reason and a counter (`kaminari_decode_*`), and
//! the rest of the frame is decoded. Pure: no clock, no I/O, no channel.

use crate::config::decode_options::{DecodeFormat, DecodeOptions};
use crate::model::{FlowSink, Frame, FrameBatch};

mod arrow;
mod foreign;
mod goflow2;
mod json;
mod netflow;
mod packet;
mod plugin;
mod rawflow;
mod records;
mod rows;
mod sampling;
mod sequence;
mod stats;
#[cfg(test)]
mod tests_support;
mod wire;

pub use arrow::ArrowDecoder;
pub use goflow2::Goflow2Decoder;
pub use json::JsonDecoder;
pub use netflow::NetflowDecoder;
pub use plugin::{PluginDecoder, RefusedFrame, Rows};
pub use rawflow::RawflowDecoder;
pub use records::RecordDecoder;
pub use rows::{FeatureRow, MissingColumn, RowsDecoder};
pub use stats::{DecodeStats, REFUSALS, RateOrigin, Refusal};

/// Frames to flow records.
pub trait Decoder: Send {
    /// Decodes one frame. Nothing can fail as a whole: what was refused is in [`stats`](Self::stats), where `refusals`
    /// rises.
    fn frame(&mut self, bytes: &[u8], frame: &Frame, out: &mut dyn FlowSink);
    /// Decodes every frame of the batch.
    fn decode(&mut self, input: &FrameBatch, out: &mut dyn FlowSink) {
        for frame in &input.frames {
            self.frame(input.bytes(frame), frame, out);
        }
    }
    /// Counters since the start.
    fn stats(&self) -> &DecodeStats;
    /// What was learned of exporters and is needed to read what comes later. Empty: nothing.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }
    /// Adds what a decoder of this kind has saved, before the first frame. What several have saved may be given one after
    /// the other: an exporter may come to another socket than before. `Err`: nothing of it was taken.
    fn restore(&mut self, _saved: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

/// Options that no decoder can follow.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// `columns` names something that is no field of a flow record.
    #[error("columns: {name} is no field of a flow record{near}; known are {known}")]
    UnknownColumn {
        /// What the operator wrote.
        name: String,
        /// The near miss, as ` (did you mean x?)`, or nothing.
        near: String,
        /// All of them.
        known: String,
    },
    /// The separator is not one ASCII character.
    #[error("csv_delimiter: {0:?} is not an ASCII character, give a single one such as ',' or ';'")]
    Delimiter(char),
}

/// Makes the decoder for `options.format` (netflow when there is none). `want_extra`: fill `FlowRecord::extra` too.
pub fn build(options: &DecodeOptions, want_extra: bool) -> Result<Box<dyn Decoder>, DecodeError> {
    Ok(match options.format.unwrap_or(DecodeFormat::Netflow) {
        DecodeFormat::Netflow => Box::new(NetflowDecoder::new(options, want_extra)),
        DecodeFormat::Rawflow => Box::new(RawflowDecoder::new(options, want_extra)),
        DecodeFormat::Goflow2 => Box::new(Goflow2Decoder::new(options, want_extra)),
        DecodeFormat::Goflow2Json => Box::new(JsonDecoder::goflow2(options, want_extra)),
        DecodeFormat::Pmacct => Box::new(JsonDecoder::pmacct(options, want_extra)),
        DecodeFormat::Arrow => Box::new(ArrowDecoder::new()),
        DecodeFormat::Jsonl | DecodeFormat::Csv | DecodeFormat::Parquet => Box::new(RecordDecoder::new(options)?),
    })
}
