//! A plugin as a detector, kept alive. A trap, a missed deadline or running out of memory ends the instance, not the
//! engine: the batch is tried once more on a fresh one (without the state of the old), then dead-lettered. While the
//! plugin waits or is quarantined its rows are counted as not judged. Moves `kaminari_plugin_restarts_total`,
//! `_quarantined` and `_dead_lettered_rows_total`.

use super::supervisor::{Permit, Supervisor};
use super::{Detector, Judgement};
use crate::config::DetectorPlan;
use crate::model::{Alert, Detection, FeatureFrame, KeyKind, Verdict, time};
use crate::plugin::{CallErrorKind, LoadedPlugin, PluginError, PluginInstance, PluginReply};
use crate::telemetry;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, RecordBatch};
use arrow_schema::Schema;
use std::sync::Arc;
use std::time::Instant;

/// Rows of one call: 16 features of them are 1 MiB, so a column fits a core's cache and a call its deadline.
const CHUNK: usize = 8192;

/// A detector could not be built.
#[derive(Debug, thiserror::Error)]
#[error("detector `{detector}`: {source}")]
pub struct DetectError {
    /// Id in the config.
    pub detector: Arc<str>,
    /// Cause.
    pub source: PluginError,
}

impl DetectError {
    fn new(plan: &DetectorPlan, source: impl Into<PluginError>) -> Self {
        Self { detector: plan.id.clone(), source: source.into() }
    }
}

/// A plugin with its configuration, for one pipeline and one thread.
pub struct PluginDetector {
    id: Arc<str>,
    levels: Option<Vec<KeyKind>>,
    plugin: Arc<LoadedPlugin>,
    pipeline: Arc<str>,
    config: String,
    instance: Option<PluginInstance>,
    supervisor: Supervisor,
}

/// Why rows were not judged: the label `reason` and, where there is one, the cause.
struct Unjudged {
    reason: &'static str,
    cause: Option<PluginError>,
}

impl PluginDetector {
    /// Starts an instance, configures it, and asks it whether frames of that schema (column `key` and the features)
    /// have what it needs.
    pub fn new(
        plugin: Arc<LoadedPlugin>,
        plan: &DetectorPlan,
        pipeline: &str,
        schema: &Schema,
    ) -> Result<Self, DetectError> {
        let config = plan.config.to_string();
        let mut instance = plugin.instantiate(pipeline, &config).map_err(|e| DetectError::new(plan, e))?;
        instance.requires(schema).map_err(|e| DetectError::new(plan, e))?;
        let detector = Self {
            id: plan.id.clone(),
            levels: plan.keys.clone(),
            plugin,
            pipeline: pipeline.into(),
            config,
            instance: Some(instance),
            supervisor: Supervisor::default(),
        };
        detector.gauge_quarantine(false);
        Ok(detector)
    }

    fn judge(&mut self, frame: &FeatureFrame, rows: RecordBatch) -> Result<Verdict, Unjudged> {
        match self.supervisor.permit(Instant::now()) {
            Permit::Run => {}
            Permit::Backoff => return Err(Unjudged { reason: "backoff", cause: None }),
            Permit::Quarantine => return Err(Unjudged { reason: "quarantine", cause: None }),
        }
        let first = match self.call(frame, rows.clone()) {
            Ok(verdict) => {
                self.supervisor.success();
                return Ok(verdict);
            }
            Err(error) if worth_a_retry(&error) => error,
            Err(error) => return Err(unjudged(error)),
        };
        let fatal = is_fatal(&first);
        if fatal && self.supervisor.fault(Instant::now()) {
            self.gauge_quarantine(true);
            tracing::error!(
                plugin = &**self.plugin.label(),
                detector = &*self.id,
                pipeline = &*self.pipeline,
                "plugin is quarantined after repeated faults; the pipeline goes on without it until the config is \
                 loaded again"
            );
        }
        tracing::warn!(
            plugin = &**self.plugin.label(), detector = &*self.id, pipeline = &*self.pipeline,
            window = time::rfc3339(frame.window.start_ns), error = %first,
            "plugin failed; trying the batch once more{}", if fatal { " on a fresh instance, without its state" } else { "" }
        );
        let second = self.call(frame, rows);
        match &second {
            Ok(_) => self.supervisor.success(),
            Err(error) if is_fatal(error) => self.supervisor.wait(Instant::now()),
            Err(_) => {}
        }
        second.map_err(unjudged)
    }

    /// One call, on a fresh instance where there is none. A fatal error ends the instance.
    fn call(&mut self, frame: &FeatureFrame, rows: RecordBatch) -> Result<Verdict, PluginError> {
        let instance = match &mut self.instance {
            Some(instance) => instance,
            none => {
                let (plugin, pipeline) = (self.plugin.id().to_string(), self.pipeline.to_string());
                metrics::counter!(telemetry::PLUGIN_RESTARTS, "plugin" => plugin, "pipeline" => pipeline).increment(1);
                let fresh = self.plugin.instantiate(&self.pipeline, &self.config);
                none.insert(fresh.inspect_err(|_| self.supervisor.wait(Instant::now()))?)
            }
        };
        let verdict = instance.detect(&frame.window, rows);
        if verdict.as_ref().is_err_and(|e| e.kind.is_fatal()) {
            self.instance = None;
        }
        Ok(verdict?)
    }

    fn dead_letter(&self, frame: &FeatureFrame, rows: usize, unjudged: Unjudged) {
        metrics::counter!(
            telemetry::PLUGIN_DEAD_LETTERED_ROWS,
            "plugin" => self.plugin.id().to_string(),
            "pipeline" => self.pipeline.to_string(),
            "reason" => unjudged.reason,
        )
        .increment(rows as u64);
        // While it waits the counter says enough: the fault itself was told.
        if let Some(error) = unjudged.cause {
            tracing::error!(
                plugin = &**self.plugin.label(), detector = &*self.id, pipeline = &*self.pipeline,
                window = time::rfc3339(frame.window.start_ns), level = frame.kind.name(), rows, %error,
                "rows were not judged"
            );
        }
    }

    fn gauge_quarantine(&self, on: bool) {
        let (plugin, pipeline) = (self.plugin.id().to_string(), self.pipeline.to_string());
        metrics::gauge!(telemetry::PLUGIN_QUARANTINED, "plugin" => plugin, "pipeline" => pipeline).set(if on {
            1.0
        } else {
            0.0
        });
    }
}

impl Detector for PluginDetector {
    fn id(&self) -> &Arc<str> {
        &self.id
    }

    fn levels(&self) -> Option<&[KeyKind]> {
        self.levels.as_deref()
    }

    fn detect(&mut self, frame: &FeatureFrame) -> Judgement {
        let total = frame.batch.num_rows();
        let mut judgement = Judgement::default();
        let mut features = None;
        for start in (0..total).step_by(CHUNK) {
            let rows = CHUNK.min(total - start);
            let verdict = match self.judge(frame, frame.batch.slice(start, rows)) {
                Ok(verdict) => verdict,
                Err(unjudged) => {
                    self.dead_letter(frame, rows, unjudged);
                    Verdict::default()
                }
            };
            if !verdict.scores.is_empty() {
                // What came before it without scores has no opinion.
                judgement.scores.resize(start, f64::NAN);
                judgement.scores.extend(verdict.scores);
            }
            for mut alert in verdict.alerts {
                alert.row += start as u32;
                let features = features.get_or_insert_with(|| Features::of(&frame.batch));
                judgement.detections.push(self.detection(frame, alert, features));
            }
        }
        if !judgement.scores.is_empty() {
            judgement.scores.resize(total, f64::NAN);
        }
        judgement
    }
}

impl PluginDetector {
    fn detection(&self, frame: &FeatureFrame, alert: Alert, features: &Features<'_>) -> Detection {
        let row = alert.row as usize;
        Detection {
            detector: self.id.clone(),
            plugin: self.plugin.label().clone(),
            key: frame.keys[row],
            window: frame.window,
            observed: features.0.iter().map(|(name, values)| (name.clone(), values[row])).collect(),
            alert,
        }
    }
}

/// The numeric columns of a frame.
struct Features<'a>(Vec<(Arc<str>, &'a [f64])>);

impl<'a> Features<'a> {
    fn of(batch: &'a RecordBatch) -> Self {
        let fields = batch.schema_ref().fields();
        let columns = fields.iter().zip(batch.columns()).filter_map(|(field, column)| {
            let values = column.as_primitive_opt::<Float64Type>()?;
            Some((Arc::from(field.name().as_str()), &values.values()[..column.len()]))
        });
        Self(columns.collect())
    }
}

fn is_fatal(error: &PluginError) -> bool {
    matches!(error, PluginError::Call(e) if e.kind.is_fatal())
}

fn worth_a_retry(error: &PluginError) -> bool {
    matches!(error, PluginError::Call(e)
        if e.kind.is_fatal() || matches!(e.kind, CallErrorKind::Plugin(PluginReply::Retry(_))))
}

fn unjudged(error: PluginError) -> Unjudged {
    let reason = match &error {
        PluginError::Call(e) => e.kind.name(),
        _ => "error",
    };
    Unjudged { reason, cause: Some(error) }
}
