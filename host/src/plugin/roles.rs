//! What a component can do: it has the roles whose interfaces it exports. Comes in: a component; goes out: where its exports
//! are, and of each instance the functions.

use super::bindings::exports::kaminari::plugin::{detector, feature_extractor, lifecycle, source_decoder};
use super::checkpoint;
use super::compat;
use super::instance::State;
use std::fmt;
use wasmtime::component::{Component, Instance, InstancePre};
use wasmtime::{Engine, Store};

/// What a plugin is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Frames to rows.
    SourceDecoder,
    /// Rows of a window to rows of features.
    FeatureExtractor,
    /// Rows of features to scores and alerts.
    Detector,
}

impl Role {
    /// Every role, in the order of the data.
    pub const ALL: [Role; 3] = [Role::SourceDecoder, Role::FeatureExtractor, Role::Detector];

    /// Name of the interface.
    pub const fn name(self) -> &'static str {
        match self {
            Role::SourceDecoder => "source-decoder",
            Role::FeatureExtractor => "feature-extractor",
            Role::Detector => "detector",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a component's exports are.
pub(super) struct Exports {
    lifecycle: lifecycle::GuestIndices,
    source: Option<source_decoder::GuestIndices>,
    extractor: Option<feature_extractor::GuestIndices>,
    detector: Option<detector::GuestIndices>,
    checkpoint: Option<checkpoint::Exports>,
}

/// The functions of one instance.
pub(super) struct Guest {
    pub(super) lifecycle: lifecycle::Guest,
    pub(super) source: Option<source_decoder::Guest>,
    pub(super) extractor: Option<feature_extractor::Guest>,
    pub(super) detector: Option<detector::Guest>,
    pub(super) checkpoint: Option<checkpoint::Functions>,
}

impl Exports {
    /// Refused: an interface of another shape, and a component without a role.
    pub(super) fn find(engine: &Engine, component: &Component, pre: &InstancePre<State>) -> wasmtime::Result<Self> {
        let ty = component.component_type();
        let has = |role: Role| compat::export(engine, &ty, role.name()).is_some();
        Ok(Self {
            lifecycle: lifecycle::GuestIndices::new(pre)?,
            source: has(Role::SourceDecoder).then(|| source_decoder::GuestIndices::new(pre)).transpose()?,
            extractor: has(Role::FeatureExtractor).then(|| feature_extractor::GuestIndices::new(pre)).transpose()?,
            detector: has(Role::Detector).then(|| detector::GuestIndices::new(pre)).transpose()?,
            checkpoint: checkpoint::Exports::find(engine, component),
        })
    }

    pub(super) fn roles(&self) -> Vec<Role> {
        let has = [self.source.is_some(), self.extractor.is_some(), self.detector.is_some()];
        Role::ALL.into_iter().zip(has).filter(|(_, has)| *has).map(|(role, _)| role).collect()
    }

    pub(super) fn saves(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// What it exports to save state is not asked for.
    pub(super) fn forget_checkpoint(&mut self) {
        self.checkpoint = None;
    }

    /// Refused: functions of another type.
    pub(super) fn bind(&self, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<Guest> {
        Ok(Guest {
            lifecycle: self.lifecycle.load(&mut *store, instance)?,
            source: self.source.as_ref().map(|i| i.load(&mut *store, instance)).transpose()?,
            extractor: self.extractor.as_ref().map(|i| i.load(&mut *store, instance)).transpose()?,
            detector: self.detector.as_ref().map(|i| i.load(&mut *store, instance)).transpose()?,
            checkpoint: self.checkpoint.as_ref().map(|c| c.bind(&mut *store, instance)).transpose()?,
        })
    }
}
