//! The models that plugins may be granted, by the operator's names. Comes in: models that were read and checked, at the
//! start or to replace one; goes out: for each instance the current one. A swap is one step: a call that has begun ends
//! with the model it began with, the next sees the new one.

use crate::inference::{Backend, Model};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Models by name, shared by all plugins of a host. Starts empty.
#[derive(Default)]
pub struct Models(RwLock<BTreeMap<Arc<str>, Slot>>);

/// The current model of one name.
#[derive(Clone)]
pub(super) struct Slot {
    pub model: Arc<Model>,
    /// Scores with it.
    pub backend: Arc<dyn Backend>,
    /// Rises with every swap, from 1.
    pub revision: u64,
}

impl Models {
    /// Adds a model, or takes it in place of the one that has the name. Returns its revision.
    pub fn insert(&self, name: &str, model: Arc<Model>, backend: Arc<dyn Backend>) -> u64 {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let revision = slots.get(name).map_or(1, |slot| slot.revision + 1);
        slots.insert(name.into(), Slot { model, backend, revision });
        revision
    }

    /// The current model of that name and its revision.
    pub fn get(&self, name: &str) -> Option<(Arc<Model>, u64)> {
        self.slot(name).map(|slot| (slot.model, slot.revision))
    }

    /// Those of these names, at the same revisions. Later swaps here are not seen there.
    pub fn only(&self, names: &[Arc<str>]) -> Self {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Self(RwLock::new(
            slots.iter().filter(|(name, _)| names.contains(name)).map(|(n, s)| (n.clone(), s.clone())).collect(),
        ))
    }

    /// Takes a model over from another plan, with its backend. False: it is not there.
    pub fn adopt(&self, name: &str, from: &Models) -> bool {
        let Some(slot) = from.slot(name) else { return false };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name.into(), slot);
        true
    }

    /// True when both have the same model of that name, or neither has one.
    pub fn same(&self, other: &Models, name: &str) -> bool {
        match (self.slot(name), other.slot(name)) {
            (Some(a), Some(b)) => Arc::ptr_eq(&a.model, &b.model),
            (a, b) => a.is_none() && b.is_none(),
        }
    }

    pub(super) fn slot(&self, name: &str) -> Option<Slot> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
