//! What a thread of a live pipeline knows, kept over restarts where `engine.state_dir` is set: templates, open incidents,
//! levels, what detectors know. UDP has no replay: what arrives while the process is down is gone, but who the exporters
//! are, what is open and what is usual is not. Each thread keeps its own, now and then; what does not fit together does not matter here, because
//! nothing is read again. (Kafka sources tie all of it to positions: `kafka/task.rs`.)

use crate::checkpoint::{Checkpoint, Store, new_id};
use crate::config::Plan;
use crate::model::time::now_ns;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is written.
const EVERY: Duration = Duration::from_secs(30);
/// Threads of a kind that are looked for.
const MOST: usize = 1024;

/// One thread's.
pub(super) struct Saved {
    store: Arc<Store>,
    lane: String,
    section: &'static str,
    plan_digest: Arc<str>,
    last: Vec<u8>,
    next: Instant,
}

impl Saved {
    pub(super) fn new(store: &Arc<Store>, lane: String, section: &'static str, plan_digest: &str) -> Self {
        let (store, plan_digest) = (store.clone(), Arc::from(plan_digest));
        Self { store, lane, section, plan_digest, last: Vec::new(), next: Instant::now() + EVERY }
    }

    /// What this lane knew when it was last written.
    pub(super) fn load(&self) -> Option<Vec<u8>> {
        self.load_lane(&self.lane)
    }

    /// A number that was made once and is the same ever after.
    pub(super) fn number(mut self, make: impl FnOnce() -> u64) -> u64 {
        if let Some(bytes) = self.load().and_then(|bytes| bytes.try_into().ok()) {
            return u64::from_le_bytes(bytes);
        }
        let number = make();
        self.write(number.to_le_bytes().to_vec());
        number
    }

    /// What each of these lanes knew: threads may have been more or fewer.
    pub(super) fn load_all(&self, lane: impl Fn(usize) -> String) -> Vec<Vec<u8>> {
        (0..MOST).map_while(|number| self.load_lane(&lane(number))).collect()
    }

    fn load_lane(&self, lane: &str) -> Option<Vec<u8>> {
        match self.store.latest(lane) {
            Ok(latest) => latest.and_then(|(_, mut c)| c.sections.remove(self.section)),
            Err(error) => {
                tracing::warn!("what {lane} knew before is not used: {error}");
                None
            }
        }
    }

    /// True when it is time to write.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Writes what has changed. False: it could not, which is told.
    pub(super) fn write(&mut self, bytes: Vec<u8>) -> bool {
        self.next = Instant::now() + EVERY;
        if bytes == self.last {
            return true;
        }
        let checkpoint = Checkpoint {
            plan_digest: self.plan_digest.to_string(),
            written_ns: now_ns(),
            positions: Vec::new(),
            sections: BTreeMap::from([(self.section.to_owned(), bytes.clone())]),
        };
        let id = new_id();
        let written = self.store.write(&self.lane, &id, &checkpoint).and_then(|()| self.store.sweep(&self.lane, &id));
        match written {
            Ok(()) => {
                self.last = bytes;
                true
            }
            Err(error) => {
                tracing::error!("what {} knows is not kept: {error}", self.lane);
                false
            }
        }
    }
}

/// Where they are kept; `None` where the configuration names no place, or it cannot be used (which is told).
pub(super) fn store(plan: &Plan) -> Option<Arc<Store>> {
    let dir = plan.engine.state_dir.as_ref()?.join("checkpoints");
    match Store::open(&dir) {
        Ok(store) => Some(Arc::new(store)),
        Err(error) => {
            tracing::error!("{error}: what is known is forgotten at the end");
            None
        }
    }
}

/// The lane of one socket's templates.
pub(super) fn socket(source: &str, number: usize) -> String {
    format!("{source}.socket-{number}")
}

/// The lane of the positions in a source's files.
pub(super) fn files(source: &str) -> String {
    format!("{source}.files")
}

/// The lane of one worker's levels.
pub(super) fn worker(pipeline: &str, number: usize) -> String {
    format!("{pipeline}.window-{number}")
}

/// The lane of what decides which worker has which entity.
pub(super) fn shares(pipeline: &str) -> String {
    format!("{pipeline}.shares")
}

/// The lane of what a detector knows in one of so many workers.
pub(super) fn detector(pipeline: &str, detector: &str, number: usize, workers: usize) -> String {
    format!("{pipeline}.{detector}-{number}-of-{workers}")
}

/// The lane of a pipeline's incidents.
pub(super) fn desk(pipeline: &str) -> String {
    format!("{pipeline}.desk")
}
