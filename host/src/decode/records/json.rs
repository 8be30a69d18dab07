//! One object of JSON, whose known keys fill a record as they come, without a tree in between.

use super::BadLine;
use super::column::{Column, Line, Scalar};
use crate::decode::json::{Invalid, Keys, Scanner, Value};
use crate::decode::stats::Refusal;

impl From<Invalid> for BadLine {
    fn from(invalid: Invalid) -> Self {
        BadLine { why: Refusal::BadLine, text: format!("no JSON object: {}", invalid.0) }
    }
}

/// Fills `line` from the object at hand, the only one of its line. `null`, objects and lists are absent values.
pub(super) fn read(scanner: &mut Scanner<'_>, keys: &mut Keys<Column>, line: &mut Line) -> Result<(), BadLine> {
    scanner.object(keys, |column, value| {
        let scalar = match value {
            Value::Text(text) => Scalar::Text(std::str::from_utf8(text).map_err(|_| Invalid("a string is not UTF-8"))?),
            Value::Integer(n) => Scalar::Integer(n),
            Value::Float(x) => Scalar::Float(x),
            Value::Bool(b) => Scalar::Integer(u64::from(b)),
            Value::Null | Value::List(_) | Value::Object => return Ok(()),
        };
        line.set(column, scalar)
    })?;
    Ok(scanner.end_of_line()?)
}
