//! How each use of each plugin fares, for people who ask (`GET /api/v1/plugins`). Comes in: what the ones who call plugins
//! note; goes out: a list, and the gauge `kaminari_plugin_state`. A use that has ended is not in it.

use super::loaded::PluginInfo;
use super::roles::Role;
use crate::telemetry::PLUGIN_STATE;
use metrics::Gauge;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

/// Whether a plugin is called.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// It is.
    Running,
    /// Not before then: it broke.
    Backoff(Instant),
    /// Not before its file or its configuration changes: it broke too often.
    Quarantined,
}

/// One plugin in one place.
#[derive(Debug)]
pub struct Status {
    /// Id in the config.
    pub plugin: Arc<str>,
    /// Who it says it is.
    pub info: PluginInfo,
    /// What it is used as.
    pub role: Role,
    /// Pipeline, or the source that it decodes.
    pub pipeline: Arc<str>,
    /// Id of the detector, or whatever else it is called as there.
    pub user: Arc<str>,
    /// Calls that broke an instance.
    pub faults: AtomicU64,
    /// Instances made after a fault.
    pub restarts: AtomicU64,
    /// Calls that came to nothing, tried again or not.
    pub errors: AtomicU64,
    /// Rows or frames that were not looked at.
    pub dead_lettered: AtomicU64,
    health: Mutex<(Health, Option<String>)>,
}

impl Status {
    /// What it is now, and its last fault.
    pub fn health(&self) -> (Health, Option<String>) {
        let mut now = self.health.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if matches!(now.0, Health::Backoff(until) if until <= Instant::now()) {
            now.0 = Health::Running;
        }
        now
    }

    pub(super) fn set(&self, health: Health) {
        let mut now = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut now.0, health);
        self.gauge(&before).decrement(1.0);
        self.gauge(&now.0).increment(1.0);
    }

    /// `broke`: the instance was lost with it.
    pub(super) fn failed(&self, text: String, broke: bool) {
        self.faults.fetch_add(u64::from(broke), Ordering::Relaxed);
        self.health.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(text);
    }

    fn gauge(&self, health: &Health) -> Gauge {
        metrics::gauge!(
            PLUGIN_STATE,
            "plugin" => self.plugin.to_string(),
            "pipeline" => self.pipeline.to_string(),
            "state" => health.name(),
        )
    }
}

impl Health {
    /// As metrics and the API have it.
    pub fn name(&self) -> &'static str {
        match self {
            Health::Running => "running",
            Health::Backoff(_) => "backoff",
            Health::Quarantined => "quarantined",
        }
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        let now = self.health.get_mut().unwrap_or_else(PoisonError::into_inner).0.clone();
        self.gauge(&now).decrement(1.0);
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Statuses(Mutex<Vec<Weak<Status>>>);

impl Statuses {
    pub(super) fn add(
        &self,
        plugin: &Arc<str>,
        info: &PluginInfo,
        role: Role,
        pipeline: &Arc<str>,
        user: &Arc<str>,
    ) -> Arc<Status> {
        let status = Arc::new(Status {
            plugin: plugin.clone(),
            info: info.clone(),
            role,
            pipeline: pipeline.clone(),
            user: user.clone(),
            faults: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            dead_lettered: AtomicU64::new(0),
            health: Mutex::new((Health::Running, None)),
        });
        status.gauge(&Health::Running).increment(1.0);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|s| s.strong_count() > 0);
        all.push(Arc::downgrade(&status));
        status
    }

    /// Those that are in use, by plugin, pipeline and user.
    pub fn all(&self) -> Vec<Arc<Status>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        found.sort_by(|a, b| (&a.plugin, &a.pipeline, &a.user).cmp(&(&b.plugin, &b.pipeline, &b.user)));
        found
    }
}
