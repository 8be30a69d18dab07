//! Checkpoints: what a pipeline needs to go on where it was. Comes in: named sections of bytes and the positions that
//! they stand for; goes out: the same after a crash. A lane (a pipeline, or its share in one process) has checkpoints
//! under ids; a file is there whole or not at all, whoever is killed when. Refused: files that were cut, changed or
//! written by another version; each refusal names the file and what to do. Several processes may share the folder.
//! Knows nothing of what the sections mean.

mod format;
mod store;
#[cfg(test)]
mod tests;

pub use store::{Store, new_id};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Version of the file that this engine reads and writes.
pub const VERSION: u32 = 1;

/// What a pipeline was at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Digest of the plan it ran.
    pub plan_digest: String,
    /// Wall clock, ns since the Unix epoch.
    pub written_ns: u64,
    /// What is behind it: where each input goes on.
    pub positions: Vec<Position>,
    /// State by name; whoever wrote a section knows how to read it.
    pub sections: BTreeMap<String, Vec<u8>>,
}

/// Where a partition of a topic goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset of the first record that is not in the checkpoint.
    pub next: i64,
}

/// A checkpoint was not written or not read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system said no.
    #[error("{}: {source}; check that the folder is there, writable and not full", path.display())]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It ends before its end.
    #[error("{}: the checkpoint was cut, {found} bytes are left of it; remove the file", path.display())]
    Truncated {
        /// Which file.
        path: PathBuf,
        /// Its length.
        found: usize,
    },
    /// Not what was written.
    #[error("{}: the checkpoint is damaged ({what}); remove the file and check the disk", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What gave it away.
        what: String,
    },
    /// Another engine's.
    #[error(
        "{}: the checkpoint has version {found}, this engine reads {VERSION}; \
         run the engine that wrote it, or remove the file to begin anew",
        path.display()
    )]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// No id that this store gives.
    #[error("`{0}` is no id of a checkpoint: ids are 1 to 64 letters, digits, `-` or `_`")]
    Id(String),
}
