//! Features by a plugin with the role `feature-extractor`. In: the rows of a fired window. Out: a frame with a row of features per
//! entity. Refused and counted in `kaminari_feature_refused_rows_total`: rows of features without an entity, with one that is
//! there already or that is none of its level, and more entities than `window.max_keys`. Rows that the plugin could not
//! look at (it broke, or waits) are counted as dead-lettered.

use super::schema;
use crate::config::{PipelinePlan, RecordsPlan};
use crate::model::{Addr, EntityKey, FeatureFrame, KeyKind, WindowInfo, time};
use crate::plugin::{Guarded, LoadedPlugin, PluginError, Role, Use};
use crate::telemetry::FEATURE_REFUSED_ROWS;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, Float64Array, RecordBatch};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Schema, SchemaRef};
use metrics::counter;
use std::collections::HashSet;
use std::sync::Arc;

/// The extractor of a pipeline. Belongs to one thread.
pub struct PluginFeatures {
    input: SchemaRef,
    plugin: Guarded,
    pipeline: Arc<str>,
    agreed: SchemaRef,
    entity: Option<usize>,
    kind: KeyKind,
    /// A column, or a ratio of two.
    features: Vec<(usize, Option<usize>)>,
    names: Vec<String>,
    max_keys: usize,
}

/// Why there are no features.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// The plugin cannot be started, or refuses its configuration or the rows.
    #[error("features of pipeline `{pipeline}`: {source}")]
    Plugin {
        /// Id of the pipeline.
        pipeline: Arc<str>,
        /// Cause.
        source: PluginError,
    },
    /// The plugin does not make this column.
    #[error("the plugin {plugin} makes no {what} column `{name}`; it makes {known}")]
    NoColumn {
        /// `name@version`.
        plugin: Arc<str>,
        /// Key of the configuration that names it: `features[2]` or `records.entity`.
        at: String,
        /// What is looked for.
        what: &'static str,
        /// Name.
        name: String,
        /// Columns that there are.
        known: String,
    },
}

impl PluginFeatures {
    /// Starts the plugin, and agrees with it on what comes in (`input`: rows of the sources) and what goes out.
    pub fn new(
        plugin: Arc<LoadedPlugin>,
        pipeline: &PipelinePlan,
        plan: &RecordsPlan,
        input: &Schema,
    ) -> Result<Self, FeatureError> {
        let of = Use {
            role: Role::FeatureExtractor,
            pipeline: pipeline.id.clone(),
            user: "extract".into(),
            config: plan.config.to_string(),
        };
        let failed = |source| FeatureError::Plugin { pipeline: pipeline.id.clone(), source };
        let label = plugin.label().clone();
        let mut plugin = Guarded::new(plugin, of).map_err(failed)?;
        let agreed = plugin.ask(|instance| instance.features_of(input)).map_err(failed)?;
        let column = |at: String, what: &'static str, name: &str, fits: fn(&DataType) -> bool| {
            let found = agreed.index_of(name).ok().filter(|i| fits(agreed.field(*i).data_type()));
            found.ok_or_else(|| FeatureError::NoColumn {
                plugin: label.clone(),
                at,
                what,
                name: name.to_owned(),
                known: agreed.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", "),
            })
        };
        let entity =
            plan.entity.as_deref().map(|name| column("records.entity".into(), "text or address", name, is_name));
        let features = pipeline.features.iter().enumerate().map(|(i, name)| {
            let number = |name: &str| column(format!("features[{i}]"), "numeric", name, is_number);
            match name.split_once(" / ") {
                Some((a, b)) => Ok((number(a)?, Some(number(b)?))),
                None => Ok((number(name)?, None)),
            }
        });
        Ok(Self {
            input: Arc::new(input.clone()),
            entity: entity.transpose()?,
            features: features.collect::<Result<_, FeatureError>>()?,
            plugin,
            pipeline: pipeline.id.clone(),
            agreed,
            kind: plan.kind,
            names: pipeline.features.clone(),
            max_keys: pipeline.window.max_keys,
        })
    }

    /// The frame of a window; `None`: there are no features.
    pub fn frame(&mut self, window: &WindowInfo, rows: RecordBatch) -> Option<FeatureFrame> {
        let (count, agreed) = (rows.num_rows(), self.agreed.clone());
        let about = || format!("window of {count} rows from {}", time::rfc3339(window.start_ns));
        let made = self.plugin.call(&about, &mut |instance| instance.extract(window, rows.clone(), &agreed));
        match made {
            Ok(features) => self.keyed(window, &features),
            Err(unanswered) => {
                self.plugin.dead_letter(&about, count, &unanswered);
                None
            }
        }
    }

    fn keyed(&self, window: &WindowInfo, made: &RecordBatch) -> Option<FeatureFrame> {
        let (mut keys, mut rows, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for row in 0..made.num_rows() {
            let key = match self.entity {
                None => Ok(EntityKey { kind: self.kind, addr: Addr::UNSPECIFIED, extra: 0 }),
                Some(column) => entity(made.column(column), row, self.kind),
            };
            let refused = match key {
                Err(reason) => reason,
                Ok(_) if keys.len() >= self.max_keys => "max_keys",
                Ok(key) if !seen.insert(key) => "duplicate_entity",
                Ok(key) => {
                    keys.push(key);
                    rows.push(row);
                    continue;
                }
            };
            let pipeline = self.pipeline.to_string();
            counter!(FEATURE_REFUSED_ROWS, "pipeline" => pipeline, "reason" => refused).increment(1);
        }
        if keys.is_empty() {
            return None;
        }
        let bytes: Vec<u8> = keys.iter().flat_map(|k| k.to_bytes()).collect();
        let key_column = FixedSizeBinaryArray::new(EntityKey::WIDTH as i32, Buffer::from_vec(bytes), None);
        let mut columns: Vec<ArrayRef> = vec![Arc::new(key_column)];
        for (a, b) in &self.features {
            let (a, b) = (made.column(*a), b.map(|b| made.column(b)));
            let value = |&row: &usize| match b {
                None => number(a, row),
                // Nothing of nothing is nothing.
                Some(b) if number(b, row) == 0.0 => 0.0,
                Some(b) => number(a, row) / number(b, row),
            };
            columns.push(Arc::new(Float64Array::from_iter_values(rows.iter().map(value))));
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let batch = RecordBatch::try_new(schema(&names), columns);
        // All columns have a value per key.
        batch.ok().map(|batch| FeatureFrame { window: *window, kind: self.kind, keys, batch })
    }

    /// Columns of the rows that it takes.
    pub fn input(&self) -> &SchemaRef {
        &self.input
    }

    /// What it knows, for a checkpoint.
    pub fn save(&mut self) -> Option<Vec<u8>> {
        self.plugin.save()
    }

    /// Goes on with what one of its plugin has saved.
    pub fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        self.plugin.restore(saved).map(drop).map_err(|e| e.to_string())
    }
}

fn is_name(ty: &DataType) -> bool {
    matches!(ty, DataType::Utf8 | DataType::FixedSizeBinary(16))
}

fn is_number(ty: &DataType) -> bool {
    matches!(ty, DataType::Float64 | DataType::Int64 | DataType::UInt64 | DataType::Boolean | DataType::Timestamp(_, _))
}

/// The entity of a row, or why there is none.
fn entity(column: &dyn Array, row: usize, kind: KeyKind) -> Result<EntityKey, &'static str> {
    if column.is_null(row) {
        return Err("no_entity");
    }
    let text;
    let addr = match column.data_type() {
        DataType::Utf8 => {
            text = column.as_string::<i32>().value(row);
            if kind == KeyKind::Name {
                return if text.is_empty() { Err("no_entity") } else { Ok(EntityKey::named(text)) };
            }
            text.parse().map_err(|_| "no_address")?
        }
        _ => {
            let bytes: [u8; 16] = column.as_fixed_size_binary().value(row).try_into().map_err(|_| "no_address")?;
            Addr(bytes)
        }
    };
    if kind == KeyKind::Name {
        return Ok(EntityKey::named(&addr.to_string()));
    }
    Ok(EntityKey { kind, addr, extra: 0 })
}

/// Absent is no number.
fn number(column: &dyn Array, row: usize) -> f64 {
    if column.is_null(row) {
        return f64::NAN;
    }
    match column.data_type() {
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row) as f64,
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row) as f64,
        DataType::Boolean => f64::from(u8::from(column.as_boolean().value(row))),
        DataType::Timestamp(_, _) => column.as_primitive::<TimestampNanosecondType>().value(row) as f64,
        _ => f64::NAN,
    }
}
