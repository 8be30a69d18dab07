//! One line of JSON: an object whose known keys fill a record as they come, without a tree in between.

use super::BadLine;
use super::column::{Column, Line, Scalar};
use crate::decode::stats::Refusal;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Fills `line`; `column` tells what a key stands for.
pub(super) fn read(bytes: &[u8], line: &mut Line, column: impl Fn(&str) -> Option<Column>) -> Result<(), BadLine> {
    let mut bad_field = None;
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let object = Object { line, column, bad_field: &mut bad_field };
    let read = json.deserialize_map(object).and_then(|()| json.end());
    match (bad_field, read) {
        (Some(bad), _) => Err(bad),
        (None, Err(error)) => Err(BadLine { why: Refusal::BadLine, text: format!("no JSON object: {error}") }),
        (None, Ok(())) => Ok(()),
    }
}

struct Object<'l, F> {
    line: &'l mut Line,
    column: F,
    bad_field: &'l mut Option<BadLine>,
}

impl<'de, F: Fn(&str) -> Option<Column>> Visitor<'de> for Object<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Text)? {
            let Some(column) = (self.column)(&key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let set = map.next_value_seed(Value(|value: Scalar<'_>| self.line.set(column, value)))?;
            if let Err(bad) = set {
                *self.bad_field = Some(bad);
                return Err(A::Error::custom("a field cannot be read"));
            }
        }
        Ok(())
    }
}

/// A string, borrowed where it has no escapes.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_borrowed_str<E>(self, s: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(s))
    }
    fn visit_str<E>(self, s: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(s.to_owned()))
    }
}

/// A value, handed to a function while it is still in the input. `null`, objects and lists are absent values.
struct Value<F>(F);

impl<'de, F: FnOnce(Scalar<'_>) -> Result<(), BadLine>> DeserializeSeed<'de> for Value<F> {
    type Value = Result<(), BadLine>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de, F: FnOnce(Scalar<'_>) -> Result<(), BadLine>> Visitor<'de> for Value<F> {
    type Value = Result<(), BadLine>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_u64<E>(self, n: u64) -> Result<Self::Value, E> {
        Ok((self.0)(Scalar::Integer(n)))
    }
    fn visit_i64<E>(self, n: i64) -> Result<Self::Value, E> {
        Ok((self.0)(Scalar::Float(n as f64)))
    }
    fn visit_f64<E>(self, n: f64) -> Result<Self::Value, E> {
        Ok((self.0)(Scalar::Float(n)))
    }
    fn visit_bool<E>(self, b: bool) -> Result<Self::Value, E> {
        Ok((self.0)(Scalar::Integer(u64::from(b))))
    }
    fn visit_str<E>(self, s: &str) -> Result<Self::Value, E> {
        Ok((self.0)(Scalar::Text(s)))
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Ok(()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Ok(()))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Ok(()))
    }
}
