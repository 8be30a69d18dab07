//! The entities of one pane (or one window): a hash index over a dense vector, so that firing walks memory in order.

use crate::model::{Aggregate, EntityKey};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes entities. The seed is a secret of the installation: source addresses are an attacker's to choose.
#[derive(Clone, Debug)]
pub(super) struct KeyHasher(FixedState);

impl KeyHasher {
    pub(super) fn with_seed(seed: u64) -> Self {
        Self(FixedState::with_seed(seed))
    }

    pub(super) fn random_seed() -> u64 {
        RandomState::new().hash_one(0u8)
    }

    #[inline]
    pub(super) fn hash(&self, addr: &[u8; 16], extra: u32) -> u64 {
        let bits = u128::from_ne_bytes(*addr);
        let mut hasher = self.0.build_hasher();
        hasher.write_u64(bits as u64);
        hasher.write_u64((bits >> 64) as u64 ^ u64::from(extra).rotate_left(32));
        hasher.finish()
    }
}

/// No place: the table is full.
pub(super) const FULL: u32 = u32::MAX;

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

    /// Where the entity's aggregate lies, made when it is new; [`FULL`] when the table is full.
    #[inline]
    pub(super) fn place(&mut self, hash: u64, key: EntityKey, max: usize) -> u32 {
        let entries = &self.entries;
        match self.index.find(hash, |&i| entries[i as usize].key == key) {
            Some(&i) => i,
            None if self.entries.len() >= max => FULL,
            None => {
                let i = self.entries.len() as u32;
                self.entries.push(Entry { key, hash, aggregate: Aggregate::default() });
                let entries = &self.entries;
                self.index.insert_unique(hash, i, |&i| entries[i as usize].hash);
                i
            }
        }
    }

    /// The aggregate at a [`Table::place`]; `None` for [`FULL`].
    #[inline]
    pub(super) fn at(&mut self, place: u32) -> Option<&mut Aggregate> {
        self.entries.get_mut(place as usize).map(|e| &mut e.aggregate)
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
            let place = self.place(e.hash, e.key, max);
            match self.at(place) {
                Some(aggregate) => aggregate.merge(&e.aggregate),
                None => refused += e.aggregate.flows,
            }
        }
        refused
    }
}
