use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher, RandomState};

/// One entity as the column `key` tells it: kind (1 byte), address (16), prefix length or interface (4).
pub type Key = [u8; 21];

/// State per entity, bounded: when it is full, an entity that was not asked for lately makes room (a clock with a
/// second chance: nearly least recently used, without a list to maintain).
pub struct KeyMap<T> {
    index: HashTable<u32>,
    slots: Vec<Slot<T>>,
    hand: usize,
    capacity: usize,
    evicted: u64,
    hasher: FixedState,
}

struct Slot<T> {
    key: Key,
    used: bool,
    value: T,
}

impl<T> KeyMap<T> {
    /// Room for `capacity` entities (at least one). Memory is taken as they come.
    pub fn new(capacity: usize) -> Self {
        // A random seed: addresses come from the network, and somebody may pick them to collide.
        let seed = RandomState::new().hash_one(0u8);
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            hand: 0,
            capacity: capacity.clamp(1, u32::MAX as usize),
            evicted: 0,
            hasher: FixedState::with_seed(seed),
        }
    }

    /// Entities held.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Every entity and its state, in no order that means anything: to save them. `extend` takes them in again.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &T)> {
        self.slots.iter().map(|slot| (&slot.key, &slot.value))
    }

    /// Entities that had to make room so far.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The entity's state, if there is one.
    #[inline]
    pub fn get_mut(&mut self, key: &Key) -> Option<&mut T> {
        let hash = hash(&self.hasher, key);
        let slots = &mut self.slots;
        let &i = self.index.find(hash, |&i| same(&slots[i as usize].key, key))?;
        let slot = &mut slots[i as usize];
        slot.used = true;
        Some(&mut slot.value)
    }

    /// The entity's state; `make` makes it the first time.
    #[inline]
    pub fn get_or_insert_with(&mut self, key: &Key, make: impl FnOnce() -> T) -> &mut T {
        let hash = hash(&self.hasher, key);
        let slots = &self.slots;
        if let Some(&i) = self.index.find(hash, |&i| same(&slots[i as usize].key, key)) {
            let slot = &mut self.slots[i as usize];
            slot.used = true;
            return &mut slot.value;
        }
        self.insert_new(hash, key, make())
    }

    fn insert_new(&mut self, hash: u64, key: &Key, value: T) -> &mut T {
        // Not yet used: an entity seen once goes before one that came back.
        let slot = Slot { key: *key, used: false, value };
        let at = if self.slots.len() < self.capacity {
            self.slots.push(slot);
            self.slots.len() - 1
        } else {
            let at = self.make_room();
            self.slots[at] = slot;
            at
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, at as u32, |&i| self::hash(hasher, &slots[i as usize].key));
        &mut self.slots[at].value
    }

    fn make_room(&mut self) -> usize {
        loop {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[at];
            if std::mem::take(&mut slot.used) {
                continue;
            }
            let hash = hash(&self.hasher, &slot.key);
            if let Ok(entry) = self.index.find_entry(hash, |&i| i as usize == at) {
                entry.remove();
            }
            self.evicted += 1;
            return at;
        }
    }
}

impl<T> Extend<(Key, T)> for KeyMap<T> {
    fn extend<I: IntoIterator<Item = (Key, T)>>(&mut self, entities: I) {
        for (key, value) in entities {
            self.get_or_insert_with(&key, || value);
        }
    }
}

/// A key as three words (the last two share three bytes): a guest compares and hashes bytes one by one otherwise.
#[inline]
fn words(key: &Key) -> [u64; 3] {
    let word = |at: usize| u64::from_le_bytes(*key[at..].first_chunk().expect("21 bytes hold a word at 13"));
    [word(0), word(8), word(13)]
}

#[inline]
fn same(a: &Key, b: &Key) -> bool {
    let ([a0, a1, a2], [b0, b1, b2]) = (words(a), words(b));
    // One branch; comparing arrays would call memcmp, a loop over bytes in a guest.
    (a0 ^ b0) | (a1 ^ b1) | (a2 ^ b2) == 0
}

#[inline]
fn hash(hasher: &FixedState, key: &Key) -> u64 {
    let mut hasher = hasher.build_hasher();
    words(key).into_iter().for_each(|word| hasher.write_u64(word));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::{Key, KeyMap};

    fn key(i: u32) -> Key {
        let mut key = [0; 21];
        key[17..].copy_from_slice(&i.to_be_bytes());
        key
    }

    #[test]
    fn state_is_per_key() {
        let mut map = KeyMap::new(10);
        for i in 0..10 {
            *map.get_or_insert_with(&key(i), || 0) += i;
        }
        for i in 0..10 {
            assert_eq!(map.get_mut(&key(i)), Some(&mut i.clone()));
        }
        assert_eq!(map.get_mut(&key(10)), None);
        assert_eq!((map.len(), map.evicted()), (10, 0));
    }

    #[test]
    fn full_means_that_the_idle_go_first() {
        let mut map = KeyMap::new(3);
        for i in 0..3 {
            map.get_or_insert_with(&key(i), || i);
        }
        map.get_mut(&key(0));
        map.get_mut(&key(2));
        map.get_or_insert_with(&key(3), || 3);
        assert_eq!(map.get_mut(&key(1)), None, "the only one nobody asked for");
        assert_eq!((map.len(), map.evicted()), (3, 1));
        assert_eq!(map.get_mut(&key(3)), Some(&mut 3));
    }

    #[test]
    fn never_grows_past_its_bound_and_never_mixes_keys_up() {
        let mut map = KeyMap::new(64);
        for round in 0..5u32 {
            for i in 0..1000 {
                let k = (i * 7919 + round) % 997;
                let v = map.get_or_insert_with(&key(k), || k);
                assert_eq!(*v, k);
                assert!(map.len() <= 64);
            }
        }
        assert!(map.evicted() > 0);
    }
}
