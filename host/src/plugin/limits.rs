//! What one plugin instance may use, besides what the operator sets ([`crate::config::PluginLimits`]).

use std::time::Duration;
use wasmtime::{Error, ResourceLimiter};

/// Period of the epoch ticker: deadlines are this exact. Shorter costs wake-ups, longer lets a spinning plugin hold
/// its thread for longer.
pub const TICK: Duration = Duration::from_millis(10);

/// Ticks for which a call that is past its deadline is watched: it is stopped when it has computed for half of them. One that
/// was not given the processor before, on a machine that is overloaded or stood still, comes back in that time.
pub const PROOF_TICKS: u64 = 5;

/// Core instances of one component. A Rust guest has 3 (itself and two shims); adapters of other languages add a few.
pub const INSTANCES: usize = 32;

/// Linear memories of one instance. A guest has one; all of them together are under the operator's cap.
pub const MEMORIES: usize = 8;

/// Tables of one instance: one for function pointers, one for each shim.
pub const TABLES: usize = 16;

/// Elements of one table. A Rust guest has hundreds, an interpreter some ten thousands; each costs 8 bytes here.
pub const TABLE_ELEMENTS: usize = 100_000;

/// Handles a guest may hold at once (batches, builders, streams): it needs a few per call.
pub const HANDLES: usize = 256;

/// Bytes that one call between guest and host may bring out of the guest. Many values of a list may point at the same
/// guest memory, so that the memory cap does not bound it. 8192 scores are 64 KiB, 1000 alerts about 1 MiB.
pub const BYTES_OUT: usize = 64 << 20;

/// Bytes of derived and built batches that a guest may make the host hold.
pub const HOST_BYTES: usize = 64 << 20;

/// Bytes of the names and metadata of one batch's columns: 1024 columns of 256 bytes.
pub const SCHEMA_BYTES: usize = 256 << 10;

/// Rows of one call that a model scores: more than any window's share of a call (8192), and a bound on what the host prepares.
pub const SCORED_ROWS: usize = 1 << 18;

/// Bytes of a plugin's name and of its version.
pub const NAME_BYTES: usize = 64;

/// Bytes of the JSON Schema of a plugin's configuration.
pub const CONFIG_SCHEMA_BYTES: usize = 1 << 20;

/// Rows of one call that a model explains: each costs as much as scoring some hundred. As many as alerts by default.
pub const EXPLAIN_ROWS: usize = 1000;

/// Bytes of one request for random numbers.
pub const MAX_RANDOM: u64 = 64 << 10;

/// Bytes of stdout and of stderr that are kept (the last ones) to explain an abort.
pub const OUTPUT_BYTES: usize = 8 << 10;

/// Log lines of one instance in one second; more are counted and withheld.
pub const LOG_LINES_PER_SECOND: u32 = 20;

/// Bytes of a log line's message or of one of its values.
pub const LOG_BYTES: usize = 2 << 10;

/// Fields of a log line.
pub const LOG_FIELDS: usize = 16;

/// Bytes of the reason for which a frame is refused: it is a label.
pub const REASON_BYTES: usize = 48;

/// Time to come up and to `describe`, `configure`, `requires`: parses a config, allocates some tables.
pub const SETUP_DEADLINE_MS: u64 = 5_000;

/// Time to give a snapshot: windows wait for it.
pub const SNAPSHOT_DEADLINE_MS: u64 = 1_000;

/// Bytes of an alert's kind: it is a label.
pub const KIND_BYTES: usize = 64;

/// Bytes of an alert's message and of attribute values: a sentence.
pub const MESSAGE_BYTES: usize = 1 << 10;

/// Bytes of the name of a column in an alert.
pub const COLUMN_BYTES: usize = 256;

/// Contributions of one alert: nobody reads more.
pub const CONTRIBUTIONS: usize = 32;

/// Attributes of one alert.
pub const ATTRIBUTES: usize = 32;

/// Caps an instance's growth and remembers what it refused. An allocation that fails in the guest ends in the same
/// trap as a panic; only this tells them apart.
#[derive(Debug)]
pub struct Limiter {
    memory_cap: usize,
    memory: usize,
    refused: Option<usize>,
}

impl Limiter {
    /// All memories together at most `memory_cap` bytes.
    pub fn new(memory_cap: usize) -> Self {
        Self { memory_cap, memory: 0, refused: None }
    }

    /// Bytes that all memories together may have: what the guest can take at most.
    pub fn cap(&self) -> usize {
        self.memory_cap
    }

    /// Linear memory in use.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Bytes it would have had if the last refused growth had been granted. Forgets it.
    pub fn take_refused(&mut self) -> Option<usize> {
        self.refused.take()
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool, Error> {
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        if total > self.memory_cap {
            self.refused = Some(total);
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool, Error> {
        Ok(desired <= TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_count_together_and_refusals_are_remembered_once() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 41, None).unwrap(), "a second memory");
        assert!(limiter.memory_growing(60, 100, None).unwrap());
        assert_eq!((limiter.memory(), limiter.take_refused(), limiter.take_refused()), (100, Some(101), None));
    }
}
