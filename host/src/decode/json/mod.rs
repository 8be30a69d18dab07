//! JSON of other collectors: GoFlow2's `FlowMessage` as JSON, and pmacct's records. Comes in: messages of a topic or lines of a
//! file, one object each or several on lines of their own; goes out: flow records. Keys that we have no column for are
//! skipped, in any form; values may be names or numbers, times may have any of the three forms that pmacct writes. pmacct's
//! marks at the begin and end of a purge are counted as framing. Refuses, line by line, what is no JSON object
//! (`bad_line`), values that do not fit their field (`bad_field`) and records without any address (`no_address`).
//! docs/formats.md has the tables.

mod keys;
#[cfg(test)]
mod properties;
mod record;
mod scan;
#[cfg(test)]
mod tests;
mod text;

pub(super) use self::keys::Keys;
pub(super) use self::scan::{Invalid, Scanner, Value};

use self::record::{Dialect, Field, Filler};
use super::Decoder;
use super::foreign::{Bad, Foreign};
use super::stats::{DecodeStats, Refusal};
use crate::config::decode_options::DecodeOptions;
use crate::model::{FlowSink, Frame};

/// Decoder of GoFlow2's and pmacct's JSON.
pub struct JsonDecoder {
    dialect: Dialect,
    keys: Keys<Field>,
    want_extra: bool,
    filler: Filler,
    foreign: Foreign,
    number: u64,
    stats: DecodeStats,
}

impl From<Invalid> for Bad {
    fn from(invalid: Invalid) -> Self {
        Bad { why: Refusal::BadLine, what: invalid.0 }
    }
}

impl JsonDecoder {
    /// For GoFlow2's JSON. `want_extra`: fill `FlowRecord::extra` too.
    pub fn goflow2(options: &DecodeOptions, want_extra: bool) -> Self {
        Self::new(Dialect::Goflow2, options, want_extra)
    }

    /// For pmacct's JSON. `want_extra`: fill `FlowRecord::extra` too.
    pub fn pmacct(options: &DecodeOptions, want_extra: bool) -> Self {
        Self::new(Dialect::Pmacct, options, want_extra)
    }

    fn new(dialect: Dialect, options: &DecodeOptions, want_extra: bool) -> Self {
        Self {
            dialect,
            keys: dialect.table(want_extra),
            want_extra,
            filler: Filler::default(),
            foreign: Foreign::new(options),
            number: 0,
            stats: DecodeStats::default(),
        }
    }

    fn read(&mut self, scanner: &mut Scanner<'_>, message_ns: u64) -> Result<(), Bad> {
        let Self { filler, dialect, .. } = self;
        filler.begin(message_ns, self.want_extra);
        scanner.object(&mut self.keys, |field, value| {
            let bad = Bad { why: Refusal::BadField, what: field.name() };
            filler.take(*dialect, field, value).ok_or(bad)
        })?;
        Ok(scanner.end_of_line()?)
    }
}

impl Decoder for JsonDecoder {
    fn frame(&mut self, bytes: &[u8], frame: &Frame, out: &mut dyn FlowSink) {
        self.stats.datagrams += 1;
        self.stats.bytes += bytes.len() as u64;
        let mut scanner = Scanner::new(bytes);
        let mut start = 0;
        while scanner.more() {
            self.stats.framing_bytes += (scanner.position() - start) as u64;
            start = scanner.position();
            self.number += 1;
            let read = self.read(&mut scanner, frame.received_ns).and_then(|()| {
                if self.filler.is_marker {
                    return Ok(false);
                }
                let record = self.filler.finish();
                self.foreign.settle(record, frame, &mut self.stats).map(|()| true)
            });
            if read.is_err() {
                scanner.skip_line(start);
            }
            let len = scanner.position() - start;
            start = scanner.position();
            match read {
                Ok(true) => {
                    self.stats.decoded_bytes += len as u64;
                    out.push(&self.filler.record);
                }
                Ok(false) => self.stats.framing_bytes += len as u64,
                Err(bad) => {
                    self.stats.refuse(bad.why, len);
                    let number = self.number;
                    self.stats.first_error.get_or_insert_with(|| format!("record {number}: {}", bad.what));
                }
            }
        }
        self.stats.framing_bytes += (scanner.position() - start) as u64;
    }

    fn stats(&self) -> &DecodeStats {
        &self.stats
    }
}
