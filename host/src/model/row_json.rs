//! A row of features as one JSON object: what a detector thought of an entity in a window, or only what was counted.
//! Field names and meaning: `docs/evaluate.md` and `docs/kafka.md`.

use super::output::ScoredFrame;
use super::time::rfc3339;
use super::window::FeatureFrame;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use serde_json::{Map, Value, json};

/// A row of a frame with the score of a detector.
pub fn score(s: &ScoredFrame, row: usize) -> Value {
    json!({
        "pipeline": &*s.pipeline,
        "detector": &*s.detector,
        "entity": entity(&s.frame, row),
        "window": window(&s.frame),
        // NaN (no opinion) becomes null.
        "score": s.scores.get(row).copied(),
        // How rare the score is: -log10 of its tail probability.
        "tail": s.tails.get(row).copied(),
        "alert": s.alerted.binary_search(&(row as u32)).is_ok(),
        "features": features(&s.frame, row),
    })
}

/// A row of a frame of a pipeline.
pub fn feature(pipeline: &str, frame: &FeatureFrame, row: usize) -> Value {
    json!({
        "pipeline": pipeline,
        "entity": entity(frame, row),
        "window": window(frame),
        "features": features(frame, row),
    })
}

fn entity(frame: &FeatureFrame, row: usize) -> Value {
    let key = &frame.keys[row];
    json!({"kind": key.kind.name(), "value": key.to_string()})
}

fn window(frame: &FeatureFrame) -> Value {
    let window = &frame.window;
    json!({
        "start": rfc3339(window.start_ns),
        "end": rfc3339(window.end_ns),
        "partial": window.partial,
        "revision": window.revision,
    })
}

fn features(frame: &FeatureFrame, row: usize) -> Map<String, Value> {
    let fields = frame.batch.schema_ref().fields().iter().zip(frame.batch.columns());
    let values = fields.filter_map(|(field, column)| {
        let values = column.as_primitive_opt::<Float64Type>()?;
        Some((field.name().clone(), json!(values.value(row))))
    });
    values.collect()
}
