//! An engine that cannot reload yet: keeps the HTTP surface as it was until the real `Control` is merged, and goes then.

use crate::config::Plan;
use crate::config::diff::PlanDiff;
use crate::plugin::Statuses;
use crate::reload::{Busy, Control, Outcome, Report, Trigger};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What does not change while it runs.
pub(super) struct Fixed {
    pub(super) plan: Arc<Plan>,
    pub(super) plugins: Option<Arc<Statuses>>,
    pub(super) sources: Vec<(Arc<str>, Arc<AtomicBool>)>,
}

impl Control for Fixed {
    fn reload(&self, trigger: Trigger) -> Result<Report, Busy> {
        Ok(Report {
            number: 1,
            trigger,
            began_at: jiff::Timestamp::now().to_string(),
            took_ms: 0.0,
            outcome: Outcome::Refused,
            old_digest: self.plan.digest.clone(),
            new_digest: None,
            diff: PlanDiff::default(),
            step: Some("read"),
            errors: vec!["this engine cannot reload: start it anew".into()],
            notes: Vec::new(),
        })
    }

    fn rollback(&self, trigger: Trigger) -> Result<Report, Busy> {
        self.reload(trigger)
    }

    fn history(&self) -> Vec<Report> {
        Vec::new()
    }

    fn plan(&self) -> Arc<Plan> {
        self.plan.clone()
    }

    fn plugins(&self) -> Option<Arc<Statuses>> {
        self.plugins.clone()
    }

    fn not_connected(&self) -> Vec<Arc<str>> {
        let silent = self.sources.iter().filter(|(_, up)| !up.load(Ordering::Relaxed));
        silent.map(|(id, _)| id.clone()).collect()
    }

    fn shadows(&self) -> serde_json::Value {
        serde_json::json!([])
    }
}
