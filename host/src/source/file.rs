//! Files as a source: packet captures (pcap, pcapng), lines of JSON or CSV, messages of protobuf or Arrow, each also gzipped;
//! Parquet. Comes in: a path; goes out: batches of frames. Refuses files it cannot open or tell the kind of, and packets that are no UDP datagrams (by
//! reason); metric `kaminari_source_refused_total`. A file that ends in the middle of a packet gives what came before,
//! and then an error that names the packet.

use super::messages::{Arrow, Delimited};
use super::parquet::Parquet;
use super::pcap::{Capture, Skipped};
use crate::config::decode_options::{DecodeFormat, DecodeOptions};
use crate::config::registry::ComponentDef;
use crate::model::FrameBatch;
use crate::model::frames::NO_PEER;
use flate2::read::MultiGzDecoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

/// `type = "file"`.
pub const DEF: ComponentDef = ComponentDef::new::<FileConfig>(
    "file",
    "flow files: pcap, pcapng, JSON lines, CSV, messages of other collectors, each also .gz; Parquet",
    r#"paths = ["flows.pcap"]
decode = { sampling_rate = 1 }
"#,
)
.with_paths(&["paths"]);

/// Longest line of a text file; more is no flow record.
const MAX_LINE: u64 = 1 << 20;

/// The body of a file source.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Files, read one after the other. Relative paths start from the folder of the config file.
    pub paths: Vec<PathBuf>,
    /// How their bytes become flow records.
    #[serde(default)]
    pub decode: DecodeOptions,
}

/// What can go wrong with a source.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be opened or read.
    #[error("{path}: {cause}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Neither the name nor the config says what the file is.
    #[error(
        "{0}: cannot tell what it is: give `format`, or a name that ends in .pcap, .pcapng, .jsonl, .json or .csv (or .gz after it) or .parquet"
    )]
    UnknownFormat(PathBuf),
    /// It is no capture file, or breaks off.
    #[error("{path}: packet {number}: {cause} (the {before} packets before it were read)")]
    Capture {
        /// Which file.
        path: PathBuf,
        /// Packet, counted from 1.
        number: u64,
        /// Packets before it.
        before: u64,
        /// Why.
        cause: String,
    },
    /// It is no file of its format, or breaks off.
    #[error("{path}: {cause}")]
    Table {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A line without end.
    #[error("{path}: line {number} is longer than {MAX_LINE} bytes: this is no file of flow records")]
    LineTooLong {
        /// Which file.
        path: PathBuf,
        /// Line, counted from 1.
        number: u64,
    },
}

/// What a file holds, by the config or else by its name. Captures are netflow.
pub fn format_of(path: &Path, options: &DecodeOptions) -> Option<DecodeFormat> {
    if options.format.is_some() && options.plugin.is_none() {
        return options.format;
    }
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "pcap" | "pcapng" | "cap" => Some(DecodeFormat::Netflow),
        // A plugin gets lines, whatever they are.
        _ if options.plugin.is_some() => Some(DecodeFormat::Jsonl),
        "jsonl" | "ndjson" | "json" => Some(DecodeFormat::Jsonl),
        "csv" => Some(DecodeFormat::Csv),
        "parquet" => Some(DecodeFormat::Parquet),
        _ => None,
    }
}

enum Kind {
    Capture(Capture<Box<dyn Read + Send>>),
    /// `for_plugin`: when lines for a plugin were received, which gets them without their ends.
    Lines {
        reader: BufReader<Box<dyn Read + Send>>,
        line: Vec<u8>,
        number: u64,
        for_plugin: Option<u64>,
    },
    Delimited(Delimited),
    Arrow(Arrow),
    Parquet(Box<Parquet>),
}

/// One open file.
pub struct FileReader {
    path: PathBuf,
    kind: Kind,
    read: Arc<AtomicU64>,
    total: u64,
    frames: u64,
}

impl FileReader {
    /// Opens a file; looks at its first bytes for gzip and for the kind of capture.
    pub fn open(path: &Path, options: &DecodeOptions) -> Result<FileReader, FileError> {
        let io = |cause| FileError::Io { path: path.to_owned(), cause };
        let format = format_of(path, options).ok_or_else(|| FileError::UnknownFormat(path.to_owned()))?;
        let file = File::open(path).map_err(io)?;
        let about = file.metadata().map_err(io)?;
        let total = about.len();
        // Lines for a plugin were received when the file was last written: the same in every run.
        let written = about.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let for_plugin = options.plugin.as_ref().map(|_| written.map_or(0, |t| t.as_nanos() as u64));
        let read = Arc::new(AtomicU64::new(0));
        let table = |cause| FileError::Table { path: path.to_owned(), cause };
        if format == DecodeFormat::Parquet {
            let kind = Kind::Parquet(Box::new(Parquet::open(file).map_err(table)?));
            return Ok(Self { path: path.to_owned(), kind, read, total, frames: 0 });
        }
        let mut raw = BufReader::with_capacity(1 << 16, Counted { inner: file, read: read.clone() });
        let gzip = raw.fill_buf().map_err(io)?.starts_with(&[0x1f, 0x8b]);
        let bytes: Box<dyn Read + Send> = if gzip { Box::new(MultiGzDecoder::new(raw)) } else { Box::new(raw) };
        let kind = match format {
            DecodeFormat::Netflow => {
                let capture = Capture::open(bytes).map_err(|cause| FileError::Capture {
                    path: path.to_owned(),
                    number: 1,
                    before: 0,
                    cause,
                })?;
                Kind::Capture(capture)
            }
            DecodeFormat::Rawflow | DecodeFormat::Goflow2 => Kind::Delimited(Delimited::new(buffered(bytes))),
            DecodeFormat::Arrow => Kind::Arrow(Arrow::open(buffered(bytes)).map_err(table)?),
            _ => Kind::Lines { reader: buffered(bytes), line: Vec::new(), number: 0, for_plugin },
        };
        Ok(Self { path: path.to_owned(), kind, read, total, frames: 0 })
    }

    /// Adds up to `max_frames` frames to `batch`. False: the file is at its end. After an error the frames that came
    /// before it are in the batch, and the file is at its end.
    pub fn read(&mut self, batch: &mut FrameBatch, max_frames: usize) -> Result<bool, FileError> {
        let until = batch.frames.len() + max_frames;
        while batch.frames.len() < until {
            let before = batch.frames.len();
            let broken = |cause| FileError::Table { path: self.path.clone(), cause };
            let more = match &mut self.kind {
                Kind::Capture(capture) => capture.next(batch).map_err(|cause| FileError::Capture {
                    path: self.path.clone(),
                    number: capture.packets() + 1,
                    before: capture.packets(),
                    cause,
                })?,
                Kind::Delimited(messages) => messages.next(batch).map_err(broken)?,
                Kind::Arrow(batches) => {
                    let more = batches.next(batch).map_err(broken)?;
                    // A frame is many records: one at a time.
                    self.frames += (batch.frames.len() - before) as u64;
                    return Ok(more);
                }
                Kind::Parquet(table) => {
                    let more = table.next(batch).map_err(broken)?;
                    let (rows, all) = table.position();
                    self.read.store((self.total as f64 * rows as f64 / all.max(1) as f64) as u64, Ordering::Relaxed);
                    // A frame is many records: one at a time.
                    self.frames += (batch.frames.len() - before) as u64;
                    return Ok(more);
                }
                Kind::Lines { reader, line, number, for_plugin } => {
                    line.clear();
                    *number += 1;
                    let io = |cause| FileError::Io { path: self.path.clone(), cause };
                    let n = (&mut *reader).take(MAX_LINE).read_until(b'\n', line).map_err(io)?;
                    if n as u64 == MAX_LINE && line.last() != Some(&b'\n') {
                        return Err(FileError::LineTooLong { path: self.path.clone(), number: *number });
                    }
                    if n > 0 {
                        match for_plugin {
                            Some(received_ns) => batch.push(without_end(line), NO_PEER, *received_ns),
                            None => batch.push(line, NO_PEER, 0),
                        }
                    }
                    n > 0
                }
            };
            self.frames += (batch.frames.len() - before) as u64;
            if !more {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Bytes read of the file as it lies on disk, and its size: for a progress bar.
    pub fn position(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.total)
    }

    /// Which file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Frames given out so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Packets of a capture that were no UDP datagrams, by reason.
    pub fn skipped(&self) -> Skipped {
        match &self.kind {
            Kind::Capture(capture) => capture.skipped(),
            _ => Skipped::default(),
        }
    }
}

fn buffered(bytes: Box<dyn Read + Send>) -> BufReader<Box<dyn Read + Send>> {
    BufReader::with_capacity(1 << 16, bytes)
}

/// Counts what goes through it.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn write(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn lines(path: &Path) -> Vec<String> {
        let mut reader = FileReader::open(path, &DecodeOptions::default()).unwrap();
        let mut batch = FrameBatch::default();
        while reader.read(&mut batch, 2).unwrap() {}
        assert_eq!(reader.frames(), batch.frames.len() as u64);
        let (read, total) = reader.position();
        assert_eq!(read, total);
        batch.frames.iter().map(|f| String::from_utf8(batch.bytes(f).to_vec()).unwrap()).collect()
    }

    #[test]
    fn text_files_plain_and_gzipped() {
        let dir = tempfile::tempdir().unwrap();
        let text = b"{\"bytes\":1}\n{\"bytes\":2}\n{\"bytes\":3}";
        assert_eq!(lines(&write(&dir, "a.jsonl", text)).len(), 3);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text).unwrap();
        let zipped = lines(&write(&dir, "a.csv.gz", &gz.finish().unwrap()));
        assert_eq!(zipped[2], "{\"bytes\":3}");
    }

    #[test]
    fn messages_by_their_format() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(&dir, "flows.bin", &[2, 8, 1, b'\n', 1, 7, b'\n']);
        let options = DecodeOptions { format: Some(DecodeFormat::Goflow2), ..Default::default() };
        let (mut reader, mut batch) = (FileReader::open(&path, &options).unwrap(), FrameBatch::default());
        while reader.read(&mut batch, 1).unwrap() {}
        assert_eq!((batch.frames.len(), batch.bytes(&batch.frames[1])), (2, &[1, 7][..]));
        let options = DecodeOptions { format: Some(DecodeFormat::Arrow), ..Default::default() };
        let mut reader = FileReader::open(&path, &options).unwrap();
        let error = reader.read(&mut batch, 1).unwrap_err().to_string();
        assert!(error.contains("flows.bin: Arrow message 1: no Arrow stream"), "{error}");
    }

    #[test]
    fn a_name_that_says_nothing_needs_a_format() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(&dir, "flows.dat", b"x");
        let error = FileReader::open(&path, &DecodeOptions::default()).err().unwrap().to_string();
        assert!(error.contains("flows.dat") && error.contains("give `format`"), "{error}");
        let options = DecodeOptions { format: Some(DecodeFormat::Jsonl), ..Default::default() };
        assert!(FileReader::open(&path, &options).is_ok());
    }

    #[test]
    fn the_example_validates() {
        let body: FileConfig = toml::from_str(DEF.example).unwrap();
        assert_eq!(body.decode.sampling_rate, Some(1));
    }
}
