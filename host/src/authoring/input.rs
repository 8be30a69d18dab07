//! What a plugin under test sees. Comes in: CSV or JSON lines, a row per entity and window; goes out: one batch per
//! window. Columns with a meaning: `window_start` (seconds since the epoch, or RFC 3339; 0), `window_secs` (10),
//! `revision` (0), `partial` (false), and the entity: `key`, or the name of a level such as `dst_addr`. All others are
//! features; an empty one is NaN. Refused: rows without an entity, texts where numbers are due.

use super::error::AuthoringError;
use crate::model::{Addr, EntityKey, KeyKind, WindowInfo};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, Float64Array, RecordBatch};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field, Schema};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;

/// Feature rows of one window.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The span.
    pub window: WindowInfo,
    /// The entity of each row, as it was written.
    pub entities: Vec<String>,
    /// `key` and the features.
    pub rows: RecordBatch,
}

const WINDOW_SECS: f64 = 10.0;

/// Reads an input; `.csv`, else JSON lines.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Batch>, AuthoringError> {
    let rows = if path.extension().is_some_and(|e| e == "csv") { csv(text) } else { json_lines(text) };
    let rows = rows.map_err(|message| AuthoringError::file(path, message))?;
    batches(rows).map_err(|message| AuthoringError::file(path, message))
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

fn batches(rows: Vec<Row>) -> Result<Vec<Batch>, String> {
    let mut features: Vec<String> = Vec::new();
    for name in rows.iter().flat_map(|(_, row)| row.keys()) {
        if !is_ours(name) && !features.contains(name) {
            features.push(name.clone());
        }
    }
    let mut read = Vec::new();
    for (line, row) in &rows {
        read.push(read_row(row, &features).map_err(|message| format!("line {line}: {message}"))?);
    }
    let same = |a: &ReadRow, b: &ReadRow| a.window == b.window;
    read.chunk_by(same).map(|rows| batch(rows, &features)).collect()
}

struct ReadRow {
    window: WindowInfo,
    entity: String,
    key: EntityKey,
    values: Vec<f64>,
}

fn is_ours(name: &str) -> bool {
    matches!(name, "window_start" | "window_secs" | "revision" | "partial" | "key")
        || KeyKind::from_name(name).is_some()
}

fn read_row(row: &Map<String, Value>, features: &[String]) -> Result<ReadRow, String> {
    let number = |name: &str, default: f64| match row.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(b)) => Ok(f64::from(u8::from(*b))),
        Some(value) => value.as_f64().ok_or_else(|| format!("`{name}` is {value}, not a number")),
    };
    let start_ns = match row.get("window_start") {
        Some(Value::String(text)) => {
            let time: jiff::Timestamp =
                text.parse().map_err(|e| format!("`window_start` is {text:?}: {e}; write seconds or RFC 3339"))?;
            u64::try_from(time.as_nanosecond()).map_err(|_| "`window_start` is before 1970")?
        }
        _ => (number("window_start", 0.0)? * 1e9).round() as u64,
    };
    let end_ns = start_ns.saturating_add((number("window_secs", WINDOW_SECS)? * 1e9).round() as u64);
    let partial = match row.get("partial") {
        Some(Value::String(text)) if text == "true" || text == "false" => text == "true",
        _ => number("partial", 0.0)? != 0.0,
    };
    let revision = number("revision", 0.0)? as u32;
    let (entity, key) = entity(row)?;
    let values = features.iter().map(|name| number(name, f64::NAN)).collect::<Result<_, _>>()?;
    let window = WindowInfo { start_ns, end_ns, revision, watermark_ns: end_ns, partial };
    Ok(ReadRow { window, entity, key, values })
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
        parse(Path::new(name), text).map_err(|e| e.to_string())
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
