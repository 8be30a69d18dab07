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
mod tests {
    use super::*;
    use crate::plugin::bindings::kaminari::plugin::common::BytesColumn;
    use crate::plugin::builder::Builder;
    use arrow_array::{
        ArrayRef, BooleanArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int64Array, StringArray, UInt16Array,
    };

    fn batch() -> Batch {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("f", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(-2.5)]))),
            ("i", Arc::new(Int64Array::from(vec![-1, 0, i64::MAX]))),
            ("p", Arc::new(UInt16Array::from(vec![1, 2, 3]))),
            ("b", Arc::new(BooleanArray::from(vec![true, false, true]))),
            ("s", Arc::new(StringArray::from(vec!["a", "", "ccc"]))),
            ("x", Arc::new(Float32Array::from(vec![0.5, 1.0, 2.0]))),
            ("a", Arc::new(FixedSizeBinaryArray::try_from_iter([[1u8; 16], [2; 16], [3; 16]].iter()).unwrap())),
        ];
        Batch::lent(RecordBatch::try_from_iter(columns).unwrap())
    }

    #[test]
    fn numbers_are_cast_and_nulls_have_a_value() {
        let b = batch();
        let f = b.f64s(0).unwrap();
        assert!(f[0] == 1.5 && f[1].is_nan() && f[2] == -2.5);
        assert_eq!((&*b.u64s(0).unwrap(), &*b.s64s(0).unwrap()), (&[1u64, 0, 0][..], &[1i64, 0, -2][..]));
        assert_eq!(&*b.u64s(1).unwrap(), [0, 0, i64::MAX as u64]);
        assert_eq!(&*b.f64s(2).unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(&*b.f64s(3).unwrap(), [1.0, 0.0, 1.0]);
        assert_eq!(&*b.f64s(5).unwrap(), [0.5, 1.0, 2.0]);
        assert_eq!(b.block_f64(&[2, 3], 48).unwrap(), [1.0, 2.0, 3.0, 1.0, 0.0, 1.0]);
        assert_eq!((b.validity(0), b.validity(1)), (Some(vec![0b101]), None));
        assert!(matches!(b.f64s(4), Err(Error::Schema(_))) && matches!(b.f64s(9), Err(Error::NotFound(_))));
        assert!(b.block_f64(&[2; 8], 1 << 20).is_err(), "no amplification");
        assert!(matches!(b.block_f64(&[2, 3], 47), Err(Error::Quota(_))), "more than the guest can take");
    }

    #[test]
    fn text_and_addresses_also_of_a_slice() {
        let b = batch().slice(1, 100);
        assert_eq!(b.batch.num_rows(), 2);
        let (ends, data) = b.bytes(4).unwrap();
        assert_eq!((&*ends, data.as_slice()), (&[0u32, 3][..], &b"ccc"[..]));
        let (ends, data) = b.bytes(6).unwrap();
        assert_eq!((&*ends, data[0], data.len()), (&[16u32, 32][..], 2, 32));
        assert_eq!(b.schema().fields[6].ty, Type::Ip);
        assert_eq!(batch().slice(7, 1).batch.num_rows(), 0);
    }

    #[test]
    fn derived_batches_are_bounded_and_paid_for() {
        let account = Account::default();
        let owed = || account.0.load(Ordering::Relaxed);
        let b = batch();
        let taken = b.take(&[2, 2, 0], &account).unwrap();
        assert_eq!(&*taken.s64s(1).unwrap(), [i64::MAX, i64::MAX, -1]);
        assert!(owed() > 0);
        let slice = taken.slice(0, 1);
        drop(taken);
        assert!(owed() > 0, "the slice keeps the memory");
        drop(slice);
        assert_eq!(owed(), 0);
        assert!(matches!(b.take(&[0; 4], &account), Err(Error::Quota(_))));
        assert!(matches!(b.take(&[3], &account), Err(Error::NotFound(_))));
        assert!(matches!(account.charge(HOST_BYTES + 1), Err(Error::Quota(_))));
        assert_eq!(owed(), 0, "what was refused is not owed");
        assert_eq!(b.select(&[2, 0]).unwrap().schema().fields[0].name, "p");
        assert!(b.select(&[7]).is_err());
    }

    #[test]
    fn ipc_goes_there_and_back_and_rubbish_is_refused() {
        let account = Account::default();
        let bytes = batch().to_ipc(1 << 20).unwrap();
        assert!(matches!(batch().to_ipc(100), Err(Error::Quota(_))), "more than the guest can take");
        assert_eq!(Batch::from_ipc(&bytes, &account).unwrap().batch, batch().batch);
        for cut in (0..bytes.len() - 16).step_by(37) {
            let mut damaged = bytes.clone();
            damaged[cut] ^= 0xff;
            let _ = Batch::from_ipc(&damaged, &account);
            assert!(Batch::from_ipc(&bytes[..cut], &account).map_or(true, |b| b.batch.num_rows() == 0));
        }
    }

    #[test]
    fn an_ipc_stream_is_not_believed_its_lengths() {
        let account = Account::default();
        // A message of 4 GiB, of which 8 bytes are there.
        let message = [&[0xff; 4][..], &[0xf8, 0xff, 0xff, 0xff], &[0; 8]].concat();
        assert!(Batch::from_ipc(&message, &account).is_err());
        // Every length in a good stream, made huge: nothing may be reserved for it.
        let bytes = batch().to_ipc(1 << 20).unwrap();
        for at in (0..bytes.len() - 8).step_by(4) {
            for huge in [i64::MAX, 1 << 46, -1] {
                let mut damaged = bytes.clone();
                damaged[at..at + 8].copy_from_slice(&huge.to_le_bytes());
                let _ = Batch::from_ipc(&damaged, &account);
            }
        }
        // Rows that take no bytes.
        let nothing: ArrayRef = Arc::new(arrow_array::NullArray::new(1 << 30));
        let bytes = Batch::lent(RecordBatch::try_from_iter([("n", nothing)]).unwrap()).to_ipc(1 << 20).unwrap();
        let Err(Error::Other(text)) = Batch::from_ipc(&bytes, &account) else { panic!("refused") };
        assert!(text.starts_with("1073741824 rows in "), "{text}");
        assert_eq!(account.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_kept_of_a_lent_batch_counts() {
        let account = Account::default();
        let loan = account.loan();
        let lent = Batch::on_loan(batch().batch, loan.clone());
        let view = lent.slice(0, 1);
        drop(lent);
        assert_eq!((Arc::strong_count(&loan), account.0.load(Ordering::Relaxed)), (2, 0));
        loan.kept(HOST_BYTES).unwrap();
        let Err(text) = account.loan().kept(1) else { panic!("refused") };
        assert!(text.contains("keeps parts of batches"), "{text}");
        drop((view, loan));
        assert_eq!(account.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_builder_checks_lengths_and_types() {
        let account = Account::default();
        let field = |name: &str, ty| Field { name: name.into(), ty, nullable: true };
        let schema = || Schema {
            fields: vec![field("f", Type::Float64), field("s", Type::Utf8), field("p", Type::Uint64)],
            metadata: vec![],
        };
        let text = |ends: Vec<u32>, data: &[u8]| BytesColumn { ends, data: data.to_vec() };
        let mut b = Builder::new(schema(), &account);
        b.put_f64s(0, vec![1.0, 2.0]).unwrap();
        assert!(matches!(b.put_u64s(0, vec![1]), Err(Error::Schema(_))), "declared f64");
        assert!(matches!(b.put_f64s(3, vec![1.0]), Err(Error::NotFound(_))));
        assert!(b.put_bytes(1, text(vec![2, 1], b"ab")).is_err(), "ends must rise");
        assert!(b.put_bytes(1, text(vec![1, 9], b"ab")).is_err(), "ends within the data");
        assert!(b.put_bytes(1, text(vec![1, 2], b"\xff\xff")).is_err(), "not text");
        b.put_bytes(1, text(vec![1, 2], b"ab")).unwrap();
        b.put_validity(0, vec![0b01]).unwrap();
        b.put_u64s(2, vec![7, 8]).unwrap();
        let built = b.finish().unwrap();
        assert!(built.f64s(0).unwrap()[1].is_nan());

        let mut b = Builder::new(schema(), &account);
        b.put_f64s(0, vec![1.0]).unwrap();
        b.put_bytes(1, text(vec![1, 2], b"ab")).unwrap();
        assert!(b.put_column(2, &built, 1).is_err(), "another type");
        b.put_column(2, &built, 2).unwrap();
        assert!(matches!(b.finish(), Err(Error::Schema(_))), "lengths differ");
        assert!(matches!(Builder::new(schema(), &account).finish(), Err(Error::Schema(_))), "nothing put");

        let long = Schema { fields: vec![field(&"x".repeat(SCHEMA_BYTES + 1), Type::Float64)], metadata: vec![] };
        let mut b = Builder::new(long, &account);
        assert!(matches!(b.put_f64s(0, vec![1.0]), Err(Error::Quota(_))), "names are memory of the host");
        assert!(matches!(b.finish(), Err(Error::Quota(_))));
    }
}
