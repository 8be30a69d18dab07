//! Frames scored before plugins ask. Comes in: a frame of features and which models were asked for on frames like it;
//! goes out: the losses of all its rows for all these models, from one panel: one transfer to a device, however many
//! detectors and models there are. A model that is asked for the first time is scored where it is asked for, and from
//! the next frame on with the others; one that nobody asks for any more is left out again.

use super::batch::Batch;
use super::models::{Models, Slot};
use crate::inference::{Backend, Losses, Panel};
use crate::telemetry;
use arrow_array::RecordBatch;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Frames of a level that a model is scored for without being asked for.
const IDLE_FRAMES: u32 = 16;

/// Of the detectors of one thread.
#[derive(Default)]
pub struct FrameScorer {
    models: Mutex<Arc<Models>>,
    levels: Mutex<BTreeMap<String, Level>>,
}

/// A model by its name.
type Named = (Arc<str>, Slot);

/// Frames of one level.
#[derive(Default)]
struct Level {
    wanted: Vec<Wanted>,
    panels: Vec<Together>,
    last: Option<(RecordBatch, Arc<FrameScores>)>,
}

/// A model that is asked for on such frames.
struct Wanted {
    name: Arc<str>,
    /// Frames since.
    idle: u32,
}

/// Models that one backend scores.
struct Together {
    backend: Arc<dyn Backend>,
    members: Vec<(Arc<str>, u64)>,
    panel: Box<dyn Panel>,
}

/// What was scored of one frame.
#[derive(Default)]
pub struct FrameScores {
    scored: Vec<Scored>,
    missed: Mutex<Vec<Arc<str>>>,
}

struct Scored {
    name: Arc<str>,
    revision: u64,
    losses: Losses,
    asked: AtomicBool,
}

impl FrameScores {
    /// Losses of some rows for a model; `None`: not scored, or by another revision.
    pub(super) fn losses(&self, name: &Arc<str>, revision: u64, from: usize, rows: usize) -> Option<(&[f32], &[f32])> {
        let Some(scored) = self.scored.iter().find(|s| s.name == *name && s.revision == revision) else {
            self.missed.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
            return None;
        };
        scored.asked.store(true, Ordering::Relaxed);
        Some((scored.losses.mse.get(from..from + rows)?, scored.losses.log1p.get(from..from + rows)?))
    }
}

impl FrameScorer {
    /// For plugins that were granted some of these models.
    pub fn new(models: Arc<Models>) -> Self {
        Self { models: Mutex::new(models), levels: Mutex::default() }
    }

    /// Those of the next plan: nothing that was prepared for the ones before is of use.
    pub fn succeed(&self, models: Arc<Models>) {
        *self.models.lock().unwrap_or_else(PoisonError::into_inner) = models;
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The scores of a frame; the same for all detectors that it is shown to.
    pub fn scores(&self, level: &str, frame: &RecordBatch) -> Arc<FrameScores> {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let level = match levels.get_mut(level) {
            Some(level) => level,
            None => levels.entry(level.to_owned()).or_default(),
        };
        if let Some((_, scores)) = level.last.as_ref().filter(|(last, _)| same(last, frame)) {
            return scores.clone();
        }
        level.learn();
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let scores = Arc::new(level.score(&models, frame));
        level.last = Some((frame.clone(), scores.clone()));
        scores
    }
}

/// The very columns: while one is kept, nothing else lies where they lie.
fn same(a: &RecordBatch, b: &RecordBatch) -> bool {
    let shared = |(a, b): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(a, b);
    a.num_columns() == b.num_columns() && a.columns().iter().zip(b.columns()).all(shared)
}

impl Level {
    /// What was asked for of the last frame.
    fn learn(&mut self) {
        let Some((_, last)) = self.last.take() else { return };
        for wanted in &mut self.wanted {
            let asked = |s: &Scored| s.name == wanted.name && s.asked.load(Ordering::Relaxed);
            wanted.idle = if last.scored.iter().any(asked) { 0 } else { wanted.idle + 1 };
        }
        for name in last.missed.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            match self.wanted.iter_mut().find(|w| w.name == name) {
                Some(wanted) => wanted.idle = 0,
                None => self.wanted.push(Wanted { name, idle: 0 }),
            }
        }
        self.wanted.retain(|wanted| wanted.idle < IDLE_FRAMES);
    }

    fn score(&mut self, models: &Models, frame: &RecordBatch) -> FrameScores {
        let slots = self.wanted.iter().filter_map(|w| Some((w.name.clone(), models.slot(&w.name)?)));
        let mut backends: Vec<(Arc<dyn Backend>, Vec<Named>)> = Vec::new();
        // A model whose features are not there is told of when it is asked for.
        for (name, slot) in slots.filter(|(_, slot)| slot.model.manifest.features.iter().all(|f| has(frame, &f.name))) {
            match backends.iter_mut().find(|(backend, _)| Arc::ptr_eq(backend, &slot.backend)) {
                Some((_, members)) => members.push((name, slot)),
                None => backends.push((slot.backend.clone(), vec![(name, slot)])),
            }
        }
        let mut scored = Vec::new();
        let mut kept = Vec::new();
        for (backend, members) in backends {
            let ids: Vec<(Arc<str>, u64)> = members.iter().map(|(name, slot)| (name.clone(), slot.revision)).collect();
            let known = self.panels.iter().position(|p| Arc::ptr_eq(&p.backend, &backend) && p.members == ids);
            let together = match known {
                Some(at) => Some(self.panels.swap_remove(at)),
                None => {
                    let models: Vec<_> = members.iter().map(|(_, slot)| slot.model.clone()).collect();
                    // What cannot be made is told to the plugin, when it asks.
                    backend.panel(&models).ok().map(|panel| Together { backend, members: ids, panel })
                }
            };
            let Some(mut together) = together else { continue };
            scored.extend(together.score(frame));
            kept.push(together);
        }
        self.panels = kept;
        FrameScores { scored, missed: Mutex::default() }
    }
}

fn has(frame: &RecordBatch, name: &str) -> bool {
    frame.schema_ref().index_of(name).is_ok()
}

impl Together {
    /// Nothing where scoring fails: the plugin that asks hears why.
    fn score(&mut self, frame: &RecordBatch) -> Vec<Scored> {
        let lent = Batch::lent(frame.clone());
        let column = |name: &String| lent.f64s(frame.schema_ref().index_of(name).ok()? as u32).ok();
        let Some(columns) = self.panel.columns().iter().map(column).collect::<Option<Vec<_>>>() else {
            return Vec::new();
        };
        let columns: Vec<&[f64]> = columns.iter().map(|column| &**column).collect();
        let mut losses = vec![Losses::default(); self.members.len()];
        let began = Instant::now();
        if self.panel.losses(&columns, &mut losses).is_err() {
            return Vec::new();
        }
        let share = began.elapsed().as_secs_f64() / self.members.len() as f64;
        let one = |((name, revision), losses): (&(Arc<str>, u64), Losses)| {
            metrics::histogram!(telemetry::INFERENCE_DURATION, "model" => name.to_string()).record(share);
            Scored { name: name.clone(), revision: *revision, losses, asked: AtomicBool::new(false) }
        };
        self.members.iter().zip(losses).map(one).collect()
    }
}
