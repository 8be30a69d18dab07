//! One sandbox: a store with its limits, its services and one instance of a component. Comes in: windows and batches;
//! goes out: verdicts, checked, or why not. A trap, a missed deadline or running out of memory ends the instance
//! ([`CallErrorKind::is_fatal`]): drop it. Moves `kaminari_plugin_calls_total`, `_call_duration_seconds`,
//! `_memory_bytes`, `_alerts_refused_total`.

use super::batch::{Account, Batch};
use super::bindings::exports::kaminari::plugin::detector as raw;
use super::bindings::{DetectorPlugin, kaminari::plugin::common};
use super::checkpoint::Functions;
use super::error::{CallError, CallErrorKind};
use super::frame::FrameScores;
use super::inference::{Followed, Inference, ModelInUse, RawScores};
use super::limits::*;
use super::loaded::LoadedPlugin;
use super::output::Tail;
use super::services::{LogBudget, StreamTime, cut};
use crate::model::{Alert, Contribution, Severity, Verdict, WindowInfo};
use crate::telemetry;
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use metrics::{Counter, Gauge, Histogram};
use std::sync::Arc;
use std::time::Instant;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime::{Store, Trap};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// What the host keeps for one instance.
pub struct State {
    wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) account: Account,
    pub(super) limiter: Limiter,
    stdout: Tail,
    stderr: Tail,
    pub(super) logs: LogBudget,
    pub(super) time: StreamTime,
    pub(super) inference: Inference,
    /// Id in the config, for metrics.
    pub(super) id: Arc<str>,
    /// `name@version`, for people.
    pub(super) plugin: Arc<str>,
    pub(super) pipeline: Arc<str>,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl State {
    pub(super) fn new(id: Arc<str>, plugin: Arc<str>, pipeline: &str, memory_cap: usize, inference: Inference) -> Self {
        let (stdout, stderr, time) = (Tail::default(), Tail::default(), StreamTime::default());
        // Nothing is granted: no folder, variable, argument, socket, stdin or clock.
        let wasi = WasiCtx::builder()
            .stdout(stdout.clone())
            .stderr(stderr.clone())
            .wall_clock(time.clone())
            .monotonic_clock(time.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Self {
            wasi,
            table,
            account: Account::default(),
            limiter: Limiter::new(memory_cap),
            stdout,
            stderr,
            logs: LogBudget::new(Instant::now()),
            time,
            inference,
            id,
            plugin,
            pipeline: pipeline.into(),
        }
    }
}

/// Why a call that did not come back ended.
pub(super) fn fault(store: &mut Store<State>, ms: u64, cap: usize, error: &wasmtime::Error) -> CallErrorKind {
    let state = store.data_mut();
    let refused = state.limiter.take_refused();
    let said = state.stderr.take();
    if let Some(Trap::Interrupt) = error.downcast_ref::<Trap>() {
        return CallErrorKind::Deadline { ms };
    }
    if let Some(bytes) = refused {
        return CallErrorKind::OutOfMemory { bytes, cap };
    }
    let cause = error.root_cause().to_string();
    // A panic prints where and why, and then ends in a trap that tells neither.
    CallErrorKind::Trap { message: if said.is_empty() { cause } else { format!("{said} ({cause})") } }
}

/// Handles of the metrics of one plugin in one pipeline.
struct Meters {
    seconds: Histogram,
    ok: Counter,
    memory: Gauge,
}

/// A configured plugin. Belongs to one thread at a time.
pub struct PluginInstance {
    store: Store<State>,
    exports: DetectorPlugin,
    pub(super) checkpoint: Option<Functions>,
    loaded: Arc<LoadedPlugin>,
    meters: Meters,
}

impl PluginInstance {
    pub(super) fn new(
        loaded: Arc<LoadedPlugin>,
        store: Store<State>,
        exports: DetectorPlugin,
        checkpoint: Option<Functions>,
    ) -> Self {
        let labels = labels(store.data());
        let meters = Meters {
            seconds: metrics::histogram!(telemetry::PLUGIN_CALL_SECONDS, &labels),
            ok: metrics::counter!(telemetry::PLUGIN_CALLS, &outcome(&labels, "ok")),
            memory: metrics::gauge!(telemetry::PLUGIN_MEMORY_BYTES, &labels),
        };
        Self { store, exports, checkpoint, loaded, meters }
    }

    /// The plugin that this is an instance of.
    pub fn plugin(&self) -> &Arc<LoadedPlugin> {
        &self.loaded
    }

    /// Linear memory in use, bytes.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().limiter.memory()
    }

    pub(super) fn configure(&mut self, config: &str) -> Result<(), CallError> {
        self.call("configure", SETUP_DEADLINE_MS, |exports, store| {
            exports.kaminari_plugin_lifecycle().call_configure(store, config)
        })
    }

    /// Does the input have what the plugin's configuration names?
    pub fn requires(&mut self, schema: &Schema) -> Result<(), CallError> {
        let batch = Batch::lent(RecordBatch::new_empty(Arc::new(schema.clone())));
        let schema = batch.schema();
        self.call("requires", SETUP_DEADLINE_MS, |exports, store| {
            exports.kaminari_plugin_detector().call_requires(store, &schema)
        })
    }

    /// From the next call on `tails` and `limit` of that model follow this, or its own calibration.
    pub fn follow(&mut self, model: &str, followed: Option<Followed>) {
        self.store.data_mut().inference.follow(model, followed);
    }

    /// The models that it has opened.
    pub fn models(&self) -> Vec<ModelInUse> {
        self.store.data().inference.models()
    }

    /// The scores behind the last `tails` of the last call; `None` when it did not ask for any.
    pub fn take_raw_scores(&mut self, model: &str) -> Option<RawScores> {
        self.store.data_mut().inference.take_raw_scores(model)
    }

    /// What models have said to the frame that the rows of the next [`detect`](Self::detect) are of, and which of its rows
    /// is their first.
    pub fn ahead(&mut self, scores: Arc<FrameScores>, first: usize) {
        self.store.data_mut().inference.frame = Some((scores, first));
    }

    /// Judges rows of one window.
    pub fn detect(&mut self, window: &WindowInfo, batch: RecordBatch) -> Result<Verdict, CallError> {
        let rows = batch.num_rows();
        let frame_row = self.store.data().inference.frame.as_ref().map(|(_, first)| *first);
        let batch = Batch { frame_row, ..Batch::lent(batch) };
        let window = common::Window {
            start: window.start_ns,
            end: window.end_ns,
            revision: window.revision,
            watermark: window.watermark_ns,
            partial: window.partial,
        };
        self.store.data_mut().time.set(window.watermark);
        let ms = self.loaded.limits().deadline_ms;
        let began = Instant::now();
        let verdict = self.call("detect", ms, |exports, store| {
            let ours = store.data_mut().table.push(batch)?;
            let lent = Resource::new_borrow(ours.rep());
            let verdict = exports.kaminari_plugin_detector().call_detect(&mut *store, window, lent);
            store.data_mut().table.delete(ours)?;
            verdict
        });
        self.store.data_mut().inference.frame = None;
        self.meters.seconds.record(began.elapsed().as_secs_f64());
        self.meters.memory.set(self.store.data().limiter.memory() as f64);
        let verdict = verdict.and_then(|v| self.checked(v, rows));
        match &verdict {
            Ok(_) => self.meters.ok.increment(1),
            Err(e) => {
                let labels = outcome(&labels(self.store.data()), e.kind.name());
                metrics::counter!(telemetry::PLUGIN_CALLS, &labels).increment(1);
            }
        }
        verdict
    }

    pub(super) fn call<T>(
        &mut self,
        call: &'static str,
        ms: u64,
        f: impl FnOnce(&DetectorPlugin, &mut Store<State>) -> wasmtime::Result<Result<T, common::Error>>,
    ) -> Result<T, CallError> {
        arm(&mut self.store, ms);
        self.store.data_mut().limiter.take_refused();
        self.store.data_mut().inference.begin();
        let cap = self.loaded.limits().memory_bytes;
        let answer = f(&self.exports, &mut self.store);
        self.tell_output();
        let kind = match answer {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(said)) => CallErrorKind::Plugin(said.into()),
            Err(error) => fault(&mut self.store, ms, cap, &error),
        };
        Err(CallError { plugin: self.loaded.label().clone(), call, kind })
    }

    /// What a plugin prints is for its author. (What it prints before a trap becomes part of the error: `fault`.)
    fn tell_output(&mut self) {
        let state = self.store.data_mut();
        let printed = state.stdout.take();
        if !printed.is_empty() && state.logs.take(Instant::now()) {
            tracing::debug!(plugin = &*state.plugin, pipeline = &*state.pipeline, "printed: {printed}");
        }
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

/// Starts the clock of one call.
pub(super) fn arm(store: &mut Store<State>, ms: u64) {
    // One more: the current period has begun already.
    store.set_epoch_deadline(ms.div_ceil(TICK.as_millis() as u64) + 1);
}

fn labels(state: &State) -> [(&'static str, String); 2] {
    [("plugin", state.id.to_string()), ("pipeline", state.pipeline.to_string())]
}

fn outcome(labels: &[(&'static str, String); 2], outcome: &str) -> [(&'static str, String); 3] {
    let [plugin, pipeline] = labels.clone();
    [plugin, pipeline, ("outcome", outcome.to_owned())]
}

/// The engine's own words for an alert, with over-long texts and lists cut.
fn told(alert: raw::Alert) -> Alert {
    Alert {
        row: alert.row,
        kind: cut(&alert.kind, KIND_BYTES).to_owned(),
        severity: match alert.severity {
            raw::Severity::Info => Severity::Info,
            raw::Severity::Low => Severity::Low,
            raw::Severity::Medium => Severity::Medium,
            raw::Severity::High => Severity::High,
            raw::Severity::Critical => Severity::Critical,
        },
        score: alert.score,
        threshold: alert.threshold,
        message: cut(&alert.message, MESSAGE_BYTES).to_owned(),
        contributions: alert
            .contributions
            .into_iter()
            .take(CONTRIBUTIONS)
            .map(|c| Contribution { column: c.column, weight: c.weight, observed: c.observed, expected: c.expected })
            .collect(),
        attributes: alert
            .attributes
            .into_iter()
            .take(ATTRIBUTES)
            .map(|(k, v)| (cut(&k, KIND_BYTES).to_owned(), cut(&v, MESSAGE_BYTES).to_owned()))
            .collect(),
    }
}
