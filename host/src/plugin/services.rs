//! What plugins may ask of the host besides data: log lines (rate-limited, counted in
//! `kaminari_plugin_logs_suppressed_total`) and stream time.

use super::bindings::kaminari::plugin::{clock, common, logging};
use super::instance::State;
use super::limits::{LOG_BYTES, LOG_FIELDS, LOG_LINES_PER_SECOND};
use crate::telemetry;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Log lines of one second.
pub struct LogBudget {
    second: Instant,
    lines: u32,
}

impl LogBudget {
    pub fn new(now: Instant) -> Self {
        Self { second: now, lines: 0 }
    }

    /// Whether one more line may pass.
    pub fn take(&mut self, now: Instant) -> bool {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        self.lines += 1;
        self.lines <= LOG_LINES_PER_SECOND
    }
}

impl logging::Host for State {
    fn log(&mut self, level: logging::Level, message: String, fields: Vec<(String, String)>) {
        if !self.logs.take(Instant::now()) {
            metrics::counter!(telemetry::PLUGIN_LOGS_SUPPRESSED, "plugin" => self.id.to_string()).increment(1);
            return;
        }
        let message = plain(&message, LOG_BYTES);
        let (plugin, pipeline) = (&*self.plugin, &*self.pipeline);
        let fields: Vec<String> = fields
            .iter()
            .take(LOG_FIELDS)
            .map(|(k, v)| format!("{}={}", plain(k, LOG_BYTES), plain(v, LOG_BYTES)))
            .collect();
        let fields = fields.join(" ");
        match level {
            logging::Level::Trace => tracing::trace!(plugin, pipeline, fields, "{message}"),
            logging::Level::Debug => tracing::debug!(plugin, pipeline, fields, "{message}"),
            logging::Level::Info => tracing::info!(plugin, pipeline, fields, "{message}"),
            logging::Level::Warn => tracing::warn!(plugin, pipeline, fields, "{message}"),
            logging::Level::Error => tracing::error!(plugin, pipeline, fields, "{message}"),
        }
    }

    fn enabled(&mut self, level: logging::Level) -> bool {
        match level {
            logging::Level::Trace => tracing::enabled!(tracing::Level::TRACE),
            logging::Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
            logging::Level::Info => tracing::enabled!(tracing::Level::INFO),
            logging::Level::Warn => tracing::enabled!(tracing::Level::WARN),
            logging::Level::Error => tracing::enabled!(tracing::Level::ERROR),
        }
    }
}

impl clock::Host for State {
    fn watermark(&mut self) -> u64 {
        self.time.get()
    }

    fn now(&mut self) -> u64 {
        self.time.get()
    }
}

impl common::Host for State {}

/// Stream time of one instance: the watermark of the frame being judged. WASI's clocks show the same.
#[derive(Clone, Default)]
pub struct StreamTime(Arc<AtomicU64>);

impl StreamTime {
    pub fn set(&self, ns: u64) {
        self.0.store(ns, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl wasmtime_wasi::HostWallClock for StreamTime {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.get())
    }
}

impl wasmtime_wasi::HostMonotonicClock for StreamTime {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.get()
    }
}

/// At most `bytes` of a text, cut where a character ends.
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The same, with blanks for line ends and whatever else a terminal would act on: a plugin writes no lines of its own.
pub fn plain(text: &str, bytes: usize) -> Cow<'_, str> {
    let text = cut(text, bytes);
    if text.contains(char::is_control) { text.replace(char::is_control, " ").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines() {
        let start = Instant::now();
        let mut budget = LogBudget::new(start);
        let passed = (0..100).filter(|_| budget.take(start)).count();
        assert_eq!(passed, LOG_LINES_PER_SECOND as usize);
        assert!(budget.take(start + Duration::from_secs(1)));
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!((cut("grün", 3), cut("grün", 4), cut("x", 10)), ("gr", "grü", "x"));
        assert_eq!((plain("a\nb\u{1b}[31m", 99), plain("grün", 4)), ("a b [31m".into(), "grü".into()));
    }
}
