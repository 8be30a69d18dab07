//! What may go wrong with a plugin's folder, and what to do.

use crate::plugin::Role;
use std::path::{Path, PathBuf};

/// A plugin could not be made, built or tested.
#[derive(Debug, thiserror::Error)]
pub enum AuthoringError {
    /// A file or folder.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// A verb.
        what: &'static str,
        /// Of what.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// `new` overwrites nothing.
    #[error("{} exists already; name another folder", .0.display())]
    Exists(PathBuf),
    /// No package may be called so.
    #[error("`{0}` is no name for a plugin: lower-case letters, digits and `-`, a letter first, at most 64")]
    Name(String),
    /// Not every role has a template in every language.
    #[error(
        "there is no template of a {role} in {language}: --lang rust has one for every role; `kaminari plugin wit` prints the contract"
    )]
    NoTemplate {
        /// What it would be.
        role: Role,
        /// What it would be written in.
        language: &'static str,
    },
    /// Nothing tells the language.
    #[error("{} is no plugin's folder: it has no Cargo.toml, app.py or app.js (`kaminari plugin new` makes one)", .0.display())]
    NoProject(PathBuf),
    /// A file of the author's that is not understood.
    #[error("{}: {message}", path.display())]
    File {
        /// File.
        path: PathBuf,
        /// Where in it, what is wrong and what would be right.
        message: String,
    },
    /// A program that is needed.
    #[error("{tool} is missing: {install}")]
    Tool {
        /// Name.
        tool: &'static str,
        /// What brings it.
        install: String,
    },
    /// A program did not do what it should.
    #[error("`{command}` failed ({status}){said}")]
    Command {
        /// With its arguments.
        command: String,
        /// How it ended.
        status: String,
        /// What it said, from the next line on, where that has not been shown.
        said: String,
    },
}

impl AuthoringError {
    /// For `map_err`.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    pub(super) fn file(path: &Path, message: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), message: message.into() }
    }
}

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, AuthoringError> {
    std::fs::read_to_string(path).map_err(AuthoringError::io("read", path))
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), AuthoringError> {
    std::fs::write(path, text).map_err(AuthoringError::io("write", path))
}

pub(super) fn make(dir: &Path) -> Result<(), AuthoringError> {
    std::fs::create_dir_all(dir).map_err(AuthoringError::io("make", dir))
}
