//! Where to go on in each file. A place counts when the frames before it have been handed on (and, with `replay_secs`, some
//! time after that): so a crash repeats lines and loses none.

use super::follow::Id;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where one file goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub(super) id: Id,
    /// Where it was seen last.
    pub(super) path: String,
    /// First byte of the line that comes next.
    pub(super) next: u64,
    /// How many of its first bytes the digest is of.
    pub(super) head_bytes: usize,
    /// SHA-256 of them, in hex: another file may have got the same inode since.
    pub(super) head_digest: String,
}

/// What a round of reading changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    At(Place),
    Gone(Id),
}

/// Shared by the thread that reads and whoever keeps places.
#[derive(Clone, Debug)]
pub struct Places {
    inner: Arc<Mutex<Inner>>,
    hold: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    /// What counts.
    now: BTreeMap<Id, Place>,
    /// What will count when so many batches have been handed on.
    coming: VecDeque<(u64, Instant, Vec<Change>)>,
    /// There are files that are not kept yet.
    found: bool,
}

impl Places {
    pub(super) fn new(known: &[Place], hold: Duration) -> Self {
        let now = known.iter().map(|p| (p.id, p.clone())).collect();
        Self { inner: Arc::new(Mutex::new(Inner { now, coming: VecDeque::new(), found: false })), hold }
    }

    /// These count after so many batches.
    pub(super) fn note(&self, batches: u64, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.lock().coming.push_back((batches, Instant::now(), changes));
        }
    }

    /// A file has been found: until it is kept, a restart would not know it if it were rotated away.
    pub(super) fn found(&self) {
        self.lock().found = true;
    }

    /// True when positions should be kept soon.
    pub fn is_urgent(&self) -> bool {
        self.lock().found
    }

    /// `batches` deliveries of frames, counted from the start, have been handed on: what to keep. With `at_once`, time does
    /// not matter.
    pub fn behind(&self, batches: u64, at_once: bool) -> Vec<u8> {
        let mut inner = self.lock();
        inner.found = false;
        let counts =
            |(after, at, _): &(u64, Instant, Vec<Change>)| *after <= batches && (at_once || at.elapsed() >= self.hold);
        while inner.coming.front().is_some_and(counts) {
            let Some((.., changes)) = inner.coming.pop_front() else { break };
            for change in changes {
                match change {
                    Change::At(place) => drop(inner.now.insert(place.id, place)),
                    Change::Gone(id) => drop(inner.now.remove(&id)),
                }
            }
        }
        let all: Vec<&Place> = inner.now.values().collect();
        serde_json::to_vec(&all).expect("numbers and texts are JSON")
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Places::behind`] gave.
pub(super) fn decode(saved: &[u8]) -> Result<Vec<Place>, String> {
    serde_json::from_slice(saved).map_err(|e| format!("the positions that were kept cannot be read: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(ino: u64, next: u64) -> Place {
        Place { id: Id { dev: 1, ino }, path: "p".into(), next, head_bytes: 0, head_digest: String::new() }
    }

    #[test]
    fn places_count_when_their_frames_have_gone() {
        let places = Places::new(&[place(1, 5)], Duration::ZERO);
        places.note(0, vec![Change::At(place(2, 0))]);
        places.note(1, vec![Change::At(place(1, 9)), Change::Gone(Id { dev: 1, ino: 2 })]);
        assert_eq!(decode(&places.behind(0, false)).unwrap(), [place(1, 5), place(2, 0)]);
        assert_eq!(decode(&places.behind(1, false)).unwrap(), [place(1, 9)]);
        assert!(decode(b"[{}]").is_err());
    }

    #[test]
    fn places_that_are_held_back_count_at_the_end() {
        let places = Places::new(&[], Duration::from_secs(1000));
        places.note(1, vec![Change::At(place(1, 9))]);
        assert_eq!(decode(&places.behind(1, false)).unwrap(), []);
        assert_eq!(decode(&places.behind(1, true)).unwrap(), [place(1, 9)]);
    }
}
