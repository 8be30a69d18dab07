//! The entities of one pane (or one window): a hash index over a dense vector, so that firing walks memory in order.

use crate::model::{Aggregate, EntityKey};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};

/// Hashes entities. Seeded per process: source addresses are an attacker's to choose.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyHasher(RandomState);

impl KeyHasher {
    #[inline]
    pub(super) fn hash(&self, addr: &[u8; 16], extra: u32) -> u64 {
        let bits = u128::from_ne_bytes(*addr);
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(bits as u64);
        hasher.write_u64((bits >> 64) as u64 ^ u64::from(extra).rotate_left(32));
        hasher.finish()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: EntityKey,
    pub(super) hash: u64,
    pub(super) aggregate: Aggregate,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    index: HashTable<u32>,
    entries: Vec<Entry>,
}

impl Table {
    /// Room for about as many entities as the last pane had.
    pub(super) fn with_capacity(n: usize) -> Self {
        Self { index: HashTable::with_capacity(n), entries: Vec::with_capacity(n) }
    }

    /// The entity's aggregate, made when it is new; `None` when the table is full.
    #[inline]
    pub(super) fn get_or_insert(&mut self, hash: u64, key: EntityKey, max: usize) -> Option<&mut Aggregate> {
        let entries = &self.entries;
        let at = match self.index.find(hash, |&i| entries[i as usize].key == key) {
            Some(&i) => i as usize,
            None if self.entries.len() >= max => return None,
            None => {
                let i = self.entries.len();
                self.entries.push(Entry { key, hash, aggregate: Aggregate::default() });
                let entries = &self.entries;
                self.index.insert_unique(hash, i as u32, |&i| entries[i as usize].hash);
                i
            }
        };
        Some(&mut self.entries[at].aggregate)
    }

    #[inline]
    pub(super) fn get(&self, hash: u64, key: &EntityKey) -> Option<&Aggregate> {
        let at = self.index.find(hash, |&i| self.entries[i as usize].key == *key)?;
        Some(&self.entries[*at as usize].aggregate)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds all of another table; returns how many records found no room.
    pub(super) fn merge(&mut self, other: &Table, max: usize) -> u64 {
        let mut refused = 0;
        for e in &other.entries {
            match self.get_or_insert(e.hash, e.key, max) {
                Some(aggregate) => aggregate.merge(&e.aggregate),
                None => refused += e.aggregate.flows,
            }
        }
        refused
    }
}
