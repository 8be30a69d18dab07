//! A mock host: batches from plain vectors, and a harness that treats a detector as the engine does.
//!
//! ```
//! use kaminari_plugin_sdk::{prelude::*, testing};
//! # config! { struct Config { above: f64 } }
//! # struct D(Config);
//! # impl Detector for D {
//! #     type Config = Config;
//! #     fn new(c: Config) -> Result<Self> { Ok(D(c)) }
//! #     fn detect(&mut self, _: &Window, b: &Batch) -> Result<Verdict> {
//! #         Ok(Verdict::above(b.f64s("x")?.to_vec(), self.0.above, |_| Alert::new("x", Severity::Low)))
//! #     }
//! # }
//! let mut harness = testing::Harness::<D>::new(testing::json!({ "above": 2.0 }))?;
//! let batch = testing::batch().f64s("x", [1.0, 3.0]).hosts([1, 2]).build();
//! let verdict = harness.detect(&testing::window(0, 10), &batch)?;
//! assert_eq!(verdict.alerts[0].row, 1);
//! # Ok::<(), Error>(())
//! ```

use crate::batch::{Batch, BytesColumn, DataType, Field, Memory, Schema, Values};
use crate::error::Result;
pub use crate::key_map::Key;
use crate::log::Level;
use crate::{Decoded, Detector, Extractor, Frames, Source, Verdict, Window};
use std::cell::{Cell, RefCell};

#[cfg_attr(target_arch = "wasm32", allow(dead_code))]
pub(crate) mod bucket;
#[cfg_attr(target_arch = "wasm32", expect(dead_code))]
pub(crate) mod model;

pub use model::{FakeModel, model};
pub use serde_json::{Value, json};

thread_local! {
    static WATERMARK: Cell<u64> = const { Cell::new(0) };
    static LOGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static METRICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The window of `seconds` that starts at `start` seconds, fired on time.
pub fn window(start: u64, seconds: u64) -> Window {
    let (start_ns, end_ns) = (start * 1_000_000_000, (start + seconds) * 1_000_000_000);
    Window { start_ns, end_ns, revision: 0, watermark_ns: end_ns, partial: false }
}

/// The key of a destination host: the n-th address of 10.0.0.0/8.
pub fn host(n: u32) -> Key {
    let mut key = [0; 21];
    key[0] = 1;
    key[11..13].fill(0xff);
    key[13..17].copy_from_slice(&(0x0a00_0000 | n).to_be_bytes());
    key
}

/// Starts an empty batch.
pub fn batch() -> BatchBuilder {
    BatchBuilder::default()
}

/// Columns so far.
#[derive(Default)]
pub struct BatchBuilder {
    memory: Memory,
    rows: Option<usize>,
}

impl BatchBuilder {
    /// A column of numbers.
    pub fn f64s(self, name: &str, values: impl Into<Vec<f64>>) -> Self {
        let values = values.into();
        self.column(name, DataType::Float64, values.len(), Values::F64(values))
    }

    /// A column of whole numbers.
    pub fn u64s(self, name: &str, values: impl Into<Vec<u64>>) -> Self {
        let values = values.into();
        self.column(name, DataType::Uint64, values.len(), Values::U64(values))
    }

    /// A column of bytes.
    pub fn bytes<V: AsRef<[u8]>>(self, name: &str, values: impl IntoIterator<Item = V>) -> Self {
        let mut column = BytesColumn::default();
        for value in values {
            column.data.extend_from_slice(value.as_ref());
            column.ends.push(column.data.len() as u32);
        }
        self.column(name, DataType::Binary, column.ends.len(), Values::Bytes(column))
    }

    /// A column of text.
    pub fn texts<'a>(self, name: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut column = BytesColumn::default();
        for value in values {
            column.data.extend_from_slice(value.as_bytes());
            column.ends.push(column.data.len() as u32);
        }
        self.column(name, DataType::Utf8, column.ends.len(), Values::Bytes(column))
    }

    /// The column `key`, for hosts by number (see [`host`]).
    pub fn hosts(self, numbers: impl IntoIterator<Item = u32>) -> Self {
        self.bytes("key", numbers.into_iter().map(host))
    }

    /// # Panics
    /// When the columns differ in length.
    pub fn build(self) -> Batch {
        Batch::from_memory(self.memory, self.rows.unwrap_or(0))
    }

    fn column(mut self, name: &str, ty: DataType, rows: usize, values: Values) -> Self {
        assert_eq!(*self.rows.get_or_insert(rows), rows, "column `{name}` differs in length");
        self.memory.schema.fields.push(Field { name: name.to_owned(), ty, nullable: false });
        self.memory.columns.push(values);
        self
    }
}

/// A detector under test, configured and called as the engine does it.
pub struct Harness<D> {
    /// The detector itself.
    pub detector: D,
}

/// Frames of one sender, received at this time (seconds since the Unix epoch).
pub fn frames<B: AsRef<[u8]>>(received: u64, frames: impl IntoIterator<Item = B>) -> Frames {
    let mut out = Frames { peers: vec!["192.0.2.1:514".to_owned()], ..Frames::default() };
    for frame in frames {
        out.data.extend_from_slice(frame.as_ref());
        out.ends.push(out.data.len() as u32);
        out.received_ns.push(received * 1_000_000_000);
        out.peer.push(0);
    }
    out
}

/// Configures a source as the engine does, and decodes frames with it.
///
/// # Panics
/// When the rows are ones that the engine refuses: of another schema than declared, without the time column.
pub fn decode<S: Source>(config: serde_json::Value, frames: &Frames) -> Result<(Batch, Vec<(u32, String)>)> {
    let mut source = S::new(crate::__rt::parse_config::<S::Config>(&config.to_string())?)?;
    let schema = source.schema();
    let time = schema.field(&source.time_column());
    assert!(time.is_some_and(|f| f.ty == DataType::TimestampNs), "no time column `{}`", source.time_column());
    let Decoded { rows, rejected } = source.decode(frames)?;
    assert_eq!(*rows.schema(), schema, "rows of another schema than declared");
    assert!(rejected.iter().all(|(frame, _)| (*frame as usize) < frames.len()), "a frame that was not there");
    Ok((rows.into_batch(), rejected))
}

/// Configures an extractor as the engine does, and has it work out the features of these rows.
///
/// # Panics
/// When the features are of another schema than declared.
pub fn extract<X: Extractor>(config: serde_json::Value, window: &Window, rows: &Batch) -> Result<Batch> {
    let mut extractor = X::new(crate::__rt::parse_config::<X::Config>(&config.to_string())?)?;
    let schema = extractor.schema(rows.schema())?;
    WATERMARK.set(window.watermark_ns);
    let features = extractor.extract(window, rows)?;
    assert_eq!(*features.schema(), schema, "features of another schema than declared");
    Ok(features.into_batch())
}

/// Stream time from now on, ns since the Unix epoch.
pub fn set_watermark(ns: u64) {
    WATERMARK.set(ns);
}

/// Metrics of this thread since the last call: `add name{key=value} number`.
pub fn take_metrics() -> Vec<String> {
    METRICS.take()
}

#[cfg_attr(target_arch = "wasm32", expect(dead_code))]
pub(crate) fn record_metric(call: &str, name: &str, labels: &[(&str, &str)], value: f64) {
    let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    METRICS.with_borrow_mut(|all| all.push(format!("{call} {name}{{{}}} {value}", labels.join(","))));
}

impl<D: Detector> Harness<D> {
    /// Reads the configuration as the engine hands it over.
    pub fn new(config: serde_json::Value) -> Result<Self> {
        let config = crate::__rt::parse_config::<D::Config>(&config.to_string())?;
        Ok(Self { detector: D::new(config)? })
    }

    /// What the detector says about an input.
    pub fn requires(&self, schema: &Schema) -> Result<()> {
        self.detector.requires(schema)
    }

    /// Judges one batch.
    ///
    /// # Panics
    /// When the verdict is one that the engine refuses: as many scores as rows or none, alerts on rows that exist,
    /// weights from 0 to 1 that sum to 1.
    pub fn detect(&mut self, window: &Window, batch: &Batch) -> Result<Verdict> {
        WATERMARK.set(window.watermark_ns);
        let verdict = self.detector.detect(window, batch)?;
        let scores = verdict.scores.len();
        assert!(scores == 0 || scores == batch.len(), "{scores} scores for {} rows", batch.len());
        for alert in &verdict.alerts {
            assert!((alert.row as usize) < batch.len(), "alert on row {} of {}", alert.row, batch.len());
            assert!(alert.score.is_finite(), "score of row {} is {}", alert.row, alert.score);
            let weights: f64 = alert.contributions.iter().map(|c| c.weight).sum();
            let fine = alert.contributions.is_empty() || (weights - 1.0).abs() < 1e-9;
            assert!(fine, "weights of the alert on row {} sum to {weights}", alert.row);
        }
        Ok(verdict)
    }
}

/// Log lines of this thread since the last call: `level message key=value`.
pub fn take_logs() -> Vec<String> {
    LOGS.take()
}

pub(crate) fn watermark() -> u64 {
    WATERMARK.get()
}

#[cfg_attr(target_arch = "wasm32", expect(dead_code))]
pub(crate) fn record_log(level: Level, message: &str, fields: &[(&str, &str)]) {
    let mut line = format!("{} {message}", format!("{level:?}").to_lowercase());
    for (name, value) in fields {
        line.push_str(&format!(" {name}={value}"));
    }
    LOGS.with_borrow_mut(|logs| logs.push(line));
}
