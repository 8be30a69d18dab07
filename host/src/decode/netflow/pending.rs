//! Data sets that came before their template. Bounded in bytes: the oldest gives way.

use super::row::Origin;
use crate::decode::stats::{DecodeStats, Refusal};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

/// Bookkeeping of one set: keeps a flood of tiny sets within the bound.
const OVERHEAD: usize = 256;

/// Whose template a set waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    pub peer: IpAddr,
    pub ipfix: bool,
    pub domain: u32,
    pub template: u16,
}

/// One set.
#[derive(Debug)]
pub(super) struct Waiting {
    key: Key,
    pub origin: Origin,
    pub body: Box<[u8]>,
    /// It came in an earlier frame than the one that takes it out.
    pub is_earlier: bool,
}

/// All of them. Taking a template's sets costs nothing when it has none: a datagram may bring hundreds of templates
/// while tens of thousands of sets wait.
#[derive(Debug)]
pub(super) struct Pending {
    /// By number of arrival.
    sets: BTreeMap<u64, Waiting>,
    /// Numbers of the sets that wait for a template, oldest first.
    by_key: HashMap<Key, VecDeque<u64>>,
    arrived: u64,
    /// Up to this number they came in earlier frames than the one at hand.
    earlier: u64,
    held: usize,
    limit: usize,
}

impl Pending {
    pub fn new(limit: usize) -> Self {
        Self { sets: BTreeMap::new(), by_key: HashMap::new(), arrived: 0, earlier: 0, held: 0, limit }
    }

    /// A new frame begins.
    pub fn next_frame(&mut self) {
        self.earlier = self.arrived;
    }

    /// Keeps a copy of a set, or counts its bytes as lost.
    pub fn keep(&mut self, key: Key, origin: Origin, body: &[u8], stats: &mut DecodeStats) {
        stats.missing_template += 1;
        let cost = body.len() + OVERHEAD;
        if cost > self.limit {
            stats.refuse(Refusal::MissingTemplate, body.len());
            return;
        }
        while self.held + cost > self.limit && self.give_up_oldest(stats) {}
        self.held += cost;
        stats.pending_buffered += 1;
        stats.pending_bytes += body.len() as u64;
        self.arrived += 1;
        self.by_key.entry(key).or_default().push_back(self.arrived);
        self.sets.insert(self.arrived, Waiting { key, origin, body: body.into(), is_earlier: false });
    }

    /// Takes out the sets that waited for this template.
    pub fn take(&mut self, key: Key, stats: &mut DecodeStats) -> Vec<Waiting> {
        let numbers = self.by_key.remove(&key).unwrap_or_default();
        let taken = |number: &u64| {
            let set = self.sets.remove(number)?;
            Some(Waiting { is_earlier: *number <= self.earlier, ..set })
        };
        let found: Vec<Waiting> = numbers.iter().filter_map(taken).collect();
        for set in &found {
            self.held -= set.body.len() + OVERHEAD;
            stats.pending_replayed += 1;
            stats.pending_bytes -= set.body.len() as u64;
        }
        found
    }

    /// False when there is none.
    fn give_up_oldest(&mut self, stats: &mut DecodeStats) -> bool {
        let Some((number, set)) = self.sets.pop_first() else { return false };
        if let Some(numbers) = self.by_key.get_mut(&set.key) {
            numbers.pop_front();
            if numbers.is_empty() {
                self.by_key.remove(&set.key);
            }
        }
        self.held -= set.body.len() + OVERHEAD;
        stats.pending_expired += 1;
        stats.pending_bytes -= set.body.len() as u64;
        let before = stats.errors;
        stats.refuse(Refusal::MissingTemplate, set.body.len());
        if number <= self.earlier {
            stats.blame_earlier(&before);
        }
        true
    }
}
