//! A plugin as a detector, kept alive. A trap, a missed deadline or running out of memory ends the instance, not the
//! engine: the batch is tried once more on a fresh one (with what was last saved), then dead-lettered. While the
//! plugin waits or is quarantined its rows are counted as not judged. Moves `kaminari_plugin_restarts_total`,
//! `_quarantined` and `_dead_lettered_rows_total`.

use super::follow::{Followable, Heard, Observed, Subject};
use super::memory::Memory;
use super::supervisor::{Permit, Supervisor};
use super::{Detector, Judgement};
use crate::calibration::Published;
use crate::config::DetectorPlan;
use crate::model::{Alert, Detection, FeatureFrame, KeyKind, Verdict, time};
use crate::plugin::{
    CallErrorKind, Followed, FrameScorer, FrameScores, LoadedPlugin, PluginError, PluginInstance, PluginReply,
};
use crate::telemetry;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use std::sync::Arc;
use std::time::Instant;

/// Rows of one call: 16 features of them are 1 MiB, so a column fits a core's cache and a call its deadline.
const CHUNK: usize = 8192;

/// A detector could not be built.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The plugin cannot be started, or refuses its configuration or the columns.
    #[error("detector `{detector}`: {source}")]
    Plugin {
        /// Id in the config.
        detector: Arc<str>,
        /// Cause.
        source: PluginError,
    },
    /// The model was trained on something else than what it would judge.
    #[error("detector `{detector}`: model `{model}` was trained on {trained}, and would judge {offered}")]
    Model {
        /// Id in the config.
        detector: Arc<str>,
        /// Name of the model in the config.
        model: Arc<str>,
        /// What its manifest says.
        trained: String,
        /// What the pipeline has.
        offered: String,
    },
}

/// What a pipeline has for its detectors.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Id of the pipeline.
    pub pipeline: Arc<str>,
    /// Column `key` and the features.
    pub schema: SchemaRef,
    /// Length of the windows, seconds.
    pub window_secs: f64,
    /// Levels that are aggregated.
    pub levels: Vec<KeyKind>,
}

/// A plugin with its configuration, for one pipeline and one thread.
pub struct PluginDetector {
    id: Arc<str>,
    levels: Option<Vec<KeyKind>>,
    plugin: Arc<LoadedPlugin>,
    pipeline: Arc<str>,
    config: String,
    instance: Option<PluginInstance>,
    /// Scores frames ahead, together with the other detectors of its thread.
    scorer: Arc<FrameScorer>,
    supervisor: Supervisor,
    followable: Vec<Followable>,
    heard: Vec<Heard>,
    /// What it knew when it was last asked.
    memory: Option<Memory>,
}

/// Rows of one call.
struct Chunk {
    rows: RecordBatch,
    /// Place of the first in the frame.
    first: usize,
    /// What models said to the frame already.
    ahead: Option<Arc<FrameScores>>,
}

/// Why rows were not judged: the label `reason` and, where there is one, the cause.
struct Unjudged {
    reason: &'static str,
    cause: Option<PluginError>,
}

impl PluginDetector {
    /// Starts an instance, configures it, asks it whether the frames have what it needs, and looks whether the models
    /// that it opens were trained on such frames.
    pub fn new(
        plugin: Arc<LoadedPlugin>,
        plan: &DetectorPlan,
        offer: &Offer,
        scorer: &Arc<FrameScorer>,
    ) -> Result<Self, DetectError> {
        let config = plan.config.to_string();
        let failed = |source: PluginError| DetectError::Plugin { detector: plan.id.clone(), source };
        let mut instance = plugin.instantiate(&offer.pipeline, &config).map_err(failed)?;
        instance.requires(&offer.schema).map_err(|e| failed(e.into()))?;
        let levels: Vec<KeyKind> = match &plan.keys {
            Some(keys) => keys.iter().copied().filter(|k| offer.levels.contains(k)).collect(),
            None => offer.levels.clone(),
        };
        let mut followable = Vec::new();
        for used in instance.models() {
            let input = used.model.manifest.input.as_ref();
            if let Some(input) =
                input.filter(|i| i.window_secs != offer.window_secs || levels.iter().any(|l| l.name() != i.level))
            {
                let names: Vec<&str> = levels.iter().map(|l| l.name()).collect();
                return Err(DetectError::Model {
                    detector: plan.id.clone(),
                    model: used.name,
                    trained: format!("{} in windows of {} s", input.level, input.window_secs),
                    offered: format!("{} in windows of {} s", names.join(", "), offer.window_secs),
                });
            }
            let Some(calibration) = &used.model.manifest.calibration else { continue };
            followable.extend(levels.iter().map(|&level| Followable {
                subject: Subject { detector: plan.id.clone(), level, model: Some(used.name.clone()) },
                digest: used.model.digest.clone(),
                revision: used.revision,
                trained: Some((calibration.score.clone(), calibration.rows_per_day)),
            }));
        }
        if followable.is_empty() {
            followable.extend(levels.iter().map(|&level| Followable {
                subject: Subject { detector: plan.id.clone(), level, model: None },
                digest: plugin.label().to_string(),
                revision: 0,
                trained: None,
            }));
        }
        let detector = Self {
            id: plan.id.clone(),
            levels: plan.keys.clone(),
            plugin,
            pipeline: offer.pipeline.clone(),
            config,
            instance: Some(instance),
            scorer: scorer.clone(),
            supervisor: Supervisor::default(),
            followable,
            heard: Vec::new(),
            memory: None,
        };
        detector.gauge_quarantine(false);
        Ok(detector)
    }

    fn judge(&mut self, frame: &FeatureFrame, chunk: &Chunk, followed: &[Following]) -> Result<Verdict, Unjudged> {
        match self.supervisor.permit(Instant::now()) {
            Permit::Run => {}
            Permit::Backoff => return Err(Unjudged { reason: "backoff", cause: None }),
            Permit::Quarantine => return Err(Unjudged { reason: "quarantine", cause: None }),
        }
        let first = match self.call(frame, chunk, followed) {
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
            "plugin failed; trying the batch once more{}", if !fatal { "" } else if self.memory.is_some() {
                " on a fresh instance, with what was last saved"
            } else {
                " on a fresh instance, without its state"
            }
        );
        let second = self.call(frame, chunk, followed);
        match &second {
            Ok(_) => self.supervisor.success(),
            Err(error) if is_fatal(error) => self.supervisor.wait(Instant::now()),
            Err(_) => {}
        }
        second.map_err(unjudged)
    }

    /// One call, on a fresh instance where there is none. A fatal error ends the instance.
    fn call(&mut self, frame: &FeatureFrame, chunk: &Chunk, followed: &[Following]) -> Result<Verdict, PluginError> {
        let instance = match &mut self.instance {
            Some(instance) => instance,
            none => {
                let (plugin, pipeline) = (self.plugin.id().to_string(), self.pipeline.to_string());
                metrics::counter!(telemetry::PLUGIN_RESTARTS, "plugin" => plugin, "pipeline" => pipeline).increment(1);
                let fresh = self.plugin.instantiate(&self.pipeline, &self.config);
                let mut fresh = fresh.inspect_err(|_| self.supervisor.wait(Instant::now()))?;
                if let Some(memory) = &self.memory
                    && let Err(error) = fresh.restore(memory.version, &memory.bytes)
                {
                    let (plugin, detector, pipeline) = (&**self.plugin.label(), &*self.id, &*self.pipeline);
                    tracing::warn!(plugin, detector, pipeline, "a fresh instance begins anew: {error}");
                    if error.kind.is_fatal() {
                        // What it cannot even look at would end the next one, too.
                        self.memory = None;
                        fresh = self.plugin.instantiate(&self.pipeline, &self.config)?;
                    }
                }
                none.insert(fresh)
            }
        };
        followed.iter().for_each(|f| f.tell(instance));
        if let Some(scores) = &chunk.ahead {
            instance.ahead(scores.clone(), chunk.first);
        }
        let verdict = instance.detect(&frame.window, chunk.rows.clone());
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

/// Scores of one frame whose tail is followed.
struct Following {
    heard: Heard,
    published: Published,
    /// The scores, in row order; a row that was not judged has none (NaN).
    scores: Vec<f64>,
    /// Revision of the model that gave them.
    revision: u64,
}

impl Following {
    /// What counts for a model's scores goes to the instance that asks for it.
    fn tell(&self, instance: &mut PluginInstance) {
        let Some(model) = &self.heard.subject.model else { return };
        let followed = self
            .published
            .tail
            .clone()
            .zip(self.published.rows_per_day)
            .map(|(tail, rows_per_day)| Followed { revision: self.heard.revision, tail, rows_per_day });
        instance.follow(model, followed);
    }

    /// What the model said to the rows from `start` on, if the plugin asked for its tails.
    fn take(&mut self, instance: Option<&mut PluginInstance>, start: usize) {
        let Some(model) = &self.heard.subject.model else { return };
        if let Some(raw) = instance.and_then(|i| i.take_raw_scores(model)) {
            self.scores.resize(start, f64::NAN);
            self.scores.extend(raw.scores);
            self.revision = raw.revision;
        }
    }

    /// The tails, and what the follower learns.
    fn finish(&mut self, judgement: &mut Judgement, frame: &FeatureFrame) {
        if self.heard.subject.model.is_none() {
            self.scores.clone_from(&judgement.scores);
        }
        if self.scores.is_empty() {
            return;
        }
        self.scores.resize(frame.keys.len(), f64::NAN);
        // The scores of a model that was swapped in have their own tail, which the plugin was given; it is not followed.
        if self.revision == self.heard.revision {
            let floor = self.published.floor;
            judgement.observed.extend(Observed::of(&self.heard, &frame.window, self.revision, &self.scores, floor));
        }
        let Some(tail) = self.published.tail.as_ref().filter(|_| self.revision == self.heard.revision) else { return };
        let tails = self.scores.iter().map(|&score| tail.log10(score));
        if judgement.tails.is_empty() {
            judgement.tails = tails.collect();
        } else {
            // A detector that asks several models is as surprised as the most surprised of them.
            judgement.tails.iter_mut().zip(tails).for_each(|(all, one)| *all = all.max(one));
        }
    }
}

impl Detector for PluginDetector {
    fn id(&self) -> &Arc<str> {
        &self.id
    }

    fn levels(&self) -> Option<&[KeyKind]> {
        self.levels.as_deref()
    }

    fn followable(&self) -> &[Followable] {
        &self.followable
    }

    fn hear(&mut self, followed: &[Heard]) {
        self.heard = followed.iter().filter(|h| h.subject.detector == self.id).cloned().collect();
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        if let Some(instance) = &mut self.instance {
            match instance.snapshot() {
                Ok(None) => return None,
                Ok(Some(bytes)) => {
                    let info = self.plugin.info();
                    self.memory = Some(Memory { plugin: info.name.clone(), version: info.state_version, bytes });
                }
                Err(error) => {
                    let (plugin, detector, pipeline) = (&**self.plugin.label(), &*self.id, &*self.pipeline);
                    tracing::warn!(plugin, detector, pipeline, "what it knows is not saved: {error}");
                    if error.kind.is_fatal() {
                        self.instance = None;
                    }
                }
            }
        }
        self.memory.as_ref().map(Memory::write)
    }

    fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        let memory = Memory::read(saved, &self.plugin.info().name)?;
        let Some(instance) = &mut self.instance else { return Ok(()) };
        if let Err(error) = instance.restore(memory.version, &memory.bytes) {
            // The next call makes a fresh one.
            self.instance = None;
            return Err(error.to_string());
        }
        self.memory = Some(memory);
        Ok(())
    }

    fn detect(&mut self, frame: &FeatureFrame, order: u64) -> Judgement {
        let total = frame.batch.num_rows();
        let mut judgement = Judgement::default();
        let mut features = None;
        let mut followed = self.meanings(frame.kind, order);
        let scores_models = !self.plugin.granted().is_empty();
        let ahead = scores_models.then(|| self.scorer.scores(frame.kind.name(), &frame.batch));
        for start in (0..total).step_by(CHUNK) {
            let rows = CHUNK.min(total - start);
            let chunk = Chunk { rows: frame.batch.slice(start, rows), first: start, ahead: ahead.clone() };
            let verdict = match self.judge(frame, &chunk, &followed) {
                Ok(verdict) => verdict,
                Err(unjudged) => {
                    self.dead_letter(frame, rows, unjudged);
                    Verdict::default()
                }
            };
            followed.iter_mut().for_each(|f| f.take(self.instance.as_mut(), start));
            if !verdict.scores.is_empty() {
                // What came before it without scores has no opinion.
                judgement.scores.resize(start, f64::NAN);
                judgement.scores.extend(verdict.scores);
            }
            for mut alert in verdict.alerts {
                alert.row += start as u32;
                let features = features.get_or_insert_with(|| frame.features());
                judgement.detections.push(self.detection(frame, alert, features));
            }
        }
        if !judgement.scores.is_empty() {
            judgement.scores.resize(total, f64::NAN);
        }
        for followed in &mut followed {
            followed.finish(&mut judgement, frame);
        }
        judgement
    }
}

impl PluginDetector {
    /// What counts for its scores on this level in this order.
    fn meanings(&self, level: KeyKind, order: u64) -> Vec<Following> {
        let mine = self.heard.iter().filter(|h| h.subject.level == level);
        mine.map(|heard| Following {
            heard: heard.clone(),
            published: heard.timeline.at(order),
            scores: Vec::new(),
            revision: heard.revision,
        })
        .collect()
    }

    fn detection(&self, frame: &FeatureFrame, alert: Alert, features: &[(Arc<str>, &[f64])]) -> Detection {
        let row = alert.row as usize;
        // Asked for here, where there is something to tell: the model may have been swapped since the last alert.
        let models = self.instance.as_ref().map(PluginInstance::models).unwrap_or_default();
        let digests: Vec<&str> = models.iter().map(|m| &*m.model.digest).collect();
        Detection {
            detector: self.id.clone(),
            model_digest: (!digests.is_empty()).then(|| digests.join(" ").into()),
            plugin: self.plugin.label().clone(),
            key: frame.keys[row],
            window: frame.window,
            observed: features.iter().map(|(name, values)| (name.clone(), values[row])).collect(),
            alert,
        }
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
