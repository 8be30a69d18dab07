//! What a change would have told: a second tracker over the same windows, and how it compares with the live one. In: the
//! windows of a pipeline with what its shadow found in them, and what the live tracker said. Out: figures for those who ask;
//! nothing goes to a sink.

use crate::config::IncidentPlan;
use crate::incident::compare::{Comparison, Judged, Report, alerted};
use crate::incident::{Context, IncidentTracker, NextWindows};
use crate::model::incident::IncidentEvent;
use crate::model::{Detection, EntityKey, WindowInfo};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// How a shadow compares; shared with those who ask.
pub(super) type Compared = Arc<Mutex<Comparison>>;

/// All comparisons of an engine; those of shadows that are gone are not in it.
#[derive(Default)]
pub(super) struct Shadows(Mutex<Vec<Weak<Mutex<Comparison>>>>);

impl Shadows {
    /// One more. Of a pipeline over a log each task has one.
    pub(super) fn add(&self, compared: &Compared) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.strong_count() > 0 && !std::ptr::eq(known.as_ptr(), Arc::as_ptr(compared)));
        all.push(Arc::downgrade(compared));
    }

    /// How each stands, by pipeline.
    pub(super) fn reports(&self) -> Vec<Report> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().filter_map(Weak::upgrade);
        let mut reports: Vec<Report> =
            known.map(|one| one.lock().unwrap_or_else(PoisonError::into_inner).report()).collect();
        reports.sort_by(|a, b| a.pipeline.cmp(&b.pipeline));
        reports
    }
}

/// A comparison that has yet to begin.
pub(super) fn compared(pipeline: &Arc<str>) -> Compared {
    Arc::new(Mutex::new(Comparison::new(pipeline.clone(), 0, [])))
}

/// See the module.
pub(super) struct Shadow {
    tracker: IncidentTracker,
    compared: Compared,
    pipeline: Arc<str>,
}

impl Shadow {
    /// Its incidents are counted under a name of their own, `PIPELINE:shadow`.
    pub(super) fn new(live: &Context, plan: IncidentPlan, compared: Compared) -> Self {
        let pipeline = live.pipeline.clone();
        let context = Context { pipeline: format!("{pipeline}:shadow").into(), shadow: false, ..live.clone() };
        Self { tracker: IncidentTracker::new(context, plan), compared, pipeline }
    }

    /// Begins to compare with a tracker that may have incidents open already.
    pub(super) fn begin(&mut self, live: &IncidentTracker) {
        let windows = |plan: &IncidentPlan| u64::from(plan.open_n.max(plan.close_after_windows));
        let near = windows(live.plan()).max(windows(self.tracker.plan()));
        let begun = Comparison::new(self.pipeline.clone(), near, live.open_incidents());
        *self.compared.lock().unwrap_or_else(PoisonError::into_inner) = begun;
    }

    /// A shadow with the same rules as the one before goes on with what that knew. False: it is another one, and begins.
    pub(super) fn follow(&mut self, before: Option<Shadow>) -> bool {
        match before.filter(|before| Arc::ptr_eq(&self.compared, &before.compared)) {
            Some(before) => {
                let context = self.tracker.context().clone();
                let plan = self.tracker.plan().clone();
                self.tracker = before.tracker;
                self.tracker.reconfigure(context, plan, NextWindows::GoOn);
                true
            }
            None => false,
        }
    }

    /// One window: what both found in it, and what the live tracker told (or would have, in silence).
    pub(super) fn observe(
        &mut self,
        window: &WindowInfo,
        found: Vec<Detection>,
        (live, told): (&BTreeSet<EntityKey>, &[IncidentEvent]),
    ) {
        let here = alerted(&found);
        let events = self.tracker.observe(window, found);
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        compared.observe(window, Judged { alerted: live, events: told }, Judged { alerted: &here, events: &events });
    }
}
