//! What makes records of a source's frames: one of the engine's decoders, or a plugin. In: frames. Out: batches for the windows.

use super::build::BuildError;
use super::judges::Judges;
use crate::config::decode_options::DecodeOptions;
use crate::decode::{self, DecodeStats, Decoder, PluginDecoder, RefusedFrame, Rows};
use crate::model::{Batch, FlowBatchBuilder, Frame, FrameBatch, RowBatch};
use std::sync::Arc;

/// See the module.
pub(super) enum Reading {
    Flows(Box<dyn Decoder>, Box<FlowBatchBuilder>),
    Rows(Box<PluginDecoder>),
}

impl Reading {
    /// What a source's `decode` asks for.
    pub(super) fn new(judges: Option<&Judges>, source: &Arc<str>, options: &DecodeOptions) -> Result<Self, BuildError> {
        if let Some(plugin) = &options.plugin {
            let judges =
                judges.ok_or_else(|| BuildError::Input(format!("source {source:?}: plugins are not loaded")))?;
            let decoder = judges.decoder(source, plugin, &options.config).map_err(|p| BuildError::Problems(vec![p]))?;
            return Ok(Reading::Rows(Box::new(decoder)));
        }
        let decoder =
            decode::build(options, false).map_err(|e| BuildError::Input(format!("source {source:?}: {e}")))?;
        Ok(Reading::Flows(decoder, Box::default()))
    }

    /// Counters of a decoder of the engine.
    pub(super) fn publish(&self, published: &mut DecodeStats, source: &str) {
        if let Reading::Flows(decoder, _) = self {
            decoder.stats().publish(published, source);
        }
    }

    /// A line for the end of a run.
    pub(super) fn told(&self) -> String {
        match self {
            Reading::Flows(decoder, _) => decoder.stats().to_string(),
            Reading::Rows(decoder) => decoder.to_string(),
        }
    }

    /// What was learned and is needed to read what comes later; empty: nothing.
    pub(super) fn save(&mut self) -> Vec<u8> {
        match self {
            Reading::Flows(decoder, _) => decoder.save(),
            Reading::Rows(decoder) => decoder.save().unwrap_or_default(),
        }
    }

    /// Goes on with what was saved.
    pub(super) fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        match self {
            Reading::Flows(..) if saved.is_empty() => Ok(()),
            Reading::Flows(decoder, _) => decoder.restore(saved),
            Reading::Rows(_) if saved.is_empty() => Ok(()),
            Reading::Rows(decoder) => decoder.restore(saved),
        }
    }
}

/// Rows that a plugin makes of frames, on their way to the windows.
pub(super) struct RowReader<'a> {
    pub(super) source: &'a Arc<str>,
    pub(super) partition: u32,
    /// When they came in, where that is not when they were received.
    pub(super) arrived_ns: Option<u64>,
    /// The times are those of a file, which may be of any age: none of them is too far ahead.
    pub(super) of_file: bool,
    /// Who sent frames that have no address.
    pub(super) origin: &'a str,
}

impl RowReader<'_> {
    /// Decodes frames; what the plugin refused is added to `refused`.
    pub(super) fn read(
        &self,
        decoder: &mut PluginDecoder,
        input: &FrameBatch,
        frames: &[Frame],
        refused: &mut Vec<RefusedFrame>,
    ) -> Vec<Batch> {
        let mut rows = Vec::new();
        decoder.decode(input, frames, self.origin, &mut rows, refused);
        let batch = |Rows { batch, times, received_ns }: Rows| {
            let newest = times.iter().copied().max().unwrap_or(received_ns);
            Batch::Rows(RowBatch {
                source: self.source.clone(),
                partition: self.partition,
                arrived_ns: if self.of_file { Some(newest) } else { self.arrived_ns },
                received_ns: if self.of_file { received_ns.max(newest) } else { received_ns },
                times: times.into(),
                first: 0,
                batch,
            })
        };
        rows.into_iter().map(batch).collect()
    }
}
