//! The digest of the plan in force, shared by all who name it: a reload sets it in one place.

use std::sync::{Arc, PoisonError, RwLock};

/// See the module. Clones are the same.
#[derive(Clone, Debug)]
pub struct PlanDigest(Arc<RwLock<Arc<str>>>);

impl PlanDigest {
    /// What it is now.
    pub fn get(&self) -> Arc<str> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on it is another.
    pub fn set(&self, digest: Arc<str>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = digest;
    }
}

impl From<&str> for PlanDigest {
    fn from(digest: &str) -> Self {
        Self(Arc::new(RwLock::new(digest.into())))
    }
}
