//! The first windows of a change. In: the uses of plugins that began with it, and the windows that its pipelines settle; out:
//! that it has held, or why it is to be taken back.

use crate::config::ReloadPlan;
use crate::plugin::{Health, Status, Statuses};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
pub(super) struct Probation {
    plan: ReloadPlan,
    /// Windows of each pipeline: counting on, and where it began.
    settled: Vec<(Arc<str>, Arc<AtomicU64>, u64)>,
    before: Vec<Arc<Status>>,
    statuses: Arc<Statuses>,
}

impl Probation {
    /// `before`: uses that were there already, whose faults are not this change's. `None`: nothing to look after.
    pub(super) fn begin(
        plan: ReloadPlan,
        settled: Vec<(Arc<str>, Arc<AtomicU64>, u64)>,
        before: Vec<Arc<Status>>,
        statuses: Option<Arc<Statuses>>,
    ) -> Option<Self> {
        let statuses = statuses.filter(|_| plan.probation_windows > 0 && !settled.is_empty())?;
        Some(Self { plan, settled, before, statuses })
    }

    /// `None`: it goes on. Ok: it has held.
    pub(super) fn look(&mut self) -> Option<Result<(), String>> {
        let known = |s: &Arc<Status>| self.before.iter().any(|b| Arc::ptr_eq(b, s));
        let new: Vec<Arc<Status>> = self.statuses.all().into_iter().filter(|s| !known(s)).collect();
        let broken = |s: &Status| s.faults.load(Ordering::Relaxed) + s.errors.load(Ordering::Relaxed);
        let faults: u64 = new.iter().map(|s| broken(s)).sum();
        let out = new.iter().find(|s| s.health().0 == Health::Quarantined);
        if faults > self.plan.probation_faults || out.is_some() {
            let worst = new.iter().max_by_key(|s| broken(s));
            let who = worst.map(|s| format!("plugin `{}` as `{}` of `{}`", s.plugin, s.user, s.pipeline));
            let said = worst.and_then(|s| s.health().1).unwrap_or_default();
            return Some(Err(format!(
                "{faults} calls failed in its first windows, {} may: {}: {said}",
                self.plan.probation_faults,
                who.unwrap_or_default()
            )));
        }
        let windows = u64::from(self.plan.probation_windows);
        // A pipeline that was removed meanwhile settles nothing: nobody else holds its count.
        self.settled.retain(|(_, count, began)| {
            Arc::strong_count(count) > 1 && count.load(Ordering::Relaxed).saturating_sub(*began) < windows
        });
        self.settled.is_empty().then_some(Ok(()))
    }
}
