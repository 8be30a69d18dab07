//! The detectors of a pipeline as one. Comes in: what each of them says about a frame; goes out: one judgement, by the
//! rule of the config. A tail sum takes the members for independent, which they are not when they look at the same
//! features: its own scores are followed too, and from then on the asked rate of false alarms is the one that comes.

use super::Judgement;
use super::combine::{Member, Rule};
use super::follow::{Followable, Heard, Observed, Subject};
use crate::config::{CombinePlan, CombineRule};
use crate::model::{Alert, Detection, FeatureFrame, KeyKind, Verdict};
use std::sync::Arc;

/// What the detections and scores of all together are called.
pub const COMBINED: &str = "combined";

/// The same of a pipeline's shadow.
pub const SHADOW_COMBINED: &str = "shadow-combined";

/// Digests of the models that the members' alerts on a row rest on.
fn digests(said: &[(Arc<str>, Judgement)], row: u32) -> Option<Arc<str>> {
    let alerts = said.iter().flat_map(|(_, j)| &j.detections).filter(|d| d.alert.row == row);
    let digests: Vec<&str> = alerts.filter_map(|d| d.model_digest.as_deref()).collect();
    (!digests.is_empty()).then(|| digests.join(" ").into())
}

/// See the module. Belongs to one worker.
pub struct Combiner {
    id: Arc<str>,
    plugin: Arc<str>,
    rule: Rule,
    false_alarms_per_day: f64,
    heard: Vec<Heard>,
}

impl Combiner {
    /// `id`: [`COMBINED`] or [`SHADOW_COMBINED`]; `heard`: all that is followed in the pipeline.
    pub fn new(id: &str, plan: &CombinePlan, heard: &[Heard]) -> Self {
        let rule = match plan.rule {
            CombineRule::Any => Rule::Any,
            CombineRule::All => Rule::All,
            CombineRule::KOfN(k) => Rule::KOfN(k),
            CombineRule::TailSum => Rule::TailSum,
        };
        Self {
            id: Arc::from(id),
            plugin: Arc::from(rule.name()),
            rule,
            false_alarms_per_day: plan.false_alarms_per_day,
            heard: heard.to_vec(),
        }
    }

    /// The scores of a tail sum can be followed, on each of these levels.
    pub fn followable(id: &str, plan: &CombinePlan, levels: &[KeyKind]) -> Vec<Followable> {
        if plan.rule != CombineRule::TailSum {
            return Vec::new();
        }
        let one = |&level: &KeyKind| Followable {
            subject: Subject { detector: Arc::from(id), level, model: None },
            digest: Rule::TailSum.name().to_owned(),
            revision: 0,
            trained: None,
        };
        levels.iter().map(one).collect()
    }

    /// What the scores and detections are called.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// All that was said about a frame of the close order `order`, as one.
    pub fn combine(&self, frame: &FeatureFrame, said: &[(Arc<str>, Judgement)], order: u64) -> Judgement {
        let alerts: Vec<Vec<Alert>> =
            said.iter().map(|(_, j)| j.detections.iter().map(|d| d.alert.clone()).collect()).collect();
        let members: Vec<Member<'_>> = said
            .iter()
            .zip(&alerts)
            .map(|((id, judgement), alerts)| Member { detector: id, scores: &judgement.tails, alerts })
            .collect();
        // Rows a day are a matter of the pipeline: whoever knows them, knows them for all.
        let on_level = || self.heard.iter().filter(|h| h.subject.level == frame.kind);
        let rates = on_level().filter_map(|h| h.timeline.at(order).rows_per_day);
        let rate = rates.reduce(f64::max);
        let limit = rate.map_or(f64::INFINITY, |rate| (rate / self.false_alarms_per_day).log10().max(0.0));
        let own = on_level().find(|h| *h.subject.detector == *self.id);
        let mut judgement = Judgement::default();
        let Verdict { scores, alerts } = match own {
            None => self.rule.combine(&members, frame.keys.len(), limit),
            Some(own) => {
                let published = own.timeline.at(order);
                let raw = self.rule.combine(&members, frame.keys.len(), f64::INFINITY).scores;
                judgement.observed.extend(Observed::of(own, &frame.window, 0, &raw, published.floor));
                match &published.tail {
                    None => self.rule.combine(&members, frame.keys.len(), limit),
                    Some(tail) => {
                        // The limit on the sum whose own tail is as rare as asked for.
                        let at = tail.score_at(10f64.powf(-limit));
                        let mut verdict = self.rule.combine(&members, frame.keys.len(), at);
                        verdict.scores.iter_mut().for_each(|s| *s = tail.log10(*s));
                        for alert in &mut verdict.alerts {
                            (alert.score, alert.threshold) = (tail.log10(alert.score), limit);
                        }
                        verdict
                    }
                }
            }
        };
        judgement.tails.clone_from(&scores);
        judgement.scores = scores;
        let features = if alerts.is_empty() { Vec::new() } else { frame.features() };
        judgement.detections = alerts
            .into_iter()
            .map(|alert| Detection {
                detector: self.id.clone(),
                plugin: self.plugin.clone(),
                model_digest: digests(said, alert.row),
                key: frame.keys[alert.row as usize],
                window: frame.window,
                observed: features.iter().map(|(name, values)| (name.clone(), values[alert.row as usize])).collect(),
                alert,
            })
            .collect();
        judgement
    }
}
