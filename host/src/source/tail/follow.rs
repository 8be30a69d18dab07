//! One file that grows. It is known by device and inode, and by its first bytes: so a rename is seen through, and a
//! truncation is seen even when the file has grown beyond where it was read to.

use super::places::Place;
use crate::source::framing::{Framer, Framing};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// First bytes that tell files apart.
const HEAD: usize = 256;
/// How far back from the end the last line break is looked for.
const BACK: u64 = 64 << 10;
/// How compressed files begin: gzip, zstd, xz, bzip2.
const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh"];

/// A file, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Id {
    pub(super) dev: u64,
    pub(super) ino: u64,
}

impl Id {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self { dev: meta.dev(), ino: meta.ino() }
    }
}

/// What a path turned out to be.
pub(super) enum Opened {
    /// A file. `truncated`: not what the place was of.
    File { file: Box<Followed>, truncated: bool },
    /// Not to be read as lines.
    Compressed(Id, File),
}

/// What one step brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Step {
    pub(super) bytes: usize,
    pub(super) truncated: bool,
}

pub(super) struct Followed {
    file: File,
    id: Id,
    path: PathBuf,
    framer: Framer,
    /// Bytes read so far: the next read begins there.
    read: u64,
    head: Vec<u8>,
    modified: Option<SystemTime>,
    /// It is where a pattern points.
    listed: bool,
    last_byte: Instant,
}

impl Followed {
    pub(super) fn open(
        path: &Path,
        framing: Framing,
        place: Option<&Place>,
        from_end: bool,
        listed: bool,
    ) -> io::Result<Opened> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        let id = Id::of(&meta);
        let head = head(&file, HEAD)?;
        if COMPRESSED.iter().any(|magic| head.starts_with(magic)) {
            return Ok(Opened::Compressed(id, file));
        }
        let mut truncated = false;
        let read = match place {
            Some(place) => {
                let same = head.len() >= place.head_bytes && digest(&head[..place.head_bytes]) == place.head_digest;
                truncated = !same || meta.len() < place.next;
                if truncated { 0 } else { place.next }
            }
            None if from_end => last_line_break(&file, meta.len())?,
            None => 0,
        };
        let framer = Framer::new(framing);
        let (path, last_byte) = (path.to_owned(), Instant::now());
        let file = Followed { file, id, path, framer, read, head, modified: None, listed, last_byte };
        Ok(Opened::File { file: Box::new(file), truncated })
    }

    pub(super) fn id(&self) -> Id {
        self.id
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    /// Since the last byte was read of it.
    pub(super) fn quiet_for(&self) -> Duration {
        self.last_byte.elapsed()
    }

    pub(super) fn take_oversized(&mut self) -> u64 {
        self.framer.take_oversized()
    }

    /// First byte of the line that comes next.
    pub(super) fn position(&self) -> u64 {
        self.read.saturating_sub(self.framer.pending())
    }

    pub(super) fn place(&self) -> Place {
        Place {
            id: self.id,
            path: self.path.to_string_lossy().into_owned(),
            next: self.position(),
            head_bytes: self.head.len(),
            head_digest: digest(&self.head),
        }
    }

    /// Where it lies now; `None`: no pattern points to it. True: it has been rotated away from where it was.
    pub(super) fn moved(&mut self, now: Option<PathBuf>) -> bool {
        let was = std::mem::replace(&mut self.listed, now.is_some());
        match now {
            Some(path) => {
                let other = path != self.path;
                self.path = path;
                other
            }
            None => was,
        }
    }

    /// Reads once, as much as `space` holds, and gives out the lines that are whole.
    pub(super) fn step(&mut self, space: &mut [u8], line: &mut impl FnMut(&[u8])) -> io::Result<Step> {
        let meta = self.file.metadata()?;
        let (len, modified) = (meta.len(), meta.modified().ok());
        let changed = len != self.read || modified != self.modified;
        let truncated = len < self.read || changed && self.read > 0 && self.is_another()?;
        if truncated {
            // The line that had no end will not get one.
            self.framer.finish(line);
            self.read = 0;
            self.head.clear();
        }
        self.modified = modified;
        if self.head.len() < HEAD && len > self.head.len() as u64 {
            self.head = head(&self.file, HEAD)?;
        }
        let bytes = self.file.read_at(space, self.read)?;
        if bytes > 0 {
            self.read += bytes as u64;
            self.last_byte = Instant::now();
            // Lines are never without a begin.
            self.framer.feed(&space[..bytes], line).map_err(io::Error::other)?;
        }
        Ok(Step { bytes, truncated })
    }

    /// It will not grow any more: a last line needs no end.
    pub(super) fn finish(&mut self, line: &mut impl FnMut(&[u8])) {
        self.framer.finish(line);
    }

    /// Its first bytes are no longer what they were: it was truncated and written again.
    fn is_another(&self) -> io::Result<bool> {
        Ok(head(&self.file, self.head.len())? != self.head)
    }
}

fn head(file: &File, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let n = file.read_at(&mut bytes, 0)?;
    bytes.truncate(n);
    Ok(bytes)
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes)[..16].iter().fold(String::new(), |mut hex, b| {
        write!(hex, "{b:02x}").expect("writing to a string does not fail");
        hex
    })
}

/// Where the line begins that has no end yet, or the end of the file.
fn last_line_break(file: &File, len: u64) -> io::Result<u64> {
    let from = len.saturating_sub(BACK);
    let mut bytes = vec![0; (len - from) as usize];
    let n = file.read_at(&mut bytes, from)?;
    Ok(match memchr::memrchr(b'\n', &bytes[..n]) {
        Some(at) => from + at as u64 + 1,
        None if from == 0 => 0,
        None => len,
    })
}
