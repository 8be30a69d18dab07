//! A plugin that was read, checked, compiled and asked who it is: instances come from here.

use super::deadline;
use super::error::{CallError, PluginError};
use super::guarded::Use;
use super::host::{PluginHost, Ticker};
use super::inference::Inference;
use super::instance::{PluginInstance, Services, State, arm, fault};
use super::limits::{BYTES_OUT, CONFIG_SCHEMA_BYTES, HANDLES, MESSAGE_BYTES, NAME_BYTES, SETUP_DEADLINE_MS};
use super::models::Models;
use super::own_metrics::OwnMetrics;
use super::roles::{Exports, Guest, Role};
use super::services::plain;
use super::state::Buckets;
use super::status::{Status, Statuses};
use crate::config::{PluginLimits, PluginPlan};
use std::path::PathBuf;
use std::sync::Arc;
use wasmtime::Store;
use wasmtime::component::InstancePre;

/// Who a plugin is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginInfo {
    /// Its own name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One line.
    pub description: String,
    /// JSON Schema of its config table.
    pub config_schema: String,
    /// Version of the contract it was built against.
    pub api_version: String,
    /// Version of the state that it saves; 0: none.
    pub state_version: u32,
    /// What it can be used as.
    pub roles: Vec<Role>,
    /// Lower-case hex sha256 of the file.
    pub digest: String,
    /// The file.
    pub path: PathBuf,
}

/// A component with everything that it asks for, and where its exports are.
pub(super) struct Linked {
    pub(super) pre: InstancePre<State>,
    pub(super) exports: Exports,
}

/// A store, and the functions of the instance in it.
type Sandbox = (Store<State>, Guest);

/// A plugin ready to be instantiated.
pub struct LoadedPlugin {
    id: Arc<str>,
    info: PluginInfo,
    /// `name@version`.
    label: Arc<str>,
    limits: PluginLimits,
    pre: InstancePre<State>,
    exports: Exports,
    models: Arc<Models>,
    /// Names of the models that it may use.
    granted: Vec<Arc<str>>,
    /// Names of the buckets that it may use.
    buckets: Vec<Arc<str>>,
    metrics: Arc<OwnMetrics>,
    statuses: Arc<Statuses>,
    /// Keeps the clock of the deadlines going.
    _ticker: Arc<Ticker>,
}

impl LoadedPlugin {
    /// Asks the component who it is, on an instance that is thrown away.
    pub(super) fn describe(
        plan: &PluginPlan,
        linked: Linked,
        api_version: String,
        digest: String,
        (host, models): (&PluginHost, Arc<Models>),
    ) -> Result<Self, PluginError> {
        // Not known yet: called by the config's name for it until it has told its own.
        let label: Arc<str> = plan.id.clone();
        let mut loaded = Self {
            id: plan.id.clone(),
            info: PluginInfo {
                name: String::new(),
                version: String::new(),
                description: String::new(),
                config_schema: String::new(),
                api_version,
                state_version: 0,
                roles: linked.exports.roles(),
                digest,
                path: plan.path.clone(),
            },
            label,
            limits: plan.limits,
            pre: linked.pre,
            exports: linked.exports,
            models,
            granted: Vec::new(),
            buckets: Vec::new(),
            metrics: Arc::new(OwnMetrics::new(0)),
            statuses: host.statuses().clone(),
            _ticker: host.ticker.clone(),
        };
        let (mut store, guest) = loaded.sandbox("describe", "", &Buckets::new(&[], 0))?;
        let said = guest.lifecycle.call_describe(&mut store);
        let said = said.map_err(|e| loaded.failed("describe", &mut store, &e))?;
        let bad = |cause: String| PluginError::Contract { id: plan.id.clone(), path: plan.path.clone(), cause };
        for (what, text) in [("name", &said.name), ("version", &said.version)] {
            if text.is_empty() || text.len() > NAME_BYTES || text.contains(char::is_control) {
                let shown = plain(text, NAME_BYTES);
                return Err(bad(format!("says that its {what} is {shown:?}; it must have 1 to {NAME_BYTES} bytes")));
            }
        }
        if said.config_schema.len() > CONFIG_SCHEMA_BYTES {
            return Err(bad(format!("has a config schema of more than {CONFIG_SCHEMA_BYTES} bytes")));
        }
        loaded.label = format!("{}@{}", said.name, said.version).into();
        loaded.info.name = said.name;
        loaded.info.version = said.version;
        loaded.info.description = plain(&said.description, MESSAGE_BYTES).into_owned();
        loaded.info.config_schema = said.config_schema;
        loaded.info.state_version = said.state_version;
        if said.state_version == 0 {
            loaded.exports.forget_checkpoint();
        } else if !loaded.exports.saves() {
            return Err(bad(format!(
                "says that it saves state (version {}), and does not export kaminari:plugin/checkpoint",
                said.state_version
            )));
        }
        loaded.granted.clone_from(&plan.inference);
        loaded.buckets.clone_from(&plan.state);
        loaded.metrics = Arc::new(OwnMetrics::new(plan.metrics_series));
        Ok(loaded)
    }

    /// Name, version, config schema and so on.
    pub fn info(&self) -> &PluginInfo {
        &self.info
    }

    /// Id in the config.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// `name@version`, as incidents and logs have it.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// What each instance may use.
    pub fn limits(&self) -> &PluginLimits {
        &self.limits
    }

    /// The models that it was granted.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// Names of the models that the operator granted it.
    pub fn granted(&self) -> &[Arc<str>] {
        &self.granted
    }

    /// Full names of the interfaces that the component imports, as `kaminari:plugin/data@0.1.0`.
    pub fn imports(&self) -> Vec<String> {
        let ty = self.pre.component().component_type();
        ty.imports(self.pre.engine()).map(|(name, _)| name.to_owned()).collect()
    }

    /// Refused: a plugin that has not this role.
    pub fn require(&self, role: Role) -> Result<(), PluginError> {
        if self.info.roles.contains(&role) {
            return Ok(());
        }
        let has: Vec<&str> = self.info.roles.iter().map(|r| r.name()).collect();
        Err(PluginError::Role { id: self.id.clone(), plugin: self.label.clone(), wanted: role, has: has.join(" and ") })
    }

    /// It is used there from now on.
    pub(super) fn note(&self, of: &Use) -> Arc<Status> {
        self.statuses.add(&self.id, &self.info, of.role, &of.pipeline, &of.user)
    }

    /// Empty buckets, as far as some are granted.
    pub fn buckets(&self) -> Buckets {
        Buckets::new(&self.buckets, self.limits.state_bytes)
    }

    /// A fresh, configured instance for a pipeline, with buckets of its own. `config_json` is the plugin's own table.
    pub fn instantiate(self: &Arc<Self>, pipeline: &str, config_json: &str) -> Result<PluginInstance, PluginError> {
        self.instantiate_with(pipeline, config_json, &self.buckets())
    }

    /// The same with these buckets, which outlive the instance.
    pub fn instantiate_with(
        self: &Arc<Self>,
        pipeline: &str,
        config_json: &str,
        buckets: &Buckets,
    ) -> Result<PluginInstance, PluginError> {
        let (store, guest) = self.sandbox("instantiate", pipeline, buckets)?;
        let mut instance = PluginInstance::new(self.clone(), store, guest);
        instance.configure(config_json)?;
        Ok(instance)
    }

    fn sandbox(&self, call: &'static str, pipeline: &str, buckets: &Buckets) -> Result<Sandbox, CallError> {
        let services = Services {
            inference: Inference::new(self.models.clone(), &self.granted),
            metrics: self.metrics.clone(),
            buckets: buckets.clone(),
        };
        let state = State::new(self.id.clone(), self.label.clone(), pipeline, self.limits.memory_bytes, services);
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(BYTES_OUT);
        store.set_max_component_handles(HANDLES);
        deadline::watch(&mut store);
        arm(&mut store, SETUP_DEADLINE_MS);
        let made = self.pre.instantiate(&mut store).and_then(|instance| self.exports.bind(&mut store, &instance));
        match made {
            Ok(guest) => {
                arm(&mut store, SETUP_DEADLINE_MS);
                Ok((store, guest))
            }
            Err(e) => Err(self.failed(call, &mut store, &e)),
        }
    }

    fn failed(&self, call: &'static str, store: &mut Store<State>, error: &wasmtime::Error) -> CallError {
        let kind = fault(store, SETUP_DEADLINE_MS, self.limits.memory_bytes, error);
        CallError { plugin: self.label.clone(), call, kind }
    }
}
