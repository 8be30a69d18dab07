//! The frames of one pipeline, for whoever wants to learn from them: files go through the very windows and features that
//! serve later, so that training and serving cannot differ.

use super::build::{BuildError, Input, build};
use super::running::{Outcome, Progress, Running};
use crate::config::Plan;
use crate::detect::follow::{Followable, Heard};
use crate::detect::{Detector, Judgement};
use crate::model::{FeatureFrame, KeyKind};
use crossbeam_channel::{Sender, bounded};
use std::path::PathBuf;
use std::sync::Arc;

/// Frames that may wait to be taken.
const QUEUE: usize = 16;

/// Which frames.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Files, read one after the other.
    pub paths: Vec<PathBuf>,
    /// The source that they stand for; needed when the pipeline has several.
    pub source: Option<String>,
    /// Which pipeline.
    pub pipeline: Arc<str>,
    /// Which of its levels.
    pub level: KeyKind,
}

/// Hands every frame to `take`, in order of time. Loads no plugin and no model.
pub fn collect(
    plan: &Plan,
    wanted: Wanted,
    progress: Option<Progress>,
    mut take: impl FnMut(FeatureFrame),
) -> Result<Outcome, BuildError> {
    let mut plan = plan.clone();
    // Frames of several workers would come in any order.
    plan.engine.window_workers = 1;
    let (to_us, frames) = bounded(QUEUE);
    let built = build(&plan, Input::Frames { wanted, frames: to_us })?;
    let running = Running::start(built, None, progress)?;
    // Frames end when all has run empty, which is waited for aside.
    std::thread::scope(|scope| {
        let outcome = scope.spawn(|| running.wait());
        while let Ok(frame) = frames.recv() {
            take(frame);
        }
        outcome.join().map_err(|_| BuildError::Input("a thread panicked: this is a bug".into()))
    })
}

/// Takes the place of the pipeline's detectors.
pub(super) struct Collector {
    id: Arc<str>,
    frames: Sender<FeatureFrame>,
}

impl Collector {
    pub(super) fn new(frames: Sender<FeatureFrame>) -> Self {
        Self { id: Arc::from("collect"), frames }
    }
}

impl Detector for Collector {
    fn id(&self) -> &Arc<str> {
        &self.id
    }

    fn levels(&self) -> Option<&[KeyKind]> {
        None
    }

    fn followable(&self) -> &[Followable] {
        &[]
    }

    fn hear(&mut self, _: &[Heard]) {}

    fn detect(&mut self, frame: &FeatureFrame, _: u64) -> Judgement {
        // Whoever no longer listens wants no more frames.
        let _ = self.frames.send(frame.clone());
        Judgement::default()
    }
}
