//! One sandbox: a store with its limits, its services and one instance of a component. Comes in: calls; goes out: answers, or
//! why not. What each role is asked and answers is in `decode_call`, `extract_call` and `detect_call`. A trap, a missed deadline or running out of memory ends the instance
//! ([`CallErrorKind::is_fatal`]): drop it. Moves `kaminari_plugin_calls_total`, `_call_duration_seconds`,
//! `_memory_bytes`, `_alerts_refused_total`.

use super::batch::{Account, Charge};
use super::bindings::kaminari::plugin::common;
use super::deadline::Overdue;
use super::error::{CallError, CallErrorKind};
use super::inference::{Followed, Inference, ModelInUse, RawScores};
use super::limits::*;
use super::loaded::LoadedPlugin;
use super::output::Tail;
use super::own_metrics::OwnMetrics;
use super::roles::Guest;
use super::services::{LogBudget, StreamTime};
use super::state::Buckets;
use crate::model::WindowInfo;
use crate::telemetry;
use arrow_array::RecordBatch;
use metrics::{Counter, Gauge, Histogram};
use std::sync::Arc;
use std::time::Instant;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, Trap};
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// What guests get as random bytes, again and again: a run is repeated exactly. (Digits of pi.)
const RANDOM: [u8; 16] = 0x243f_6a88_85a3_08d3_1319_8a2e_0370_7344_u128.to_be_bytes();

/// What an instance was granted.
pub(super) struct Services {
    pub(super) inference: Inference,
    pub(super) metrics: Arc<OwnMetrics>,
    pub(super) buckets: Buckets,
}

/// What the host keeps for one instance.
pub struct State {
    wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) account: Account,
    pub(super) limiter: Limiter,
    pub(super) overdue: Overdue,
    stdout: Tail,
    stderr: Tail,
    pub(super) logs: LogBudget,
    pub(super) time: StreamTime,
    pub(super) inference: Inference,
    pub(super) metrics: Arc<OwnMetrics>,
    pub(super) buckets: Buckets,
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
    pub(super) fn new(id: Arc<str>, plugin: Arc<str>, pipeline: &str, memory_cap: usize, services: Services) -> Self {
        let (stdout, stderr, time) = (Tail::default(), Tail::default(), StreamTime::default());
        // Nothing is granted: no folder, variable, argument, socket, stdin, clock or chance.
        let wasi = WasiCtx::builder()
            .stdout(stdout.clone())
            .stderr(stderr.clone())
            .wall_clock(time.clone())
            .monotonic_clock(time.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            // The same for every instance: hash tables of guests, too, are in the same order in every run.
            .secure_random(Deterministic::new(RANDOM.to_vec()))
            .insecure_random(Deterministic::new(RANDOM.to_vec()))
            .insecure_random_seed(u128::from_le_bytes(RANDOM))
            .max_random_size(MAX_RANDOM)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        Self {
            wasi,
            table,
            account: Account::default(),
            limiter: Limiter::new(memory_cap),
            overdue: Overdue::default(),
            stdout,
            stderr,
            logs: LogBudget::new(Instant::now()),
            time,
            inference: services.inference,
            metrics: services.metrics,
            buckets: services.buckets,
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
    pub(super) store: Store<State>,
    pub(super) guest: Guest,
    pub(super) loaded: Arc<LoadedPlugin>,
    meters: Meters,
}

impl PluginInstance {
    pub(super) fn new(loaded: Arc<LoadedPlugin>, store: Store<State>, guest: Guest) -> Self {
        let labels = labels(store.data());
        let meters = Meters {
            seconds: metrics::histogram!(telemetry::PLUGIN_CALL_SECONDS, &labels),
            ok: metrics::counter!(telemetry::PLUGIN_CALLS, &outcome(&labels, "ok")),
            memory: metrics::gauge!(telemetry::PLUGIN_MEMORY_BYTES, &labels),
        };
        Self { store, guest, loaded, meters }
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
        self.call("configure", SETUP_DEADLINE_MS, |guest, store| guest.lifecycle.call_configure(store, config))
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

    /// A call about data, at this stream time: measured, and under the operator's deadline.
    pub(super) fn work<T>(
        &mut self,
        call: &'static str,
        time_ns: u64,
        f: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<Result<T, common::Error>>,
    ) -> Result<T, CallError> {
        self.store.data_mut().time.set(time_ns);
        let ms = self.loaded.limits().deadline_ms;
        let began = Instant::now();
        let answer = self.call(call, ms, f);
        self.meters.seconds.record(began.elapsed().as_secs_f64());
        self.meters.memory.set(self.store.data().limiter.memory() as f64);
        answer
    }

    /// Counts how a call about data ended, its answer being looked at too.
    pub(super) fn counted<T>(&self, answer: Result<T, CallError>) -> Result<T, CallError> {
        match &answer {
            Ok(_) => self.meters.ok.increment(1),
            Err(e) => {
                let labels = outcome(&labels(self.store.data()), e.kind.name());
                metrics::counter!(telemetry::PLUGIN_CALLS, &labels).increment(1);
            }
        }
        answer
    }

    /// The end of a call that was lent a batch, which is back: what the plugin keeps of it is the plugin's memory. One that
    /// keeps too much is ended.
    pub(super) fn given_back<T>(
        &self,
        call: &'static str,
        (loan, batch): (Arc<Charge>, Option<RecordBatch>),
        answer: Result<T, CallError>,
    ) -> Result<T, CallError> {
        let kept = Arc::strong_count(&loan) > 1;
        // Asking every column what it takes is work: only where it matters.
        let bytes = if kept { batch.map_or(0, |b| b.get_array_memory_size()) } else { 0 };
        match (kept && answer.as_ref().map_or_else(|e| !e.kind.is_fatal(), |_| true)).then(|| loan.kept(bytes)) {
            Some(Err(message)) => {
                Err(CallError { plugin: self.loaded.label().clone(), call, kind: CallErrorKind::Trap { message } })
            }
            _ => answer,
        }
    }

    pub(super) fn refused(&self, call: &'static str, message: String) -> CallError {
        CallError { plugin: self.loaded.label().clone(), call, kind: CallErrorKind::Refused { message } }
    }

    pub(super) fn call<T>(
        &mut self,
        call: &'static str,
        ms: u64,
        f: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<Result<T, common::Error>>,
    ) -> Result<T, CallError> {
        arm(&mut self.store, ms);
        let state = self.store.data_mut();
        state.limiter.take_refused();
        state.inference.begin();
        state.buckets.begin(state.time.get());
        let cap = self.loaded.limits().memory_bytes;
        let answer = f(&self.guest, &mut self.store);
        self.store.data().buckets.end(matches!(answer, Ok(Ok(_))));
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
}

/// Starts the clock of one call.
pub(super) fn arm(store: &mut Store<State>, ms: u64) {
    store.data_mut().overdue = Overdue::default();
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

/// A window in the contract's words.
pub(super) fn window(window: &WindowInfo) -> common::Window {
    common::Window {
        start: window.start_ns,
        end: window.end_ns,
        revision: window.revision,
        watermark: window.watermark_ns,
        partial: window.partial,
    }
}
