//! Lines in the host's log. The host adds plugin, version and pipeline, and limits the rate.

/// How loud.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// For the author, while looking at single rows.
    Trace,
    /// For the author.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is odd, nothing is lost.
    Warn,
    /// Something is lost, or a person must act.
    Error,
}

/// One line with fields.
pub fn log(level: Level, message: &str, fields: &[(&str, &str)]) {
    #[cfg(target_arch = "wasm32")]
    {
        use crate::bindings::kaminari::plugin::logging;
        let fields: Vec<_> = fields.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        logging::log(raw(level), message, &fields);
    }
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::record_log(level, message, fields);
}

/// Whether a line of that level would be kept: ask before building an expensive one.
pub fn enabled(level: Level) -> bool {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::kaminari::plugin::logging::enabled(raw(level));
    #[cfg(not(target_arch = "wasm32"))]
    {
        let _ = level;
        true
    }
}

/// A line of level `debug`.
pub fn debug(message: impl AsRef<str>) {
    log(Level::Debug, message.as_ref(), &[]);
}

/// A line of level `info`.
pub fn info(message: impl AsRef<str>) {
    log(Level::Info, message.as_ref(), &[]);
}

/// A line of level `warn`.
pub fn warn(message: impl AsRef<str>) {
    log(Level::Warn, message.as_ref(), &[]);
}

#[cfg(target_arch = "wasm32")]
fn raw(level: Level) -> crate::bindings::kaminari::plugin::logging::Level {
    use crate::bindings::kaminari::plugin::logging::Level as Raw;
    match level {
        Level::Trace => Raw::Trace,
        Level::Debug => Raw::Debug,
        Level::Info => Raw::Info,
        Level::Warn => Raw::Warn,
        Level::Error => Raw::Error,
    }
}
