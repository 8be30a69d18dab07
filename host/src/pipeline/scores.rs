//! Every scored row as a JSON line (`replay --scores FILE`): what a detector thought of each entity in each window.

use super::worker::Scored;
use crate::model::time::rfc3339;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Shared by the pipelines of a run; the first error is kept and told at the end.
#[derive(Clone)]
pub struct ScoreWriter {
    out: Arc<Mutex<(BufWriter<File>, Option<std::io::Error>)>>,
    pipeline: Arc<str>,
}

impl ScoreWriter {
    /// Creates (or empties) the file.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let out = Arc::new(Mutex::new((BufWriter::new(File::create(path)?), None)));
        Ok(Self { out, pipeline: Arc::from("") })
    }

    /// The same file, for rows of this pipeline.
    pub fn for_pipeline(&self, pipeline: &Arc<str>) -> Self {
        Self { out: self.out.clone(), pipeline: pipeline.clone() }
    }

    /// Writes rows ordered by window, detector and entity, so that a replay gives the same file every time.
    pub(super) fn write(&self, mut scored: Vec<Scored>) {
        scored.sort_by_key(|s| (s.frame.window.end_ns, s.frame.window.revision, s.detector.clone(), s.frame.kind));
        let Ok(mut guard) = self.out.lock() else { return };
        for group in scored.chunk_by(|a, b| {
            (a.frame.window.end_ns, a.frame.window.revision, &a.detector, a.frame.kind)
                == (b.frame.window.end_ns, b.frame.window.revision, &b.detector, b.frame.kind)
        }) {
            let mut rows: Vec<(&Scored, usize)> =
                group.iter().flat_map(|s| (0..s.frame.keys.len()).map(move |row| (s, row))).collect();
            rows.sort_by_key(|(s, row)| s.frame.keys[*row]);
            for (s, row) in rows {
                let line = self.line(s, row);
                if let Err(error) = writeln!(guard.0, "{line}") {
                    guard.1.get_or_insert(error);
                }
            }
        }
    }

    fn line(&self, s: &Scored, row: usize) -> Value {
        let (window, key) = (&s.frame.window, &s.frame.keys[row]);
        let schema = s.frame.batch.schema();
        let features: Map<String, Value> = schema
            .fields()
            .iter()
            .enumerate()
            .skip(1)
            .map(|(i, f)| (f.name().clone(), json!(s.frame.batch.column(i).as_primitive::<Float64Type>().value(row))))
            .collect();
        json!({
            "pipeline": &*self.pipeline,
            "detector": &*s.detector,
            "entity": {"kind": key.kind.name(), "value": key.to_string()},
            "window": {"start": rfc3339(window.start_ns), "end": rfc3339(window.end_ns), "partial": window.partial, "revision": window.revision},
            // NaN (no opinion) becomes null.
            "score": s.scores.get(row).copied(),
            // How rare the score is: -log10 of its tail probability.
            "tail": s.tails.get(row).copied(),
            "alert": s.alerted.binary_search(&(row as u32)).is_ok(),
            "features": features,
        })
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
