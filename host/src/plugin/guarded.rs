//! A plugin in one place of a pipeline, kept alive. Comes in: calls; goes out: answers, or why there is none. A trap, a missed
//! deadline or running out of memory ends the instance, not the engine: the call is tried once more on a fresh one (with what
//! was last saved), and then given up. While the plugin waits or is quarantined nothing is asked. Moves
//! `kaminari_plugin_restarts_total`, `_state`, `_quarantined` and `_dead_lettered_rows_total`.

use super::error::{CallError, CallErrorKind, PluginError, PluginReply};
use super::instance::PluginInstance;
use super::loaded::LoadedPlugin;
use super::memory::Memory;
use super::roles::Role;
use super::state::Buckets;
use super::status::{Health, Status};
use super::supervisor::{Permit, Supervisor};
use crate::telemetry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// A plugin that breaks when it is asked for a snapshot is asked so often, and then no more.
const SNAPSHOT_FAULTS: u32 = 3;

/// Where a plugin is used, and as what.
#[derive(Clone, Debug)]
pub struct Use {
    /// Its role there.
    pub role: Role,
    /// Pipeline, or the source that it decodes.
    pub pipeline: Arc<str>,
    /// Id of the detector, or what it is called as there.
    pub user: Arc<str>,
    /// The plugin's own table, as JSON.
    pub config: String,
}

/// Why a call was given up: the label `reason` and, where it was made at all, the cause.
#[derive(Debug)]
pub struct Unanswered {
    /// For metrics.
    pub reason: &'static str,
    /// What the last instance said or did.
    pub cause: Option<PluginError>,
}

/// See the module. Belongs to one thread.
pub struct Guarded {
    pub(super) plugin: Arc<LoadedPlugin>,
    pub(super) of: Use,
    pub(super) instance: Option<PluginInstance>,
    supervisor: Supervisor,
    /// What it knew when it was last asked.
    pub(super) memory: Option<Memory>,
    pub(super) buckets: Buckets,
    snapshot_faults: u32,
    pub(super) status: Arc<Status>,
}

impl Guarded {
    /// Starts an instance and configures it.
    pub fn new(plugin: Arc<LoadedPlugin>, of: Use) -> Result<Self, PluginError> {
        plugin.require(of.role)?;
        let buckets = plugin.buckets();
        let instance = plugin.instantiate_with(&of.pipeline, &of.config, &buckets)?;
        let status = plugin.note(&of);
        let guarded = Self {
            plugin,
            of,
            instance: Some(instance),
            supervisor: Supervisor::default(),
            memory: None,
            buckets,
            snapshot_faults: 0,
            status,
        };
        guarded.gauge_quarantine(false);
        Ok(guarded)
    }

    /// The plugin.
    pub fn plugin(&self) -> &Arc<LoadedPlugin> {
        &self.plugin
    }

    /// The instance that is called next; `None`: a fresh one will be made.
    pub fn instance(&mut self) -> Option<&mut PluginInstance> {
        self.instance.as_mut()
    }

    /// A question at plan time: nothing is tried again.
    pub fn ask<T>(&mut self, f: impl FnOnce(&mut PluginInstance) -> Result<T, CallError>) -> Result<T, PluginError> {
        match &mut self.instance {
            Some(instance) => Ok(f(instance)?),
            None => {
                let mut fresh = self.plugin.instantiate_with(&self.of.pipeline, &self.of.config, &self.buckets)?;
                let answer = f(&mut fresh);
                self.instance = Some(fresh);
                Ok(answer?)
            }
        }
    }

    /// One call, tried again on a fresh instance where that may help. `about` says what it is about, for the log.
    pub fn call<T>(
        &mut self,
        about: &dyn Fn() -> String,
        f: &mut dyn FnMut(&mut PluginInstance) -> Result<T, CallError>,
    ) -> Result<T, Unanswered> {
        match self.supervisor.permit(Instant::now()) {
            Permit::Run => {}
            Permit::Backoff => return Err(Unanswered { reason: "backoff", cause: None }),
            Permit::Quarantine => return Err(Unanswered { reason: "quarantine", cause: None }),
        }
        let first = match self.once(f) {
            Ok(answer) => {
                self.recovered();
                return Ok(answer);
            }
            Err(error) if worth_a_retry(&error) => error,
            Err(error) => return Err(unanswered(error)),
        };
        let fatal = is_fatal(&first);
        if fatal {
            self.fault(&first);
        }
        let (plugin, user, pipeline) = (&**self.plugin.label(), &*self.of.user, &*self.of.pipeline);
        tracing::warn!(
            plugin, user, pipeline, about = about(), error = %first,
            "plugin failed; trying the call once more{}", if !fatal { "" } else if self.memory.is_some() {
                " on a fresh instance, with what was last saved"
            } else {
                " on a fresh instance, without its state"
            }
        );
        let second = self.once(f);
        match &second {
            Ok(_) => self.recovered(),
            Err(error) if is_fatal(error) => self.wait(),
            Err(_) => {}
        }
        second.map_err(unanswered)
    }

    fn recovered(&mut self) {
        // The call that quarantines may be answered by the next instance.
        if self.supervisor.success() && !self.supervisor.is_quarantined() {
            self.status.set(Health::Running);
        }
    }

    fn fault(&mut self, error: &PluginError) {
        self.status.failed(error.to_string(), true);
        if self.supervisor.fault(Instant::now()) {
            self.gauge_quarantine(true);
            self.status.set(Health::Quarantined);
            tracing::error!(
                plugin = &**self.plugin.label(),
                user = &*self.of.user,
                pipeline = &*self.of.pipeline,
                "plugin is quarantined after repeated faults; the pipeline goes on without it until its file or \
                 its configuration changes"
            );
        }
    }

    fn wait(&mut self) {
        let until = self.supervisor.wait(Instant::now());
        if !self.supervisor.is_quarantined() {
            self.status.set(Health::Backoff(until));
        }
    }

    /// One call, on a fresh instance where there is none. A fatal error ends the instance.
    fn once<T>(&mut self, f: &mut dyn FnMut(&mut PluginInstance) -> Result<T, CallError>) -> Result<T, PluginError> {
        if self.instance.is_none() {
            let (plugin, pipeline) = (self.plugin.id().to_string(), self.of.pipeline.to_string());
            metrics::counter!(telemetry::PLUGIN_RESTARTS, "plugin" => plugin, "pipeline" => pipeline).increment(1);
            self.status.restarts.fetch_add(1, Ordering::Relaxed);
            let fresh = self.fresh().inspect_err(|_| self.wait())?;
            self.instance = Some(fresh);
        }
        let Some(instance) = &mut self.instance else {
            return Err(PluginError::Engine(wasmtime::Error::msg("no instance")));
        };
        let answer = f(instance);
        if answer.as_ref().is_err_and(|e| e.kind.is_fatal()) {
            self.instance = None;
        }
        Ok(answer?)
    }

    /// A new instance with what was last saved.
    fn fresh(&mut self) -> Result<PluginInstance, PluginError> {
        let mut fresh = self.plugin.instantiate_with(&self.of.pipeline, &self.of.config, &self.buckets)?;
        if let Some(memory) = &self.memory
            && let Err(error) = fresh.restore(memory.version, &memory.bytes)
        {
            let (plugin, user, pipeline) = (&**self.plugin.label(), &*self.of.user, &*self.of.pipeline);
            tracing::warn!(plugin, user, pipeline, "a fresh instance begins anew: {error}");
            self.status.failed(error.to_string(), error.kind.is_fatal());
            if error.kind.is_fatal() {
                // What it cannot even look at would end the next one, too.
                self.memory = None;
                return self.plugin.instantiate_with(&self.of.pipeline, &self.of.config, &self.buckets);
            }
        }
        Ok(fresh)
    }

    /// Rows (or frames) that nobody looked at are counted, and told unless the plugin only waits: its fault was told.
    pub fn dead_letter(&self, about: &dyn Fn() -> String, rows: usize, unanswered: &Unanswered) {
        metrics::counter!(
            telemetry::PLUGIN_DEAD_LETTERED_ROWS,
            "plugin" => self.plugin.id().to_string(),
            "pipeline" => self.of.pipeline.to_string(),
            "reason" => unanswered.reason,
        )
        .increment(rows as u64);
        self.status.dead_lettered.fetch_add(rows as u64, Ordering::Relaxed);
        if let Some(error) = &unanswered.cause {
            self.status.errors.fetch_add(1, Ordering::Relaxed);
            self.status.failed(error.to_string(), false);
            tracing::error!(
                plugin = &**self.plugin.label(), user = &*self.of.user, pipeline = &*self.of.pipeline,
                about = about(), rows, %error,
                "{}", match self.of.role {
                    Role::SourceDecoder => "frames were not decoded",
                    Role::FeatureExtractor => "rows have no features",
                    Role::Detector => "rows were not judged",
                }
            );
        }
    }

    /// What it knows, for a checkpoint; `None`: nothing that is kept.
    pub fn save(&mut self) -> Option<Vec<u8>> {
        let buckets = self.buckets.save();
        if !self.buckets.is_none() {
            let (plugin, pipeline) = (self.plugin.id().to_string(), self.of.pipeline.to_string());
            let gauge = metrics::gauge!(telemetry::PLUGIN_STATE_BYTES, "plugin" => plugin, "pipeline" => pipeline);
            gauge.set(self.buckets.bytes() as f64);
        }
        if self.snapshot_faults < SNAPSHOT_FAULTS
            && let Some(instance) = &mut self.instance
        {
            match instance.snapshot() {
                Ok(None) => self.memory = None,
                Ok(Some(bytes)) => {
                    let info = self.plugin.info();
                    let (plugin, version) = (info.name.clone(), info.state_version);
                    self.memory = Some(Memory { plugin, version, bytes, buckets: Vec::new() });
                }
                Err(error) => self.not_saved(error),
            }
        }
        match &self.memory {
            Some(memory) => Some(Memory { buckets, ..memory.clone() }.write()),
            None if buckets.is_empty() => None,
            None => {
                let plugin = self.plugin.info().name.clone();
                Some(Memory { plugin, version: 0, bytes: Vec::new(), buckets }.write())
            }
        }
    }

    fn not_saved(&mut self, error: CallError) {
        let (plugin, user, pipeline) = (&**self.plugin.label(), &*self.of.user, &*self.of.pipeline);
        tracing::warn!(plugin, user, pipeline, "what it knows is not saved: {error}");
        self.status.failed(error.to_string(), error.kind.is_fatal());
        if !error.kind.is_fatal() {
            return;
        }
        self.instance = None;
        self.snapshot_faults += 1;
        if self.snapshot_faults == SNAPSHOT_FAULTS {
            tracing::error!(
                plugin,
                user,
                pipeline,
                "it broke {SNAPSHOT_FAULTS} times when it was asked for its state, and is not asked again until its file or its \
                 configuration changes: a restart will find what was saved before"
            );
        }
    }

    fn gauge_quarantine(&self, on: bool) {
        let (plugin, pipeline) = (self.plugin.id().to_string(), self.of.pipeline.to_string());
        let value = if on { 1.0 } else { 0.0 };
        metrics::gauge!(telemetry::PLUGIN_QUARANTINED, "plugin" => plugin, "pipeline" => pipeline).set(value);
    }
}

fn is_fatal(error: &PluginError) -> bool {
    matches!(error, PluginError::Call(e) if e.kind.is_fatal())
}

fn worth_a_retry(error: &PluginError) -> bool {
    matches!(error, PluginError::Call(e)
        if e.kind.is_fatal() || matches!(e.kind, CallErrorKind::Plugin(PluginReply::Retry(_))))
}

fn unanswered(error: PluginError) -> Unanswered {
    let reason = match &error {
        PluginError::Call(e) => e.kind.name(),
        _ => "error",
    };
    Unanswered { reason, cause: Some(error) }
}
