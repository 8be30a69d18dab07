//! Plugins that save what they know. Comes in: a component that exports `kaminari:plugin/checkpoint`, and maybe `migration`; goes
//! out: bytes that an instance has saved, the same in the form of a later version, and instances that go on with them. What the
//! bytes mean is the plugin's.

use super::bindings::kaminari::plugin::common;
use super::compat;
use super::error::{CallError, CallErrorKind, PluginReply};
use super::instance::{PluginInstance, State};
use super::limits::{SETUP_DEADLINE_MS, SNAPSHOT_DEADLINE_MS};
use wasmtime::component::{Component, ComponentExportIndex, Instance, TypedFunc};
use wasmtime::{Engine, Store};

/// Where a component exports it.
pub(super) struct Exports {
    snapshot: ComponentExportIndex,
    restore: ComponentExportIndex,
    migrate: Option<ComponentExportIndex>,
}

/// The functions of one instance.
pub(super) struct Functions {
    snapshot: TypedFunc<(), Answer<Vec<u8>>>,
    restore: Told<()>,
    migrate: Option<Told<Vec<u8>>>,
}

/// A function that is told a version and bytes.
type Told<T> = TypedFunc<(u32, Vec<u8>), Answer<T>>;

/// What a function of ours returns, as the component model has it.
type Answer<T> = (Result<T, common::Error>,);

impl Exports {
    pub(super) fn find(engine: &Engine, component: &Component) -> Option<Self> {
        let ty = component.component_type();
        let interface = |name: &str| Some(component.get_export(None, &compat::export(engine, &ty, name)?)?.1);
        let function = |interface: &_, name: &str| component.get_export_index(Some(interface), name);
        let checkpoint = interface("checkpoint")?;
        Some(Self {
            snapshot: function(&checkpoint, "snapshot")?,
            restore: function(&checkpoint, "restore")?,
            migrate: interface("migration").and_then(|migration| function(&migration, "migrate")),
        })
    }

    /// Refused: functions of another type.
    pub(super) fn bind(&self, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<Functions> {
        Ok(Functions {
            snapshot: instance.get_typed_func(&mut *store, self.snapshot)?,
            restore: instance.get_typed_func(&mut *store, self.restore)?,
            migrate: self.migrate.as_ref().map(|index| instance.get_typed_func(&mut *store, index)).transpose()?,
        })
    }
}

impl PluginInstance {
    /// What it knows; `None`: it saves nothing.
    pub fn snapshot(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        let Some(snapshot) = self.guest.checkpoint.as_ref().map(|c| c.snapshot) else { return Ok(None) };
        self.call("snapshot", SNAPSHOT_DEADLINE_MS, |_, store| Ok(snapshot.call(&mut *store, ())?.0)).map(Some)
    }

    /// Goes on with what an instance of plugin version `version` of its state has saved.
    pub fn restore(&mut self, version: u32, bytes: &[u8]) -> Result<(), CallError> {
        let Some(restore) = self.guest.checkpoint.as_ref().map(|c| c.restore) else { return Ok(()) };
        self.call("restore", SETUP_DEADLINE_MS, |_, store| Ok(restore.call(&mut *store, (version, bytes.to_vec()))?.0))
    }

    /// What version `from` of its state has saved, in the form of its own; `None`: it has no migration from there.
    pub fn migrate(&mut self, from: u32, bytes: &[u8]) -> Result<Option<Vec<u8>>, CallError> {
        let Some(migrate) = self.guest.checkpoint.as_ref().and_then(|c| c.migrate) else { return Ok(None) };
        let answer = self
            .call("migrate", SETUP_DEADLINE_MS, |_, store| Ok(migrate.call(&mut *store, (from, bytes.to_vec()))?.0));
        match answer {
            Err(CallError { kind: CallErrorKind::Plugin(PluginReply::NotFound(_)), .. }) => Ok(None),
            answer => answer.map(Some),
        }
    }
}
