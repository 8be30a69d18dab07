//! What a plugin under test sees. For a source a line per frame (`input.txt`, or `input.hex` for bytes); for others CSV or
//! JSON lines, a row each; goes out: frames, or one batch per window. Columns with a meaning: `window_start` (seconds
//! since the epoch, or RFC 3339; 0), `window_secs` (10), `revision` (0), `partial` (false) and, for detectors, the entity:
//! `key`, or the name of a level such as `dst_addr`. All others are a detector's features (an empty one is NaN), or an
//! extractor's columns: numbers, addresses or text. Refused: rows without an entity, texts where numbers are due.

use super::error::AuthoringError;
use crate::model::frames::NO_PEER;
use crate::model::time::SECOND;
use crate::model::{Addr, EntityKey, FrameBatch, KeyKind, WindowInfo};
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, Float64Array, RecordBatch, StringArray};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field, Schema};
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::sync::Arc;

/// Feature rows of one window.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The span.
    pub window: WindowInfo,
    /// The entity of each row, as it was written; none where there are none.
    pub entities: Vec<String>,
    /// `key` and the features, or other columns.
    pub rows: RecordBatch,
}

const WINDOW_SECS: f64 = 10.0;

/// A file and its text.
#[derive(Clone, Debug)]
pub struct Input {
    /// File.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

impl Input {
    /// Names of the file in a scenario's folder.
    pub const NAMES: [&str; 4] = ["input.csv", "input.jsonl", "input.txt", "input.hex"];

    fn is(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|e| e == extension)
    }

    /// Whether it is frames rather than rows.
    pub fn is_frames(&self) -> bool {
        self.is("txt") || self.is("hex")
    }

    /// One frame per line, each received a second after the one before.
    pub fn frames(&self) -> Result<FrameBatch, AuthoringError> {
        let mut frames = FrameBatch::default();
        for (n, line) in self.text.lines().enumerate() {
            let bytes = if self.is("hex") { hex(line) } else { Some(line.as_bytes().to_vec()) };
            let wrong = || AuthoringError::file(&self.path, format!("line {}: not pairs of hexadecimal digits", n + 1));
            frames.push(&bytes.ok_or_else(wrong)?, NO_PEER, (n as u64 + 1) * SECOND);
        }
        Ok(frames)
    }

    /// Rows of features by window, each of an entity.
    pub fn features(&self) -> Result<Vec<Batch>, AuthoringError> {
        self.windows(|rows| {
            let features = names(&rows, is_ours);
            read_all(&rows, |row| read_row(row, &features))?.chunk_by(same).map(|rows| batch(rows, &features)).collect()
        })
    }

    /// Rows of any columns by window.
    pub fn records(&self) -> Result<Vec<Batch>, AuthoringError> {
        self.windows(|rows| {
            let columns = names(&rows, is_window);
            let read = read_all(&rows, |row| {
                let values: Vec<Value> =
                    columns.iter().map(|name| row.get(name).cloned().unwrap_or_default()).collect();
                Ok((window(row)?, values))
            })?;
            let kinds: Vec<Kind> =
                (0..columns.len()).map(|at| Kind::of(read.iter().map(|(_, row)| &row[at]))).collect();
            read.chunk_by(|a, b| a.0 == b.0).map(|rows| records(rows, &columns, &kinds)).collect()
        })
    }

    fn windows(
        &self,
        batches: impl FnOnce(Vec<Row>) -> Result<Vec<Batch>, String>,
    ) -> Result<Vec<Batch>, AuthoringError> {
        let rows = if self.is("csv") { csv(&self.text) } else { json_lines(&self.text) };
        rows.and_then(batches).map_err(|message| AuthoringError::file(&self.path, message))
    }
}

fn hex(line: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = line.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    digits.len().is_multiple_of(2).then(|| pairs.collect())?
}

/// A row with the line that it stands on.
type Row = (u64, Map<String, Value>);

fn csv(text: &str) -> Result<Vec<Row>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(text.as_bytes());
    let head = reader.headers().map_err(|e| e.to_string())?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| e.to_string())?;
        let cell = |cell: &str| match cell.parse::<f64>() {
            Ok(number) if number.is_finite() => Value::from(number),
            Ok(_) => Value::Null,
            Err(_) if cell.is_empty() => Value::Null,
            Err(_) => Value::from(cell),
        };
        let row = head.iter().zip(&record).map(|(name, value)| (name.to_owned(), cell(value))).collect();
        rows.push((record.position().map_or(0, csv::Position::line), row));
    }
    Ok(rows)
}

fn json_lines(text: &str) -> Result<Vec<Row>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(n, line): (usize, &str)| {
        let row = serde_json::from_str(line).map_err(|e| format!("line {}: not a JSON object: {e}", n + 1))?;
        Ok((n as u64 + 1, row))
    };
    lines.map(read).collect()
}

/// Columns in the order in which they come first.
fn names(rows: &[Row], left_out: fn(&str) -> bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in rows.iter().flat_map(|(_, row)| row.keys()) {
        if !left_out(name) && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn read_all<T>(rows: &[Row], read: impl Fn(&Map<String, Value>) -> Result<T, String>) -> Result<Vec<T>, String> {
    rows.iter().map(|(line, row)| read(row).map_err(|message| format!("line {line}: {message}"))).collect()
}

fn same(a: &ReadRow, b: &ReadRow) -> bool {
    a.window == b.window
}

/// What all values of a column are.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Number,
    Address,
    Text,
}

impl Kind {
    fn of<'a>(values: impl Iterator<Item = &'a Value> + Clone) -> Self {
        let address = |v: &Value| v.as_str().is_some_and(|text| text.parse::<Addr>().is_ok());
        let mut present = values.filter(|v| !v.is_null());
        if present.clone().all(|v| v.is_number() || v.is_boolean()) {
            Kind::Number
        } else if present.all(address) {
            Kind::Address
        } else {
            Kind::Text
        }
    }
}

fn records(rows: &[(WindowInfo, Vec<Value>)], names: &[String], kinds: &[Kind]) -> Result<Batch, String> {
    let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
    for (at, (name, kind)) in names.iter().zip(kinds).enumerate() {
        let values = rows.iter().map(|(_, row)| &row[at]);
        let column: ArrayRef = match kind {
            Kind::Number => {
                let number = |v: &Value| v.as_f64().or(v.as_bool().map(|b| f64::from(u8::from(b))));
                Arc::new(values.map(number).collect::<Float64Array>())
            }
            Kind::Address => {
                let addr = |v: &Value| v.as_str().and_then(|text| Some(text.parse::<Addr>().ok()?.0));
                let found = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.map(addr), 16);
                Arc::new(found.map_err(|e| e.to_string())?)
            }
            Kind::Text => {
                let text = |v: &Value| (!v.is_null()).then(|| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
                Arc::new(values.map(text).collect::<StringArray>())
            }
        };
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| e.to_string())?;
    Ok(Batch { window: rows[0].0, entities: Vec::new(), rows: batch })
}

struct ReadRow {
    window: WindowInfo,
    entity: String,
    key: EntityKey,
    values: Vec<f64>,
}

fn is_window(name: &str) -> bool {
    matches!(name, "window_start" | "window_secs" | "revision" | "partial")
}

fn is_ours(name: &str) -> bool {
    is_window(name) || name == "key" || KeyKind::from_name(name).is_some()
}

fn number(row: &Map<String, Value>, name: &str, default: f64) -> Result<f64, String> {
    match row.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(b)) => Ok(f64::from(u8::from(*b))),
        Some(value) => value.as_f64().ok_or_else(|| format!("`{name}` is {value}, not a number")),
    }
}

fn read_row(row: &Map<String, Value>, features: &[String]) -> Result<ReadRow, String> {
    let (entity, key) = entity(row)?;
    let values = features.iter().map(|name| number(row, name, f64::NAN)).collect::<Result<_, _>>()?;
    Ok(ReadRow { window: window(row)?, entity, key, values })
}

fn window(row: &Map<String, Value>) -> Result<WindowInfo, String> {
    let start_ns = match row.get("window_start") {
        Some(Value::String(text)) => {
            let time: jiff::Timestamp =
                text.parse().map_err(|e| format!("`window_start` is {text:?}: {e}; write seconds or RFC 3339"))?;
            u64::try_from(time.as_nanosecond()).map_err(|_| "`window_start` is before 1970")?
        }
        _ => (number(row, "window_start", 0.0)? * 1e9).round() as u64,
    };
    let end_ns = start_ns.saturating_add((number(row, "window_secs", WINDOW_SECS)? * 1e9).round() as u64);
    let partial = match row.get("partial") {
        Some(Value::String(text)) if text == "true" || text == "false" => text == "true",
        _ => number(row, "partial", 0.0)? != 0.0,
    };
    let revision = number(row, "revision", 0.0)? as u32;
    Ok(WindowInfo { start_ns, end_ns, revision, watermark_ns: end_ns, partial })
}

fn entity(row: &Map<String, Value>) -> Result<(String, EntityKey), String> {
    let level = KeyKind::ALL.into_iter().map(|kind| (kind.name(), Some(kind)));
    let written = std::iter::once(("key", None)).chain(level).find_map(|(name, kind)| Some((kind, row.get(name)?)));
    let Some((kind, value)) = written else {
        return Err("no entity: write a column `key`, or one named as a level, such as `dst_addr`".into());
    };
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (addr, extra, looks) = if text == "all" {
        (Some(Addr::UNSPECIFIED), 0, KeyKind::Network)
    } else if let Some((addr, len)) = text.split_once('/') {
        let len = len.parse::<u8>().ok().filter(|len| *len <= 128);
        let addr = addr.parse::<Addr>().ok().zip(len).map(|(addr, len)| addr.prefix(len, len).addr);
        (addr, len.unwrap_or(0).into(), KeyKind::DstPrefix)
    } else if let Some((addr, index)) = text.split_once(" if ") {
        let index = index.parse::<u32>().ok();
        (addr.parse().ok().filter(|_| index.is_some()), index.unwrap_or(0), KeyKind::Interface)
    } else {
        (text.parse().ok(), 0, KeyKind::DstAddr)
    };
    let kind = kind.unwrap_or(looks);
    let fits = looks == kind || (looks, kind) == (KeyKind::DstAddr, KeyKind::SrcAddr);
    match addr.filter(|_| fits) {
        Some(addr) => Ok((text, EntityKey { kind, addr, extra })),
        None => Err(format!(
            "`{text}` is no {}: write an address, ADDRESS/LENGTH, `ADDRESS if INDEX` or `all`",
            if fits { "entity" } else { kind.name() }
        )),
    }
}

fn batch(rows: &[ReadRow], features: &[String]) -> Result<Batch, String> {
    let keys: Vec<u8> = rows.iter().flat_map(|row| row.key.to_bytes()).collect();
    let mut fields = vec![Field::new("key", DataType::FixedSizeBinary(EntityKey::WIDTH as i32), false)];
    let keys = FixedSizeBinaryArray::new(EntityKey::WIDTH as i32, Buffer::from_vec(keys), None);
    let mut columns: Vec<ArrayRef> = vec![Arc::new(keys)];
    for (at, name) in features.iter().enumerate() {
        fields.push(Field::new(name, DataType::Float64, false));
        columns.push(Arc::new(rows.iter().map(|row| row.values[at]).collect::<Float64Array>()));
    }
    let entities = rows.iter().map(|row| row.entity.clone()).collect();
    let rows_of = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| e.to_string())?;
    Ok(Batch { window: rows[0].window, entities, rows: rows_of })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Float64Type;

    fn read(name: &str, text: &str) -> Result<Vec<Batch>, String> {
        Input { path: name.into(), text: text.into() }.features().map_err(|e| e.to_string())
    }

    #[test]
    fn csv_and_json_lines_say_the_same() {
        let csv = "window_start,src_addr,flows,bytes\n0,192.0.2.1,1,\n0,192.0.2.2,2,5\n10,192.0.2.1,3,6\n";
        let lines = r#"{"src_addr": "192.0.2.1", "flows": 1}
{"src_addr": "192.0.2.2", "flows": 2, "bytes": 5}
{"window_start": "1970-01-01T00:00:10Z", "src_addr": "192.0.2.1", "flows": 3, "bytes": 6}"#;
        let (csv, lines) = (read("a.csv", csv).unwrap(), read("a.jsonl", lines).unwrap());
        assert_eq!(csv.len(), 2);
        for (a, b) in csv.iter().zip(&lines) {
            assert_eq!((a.window, &a.entities), (b.window, &b.entities));
            assert_eq!(a.rows.column_by_name("key").unwrap(), b.rows.column_by_name("key").unwrap());
            let flows = |batch: &Batch| batch.rows.column_by_name("flows").unwrap().clone();
            assert_eq!(&flows(a), &flows(b));
        }
        let bytes = csv[0].rows.column_by_name("bytes").unwrap().as_primitive::<Float64Type>().values().clone();
        assert!(bytes[0].is_nan() && bytes[1] == 5.0);
        assert_eq!((csv[1].window.start_ns, csv[1].window.end_ns), (10_000_000_000, 20_000_000_000));
    }

    #[test]
    fn records_have_the_types_that_their_values_have() {
        let text = "window_start,addr,name,bytes\n0,192.0.2.1,a,1\n0,,b,\n10,2001:db8::1,7,3\n";
        let found = Input { path: "a.csv".into(), text: text.into() }.records().unwrap();
        let types: Vec<_> = found[0].rows.schema().fields().iter().map(|f| f.data_type().clone()).collect();
        // By name: addr, bytes, name.
        assert_eq!(types, [DataType::FixedSizeBinary(16), DataType::Float64, DataType::Utf8]);
        assert_eq!((found.len(), found[0].rows.num_rows(), found[0].rows.column(0).null_count()), (2, 2, 1));
    }

    #[test]
    fn frames_are_lines() {
        let read = |path: &str, text: &str| Input { path: path.into(), text: text.into() }.frames();
        let frames = read("a.txt", "one\n\nthree").unwrap();
        let found: Vec<_> = frames.frames.iter().map(|f| (frames.bytes(f), f.received_ns / SECOND)).collect();
        assert_eq!(found, [(&b"one"[..], 1), (b"", 2), (b"three", 3)]);
        let frames = read("a.hex", "00 ff0a").unwrap();
        assert_eq!(frames.bytes(&frames.frames[0]), [0, 255, 10]);
        assert!(read("a.hex", "0").unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn entities_of_every_level() {
        let text = "key,x\n192.0.2.1,1\n192.0.2.77/24,1\n2001:db8::1 if 7,1\nall,1\n";
        let batch = &read("a.csv", text).unwrap()[0];
        let keys = batch.rows.column(0).as_fixed_size_binary();
        let kinds: Vec<u8> = (0..4).map(|row| keys.value(row)[0]).collect();
        assert_eq!(kinds, [1, 2, 4, 5]);
        assert_eq!(keys.value(1)[13..17], [192, 0, 2, 0], "host bits are cleared");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_line() {
        for (text, why) in [
            ("flows\n1\n", "line 2: no entity"),
            ("key,flows\nnobody,1\n", "`nobody` is no entity"),
            ("dst_addr,flows\n192.0.2.0/24,1\n", "is no dst_addr"),
            ("key,flows\n192.0.2.1,many\n", "`flows` is \"many\", not a number"),
            ("window_start,key\nyesterday,192.0.2.1\n", "`window_start` is \"yesterday\""),
            ("key,flows\n192.0.2.1,1,2\n", "fields"),
        ] {
            let error = read("a.csv", text).unwrap_err();
            assert!(error.contains(why) && error.starts_with("a.csv"), "{text}: {error}");
        }
        assert!(read("a.jsonl", "{}\n[]").unwrap_err().contains("line 2"));
    }
}
