//! The role `detector`. Comes in: rows of features of one window; goes out: verdicts, checked. Refused and counted in
//! `kaminari_plugin_alerts_refused_total`: alerts on rows that do not exist, without a score, over the limit; refused as a
//! whole: scores that are not one per row.

use super::batch::Batch;
use super::bindings::exports::kaminari::plugin::detector as raw;
use super::error::{CallError, CallErrorKind};
use super::frame::FrameScores;
use super::instance::{PluginInstance, window};
use super::limits::*;
use super::roles::Guest;
use super::services::plain;
use crate::model::{Alert, Contribution, Severity, Verdict, WindowInfo};
use crate::telemetry;
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use std::sync::Arc;
use wasmtime::component::Resource;

fn detector(guest: &Guest) -> wasmtime::Result<&raw::Guest> {
    guest.detector.as_ref().ok_or_else(|| wasmtime::Error::msg("the plugin is no detector"))
}

impl PluginInstance {
    /// Does the input have what the plugin's configuration names?
    pub fn requires(&mut self, schema: &Schema) -> Result<(), CallError> {
        let schema = Batch::lent(RecordBatch::new_empty(Arc::new(schema.clone()))).schema();
        self.call("requires", SETUP_DEADLINE_MS, |guest, store| detector(guest)?.call_requires(store, &schema))
    }

    /// What models have said to the frame that the rows of the next [`detect`](Self::detect) are of, and which of its rows
    /// is their first.
    pub fn ahead(&mut self, scores: Arc<FrameScores>, first: usize) {
        self.store.data_mut().inference.frame = Some((scores, first));
    }

    /// Judges rows of one window.
    pub fn detect(&mut self, of: &WindowInfo, batch: RecordBatch) -> Result<Verdict, CallError> {
        let rows = batch.num_rows();
        let frame_row = self.store.data().inference.frame.as_ref().map(|(_, first)| *first);
        let (loan, mut back) = (self.store.data().account.loan(), None);
        let batch = Batch { frame_row, ..Batch::on_loan(batch, loan.clone()) };
        let verdict = self.work("detect", of.watermark_ns, |guest, store| {
            let ours = store.data_mut().table.push(batch)?;
            let lent = Resource::new_borrow(ours.rep());
            let verdict = detector(guest)?.call_detect(&mut *store, window(of), lent);
            back = Some(store.data_mut().table.delete(ours)?.batch);
            verdict
        });
        self.store.data_mut().inference.frame = None;
        let verdict = self.given_back("detect", (loan, back), verdict).and_then(|v| self.checked(v, rows));
        self.counted(verdict)
    }

    fn checked(&self, verdict: raw::Verdict, rows: usize) -> Result<Verdict, CallError> {
        let scores = verdict.scores.len();
        if scores != 0 && scores != rows {
            let message = format!("{scores} scores for {rows} rows");
            let kind = CallErrorKind::Refused { message };
            return Err(CallError { plugin: self.loaded.label().clone(), call: "detect", kind });
        }
        let refuse = |reason: &'static str, n: usize| {
            let state = self.store.data();
            let (plugin, pipeline) = (state.id.to_string(), state.pipeline.to_string());
            metrics::counter!(telemetry::PLUGIN_ALERTS_REFUSED, "plugin" => plugin, "pipeline" => pipeline, "reason" => reason)
                .increment(n as u64);
        };
        let most = self.loaded.limits().alerts_per_call;
        if verdict.alerts.len() > most {
            refuse("limit", verdict.alerts.len() - most);
        }
        let mut alerts = Vec::with_capacity(verdict.alerts.len().min(most));
        for alert in verdict.alerts.into_iter().take(most) {
            if alert.row as usize >= rows {
                refuse("row", 1);
            } else if !alert.score.is_finite() {
                refuse("score", 1);
            } else {
                alerts.push(told(alert));
            }
        }
        Ok(Verdict { scores: verdict.scores, alerts })
    }
}

/// The engine's own words for an alert, with over-long texts and lists cut.
fn told(alert: raw::Alert) -> Alert {
    Alert {
        row: alert.row,
        kind: plain(&alert.kind, KIND_BYTES).into_owned(),
        severity: match alert.severity {
            raw::Severity::Info => Severity::Info,
            raw::Severity::Low => Severity::Low,
            raw::Severity::Medium => Severity::Medium,
            raw::Severity::High => Severity::High,
            raw::Severity::Critical => Severity::Critical,
        },
        score: alert.score,
        threshold: alert.threshold,
        message: plain(&alert.message, MESSAGE_BYTES).into_owned(),
        contributions: alert
            .contributions
            .into_iter()
            .take(CONTRIBUTIONS)
            .map(|c| Contribution {
                column: plain(&c.column, COLUMN_BYTES).into_owned(),
                weight: c.weight,
                observed: c.observed,
                expected: c.expected,
            })
            .collect(),
        attributes: alert
            .attributes
            .into_iter()
            .take(ATTRIBUTES)
            .map(|(k, v)| (plain(&k, KIND_BYTES).into_owned(), plain(&v, MESSAGE_BYTES).into_owned()))
            .collect(),
    }
}
