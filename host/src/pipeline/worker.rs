//! One share of a pipeline's entities: windows, features, detectors. In: prepared batches and close orders. Out: per
//! order, the windows that fired with what the detectors found in them. Nothing is shared with other workers.

use super::gate::{Gate, Vote};
use super::grouping::{Grouping, Placed};
use super::next::{NextDesk, NextWorker};
use super::panel::{Panel, Parted, Said};
use super::saved::{self, Saved};
use crate::detect::follow::Observed;
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
    /// What comes next: it gets ready, votes, and waits for the word.
    Prepare(Box<NextWorker>, Arc<Gate>),
    /// What it is ready for takes over, at this number. One worker passes on what the desk becomes.
    Apply(u64, Option<Box<NextDesk>>),
}

/// Windows with what was found in them, by end and revision.
pub(super) type Windows = BTreeMap<(u64, u32), (WindowInfo, Vec<Detection>)>;

/// What one worker has to say about one close order.
#[derive(Default)]
pub(super) struct Judged {
    pub(super) seq: u64,
    pub(super) windows: Windows,
    /// What the shadow found in them.
    pub(super) shadow: Vec<Detection>,
    pub(super) scored: Vec<ScoredFrame>,
    pub(super) frames: Vec<FeatureFrame>,
    pub(super) observed: Vec<Observed>,
    /// What the desk becomes with this order.
    pub(super) next: Option<Box<NextDesk>>,
}

pub(super) struct Worker {
    pipeline: Arc<str>,
    pub(super) grouping: Grouping,
    pub(super) panel: Panel,
    /// Where its levels are kept.
    saved: Option<Saved>,
    /// What takes over next.
    next: Option<Box<NextWorker>>,
    /// What detectors knew that were replaced at the last change.
    parted: Parted,
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

impl Meters {
    fn new(pipeline: &Arc<str>, grouping: &Grouping) -> Self {
        let p = pipeline.to_string();
        let (refused, held) = grouping.load_metrics();
        Self {
            rows: counter!(FEATURE_ROWS, "pipeline" => p.clone()),
            fired: counter!(WINDOW_FIRED, "pipeline" => p.clone()),
            refused: counter!(refused, "pipeline" => p.clone()),
            held: gauge!(held, "pipeline" => p),
            seen_refused: 0,
            seen_held: 0,
        }
    }

    fn load(&mut self, (refused, held): (u64, usize)) {
        self.refused.increment(refused - std::mem::replace(&mut self.seen_refused, refused));
        let before = std::mem::replace(&mut self.seen_held, held);
        self.held.increment(held as f64 - before as f64);
    }
}

impl Drop for Meters {
    fn drop(&mut self) {
        // A pipeline that is gone holds nothing.
        self.held.increment(-(self.seen_held as f64));
    }
}

impl Worker {
    pub(super) fn new(pipeline: &Arc<str>, grouping: Grouping, panel: Panel) -> Self {
        let meters = Meters::new(pipeline, &grouping);
        let pipeline = pipeline.clone();
        Self { pipeline, grouping, panel, saved: None, next: None, parted: Parted::new(), meters }
    }

    /// Goes on with the levels that the workers before have kept, and with what its detectors knew: where there were as many
    /// workers as now, because an entity's state does not move between them.
    pub(super) fn resume(&mut self, saved: Saved) {
        let pipeline = self.pipeline.clone();
        for levels in saved.load_all(|number| saved::worker(&pipeline, number)) {
            if let Err(error) = self.grouping.restore(&levels) {
                tracing::warn!(pipeline = &*pipeline, "levels that were kept are not used: {error}");
            }
        }
        self.saved = Some(saved);
        let memories: Vec<_> = self.panel.seats.iter().map(|s| s.memory.as_ref().and_then(Saved::load)).collect();
        self.panel.restore(&pipeline, memories);
    }

    /// False: something could not be written.
    fn keep(&mut self) -> bool {
        let Some(saved) = &mut self.saved else { return true };
        let levels = saved.write(self.grouping.save());
        self.panel.keep() && levels
    }

    /// Runs until the router has hung up.
    pub(super) fn run(mut self, input: &Receiver<WorkerMsg>, out: &Sender<Judged>) {
        while let Ok(message) = input.recv() {
            let judged = match message {
                WorkerMsg::Records(placed) => {
                    self.grouping.push(&placed);
                    continue;
                }
                WorkerMsg::Prepare(next, gate) => {
                    self.prepare(next, &gate);
                    continue;
                }
                WorkerMsg::Close(seq, order) => self.close(seq, &order),
                WorkerMsg::Frame(seq, frame) => {
                    let window = frame.window;
                    self.judge(seq, vec![window], vec![*frame])
                }
                WorkerMsg::Apply(seq, desk) => {
                    if let Some(next) = self.next.take() {
                        self.succeed(*next);
                    }
                    Judged { seq, next: desk, ..Judged::default() }
                }
            };
            if out.send(judged).is_err() {
                return;
            }
        }
        self.keep();
    }

    /// Gets ready for what comes next: after the word, [`succeed`](Self::succeed) cannot fail.
    fn prepare(&mut self, mut next: Box<NextWorker>, gate: &Gate) {
        gate.vote(self.ready(&mut next));
        self.next = gate.wait().then_some(next);
    }

    /// Hands what it knows to what comes next. Err: that cannot go on with it, and must.
    pub(super) fn ready(&mut self, next: &mut NextWorker) -> Vote {
        // Whatever happens to the next, this is safe.
        if !self.keep() {
            return Err(format!(
                "checkpoint: what pipeline `{}` knows cannot be written to `state_dir`",
                self.pipeline
            ));
        }
        let mut notes = self.panel.hand_over(&self.pipeline, &mut next.panel, &self.parted)?;
        let restored = match (&mut next.grouping, &mut next.features) {
            (Some(grouping), _) => match self.grouping.save() {
                memory if memory.is_empty() => Ok(()),
                memory => grouping.restore(&memory),
            },
            (None, Some(features)) => self.grouping.hand_over(features),
            (None, None) => Ok(()),
        };
        if let Err(error) = restored {
            notes.push(format!(
                "features of pipeline `{}` begin anew, what they remembered is not used: {error}",
                self.pipeline
            ));
        }
        Ok(notes)
    }

    /// What was made ready takes over.
    pub(super) fn succeed(&mut self, next: NextWorker) {
        let NextWorker { mut panel, grouping, features, judged_since } = next;
        // What was judged after the vote is known too.
        if judged_since && let Err(error) = self.panel.hand_over(&self.pipeline, &mut panel, &self.parted) {
            tracing::warn!(pipeline = &*self.pipeline, "what its last windows taught is not handed over: {error}");
        }
        self.parted = self.panel.succeed(panel);
        if let Some(features) = features {
            self.grouping.succeed(features);
        }
        if let Some(grouping) = grouping {
            self.meters.load((self.meters.seen_refused, 0));
            self.grouping = grouping;
            self.meters.seen_refused = 0;
        }
    }

    pub(super) fn close(&mut self, seq: u64, order: &Close) -> Judged {
        let (fired, frames) = self.grouping.close(order);
        let judged = self.judge(seq, fired, frames);
        self.meters.load(self.grouping.load());
        if self.saved.as_ref().is_some_and(Saved::is_due) {
            self.keep();
        }
        judged
    }

    /// Has every detector look at the frames of the windows that fired.
    fn judge(&mut self, seq: u64, fired: Vec<WindowInfo>, frames: Vec<FeatureFrame>) -> Judged {
        let windows = fired.into_iter().map(|w| ((w.end_ns, w.revision), (w, Vec::new()))).collect();
        let kept = if self.panel.keep.frames { frames.clone() } else { Vec::new() };
        let mut judged = Judged { seq, windows, frames: kept, ..Judged::default() };
        for frame in frames {
            self.meters.rows.increment(frame.keys.len() as u64);
            self.meters.fired.increment(1);
            let Said { live, shadow, scored, observed } = self.panel.judge(&self.pipeline, &frame, seq);
            judged.scored.extend(scored);
            judged.observed.extend(observed);
            judged.shadow.extend(shadow);
            if let Some((_, detections)) = judged.windows.get_mut(&(frame.window.end_ns, frame.window.revision)) {
                detections.extend(live);
            }
        }
        judged
    }
}
