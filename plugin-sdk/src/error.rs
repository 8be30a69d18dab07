//! What a plugin may answer instead of a result.

use std::fmt;

/// Why a call failed. The host tells the operator, counts the rows as dead-lettered, and keeps the instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// Bad configuration.
    Config {
        /// Dotted path into the plugin's own table, e.g. `limits[0].above`.
        path: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The input lacks a column, or it has another type.
    Schema(String),
    /// The operator did not grant this.
    Denied(String),
    /// A named thing does not exist.
    NotFound(String),
    /// Over a quota.
    Quota(String),
    /// Worth one more try.
    Retry(String),
    /// Anything else.
    Other(String),
}

/// The SDK's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Bad configuration at `path`, e.g. `config("limits[0].above", "must be positive")`.
pub fn config(path: impl Into<String>, message: impl Into<String>) -> Error {
    Error::Config { path: path.into(), message: message.into() }
}

/// Anything that has no kind of its own.
pub fn other(message: impl Into<String>) -> Error {
    Error::Other(message.into())
}

/// There is no way from what this version of the state has saved: the host (or the SDK) offers the bytes to `restore` as they
/// are. Any other error of a `migrate` refuses the state.
pub fn no_migration(from: u32) -> Error {
    Error::NotFound(format!("no migration from version {from} of the state"))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config { path, message } if path.is_empty() => f.write_str(message),
            Error::Config { path, message } => write!(f, "`{path}`: {message}"),
            Error::Schema(m) => write!(f, "schema: {m}"),
            Error::Denied(m) => write!(f, "denied: {m}"),
            Error::NotFound(m) => write!(f, "not found: {m}"),
            Error::Quota(m) => write!(f, "over quota: {m}"),
            Error::Retry(m) => write!(f, "retry: {m}"),
            Error::Other(m) => f.write_str(m),
        }
    }
}

impl std::error::Error for Error {}
