//! A running engine and its next plan. Comes in: a trigger (a file that changed, a signal, a request); goes out: the new plan in
//! force, or the old one untouched and the reason. Refused: a second reload while one is running.

mod engine;
mod folders;
pub mod memory;
mod probation;
mod report;
pub mod stable;
pub mod watch;

pub use engine::Engine;
pub use report::{Outcome, Report, Trigger};

use crate::config::Plan;
use crate::plugin::Statuses;
use std::sync::Arc;

/// A reload is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reload is running")]
pub struct Busy;

/// What the HTTP surface, signals and the file watch ask of a running engine. All of it may be called from any thread;
/// `reload` and `rollback` block until it is done (seconds).
pub trait Control: Send + Sync {
    /// Reads the configuration files again and takes up what has changed.
    fn reload(&self, trigger: Trigger) -> Result<Report, Busy>;
    /// Goes back to the plan before the last change.
    fn rollback(&self, trigger: Trigger) -> Result<Report, Busy>;
    /// What came of the last reloads, the newest first.
    fn history(&self) -> Vec<Report>;
    /// The plan in force.
    fn plan(&self) -> Arc<Plan>;
    /// How each use of each plugin fares.
    fn plugins(&self) -> Option<Arc<Statuses>>;
    /// Names of sources that have somebody to ask and have no answer.
    fn not_connected(&self) -> Vec<Arc<str>>;
    /// How each shadow compares with what is live: a JSON array, one object per pipeline with a shadow.
    fn shadows(&self) -> serde_json::Value;
}
