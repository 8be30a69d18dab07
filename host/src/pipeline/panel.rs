//! Those who judge in one worker of a pipeline: its detectors, how they speak together, and the shadow that is compared with
//! them. In: frames. Out: what each said, the live ones' detections and the shadow's. At a reload the next panel takes over
//! between two windows: whoever is in both stays where he is, whoever follows another goes on with what that one knew.

use super::gate::Vote;
use super::saved::Saved;
use crate::config::OnStateMismatch;
use crate::detect::follow::{Heard, Observed};
use crate::detect::{Combiner, Detector};
use crate::model::{Detection, FeatureFrame, Handover, ScoredFrame};
use crate::plugin::{FrameScorer, Models};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What somebody wants to have besides detections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keep {
    /// Every scored row.
    pub(super) scores: bool,
    /// Every row of features.
    pub(super) frames: bool,
}

/// A detector in its place.
pub(super) struct Seat {
    pub(super) detector: Box<dyn Detector>,
    /// What it says is told.
    pub(super) live: bool,
    /// What it says is compared.
    pub(super) shadow: bool,
    /// Where what it knows is kept.
    pub(super) memory: Option<Saved>,
}

/// See the module.
pub(super) struct Panel {
    pub(super) seats: Vec<Seat>,
    pub(super) combiner: Option<Combiner>,
    /// Of the shadow.
    pub(super) shadow_combiner: Option<Combiner>,
    pub(super) keep: Keep,
    pub(super) scorer: Arc<FrameScorer>,
}

/// A seat of the next panel.
pub(super) struct NextSeat {
    pub(super) id: Arc<str>,
    pub(super) live: bool,
    pub(super) shadow: bool,
    /// `None`: the one who sits there stays.
    pub(super) new: Option<(Box<dyn Detector>, OnStateMismatch)>,
    pub(super) memory: Option<Saved>,
}

/// A panel that is to take over.
pub(super) struct NextPanel {
    pub(super) seats: Vec<NextSeat>,
    pub(super) combiner: Option<Combiner>,
    pub(super) shadow_combiner: Option<Combiner>,
    pub(super) keep: Keep,
    pub(super) heard: Vec<Heard>,
    pub(super) models: Arc<Models>,
    /// It goes back to an older plan.
    pub(super) back: bool,
}

/// What those knew who were replaced, by id. Who goes back to an older plugin may not be able to read what the newer one
/// knows, but this.
pub(super) type Parted = BTreeMap<Arc<str>, Vec<u8>>;

/// What a panel says about a frame.
#[derive(Default)]
pub(super) struct Said {
    pub(super) live: Vec<Detection>,
    pub(super) shadow: Vec<Detection>,
    pub(super) scored: Vec<ScoredFrame>,
    pub(super) observed: Vec<Observed>,
}

impl Panel {
    /// Has every detector look at a frame.
    pub(super) fn judge(&mut self, pipeline: &Arc<str>, frame: &FeatureFrame, seq: u64) -> Said {
        let mut said = Said::default();
        // Aside: judged, and not told.
        let (mut live, mut aside, mut shadow) = (Vec::with_capacity(self.seats.len() + 1), Vec::new(), Vec::new());
        for seat in &mut self.seats {
            if seat.detector.levels().is_some_and(|levels| !levels.contains(&frame.kind)) {
                continue;
            }
            let mut judgement = seat.detector.detect(frame, seq);
            said.observed.append(&mut judgement.observed);
            let id = seat.detector.id();
            if seat.shadow {
                shadow.push((id.clone(), judgement.clone()));
            }
            if seat.live { &mut live } else { &mut aside }.push((id.clone(), judgement));
        }
        if let Some(combiner) = &self.shadow_combiner {
            let mut combined = combiner.combine(frame, &shadow, seq);
            said.observed.append(&mut combined.observed);
            said.shadow.append(&mut combined.detections);
            aside.push((combiner.id().clone(), combined));
        } else {
            said.shadow.extend(shadow.into_iter().flat_map(|(_, judgement)| judgement.detections));
        }
        if let Some(combiner) = &self.combiner {
            let mut combined = combiner.combine(frame, &live, seq);
            said.observed.append(&mut combined.observed);
            // The members speak through it only; what each thought of a row stays in the scores.
            live.iter_mut().for_each(|(_, member)| member.detections.clear());
            live.push((combiner.id().clone(), combined));
        }
        if self.keep.scores {
            said.scored.extend(live.iter().chain(&aside).map(|(detector, judgement)| ScoredFrame {
                pipeline: pipeline.clone(),
                detector: detector.clone(),
                frame: frame.clone(),
                scores: judgement.scores.clone(),
                tails: judgement.tails.clone(),
                alerted: judgement.alerted(),
            }));
        }
        said.live.extend(live.into_iter().flat_map(|(_, judgement)| judgement.detections));
        said
    }

    /// Writes what each detector knows. False: something could not be written.
    pub(super) fn keep(&mut self) -> bool {
        let mut all = true;
        for seat in &mut self.seats {
            if let Some(saved) = &mut seat.memory
                && let Some(memory) = seat.detector.save()
            {
                all &= saved.write(memory);
            }
        }
        all
    }

    /// Detectors go on with what they knew, in their order.
    pub(super) fn restore(&mut self, pipeline: &str, memories: impl IntoIterator<Item = Option<Vec<u8>>>) {
        for (seat, memory) in self.seats.iter_mut().zip(memories) {
            if let Some(Err(error)) = memory.map(|memory| seat.detector.restore(&memory)) {
                let detector = &**seat.detector.id();
                tracing::warn!(pipeline, detector, "begins anew, what was kept of it is not used: {error}");
            }
        }
    }

    /// Hands what the detectors know to those who are to follow them.
    pub(super) fn hand_over(&mut self, pipeline: &str, next: &mut NextPanel, parted: &Parted) -> Vote {
        let mut notes = Vec::new();
        for seat in &mut next.seats {
            let Some((successor, on_mismatch)) = &mut seat.new else { continue };
            let before = self.seats.iter_mut().find(|s| *s.detector.id() == seat.id);
            let Some(memory) = before.and_then(|s| s.detector.save()) else { continue };
            let parted = parted.get(&seat.id).filter(|_| next.back);
            let restored = successor.restore(&memory).or_else(|error| match parted {
                Some(parted) => successor.restore(parted).map_err(|_| error).inspect(|_| {
                    let text = "goes on with what it knew when it was replaced";
                    notes.push(format!("detector `{}` of pipeline `{pipeline}` {text}", seat.id));
                }),
                None => Err(error),
            });
            match restored {
                Ok(how) => successor.count_handover(how),
                Err(error) if *on_mismatch == OnStateMismatch::Reset => {
                    successor.count_handover(Handover::Reset);
                    notes.push(format!("detector `{}` of pipeline `{pipeline}` begins anew: {error}", seat.id));
                }
                Err(error) => {
                    successor.count_handover(Handover::Refused);
                    return Err(format!(
                        "detector `{}` of pipeline `{pipeline}` cannot go on with what its predecessor knew: {error} \
                         (`on_state_mismatch = \"reset\"` in `[detectors.{}]` lets it begin anew)",
                        seat.id, seat.id
                    ));
                }
            }
        }
        Ok(notes)
    }

    /// The next panel takes over. Gives what those knew who have gone.
    pub(super) fn succeed(&mut self, next: NextPanel) -> Parted {
        let mut before = std::mem::take(&mut self.seats);
        let mut parted = Parted::new();
        for NextSeat { id, live, shadow, new, memory } in next.seats {
            let at = before.iter().position(|s| *s.detector.id() == id);
            let sat = at.map(|at| before.swap_remove(at));
            let detector = match (new, sat) {
                (Some((detector, _)), sat) => {
                    parted.extend(sat.and_then(|mut sat| Some((id, sat.detector.save()?))));
                    detector
                }
                (None, Some(sat)) => sat.detector,
                (None, None) => continue,
            };
            self.seats.push(Seat { detector, live, shadow, memory });
        }
        self.seats.iter_mut().for_each(|s| s.detector.hear(&next.heard));
        (self.combiner, self.shadow_combiner, self.keep) = (next.combiner, next.shadow_combiner, next.keep);
        self.scorer.succeed(next.models);
        parted
    }
}
