//! From a plugin to its successor. Comes in: what one has saved ([`Guarded::save`]); goes out: a plugin that goes on with it, in
//! its own form or after a migration. Refused, with the reason: what another plugin saved, versions of the state that it cannot
//! read, what is damaged, instances that break over it. Moves `kaminari_plugin_state_handovers_total`.

use super::error::{CallError, PluginError};
use super::guarded::Guarded;
use super::memory::Memory;
use crate::model::Handover;
use crate::telemetry;

/// How a plugin has taken what was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// As it is: of its own version, or of one that it reads by itself.
    AsItIs,
    /// Its `migrate` has made it of this version.
    Migrated {
        /// Version of the state that was saved.
        from: u32,
        /// Its own.
        to: u32,
    },
}

/// Why a plugin begins anew.
#[derive(Debug, thiserror::Error)]
pub enum NotRestored {
    /// It is called otherwise.
    #[error("it is that of the plugin {of:?}")]
    Another {
        /// Name of the plugin that saved it.
        of: String,
    },
    /// No `migrate` from there, and `restore` has refused it; or `migrate` has.
    #[error("it has version {from} of the state, and {plugin} wants {to}: {cause}")]
    Version {
        /// `name@version` of the plugin that was offered it.
        plugin: String,
        /// That of what was saved.
        from: u32,
        /// The plugin's own.
        to: u32,
        /// What it said.
        cause: CallError,
    },
    /// Taken by a version that saves nothing it would be forgotten.
    #[error("it has version {from} of the state, and {plugin} saves none (state-version 0): it would be forgotten")]
    SavesNone {
        /// `name@version` of the plugin that was offered it.
        plugin: String,
        /// That of what was saved.
        from: u32,
    },
    /// It is of the plugin's own version, which does not want it: it was configured otherwise then, or it is damaged.
    #[error(transparent)]
    Refused(CallError),
    /// The host cannot make anything of it.
    #[error("{0}")]
    Damaged(String),
    /// A trap, a missed deadline or no memory left, in `configure`, `migrate` or `restore`.
    #[error(transparent)]
    Broken(PluginError),
}

impl From<Restored> for Handover {
    fn from(restored: Restored) -> Self {
        match restored {
            Restored::AsItIs => Handover::Restored,
            Restored::Migrated { .. } => Handover::Migrated,
        }
    }
}

impl Guarded {
    /// Goes on with what one of its plugin has saved, and with its buckets. `Err`: why it begins anew, without its buckets too.
    pub fn restore(&mut self, saved: &[u8]) -> Result<Restored, NotRestored> {
        let memory = Memory::read(saved, &self.plugin.info().name)?;
        let answer = self.take(memory);
        if let Err(error) = &answer {
            // The next call makes a fresh one.
            self.instance = None;
            self.status.failed(error.to_string(), matches!(error, NotRestored::Broken(_)));
        }
        answer
    }

    fn take(&mut self, memory: Memory) -> Result<Restored, NotRestored> {
        let Memory { plugin, version, bytes, buckets } = memory;
        let (bytes, restored) = match (version, bytes.is_empty(), self.plugin.info().state_version) {
            // Nothing but buckets, or nothing that one who saves none would forget.
            (0, true, _) | (_, true, 0) => (None, Restored::AsItIs),
            (from, false, 0) => return Err(NotRestored::SavesNone { plugin: self.plugin.label().to_string(), from }),
            (from, _, to) => {
                let (bytes, restored) = self.offer(from, to, bytes)?;
                (Some(bytes), restored)
            }
        };
        // Only then: who begins anew does so without his buckets, too.
        if !buckets.is_empty() {
            self.buckets.restore(&buckets).map_err(|e| NotRestored::Damaged(format!("its buckets: {e}")))?;
        }
        if let Some(bytes) = bytes {
            let version = match restored {
                Restored::AsItIs => version,
                Restored::Migrated { to, .. } => to,
            };
            self.memory = Some(Memory { plugin, version, bytes, buckets: Vec::new() });
        }
        Ok(restored)
    }

    /// The plugin's own bytes, as it has taken them.
    fn offer(&mut self, from: u32, to: u32, bytes: Vec<u8>) -> Result<(Vec<u8>, Restored), NotRestored> {
        let label = self.plugin.label().to_string();
        let instance = match &mut self.instance {
            Some(instance) => instance,
            None => {
                let fresh = self.plugin.instantiate_with(&self.of.pipeline, &self.of.config, &self.buckets);
                self.instance.insert(fresh.map_err(NotRestored::Broken)?)
            }
        };
        let refused = |cause: CallError| match cause.kind.is_fatal() {
            true => NotRestored::Broken(cause.into()),
            false if from == to => NotRestored::Refused(cause),
            false => NotRestored::Version { plugin: label.clone(), from, to, cause },
        };
        let migrated = if from == to { None } else { instance.migrate(from, &bytes).map_err(&refused)? };
        match migrated {
            Some(migrated) => {
                instance.restore(to, &migrated).map_err(refused)?;
                Ok((migrated, Restored::Migrated { from, to }))
            }
            None => {
                instance.restore(from, &bytes).map_err(refused)?;
                Ok((bytes, Restored::AsItIs))
            }
        }
    }

    /// Counts how a hand-over to it has ended. A start of the process is none.
    pub fn count_handover(&self, outcome: Handover) {
        metrics::counter!(
            telemetry::PLUGIN_STATE_HANDOVERS,
            "plugin" => self.plugin.id().to_string(),
            "pipeline" => self.of.pipeline.to_string(),
            "outcome" => outcome.name(),
        )
        .increment(1);
    }
}
