//! Flow records under our own names, or names that the operator maps to them: JSON lines, CSV and Parquet. Comes in:
//! frames of one line each (a csv file's first is its header), of several lines of JSON, or of many rows in columns; goes
//! out: flow records. Refuses a line that is no record or has a field that cannot be read: it is counted by reason, the
//! first one's text is kept for the person, and reading goes on.

mod column;
mod columnar;
mod csv;
mod json;

pub(super) use self::column::{Scalar, address, time};
pub(super) use self::columnar::{batches, scalar};
pub(super) use self::csv::Fields;

use self::column::{Column, Line};
use super::json::{Keys, Scanner};
use super::stats::{DecodeStats, RateOrigin, Refusal};
use super::{DecodeError, Decoder};
use crate::config::decode_options::{DecodeFormat, DecodeOptions};
use crate::model::{FlowSink, Frame};
use std::collections::HashMap;

/// Decoder of JSON lines, CSV and Parquet.
pub struct RecordDecoder {
    options: DecodeOptions,
    /// Name in the file -> column, where the operator gave names.
    renamed: HashMap<String, Column>,
    /// Canonical names that were renamed: they no longer mean anything in the file.
    shadowed: Vec<Column>,
    /// The same for the keys of JSON.
    keys: Keys<Column>,
    /// Columns of a csv file by position, once its header was seen.
    header: Option<Vec<Option<Column>>>,
    line: Line,
    number: u64,
    stats: DecodeStats,
}

/// Why a line was refused.
struct BadLine {
    why: Refusal,
    text: String,
}

impl RecordDecoder {
    /// A decoder for `options.format` (jsonl unless csv is named).
    pub fn new(options: &DecodeOptions) -> Result<Self, DecodeError> {
        if !options.csv_delimiter.is_ascii() {
            return Err(DecodeError::Delimiter(options.csv_delimiter));
        }
        let mut renamed = HashMap::new();
        let mut shadowed = Vec::new();
        for (canonical, name) in &options.columns {
            let column = Column::from_name(canonical).ok_or_else(|| column::unknown(canonical))?;
            renamed.insert(name.clone(), column);
            shadowed.push(column);
        }
        let canonical = Column::all().filter(|c| !shadowed.contains(c)).map(|c| (c.name().to_owned(), c));
        let keys = Keys::new(renamed.iter().map(|(name, c)| (name.clone(), *c)).chain(canonical));
        Ok(Self {
            options: options.clone(),
            keys,
            renamed,
            shadowed,
            header: None,
            line: Line::new(options.time_unit),
            number: 0,
            stats: DecodeStats::default(),
        })
    }

    /// The column that a name of the file stands for.
    fn column(renamed: &HashMap<String, Column>, shadowed: &[Column], name: &str) -> Option<Column> {
        if !renamed.is_empty()
            && let Some(column) = renamed.get(name)
        {
            return Some(*column);
        }
        Column::from_name(name).filter(|c| !shadowed.contains(c))
    }

    /// One line of csv. False: it was the header.
    fn csv(&mut self, bytes: &[u8]) -> Result<bool, BadLine> {
        let Self { renamed, shadowed, line, .. } = self;
        line.clear();
        let text = std::str::from_utf8(bytes)
            .map_err(|_| BadLine { why: Refusal::BadLine, text: "the line is not UTF-8".to_owned() })?;
        let delimiter = self.options.csv_delimiter as u8;
        let Some(header) = &self.header else {
            let text = text.trim_start_matches('\u{feff}');
            let names = csv::Fields::new(text, delimiter);
            self.header = Some(names.map(|name| Self::column(renamed, shadowed, name.trim())).collect());
            return Ok(false);
        };
        csv::read(text, delimiter, header, line)?;
        line.check().map(|()| true)
    }
}

impl RecordDecoder {
    /// The line is whole: out with the record.
    fn take(&mut self, bytes: usize, received_ns: u64, out: &mut dyn FlowSink) {
        self.stats.decoded_bytes += bytes as u64;
        let record = self.line.finish(received_ns);
        let origin = match (record.sampling_rate, self.options.sampling_rate) {
            (0, Some(rate)) => {
                record.sampling_rate = rate;
                RateOrigin::Config
            }
            (0, None) => RateOrigin::Unknown,
            _ => RateOrigin::Record,
        };
        self.stats.sampling[origin as usize] += 1;
        self.stats.flows[record.flow_type as usize] += 1;
        out.push(record);
    }

    fn refuse(&mut self, what: &str, bad: &BadLine, bytes: usize) {
        self.stats.refuse(bad.why, bytes);
        if self.stats.first_error.is_none() {
            self.stats.first_error = Some(format!("{what} {}: {}", self.number, bad.text));
        }
    }

    /// Lines of JSON.
    fn objects(&mut self, bytes: &[u8], received_ns: u64, out: &mut dyn FlowSink) {
        let bytes = bytes.trim_ascii();
        let mut scanner = Scanner::new(bytes);
        // A blank line of a file is a line.
        self.number += u64::from(bytes.is_empty());
        while scanner.more() {
            let start = scanner.position();
            self.number += 1;
            self.line.clear();
            let read = json::read(&mut scanner, &mut self.keys, &mut self.line).and_then(|()| self.line.check());
            if read.is_err() {
                scanner.skip_line(start);
            }
            let len = scanner.position() - start;
            self.stats.datagrams += 1;
            self.stats.bytes += len as u64;
            match read {
                Ok(()) => self.take(len, received_ns, out),
                Err(bad) => self.refuse("line", &bad, len),
            }
        }
    }

    /// A batch of rows in columns.
    fn columns(&mut self, bytes: &[u8], received_ns: u64, out: &mut dyn FlowSink) {
        let read = batches(bytes).map_err(|text| BadLine { why: Refusal::BadLine, text });
        let read = match read {
            Ok(read) => read,
            Err(bad) => return self.refuse("row", &bad, bytes.len()),
        };
        for batch in read {
            let schema = batch.schema();
            let columns: Vec<(Column, _)> = schema
                .fields()
                .iter()
                .zip(batch.columns())
                .filter_map(|(f, a)| Some((Self::column(&self.renamed, &self.shadowed, f.name())?, a)))
                .collect();
            let width = bytes.len() / batch.num_rows().max(1);
            for row in 0..batch.num_rows() {
                self.number += 1;
                self.stats.datagrams += 1;
                self.stats.bytes += width as u64;
                self.line.clear();
                let line = &mut self.line;
                let set = columns.iter().try_for_each(|(column, array)| line.set(*column, scalar(array, row)));
                match set.and_then(|()| self.line.check()) {
                    Ok(()) => self.take(width, received_ns, out),
                    Err(bad) => self.refuse("row", &bad, width),
                }
            }
        }
    }
}

impl Decoder for RecordDecoder {
    fn frame(&mut self, bytes: &[u8], frame: &Frame, out: &mut dyn FlowSink) {
        match self.options.format {
            Some(DecodeFormat::Parquet) => return self.columns(bytes, frame.received_ns, out),
            Some(DecodeFormat::Csv) => {}
            _ => return self.objects(bytes, frame.received_ns, out),
        }
        let bytes = bytes.trim_ascii();
        self.number += 1;
        if bytes.is_empty() {
            return;
        }
        self.stats.datagrams += 1;
        self.stats.bytes += bytes.len() as u64;
        match self.csv(bytes) {
            Ok(false) => self.stats.framing_bytes += bytes.len() as u64,
            Ok(true) => self.take(bytes.len(), frame.received_ns, out),
            Err(bad) => self.refuse("line", &bad, bytes.len()),
        }
    }

    fn stats(&self) -> &DecodeStats {
        &self.stats
    }
}

#[cfg(test)]
mod tests;
