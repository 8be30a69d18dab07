//! Lines of metrics to rows. In: frames, each a line (or several) of comma-separated values or Graphite's plaintext. Out: rows of
//! time, series and value. Refused: lines with another number of fields, a time or a value that is none. A line that repeats
//! the names of the columns is a header, and none of these.

mod time;

use kaminari_plugin_sdk::prelude::*;

config! {
    /// `decode.config` of a source.
    pub struct Config {
        /// What a line is.
        #[serde(default)]
        format: Format,
        /// For `csv`: what the fields are, in order. `time` and `value` must be among them; `series` names the series, which
        /// else is who sent the line (the path of a file); other names are read over.
        #[serde(default = "columns")]
        columns: Vec<String>,
        /// For `csv`: what stands between fields.
        #[serde(default = "comma")]
        delimiter: char,
    }
    /// What a line is.
    #[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
    #[serde(rename_all = "snake_case")]
    pub enum Format {
        /// Fields between delimiters.
        #[default]
        Csv,
        /// `SERIES VALUE TIME`.
        Graphite,
    }
}

fn columns() -> Vec<String> {
    vec!["time".into(), "value".into()]
}
fn comma() -> char {
    ','
}

/// Series of numbers.
pub struct Metrics {
    config: Config,
    time: usize,
    value: usize,
    series: Option<usize>,
    fields: usize,
}

impl Source for Metrics {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if config.format == Format::Graphite {
            return Ok(Self { config, series: Some(0), value: 1, time: 2, fields: 3 });
        }
        let position = |name: &str| config.columns.iter().position(|c| c == name);
        let required =
            |name: &str| position(name).ok_or_else(|| error::config("columns", format!("`{name}` must be among them")));
        if let Some(i) = (0..config.columns.len()).find(|&i| config.columns[..i].contains(&config.columns[i])) {
            return Err(error::config(format!("columns[{i}]"), format!("`{}` stands there twice", config.columns[i])));
        }
        let (time, value, series) = (required("time")?, required("value")?, position("series"));
        Ok(Self { time, value, series, fields: config.columns.len(), config })
    }

    fn schema(&self) -> Schema {
        Schema::of([("time", DataType::TimestampNs), ("series", DataType::Utf8), ("value", DataType::Float64)])
    }

    fn decode(&mut self, frames: &Frames) -> Result<Decoded> {
        let mut out = Decoded::new(&self.schema());
        let mut fields: Vec<&str> = Vec::new();
        for frame in frames.iter() {
            let Ok(text) = std::str::from_utf8(frame.bytes) else {
                out.reject(&frame, "not-utf8");
                continue;
            };
            for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
                fields.clear();
                match self.config.format {
                    Format::Csv => fields.extend(line.split(self.config.delimiter).map(str::trim)),
                    Format::Graphite => fields.extend(line.split_ascii_whitespace()),
                }
                if fields.len() != self.fields {
                    out.reject(&frame, "field-count");
                    continue;
                }
                let (time, value) = (time::parse(fields[self.time]), fields[self.value].parse::<f64>().ok());
                let (time, value) = match (time, value) {
                    (Some(time), Some(value)) => (time, value),
                    // A header has neither, and a line of data that has neither is no line of data.
                    (None, None) if self.is_header(&fields) => continue,
                    (None, _) => {
                        out.reject(&frame, "no-time");
                        continue;
                    }
                    (_, None) => {
                        out.reject(&frame, "no-value");
                        continue;
                    }
                };
                let series = self.series.map_or(frame.peer, |at| fields[at]);
                out.rows.u64(0, time).text(1, series).f64(2, value).end_row();
            }
        }
        Ok(out)
    }
}

impl Metrics {
    /// Names in every field.
    fn is_header(&self, fields: &[&str]) -> bool {
        let is_name = |f: &&str| f.trim_matches('"').starts_with(|c: char| c.is_ascii_alphabetic());
        self.config.format == Format::Csv && fields.iter().all(is_name)
    }
}

export_plugin!(name = "metrics-source", source = Metrics);

#[cfg(test)]
mod tests {
    use super::*;
    use kaminari_plugin_sdk::testing::{self, Value, json};

    fn decode(config: Value, lines: &[&str]) -> (Batch, Vec<(u32, String)>) {
        testing::decode::<Metrics>(config, &testing::frames(1, lines)).unwrap()
    }

    #[test]
    fn csv_with_a_header() {
        let lines = [
            "timestamp,value",
            "2014-02-14 14:30:00,0.132",
            "2014-02-14 14:35:00,0.134",
            "x,1",
            "2014-02-14,",
            "1,2,3",
        ];
        let (rows, rejected) = decode(json!({}), &lines);
        assert_eq!(&*rows.f64s("value").unwrap(), [0.132, 0.134]);
        assert_eq!(rows.u64s("time").unwrap()[1], 1_392_388_500_000_000_000);
        assert_eq!(rows.bytes("series").unwrap().get(0), Some(&b"192.0.2.1:514"[..]), "who sent it");
        let reasons: Vec<&str> = rejected.iter().map(|(_, r)| r.as_str()).collect();
        assert_eq!(reasons, ["no-time", "no-value", "field-count"]);
    }

    #[test]
    fn series_in_a_column_and_several_lines_in_a_datagram() {
        let config = json!({ "columns": ["series", "unit", "time", "value"], "delimiter": ";" });
        let (rows, rejected) = decode(config, &["cpu;%;1;50\nmem;MB;1;7\n", "# comment", "cpu;%;2;x"]);
        assert_eq!((rows.len(), rejected.len()), (2, 1));
        assert_eq!(rows.bytes("series").unwrap().get(1), Some(&b"mem"[..]));
    }

    #[test]
    fn graphite() {
        let (rows, rejected) =
            decode(json!({ "format": "graphite" }), &["web.1.load 0.5 1392388200", "web.1.load 0.5"]);
        assert_eq!((rows.len(), rejected.len()), (1, 1));
        assert_eq!(rows.bytes("series").unwrap().get(0), Some(&b"web.1.load"[..]));
    }

    #[test]
    fn bad_configurations_are_told_by_their_key() {
        for (config, text) in [
            (json!({ "columns": ["time"] }), "`columns`: `value` must be among them"),
            (json!({ "columns": ["time", "value", "time"] }), "`columns[2]`: `time` stands there twice"),
            (json!({ "format": "xml" }), "format"),
        ] {
            let error = testing::decode::<Metrics>(config, &Frames::default()).err().expect("refused").to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
