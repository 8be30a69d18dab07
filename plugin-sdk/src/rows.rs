use crate::batch::{Batch, BytesColumn, DataType, Memory, Schema, Values};
use crate::error::{Result, other};
use std::net::IpAddr;

/// Rows that a plugin makes, column by column. Values are put by the position of their column; what a row was not given is
/// absent. A value of another type than its column has is a mistake of the plugin, told by [`Rows::check`].
#[derive(Debug)]
pub struct Rows {
    schema: Schema,
    columns: Vec<Column>,
    rows: usize,
    wrong: Option<String>,
}

#[derive(Debug)]
struct Column {
    values: Data,
    present: Vec<bool>,
}

#[derive(Debug)]
enum Data {
    F64(Vec<f64>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    Bytes(BytesColumn),
}

impl Data {
    fn of(ty: DataType) -> Self {
        match ty {
            DataType::Float64 => Data::F64(Vec::new()),
            DataType::Boolean | DataType::Uint64 | DataType::TimestampNs => Data::U64(Vec::new()),
            DataType::Int64 => Data::I64(Vec::new()),
            DataType::Utf8 | DataType::Binary | DataType::Ip => Data::Bytes(BytesColumn::default()),
        }
    }

    fn absent(&mut self, ty: DataType) {
        match self {
            Data::F64(v) => v.push(f64::NAN),
            Data::U64(v) => v.push(0),
            Data::I64(v) => v.push(0),
            Data::Bytes(b) => {
                if ty == DataType::Ip {
                    b.data.extend([0; 16]);
                }
                b.ends.push(b.data.len() as u32);
            }
        }
    }
}

impl Rows {
    /// No rows yet.
    pub fn new(schema: &Schema) -> Self {
        let column = |ty| Column { values: Data::of(ty), present: Vec::new() };
        let columns = schema.fields.iter().map(|f| column(f.ty)).collect();
        Self { schema: schema.clone(), columns, rows: 0, wrong: None }
    }

    /// Rows that were ended.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Names and types.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// A number of the row at hand.
    pub fn f64(&mut self, column: usize, value: f64) -> &mut Self {
        self.put(column, |data| match data {
            Data::F64(v) => {
                v.push(value);
                true
            }
            _ => false,
        })
    }

    /// A whole number, a time (ns since the Unix epoch) or a truth value (0 or 1) of the row at hand.
    pub fn u64(&mut self, column: usize, value: u64) -> &mut Self {
        self.put(column, |data| match data {
            Data::U64(v) => {
                v.push(value);
                true
            }
            _ => false,
        })
    }

    /// A whole number with a sign of the row at hand.
    pub fn i64(&mut self, column: usize, value: i64) -> &mut Self {
        self.put(column, |data| match data {
            Data::I64(v) => {
                v.push(value);
                true
            }
            _ => false,
        })
    }

    /// Text of the row at hand.
    pub fn text(&mut self, column: usize, value: &str) -> &mut Self {
        self.bytes(column, value.as_bytes())
    }

    /// Bytes of the row at hand.
    pub fn bytes(&mut self, column: usize, value: &[u8]) -> &mut Self {
        self.put(column, |data| match data {
            Data::Bytes(b) => {
                b.data.extend_from_slice(value);
                b.ends.push(b.data.len() as u32);
                true
            }
            _ => false,
        })
    }

    /// An address of the row at hand.
    pub fn ip(&mut self, column: usize, value: IpAddr) -> &mut Self {
        let v6 = match value {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        self.bytes(column, &v6.octets())
    }

    fn put(&mut self, column: usize, push: impl FnOnce(&mut Data) -> bool) -> &mut Self {
        let row = self.rows;
        match self.columns.get_mut(column) {
            Some(c) if c.present.len() == row => {
                if push(&mut c.values) {
                    c.present.push(true);
                } else {
                    let field = &self.schema.fields[column];
                    self.wrong.get_or_insert_with(|| format!("column `{}` is {:?}", field.name, field.ty));
                }
            }
            Some(_) => {
                let name = &self.schema.fields[column].name;
                self.wrong.get_or_insert_with(|| format!("column `{name}` was put twice in row {row}"));
            }
            None => {
                self.wrong.get_or_insert_with(|| format!("there is no column {column}"));
            }
        }
        self
    }

    /// The row at hand is done.
    pub fn end_row(&mut self) {
        for (column, field) in self.columns.iter_mut().zip(&self.schema.fields) {
            if column.present.len() == self.rows {
                column.values.absent(field.ty);
                column.present.push(false);
            }
        }
        self.rows += 1;
    }

    /// The row at hand is none after all.
    pub fn drop_row(&mut self) {
        let rows = self.rows;
        for column in &mut self.columns {
            if column.present.len() > rows {
                column.present.truncate(rows);
                match &mut column.values {
                    Data::F64(v) => v.truncate(rows),
                    Data::U64(v) => v.truncate(rows),
                    Data::I64(v) => v.truncate(rows),
                    Data::Bytes(b) => {
                        b.ends.truncate(rows);
                        b.data.truncate(b.ends.last().map_or(0, |&end| end as usize));
                    }
                }
            }
        }
    }

    /// An error when a value was put that its column cannot hold.
    pub fn check(&self) -> Result<()> {
        match &self.wrong {
            Some(wrong) => Err(other(format!("a mistake of the plugin: {wrong}"))),
            None => Ok(()),
        }
    }

    /// The rows as a batch, as the next stage sees them: for tests.
    ///
    /// # Panics
    /// When [`check`](Self::check) complains.
    pub fn into_batch(self) -> Batch {
        if let Err(error) = self.check() {
            panic!("{error}");
        }
        let values = |c: Column| match c.values {
            Data::F64(v) => Values::F64(v),
            Data::U64(v) => Values::U64(v),
            Data::I64(v) => Values::F64(v.into_iter().map(|x| x as f64).collect()),
            Data::Bytes(b) => Values::Bytes(b),
        };
        let columns = self.columns.into_iter().map(values).collect();
        Batch::from_memory(Memory { schema: self.schema, columns }, self.rows)
    }

    /// A batch that the host holds.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn into_host(self) -> Result<crate::bindings::kaminari::plugin::data::RecordBatch> {
        use crate::bindings::kaminari::plugin::{common, data};
        self.check()?;
        let builder = data::BatchBuilder::new(&crate::export::__rt::raw_schema(&self.schema));
        for (at, column) in self.columns.into_iter().enumerate() {
            let at = at as u32;
            match column.values {
                Data::F64(v) => builder.put_f64s(at, &v)?,
                Data::U64(v) => builder.put_u64s(at, &v)?,
                Data::I64(v) => builder.put_s64s(at, &v)?,
                Data::Bytes(b) => builder.put_bytes(at, &common::BytesColumn { ends: b.ends, data: b.data })?,
            }
            if column.present.contains(&false) {
                let mut bits = vec![0u8; column.present.len().div_ceil(8)];
                let present = column.present.iter().enumerate().filter(|(_, present)| **present);
                present.for_each(|(row, _)| bits[row / 8] |= 1 << (row % 8));
                builder.put_validity(at, &bits)?;
            }
        }
        Ok(data::BatchBuilder::finish(builder)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::of([("t", DataType::TimestampNs), ("x", DataType::Float64), ("s", DataType::Utf8), ("a", DataType::Ip)])
    }

    #[test]
    fn what_a_row_was_not_given_is_absent() {
        let mut rows = Rows::new(&schema());
        rows.u64(0, 7).f64(1, 1.5).text(2, "a").ip(3, IpAddr::from([192, 0, 2, 1])).end_row();
        rows.text(2, "never").f64(1, 9.0).drop_row();
        rows.u64(0, 8).text(2, "bc").end_row();
        assert_eq!(rows.len(), 2);
        let batch = rows.into_batch();
        assert_eq!(&*batch.u64s("t").unwrap(), [7, 8]);
        assert!(batch.f64s("x").unwrap()[1].is_nan());
        let text = batch.bytes("s").unwrap();
        assert_eq!((text.get(0), text.get(1)), (Some(&b"a"[..]), Some(&b"bc"[..])));
        assert_eq!(batch.bytes("a").unwrap().data.len(), 32);
    }

    #[test]
    fn mistakes_are_told() {
        let mistake = |put: fn(&mut Rows)| {
            let mut rows = Rows::new(&schema());
            put(&mut rows);
            rows.check().unwrap_err().to_string()
        };
        assert!(mistake(|r| r.f64(0, 1.0).end_row()).contains("column `t` is TimestampNs"));
        assert!(mistake(|r| r.f64(1, 1.0).f64(1, 1.0).end_row()).contains("put twice in row 0"));
        assert!(mistake(|r| r.f64(9, 1.0).end_row()).contains("no column 9"));
    }
}
