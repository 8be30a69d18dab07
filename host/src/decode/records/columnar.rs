//! Rows in columns: batches that a Parquet source hands on as Arrow IPC streams, value by value.

use super::column::Scalar;
use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};

/// The batches of one frame.
pub(in crate::decode) fn batches(bytes: &[u8]) -> Result<Vec<RecordBatch>, String> {
    let reader = arrow_ipc::reader::StreamReader::try_new(bytes, None).map_err(|e| e.to_string())?;
    reader.collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// One value. Null and types that no field has (lists, structs) are absent values.
pub(in crate::decode) fn scalar(array: &ArrayRef, row: usize) -> Scalar<'_> {
    const ABSENT: Scalar<'_> = Scalar::Text("");
    if array.is_null(row) {
        return ABSENT;
    }
    let signed = |n: i64| u64::try_from(n).map_or(Scalar::Float(n as f64), Scalar::Integer);
    macro_rules! value {
        ($t:ty) => {
            array.as_primitive::<$t>().value(row)
        };
    }
    match array.data_type() {
        DataType::UInt8 => Scalar::Integer(value!(UInt8Type).into()),
        DataType::UInt16 => Scalar::Integer(value!(UInt16Type).into()),
        DataType::UInt32 => Scalar::Integer(value!(UInt32Type).into()),
        DataType::UInt64 => Scalar::Integer(value!(UInt64Type)),
        DataType::Int8 => signed(value!(Int8Type).into()),
        DataType::Int16 => signed(value!(Int16Type).into()),
        DataType::Int32 => signed(value!(Int32Type).into()),
        DataType::Int64 => signed(value!(Int64Type)),
        DataType::Float32 => Scalar::Float(value!(Float32Type).into()),
        DataType::Float64 => Scalar::Float(value!(Float64Type)),
        DataType::Boolean => Scalar::Integer(array.as_boolean().value(row).into()),
        DataType::Utf8 => Scalar::Text(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Scalar::Text(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Scalar::Text(array.as_string_view().value(row)),
        DataType::Binary => std::str::from_utf8(array.as_binary::<i32>().value(row)).map_or(ABSENT, Scalar::Text),
        DataType::Timestamp(unit, _) => {
            let (n, nanos) = match unit {
                TimeUnit::Second => (value!(TimestampSecondType), 1_000_000_000),
                TimeUnit::Millisecond => (value!(TimestampMillisecondType), 1_000_000),
                TimeUnit::Microsecond => (value!(TimestampMicrosecondType), 1_000),
                TimeUnit::Nanosecond => (value!(TimestampNanosecondType), 1),
            };
            u64::try_from(n).ok().and_then(|n| n.checked_mul(nanos)).map_or(ABSENT, Scalar::Nanos)
        }
        _ => ABSENT,
    }
}
