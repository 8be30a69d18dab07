//! The follower's state in a file. Refused: files of another version, of another detector or model, and files that cannot
//! be a state; the caller logs it and starts from the trained tail.

use super::follow::{FollowSettings, Follower, State};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The format this engine reads and writes.
pub const STATE_VERSION: u32 = 1;

/// Whose tail it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Pipeline id in the config.
    pub pipeline: String,
    /// Detector id in the config.
    pub detector: String,
    /// Level of the entities (`dst_addr`, ...).
    pub level: String,
    /// Digest of the model, or the plugin's name and version where there is none: with another one a score means
    /// something else.
    pub model: String,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    version: u32,
    identity: Identity,
    state: State,
}

/// The part that every version has.
#[derive(Deserialize)]
struct AnyVersion {
    version: u32,
}

/// A state was not saved or not taken.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It was read and refused.
    #[error("{}: {source}", path.display())]
    Refused {
        /// Which.
        path: PathBuf,
        /// Why.
        source: RefusedState,
    },
}

/// Why a state was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RefusedState {
    /// Not JSON, or not the fields of a state.
    #[error("not a state of a followed tail: {0}")]
    Format(#[from] serde_json::Error),
    /// Written by another engine.
    #[error("version {0} of the state is not {STATE_VERSION}, which this engine reads")]
    Version(u32),
    /// Another detector or model.
    #[error("the state is of {field} `{found}`, not `{wanted}`")]
    Identity {
        /// What differs.
        field: &'static str,
        /// In the file.
        found: String,
        /// Expected.
        wanted: String,
    },
    /// Numbers that cannot be.
    #[error("{0}")]
    Insane(String),
}

impl Follower {
    /// The state as JSON, numbers exact.
    pub fn to_json(&self) -> String {
        let file = StateFile { version: STATE_VERSION, identity: self.identity.clone(), state: self.state.clone() };
        serde_json::to_string(&file).expect("numbers, strings and keys that are integers are always JSON")
    }

    /// Goes on where the state stands.
    pub fn from_json(text: &str, identity: &Identity, settings: FollowSettings) -> Result<Self, RefusedState> {
        let AnyVersion { version } = serde_json::from_str(text)?;
        if version != STATE_VERSION {
            return Err(RefusedState::Version(version));
        }
        let file: StateFile = serde_json::from_str(text)?;
        for (field, found, wanted) in [
            ("pipeline", &file.identity.pipeline, &identity.pipeline),
            ("detector", &file.identity.detector, &identity.detector),
            ("level", &file.identity.level, &identity.level),
            ("model", &file.identity.model, &identity.model),
        ] {
            if found != wanted {
                return Err(RefusedState::Identity { field, found: found.clone(), wanted: wanted.clone() });
            }
        }
        file.state.check().map_err(RefusedState::Insane)?;
        Ok(Self::resume(file.identity, settings, file.state))
    }

    /// Writes the state: whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), StateError> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let write = || {
            let mut file = std::fs::File::create(&temporary)?;
            file.write_all(self.to_json().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)
        };
        write().map_err(|source| StateError::File { path: path.into(), source })
    }

    /// Reads a state; none where there is no file.
    pub fn load(path: &Path, identity: &Identity, settings: FollowSettings) -> Result<Option<Self>, StateError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::File { path: path.into(), source }),
        };
        let follower = Self::from_json(&text, identity, settings);
        follower.map(Some).map_err(|source| StateError::Refused { path: path.into(), source })
    }
}

impl State {
    fn check(&self) -> Result<(), String> {
        for (name, number) in
            [("shift", self.shift), ("rows", self.rows), ("time_ns", self.time_ns), ("seen_ns", self.seen_ns)]
        {
            if !(number >= 0.0 && number.is_finite()) {
                return Err(format!("{name} {number} must be a finite number, not below 0"));
            }
        }
        if let Some(Err(e)) = self.trained.as_ref().map(|t| t.tail.check()) {
            return Err(format!("trained: {e}"));
        }
        if let Some(trained) = self.trained.as_ref().filter(|t| !(t.rows_per_day > 0.0 && t.rows_per_day.is_finite())) {
            return Err(format!("trained rows_per_day {} must be a finite number above 0", trained.rows_per_day));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
