//! What a change would have told: a second tracker over the same windows, and how it compares with the live one. In: the
//! windows of a pipeline with what its shadow found in them, and what the live tracker said. Out: figures for those who ask;
//! nothing goes to a sink.

use crate::config::IncidentPlan;
use crate::incident::compare::Comparison;
use crate::incident::{Context, IncidentTracker};
use crate::model::incident::IncidentEvent;
use crate::model::{Detection, WindowInfo};
use std::sync::{Arc, Mutex, PoisonError};

/// How a shadow compares; shared with those who ask.
pub(super) type Compared = Arc<Mutex<Comparison>>;

/// See the module.
pub(super) struct Shadow {
    tracker: IncidentTracker,
    compared: Compared,
}

impl Shadow {
    /// Its incidents are counted under a name of their own, `PIPELINE:shadow`.
    pub(super) fn new(live: &Context, plan: IncidentPlan, compared: Compared) -> Self {
        let context = Context { pipeline: format!("{}:shadow", live.pipeline).into(), shadow: false, ..live.clone() };
        Self { tracker: IncidentTracker::new(context, plan), compared }
    }

    /// A shadow with the same rules as before goes on with what it knew.
    pub(super) fn follow(&mut self, before: Shadow) {
        if Arc::ptr_eq(&self.compared, &before.compared) {
            self.tracker = before.tracker;
        }
    }

    /// Windows to come have another length.
    pub(super) fn begin_anew(&mut self) {
        let (context, plan) = (self.tracker.context().clone(), self.tracker.plan().clone());
        self.tracker.reconfigure(context, plan, true);
    }

    /// One window: what the shadow found, and what the live tracker told (or would have, in silence).
    pub(super) fn observe(&mut self, window: &WindowInfo, found: Vec<Detection>, live: &[IncidentEvent]) {
        let alerted = !found.is_empty();
        let events = self.tracker.observe(window, found);
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        compared.window(window, alerted);
        compared.live(live);
        compared.shadow(&events);
    }
}
