use crate::error::{Error, Result};
use crate::key_map::Key;
use std::cell::{OnceCell, RefCell};
use std::ops::Deref;
use std::rc::Rc;

/// What a column holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataType {
    /// Truth values.
    Boolean,
    /// Whole numbers with a sign, any width.
    Int64,
    /// Whole numbers without a sign, any width.
    Uint64,
    /// Floating point, any width.
    Float64,
    /// Text.
    Utf8,
    /// Bytes.
    Binary,
    /// An IP address (4 or 16 bytes).
    Ip,
    /// Nanoseconds since the Unix epoch.
    TimestampNs,
}

impl DataType {
    /// Whether [`Batch::f64s`] can read it.
    pub fn is_numeric(self) -> bool {
        !matches!(self, DataType::Utf8 | DataType::Binary | DataType::Ip)
    }
}

/// A column's name and type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// Name.
    pub name: String,
    /// Type.
    pub ty: DataType,
    /// Whether values may be absent.
    pub nullable: bool,
}

/// The columns of a batch, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schema {
    /// Columns.
    pub fields: Vec<Field>,
}

impl Schema {
    /// Columns of these names and types, whose values may be absent.
    pub fn of<'a>(columns: impl IntoIterator<Item = (&'a str, DataType)>) -> Self {
        let field = |(name, ty): (&str, DataType)| Field { name: name.to_owned(), ty, nullable: true };
        Self { fields: columns.into_iter().map(field).collect() }
    }

    /// The column of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// [`require`](Self::require) for every name of a list of the configuration.
    pub fn require_all<S: AsRef<str>>(&self, path: &str, names: &[S]) -> Result<()> {
        names.iter().enumerate().try_for_each(|(i, name)| self.require(format!("{path}[{i}]"), name.as_ref()))
    }

    /// Complains about the configuration at `path` when there is no numeric column `name`, and says which there are.
    pub fn require(&self, path: impl Into<String>, name: &str) -> Result<()> {
        match self.field(name) {
            Some(field) if field.ty.is_numeric() => Ok(()),
            Some(_) => Err(crate::error::config(path, format!("`{name}` is no numeric feature"))),
            None => {
                let known: Vec<_> = self.fields.iter().filter(|f| f.ty.is_numeric()).map(|f| f.name.as_str()).collect();
                let message = format!("the pipeline has no feature `{name}`; it has {}", known.join(", "));
                Err(crate::error::config(path, message))
            }
        }
    }
}

/// A column's values. Cheap to clone; a slice in every other way.
#[derive(Debug)]
pub struct Column<T>(Rc<Vec<T>>);

impl<T> Clone for Column<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Column<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// Values of varying length: `ends[i]` is the end of value i in `data`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct BytesColumn {
    /// Ends.
    pub ends: Vec<u32>,
    /// All values, end to end.
    pub data: Vec<u8>,
}

impl BytesColumn {
    /// Value of a row.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let end = *self.ends.get(row)? as usize;
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        self.data.get(start..end)
    }
}

/// The entity of every row.
#[derive(Clone, Debug)]
pub struct Keys(Rc<BytesColumn>);

impl Deref for Keys {
    type Target = [Key];
    #[inline]
    fn deref(&self) -> &[Key] {
        self.0.data.as_chunks().0
    }
}

/// Rows of features, column by column. A column is copied in when it is first asked for, and only then.
pub struct Batch {
    source: Source,
    rows: usize,
    schema: OnceCell<Schema>,
    f64s: RefCell<Vec<(String, Column<f64>)>>,
    u64s: RefCell<Vec<(String, Column<u64>)>>,
    keys: OnceCell<Keys>,
}

enum Source {
    #[cfg(target_arch = "wasm32")]
    Host(std::mem::ManuallyDrop<host::RecordBatch>),
    Memory(Memory),
}

#[cfg(target_arch = "wasm32")]
use crate::bindings::kaminari::plugin::data as host;

/// A batch in this program's memory, for tests.
#[derive(Default)]
pub(crate) struct Memory {
    pub schema: Schema,
    pub columns: Vec<Values>,
}

pub(crate) enum Values {
    F64(Vec<f64>),
    U64(Vec<u64>),
    Bytes(BytesColumn),
}

impl Batch {
    fn new(source: Source, rows: usize) -> Self {
        let (schema, keys) = (OnceCell::new(), OnceCell::new());
        Self { source, rows, schema, f64s: RefCell::default(), u64s: RefCell::default(), keys }
    }

    pub(crate) fn from_memory(memory: Memory, rows: usize) -> Self {
        Self::new(Source::Memory(memory), rows)
    }

    /// A batch behind a handle that the host lends for one call.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn from_host(batch: &host::RecordBatch) -> Self {
        // SAFETY: the same handle a second time, never dropped here. A detector sees the `Batch` only by reference
        // for the length of the call that lends the handle.
        let handle = unsafe { host::RecordBatch::from_handle(batch.handle()) };
        Self::new(Source::Host(std::mem::ManuallyDrop::new(handle)), batch.num_rows() as usize)
    }

    /// The host's handle.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn host(&self) -> Result<&host::RecordBatch> {
        match &self.source {
            Source::Host(batch) => Ok(batch),
            Source::Memory(_) => Err(crate::error::other("a batch for tests, which the host does not have")),
        }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Names and types of the columns.
    pub fn schema(&self) -> &Schema {
        self.schema.get_or_init(|| match &self.source {
            #[cfg(target_arch = "wasm32")]
            Source::Host(batch) => crate::export::__rt::schema(batch.schema()),
            Source::Memory(memory) => memory.schema.clone(),
        })
    }

    /// A numeric column as `f64` (an absent value is NaN). Asking again costs nothing.
    pub fn f64s(&self, name: &str) -> Result<Column<f64>> {
        if let Some((_, column)) = self.f64s.borrow().iter().find(|(n, _)| n == name) {
            return Ok(column.clone());
        }
        let values = match &self.source {
            #[cfg(target_arch = "wasm32")]
            Source::Host(batch) => batch.f64s(host_column(batch, name)?)?,
            Source::Memory(memory) => match memory.column(name)? {
                Values::F64(v) => v.clone(),
                Values::U64(v) => v.iter().map(|&x| x as f64).collect(),
                Values::Bytes(_) => return Err(wrong_type(name, "a number")),
            },
        };
        let column = Column(Rc::new(values));
        self.f64s.borrow_mut().push((name.to_owned(), column.clone()));
        Ok(column)
    }

    /// A numeric column as `u64` (an absent value is 0). Asking again costs nothing.
    pub fn u64s(&self, name: &str) -> Result<Column<u64>> {
        if let Some((_, column)) = self.u64s.borrow().iter().find(|(n, _)| n == name) {
            return Ok(column.clone());
        }
        let values = match &self.source {
            #[cfg(target_arch = "wasm32")]
            Source::Host(batch) => batch.u64s(host_column(batch, name)?)?,
            Source::Memory(memory) => match memory.column(name)? {
                Values::U64(v) => v.clone(),
                Values::F64(v) => v.iter().map(|&x| x as u64).collect(),
                Values::Bytes(_) => return Err(wrong_type(name, "a number")),
            },
        };
        let column = Column(Rc::new(values));
        self.u64s.borrow_mut().push((name.to_owned(), column.clone()));
        Ok(column)
    }

    /// A column of text or bytes. Not kept: every call copies.
    pub fn bytes(&self, name: &str) -> Result<BytesColumn> {
        match &self.source {
            #[cfg(target_arch = "wasm32")]
            Source::Host(batch) => {
                let column = batch.bytes(host_column(batch, name)?)?;
                Ok(BytesColumn { ends: column.ends, data: column.data })
            }
            Source::Memory(memory) => match memory.column(name)? {
                Values::Bytes(b) => Ok(b.clone()),
                _ => Err(wrong_type(name, "bytes")),
            },
        }
    }

    /// The entity of every row (column `key`): what state is kept by, see [`crate::KeyMap`].
    pub fn keys(&self) -> Result<Keys> {
        if let Some(keys) = self.keys.get() {
            return Ok(keys.clone());
        }
        let column = self.bytes("key")?;
        if column.data.len() != self.rows * size_of::<Key>() {
            return Err(wrong_type("key", "21 bytes a row"));
        }
        Ok(self.keys.get_or_init(|| Keys(Rc::new(column))).clone())
    }
}

impl Memory {
    fn column(&self, name: &str) -> Result<&Values> {
        let at = self.schema.fields.iter().position(|f| f.name == name).ok_or_else(|| no_column(name))?;
        Ok(&self.columns[at])
    }
}

#[cfg(target_arch = "wasm32")]
fn host_column(batch: &host::RecordBatch, name: &str) -> Result<u32> {
    batch.column(name).ok_or_else(|| no_column(name))
}

fn no_column(name: &str) -> Error {
    Error::Schema(format!("no column `{name}`"))
}

fn wrong_type(name: &str, wanted: &str) -> Error {
    Error::Schema(format!("column `{name}` is not {wanted}"))
}

#[cfg(test)]
mod tests {
    use crate::testing;

    #[test]
    fn columns_are_typed_and_named() {
        let batch = testing::batch().f64s("x", [1.5, 2.5]).u64s("n", [3, 4]).hosts([1, 2]).build();
        assert_eq!(batch.len(), 2);
        assert_eq!(&*batch.f64s("x").unwrap(), [1.5, 2.5]);
        assert_eq!(&*batch.f64s("n").unwrap(), [3.0, 4.0]);
        assert_eq!(&*batch.u64s("n").unwrap(), [3, 4]);
        assert_eq!(batch.keys().unwrap()[1], testing::host(2));
        assert_eq!(batch.f64s("y").unwrap_err().to_string(), "schema: no column `y`");
        assert_eq!(batch.f64s("key").unwrap_err().to_string(), "schema: column `key` is not a number");
    }

    #[test]
    fn a_missing_feature_is_named_with_those_that_exist() {
        let batch = testing::batch().f64s("flows", [1.0]).f64s("bytes", [1.0]).hosts([1]).build();
        let err = batch.schema().require("limits[0].feature", "flow").unwrap_err();
        assert_eq!(err.to_string(), "`limits[0].feature`: the pipeline has no feature `flow`; it has flows, bytes");
        assert!(batch.schema().require("x", "key").is_err());
        let err = batch.schema().require_all("features", &["flows", "flow"]).unwrap_err();
        assert!(err.to_string().starts_with("`features[1]`: the pipeline has no feature `flow`"), "{err}");
    }
}
