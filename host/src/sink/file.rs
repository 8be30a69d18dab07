//! Events as JSON lines in a file that is rotated by size or age: `incidents.jsonl`, `incidents.jsonl.1` (newest) and
//! so on. Every delivery is written whole; what a crash or a full disk left unfinished never melts two lines into one.

use super::{Sink, SinkError, incidents, json_lines};
use crate::config::registry::ComponentDef;
use crate::model::Output;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `type = "file"`.
pub const DEF: ComponentDef = ComponentDef::new::<FileConfig>(
    "file",
    "incident events as JSON lines in a rotating file",
    "path = \"incidents.jsonl\"\nrotate_bytes = 104857600\nrotate_secs = 0\nkeep = 10",
)
.with_paths(&["path"]);

/// The body of a `file` sink.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Where; a relative path starts from the folder of the config file. Its folder must exist.
    pub path: PathBuf,
    /// Rotate before the file grows beyond this; 0: never by size.
    #[serde(default = "default_rotate_bytes")]
    pub rotate_bytes: u64,
    /// Rotate when the file has been open for so long; 0: never by age.
    #[serde(default)]
    pub rotate_secs: u64,
    /// Rotated files kept.
    #[serde(default = "default_keep")]
    pub keep: NonZeroU32,
}

fn default_rotate_bytes() -> u64 {
    100 << 20
}

fn default_keep() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(9)
}

/// The sink.
pub struct FileSink {
    config: FileConfig,
    /// `None` after a failure: the next delivery opens anew.
    current: Option<Current>,
    /// A rotation failed: not before this again.
    rotation_paused_until: Option<Instant>,
}

/// Pause after a failed rotation.
const ROTATION_PAUSE: Duration = Duration::from_secs(60);

struct Current {
    file: File,
    len: u64,
    opened: Instant,
}

impl FileSink {
    /// Opens (or creates) the file, so that a missing folder is known at the start.
    pub fn open(config: FileConfig) -> Result<Self, SinkError> {
        let current = Some(open(&config.path)?);
        Ok(Self { config, current, rotation_paused_until: None })
    }

    fn rotate_due(&self, more: u64) -> bool {
        let Some(current) = &self.current else { return false };
        if self.rotation_paused_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        let FileConfig { rotate_bytes, rotate_secs, .. } = self.config;
        let big = rotate_bytes > 0 && current.len + more > rotate_bytes;
        let old = rotate_secs > 0 && current.opened.elapsed() >= Duration::from_secs(rotate_secs);
        current.len > 0 && (big || old)
    }

    /// `x` becomes `x.1`, `x.1` becomes `x.2`, ...; `x.{keep}` is overwritten.
    fn rotate(&mut self) -> Result<(), SinkError> {
        self.current = None;
        let path = &self.config.path;
        for i in (0..self.config.keep.get()).rev() {
            let (from, to) = (numbered(path, i), numbered(path, i + 1));
            match std::fs::rename(&from, &to) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(SinkError::io("rotate", "rename", &from, e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Sink for FileSink {
    fn deliver(&mut self, output: &Output) -> Result<(), SinkError> {
        let events = incidents(output)?;
        let lines = json_lines(events);
        if self.rotate_due(lines.len() as u64) {
            // A file that grows too big is better than incidents that nobody gets.
            self.rotation_paused_until = self.rotate().err().map(|e| {
                tracing::warn!(error_type = e.reason, "{e}; going on in the same file");
                Instant::now() + ROTATION_PAUSE
            });
        }
        let path = &self.config.path;
        let mut current = match self.current.take() {
            Some(current) => current,
            None => open(path)?,
        };
        if let Err(e) = current.file.write_all(lines.as_bytes()) {
            // The events come again: half of them must not stay. If this fails too, opening completes the broken line.
            let _ = current.file.set_len(current.len);
            return Err(SinkError::io("write", "write to", path, e));
        }
        current.len += lines.len() as u64;
        self.current = Some(current);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        match &self.current {
            Some(current) => {
                current.file.sync_data().map_err(|e| SinkError::io("write", "flush", &self.config.path, e))
            }
            None => Ok(()),
        }
    }
}

fn open(path: &Path) -> Result<Current, SinkError> {
    let failed = |e| SinkError::io("open", "open", path, e);
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
    let mut len = file.metadata().map_err(failed)?.len();
    if len > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).map_err(failed)?;
        if last != *b"\n" {
            tracing::warn!(path = %path.display(), "the last line is incomplete, completed it with a newline");
            file.write_all(b"\n").map_err(failed)?;
            len += 1;
        }
    }
    Ok(Current { file, len, opened: Instant::now() })
}

/// `x` for 0, else `x.{i}`.
fn numbered(path: &Path, i: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if i > 0 {
        name.push(format!(".{i}"));
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::incident::IncidentEvent;
    use crate::sink::fixtures::event;

    fn config(path: PathBuf) -> FileConfig {
        FileConfig { path, rotate_bytes: 0, rotate_secs: 0, keep: default_keep() }
    }

    fn numbered_event(n: u32) -> IncidentEvent {
        IncidentEvent { windows_alerted: n, ..event() }
    }

    /// The numbers of the events in a file, in order.
    fn numbers(path: &Path) -> Vec<u32> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|l| serde_json::from_str::<IncidentEvent>(l).unwrap().windows_alerted).collect()
    }

    #[test]
    fn appends_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.jsonl");
        for n in 0..3 {
            let mut sink = FileSink::open(config(path.clone())).unwrap();
            sink.deliver(&Output::Incidents(vec![numbered_event(n)])).unwrap();
            sink.flush().unwrap();
        }
        assert_eq!(numbers(&path), [0, 1, 2]);
    }

    #[test]
    fn rotates_by_size_and_keeps_so_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.jsonl");
        let line = json_lines(&[numbered_event(0)]).len() as u64;
        let two_lines =
            FileConfig { rotate_bytes: 2 * line + 5, keep: NonZeroU32::new(2).unwrap(), ..config(path.clone()) };
        let mut sink = FileSink::open(two_lines).unwrap();
        for n in 0..9 {
            sink.deliver(&Output::Incidents(vec![numbered_event(n)])).unwrap();
        }
        assert_eq!(numbers(&path), [8]);
        assert_eq!(numbers(&numbered(&path, 1)), [6, 7]);
        assert_eq!(numbers(&numbered(&path, 2)), [4, 5]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_rotation_that_fails_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.jsonl");
        std::fs::create_dir(numbered(&path, 1)).unwrap();
        let one_line = FileConfig { rotate_bytes: 10, keep: NonZeroU32::MIN, ..config(path.clone()) };
        let mut sink = FileSink::open(one_line).unwrap();
        (0..3).for_each(|n| sink.deliver(&Output::Incidents(vec![numbered_event(n)])).unwrap());
        assert_eq!(numbers(&path), [0, 1, 2]);
    }

    #[test]
    fn rotates_by_age() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.jsonl");
        let mut sink = FileSink::open(FileConfig { rotate_secs: 60, ..config(path.clone()) }).unwrap();
        sink.deliver(&Output::Incidents(vec![numbered_event(0)])).unwrap();
        sink.deliver(&Output::Incidents(vec![numbered_event(1)])).unwrap();
        let current = sink.current.as_mut().unwrap();
        current.opened = current.opened.checked_sub(Duration::from_secs(61)).unwrap();
        sink.deliver(&Output::Incidents(vec![numbered_event(2)])).unwrap();
        assert_eq!((numbers(&numbered(&path, 1)), numbers(&path)), (vec![0, 1], vec![2]));
    }

    #[test]
    fn a_line_left_unfinished_by_a_crash_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("i.jsonl");
        std::fs::write(&path, "{\"schema_version\":1,\"ev").unwrap();
        FileSink::open(config(path.clone())).unwrap().deliver(&Output::Incidents(vec![numbered_event(5)])).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().next(), Some("{\"schema_version\":1,\"ev"));
        assert_eq!(serde_json::from_str::<IncidentEvent>(text.lines().nth(1).unwrap()).unwrap(), numbered_event(5));
    }

    #[test]
    fn a_missing_folder_names_the_path_and_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/i.jsonl");
        let err = FileSink::open(config(path.clone())).err().unwrap();
        assert_eq!(err.reason, "open");
        assert!(err.to_string().contains(&path.display().to_string()), "{err}");
        assert!(err.to_string().ends_with("create the folder first"), "{err}");
    }

    #[test]
    fn a_full_disk_is_an_error_that_may_pass() {
        let mut sink = match FileSink::open(config("/dev/full".into())) {
            Ok(sink) => sink,
            Err(_) => return println!("SKIPPED: no /dev/full here"),
        };
        let err = sink.deliver(&Output::Incidents(vec![event()])).unwrap_err();
        assert_eq!((err.reason, err.retry), ("write", true));
        assert!(err.to_string().contains("/dev/full") && err.to_string().contains("free space"), "{err}");
    }
}
