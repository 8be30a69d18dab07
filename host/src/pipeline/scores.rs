//! Every scored row as a JSON line (`replay --scores FILE`): what a detector thought of each entity in each window.

use crate::model::{ScoredFrame, row_json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Shared by the pipelines of a run; the first error is kept and told at the end.
#[derive(Clone)]
pub struct ScoreWriter {
    out: Arc<Mutex<(BufWriter<File>, Option<std::io::Error>)>>,
}

impl ScoreWriter {
    /// Creates (or empties) the file.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let out = Arc::new(Mutex::new((BufWriter::new(File::create(path)?), None)));
        Ok(Self { out })
    }

    /// Writes rows ordered by window, detector and entity, so that a replay gives the same file every time.
    pub(super) fn write(&self, mut scored: Vec<ScoredFrame>) {
        scored.sort_by_key(|s| (s.frame.window.end_ns, s.frame.window.revision, s.detector.clone(), s.frame.kind));
        let Ok(mut guard) = self.out.lock() else { return };
        for group in scored.chunk_by(|a, b| {
            (a.frame.window.end_ns, a.frame.window.revision, &a.detector, a.frame.kind)
                == (b.frame.window.end_ns, b.frame.window.revision, &b.detector, b.frame.kind)
        }) {
            let mut rows: Vec<(&ScoredFrame, usize)> =
                group.iter().flat_map(|s| (0..s.frame.keys.len()).map(move |row| (s, row))).collect();
            rows.sort_by_key(|(s, row)| s.frame.keys[*row]);
            for (s, row) in rows {
                let line = row_json::score(s, row);
                if let Err(error) = writeln!(guard.0, "{line}") {
                    guard.1.get_or_insert(error);
                }
            }
        }
    }

    /// Flushes, and tells the first error there was.
    pub(super) fn finish(self) -> std::io::Result<()> {
        let Ok(mut guard) = self.out.lock() else { return Ok(()) };
        if let Some(error) = guard.1.take() {
            return Err(error);
        }
        guard.0.flush()
    }
}
