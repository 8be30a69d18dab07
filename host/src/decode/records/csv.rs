//! One line of CSV (RFC 4180, without line breaks inside quotes: a frame is a line).

use super::BadLine;
use super::column::{Column, Line, Scalar};
use crate::decode::stats::Refusal;
use std::borrow::Cow;

/// The fields of a line.
pub(in crate::decode) struct Fields<'a> {
    rest: Option<&'a str>,
    delimiter: u8,
}

impl<'a> Fields<'a> {
    pub fn new(line: &'a str, delimiter: u8) -> Self {
        Self { rest: Some(line), delimiter }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Cow<'a, str>;

    fn next(&mut self) -> Option<Cow<'a, str>> {
        let rest = self.rest.take()?;
        let Some(quoted) = rest.strip_prefix('"') else {
            return Some(match rest.bytes().position(|b| b == self.delimiter) {
                Some(at) => {
                    self.rest = Some(&rest[at + 1..]);
                    Cow::Borrowed(&rest[..at])
                }
                None => Cow::Borrowed(rest),
            });
        };
        let mut field = String::new();
        let mut rest = quoted;
        loop {
            let (part, after) = rest.split_once('"').unwrap_or((rest, ""));
            field.push_str(part);
            rest = after;
            match rest.strip_prefix('"') {
                Some(after) => {
                    field.push('"');
                    rest = after;
                }
                None => break,
            }
        }
        // What stands between the closing quote and the delimiter belongs to nothing.
        self.rest = rest.bytes().position(|b| b == self.delimiter).map(|at| &rest[at + 1..]);
        Some(Cow::Owned(field))
    }
}

/// Fills `line` from a line of text.
pub(super) fn read(text: &str, delimiter: u8, header: &[Option<Column>], line: &mut Line) -> Result<(), BadLine> {
    let mut count = 0;
    for field in Fields::new(text, delimiter) {
        if let Some(Some(column)) = header.get(count) {
            line.set(*column, Scalar::Text(&field))?;
        }
        count += 1;
    }
    if count != header.len() {
        let text = format!("{count} fields, the header has {}", header.len());
        return Err(BadLine { why: Refusal::FieldCount, text });
    }
    Ok(())
}
