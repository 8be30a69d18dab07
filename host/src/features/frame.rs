//! Builds frames: takes the rows of firing windows and keeps one column per feature.

use super::catalogue::{FORMULAS, Formula, Quantity, position};
use super::level::Levels;
use crate::model::{Aggregate, EntityKey, FeatureFrame, KeyKind, WindowInfo, WindowSink};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, Float64Array, RecordBatch};
use arrow_buffer::{Buffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

/// See the module. One per window worker.
pub struct FrameBuilder {
    schema: SchemaRef,
    formulas: Vec<Formula>,
    levels: Option<Levels>,
    window: Option<(WindowInfo, KeyKind)>,
    keys: Vec<EntityKey>,
    columns: Vec<Vec<f64>>,
    frames: Vec<FeatureFrame>,
}

impl FrameBuilder {
    /// Columns in the order of `features`, which the config has checked against the catalogue; unknown names are
    /// left out.
    pub fn new<S: AsRef<str>>(features: &[S], level_half_life_windows: f64, max_entities: usize) -> Self {
        let known: Vec<(&str, Formula)> =
            features.iter().filter_map(|f| position(f.as_ref()).map(|at| (f.as_ref(), FORMULAS[at].1))).collect();
        let relative = |q: Quantity| known.iter().any(|(_, f)| matches!(f, Formula::Relative(x) if *x == q));
        let any_relative = known.iter().any(|(_, f)| matches!(f, Formula::Relative(_)));
        Self {
            schema: schema(&known.iter().map(|(name, _)| *name).collect::<Vec<_>>()),
            formulas: known.iter().map(|(_, formula)| *formula).collect(),
            levels: any_relative
                .then(|| Levels::new(level_half_life_windows, max_entities, relative(Quantity::UniqSrc))),
            window: None,
            keys: Vec::new(),
            columns: vec![Vec::new(); known.len()],
            frames: Vec::new(),
        }
    }

    /// Schema of the frames' batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The frames finished since the last call.
    pub fn take(&mut self) -> Vec<FeatureFrame> {
        std::mem::take(&mut self.frames)
    }

    /// Entities whose level was forgotten to stay within bounds.
    pub fn forgotten(&self) -> u64 {
        self.levels.as_ref().map_or(0, Levels::forgotten)
    }
}

/// The schema of a frame with these features.
pub fn schema(features: &[&str]) -> SchemaRef {
    let key = Field::new("key", DataType::FixedSizeBinary(EntityKey::WIDTH as i32), false);
    let columns = features.iter().map(|name| Field::new(*name, DataType::Float64, false));
    Arc::new(Schema::new(std::iter::once(key).chain(columns).collect::<Vec<_>>()))
}

impl WindowSink for FrameBuilder {
    fn begin(&mut self, window: &WindowInfo, kind: KeyKind, rows: usize) {
        self.window = Some((*window, kind));
        self.keys.reserve(rows);
        self.columns.iter_mut().for_each(|c| c.reserve(rows));
    }

    fn row(&mut self, key: &EntityKey, aggregate: &Aggregate) {
        let Some((window, _)) = &self.window else { return };
        self.keys.push(*key);
        let relative = self.levels.as_mut().map(|l| l.compare(key, aggregate, window)).unwrap_or_default();
        for (column, formula) in self.columns.iter_mut().zip(&self.formulas) {
            column.push(match formula {
                Formula::Of(value) => value(aggregate, window),
                Formula::Relative(quantity) => relative.get(*quantity),
            });
        }
    }

    fn end(&mut self) {
        let Some((window, kind)) = self.window.take() else { return };
        if self.keys.is_empty() {
            return;
        }
        let keys = std::mem::take(&mut self.keys);
        let bytes: Vec<u8> = keys.iter().flat_map(|k| k.to_bytes()).collect();
        let key_column = FixedSizeBinaryArray::new(EntityKey::WIDTH as i32, Buffer::from_vec(bytes), None);
        let mut columns: Vec<ArrayRef> = vec![Arc::new(key_column)];
        for column in &mut self.columns {
            columns.push(Arc::new(Float64Array::new(ScalarBuffer::from(std::mem::take(column)), None)));
        }
        let batch =
            RecordBatch::try_new(self.schema.clone(), columns).expect("one value per feature was pushed for every key");
        self.frames.push(FeatureFrame { window, kind, keys, batch });
    }
}
