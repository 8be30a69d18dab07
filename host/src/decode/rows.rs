//! Rows of features that something else has worked out: one per window and entity. Comes in: frames that are lines of
//! CSV or JSON, or batches of Parquet; goes out: [`FeatureRow`]s. Refuses lines that are no row, by reason and counted;
//! a file that lacks a column which the pipeline names is refused as a whole, with the columns that it has. A value
//! that is absent or no number becomes NaN: the detector has no opinion on such a row.

use super::records::{Fields, Scalar, address, batches, scalar, time};
use super::stats::{DecodeStats, Refusal};
use crate::config::RowsPlan;
use crate::config::decode_options::{DecodeFormat, DecodeOptions};
use crate::model::{Addr, EntityKey, FrameBatch, KeyKind};
use serde_json::{Map, Value};

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureRow {
    /// Start of its window, ns since the Unix epoch.
    pub start_ns: u64,
    /// What it is about.
    pub key: EntityKey,
    /// In the order of the pipeline's features.
    pub values: Vec<f64>,
}

/// Reads rows for one pipeline.
pub struct RowsDecoder {
    plan: RowsPlan,
    delimiter: u8,
    format: DecodeFormat,
    /// `a` or `a / b`, as positions in `wanted`.
    features: Vec<(usize, Option<usize>)>,
    /// Columns to read: time, entity (if any), then those of the features.
    wanted: Vec<String>,
    /// Of a csv file: position in the line for each wanted column, once its header was seen.
    header: Option<Vec<usize>>,
    fields: usize,
    number: u64,
    stats: DecodeStats,
}

/// The file lacks a column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no column `{name}` in the rows; they have {known}")]
pub struct MissingColumn {
    /// Which.
    pub name: String,
    /// Those that there are.
    pub known: String,
}

enum Refused {
    Row(Refusal, String),
    File(MissingColumn),
}

impl RowsDecoder {
    /// `features`: columns, or ratios `a / b`, as the config has checked them.
    pub fn new(plan: &RowsPlan, features: &[String], options: &DecodeOptions) -> Self {
        let mut wanted = vec![plan.time.clone()];
        wanted.extend(plan.entity.clone());
        let mut position = |name: &str| match wanted.iter().position(|w| w == name) {
            Some(at) => at,
            None => {
                wanted.push(name.to_owned());
                wanted.len() - 1
            }
        };
        let features = features
            .iter()
            .map(|f| match f.split_once(" / ") {
                Some((a, b)) => (position(a), Some(position(b))),
                None => (position(f), None),
            })
            .collect();
        Self {
            plan: plan.clone(),
            delimiter: options.csv_delimiter as u8,
            format: options.format.unwrap_or(DecodeFormat::Csv),
            features,
            wanted,
            header: None,
            fields: 0,
            number: 0,
            stats: DecodeStats::default(),
        }
    }

    /// Counters since the start.
    pub fn stats(&self) -> &DecodeStats {
        &self.stats
    }

    /// Appends the rows of these frames.
    pub fn decode(&mut self, input: &FrameBatch, out: &mut Vec<FeatureRow>) -> Result<(), MissingColumn> {
        for frame in &input.frames {
            let bytes = input.bytes(frame);
            let before = out.len();
            let read = match self.format {
                DecodeFormat::Parquet => self.batch(bytes, out),
                _ => self.line(bytes.trim_ascii(), out),
            };
            self.stats.rows += (out.len() - before) as u64;
            match read {
                Ok(()) => {}
                Err(Refused::File(missing)) => return Err(missing),
                Err(Refused::Row(why, text)) => {
                    self.stats.refuse(why, bytes.len());
                    self.stats.first_error.get_or_insert_with(|| format!("line {}: {text}", self.number));
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, bytes: &[u8], out: &mut Vec<FeatureRow>) -> Result<(), Refused> {
        self.number += 1;
        if bytes.is_empty() {
            return Ok(());
        }
        self.stats.datagrams += 1;
        self.stats.bytes += bytes.len() as u64;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Refused::Row(Refusal::BadLine, "the line is not UTF-8".to_owned()))?;
        if self.format == DecodeFormat::Jsonl {
            let object: Map<String, Value> = serde_json::from_str(text)
                .map_err(|error| Refused::Row(Refusal::BadLine, format!("no JSON object: {error}")))?;
            // A key that a line lacks is a value that is absent: JSON leaves out what is null.
            let cells: Vec<_> = self.wanted.iter().map(|w| object.get(w).map_or(Scalar::Text(""), json)).collect();
            return self.row(&cells, out);
        }
        let Some(header) = &self.header else {
            let names: Vec<String> = Fields::new(text.trim_start_matches('\u{feff}'), self.delimiter)
                .map(|name| name.trim().to_owned())
                .collect();
            self.header = Some(self.places(&names)?);
            self.fields = names.len();
            return Ok(());
        };
        let fields: Vec<_> = Fields::new(text, self.delimiter).collect();
        if fields.len() != self.fields {
            let text = format!("{} fields, the header has {}", fields.len(), self.fields);
            return Err(Refused::Row(Refusal::FieldCount, text));
        }
        let cells: Vec<_> = header.iter().map(|&at| Scalar::Text(fields[at].trim())).collect();
        self.row(&cells, out)
    }

    fn batch(&mut self, bytes: &[u8], out: &mut Vec<FeatureRow>) -> Result<(), Refused> {
        let read = batches(bytes).map_err(|text| Refused::Row(Refusal::BadLine, text))?;
        for batch in read {
            let schema = batch.schema();
            let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
            let places = self.places(&names)?;
            for row in 0..batch.num_rows() {
                self.number += 1;
                self.stats.datagrams += 1;
                let cells: Vec<_> = places.iter().map(|&at| scalar(batch.column(at), row)).collect();
                self.row(&cells, out)?;
            }
        }
        Ok(())
    }

    fn row(&self, cells: &[Scalar<'_>], out: &mut Vec<FeatureRow>) -> Result<(), Refused> {
        let bad = |name: &str, what: &str, cell: Scalar<'_>| {
            let text = match cell {
                Scalar::Text(text) => format!("{text:?}"),
                Scalar::Integer(n) | Scalar::Nanos(n) => n.to_string(),
                Scalar::Float(x) => x.to_string(),
            };
            Refused::Row(Refusal::BadField, format!("{name}: {text} is no {what}"))
        };
        let start_ns = time(cells[0], self.plan.time_unit).ok_or_else(|| bad(&self.plan.time, "time", cells[0]))?;
        let (kind, addr) = match &self.plan.entity {
            None => (KeyKind::Network, Addr::UNSPECIFIED),
            Some(name) => (KeyKind::DstAddr, address(cells[1]).ok_or_else(|| bad(name, "IP address", cells[1]))?),
        };
        let number = |at: usize| match cells[at] {
            Scalar::Integer(n) => n as f64,
            Scalar::Float(x) => x,
            Scalar::Text(text) => text.parse().unwrap_or(f64::NAN),
            Scalar::Nanos(_) => f64::NAN,
        };
        let value = |(a, b): &(usize, Option<usize>)| match b {
            None => number(*a),
            // Nothing of nothing is nothing.
            Some(b) if number(*b) == 0.0 => 0.0,
            Some(b) => number(*a) / number(*b),
        };
        let values = self.features.iter().map(value).collect();
        out.push(FeatureRow { start_ns, key: EntityKey { kind, addr, extra: 0 }, values });
        Ok(())
    }

    /// Where the wanted columns stand.
    fn places(&self, names: &[String]) -> Result<Vec<usize>, Refused> {
        let place = |wanted: &String| {
            names
                .iter()
                .position(|n| n == wanted)
                .ok_or_else(|| Refused::File(MissingColumn { name: wanted.clone(), known: names.join(", ") }))
        };
        self.wanted.iter().map(place).collect()
    }
}

fn json(value: &Value) -> Scalar<'_> {
    match value {
        Value::Number(n) => n.as_u64().map_or(Scalar::Float(n.as_f64().unwrap_or(f64::NAN)), Scalar::Integer),
        Value::String(text) => Scalar::Text(text),
        Value::Bool(b) => Scalar::Integer(u64::from(*b)),
        _ => Scalar::Text(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode_options::TimeUnit;
    use crate::model::frames::NO_PEER;

    fn decoder(format: DecodeFormat, entity: Option<&str>, features: &[&str]) -> RowsDecoder {
        let plan = RowsPlan { time: "t".into(), time_unit: TimeUnit::Seconds, entity: entity.map(str::to_owned) };
        let features: Vec<String> = features.iter().map(|f| (*f).to_owned()).collect();
        RowsDecoder::new(&plan, &features, &DecodeOptions { format: Some(format), ..Default::default() })
    }

    fn decode(decoder: &mut RowsDecoder, lines: &[&str]) -> Result<Vec<FeatureRow>, MissingColumn> {
        let (mut frames, mut out) = (FrameBatch::default(), Vec::new());
        lines.iter().for_each(|line| frames.push(line.as_bytes(), NO_PEER, 0));
        decoder.decode(&frames, &mut out).map(|()| out)
    }

    #[test]
    fn columns_and_ratios_of_a_csv_file() {
        let mut d = decoder(DecodeFormat::Csv, None, &["n", "udp / n"]);
        let rows = decode(&mut d, &["t,udp,n", "10,3,4", "20,0,0", "30,,5", "x,1,1", "40,1"]).unwrap();
        assert_eq!(rows.len(), 3);
        assert_eq!((rows[0].start_ns, &*rows[0].values), (10_000_000_000, &[4.0, 0.75][..]));
        assert_eq!(rows[0].key.to_string(), "all");
        assert_eq!(rows[1].values, [0.0, 0.0], "nothing of nothing");
        assert!(rows[2].values[1].is_nan(), "absent is not 0");
        assert_eq!((d.stats().errors_total(), d.stats().rows), (2, 3));
        assert_eq!(d.stats().first_error.as_deref(), Some("line 5: t: \"x\" is no time"));
    }

    #[test]
    fn a_file_without_a_column_is_refused_as_a_whole() {
        let error = decode(&mut decoder(DecodeFormat::Csv, None, &["m"]), &["t,n", "1,2"]).unwrap_err();
        assert_eq!(error.to_string(), "there is no column `m` in the rows; they have t, n");
    }

    #[test]
    fn times_without_a_zone_are_utc() {
        let mut d = decoder(DecodeFormat::Csv, None, &["v"]);
        let times =
            ["2014-02-14 14:30:00", "2014-02-14T14:30:00.5", "2014-02-14 15:30:00+01:00", "2014-02-14", "14:30:00"];
        let lines: Vec<String> = std::iter::once("t,v".to_owned()).chain(times.map(|t| format!("{t},1"))).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let rows: Vec<u64> = decode(&mut d, &lines).unwrap().iter().map(|r| r.start_ns).collect();
        let at = 1_392_388_200_000_000_000;
        assert_eq!(rows, [at, at + 500_000_000, at], "an offset counts where there is one");
        assert_eq!(d.stats().first_error.as_deref(), Some("line 5: t: \"2014-02-14\" is no time"));
    }

    #[test]
    fn json_lines_of_entities() {
        let mut d = decoder(DecodeFormat::Jsonl, Some("host"), &["n"]);
        let lines = ["{\"t\":1,\"host\":\"192.0.2.1\",\"n\":2.5}", "{\"t\":1,\"host\":\"x\",\"n\":1}"];
        let rows = decode(&mut d, &lines).unwrap();
        assert_eq!((rows.len(), rows[0].values[0], rows[0].key.to_string()), (1, 2.5, "192.0.2.1".to_owned()));
    }
}
