//! Distinct counts and entropies with bounded memory, mergeable.
//!
//! A [`CountedSet`] holds exact counts of up to [`EXACT_LIMIT`] values; beyond that it becomes a HyperLogLog
//! (Flajolet et al. 2007; 1024 registers, standard error 3.3 %) for the distinct count and a histogram of 256 hashed
//! buckets for the entropy. Most entities see few peers in a second, and small exact sets were cheaper than sketches
//! at ~20 flows an entity in every engine measured. The state after any order of insertions and merges is the same,
//! so results do not depend on arrival order, and the hash is fixed, so replays repeat exactly.

use foldhash::quality::FixedState;
use std::hash::{BuildHasher, Hasher};

/// Fixed, so that sketches merge across shards and replays repeat exactly.
const SEED: u64 = 0x6b61_6d69_6e61_7269;

/// Hash of an address for counted sets.
#[inline]
pub fn hash_addr(addr: &[u8; 16]) -> u32 {
    // Little endian everywhere, so that results do not depend on the machine.
    let bits = u128::from_le_bytes(*addr);
    let mut hasher = FixedState::with_seed(SEED).build_hasher();
    hasher.write_u64(bits as u64);
    hasher.write_u64((bits >> 64) as u64);
    hasher.finish() as u32
}

/// Hash of a port for counted sets: Murmur3's finaliser, every bit of the port reaches every bit of the hash.
#[inline]
pub fn hash_port(port: &u16) -> u32 {
    let mut h = u32::from(*port) ^ (SEED as u32);
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// Values held exactly.
pub const EXACT_LIMIT: usize = 128;
const REGISTERS: usize = 1024;
const BUCKETS: usize = 256;

/// A multiset of hashed values: distinct count and entropy. 24 bytes until it holds a third value.
#[derive(Clone, Debug, Default)]
pub enum CountedSet {
    /// No value.
    #[default]
    Empty,
    /// One value: hash and count.
    One(u32, u32),
    /// Two values.
    Two([(u32, u32); 2]),
    /// Up to [`EXACT_LIMIT`] values, exactly.
    Exact(Table),
    /// More values, estimated.
    Sketch(Box<Sketch>),
}

/// Open-addressing table of (hash, count); a count of 0 marks a free slot.
#[derive(Clone, Debug)]
pub struct Table {
    slots: Box<[(u32, u32)]>,
    used: u16,
}

/// HyperLogLog registers and hashed counts.
#[derive(Clone, Debug)]
pub struct Sketch {
    registers: [u8; REGISTERS],
    buckets: [u32; BUCKETS],
    total: u64,
}

impl Table {
    fn with_slots(n: usize) -> Self {
        Self { slots: vec![(0, 0); n].into_boxed_slice(), used: 0 }
    }

    /// True when the value is in; false when the table is full.
    #[inline]
    fn add(&mut self, hash: u32, count: u32) -> bool {
        let mask = self.slots.len() - 1;
        let mut i = hash as usize & mask;
        loop {
            let slot = &mut self.slots[i];
            if slot.1 == 0 {
                break;
            }
            if slot.0 == hash {
                slot.1 = slot.1.saturating_add(count);
                return true;
            }
            i = (i + 1) & mask;
        }
        if usize::from(self.used) == EXACT_LIMIT {
            return false;
        }
        self.slots[i] = (hash, count);
        self.used += 1;
        // At most three quarters full, so that probing stays short and always ends.
        if usize::from(self.used) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        true
    }

    #[cold]
    fn grow(&mut self) {
        let doubled = vec![(0, 0); self.slots.len() * 2].into_boxed_slice();
        let old = std::mem::replace(&mut self.slots, doubled);
        let mask = self.slots.len() - 1;
        for entry in old.iter().filter(|e| e.1 != 0) {
            let mut i = entry.0 as usize & mask;
            while self.slots[i].1 != 0 {
                i = (i + 1) & mask;
            }
            self.slots[i] = *entry;
        }
    }

    fn entries(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.slots.iter().copied().filter(|e| e.1 != 0)
    }
}

impl Sketch {
    fn new() -> Box<Self> {
        Box::new(Self { registers: [0; REGISTERS], buckets: [0; BUCKETS], total: 0 })
    }

    #[inline]
    fn add(&mut self, hash: u32, count: u32) {
        // Low 10 bits choose the register, the rest give the rank; the bucket takes high bits, so that the two
        // estimates do not share their collisions.
        let register = &mut self.registers[hash as usize & (REGISTERS - 1)];
        let rank = ((hash >> 10) | 1 << 22).trailing_zeros() as u8 + 1;
        *register = (*register).max(rank);
        let bucket = &mut self.buckets[(hash >> 24) as usize];
        *bucket = bucket.saturating_add(count);
        self.total += u64::from(count);
    }

    fn merge(&mut self, other: &Sketch) {
        for (a, b) in self.registers.iter_mut().zip(&other.registers) {
            *a = (*a).max(*b);
        }
        for (a, b) in self.buckets.iter_mut().zip(&other.buckets) {
            *a = a.saturating_add(*b);
        }
        self.total += other.total;
    }

    fn distinct(&self) -> f64 {
        let m = REGISTERS as f64;
        let sum: f64 = self.registers.iter().map(|&r| f64::from_bits(u64::from(1023 - u16::from(r)) << 52)).sum();
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        let zeros = self.registers.iter().filter(|&&r| r == 0).count();
        if raw <= 2.5 * m && zeros > 0 {
            return m * (m / zeros as f64).ln();
        }
        // 32-bit hashes: correct for collisions near their range.
        let range = 4_294_967_296.0;
        if raw > range / 30.0 { -range * (1.0 - raw / range).max(f64::MIN_POSITIVE).ln() } else { raw }
    }
}

impl CountedSet {
    /// Counts a value by its hash, `count` times.
    #[inline]
    pub fn add(&mut self, hash: u32, count: u32) {
        match self {
            CountedSet::Empty => *self = CountedSet::One(hash, count),
            CountedSet::One(h, c) if *h == hash => *c = c.saturating_add(count),
            CountedSet::One(h, c) => *self = CountedSet::Two([(*h, *c), (hash, count)]),
            CountedSet::Two(two) => {
                if let Some(known) = two.iter_mut().find(|v| v.0 == hash) {
                    known.1 = known.1.saturating_add(count);
                    return;
                }
                let mut table = Table::with_slots(8);
                for (h, c) in two.iter().copied().chain([(hash, count)]) {
                    table.add(h, c);
                }
                *self = CountedSet::Exact(table);
            }
            CountedSet::Exact(table) => {
                if !table.add(hash, count) {
                    let mut sketch = Sketch::new();
                    table.entries().for_each(|(h, c)| sketch.add(h, c));
                    sketch.add(hash, count);
                    *self = CountedSet::Sketch(sketch);
                }
            }
            CountedSet::Sketch(sketch) => sketch.add(hash, count),
        }
    }

    /// Adds all of another set.
    pub fn merge(&mut self, other: &CountedSet) {
        match other {
            CountedSet::Empty => {}
            CountedSet::One(h, c) => self.add(*h, *c),
            CountedSet::Two(two) => two.iter().for_each(|(h, c)| self.add(*h, *c)),
            CountedSet::Exact(table) => {
                if matches!(self, CountedSet::Empty) {
                    *self = other.clone();
                } else {
                    table.entries().for_each(|(h, c)| self.add(h, c));
                }
            }
            CountedSet::Sketch(sketch) => {
                if let CountedSet::Sketch(mine) = self {
                    return mine.merge(sketch);
                }
                let mut merged = sketch.clone();
                match self {
                    CountedSet::One(h, c) => merged.add(*h, *c),
                    CountedSet::Two(two) => two.iter().for_each(|(h, c)| merged.add(*h, *c)),
                    CountedSet::Exact(table) => table.entries().for_each(|(h, c)| merged.add(h, c)),
                    CountedSet::Empty | CountedSet::Sketch(_) => {}
                }
                *self = CountedSet::Sketch(merged);
            }
        }
    }

    /// Number of distinct values: exact up to [`EXACT_LIMIT`], then estimated.
    pub fn distinct(&self) -> f64 {
        match self {
            CountedSet::Empty => 0.0,
            CountedSet::One(..) => 1.0,
            CountedSet::Two(_) => 2.0,
            CountedSet::Exact(table) => f64::from(table.used),
            // The exact phase has proven more than EXACT_LIMIT of them.
            CountedSet::Sketch(sketch) => sketch.distinct().max(EXACT_LIMIT as f64 + 1.0),
        }
    }

    /// Shannon entropy of the counts, normalised to 0..=1 by the logarithm of the number of distinct values (of hashed
    /// buckets once it is a sketch). 0 for fewer than two values.
    pub fn entropy(&self) -> f64 {
        fn normalised(counts: impl Iterator<Item = u32>, total: u64, values: usize) -> f64 {
            let total = total as f64;
            let weighted: f64 = counts.map(n_log2_n).sum();
            ((total.log2() - weighted / total) / (values as f64).log2()).clamp(0.0, 1.0)
        }
        match self {
            CountedSet::Empty | CountedSet::One(..) => 0.0,
            CountedSet::Two([(_, a), (_, b)]) => normalised([*a, *b].into_iter(), u64::from(*a) + u64::from(*b), 2),
            CountedSet::Exact(table) => {
                let total = table.entries().map(|(_, c)| u64::from(c)).sum();
                normalised(table.entries().map(|(_, c)| c), total, usize::from(table.used))
            }
            CountedSet::Sketch(sketch) => {
                let used = sketch.buckets.iter().filter(|&&c| c > 0).count();
                normalised(sketch.buckets.iter().copied().filter(|&c| c > 0), sketch.total, used.max(2))
            }
        }
    }
}

/// `n * log2(n)`, from a table for the small counts that nearly all values have.
#[inline]
fn n_log2_n(n: u32) -> f64 {
    static SMALL: std::sync::LazyLock<[f64; 256]> =
        std::sync::LazyLock::new(|| std::array::from_fn(|i| if i == 0 { 0.0 } else { i as f64 * (i as f64).log2() }));
    SMALL.get(n as usize).copied().unwrap_or_else(|| f64::from(n) * f64::from(n).log2())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash(v: u64) -> u32 {
        hash_addr(&u128::from(v).to_be_bytes())
    }

    fn set(values: impl IntoIterator<Item = u64>) -> CountedSet {
        let mut s = CountedSet::default();
        values.into_iter().for_each(|v| s.add(hash(v), 1));
        s
    }

    #[test]
    fn exact_then_close() {
        assert_eq!(set(0..EXACT_LIMIT as u64).distinct(), EXACT_LIMIT as f64);
        assert!((0..=u16::MAX).map(|p| hash_port(&p)).collect::<std::collections::HashSet<_>>().len() == 65_536);
        for n in [200u64, 500, 2_500, 5_000, 100_000, 2_000_000] {
            let estimate = set(0..n).distinct();
            assert!((estimate / n as f64 - 1.0).abs() < 0.12, "{n}: {estimate}");
        }
    }

    #[test]
    fn entropy_of_known_distributions() {
        assert_eq!(set([1, 1, 1]).entropy(), 0.0);
        assert!((set([1, 2, 3, 4]).entropy() - 1.0).abs() < 1e-12);
        let skewed = set([1, 1, 1, 2]).entropy();
        assert!((skewed - 0.811_278).abs() < 1e-5, "{skewed}");
        assert!(set(0..100_000).entropy() > 0.99);
        let one_heavy = set((0..100_000).map(|i| if i % 10 == 0 { i } else { 0 })).entropy();
        assert!(one_heavy < 0.3, "{one_heavy}");
    }

    proptest! {
        #[test]
        fn merge_equals_one_set_in_any_order(values in prop::collection::vec(0u64..400, 0..600), cut in 0usize..600) {
            let cut = cut.min(values.len());
            let whole = set(values.iter().copied());
            let mut merged = set(values[cut..].iter().rev().copied());
            merged.merge(&set(values[..cut].iter().copied()));
            prop_assert_eq!(whole.distinct(), merged.distinct());
            prop_assert!((whole.entropy() - merged.entropy()).abs() < 1e-9);
        }
    }
}
