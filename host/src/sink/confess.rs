//! What is said about output that was not delivered: counts, always; log lines, as often as a person can read them.
//! Comes in: losses; goes out: metrics and log lines.

use super::SinkError;
use crate::model::Output;
use crate::telemetry::{SINK_FAILED, SINK_SHED};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Incident ids named in one log line.
const IDS_LOGGED: usize = 50;
/// One line about rows in so much time; incidents are all named.
const ROWS_LINE: Duration = Duration::from_secs(60);

/// Output that is lost.
pub(super) struct Loss<'a> {
    pub(super) output: &'a Output,
    /// Metric label.
    pub(super) reason: &'static str,
    /// For a person.
    pub(super) why: &'a str,
}

/// Speaks for one sink.
pub(super) struct Confessor {
    id: Arc<str>,
    /// When rows were last spoken of, and how many were lost since.
    rows: Mutex<(Option<Instant>, u64)>,
}

impl Confessor {
    pub(super) fn new(id: Arc<str>) -> Self {
        Self { id, rows: Mutex::new((None, 0)) }
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Counts a loss that was spoken of before.
    pub(super) fn count(&self, loss: &Loss<'_>) {
        failed(&self.id, loss.reason, loss.output.len());
    }

    /// Counts a loss and names what was lost: incidents by their ids, rows by their number.
    pub(super) fn confess(&self, loss: &Loss<'_>) {
        self.count(loss);
        let Output::Incidents(events) = loss.output else {
            if let Some(rows) = self.rows_due(loss.output.len()) {
                let content = loss.output.content().name();
                let (id, why) = (&*self.id, loss.why);
                tracing::error!(component_id = id, error_type = loss.reason, rows, "{content} not delivered: {why}");
            }
            return;
        };
        let incidents: Vec<&str> = events.iter().take(IDS_LOGGED).map(|e| e.incident_id.as_str()).collect();
        tracing::error!(
            component_id = &*self.id,
            error_type = loss.reason,
            events = events.len(),
            incidents = incidents.join(","),
            "incident events not delivered: {}",
            loss.why
        );
    }

    /// Rows for which there was no room.
    pub(super) fn shed(&self, rows: usize, reason: &'static str) {
        metrics::counter!(SINK_SHED, "component_id" => self.id.clone(), "reason" => reason).increment(rows as u64);
        if let Some(rows) = self.rows_due(rows) {
            let why = "the sink does not keep up, and the source cannot wait";
            tracing::error!(component_id = &*self.id, error_type = reason, rows, "rows were shed: {why}");
        }
    }

    /// Not delivered and not lost: it will be read again.
    pub(super) fn left(&self, output: &Output, error: &SinkError) {
        tracing::warn!(
            component_id = &*self.id,
            error_type = error.reason,
            rows = output.len(),
            "not delivered before the end; it is read again at the next start: {error}"
        );
    }

    /// Nothing is lost yet.
    pub(super) fn trouble(&self, what: &str, error: &SinkError) {
        tracing::warn!(component_id = &*self.id, error_type = error.reason, "{what}: {error}");
    }

    pub(super) fn cannot_flush(&self, error: &SinkError) {
        tracing::error!(component_id = &*self.id, error_type = error.reason, "cannot flush the sink: {error}");
    }

    /// The worker does not end.
    pub(super) fn stuck(&self, left: usize) {
        failed(&self.id, "stuck", left);
        tracing::error!(
            component_id = &*self.id,
            error_type = "stuck",
            events = left,
            "the sink does not finish, leaving it"
        );
    }

    /// Rows to speak of now; `None`: a line was written lately.
    fn rows_due(&self, rows: usize) -> Option<u64> {
        let mut since = self.rows.lock().ok()?;
        since.1 += rows as u64;
        if since.0.is_some_and(|at| at.elapsed() < ROWS_LINE) {
            return None;
        }
        since.0 = Some(Instant::now());
        Some(std::mem::take(&mut since.1))
    }
}

/// Counts events or rows that are lost.
pub(super) fn failed(id: &Arc<str>, reason: &'static str, rows: usize) {
    metrics::counter!(SINK_FAILED, "component_id" => id.clone(), "reason" => reason).increment(rows as u64);
}
