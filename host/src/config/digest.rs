//! The plan's digest: the files' merged tables with keys sorted and comments, order and file borders gone. What an
//! incident names so that it can be reproduced.

use sha2::{Digest, Sha256};
use std::fmt::Write;
use toml::{Table, Value};

/// `sha256:` and 64 hex digits.
pub(super) fn digest(merged: &Table) -> String {
    let mut text = String::new();
    table(merged, &mut text);
    let hash = Sha256::digest(text.as_bytes());
    hash.iter().fold(String::from("sha256:"), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a String takes any text");
        out
    })
}

/// Sorted here, whatever order [`Table`] keeps (that depends on a feature any crate may switch on).
fn table(table: &Table, out: &mut String) {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    out.push('{');
    for (key, below) in entries {
        write!(out, "{key:?}:").expect("a String takes any text");
        value(below, out);
        out.push(',');
    }
    out.push('}');
}

fn value(value_: &Value, out: &mut String) {
    match value_ {
        Value::Table(below) => table(below, out),
        Value::Array(array) => {
            out.push('[');
            for below in array {
                value(below, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::String(text) => write!(out, "{text:?}").expect("a String takes any text"),
        Value::Float(number) => write!(out, "{number:?}").expect("a String takes any text"),
        other => write!(out, "{other}").expect("a String takes any text"),
    }
}
