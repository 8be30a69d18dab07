//! Which rows count. In: conditions of the operator, columns of a batch. Out: yes or no, row by row. Refused: patterns that are
//! no regular expressions, with what is wrong with them.

use crate::fold::{Kind, Value};
use kaminari_plugin_sdk::prelude::*;
use kaminari_plugin_sdk::{BytesColumn, Column};
use regex::bytes::{Regex, RegexBuilder};
use std::cell::RefCell;
use std::rc::Rc;

/// Bytes that a compiled pattern may take.
const PATTERN_BYTES: usize = 1 << 20;

/// A regular expression over bytes; `\d`, `\w` and `\s` are ASCII.
pub struct Pattern(Regex);

impl Pattern {
    pub fn new(at: &str, pattern: &str) -> Result<Self> {
        let regex = RegexBuilder::new(pattern).unicode(false).size_limit(PATTERN_BYTES).build();
        regex.map(Self).map_err(|e| error::config(at, e.to_string()))
    }

    /// One with a group.
    pub fn capturing(at: &str, pattern: &str) -> Result<Self> {
        let this = Self::new(at, pattern)?;
        if this.0.captures_len() < 2 {
            return Err(error::config(at, "it needs a group: (...) around what is the entity"));
        }
        Ok(this)
    }

    /// What the first group that took part in the first match has.
    pub fn first_group<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let captures = self.0.captures(text)?;
        captures.iter().skip(1).flatten().next().map(|group| group.as_bytes())
    }
}

pub enum Condition {
    Matches(Pattern),
    Equals(Vec<String>),
    Number { above: Option<f64>, below: Option<f64> },
}

pub struct Rule {
    pub column: String,
    pub condition: Condition,
}

/// A rule with its column.
pub enum Bound<'r> {
    Text(&'r Condition, Rc<BytesColumn>),
    Number(Option<f64>, Option<f64>, Column<f64>),
}

impl Bound<'_> {
    pub fn holds(&self, row: usize) -> bool {
        match self {
            Bound::Text(Condition::Matches(pattern), column) => pattern.0.is_match(column.get(row).unwrap_or_default()),
            Bound::Text(Condition::Equals(texts), column) => {
                let text = column.get(row).unwrap_or_default();
                texts.iter().any(|t| t.as_bytes() == text)
            }
            Bound::Text(Condition::Number { .. }, _) => false,
            Bound::Number(above, below, column) => {
                let x = column[row];
                // Not a number is neither.
                above.is_none_or(|limit| x > limit) && below.is_none_or(|limit| x < limit)
            }
        }
    }
}

/// Columns of a batch, each of text copied in once.
pub struct Columns<'b> {
    batch: &'b Batch,
    texts: RefCell<Vec<(String, Rc<BytesColumn>)>>,
}

impl<'b> Columns<'b> {
    pub fn new(batch: &'b Batch) -> Self {
        Self { batch, texts: RefCell::default() }
    }

    pub fn bytes(&self, name: &str) -> Result<Rc<BytesColumn>> {
        if let Some((_, column)) = self.texts.borrow().iter().find(|(n, _)| n == name) {
            return Ok(column.clone());
        }
        let column = Rc::new(self.batch.bytes(name)?);
        self.texts.borrow_mut().push((name.to_owned(), column.clone()));
        Ok(column)
    }

    pub fn bind<'r>(&self, rules: &'r [Rule]) -> Result<Vec<Bound<'r>>> {
        let bind = |rule: &'r Rule| {
            Ok(match &rule.condition {
                Condition::Number { above, below } => Bound::Number(*above, *below, self.batch.f64s(&rule.column)?),
                condition => Bound::Text(condition, self.bytes(&rule.column)?),
            })
        };
        rules.iter().map(bind).collect()
    }

    /// What a feature looks at.
    pub fn value(&self, of: Kind, column: Option<&str>) -> Result<Value> {
        let Some(name) = column else { return Ok(Value::Row) };
        let numeric = self.batch.schema().field(name).is_some_and(|f| f.ty.is_numeric());
        Ok(match of {
            Kind::Distinct if !numeric => Value::Text(self.bytes(name)?),
            _ => Value::Number(self.batch.f64s(name)?),
        })
    }
}
