//! The folder: one file per lane and id, `LANE.ID.checkpoint`. Written next to its place under a name of its own, brought
//! to the disk, then renamed: a reader sees the whole file or none.

use super::format::{self, Refused};
use super::{Checkpoint, CheckpointError};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

const SUFFIX: &str = ".checkpoint";
const TEMPORARY: &str = ".tmp";
/// A temporary file that is older belongs to somebody who was killed.
const ABANDONED: Duration = Duration::from_secs(60);
/// Letters of a lane that stand in a file's name; of a longer lane a digest stands there.
const LANE_MAX: usize = 100;

/// A folder of checkpoints.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Makes the folder where there is none.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        fs::create_dir_all(dir).map_err(|source| CheckpointError::File { path: dir.into(), source })?;
        Ok(Self { dir: dir.into() })
    }

    /// Writes a checkpoint: when this returns it is on the disk, and outlives a crash of the machine.
    pub fn write(&self, lane: &str, id: &str, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let path = self.path(lane, id)?;
        let temporary = self.dir.join(format!(".{}.{id}.{}{TEMPORARY}", safe(lane), new_id()));
        let write = || {
            let mut out = BufWriter::new(File::create_new(&temporary)?);
            format::write(checkpoint, &mut out)?;
            out.flush()?;
            out.get_ref().sync_all()?;
            fs::rename(&temporary, &path)?;
            // The new name is on the disk when the folder is.
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|source| {
            let _ = fs::remove_file(&temporary);
            CheckpointError::File { path, source }
        })
    }

    /// Reads a checkpoint; none where there is no file.
    pub fn read(&self, lane: &str, id: &str) -> Result<Option<Checkpoint>, CheckpointError> {
        let path = self.path(lane, id)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CheckpointError::File { path, source }),
        };
        let checkpoint = format::read(&bytes).map_err(|why| match why {
            Refused::Truncated => CheckpointError::Truncated { path, found: bytes.len() },
            Refused::Damaged(what) => CheckpointError::Damaged { path, what },
            Refused::Version(found) => CheckpointError::Version { path, found },
        })?;
        Ok(Some(checkpoint))
    }

    /// The lane's checkpoint that was written last, with its id. Files that cannot be read are told and passed over.
    pub fn latest(&self, lane: &str) -> Result<Option<(String, Checkpoint)>, CheckpointError> {
        let mut newest: Option<(String, Checkpoint)> = None;
        for id in self.ids(lane)? {
            match self.read(lane, &id) {
                Ok(Some(c)) => {
                    let newer = newest.as_ref().is_none_or(|(i, n)| (c.written_ns, &id) > (n.written_ns, i));
                    if newer {
                        newest = Some((id, c));
                    }
                }
                // Somebody swept in between.
                Ok(None) => {}
                Err(error) => tracing::warn!(lane, "a checkpoint is passed over: {error}"),
            }
        }
        Ok(newest)
    }

    /// The lane's checkpoint `id` is committed: removes those that were written before it, and what killed writers of the
    /// lane have left. Newer ones stay: somebody else may have the lane by now.
    pub fn sweep(&self, lane: &str, id: &str) -> Result<(), CheckpointError> {
        let written = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
        let Some(committed) = written(&self.path(lane, id)?) else { return Ok(()) };
        for other in self.ids(lane)?.iter().filter(|other| *other != id) {
            let path = self.path(lane, other)?;
            if written(&path).is_some_and(|at| at < committed) {
                remove(&path)?;
            }
        }
        let begins = format!(".{}.", safe(lane));
        for (name, path) in self.files()? {
            if name.starts_with(&begins) && name.ends_with(TEMPORARY) && is_abandoned(&path) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Ids of the lane, in no order.
    fn ids(&self, lane: &str) -> Result<Vec<String>, CheckpointError> {
        let begins = format!("{}.", safe(lane));
        let id = |name: &str| {
            let id = name.strip_prefix(&begins)?.strip_suffix(SUFFIX)?;
            is_id(id).then(|| id.to_owned())
        };
        Ok(self.files()?.iter().filter_map(|(name, _)| id(name)).collect())
    }

    fn files(&self) -> Result<Vec<(String, PathBuf)>, CheckpointError> {
        let list = || {
            let mut files = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                let entry = entry?;
                files.extend(entry.file_name().into_string().ok().map(|name| (name, entry.path())));
            }
            Ok(files)
        };
        list().map_err(|source| CheckpointError::File { path: self.dir.clone(), source })
    }

    fn path(&self, lane: &str, id: &str) -> Result<PathBuf, CheckpointError> {
        if !is_id(id) {
            return Err(CheckpointError::Id(id.to_owned()));
        }
        Ok(self.dir.join(format!("{}.{id}{SUFFIX}", safe(lane))))
    }
}

/// A new id: 16 hex digits that no other process has.
pub fn new_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // Keyed at random by the standard library; the rest keeps ids apart where that failed.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
    hasher.write_u32(std::process::id());
    hasher.write_u64(crate::model::time::now_ns());
    format!("{:016x}", hasher.finish())
}

fn is_letter(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(is_letter)
}

/// A lane as part of a file's name: never a dot or a separator, and two lanes never the same.
fn safe(lane: &str) -> String {
    let mut out = String::new();
    for b in lane.bytes() {
        if is_letter(b) {
            out.push(char::from(b));
        } else {
            write!(out, "%{b:02x}").expect("writing to a string does not fail");
        }
    }
    if out.len() > LANE_MAX {
        out = Sha256::digest(lane)[..16].iter().fold(String::from("~"), |mut hex, b| {
            write!(hex, "{b:02x}").expect("writing to a string does not fail");
            hex
        });
    }
    out
}

fn is_abandoned(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|m| m.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > ABANDONED))
}

/// Gone already is as good.
fn remove(path: &Path) -> Result<(), CheckpointError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CheckpointError::File { path: path.into(), source })
        }
        _ => Ok(()),
    }
}
