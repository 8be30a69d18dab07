//! Arrow IPC streams of flow batches: what other kaminaris and programs with Arrow write. Comes in: frames that are one
//! stream each, a schema and any number of batches; goes out: their columns, as they are, the scaled ones too. The
//! columns are those of `flow_schema()`, by name, type and order, without nulls; whether the schema calls them nullable
//! does not matter. Refuses other columns (`bad_schema`) and what is no stream, is compressed or breaks off
//! (`bad_message`); batches before that are taken.
//!
//! The stream is walked here rather than by arrow's reader, which allocates what a header says and panics on some
//! schemas: a message may come from anybody. Headers are read by flatbuffers' verifier; every length is checked against
//! the bytes that are there before anything is allocated.

use super::Decoder;
use super::foreign::Bad;
use super::stats::{DecodeStats, RateOrigin, Refusal};
use crate::model::FlowSink;
use crate::model::schema::{col, flow_schema};
use crate::model::{FlowType, Frame};
use arrow_array::cast::AsArray;
use arrow_array::types::{UInt8Type, UInt64Type};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, PrimitiveArray, RecordBatch};
use arrow_buffer::{Buffer, ScalarBuffer};
use arrow_ipc::{MessageHeader, Type};
use arrow_schema::DataType;
use std::sync::Arc;

const BROKEN: Bad = Bad { why: Refusal::BadMessage, what: "not an Arrow IPC stream, or broken off" };
const COMPRESSED: Bad = Bad { why: Refusal::BadMessage, what: "an Arrow IPC stream with compressed buffers" };
const NULLS: Bad = Bad { why: Refusal::BadMessage, what: "an Arrow batch with nulls" };
const SCHEMA: Bad = Bad { why: Refusal::BadSchema, what: "the columns are not those of a flow batch" };

/// Stands before the length of a message.
const CONTINUATION: u32 = u32::MAX;

/// Decoder of Arrow IPC streams.
#[derive(Default)]
pub struct ArrowDecoder {
    number: u64,
    stats: DecodeStats,
}

impl ArrowDecoder {
    /// A decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes through the stream; gives the bytes that were understood, and why it ended early.
    fn stream(&mut self, bytes: &[u8], out: &mut dyn FlowSink) -> (usize, Result<(), Bad>) {
        let (mut rest, mut schema_seen) = (bytes, false);
        loop {
            let at = bytes.len() - rest.len();
            match message(&mut rest, &mut schema_seen) {
                // A stream need not be closed: it may just end after a message.
                Ok(None) if !schema_seen => return (at, Err(BROKEN)),
                Ok(None) if rest.is_empty() => {
                    self.stats.framing_bytes += (bytes.len() - at) as u64;
                    return (bytes.len(), Ok(()));
                }
                Ok(None) => return (at, Err(BROKEN)),
                Ok(Some(None)) => self.stats.framing_bytes += (bytes.len() - at - rest.len()) as u64,
                Ok(Some(Some(batch))) => {
                    self.stats.decoded_bytes += (bytes.len() - at - rest.len()) as u64;
                    self.count(&batch);
                    out.push_columns(&batch);
                }
                Err(bad) => return (at, Err(bad)),
            }
        }
    }

    fn count(&mut self, batch: &RecordBatch) {
        let mut types = [0; 256];
        for n in batch.column(col::TYPE).as_primitive::<UInt8Type>().values() {
            types[usize::from(*n)] += 1;
        }
        for (n, count) in (0..=u8::MAX).zip(types) {
            self.stats.flows[FlowType::from_u8(n) as usize] += count;
        }
        let rates = batch.column(col::SAMPLING_RATE).as_primitive::<UInt64Type>().values();
        let unknown = rates.iter().filter(|rate| **rate == 0).count() as u64;
        self.stats.sampling[RateOrigin::Unknown as usize] += unknown;
        self.stats.sampling[RateOrigin::Record as usize] += rates.len() as u64 - unknown;
    }
}

impl Decoder for ArrowDecoder {
    fn frame(&mut self, bytes: &[u8], _: &Frame, out: &mut dyn FlowSink) {
        self.number += 1;
        self.stats.datagrams += 1;
        self.stats.bytes += bytes.len() as u64;
        let (understood, read) = self.stream(bytes, out);
        if let Err(bad) = read {
            self.stats.refuse(bad.why, bytes.len() - understood);
            let number = self.number;
            self.stats.first_error.get_or_insert_with(|| format!("message {number}: {}", bad.what));
        }
    }

    fn stats(&self) -> &DecodeStats {
        &self.stats
    }
}

/// Takes the next message off the stream: `None` at its end, `Some(None)` for the schema, else a batch.
fn message(rest: &mut &[u8], schema_seen: &mut bool) -> Result<Option<Option<RecordBatch>>, Bad> {
    if rest.is_empty() {
        return Ok(None);
    }
    let mut len = word(rest)?;
    // Streams before Arrow 0.15 have no such mark.
    if len == CONTINUATION {
        len = word(rest)?;
    }
    if len == 0 {
        return Ok(None);
    }
    let header = split(rest, u64::from(len))?;
    let header = arrow_ipc::root_as_message(header).map_err(|_| BROKEN)?;
    let body = split(rest, u64::try_from(header.bodyLength()).map_err(|_| BROKEN)?)?;
    match header.header_type() {
        MessageHeader::Schema if !*schema_seen => {
            *schema_seen = true;
            check_schema(header.header_as_schema().ok_or(BROKEN)?)?;
            Ok(Some(None))
        }
        MessageHeader::RecordBatch if *schema_seen => {
            batch(header.header_as_record_batch().ok_or(BROKEN)?, body).map(|batch| Some(Some(batch)))
        }
        _ => Err(BROKEN),
    }
}

fn word(rest: &mut &[u8]) -> Result<u32, Bad> {
    let (bytes, tail) = rest.split_first_chunk::<4>().ok_or(BROKEN)?;
    *rest = tail;
    Ok(u32::from_le_bytes(*bytes))
}

fn split<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], Bad> {
    let (bytes, tail) = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len)).ok_or(BROKEN)?;
    *rest = tail;
    Ok(bytes)
}

/// Ours, column by column.
fn check_schema(schema: arrow_ipc::Schema<'_>) -> Result<(), Bad> {
    let ours = flow_schema();
    let theirs = schema.fields().ok_or(SCHEMA)?;
    if schema.endianness() != arrow_ipc::Endianness::Little || theirs.len() != ours.fields().len() {
        return Err(SCHEMA);
    }
    for (theirs, ours) in theirs.iter().zip(ours.fields()) {
        let same = match (theirs.type_type(), ours.data_type()) {
            (Type::FixedSizeBinary, DataType::FixedSizeBinary(width)) => {
                theirs.type_as_fixed_size_binary().is_some_and(|t| t.byteWidth() == *width)
            }
            (Type::Int, ours) => theirs.type_as_int().is_some_and(|t| {
                !t.is_signed() && ours.primitive_width().and_then(|w| i32::try_from(8 * w).ok()) == Some(t.bitWidth())
            }),
            _ => false,
        };
        if !same || theirs.name() != Some(ours.name()) || theirs.dictionary().is_some() {
            return Err(SCHEMA);
        }
    }
    Ok(())
}

/// The columns of a batch: each has a node and two buffers, of which the first says what is null.
fn batch(header: arrow_ipc::RecordBatch<'_>, body: &[u8]) -> Result<RecordBatch, Bad> {
    let schema = flow_schema();
    let rows = usize::try_from(header.length()).map_err(|_| BROKEN)?;
    let (nodes, buffers) = (header.nodes().ok_or(BROKEN)?, header.buffers().ok_or(BROKEN)?);
    if header.compression().is_some() {
        return Err(COMPRESSED);
    }
    if nodes.len() != schema.fields().len() || buffers.len() != 2 * nodes.len() {
        return Err(BROKEN);
    }
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(nodes.len());
    for (i, field) in schema.fields().iter().enumerate() {
        let (node, values) = (nodes.get(i), buffers.get(2 * i + 1));
        if node.length() != header.length() {
            return Err(BROKEN);
        }
        if node.null_count() != 0 {
            return Err(NULLS);
        }
        // The rows must all be there before anything is made of their number.
        let cells = |width: usize| -> Result<Buffer, Bad> {
            let need = rows.checked_mul(width).ok_or(BROKEN)?;
            let start = usize::try_from(values.offset()).map_err(|_| BROKEN)?;
            let len = usize::try_from(values.length()).map_err(|_| BROKEN)?;
            let there = body.get(start..).and_then(|b| b.get(..len)).and_then(|b| b.get(..need));
            there.map(Buffer::from_slice_ref).ok_or(BROKEN)
        };
        fn numbers<T: arrow_array::ArrowPrimitiveType>(bytes: Buffer, rows: usize) -> ArrayRef {
            Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::new(bytes, 0, rows), None))
        }
        columns.push(match field.data_type() {
            DataType::FixedSizeBinary(width) => {
                let bytes = cells(usize::try_from(*width).map_err(|_| SCHEMA)?)?;
                Arc::new(FixedSizeBinaryArray::try_new(*width, bytes, None).map_err(|_| BROKEN)?)
            }
            DataType::UInt64 => numbers::<UInt64Type>(cells(8)?, rows),
            DataType::UInt32 => numbers::<arrow_array::types::UInt32Type>(cells(4)?, rows),
            DataType::UInt16 => numbers::<arrow_array::types::UInt16Type>(cells(2)?, rows),
            _ => numbers::<UInt8Type>(cells(1)?, rows),
        });
    }
    RecordBatch::try_new(schema, columns).map_err(|_| BROKEN)
}

#[cfg(test)]
mod tests;
