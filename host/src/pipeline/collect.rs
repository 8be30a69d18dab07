//! Takes the place of a pipeline's detectors and hands its frames on: how training sees the very rows that serving will.

use crate::detect::{Detector, Judgement};
use crate::model::{FeatureFrame, KeyKind};
use crossbeam_channel::Sender;
use std::sync::Arc;

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

    fn detect(&mut self, frame: &FeatureFrame) -> Judgement {
        // Whoever no longer listens wants no more frames.
        let _ = self.frames.send(frame.clone());
        Judgement::default()
    }
}
