//! Reading of what is evaluated: text files, gzipped or not, tables with named columns, times.

use crate::model::time::SECOND;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It cannot be opened or read.
    #[error("{path}: {cause}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// There is nothing in it.
    #[error("{path}: {what}")]
    Empty {
        /// Which file.
        path: PathBuf,
        /// What was looked for, and what to do.
        what: String,
    },
    /// A line is not what it should be.
    #[error("{path}:{line}: {what}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A column is missing.
    #[error("{path}: no column `{column}`; there are: {known}")]
    Column {
        /// Which file.
        path: PathBuf,
        /// Looked for.
        column: String,
        /// Those of the first line.
        known: String,
    },
}

impl InputError {
    pub(super) fn line(path: &Path, line: u64, what: impl ToString) -> Self {
        InputError::Line { path: path.into(), line, what: what.to_string() }
    }

    pub(super) fn empty(path: &Path, what: &str) -> Self {
        InputError::Empty { path: path.into(), what: what.into() }
    }
}

/// The entity of a scored row or an incident.
#[derive(Deserialize)]
pub(super) struct Entity {
    /// Level.
    pub kind: String,
    /// Who.
    pub value: String,
}

/// The window of a scored row or an incident.
#[derive(Deserialize)]
pub(super) struct Window {
    start: String,
    end: String,
    /// Judged before its end.
    #[serde(default)]
    pub partial: bool,
}

impl Window {
    /// Start and end, ns since the epoch; refuses what is no time.
    pub fn span(&self) -> Result<(u64, u64), String> {
        let time = |text| rfc3339(text).ok_or_else(|| format!("window time `{text}` is no RFC 3339"));
        Ok((time(&self.start)?, time(&self.end)?))
    }
}

/// Opens a text file; gzip is told by its first bytes.
pub fn open(path: &Path) -> Result<Box<dyn BufRead>, InputError> {
    let io = |cause| InputError::Io { path: path.into(), cause };
    let mut raw = BufReader::with_capacity(1 << 16, File::open(path).map_err(io)?);
    let gzip = raw.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]);
    Ok(if gzip { Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(raw))) } else { Box::new(raw) })
}

/// Gives every line that is not blank, with its number from 1.
pub fn lines(path: &Path, mut each: impl FnMut(u64, &str) -> Result<(), InputError>) -> Result<(), InputError> {
    let mut file = open(path)?;
    let (mut number, mut text) = (0, String::new());
    loop {
        text.clear();
        number += 1;
        match file.read_line(&mut text) {
            Ok(0) => return Ok(()),
            Ok(_) if text.trim().is_empty() => {}
            Ok(_) => each(number, text.trim_end())?,
            Err(cause) if cause.kind() == io::ErrorKind::InvalidData => {
                return Err(InputError::line(path, number, "this is no text"));
            }
            Err(cause) => return Err(InputError::Io { path: path.into(), cause }),
        }
    }
}

/// A CSV file with its column names in the first line.
pub struct Table {
    path: PathBuf,
    names: Vec<String>,
    reader: csv::Reader<Box<dyn Read>>,
    record: csv::StringRecord,
}

impl Table {
    /// Opens it and reads the first line.
    pub fn open(path: &Path) -> Result<Self, InputError> {
        let file: Box<dyn Read> = open(path)?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
        let headers = reader.headers().map_err(|e| csv_error(path, e))?;
        let names: Vec<String> = headers.iter().map(str::to_owned).collect();
        if names.is_empty() {
            return Err(InputError::empty(path, "the file is empty: a CSV file with column names is wanted"));
        }
        Ok(Self { path: path.into(), names, reader, record: csv::StringRecord::new() })
    }

    /// True when there is a column of that name.
    pub fn has(&self, column: &str) -> bool {
        self.names.iter().any(|n| n == column)
    }

    /// The place of a column.
    pub fn column(&self, column: &str) -> Result<usize, InputError> {
        self.names.iter().position(|n| n == column).ok_or_else(|| InputError::Column {
            path: self.path.clone(),
            column: column.into(),
            known: self.names.join(", "),
        })
    }

    /// The next row; false at the end.
    pub fn advance(&mut self) -> Result<bool, InputError> {
        self.reader.read_record(&mut self.record).map_err(|e| csv_error(&self.path, e))
    }

    /// A cell of the row.
    pub fn text(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or("")
    }

    /// A cell as a number.
    pub fn number(&self, column: usize) -> Result<f64, InputError> {
        let text = self.text(column);
        match text.parse::<f64>() {
            Ok(n) if n.is_finite() => Ok(n),
            _ => Err(self.wrong(format!("`{}` is `{text}`, no number", self.names[column]))),
        }
    }

    /// A cell as a time: a number in that unit, or RFC 3339.
    pub fn time(&self, column: usize, unit: TimeUnit) -> Result<u64, InputError> {
        let text = self.text(column);
        parse_time(text, unit).ok_or_else(|| {
            self.wrong(format!("`{}` is `{text}`, neither a number since the epoch nor RFC 3339", self.names[column]))
        })
    }

    /// An error about the row.
    pub fn wrong(&self, what: impl ToString) -> InputError {
        InputError::line(&self.path, self.record.position().map_or(0, csv::Position::line), what)
    }
}

fn csv_error(path: &Path, error: csv::Error) -> InputError {
    let line = error.position().map(csv::Position::line);
    match (error.into_kind(), line) {
        (csv::ErrorKind::Io(cause), _) => InputError::Io { path: path.into(), cause },
        (csv::ErrorKind::UnequalLengths { expected_len, len, .. }, Some(line)) => {
            InputError::line(path, line, format!("{len} cells where the first line has {expected_len}"))
        }
        (_, line) => InputError::line(path, line.unwrap_or(0), "this is no CSV text"),
    }
}

/// Unit of a time given as a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeUnit {
    /// Seconds; decimals allowed.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

/// Nanoseconds since the epoch. Whole numbers are taken exactly: a double has no room for nanoseconds of today.
pub fn parse_time(text: &str, unit: TimeUnit) -> Option<u64> {
    let nanos = match unit {
        TimeUnit::Seconds => SECOND,
        TimeUnit::Millis => 1_000_000,
        TimeUnit::Micros => 1_000,
        TimeUnit::Nanos => 1,
    };
    if let Ok(whole) = text.parse::<u64>() {
        return whole.checked_mul(nanos);
    }
    if let Ok(number) = text.parse::<f64>() {
        let ns = (number * nanos as f64).round();
        // Below 2^64, so that the cast keeps it.
        return (0.0..1.8e19).contains(&ns).then_some(ns as u64);
    }
    rfc3339(text)
}

/// A time as scores, incidents and truth files have it.
pub fn rfc3339(text: &str) -> Option<u64> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_or_text() {
        assert_eq!(parse_time("233428.555", TimeUnit::Seconds), Some(233_428_555_000_000));
        assert_eq!(parse_time("1795000000000000001", TimeUnit::Nanos), Some(1_795_000_000_000_000_001));
        assert_eq!(parse_time("12", TimeUnit::Millis), Some(12_000_000));
        assert_eq!(parse_time("1970-01-01T00:00:01.5Z", TimeUnit::Nanos), Some(1_500_000_000));
        for bad in ["", "-1", "NaN", "inf", "yesterday", "99999999999999999999"] {
            assert_eq!(parse_time(bad, TimeUnit::Seconds), None, "{bad}");
        }
    }

    #[test]
    fn unknown_columns_name_those_that_exist() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        std::fs::write(&path, "t, bot\n1,2\n").unwrap();
        let table = Table::open(&path).unwrap();
        assert_eq!(table.column("bot").unwrap(), 1);
        let error = table.column("label").unwrap_err().to_string();
        assert!(error.ends_with("x.csv: no column `label`; there are: t, bot"), "{error}");
    }

    #[test]
    fn bad_cells_are_told_with_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        std::fs::write(&path, "t,n\n1,2\nx,y\n1,2,3\n").unwrap();
        let mut table = Table::open(&path).unwrap();
        assert!(table.advance().unwrap() && table.number(1).unwrap() == 2.0);
        assert!(table.advance().unwrap());
        assert!(table.number(1).unwrap_err().to_string().ends_with("x.csv:3: `n` is `y`, no number"));
        let error = table.advance().unwrap_err().to_string();
        assert!(error.ends_with("x.csv:4: 3 cells where the first line has 2"), "{error}");
        std::fs::write(&path, "").unwrap();
        assert!(Table::open(&path).err().unwrap().to_string().contains("the file is empty"));
    }
}
