//! Are files being written? Comes in: paths; goes out: digests of their contents once nobody writes and they rest, or the name
//! of the file that somebody still writes. A half-written file is thus never read as if it were whole.
//!
//! On Linux a read lease of a file can be had only while nobody has it open for writing. Where none can be had (a file of
//! another user, most network file systems) it is enough that the content rests.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Contents are read twice, so far apart.
const PAUSE: Duration = Duration::from_millis(200);

/// What a path holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A file: SHA-256 of its bytes.
    File([u8; 32]),
    /// A folder: SHA-256 over names and contents of the files in it (not of folders below).
    Folder([u8; 32]),
    /// Nothing, or a link to nothing.
    Missing,
    /// Something that cannot be read, or is neither file nor folder (a pipe).
    Unreadable,
}

/// Contents by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests(BTreeMap<PathBuf, Content>);

impl Digests {
    /// What the paths hold now, whether they rest or not.
    pub fn of(paths: &[PathBuf]) -> Self {
        Self(paths.iter().map(|path| (path.clone(), content(path))).collect())
    }

    /// Of paths that `earlier` has too, what it has: they were read then.
    pub fn read_before(mut self, earlier: Digests) -> Self {
        self.0.extend(earlier.0);
        self
    }

    /// What a path holds; `None`: nobody looked.
    pub fn get(&self, path: &Path) -> Option<Content> {
        self.0.get(path).copied()
    }

    /// The paths that were looked at.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.keys().cloned().collect()
    }

    /// Paths of this one whose contents are others (or unknown) in `other`.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Path> {
        self.0.iter().filter(|(path, content)| other.0.get(*path) != Some(*content)).map(|(path, _)| &**path)
    }
}

/// A file did not come to rest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is still being written after {:.0} s: {why}; it was not read", .path.display(), .waited.as_secs_f64())]
pub struct StillWritten {
    /// Which file; of a folder whose files change: the folder.
    pub path: PathBuf,
    /// How one knows.
    pub why: &'static str,
    /// How long somebody waited.
    pub waited: Duration,
}

/// Waits until nobody writes the files and their contents rest, for so long at most. Takes 0.2 s at best.
pub fn settled(paths: &[PathBuf], wait: Duration) -> Result<Digests, StillWritten> {
    let slept = |pause| {
        std::thread::sleep(pause);
        true
    };
    settle(paths, wait, slept).map(|digests| digests.expect("nobody says stop"))
}

/// As [`settled`]; `None`: `sleep` said that it is time to stop.
pub(super) fn settle(
    paths: &[PathBuf],
    wait: Duration,
    sleep: impl Fn(Duration) -> bool,
) -> Result<Option<Digests>, StillWritten> {
    let began = Instant::now();
    let mut before = Digests::of(paths);
    loop {
        if !sleep(PAUSE) {
            return Ok(None);
        }
        let now = Digests::of(paths);
        // Asked after the contents were read: who wrote while they were is seen by one or the other.
        let open = paths.iter().flat_map(|path| files(path)).find(|file| lease::is_written(file));
        let restless = match open {
            Some(path) => Some((path, "somebody has it open for writing")),
            None => now.differing(&before).next().map(|path| (path.to_owned(), "its content keeps changing")),
        };
        match restless {
            None => return Ok(Some(now)),
            Some((path, why)) if began.elapsed() >= wait => {
                return Err(StillWritten { path, why, waited: began.elapsed() });
            }
            Some(_) => before = now,
        }
    }
}

/// The file itself, or the files of a folder by name; nothing where there is nothing to read.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(found) = path.metadata() else { return Vec::new() };
    if found.is_file() {
        return vec![path.to_owned()];
    }
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.is_file()).collect();
    files.sort();
    files
}

fn content(path: &Path) -> Content {
    let read = || -> io::Result<Content> {
        let found = path.metadata()?;
        if found.is_file() {
            return Ok(Content::File(sha256(path)?));
        }
        // Reading from a pipe would wait for its writer.
        if !found.is_dir() {
            return Ok(Content::Unreadable);
        }
        std::fs::read_dir(path)?;
        let mut hash = Sha256::new();
        for file in files(path) {
            let name = file.file_name().unwrap_or_default().as_encoded_bytes();
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update(sha256(&file)?);
        }
        Ok(Content::Folder(hash.finalize().into()))
    };
    read().unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Content::Missing,
        _ => Content::Unreadable,
    })
}

fn sha256(path: &Path) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.finalize().into())
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod lease {
    use std::fs::File;
    use std::os::fd::{AsRawFd, RawFd};
    use std::path::Path;

    /// Not in the libc crate; `fcntl.h` of Linux on every processor.
    const F_SETSIG: libc::c_int = 10;
    /// NFS and CIFS (also as SMB 2): there EAGAIN may mean that the server promised nothing.
    const REMOTE: [i64; 3] = [0x6969, 0xff53_4d42, 0xfe53_4d42];

    /// True when somebody has the file open for writing; false also where that cannot be known.
    pub(super) fn is_written(path: &Path) -> bool {
        let Ok(file) = File::open(path) else { return false };
        let fd = file.as_raw_fd();
        // Who opens the file for writing in the moment of the lease waits for its end, and the kernel signals the holder. By
        // default that signal is SIGIO, which would end this process; SIGURG does nothing.
        if control(fd, F_SETSIG, libc::SIGURG).is_err() {
            return false;
        }
        match control(fd, libc::F_SETLEASE, libc::F_RDLCK) {
            Ok(()) => {
                // Nobody is to wait. Where it fails, the file is closed in a moment, and with it the lease.
                let _ = control(fd, libc::F_SETLEASE, libc::F_UNLCK);
                false
            }
            Err(error) => error.raw_os_error() == Some(libc::EAGAIN) && !is_remote(fd),
        }
    }

    fn control(fd: RawFd, command: libc::c_int, argument: libc::c_int) -> std::io::Result<()> {
        // SAFETY: these commands take an integer, and the descriptor is open.
        match unsafe { libc::fcntl(fd, command, argument) } {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    #[allow(clippy::unnecessary_cast)] // of other widths on other processors
    fn is_remote(fd: RawFd) -> bool {
        // SAFETY: all-zero bytes are a valid statfs, and the pointer is to it.
        let (done, found) = unsafe {
            let mut found = std::mem::zeroed::<libc::statfs>();
            (libc::fstatfs(fd, &raw mut found), found)
        };
        done != 0 || REMOTE.contains(&(found.f_type as i64 & 0xffff_ffff))
    }
}

#[cfg(not(target_os = "linux"))]
mod lease {
    /// Cannot be known here.
    pub(super) fn is_written(_: &std::path::Path) -> bool {
        false
    }
}

/// True where leases tell who writes; tests that need them say that they skip.
#[cfg(test)]
pub(super) fn leases_tell(folder: &Path) -> bool {
    let path = folder.join("lease");
    let _writer = File::create(&path).unwrap();
    let told = lease::is_written(&path);
    if !told {
        eprintln!("skipped: {} has no read leases", folder.display());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const SHORT: Duration = Duration::from_millis(500);
    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn a_file_that_somebody_writes_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        if !leases_tell(dir.path()) {
            return;
        }
        let path = dir.path().join("kaminari.toml");
        let mut writer = File::create(&path).unwrap();
        writer.write_all(b"[detectors.a]\nplugin = \"t\"\n").unwrap();
        writer.sync_all().unwrap();
        assert!(
            std::fs::read_to_string(&path).unwrap().parse::<toml::Table>().is_ok(),
            "half of it is valid by itself"
        );

        let refused = settled(std::slice::from_ref(&path), SHORT).unwrap_err();
        assert_eq!((&refused.path, refused.why), (&path, "somebody has it open for writing"));
        let told = refused.to_string();
        assert!(told.contains("kaminari.toml is still being written"), "{told}");

        let rest = std::thread::spawn(move || {
            std::thread::sleep(SHORT);
            writer.write_all(b"[detectors.b]\nplugin = \"t\"\n").unwrap();
        });
        let whole = settled(std::slice::from_ref(&path), LONG).unwrap();
        rest.join().unwrap();
        assert_eq!(whole, Digests::of(std::slice::from_ref(&path)));
        assert!(std::fs::read_to_string(&path).unwrap().contains("detectors.b"));
    }

    #[test]
    fn content_that_changes_is_not_read_either() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "0").unwrap();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (writer, stopped) = (path.clone(), stop.clone());
        let writer = std::thread::spawn(move || {
            let mut n = 0;
            // Closed and opened again, as tools do that append.
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                std::fs::write(&writer, n.to_string()).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let refused = settled(std::slice::from_ref(&path), SHORT).unwrap_err();
        assert_eq!(refused.path, path);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap();
        settled(&[path], LONG).unwrap();
    }

    #[test]
    fn a_rename_is_seen_by_content_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&path, "same").unwrap();
        let before = settled(std::slice::from_ref(&path), LONG).unwrap();
        std::fs::write(&other, "same").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(settled(std::slice::from_ref(&path), LONG).unwrap(), before);
        std::fs::write(&other, "another").unwrap();
        std::fs::rename(&other, &path).unwrap();
        let after = settled(std::slice::from_ref(&path), LONG).unwrap();
        assert_eq!(after.differing(&before).collect::<Vec<_>>(), [path.as_path()]);
    }

    #[test]
    fn missing_is_a_value() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("none"), dir.path().join("link"), dir.path().join("file/below")];
        std::os::unix::fs::symlink(&paths[0], &paths[1]).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let found = settled(&paths, LONG).unwrap();
        assert!(paths.iter().all(|path| found.get(path) == Some(Content::Missing)), "{found:?}");
        std::fs::write(&paths[0], "").unwrap();
        let found = settled(&paths, LONG).unwrap();
        assert!(matches!(found.get(&paths[0]), Some(Content::File(_))));
        assert_eq!(found.get(&paths[0]), found.get(&paths[1]));
        assert_eq!(found.get(dir.path()), None, "nobody looked");
    }

    #[test]
    fn a_folder_is_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model");
        let look = || settled(std::slice::from_ref(&model), LONG).unwrap();
        std::fs::create_dir(&model).unwrap();
        let empty = look();
        assert!(matches!(empty.get(&model), Some(Content::Folder(_))));
        std::fs::write(model.join("model.toml"), "name").unwrap();
        let one = look();
        std::fs::rename(model.join("model.toml"), model.join("other.toml")).unwrap();
        let renamed = look();
        std::fs::write(model.join("other.toml"), "nom").unwrap();
        let changed = look();
        let all = [&empty, &one, &renamed, &changed];
        assert!((0..4).all(|a| (0..a).all(|b| all[a] != all[b])));
        // A folder below is not part of it.
        std::fs::create_dir(model.join("checkpoints")).unwrap();
        std::fs::write(model.join("checkpoints/1"), "x").unwrap();
        assert_eq!(look(), changed);

        if leases_tell(dir.path()) {
            let _writer = std::fs::OpenOptions::new().append(true).open(model.join("other.toml")).unwrap();
            let refused = settled(std::slice::from_ref(&model), SHORT).unwrap_err();
            assert_eq!(refused.path, model.join("other.toml"));
        }
    }

    /// A lease that is broken signals its holder: that must not end the process.
    #[test]
    fn writers_that_come_in_between_harm_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "").unwrap();
        let opened = path.clone();
        let writer = std::thread::spawn(move || {
            for _ in 0..20_000 {
                drop(std::fs::OpenOptions::new().append(true).open(&opened).unwrap());
            }
        });
        while !writer.is_finished() {
            lease::is_written(&path);
        }
        writer.join().unwrap();
    }

    #[test]
    fn nobody_waits_for_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let found = settled(std::slice::from_ref(&pipe), LONG).unwrap();
        assert_eq!(found.get(&pipe), Some(Content::Unreadable));
    }
}
