//! Batches that a plugin builds. Comes in: columns of flat values; goes out: an Arrow batch, or a complaint about the
//! column that does not fit.

use super::batch::{Account, Batch, Charge, schema_too_large};
use super::bindings::kaminari::plugin::common::{BytesColumn, DataType as Type, Error, Field, Schema};
use super::limits::{NAME_BYTES, SCHEMA_BYTES};
use super::services::cut;
use arrow_array::types::{Float64Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, RecordBatch,
    RecordBatchOptions, StringArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use std::sync::Arc;

/// Columns of one batch: the contract names no more than a schema of a few dozen.
const MAX_COLUMNS: usize = 1024;

/// Columns that a message names.
const MAX_TOLD: usize = 32;

/// What stands behind a `batch-builder` handle.
pub struct Builder {
    schema: Schema,
    columns: Vec<Option<ArrayRef>>,
    validity: Vec<Option<Vec<u8>>>,
    charges: Vec<Arc<Charge>>,
    account: Account,
    /// Its schema was too large, and is not kept.
    too_large: bool,
}

impl Builder {
    /// For a batch of that schema.
    pub fn new(schema: Schema, account: &Account) -> Self {
        let too_large = bytes(&schema) > SCHEMA_BYTES;
        let schema = if too_large { Schema { fields: Vec::new(), metadata: Vec::new() } } else { schema };
        let columns = schema.fields.len().min(MAX_COLUMNS);
        Self {
            too_large,
            columns: vec![None; columns],
            validity: vec![None; columns],
            schema,
            charges: Vec::new(),
            account: account.clone(),
        }
    }

    fn field(&self, column: u32) -> Result<&Field, Error> {
        if self.too_large {
            return Err(schema_too_large());
        }
        let inside = (column as usize) < self.columns.len();
        self.schema.fields.get(column as usize).filter(|_| inside).ok_or_else(|| Error::NotFound(no_column(column)))
    }

    fn put(&mut self, column: u32, array: ArrayRef) -> Result<(), Error> {
        self.charges.push(self.account.charge(array.get_array_memory_size())?);
        self.columns[column as usize] = Some(array);
        Ok(())
    }

    /// A column of `float64`, or of `boolean` (true where not 0).
    pub fn put_f64s(&mut self, column: u32, values: Vec<f64>) -> Result<(), Error> {
        let array: ArrayRef = match self.field(column)?.ty {
            Type::Float64 => primitive::<Float64Type>(values),
            Type::Boolean => Arc::new(BooleanArray::from_iter(values.iter().map(|x| Some(*x != 0.0)))),
            _ => return Err(mismatch(self.field(column)?, "f64s")),
        };
        self.put(column, array)
    }

    /// A column of `uint64`, `timestamp-ns` or `boolean`.
    pub fn put_u64s(&mut self, column: u32, values: Vec<u64>) -> Result<(), Error> {
        let array: ArrayRef = match self.field(column)?.ty {
            Type::Uint64 => primitive::<UInt64Type>(values),
            Type::TimestampNs => {
                let signed = values.into_iter().map(|x| i64::try_from(x).unwrap_or(i64::MAX)).collect::<Vec<_>>();
                primitive::<TimestampNanosecondType>(signed)
            }
            Type::Boolean => Arc::new(BooleanArray::from_iter(values.iter().map(|x| Some(*x != 0)))),
            _ => return Err(mismatch(self.field(column)?, "u64s")),
        };
        self.put(column, array)
    }

    /// A column of `int64` or `timestamp-ns`.
    pub fn put_s64s(&mut self, column: u32, values: Vec<i64>) -> Result<(), Error> {
        let array = match self.field(column)?.ty {
            Type::Int64 => primitive::<Int64Type>(values),
            Type::TimestampNs => primitive::<TimestampNanosecondType>(values),
            _ => return Err(mismatch(self.field(column)?, "s64s")),
        };
        self.put(column, array)
    }

    /// A column of `utf8`, `binary` or `ip`.
    pub fn put_bytes(&mut self, column: u32, values: BytesColumn) -> Result<(), Error> {
        let field = self.field(column)?;
        let bad = |e: String| Error::Schema(format!("column `{}`: {e}", field.name));
        let data = Buffer::from(values.data);
        let array: ArrayRef = if field.ty == Type::Ip {
            let sixteen_each = values.ends.iter().enumerate().all(|(i, &end)| end as usize == (i + 1) * 16);
            if !sixteen_each {
                return Err(bad("addresses are 16 bytes each (IPv4 mapped)".into()));
            }
            Arc::new(FixedSizeBinaryArray::try_new(16, data, None).map_err(|e| bad(e.to_string()))?)
        } else {
            let rising = values.ends.is_sorted() && values.ends.last().map_or(0, |&e| e as usize) <= data.len();
            if !rising || i32::try_from(data.len()).is_err() {
                return Err(bad("`ends` must rise and stay within the data".into()));
            }
            let offsets: Vec<i32> = std::iter::once(0).chain(values.ends.iter().map(|&e| e as i32)).collect();
            let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
            match field.ty {
                Type::Utf8 => Arc::new(StringArray::try_new(offsets, data, None).map_err(|e| bad(e.to_string()))?),
                Type::Binary => Arc::new(BinaryArray::try_new(offsets, data, None).map_err(|e| bad(e.to_string()))?),
                _ => return Err(mismatch(field, "bytes")),
            }
        };
        self.put(column, array)
    }

    /// Which values of a column are present (LSB first).
    pub fn put_validity(&mut self, column: u32, bits: Vec<u8>) -> Result<(), Error> {
        self.field(column)?;
        self.charges.push(self.account.charge(bits.len())?);
        self.validity[column as usize] = Some(bits);
        Ok(())
    }

    /// A column of another batch, shared.
    pub fn put_column(&mut self, column: u32, source: &Batch, source_column: u32) -> Result<(), Error> {
        let field = self.field(column)?;
        let array = source.batch.columns().get(source_column as usize);
        let array = array.ok_or_else(|| Error::NotFound(no_column(source_column)))?.clone();
        if *array.data_type() != arrow_type(field.ty) {
            return Err(mismatch(field, &array.data_type().to_string()));
        }
        self.charges.extend(source.charges.iter().cloned());
        self.columns[column as usize] = Some(array);
        Ok(())
    }

    /// The batch, if every column is there and of one length.
    pub fn finish(self) -> Result<Batch, Error> {
        let mut fields = Vec::with_capacity(self.columns.len());
        let mut arrays = Vec::with_capacity(self.columns.len());
        if self.too_large {
            return Err(schema_too_large());
        }
        if self.schema.fields.len() > MAX_COLUMNS {
            return Err(Error::Quota(format!("a batch has at most {MAX_COLUMNS} columns")));
        }
        for ((field, array), bits) in self.schema.fields.iter().zip(self.columns).zip(self.validity) {
            let array = array.ok_or_else(|| Error::Schema(format!("column `{}` was not put", field.name)))?;
            fields.push(arrow_schema::Field::new(&field.name, arrow_type(field.ty), field.nullable));
            arrays.push(match bits {
                Some(bits) => with_validity(array, bits, &field.name)?,
                None => array,
            });
        }
        let schema = arrow_schema::Schema::new_with_metadata(fields, self.schema.metadata.into_iter().collect());
        let batch = RecordBatch::try_new(Arc::new(schema), arrays).map_err(|e| Error::Schema(e.to_string()))?;
        Ok(Batch { batch, charges: self.charges, frame_row: None })
    }
}

fn bytes(schema: &Schema) -> usize {
    let metadata = schema.metadata.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    schema.fields.iter().map(|f| f.name.len()).sum::<usize>() + metadata
}

/// A schema of the contract in Arrow's words. Refused: two columns of one name, too many columns, too long names.
pub(super) fn arrow_schema(schema: Schema) -> Result<arrow_schema::Schema, String> {
    if schema.fields.len() > MAX_COLUMNS {
        return Err(format!("a schema of {} columns; at most {MAX_COLUMNS} are allowed", schema.fields.len()));
    }
    if bytes(&schema) > SCHEMA_BYTES {
        return Err(format!("names and metadata of its columns are more than {SCHEMA_BYTES} bytes"));
    }
    for (i, field) in schema.fields.iter().enumerate() {
        if schema.fields[..i].iter().any(|f| f.name == field.name) {
            return Err(format!("a schema with two columns `{}`", field.name));
        }
    }
    let fields = schema.fields.iter().map(|f| arrow_schema::Field::new(&f.name, arrow_type(f.ty), f.nullable));
    Ok(arrow_schema::Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata.into_iter().collect()))
}

/// The same rows with exactly this schema, so that batches of several calls go together. `Err`: why they do not have it.
pub(super) fn with_schema(rows: RecordBatch, wanted: &SchemaRef) -> Result<RecordBatch, String> {
    let (has, want) = (rows.schema_ref().fields(), wanted.fields());
    let same = has.len() == want.len()
        && has.iter().zip(want).all(|(h, w)| h.name() == w.name() && h.data_type() == w.data_type());
    if !same {
        return Err(format!("the columns {} instead of {}", names(rows.schema_ref()), names(wanted)));
    }
    let count = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let columns = rows.columns().to_vec();
    RecordBatch::try_new_with_options(wanted.clone(), columns, &count).map_err(|e| e.to_string())
}

/// For a message: not all of a thousand.
fn names(schema: &arrow_schema::Schema) -> String {
    let fields = schema.fields().iter().map(|f| format!("{} {}", cut(f.name(), NAME_BYTES), f.data_type()));
    let more = schema.fields().len().saturating_sub(MAX_TOLD);
    let mut told = fields.take(MAX_TOLD).collect::<Vec<_>>().join(", ");
    if more > 0 {
        told.push_str(&format!(" and {more} more"));
    }
    told
}

fn primitive<T: ArrowPrimitiveType>(values: Vec<T::Native>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(values.into(), None))
}

fn with_validity(array: ArrayRef, bits: Vec<u8>, name: &str) -> Result<ArrayRef, Error> {
    if bits.len() != array.len().div_ceil(8) {
        return Err(Error::Schema(format!(
            "column `{name}`: the validity has {} bytes for {} values",
            bits.len(),
            array.len()
        )));
    }
    let nulls = NullBuffer::new(BooleanBuffer::new(bits.into(), 0, array.len()));
    let data = array.to_data().into_builder().nulls(Some(nulls)).build();
    data.map(arrow_array::make_array).map_err(|e| Error::Schema(e.to_string()))
}

fn arrow_type(ty: Type) -> DataType {
    match ty {
        Type::Boolean => DataType::Boolean,
        Type::Int64 => DataType::Int64,
        Type::Uint64 => DataType::UInt64,
        Type::Float64 => DataType::Float64,
        Type::Utf8 => DataType::Utf8,
        Type::Binary => DataType::Binary,
        Type::Ip => DataType::FixedSizeBinary(16),
        Type::TimestampNs => DataType::Timestamp(TimeUnit::Nanosecond, None),
    }
}

fn no_column(column: u32) -> String {
    format!("no column {column}")
}

fn mismatch(field: &Field, put: &str) -> Error {
    Error::Schema(format!("column `{}` is declared {:?}, not {put}", field.name, field.ty))
}
