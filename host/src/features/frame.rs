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

    /// What later frames depend on: the levels of its entities. Empty when no feature compares with them. A window that
    /// has begun and frames that were not taken are not in it.
    pub fn save(&self) -> Vec<u8> {
        self.levels.as_ref().map(Levels::save).unwrap_or_default()
    }

    /// Adds the saved levels of the entities that this worker `owns`; call it for what each worker has saved, however
    /// many there were. Refused: another version, levels that lack what is asked for, values that cannot be.
    pub fn restore(&mut self, bytes: &[u8], owns: impl Fn(&EntityKey) -> bool) -> Result<(), String> {
        match &mut self.levels {
            Some(levels) if !bytes.is_empty() => levels.restore(bytes, owns).map_err(|e| e.to_string()),
            _ => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Addr;
    use proptest::prelude::*;

    fn fire(builder: &mut FrameBuilder, n: u64, rows: &[(u8, u64)]) -> String {
        let window = WindowInfo { start_ns: n * 1_000_000_000, end_ns: (n + 1) * 1_000_000_000, ..NOWHEN };
        builder.begin(&window, KeyKind::DstAddr, rows.len());
        for (who, flows) in rows {
            let key = EntityKey { kind: KeyKind::DstAddr, addr: Addr::from_v4_bytes([192, 0, 2, *who]), extra: 0 };
            builder.row(&key, &Aggregate { flows: *flows, bytes: flows * 90, packets: *flows, ..Aggregate::default() });
        }
        builder.end();
        format!("{:?}", builder.take())
    }

    const NOWHEN: WindowInfo = WindowInfo { start_ns: 0, end_ns: 0, revision: 0, watermark_ns: 0, partial: false };

    proptest! {
        #[test]
        fn a_restored_builder_makes_the_same_frames(
            windows in prop::collection::vec(prop::collection::vec((0u8..20, 0u64..100_000), 0..10), 1..30),
            cut in any::<prop::sample::Index>(),
        ) {
            let new = || FrameBuilder::new(&["flows", "rel_flows", "rel_bytes", "rel_uniq_src"], 8.0, 15);
            let (mut whole, mut restored) = (new(), new());
            let cut = cut.index(windows.len() + 1);
            for (n, rows) in windows[..cut].iter().enumerate() {
                fire(&mut whole, n as u64, rows);
            }
            restored.restore(&whole.save(), |_| true).unwrap();
            for (n, rows) in windows.iter().enumerate().skip(cut) {
                prop_assert_eq!(fire(&mut restored, n as u64, rows), fire(&mut whole, n as u64, rows));
            }
        }
    }

    #[test]
    fn without_relative_features_there_is_nothing_to_save() {
        let mut plain = FrameBuilder::new(&["flows"], 8.0, 15);
        assert!(plain.save().is_empty());
        plain.restore(&[], |_| true).unwrap();
        let relative = FrameBuilder::new(&["rel_flows"], 8.0, 15).save();
        plain.restore(&relative, |_| true).unwrap();
        assert!(FrameBuilder::new(&["rel_flows"], 8.0, 15).restore(b"{}", |_| true).is_err());
    }
}
