//! What a feature keeps while rows go by.

use kaminari_plugin_sdk::prelude::*;
use kaminari_plugin_sdk::{BytesColumn, Column};
use std::collections::HashSet;
use std::rc::Rc;

config! {
    /// What is made of the rows.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[serde(rename_all = "snake_case")]
    pub enum Kind { Count, Rate, Sum, Mean, Min, Max, First, Last, Distinct }
}

impl Kind {
    pub fn needs_column(self) -> bool {
        !matches!(self, Kind::Count | Kind::Rate)
    }
}

/// What is looked at in each row.
pub enum Value {
    Row,
    Number(Column<f64>),
    Text(Rc<BytesColumn>),
}

/// One feature of one entity.
#[derive(Clone, Debug)]
pub struct Fold {
    kind: Kind,
    rows: u64,
    number: f64,
    seen: HashSet<Vec<u8>>,
}

impl Fold {
    pub fn new(kind: Kind) -> Self {
        Self { kind, rows: 0, number: 0.0, seen: HashSet::new() }
    }

    pub fn add(&mut self, value: &Value, row: usize) {
        let x = match value {
            Value::Row => 0.0,
            Value::Text(column) => {
                let text = column.get(row).unwrap_or_default();
                if !text.is_empty() && !self.seen.contains(text) {
                    self.seen.insert(text.to_vec());
                }
                self.rows += 1;
                return;
            }
            // An absent value is no value.
            Value::Number(column) if column[row].is_nan() => return,
            Value::Number(column) => column[row],
        };
        let first = self.rows == 0;
        self.rows += 1;
        self.number = match self.kind {
            Kind::Sum | Kind::Mean => self.number + x,
            Kind::Min if !first => self.number.min(x),
            Kind::Max if !first => self.number.max(x),
            Kind::First if !first => self.number,
            Kind::Distinct => {
                self.seen.insert(x.to_bits().to_le_bytes().to_vec());
                0.0
            }
            _ => x,
        };
    }

    /// NaN: there was no value.
    pub fn value(&self, seconds: f64) -> f64 {
        match self.kind {
            Kind::Count => self.rows as f64,
            Kind::Rate => self.rows as f64 / seconds,
            Kind::Distinct => self.seen.len() as f64,
            Kind::Sum => self.number,
            _ if self.rows == 0 => f64::NAN,
            Kind::Mean => self.number / self.rows as f64,
            Kind::Min | Kind::Max | Kind::First | Kind::Last => self.number,
        }
    }
}
