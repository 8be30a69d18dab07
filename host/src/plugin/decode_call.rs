//! The role `source-decoder`. Comes in: frames; goes out: rows, and the frames that the plugin refuses with its reasons.
//! Refused as a whole: rows of another schema than the plugin has declared, refusals of frames that were not there or that it
//! has refused already.

use super::bindings::exports::kaminari::plugin::source_decoder as raw;
use super::builder::{arrow_schema, with_schema};
use super::error::CallError;
use super::instance::PluginInstance;
use super::limits::{REASON_BYTES, SETUP_DEADLINE_MS};
use super::roles::Guest;
use crate::model::frames::{Frame, FrameBatch, NO_PEER};
use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use std::net::SocketAddr;
use std::sync::Arc;

/// What a source plugin makes of frames.
#[derive(Clone, Debug)]
pub struct SourceOutput {
    /// Of every batch.
    pub schema: SchemaRef,
    /// Position of the column with the event time (ns since the Unix epoch; null or 0: none).
    pub time: usize,
}

/// What became of frames.
#[derive(Debug, Default)]
pub struct DecodedRows {
    /// The rows; none: there are none.
    pub rows: Option<RecordBatch>,
    /// Frames that were refused, by position in what was given, and why.
    pub rejected: Vec<(u32, String)>,
}

fn source(guest: &Guest) -> wasmtime::Result<&raw::Guest> {
    guest.source.as_ref().ok_or_else(|| wasmtime::Error::msg("the plugin decodes no source"))
}

impl PluginInstance {
    /// What its rows will look like.
    pub fn source_output(&mut self) -> Result<SourceOutput, CallError> {
        const CALL: &str = "output-schema";
        let schema = self.call(CALL, SETUP_DEADLINE_MS, |guest, store| source(guest)?.call_output_schema(store))?;
        let time =
            self.call("time-column", SETUP_DEADLINE_MS, |guest, store| source(guest)?.call_time_column(store).map(Ok))?;
        let schema = arrow_schema(schema).map_err(|text| self.refused(CALL, text))?;
        let at = schema.index_of(&time).ok();
        let is_time =
            |at: &usize| matches!(schema.field(*at).data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _));
        match at.filter(is_time) {
            Some(time) => Ok(SourceOutput { schema: Arc::new(schema), time }),
            None => Err(self.refused("time-column", format!("{time:?} is no timestamp-ns column of its rows"))),
        }
    }

    /// Turns frames of a batch into rows. `origin`: who sent those that have no address.
    pub fn decode(
        &mut self,
        input: &FrameBatch,
        frames: &[Frame],
        origin: &str,
        output: &SourceOutput,
    ) -> Result<DecodedRows, CallError> {
        let time_ns = frames.last().map_or(0, |f| f.received_ns);
        let packed = pack(input, frames, origin);
        let decoded = self.work("decode", time_ns, |guest, store| {
            let answer = source(guest)?.call_decode(&mut *store, &packed)?;
            Ok(match answer {
                Ok(raw::Decoded { rows, rejected }) => {
                    let rows = rows.map(|rows| store.data_mut().table.delete(rows)).transpose()?;
                    Ok((rows.map(|r| r.batch), rejected))
                }
                Err(error) => Err(error),
            })
        });
        let checked = decoded.and_then(|(rows, rejected)| {
            let rows = rows.map(|rows| with_schema(rows, &output.schema)).transpose();
            let rows =
                rows.map_err(|cause| self.refused("decode", format!("rows that are not as declared: {cause}")))?;
            let mut refused = vec![false; frames.len()];
            for r in &rejected {
                match refused.get_mut(r.frame as usize) {
                    None => {
                        let text = format!("a refusal of frame {} of {}", r.frame, frames.len());
                        return Err(self.refused("decode", text));
                    }
                    Some(true) => {
                        return Err(self.refused("decode", format!("frame {} is refused twice", r.frame)));
                    }
                    Some(refused) => *refused = true,
                }
            }
            let rejected = rejected.into_iter().map(|r| (r.frame, reason(&r.reason))).collect();
            Ok(DecodedRows { rows: rows.filter(|r| r.num_rows() > 0), rejected })
        });
        self.counted(checked)
    }
}

fn pack(input: &FrameBatch, frames: &[Frame], origin: &str) -> raw::Frames {
    let mut packed = raw::Frames {
        data: Vec::with_capacity(frames.iter().map(|f| f.len as usize).sum()),
        ends: Vec::with_capacity(frames.len()),
        received: frames.iter().map(|f| f.received_ns).collect(),
        peer: Vec::with_capacity(frames.len()),
        peers: Vec::new(),
    };
    let mut known: Vec<SocketAddr> = Vec::new();
    for frame in frames {
        packed.data.extend_from_slice(input.bytes(frame));
        packed.ends.push(packed.data.len() as u32);
        // Frames of a sender come in runs, and few senders share a batch.
        let at = known.iter().rposition(|p| *p == frame.peer).unwrap_or_else(|| {
            known.push(frame.peer);
            packed.peers.push(if frame.peer == NO_PEER { origin.to_owned() } else { frame.peer.to_string() });
            known.len() - 1
        });
        packed.peer.push(at as u32);
    }
    packed
}

/// A plugin's reason as the value of a label.
fn reason(said: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let reason: String = said.chars().take(REASON_BYTES).map(plain).collect();
    if reason.is_empty() { "unnamed".to_owned() } else { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_packed_with_their_senders() {
        let mut input = FrameBatch::default();
        let peer = |port| SocketAddr::from(([192, 0, 2, 1], port));
        for (bytes, peer) in [("a", peer(1)), ("bcd", peer(2)), ("", peer(1)), ("e", NO_PEER)] {
            input.push(bytes.as_bytes(), peer, 7);
        }
        let packed = pack(&input, &input.frames, "file x");
        assert_eq!((&*packed.data, &*packed.ends), (&b"abcde"[..], &[1, 4, 4, 5][..]));
        assert_eq!(packed.peer, [0, 1, 0, 2]);
        assert_eq!(packed.peers, ["192.0.2.1:1", "192.0.2.1:2", "file x"]);
        let some = pack(&input, &input.frames[1..2], "");
        assert_eq!((&*some.data, &*some.peer), (&b"bcd"[..], &[0][..]));
    }

    #[test]
    fn reasons_are_labels() {
        assert_eq!(reason("No PRI!"), "no_pri_");
        assert_eq!(reason(""), "unnamed");
        assert_eq!(reason(&"x".repeat(1000)).len(), REASON_BYTES);
    }
}
