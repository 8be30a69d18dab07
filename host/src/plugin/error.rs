//! What may go wrong with a plugin. Every text names the plugin, its version where it is known, and the cause.

use super::bindings::kaminari::plugin::common;
use super::limits::LOG_BYTES;
use super::services::plain;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A plugin could not be loaded, instantiated or configured.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The engine itself.
    #[error("cannot set up the WebAssembly engine: {0:#}")]
    Engine(wasmtime::Error),
    /// The cache folder does not exist and cannot be made.
    #[error("cannot use the plugin cache {path}: {source}; set `engine.plugin_cache_dir` to a folder of this user")]
    CacheDir {
        /// Folder.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Others could put machine code into the cache folder.
    #[error(
        "the plugin cache {path} must belong to the user that runs kaminari, and nobody else may write there \
         (mode {mode:o}); run `chmod 700 {path}` or set `engine.plugin_cache_dir`"
    )]
    CacheUnsafe {
        /// Folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// No such file, or not readable.
    #[error("plugin `{id}`: cannot read {path}: {source}")]
    Read {
        /// Plugin id.
        id: Arc<str>,
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The pin does not fit.
    #[error(
        "plugin `{id}`: {path} has the sha256 {actual}, but the config pins {pinned}; \
         if the new file is wanted, update `plugins.{id}.sha256`"
    )]
    Digest {
        /// Plugin id.
        id: Arc<str>,
        /// File.
        path: PathBuf,
        /// What the config says.
        pinned: String,
        /// What the file has.
        actual: String,
    },
    /// Not a component, truncated, or a core module.
    #[error("plugin `{id}`: {path} is not a WebAssembly component ({cause}); build it for wasm32-wasip2")]
    NotAComponent {
        /// Plugin id.
        id: Arc<str>,
        /// File.
        path: PathBuf,
        /// Cause.
        cause: String,
    },
    /// Built for another version of the contract.
    #[error(
        "plugin `{id}`: {path} was built for kaminari:plugin@{wanted}, this kaminari offers kaminari:plugin@{offered}; \
         {advice}"
    )]
    ApiVersion {
        /// Plugin id.
        id: Arc<str>,
        /// File.
        path: PathBuf,
        /// The plugin's version.
        wanted: String,
        /// Ours.
        offered: &'static str,
        /// What to do.
        advice: String,
    },
    /// A component, but no plugin of ours, or one that wants more than plugins get.
    #[error("plugin `{id}`: {path} {cause}")]
    Contract {
        /// Plugin id.
        id: Arc<str>,
        /// File.
        path: PathBuf,
        /// Cause.
        cause: String,
    },
    /// It is used as what it is not.
    #[error("plugin `{id}` ({plugin}) is no {wanted}, it is a {has}")]
    Role {
        /// Plugin id.
        id: Arc<str>,
        /// `name@version`.
        plugin: Arc<str>,
        /// What it is used as.
        wanted: super::roles::Role,
        /// What it is.
        has: String,
    },
    /// `describe`, `configure` or a question at plan time failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// One call into a plugin failed.
#[derive(Clone, Debug, PartialEq)]
pub struct CallError {
    /// `name@version`.
    pub plugin: Arc<str>,
    /// Which function.
    pub call: &'static str,
    /// Cause.
    pub kind: CallErrorKind,
}

/// The calls about data.
const WORK: [&str; 3] = ["decode", "extract", "detect"];

/// Why a call failed.
#[derive(Clone, Debug, PartialEq)]
pub enum CallErrorKind {
    /// A panic or another trap. The instance is gone.
    Trap {
        /// The panic's own text where there is one.
        message: String,
    },
    /// Not done in time. The instance is gone.
    Deadline {
        /// The deadline.
        ms: u64,
    },
    /// It asked for more memory than its cap and gave up. The instance is gone.
    OutOfMemory {
        /// Bytes it wanted to have.
        bytes: usize,
        /// The cap.
        cap: usize,
    },
    /// It said so itself. The instance stays.
    Plugin(PluginReply),
    /// Its result makes no sense. The instance stays.
    Refused {
        /// Why.
        message: String,
    },
}

/// An error that a plugin returned, as the contract has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginReply {
    /// Bad configuration.
    Config {
        /// Dotted path into the plugin's own table.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// The input lacks something.
    Schema(String),
    /// Not granted.
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

impl CallErrorKind {
    /// Value of the metric labels `outcome` and `reason`.
    pub fn name(&self) -> &'static str {
        match self {
            CallErrorKind::Trap { .. } => "trap",
            CallErrorKind::Deadline { .. } => "deadline",
            CallErrorKind::OutOfMemory { .. } => "oom",
            CallErrorKind::Plugin(_) => "error",
            CallErrorKind::Refused { .. } => "refused",
        }
    }

    /// Whether the instance is lost with it.
    pub fn is_fatal(&self) -> bool {
        matches!(self, CallErrorKind::Trap { .. } | CallErrorKind::Deadline { .. } | CallErrorKind::OutOfMemory { .. })
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {}: `{}` ", self.plugin, self.call)?;
        match &self.kind {
            CallErrorKind::Trap { message } => write!(f, "trapped: {message}"),
            CallErrorKind::Deadline { ms } => {
                write!(f, "missed its deadline of {ms} ms")?;
                // The operator's own; those of other calls are fixed.
                let set = if WORK.contains(&self.call) { " (`limits.deadline_ms`)" } else { "" };
                f.write_str(set)
            }
            CallErrorKind::OutOfMemory { bytes, cap } => {
                write!(f, "ran out of memory: it asked for {bytes} bytes, its cap is {cap} (`limits.memory_bytes`)")
            }
            CallErrorKind::Plugin(reply) => write!(f, "answered: {reply}"),
            CallErrorKind::Refused { message } => write!(f, "returned what is refused: {message}"),
        }
    }
}

impl std::error::Error for CallError {}

impl fmt::Display for PluginReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PluginReply::Config { path, message } if path.is_empty() => write!(f, "bad config: {message}"),
            PluginReply::Config { path, message } => write!(f, "bad config at `{path}`: {message}"),
            PluginReply::Schema(m) => write!(f, "input does not fit: {m}"),
            PluginReply::Denied(m) => write!(f, "not granted: {m}"),
            PluginReply::NotFound(m) => write!(f, "not found: {m}"),
            PluginReply::Quota(m) => write!(f, "over quota: {m}"),
            PluginReply::Retry(m) => write!(f, "worth one more try: {m}"),
            PluginReply::Other(m) => f.write_str(m),
        }
    }
}

impl From<common::Error> for PluginReply {
    fn from(e: common::Error) -> Self {
        // They go to logs, terminals and the API.
        let text = |m: String| plain(&m, LOG_BYTES).into_owned();
        match e {
            common::Error::Config(c) => PluginReply::Config { path: text(c.path), message: text(c.message) },
            common::Error::Schema(m) => PluginReply::Schema(text(m)),
            common::Error::Denied(m) => PluginReply::Denied(text(m)),
            common::Error::NotFound(m) => PluginReply::NotFound(text(m)),
            common::Error::Quota(m) => PluginReply::Quota(text(m)),
            common::Error::Retry(m) => PluginReply::Retry(text(m)),
            common::Error::Other(m) => PluginReply::Other(text(m)),
        }
    }
}
