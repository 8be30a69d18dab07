//! One share of a pipeline's entities: windows, features, detectors. In: prepared batches and close orders. Out: per
//! order, the windows that fired with what the detectors found in them. Nothing is shared with other workers.

use super::grouping::{Grouping, Placed};
use super::saved::{self, Saved};
use crate::detect::follow::Observed;
use crate::detect::{Combiner, Detector};
use crate::model::{Detection, FeatureFrame, ScoredFrame, WindowInfo};
use crate::telemetry::{FEATURE_ROWS, WINDOW_FIRED};
use crate::window::Close;
use crossbeam_channel::{Receiver, Sender};
use metrics::{Counter, Gauge, counter, gauge};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) enum WorkerMsg {
    Records(Placed),
    /// Numbered, so that the desk can wait for all workers.
    Close(u64, Close),
    /// A whole window that came as rows; numbered like an order.
    Frame(u64, Box<FeatureFrame>),
}

/// What one worker has to say about one close order.
pub(super) struct Judged {
    pub(super) seq: u64,
    pub(super) windows: Vec<(WindowInfo, Vec<Detection>)>,
    pub(super) scored: Vec<ScoredFrame>,
    pub(super) frames: Vec<FeatureFrame>,
    pub(super) observed: Vec<Observed>,
}

/// What somebody wants to have besides detections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keep {
    /// Every scored row.
    pub(super) scores: bool,
    /// Every row of features.
    pub(super) frames: bool,
}

pub(super) struct Worker {
    pipeline: Arc<str>,
    pub(super) grouping: Grouping,
    pub(super) detectors: Vec<Box<dyn Detector>>,
    pub(super) combiner: Option<Combiner>,
    pub(super) keep: Keep,
    /// Where its levels are kept.
    saved: Option<Saved>,
    /// Where what each detector knows is kept.
    memories: Vec<Saved>,
    meters: Meters,
}

struct Meters {
    rows: Counter,
    fired: Counter,
    refused: Counter,
    /// Entities, or bytes of rows.
    held: Gauge,
    seen_refused: u64,
    seen_held: usize,
}

impl Worker {
    pub(super) fn new(
        pipeline: &Arc<str>,
        grouping: Grouping,
        detectors: Vec<Box<dyn Detector>>,
        combiner: Option<Combiner>,
        keep: Keep,
    ) -> Self {
        let p = pipeline.to_string();
        let (refused, held) = grouping.load_metrics();
        let meters = Meters {
            rows: counter!(FEATURE_ROWS, "pipeline" => p.clone()),
            fired: counter!(WINDOW_FIRED, "pipeline" => p.clone()),
            refused: counter!(refused, "pipeline" => p.clone()),
            held: gauge!(held, "pipeline" => p),
            seen_refused: 0,
            seen_held: 0,
        };
        Self {
            pipeline: pipeline.clone(),
            grouping,
            detectors,
            combiner,
            keep,
            saved: None,
            memories: Vec::new(),
            meters,
        }
    }

    /// Goes on with the levels that the workers before have kept, and with what its detectors knew: where there were as many
    /// workers as now, because an entity's state does not move between them.
    pub(super) fn resume(&mut self, saved: Saved, memories: impl Fn(&str) -> Option<Saved>) {
        let pipeline = self.pipeline.clone();
        for levels in saved.load_all(|number| saved::worker(&pipeline, number)) {
            if let Err(error) = self.grouping.restore(&levels) {
                tracing::warn!(pipeline = &*pipeline, "levels that were kept are not used: {error}");
            }
        }
        self.saved = Some(saved);
        self.memories = self.detectors.iter().filter_map(|d| memories(d.id())).collect();
        let memories: Vec<_> = self.memories.iter().map(Saved::load).collect();
        self.restore_detectors(memories);
    }

    /// Detectors go on with what they knew, in their order.
    pub(super) fn restore_detectors(&mut self, memories: impl IntoIterator<Item = Option<Vec<u8>>>) {
        for (detector, memory) in self.detectors.iter_mut().zip(memories) {
            if let Some(Err(error)) = memory.map(|memory| detector.restore(&memory)) {
                let (pipeline, detector) = (&*self.pipeline, &**detector.id());
                tracing::warn!(pipeline, detector, "begins anew, what was kept of it is not used: {error}");
            }
        }
    }

    fn keep(&mut self) {
        let Some(saved) = &mut self.saved else { return };
        saved.write(self.grouping.save());
        for (detector, saved) in self.detectors.iter_mut().zip(&mut self.memories) {
            if let Some(memory) = detector.save() {
                saved.write(memory);
            }
        }
    }

    /// Runs until the router has hung up.
    pub(super) fn run(mut self, input: &Receiver<WorkerMsg>, out: &Sender<Judged>) {
        while let Ok(message) = input.recv() {
            match message {
                WorkerMsg::Records(placed) => self.grouping.push(&placed),
                WorkerMsg::Close(seq, order) => {
                    let judged = self.close(seq, &order);
                    if out.send(judged).is_err() {
                        return;
                    }
                }
                WorkerMsg::Frame(seq, frame) => {
                    let window = frame.window;
                    let judged = self.judge(seq, vec![window], vec![*frame]);
                    if out.send(judged).is_err() {
                        return;
                    }
                }
            }
        }
        self.keep();
    }

    pub(super) fn close(&mut self, seq: u64, order: &Close) -> Judged {
        let (fired, frames) = self.grouping.close(order);
        let judged = self.judge(seq, fired, frames);
        let (refused, held) = self.grouping.load();
        self.meters.refused.increment(refused - std::mem::replace(&mut self.meters.seen_refused, refused));
        let before = std::mem::replace(&mut self.meters.seen_held, held);
        self.meters.held.increment(held as f64 - before as f64);
        if self.saved.as_ref().is_some_and(Saved::is_due) {
            self.keep();
        }
        judged
    }

    /// Has every detector look at the frames of the windows that fired.
    fn judge(&mut self, seq: u64, fired: Vec<WindowInfo>, frames: Vec<FeatureFrame>) -> Judged {
        let mut windows: BTreeMap<(u64, u32), (WindowInfo, Vec<Detection>)> =
            fired.into_iter().map(|w| ((w.end_ns, w.revision), (w, Vec::new()))).collect();
        let (mut scored, mut observed) = (Vec::new(), Vec::new());
        let kept = if self.keep.frames { frames.clone() } else { Vec::new() };
        for frame in frames {
            self.meters.rows.increment(frame.keys.len() as u64);
            self.meters.fired.increment(1);
            let mut judged = Vec::new();
            for detector in &mut self.detectors {
                if detector.levels().is_some_and(|levels| !levels.contains(&frame.kind)) {
                    continue;
                }
                let mut judgement = detector.detect(&frame, seq);
                observed.append(&mut judgement.observed);
                judged.push((detector.id().clone(), judgement));
            }
            if let Some(combiner) = &self.combiner {
                let mut combined = combiner.combine(&frame, &judged, seq);
                observed.append(&mut combined.observed);
                // The members speak through it only; what each thought of a row stays in the scores.
                for (_, member) in &mut judged {
                    member.detections.clear();
                }
                judged.push((combiner.id().clone(), combined));
            }
            for (detector, judgement) in judged {
                if self.keep.scores {
                    scored.push(ScoredFrame {
                        pipeline: self.pipeline.clone(),
                        detector,
                        frame: frame.clone(),
                        scores: judgement.scores.clone(),
                        tails: judgement.tails.clone(),
                        alerted: judgement.alerted(),
                    });
                }
                if let Some((_, detections)) = windows.get_mut(&(frame.window.end_ns, frame.window.revision)) {
                    detections.extend(judgement.detections);
                }
            }
        }
        Judged { seq, windows: windows.into_values().collect(), scored, frames: kept, observed }
    }
}
