//! `/api/v1/plugins`. Comes in: how each use of each plugin fares; goes out: a JSON array, by plugin, pipeline and user.

use crate::plugin::{Health, Status, Statuses};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The array; empty where no plugin is used.
pub(super) fn told(statuses: Option<&Statuses>) -> Value {
    statuses.map(Statuses::all).unwrap_or_default().iter().map(|status| one(status)).collect()
}

fn one(status: &Status) -> Value {
    let (health, last_error) = status.health();
    let retry_ms = match health {
        Health::Backoff(until) => Some(until.saturating_duration_since(Instant::now()).as_millis() as u64),
        _ => None,
    };
    json!({
        "plugin": &*status.plugin,
        "name": status.info.name,
        "version": status.info.version,
        "role": status.role.name(),
        "pipeline": &*status.pipeline,
        "user": &*status.user,
        "digest": status.info.digest,
        "api_version": status.info.api_version,
        "state": health.name(),
        "retry_ms": retry_ms,
        "faults": status.faults.load(Ordering::Relaxed),
        "restarts": status.restarts.load(Ordering::Relaxed),
        "dead_lettered": status.dead_lettered.load(Ordering::Relaxed),
        "last_error": last_error,
    })
}
