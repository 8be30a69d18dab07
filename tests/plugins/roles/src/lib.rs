//! All three roles in one component. Lines of `SECONDS NAME VALUE` become rows, the rows of a window sums by name, and sums
//! above a limit alerts. Counts every name for good in the bucket `seen`, and in metrics of its own, where it is told to.

use kaminari_plugin_sdk::prelude::*;
use std::collections::BTreeMap;

config! {
    pub struct SourceConfig {
        /// Panic on a line that begins so.
        trap_on: Option<String>,
    }
    pub struct ExtractorConfig {
        /// What the sum is called.
        sum: String,
        /// Count names in this bucket, for so many seconds.
        bucket: Option<String>,
        ttl_secs: Option<u64>,
        /// Count rows in a metric of its own.
        #[serde(default)]
        metrics: bool,
        /// Panic at a sum above this, after the bucket was written.
        trap_above: Option<f64>,
        /// Return a column more than agreed.
        #[serde(default)]
        lie: bool,
    }
    pub struct DetectorConfig { feature: String, above: f64 }
}

pub struct Lines {
    config: SourceConfig,
    lines: u64,
}

impl Source for Lines {
    type Config = SourceConfig;
    const STATE_VERSION: u32 = 1;

    fn new(config: SourceConfig) -> Result<Self> {
        Ok(Self { config, lines: 0 })
    }

    fn schema(&self) -> Schema {
        Schema::of([
            ("time", DataType::TimestampNs),
            ("name", DataType::Utf8),
            ("value", DataType::Float64),
            ("line", DataType::Uint64),
            ("peer", DataType::Utf8),
        ])
    }

    fn decode(&mut self, frames: &Frames) -> Result<Decoded> {
        let mut out = Decoded::new(&self.schema());
        for frame in frames.iter() {
            let text = frame.text();
            if self.config.trap_on.as_ref().is_some_and(|word| text.starts_with(word)) {
                panic!("as the fixture was told");
            }
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            let &[time, name, value] = words.as_slice() else {
                out.reject(&frame, "not-three-words");
                continue;
            };
            let (time, Ok(value)) = (time.parse::<u64>(), value.parse()) else {
                out.reject(&frame, "no-number");
                continue;
            };
            self.lines += 1;
            if let Ok(time) = time {
                out.rows.u64(0, time * 1_000_000_000);
            }
            out.rows.text(1, name).f64(2, value).u64(3, self.lines).text(4, frame.peer).end_row();
        }
        Ok(out)
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        state::to_bytes(&self.lines)
    }

    fn restore(&mut self, _version: u32, bytes: &[u8]) -> Result<()> {
        self.lines = state::from_bytes(bytes)?;
        Ok(())
    }
}

pub struct Sums(ExtractorConfig);

impl Extractor for Sums {
    type Config = ExtractorConfig;

    fn new(config: ExtractorConfig) -> Result<Self> {
        Ok(Self(config))
    }

    fn schema(&self, input: &Schema) -> Result<Schema> {
        input.require("", "value")?;
        Ok(Schema::of([("name", DataType::Utf8), (&self.0.sum, DataType::Float64), ("seen", DataType::Uint64)]))
    }

    fn extract(&mut self, window: &Window, rows: &Batch) -> Result<Rows> {
        let (names, values) = (rows.bytes("name")?, rows.f64s("value")?);
        let mut sums: BTreeMap<&[u8], f64> = BTreeMap::new();
        for (row, value) in values.iter().enumerate() {
            *sums.entry(names.get(row).unwrap_or_default()).or_default() += value;
        }
        let mut out = Rows::new(&self.schema(rows.schema())?);
        for (name, sum) in sums {
            let mut seen = 0u64;
            if let Some(bucket) = &self.0.bucket {
                let bucket = bucket::Bucket::open(bucket)?;
                let before = bucket.get(&[name.to_vec()])?.remove(0).unwrap_or_default();
                seen = before.try_into().map_or(1, |b| u64::from_le_bytes(b) + 1);
                let expires = self.0.ttl_secs.map(|secs| window.end_ns + secs * 1_000_000_000);
                bucket.put(&[(name.to_vec(), seen.to_le_bytes().to_vec())], expires)?;
            }
            if self.0.metrics {
                metrics::add("rows", &[("name", &String::from_utf8_lossy(name))], 1)?;
            }
            assert!(self.0.trap_above.is_none_or(|limit| sum <= limit), "as the fixture was told");
            out.bytes(0, name).f64(1, sum).u64(2, seen).end_row();
        }
        if self.0.lie {
            return Ok(Rows::new(&Schema::of([("name", DataType::Utf8)])));
        }
        Ok(out)
    }
}

pub struct Above(DetectorConfig);

impl Detector for Above {
    type Config = DetectorConfig;

    fn new(config: DetectorConfig) -> Result<Self> {
        Ok(Self(config))
    }

    fn requires(&self, schema: &Schema) -> Result<()> {
        schema.require("feature", &self.0.feature)
    }

    fn detect(&mut self, _window: &Window, batch: &Batch) -> Result<Verdict> {
        let sums = batch.f64s(&self.0.feature)?.to_vec();
        Ok(Verdict::above(sums, self.0.above, |_| Alert::new("sum", Severity::Medium)))
    }
}

export_plugin!(name = "roles", source = Lines, extractor = Sums, detector = Above);
