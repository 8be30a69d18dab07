//! Rows of a batch as JSON, for what sources and extractors make.

use super::expected::rounded;
use crate::model::{Addr, time};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use serde_json::{Map, Value};

/// Every row: columns by name, absent values left out.
pub fn rows(batch: &RecordBatch) -> Vec<Map<String, Value>> {
    let schema = batch.schema();
    let columns: Vec<_> = schema.fields().iter().zip(batch.columns()).collect();
    let row = |row: usize| {
        let present = columns.iter().filter(|(_, column)| column.is_valid(row));
        present.map(|(field, column)| (field.name().clone(), value(column.as_ref(), row))).collect()
    };
    (0..batch.num_rows()).map(row).collect()
}

fn value(column: &dyn Array, row: usize) -> Value {
    match column.data_type() {
        DataType::Float64 => rounded(column.as_primitive::<Float64Type>().value(row)),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Binary => hex(column.as_binary::<i32>().value(row)),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let ns = column.as_primitive::<TimestampNanosecondType>().value(row);
            u64::try_from(ns).map_or(ns.into(), |ns| time::rfc3339(ns).into())
        }
        DataType::FixedSizeBinary(16) => {
            let bytes = column.as_fixed_size_binary().value(row);
            bytes.try_into().map_or_else(|_| hex(bytes), |bytes| Addr(bytes).to_string().into())
        }
        // The contract has no more types.
        other => other.to_string().into(),
    }
}

fn hex(bytes: &[u8]) -> Value {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
