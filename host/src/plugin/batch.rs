//! Batches that plugins hold handles of. Comes in: Arrow batches; goes out: columns as flat values, cast and copied
//! only where the type asks for it. Memory that a guest makes the host hold is charged to its instance.

use super::bindings::kaminari::plugin::common::{DataType as Type, Error, Field, Schema};
use super::limits::{HOST_BYTES, SCHEMA_BYTES};
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, RecordBatch, UInt32Array};
use arrow_buffer::{Buffer, ScalarBuffer};
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::{ArrowError, DataType, TimeUnit};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that one instance makes the host hold.
#[derive(Clone, Default)]
pub struct Account(Arc<AtomicUsize>);

/// Some of them; given back on drop.
pub struct Charge {
    account: Account,
    bytes: AtomicUsize,
}

impl Account {
    /// Refused over [`HOST_BYTES`].
    pub fn charge(&self, bytes: usize) -> Result<Arc<Charge>, Error> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let charge = Charge { account: self.clone(), bytes: bytes.into() };
        if before.saturating_add(bytes) > HOST_BYTES {
            return Err(Error::Quota(format!("batches made by the plugin would take more than {HOST_BYTES} bytes")));
        }
        Ok(Arc::new(charge))
    }

    /// What was lent for one call: nothing yet.
    pub fn loan(&self) -> Arc<Charge> {
        Arc::new(Charge { account: self.clone(), bytes: 0.into() })
    }
}

impl Charge {
    /// The call is over, and parts of a lent batch of so many bytes are still held: they count from now on. Refused as above.
    pub fn kept(&self, bytes: usize) -> Result<(), String> {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let before = self.account.0.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > HOST_BYTES {
            return Err(format!("it keeps parts of batches that it was lent, of more than {HOST_BYTES} bytes"));
        }
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.0.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// What stands behind a `record-batch` handle.
pub struct Batch {
    /// The columns.
    pub batch: RecordBatch,
    /// What it owes, shared with batches made from it.
    pub charges: Vec<Arc<Charge>>,
    /// Its first row's place in the frame that is judged, if its rows are rows of it, with all columns.
    pub frame_row: Option<usize>,
}

impl Batch {
    /// A batch of the host's own, lent to the plugin for one call.
    pub fn on_loan(batch: RecordBatch, loan: Arc<Charge>) -> Self {
        Self { batch, charges: vec![loan], frame_row: None }
    }

    /// A batch of the host's own.
    pub fn lent(batch: RecordBatch) -> Self {
        Self { batch, charges: Vec::new(), frame_row: None }
    }

    fn same_charges(&self, batch: RecordBatch) -> Self {
        Self { batch, charges: self.charges.clone(), frame_row: None }
    }

    fn column(&self, column: u32) -> Result<&dyn Array, Error> {
        let found = self.batch.columns().get(column as usize);
        found.map(|a| a.as_ref()).ok_or_else(|| Error::NotFound(format!("no column {column}")))
    }

    /// Names and types.
    pub fn schema(&self) -> Schema {
        let schema = self.batch.schema_ref();
        let fields = schema.fields().iter().map(|f| Field {
            name: f.name().clone(),
            ty: contract_type(f.data_type()),
            nullable: f.is_nullable(),
        });
        let metadata = schema.metadata().iter().map(|(k, v)| (k.clone(), v.clone()));
        Schema { fields: fields.collect(), metadata: metadata.collect() }
    }

    /// Floating point values; null is NaN. No copy of a `Float64` column without nulls.
    pub fn f64s(&self, column: u32) -> Result<ScalarBuffer<f64>, Error> {
        let array = self.column(column)?;
        if array.null_count() == 0
            && let Some(array) = array.as_primitive_opt::<Float64Type>()
        {
            return Ok(array.values().clone());
        }
        numbers(array, f64::NAN, Float, column)
    }

    /// Whole numbers; null is 0. Negative ones become 0, fractions are cut.
    pub fn u64s(&self, column: u32) -> Result<ScalarBuffer<u64>, Error> {
        let array = self.column(column)?;
        if array.null_count() == 0
            && let Some(array) = array.as_primitive_opt::<UInt64Type>()
        {
            return Ok(array.values().clone());
        }
        numbers(array, 0, Unsigned, column)
    }

    /// Whole numbers with a sign; null is 0.
    pub fn s64s(&self, column: u32) -> Result<ScalarBuffer<i64>, Error> {
        let array = self.column(column)?;
        if array.null_count() == 0
            && let Some(array) = array.as_primitive_opt::<Int64Type>()
        {
            return Ok(array.values().clone());
        }
        numbers(array, 0, Signed, column)
    }

    /// Ends and bytes of a column of text, bytes or addresses.
    pub fn bytes(&self, column: u32) -> Result<(ScalarBuffer<u32>, Buffer), Error> {
        let array = self.column(column)?;
        match array.data_type() {
            DataType::Utf8 => Ok(packed(array.as_string::<i32>().value_offsets(), array.as_string::<i32>().values())),
            DataType::Binary => Ok(packed(array.as_binary::<i32>().value_offsets(), array.as_binary::<i32>().values())),
            DataType::FixedSizeBinary(width) => {
                let fixed = array.as_fixed_size_binary();
                let width = *width as u32;
                let ends: Vec<u32> = (1..=array.len() as u32).map(|i| i * width).collect();
                let data = fixed.values();
                Ok((ends.into(), data.slice_with_length(0, array.len() * width as usize)))
            }
            other => Err(Error::Schema(format!("column {column} is {other}, not text, bytes or an address"))),
        }
    }

    /// Bit set of present values, none when nothing is null (or there is no such column).
    pub fn validity(&self, column: u32) -> Option<Vec<u8>> {
        let array = self.column(column).ok()?;
        let nulls = array.nulls().filter(|n| n.null_count() > 0)?;
        let mut bits = vec![0u8; array.len().div_ceil(8)];
        nulls.valid_indices().for_each(|i| bits[i / 8] |= 1 << (i % 8));
        Some(bits)
    }

    /// Several columns end to end; refused: more than `cap` bytes.
    pub fn block_f64(&self, columns: &[u32], cap: usize) -> Result<Vec<f64>, Error> {
        if columns.len() > self.batch.num_columns() {
            return Err(Error::Quota("more columns asked for than there are".into()));
        }
        let values = columns.len() * self.batch.num_rows();
        fits(values * size_of::<f64>(), cap)?;
        let mut block = Vec::with_capacity(values);
        for &column in columns {
            block.extend_from_slice(&self.f64s(column)?);
        }
        Ok(block)
    }

    /// Rows `offset..offset + length`, as far as there are.
    pub fn slice(&self, offset: u32, length: u32) -> Self {
        let rows = self.batch.num_rows();
        let offset = (offset as usize).min(rows);
        let slice = self.same_charges(self.batch.slice(offset, (length as usize).min(rows - offset)));
        Self { frame_row: self.frame_row.map(|row| row + offset), ..slice }
    }

    /// Some columns, in the order asked for.
    pub fn select(&self, columns: &[u32]) -> Result<Self, Error> {
        if columns.len() > self.batch.num_columns() {
            return Err(Error::Quota("more columns asked for than there are".into()));
        }
        let columns: Vec<usize> = columns.iter().map(|&c| c as usize).collect();
        let batch = self.batch.project(&columns).map_err(|e| Error::NotFound(e.to_string()))?;
        Ok(self.same_charges(batch))
    }

    /// Rows by number, copied.
    pub fn take(&self, rows: &[u32], account: &Account) -> Result<Self, Error> {
        let have = self.batch.num_rows();
        if rows.len() > have {
            return Err(Error::Quota(format!("{} rows asked for, the batch has {have}", rows.len())));
        }
        if let Some(row) = rows.iter().find(|&&r| r as usize >= have) {
            return Err(Error::NotFound(format!("no row {row}: the batch has {have}")));
        }
        let mut bytes = 0usize;
        for array in self.batch.columns() {
            bytes = bytes.saturating_add(taken_bytes(array, rows)?);
        }
        let charge = account.charge(bytes)?;
        let indices = UInt32Array::from(rows.to_vec());
        let batch = arrow_select::take::take_record_batch(&self.batch, &indices).map_err(other)?;
        Ok(Self { batch, charges: vec![charge], frame_row: None })
    }

    /// A whole Arrow IPC stream; refused: of more than `cap` bytes.
    pub fn to_ipc(&self, cap: usize) -> Result<Vec<u8>, Error> {
        let columns = self.batch.columns().iter().map(|c| c.to_data().get_slice_memory_size());
        fits(columns.sum::<Result<usize, _>>().map_err(other)?, cap)?;
        let mut writer =
            arrow_ipc::writer::StreamWriter::try_new(Vec::new(), self.batch.schema_ref()).map_err(other)?;
        writer.write(&self.batch).map_err(other)?;
        writer.into_inner().map_err(other)
    }

    /// The batches of an Arrow IPC stream, as one.
    pub fn from_ipc(bytes: &[u8], account: &Account) -> Result<Self, Error> {
        // Generously: the decoder copies what is not aligned, and batches are joined.
        let charge = account.charge(bytes.len().saturating_mul(2))?;
        // The bytes are a stranger's and the reader was not written for strangers: a panic stays here.
        let read = std::panic::catch_unwind(|| {
            // Of the two readers this one believes no length: it takes what is there.
            let (mut decoder, mut input) = (StreamDecoder::new(), Buffer::from(bytes));
            let mut batches = Vec::new();
            while !input.is_empty() {
                batches.extend(decoder.decode(&mut input)?);
            }
            decoder.finish()?;
            let none = || ArrowError::IpcError("no schema".into());
            arrow_select::concat::concat_batches(&decoder.schema().ok_or_else(none)?, &batches)
        });
        match read {
            // Some types take no bytes at all, as many rows as there may be.
            Ok(Ok(batch)) if batch.num_rows() > bytes.len().saturating_mul(8) => {
                Err(Error::Other(format!("{} rows in {} bytes", batch.num_rows(), bytes.len())))
            }
            Ok(Ok(batch)) if schema_bytes(batch.schema_ref()) > SCHEMA_BYTES => Err(schema_too_large()),
            Ok(Ok(batch)) => Ok(Self { batch, charges: vec![charge], frame_row: None }),
            Ok(Err(e)) => Err(other(e)),
            Err(_) => Err(Error::Other("not an Arrow IPC stream".into())),
        }
    }
}

/// The contract's name of an Arrow type. What it has no name for reads as `binary` and goes through `to-ipc`.
fn contract_type(ty: &DataType) -> Type {
    match ty {
        DataType::Boolean => Type::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Type::Int64,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Type::Uint64,
        DataType::Float32 | DataType::Float64 => Type::Float64,
        DataType::Utf8 => Type::Utf8,
        DataType::FixedSizeBinary(16) => Type::Ip,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Type::TimestampNs,
        _ => Type::Binary,
    }
}

/// The three kinds of number that the contract knows, made from any type that numbers come in.
trait Cast<T> {
    fn float(x: f64) -> T;
    fn whole(x: i128) -> T;
}
struct Float;
struct Unsigned;
struct Signed;

impl Cast<f64> for Float {
    fn float(x: f64) -> f64 {
        x
    }
    fn whole(x: i128) -> f64 {
        x as f64
    }
}

impl Cast<u64> for Unsigned {
    fn float(x: f64) -> u64 {
        x as u64
    }
    fn whole(x: i128) -> u64 {
        u64::try_from(x).unwrap_or(0)
    }
}

impl Cast<i64> for Signed {
    fn float(x: f64) -> i64 {
        x as i64
    }
    fn whole(x: i128) -> i64 {
        i64::try_from(x).unwrap_or(i64::MAX)
    }
}

fn numbers<T: arrow_buffer::ArrowNativeType, C: Cast<T>>(
    array: &dyn Array,
    null: T,
    _kind: C,
    column: u32,
) -> Result<ScalarBuffer<T>, Error> {
    macro_rules! cast {
        ($array:expr, $convert:expr) => {
            $array.iter().map(|x| x.map_or(null, $convert)).collect::<Vec<T>>()
        };
    }
    macro_rules! whole {
        ($ty:ty) => {
            cast!(array.as_primitive::<$ty>(), |x| C::whole(i128::from(x)))
        };
    }
    let values = match array.data_type() {
        DataType::Boolean => cast!(array.as_boolean(), |x| C::whole(i128::from(x))),
        DataType::Int8 => whole!(Int8Type),
        DataType::Int16 => whole!(Int16Type),
        DataType::Int32 => whole!(Int32Type),
        DataType::Int64 => whole!(Int64Type),
        DataType::UInt8 => whole!(UInt8Type),
        DataType::UInt16 => whole!(UInt16Type),
        DataType::UInt32 => whole!(UInt32Type),
        DataType::UInt64 => whole!(UInt64Type),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => whole!(TimestampNanosecondType),
        DataType::Float32 => cast!(array.as_primitive::<Float32Type>(), |x| C::float(f64::from(x))),
        DataType::Float64 => cast!(array.as_primitive::<Float64Type>(), C::float),
        other => return Err(Error::Schema(format!("column {column} is {other}, not a number"))),
    };
    Ok(values.into())
}

fn packed(offsets: &[i32], values: &Buffer) -> (ScalarBuffer<u32>, Buffer) {
    let first = offsets[0];
    let last = offsets[offsets.len() - 1];
    let ends: Vec<u32> = offsets[1..].iter().map(|&o| (o - first) as u32).collect();
    (ends.into(), values.slice_with_length(first as usize, (last - first) as usize))
}

/// Bytes that a column of those rows takes. A guest may ask for its longest value a thousand times.
fn taken_bytes(array: &dyn Array, rows: &[u32]) -> Result<usize, Error> {
    let varying = |offsets: &[i32]| {
        rows.iter().map(|&r| (offsets[r as usize + 1] - offsets[r as usize]) as usize + size_of::<i32>()).sum()
    };
    Ok(match array.data_type() {
        DataType::Boolean => rows.len().div_ceil(8),
        DataType::Utf8 => varying(array.as_string::<i32>().value_offsets()),
        DataType::Binary => varying(array.as_binary::<i32>().value_offsets()),
        DataType::FixedSizeBinary(width) => rows.len() * *width as usize,
        ty => match ty.primitive_width() {
            Some(width) => rows.len() * width,
            None => return Err(Error::Schema(format!("rows of a column of {ty} cannot be taken"))),
        },
    })
}

/// What the guest could not take is not made.
fn fits(bytes: usize, cap: usize) -> Result<(), Error> {
    if bytes > cap {
        return Err(Error::Quota(format!("it would take {bytes} bytes, the memory has {cap} (`limits.memory_bytes`)")));
    }
    Ok(())
}

/// Bytes of names and metadata.
fn schema_bytes(schema: &arrow_schema::Schema) -> usize {
    let pairs =
        |of: &std::collections::HashMap<String, String>| -> usize { of.iter().map(|(k, v)| k.len() + v.len()).sum() };
    schema.fields().iter().map(|f| f.name().len() + pairs(f.metadata())).sum::<usize>() + pairs(schema.metadata())
}

pub(super) fn schema_too_large() -> Error {
    Error::Quota(format!("names and metadata of a batch's columns are more than {SCHEMA_BYTES} bytes"))
}

fn other(e: ArrowError) -> Error {
    Error::Other(e.to_string())
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
