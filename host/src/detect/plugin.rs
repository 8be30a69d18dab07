//! A plugin as a detector. In: frames; out: judgements. Rows of a call that came to nothing, and rows that come while the
//! plugin waits or is quarantined, are not judged: counted in `kaminari_plugin_dead_lettered_rows_total`.

use super::follow::{Followable, Heard, Observed, Subject};
use super::{Detector, Judgement};
use crate::calibration::Published;
use crate::config::DetectorPlan;
use crate::model::{Alert, Detection, FeatureFrame, Handover, KeyKind, Verdict, time};
use crate::plugin::{
    Followed, FrameScorer, FrameScores, Guarded, LoadedPlugin, PluginError, PluginInstance, Role, Unanswered, Use,
};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use std::sync::Arc;

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
    plugin: Guarded,
    /// Scores frames ahead, together with the other detectors of its thread.
    scorer: Arc<FrameScorer>,
    followable: Vec<Followable>,
    heard: Vec<Heard>,
}

/// Rows of one call.
struct Chunk {
    rows: RecordBatch,
    /// Place of the first in the frame.
    first: usize,
    /// What models said to the frame already.
    ahead: Option<Arc<FrameScores>>,
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
        let failed = |source: PluginError| DetectError::Plugin { detector: plan.id.clone(), source };
        let of = Use {
            role: Role::Detector,
            pipeline: offer.pipeline.clone(),
            user: plan.id.clone(),
            config: plan.config.to_string(),
        };
        let label = plugin.label().clone();
        let mut plugin = Guarded::new(plugin, of).map_err(failed)?;
        plugin.ask(|instance| instance.requires(&offer.schema)).map_err(failed)?;
        let levels: Vec<KeyKind> = match &plan.keys {
            Some(keys) => keys.iter().copied().filter(|k| offer.levels.contains(k)).collect(),
            None => offer.levels.clone(),
        };
        let mut followable = Vec::new();
        for used in plugin.instance().map(|i| i.models()).unwrap_or_default() {
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
                digest: label.to_string(),
                revision: 0,
                trained: None,
            }));
        }
        Ok(Self {
            id: plan.id.clone(),
            levels: plan.keys.clone(),
            plugin,
            scorer: scorer.clone(),
            followable,
            heard: Vec::new(),
        })
    }

    fn judge(&mut self, frame: &FeatureFrame, chunk: &Chunk, followed: &[Following]) -> Result<Verdict, Unanswered> {
        let about = || about(frame);
        self.plugin.call(&about, &mut |instance| {
            followed.iter().for_each(|f| f.tell(instance));
            if let Some(scores) = &chunk.ahead {
                instance.ahead(scores.clone(), chunk.first);
            }
            instance.detect(&frame.window, chunk.rows.clone())
        })
    }
}

fn about(frame: &FeatureFrame) -> String {
    format!("window of {} from {}", frame.kind.name(), time::rfc3339(frame.window.start_ns))
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
        self.plugin.save()
    }

    fn restore(&mut self, saved: &[u8]) -> Result<Handover, String> {
        self.plugin.restore(saved).map(Handover::from).map_err(|e| e.to_string())
    }

    fn count_handover(&self, handover: Handover) {
        self.plugin.count_handover(handover);
    }

    fn detect(&mut self, frame: &FeatureFrame, order: u64) -> Judgement {
        let total = frame.batch.num_rows();
        let mut judgement = Judgement::default();
        let mut features = None;
        let mut followed = self.meanings(frame.kind, order);
        let scores_models = !self.plugin.plugin().granted().is_empty();
        let ahead = scores_models.then(|| self.scorer.scores(frame.kind.name(), &frame.batch));
        for start in (0..total).step_by(CHUNK) {
            let rows = CHUNK.min(total - start);
            let chunk = Chunk { rows: frame.batch.slice(start, rows), first: start, ahead: ahead.clone() };
            let verdict = match self.judge(frame, &chunk, &followed) {
                Ok(verdict) => verdict,
                Err(unanswered) => {
                    self.plugin.dead_letter(&|| about(frame), rows, &unanswered);
                    Verdict::default()
                }
            };
            followed.iter_mut().for_each(|f| f.take(self.plugin.instance(), start));
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

    fn detection(&mut self, frame: &FeatureFrame, alert: Alert, features: &[(Arc<str>, &[f64])]) -> Detection {
        let row = alert.row as usize;
        // Asked for here, where there is something to tell: the model may have been swapped since the last alert.
        let models = self.plugin.instance().map(|i| i.models()).unwrap_or_default();
        let digests: Vec<&str> = models.iter().map(|m| &*m.model.digest).collect();
        Detection {
            detector: self.id.clone(),
            model_digest: (!digests.is_empty()).then(|| digests.join(" ").into()),
            plugin: self.plugin.plugin().label().clone(),
            key: frame.keys[row],
            window: frame.window,
            observed: features.iter().map(|(name, values)| (name.clone(), values[row])).collect(),
            alert,
        }
    }
}
