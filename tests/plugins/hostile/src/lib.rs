//! All three roles, and whatever a plugin may do wrong: `misbehave` says what, `in` in which call. Else lines of `SECONDS NAME
//! VALUE` become rows, the rows of a window sums by name, and sums above a limit alerts.

mod act;

use act::Config;
use kaminari_plugin_sdk::prelude::*;
use std::collections::BTreeMap;

pub struct Hostile {
    config: Config,
    calls: u64,
}

impl Hostile {
    fn new(config: Config) -> Result<Self> {
        config.act("configure", 0)?;
        Ok(Self { config, calls: 0 })
    }

    fn act(&mut self, call: &str) -> Result<()> {
        self.calls += 1;
        self.config.act(call, self.calls)
    }

    fn snapshot(&self, call: &str) -> Result<Vec<u8>> {
        self.config.act(call, 0)?;
        state::to_bytes(&self.calls)
    }

    fn restore(&mut self, call: &str, bytes: &[u8]) -> Result<()> {
        self.config.act(call, 0)?;
        self.calls = state::from_bytes(bytes)?;
        Ok(())
    }

    fn is(&self, call: &str, what: &str) -> bool {
        self.config.is(call, what)
    }
}

pub struct Lines(Hostile);

impl Source for Lines {
    type Config = Config;
    const STATE_VERSION: u32 = 1;

    fn new(config: Config) -> Result<Self> {
        Hostile::new(config).map(Self)
    }

    fn schema(&self) -> Schema {
        let _ = self.0.config.act("source-schema", 0);
        Schema::of([("time", DataType::TimestampNs), ("name", DataType::Utf8), ("value", DataType::Float64)])
    }

    fn time_column(&self) -> String {
        let _ = self.0.config.act("time-column", 0);
        if self.0.is("time-column", "no-column") { "never".into() } else { "time".into() }
    }

    fn decode(&mut self, frames: &Frames) -> Result<Decoded> {
        self.0.act("decode")?;
        let does = |what: &str| self.0.is("decode", what);
        let mut out = Decoded::new(&self.schema());
        if does("million-rejects") {
            out.rejected = vec![(0, String::new()); 1_000_000];
            return Ok(out);
        }
        if does("reject-beyond") {
            out.rejected.push((frames.len() as u32, "none".into()));
            return Ok(out);
        }
        if does("long-reasons") {
            let alike = act::alike(4096, 1 << 20);
            out.rejected = alike.into_iter().map(|reason| (0, reason)).collect();
            return Ok(out);
        }
        if does("other-columns") {
            out.rows = Rows::new(&Schema::of([("time", DataType::Utf8)]));
            out.rows.text(0, "x").end_row();
            return Ok(out);
        }
        for frame in frames.iter() {
            if does("reasons") {
                out.reject(&frame, &format!("reason {}", frame.index));
                continue;
            }
            let text = frame.text();
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            let [time, name, value] = words[..] else {
                out.reject(&frame, "not-three-words");
                continue;
            };
            let (Ok(time), Ok(value)) = (time.parse::<u64>(), value.parse()) else {
                out.reject(&frame, "no-number");
                continue;
            };
            match frame.index % 4 {
                0 if does("odd-times") => drop(out.rows.u64(0, u64::MAX)),
                1 if does("odd-times") => drop(out.rows.u64(0, 0)),
                2 if does("odd-times") => {}
                _ => drop(out.rows.u64(0, time * 1_000_000_000)),
            }
            out.rows.text(1, name).f64(2, value).end_row();
        }
        Ok(out)
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        self.0.snapshot("source-snapshot")
    }

    fn restore(&mut self, _: u32, bytes: &[u8]) -> Result<()> {
        self.0.restore("source-restore", bytes)
    }
}

pub struct Sums(Hostile);

impl Extractor for Sums {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Hostile::new(config).map(Self)
    }

    fn schema(&self, _: &Schema) -> Result<Schema> {
        self.0.config.act("feature-schema", 0)?;
        Ok(Schema::of([("name", DataType::Utf8), ("sum", DataType::Float64)]))
    }

    fn extract(&mut self, _window: &Window, rows: &Batch) -> Result<Rows> {
        self.0.act("extract")?;
        let does = |what: &str| self.0.is("extract", what);
        let mut out = Rows::new(&Schema::of([("name", DataType::Utf8), ("sum", DataType::Float64)]));
        if does("other-columns") {
            return Ok(Rows::new(&Schema::of([("name", DataType::Utf8)])));
        }
        let (names, values) = (rows.bytes("name")?, rows.f64s("value")?);
        let mut sums: BTreeMap<&[u8], f64> = BTreeMap::new();
        for (row, value) in values.iter().enumerate() {
            *sums.entry(names.get(row).unwrap_or_default()).or_default() += value;
        }
        for (name, sum) in sums {
            if does("no-entity") {
                out.f64(1, sum).end_row();
            }
            if does("odd-features") {
                for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                    out.bytes(0, format!("{odd}").as_bytes()).f64(1, odd).end_row();
                }
            }
            for _ in 0..if does("duplicates") { 1000 } else { 1 } {
                out.bytes(0, name).f64(1, sum).end_row();
            }
        }
        Ok(out)
    }
}

pub struct Above(Hostile);

impl Detector for Above {
    type Config = Config;
    const STATE_VERSION: u32 = 1;

    fn new(config: Config) -> Result<Self> {
        Hostile::new(config).map(Self)
    }

    fn requires(&self, _: &Schema) -> Result<()> {
        self.0.config.act("requires", 0)
    }

    fn detect(&mut self, _window: &Window, batch: &Batch) -> Result<Verdict> {
        self.0.act("detect")?;
        let does = |what: &str| self.0.is("detect", what);
        let scores = batch.f64s("sum").map_or_else(|_| vec![0.0; batch.len()], |sums| sums.to_vec());
        let above = self.0.config.above.unwrap_or(f64::INFINITY);
        let mut verdict = Verdict::above(scores, above, |_| Alert::new("sum", Severity::Medium));
        let alert = |row: usize, score: f64| Alert::new("odd", Severity::Low).row(row).score(score, 1.0);
        if does("short-scores") {
            verdict.scores.pop();
        }
        if does("long-scores") {
            verdict.scores.push(0.0);
        }
        if does("odd-scores") {
            let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, -0.0];
            verdict.scores.iter_mut().enumerate().for_each(|(i, score)| *score = odd[i % odd.len()]);
            verdict.alerts = odd.iter().map(|odd| alert(0, *odd)).collect();
        }
        if does("huge-scores") {
            verdict.scores = act::huge();
        }
        if does("alert-beyond") {
            verdict.alerts = [batch.len(), u32::MAX as usize].map(|row| alert(row, 2.0)).into();
        }
        if does("million-alerts") {
            verdict.alerts = vec![alert(0, 2.0); 1_000_000];
        }
        if does("many-alerts") {
            verdict.alerts = vec![alert(0, 2.0); 20_000];
        }
        if does("long-alerts") {
            let long = "x\n\u{1b}[31m".repeat(1 << 17);
            let mut one = alert(0, 2.0).message(long.clone());
            one.kind.clone_from(&long);
            (0..100).for_each(|_| one.contributions.push(act::contribution(&long[..4096])));
            (0..100).for_each(|i| one.attributes.push((format!("{i}"), long[..4096].to_owned())));
            verdict.alerts = vec![one];
        }
        if does("alike-alerts") {
            verdict.alerts = act::alike(4096, 1 << 20).into_iter().map(|long| alert(0, 2.0).message(long)).collect();
        }
        Ok(verdict)
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        self.0.snapshot("snapshot")
    }

    fn restore(&mut self, _: u32, bytes: &[u8]) -> Result<()> {
        self.0.restore("restore", bytes)
    }
}

export_plugin!(name = "hostile", source = Lines, extractor = Sums, detector = Above);
