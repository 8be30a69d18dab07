//! Bytes and rows of each address in a window.

use kaminari_plugin_sdk::prelude::*;
use std::collections::BTreeMap;

config! {
    /// What an operator writes as `extract.config` of the pipeline.
    struct Config {}
}

struct Sums;

impl Extractor for Sums {
    type Config = Config;
    fn new(_: Config) -> Result<Self> {
        Ok(Sums)
    }
    /// Asked before anything runs: what it makes of such rows, or which column is not there.
    fn schema(&self, input: &Schema) -> Result<Schema> {
        input.require("", "bytes")?;
        Ok(Schema::of([("addr", DataType::Ip), ("bytes", DataType::Float64), ("rows", DataType::Float64)]))
    }
    /// The rows of one window in, a row of features per entity out.
    fn extract(&mut self, _window: &Window, rows: &Batch) -> Result<Rows> {
        let (addrs, bytes) = (rows.bytes("addr")?, rows.f64s("bytes")?);
        let mut sums = BTreeMap::new();
        for (row, bytes) in bytes.iter().enumerate() {
            let (sum, count) = sums.entry(addrs.get(row).unwrap_or_default()).or_insert((0.0, 0.0));
            *sum += bytes;
            *count += 1.0;
        }
        let mut out = Rows::new(&self.schema(rows.schema())?);
        for (addr, (sum, count)) in sums {
            out.bytes(0, addr).f64(1, sum).f64(2, count).end_row();
        }
        Ok(out)
    }
}

export_extractor!(Sums);
