//! A file that holds records while the brokers do not take them. In: records, in order; out: the same, in order, also
//! after a restart. Refused: a file that is something else, or that another process uses; more than its limit.
//!
//! 16 bytes of head (a mark, and where the first record starts that the brokers do not have), then records: length, CRC-32,
//! body. A record that a crash left unfinished is cut off when the file is opened. At least once: what was acknowledged
//! just before a crash may be sent again.

use crate::kafka::Record;
use crate::sink::SinkError;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MARK: &[u8; 8] = b"KMNSPL01";
const HEAD: u64 = 16;
/// Length and CRC before a body.
const FRAME: usize = 8;
/// No body is longer: a length beyond is garbage.
const LONGEST: u32 = 1 << 30;

/// The file.
pub(super) struct Spool {
    path: PathBuf,
    file: File,
    limit: u64,
    /// Start of the first record that the brokers do not have.
    head: u64,
    /// Start of the first record that has not been handed to the producer.
    next: u64,
    end: u64,
    /// What was cut off before `head` so far: positions told outside never go back.
    shift: u64,
    dirty: bool,
}

/// A record from the file.
#[derive(Debug, PartialEq)]
pub(super) struct Spooled {
    pub(super) record: Record,
    pub(super) rows: u32,
    /// Where it ends; for [`Spool::done`].
    pub(super) end: u64,
}

impl Spool {
    /// Opens or creates it. Also says how many bytes were cut off because they are no whole record.
    pub(super) fn open(path: &Path, limit: u64) -> Result<(Self, u64), SinkError> {
        let failed = |e| SinkError::io("open", "open", path, e);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        lock(&file, path)?;
        let len = file.metadata().map_err(failed)?.len();
        let (mut head, mut end) = (HEAD, HEAD);
        if len < HEAD {
            // Empty, or it was being created when the program ended.
            file.set_len(0).and_then(|()| file.write_all_at(&head_bytes(HEAD), 0)).map_err(failed)?;
        } else {
            let mut bytes = [0; HEAD as usize];
            file.read_exact_at(&mut bytes, 0).map_err(failed)?;
            let (mark, start) = bytes.split_at(8);
            head = u64::from_le_bytes(start.try_into().unwrap_or_default());
            if mark != MARK || !(HEAD..=len).contains(&head) {
                let what = "is no spool file of this program: name another, or remove it";
                return Err(SinkError::config(format!("spool {}: it {what}", path.display())));
            }
            end = head + whole(&mut file, head, len).map_err(failed)?;
            file.set_len(end).map_err(failed)?;
        }
        let cut = len.max(HEAD) - end.min(len.max(HEAD));
        Ok((Self { path: path.to_owned(), file, limit, head, next: head, end, shift: 0, dirty: true }, cut))
    }

    /// Bytes that the brokers do not have.
    pub(super) fn bytes(&self) -> u64 {
        self.end - self.head
    }

    /// True when all that is in it has been handed to the producer.
    pub(super) fn all_handed(&self) -> bool {
        self.next == self.end
    }

    /// True when these fit within the limit.
    pub(super) fn has_room(&self, records: &[(Record, u32)]) -> bool {
        let more: usize = records.iter().map(|(record, _)| size(record)).sum();
        self.bytes() + more as u64 <= self.limit
    }

    /// Writes records to its end; all or none.
    pub(super) fn append(&mut self, records: &[(Record, u32)]) -> Result<(), SinkError> {
        let mut bytes = Vec::new();
        records.iter().for_each(|(record, rows)| write(record, *rows, &mut bytes));
        // The space of what was sent comes back when it is half of all.
        if self.end + bytes.len() as u64 > self.limit && self.head > HEAD + self.limit / 2 {
            self.rewrite(&[])?;
        }
        if let Err(e) = self.file.write_all_at(&bytes, self.end) {
            // Half of them must not stay. If this fails too, opening cuts them off.
            let _ = self.file.set_len(self.end);
            return Err(SinkError::io("write", "write to", &self.path, e));
        }
        self.end += bytes.len() as u64;
        self.dirty = true;
        Ok(())
    }

    /// Writes records before all that is in it. Only after [`rewind`](Self::rewind): positions told before mean nothing.
    pub(super) fn prepend(&mut self, records: &[(Record, u32)]) -> Result<(), SinkError> {
        let mut bytes = Vec::new();
        records.iter().for_each(|(record, rows)| write(record, *rows, &mut bytes));
        self.rewrite(&bytes)
    }

    /// The next record; `None` when all were handed out. A record that cannot be read is an error of kind
    /// `InvalidData`.
    pub(super) fn next(&mut self) -> io::Result<Option<Spooled>> {
        if self.all_handed() {
            return Ok(None);
        }
        let mut frame = [0; FRAME];
        self.file.read_exact_at(&mut frame, self.next)?;
        let (len, crc) = split_frame(frame);
        let mut body = vec![0; len.min(LONGEST) as usize];
        self.file.read_exact_at(&mut body, self.next + FRAME as u64)?;
        let garbled = || io::Error::new(io::ErrorKind::InvalidData, "a record in the spool is garbled");
        let (record, rows) = (checksum(&body) == crc).then(|| parse(&body)).flatten().ok_or_else(garbled)?;
        self.next += (FRAME + body.len()) as u64;
        Ok(Some(Spooled { record, rows, end: self.next + self.shift }))
    }

    /// The brokers have everything up to `end`, as [`next`](Self::next) told it.
    pub(super) fn done(&mut self, end: u64) -> Result<(), SinkError> {
        self.head = self.head.max(end - self.shift);
        let failed = |e| SinkError::io("write", "write to", &self.path, e);
        if self.head == self.end {
            self.shift += self.end - HEAD;
            (self.head, self.next, self.end) = (HEAD, HEAD, HEAD);
            // The head reaches the disk first: it must never point behind the end.
            let emptied = self.file.write_all_at(&head_bytes(HEAD), 0).and_then(|()| self.file.sync_data());
            emptied.and_then(|()| self.file.set_len(HEAD)).map_err(failed)?;
        } else {
            self.file.write_all_at(&head_bytes(self.head), 0).map_err(failed)?;
        }
        self.dirty = true;
        Ok(())
    }

    /// What was handed out and is not done is handed out again.
    pub(super) fn rewind(&mut self) {
        self.next = self.head;
    }

    /// Gives up what cannot be read; the number of bytes.
    pub(super) fn cut(&mut self) -> u64 {
        let lost = self.end - self.next;
        self.end = self.next;
        let _ = self.file.set_len(self.end);
        lost
    }

    /// All of it is on the disk.
    pub(super) fn sync(&mut self) -> Result<(), SinkError> {
        if self.dirty {
            self.file.sync_data().map_err(|e| SinkError::io("write", "flush", &self.path, e))?;
            self.dirty = false;
        }
        Ok(())
    }

    /// The file anew: `front`, then what the brokers do not have. The old one stays until the new one is whole.
    fn rewrite(&mut self, front: &[u8]) -> Result<(), SinkError> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let failed = |e| SinkError::io("write", "write to", &new, e);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(true).open(&new).map_err(failed)?;
        lock(&file, &new)?;
        let mut copy = || -> io::Result<()> {
            file.write_all(&head_bytes(HEAD))?;
            file.write_all(front)?;
            self.file.seek(SeekFrom::Start(self.head))?;
            io::copy(&mut (&self.file).take(self.end - self.head), &mut file)?;
            file.sync_data()?;
            std::fs::rename(&new, &self.path)
        };
        copy().map_err(failed)?;
        let gone = self.head - HEAD;
        let more = front.len() as u64;
        self.shift += gone;
        self.next = self.next - gone + if self.next > self.head { more } else { 0 };
        self.end = self.end - gone + more;
        self.head = HEAD;
        self.file = file;
        self.dirty = true;
        Ok(())
    }
}

fn lock(file: &File, path: &Path) -> Result<(), SinkError> {
    match file.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => {
            let what = "another sink or process uses it: every sink needs its own";
            Err(SinkError::config(format!("spool {}: {what}", path.display())))
        }
        // A file system without locks.
        _ => Ok(()),
    }
}

fn head_bytes(head: u64) -> [u8; HEAD as usize] {
    let mut bytes = [0; HEAD as usize];
    bytes[..8].copy_from_slice(MARK);
    bytes[8..].copy_from_slice(&head.to_le_bytes());
    bytes
}

/// Bytes of whole records from `head` on.
fn whole(file: &mut File, head: u64, len: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(head))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut good, mut body) = (0, Vec::new());
    while len - head - good >= FRAME as u64 {
        let mut frame = [0; FRAME];
        reader.read_exact(&mut frame)?;
        let (size, crc) = split_frame(frame);
        let next = good + FRAME as u64 + u64::from(size);
        if size == 0 || next > len - head {
            break;
        }
        body.resize(size as usize, 0);
        reader.read_exact(&mut body)?;
        if checksum(&body) != crc {
            break;
        }
        good = next;
    }
    Ok(good)
}

fn split_frame(frame: [u8; FRAME]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = frame;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

fn checksum(body: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(body);
    crc.sum()
}

/// Bytes of a record in the file.
fn size(record: &Record) -> usize {
    let headers: usize = record.headers.iter().map(|(k, v)| 8 + k.len() + v.len()).sum();
    let key = record.key.as_ref().map_or(0, |k| 4 + k.len());
    FRAME + 4 + 4 + 1 + key + 4 + record.topic.len() + 4 + headers + record.payload.len()
}

fn write(record: &Record, rows: u32, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME]);
    out.extend_from_slice(&rows.to_le_bytes());
    out.extend_from_slice(&record.partition.unwrap_or(-1).to_le_bytes());
    out.push(u8::from(record.key.is_some()));
    if let Some(key) = &record.key {
        put(out, key);
    }
    put(out, record.topic.as_bytes());
    out.extend_from_slice(&(record.headers.len() as u32).to_le_bytes());
    for (key, value) in record.headers.iter() {
        put(out, key.as_bytes());
        put(out, value.as_bytes());
    }
    out.extend_from_slice(&record.payload);
    let body = &out[start + FRAME..];
    let (len, crc) = ((body.len() as u32).to_le_bytes(), checksum(body).to_le_bytes());
    out[start..start + 4].copy_from_slice(&len);
    out[start + 4..start + FRAME].copy_from_slice(&crc);
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// `None`: written by another version.
fn parse(mut body: &[u8]) -> Option<(Record, u32)> {
    fn number(body: &mut &[u8]) -> Option<u32> {
        let (bytes, rest) = body.split_first_chunk::<4>()?;
        *body = rest;
        Some(u32::from_le_bytes(*bytes))
    }
    fn bytes<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
        let len = number(body)? as usize;
        let (bytes, rest) = body.split_at_checked(len)?;
        *body = rest;
        Some(bytes)
    }
    fn text<'a>(body: &mut &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(bytes(body)?).ok()
    }
    let rows = number(&mut body)?;
    let partition = Some(number(&mut body)?.cast_signed()).filter(|p| *p >= 0);
    let (keyed, rest) = body.split_first()?;
    body = rest;
    let key = if *keyed == 1 { Some(bytes(&mut body)?.to_vec()) } else { None };
    let topic = text(&mut body)?.into();
    let mut headers = Vec::new();
    for _ in 0..number(&mut body)? {
        headers.push((text(&mut body)?.into(), text(&mut body)?.into()));
    }
    Some((Record { topic, partition, key, payload: body.to_vec(), headers: headers.into() }, rows))
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
