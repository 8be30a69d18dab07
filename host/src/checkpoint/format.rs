//! The file: a line with the version, a line of JSON (who, when, where, and the names and lengths of the sections), the
//! sections end to end, and the SHA-256 of all of that. Pure.

use super::{Checkpoint, Position, VERSION};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Begins every file; the version and a line feed follow.
const MAGIC: &[u8] = b"kaminari checkpoint ";
const DIGEST: usize = 32;

/// The second line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    plan_digest: String,
    written_ns: u64,
    positions: Vec<Position>,
    /// Name and bytes, in the order in which they follow.
    sections: Vec<(String, u64)>,
}

/// Why bytes are no checkpoint.
#[derive(Debug, PartialEq)]
pub(super) enum Refused {
    Truncated,
    Damaged(String),
    Version(u32),
}

/// Writes a checkpoint.
pub(super) fn write(checkpoint: &Checkpoint, out: &mut impl Write) -> io::Result<()> {
    let header = Header {
        plan_digest: checkpoint.plan_digest.clone(),
        written_ns: checkpoint.written_ns,
        positions: checkpoint.positions.clone(),
        sections: checkpoint.sections.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect(),
    };
    let mut head = [MAGIC, VERSION.to_string().as_bytes(), b"\n"].concat();
    serde_json::to_writer(&mut head, &header)?;
    head.push(b'\n');
    let mut sha = Sha256::new();
    for part in std::iter::once(&head).chain(checkpoint.sections.values()) {
        sha.update(part);
        out.write_all(part)?;
    }
    out.write_all(&sha.finalize())
}

/// Reads a checkpoint. Every byte counts: one that was changed is noticed.
pub(super) fn read(bytes: &[u8]) -> Result<Checkpoint, Refused> {
    let damaged = |what: &str| Refused::Damaged(what.to_owned());
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Err(if MAGIC.starts_with(bytes) { Refused::Truncated } else { damaged("it does not begin as one") });
    };
    let (version, rest) = line(rest).ok_or(Refused::Truncated)?;
    let version = std::str::from_utf8(version).ok().and_then(|v| v.parse().ok());
    match version.ok_or_else(|| damaged("its version is no number"))? {
        VERSION => {}
        other => return Err(Refused::Version(other)),
    }
    let (header, rest) = line(rest).ok_or(Refused::Truncated)?;
    let header: Header = serde_json::from_slice(header).map_err(|e| Refused::Damaged(e.to_string()))?;
    let lengths = header.sections.iter().try_fold(DIGEST as u64, |sum, (_, n)| sum.checked_add(*n));
    let expected = lengths.ok_or_else(|| damaged("its lengths cannot be"))?;
    if (rest.len() as u64) < expected {
        return Err(Refused::Truncated);
    }
    if rest.len() as u64 > expected {
        return Err(damaged("bytes follow its end"));
    }
    let (body, digest) = bytes.split_at(bytes.len() - DIGEST);
    if Sha256::digest(body)[..] != *digest {
        return Err(damaged("its checksum differs"));
    }
    let mut rest = rest;
    let mut sections = BTreeMap::new();
    for (name, n) in header.sections {
        // No more than `rest.len()`, as checked above.
        let (section, after) = rest.split_at(n as usize);
        rest = after;
        sections.insert(name, section.to_vec());
    }
    let Header { plan_digest, written_ns, positions, .. } = header;
    Ok(Checkpoint { plan_digest, written_ns, positions, sections })
}

/// Up to the next line feed, and what follows it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == b'\n')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}
