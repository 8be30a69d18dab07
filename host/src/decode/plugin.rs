//! Bytes in, rows out, by a plugin with the role `source-decoder`. Comes in: frames of a source; goes out: rows with their event
//! times. Refuses what the plugin refuses, counted by its reasons in `kaminari_decode_errors_total`; frames that it could not
//! look at (it broke, or waits) are counted as dead-lettered.

use crate::model::{Frame, FrameBatch};
use crate::plugin::{Guarded, LoadedPlugin, PluginError, Role, SourceOutput, Use};
use crate::telemetry::{DECODE_ERRORS, DECODE_ROWS};
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use metrics::counter;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Frames of one call.
const FRAMES: usize = 8192;
/// Bytes of one call: what it becomes must fit the plugin's memory and its deadline.
const BYTES: usize = 1 << 20;
/// Reasons that are told apart.
const REASONS: usize = 64;

/// A source's plugin. Belongs to one thread.
pub struct PluginDecoder {
    source: Arc<str>,
    plugin: Guarded,
    output: SourceOutput,
    reasons: BTreeMap<String, u64>,
    frames: u64,
    rows: u64,
    refused: u64,
}

/// What became of frames.
#[derive(Debug)]
pub struct Rows {
    /// The rows.
    pub batch: RecordBatch,
    /// Event time of each, ns since the Unix epoch.
    pub times: Vec<u64>,
    /// When the newest frame was received.
    pub received_ns: u64,
}

/// A frame that is in no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedFrame {
    /// Its position in what was given.
    pub frame: usize,
    /// Why: a label.
    pub reason: String,
}

impl PluginDecoder {
    /// Starts the plugin for a source. `config`: its own table.
    pub fn new(
        plugin: Arc<LoadedPlugin>,
        source: &Arc<str>,
        config: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Self, PluginError> {
        let of = Use {
            role: Role::SourceDecoder,
            pipeline: source.clone(),
            user: "decode".into(),
            config: serde_json::Value::Object(config.clone()).to_string(),
        };
        let mut plugin = Guarded::new(plugin, of)?;
        let output = plugin.ask(|instance| instance.source_output())?;
        let (source, reasons) = (source.clone(), BTreeMap::new());
        Ok(Self { source, plugin, output, reasons, frames: 0, rows: 0, refused: 0 })
    }

    /// Columns of its rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.output.schema
    }

    /// Decodes frames. `origin`: who sent those that have no address.
    pub fn decode(
        &mut self,
        input: &FrameBatch,
        frames: &[Frame],
        origin: &str,
        out: &mut Vec<Rows>,
        refused: &mut Vec<RefusedFrame>,
    ) {
        let mut start = 0;
        while start < frames.len() {
            let mut bytes = 0;
            let within = |f: &&Frame| {
                bytes += f.len as usize;
                bytes <= BYTES
            };
            let some = frames[start..].iter().take(FRAMES).take_while(within).count().max(1);
            self.some(input, &frames[start..start + some], origin, start, out, refused);
            start += some;
        }
    }

    fn some(
        &mut self,
        input: &FrameBatch,
        frames: &[Frame],
        origin: &str,
        start: usize,
        out: &mut Vec<Rows>,
        refused: &mut Vec<RefusedFrame>,
    ) {
        self.frames += frames.len() as u64;
        let (output, source) = (self.output.clone(), self.source.clone());
        let about = || format!("{} frames of source {source}", frames.len());
        let decoded = self.plugin.call(&about, &mut |instance| instance.decode(input, frames, origin, &output));
        let decoded = match decoded {
            Ok(decoded) => decoded,
            Err(unanswered) => {
                self.plugin.dead_letter(&about, frames.len(), &unanswered);
                let reason = format!("plugin_{}", unanswered.reason);
                refused
                    .extend((start..start + frames.len()).map(|frame| RefusedFrame { frame, reason: reason.clone() }));
                return;
            }
        };
        for (frame, reason) in decoded.rejected {
            self.refuse(&reason, frames[frame as usize], input);
            refused.push(RefusedFrame { frame: start + frame as usize, reason });
        }
        let Some(batch) = decoded.rows else { return };
        self.rows += batch.num_rows() as u64;
        counter!(DECODE_ROWS, "component_id" => self.source.to_string()).increment(batch.num_rows() as u64);
        let received_ns = frames.iter().map(|f| f.received_ns).max().unwrap_or(0);
        let column = batch.column(self.output.time).as_primitive::<TimestampNanosecondType>();
        let time = |row: usize| match column.value(row) {
            time if time > 0 && column.is_valid(row) => time as u64,
            _ => received_ns,
        };
        let times = (0..batch.num_rows()).map(time).collect();
        out.push(Rows { batch, times, received_ns });
    }

    fn refuse(&mut self, reason: &str, frame: Frame, input: &FrameBatch) {
        self.refused += 1;
        let known = self.reasons.contains_key(reason);
        let reason = if known || self.reasons.len() < REASONS { reason } else { "other" };
        let seen = self.reasons.entry(reason.to_owned()).or_default();
        *seen += 1;
        counter!(DECODE_ERRORS, "component_id" => self.source.to_string(), "reason" => reason.to_owned()).increment(1);
        if *seen == 1 {
            let bytes = input.bytes(&frame);
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
            tracing::warn!(
                component_id = &*self.source,
                reason,
                "the plugin {} refused a frame for the first time for this reason: {text:?}",
                self.plugin.plugin().label()
            );
        }
    }

    /// What it knows, for a checkpoint.
    pub fn save(&mut self) -> Option<Vec<u8>> {
        self.plugin.save()
    }

    /// Goes on with what one of its plugin has saved.
    pub fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        self.plugin.restore(saved).map(drop).map_err(|e| e.to_string())
    }
}

impl std::fmt::Display for PluginDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} frames, {} rows, {} frames refused", self.frames, self.rows, self.refused)?;
        let mut reasons = self.reasons.iter();
        reasons.try_for_each(|(reason, n)| write!(f, ", {reason} {n}"))
    }
}
