//! Each entity's own level: an exponentially weighted mean of its earlier windows (Roberts 1959), which relative
//! features compare with. A window far above the level moves it only as much as one at `CLIP` times the level would,
//! so that an attack does not teach itself to be normal.

use super::catalogue::Quantity;
use crate::model::saved::{Loader, NotLoaded, Saver};
use crate::model::{Aggregate, EntityKey, WindowInfo};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Largest multiple of the level that a window may teach.
const CLIP: f64 = 4.0;

const WHAT: &str = "levels";
const VERSION: u8 = 1;
/// Bytes of a saved level of an IPv4 host, without sources.
const SAVED_LEAST: usize = 5 + 12 + 8;

#[derive(Clone, Copy, Debug)]
struct Level {
    flows: f32,
    bytes: f32,
    packets: f32,
    uniq_src: f32,
    seen_ns: u64,
}

/// Levels of the entities of one worker.
#[derive(Debug)]
pub(super) struct Levels {
    alpha: f64,
    max: usize,
    with_sources: bool,
    of: HashMap<EntityKey, Level, RandomState>,
    forgotten: u64,
}

/// How a row compares with its entity's level.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Relative {
    flows: f64,
    bytes: f64,
    packets: f64,
    uniq_src: f64,
}

impl Relative {
    pub(super) fn get(&self, quantity: Quantity) -> f64 {
        match quantity {
            Quantity::Flows => self.flows,
            Quantity::Bytes => self.bytes,
            Quantity::Packets => self.packets,
            Quantity::UniqSrc => self.uniq_src,
        }
    }
}

impl Levels {
    /// `with_sources`: some feature compares distinct sources, which are dear to count.
    pub(super) fn new(half_life_windows: f64, max: usize, with_sources: bool) -> Self {
        let alpha = 1.0 - 0.5f64.powf(1.0 / half_life_windows);
        Self { alpha, max, with_sources, of: HashMap::default(), forgotten: 0 }
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Compares a row with its entity's level, then teaches the level. Only whole windows on their first firing teach.
    pub(super) fn compare(&mut self, key: &EntityKey, a: &Aggregate, window: &WindowInfo) -> Relative {
        let seconds = window.seconds();
        let now = [
            a.flows as f64 / seconds,
            a.bytes as f64 / seconds,
            a.packets as f64 / seconds,
            if self.with_sources { a.src.distinct() } else { 0.0 },
        ];
        let teaches = !window.partial && window.revision == 0;
        let Some(level) = self.of.get_mut(key) else {
            if teaches {
                if self.of.len() >= self.max {
                    self.forget_oldest();
                }
                let [flows, bytes, packets, uniq_src] = now.map(|v| v as f32);
                self.of.insert(*key, Level { flows, bytes, packets, uniq_src, seen_ns: window.end_ns });
            }
            return Relative::default();
        };
        // One unit per window keeps the ratio finite and calm for entities with next to nothing.
        let units = [1.0 / seconds, 64.0 / seconds, 1.0 / seconds, 1.0];
        let mut ratio = [0.0; 4];
        let slots = [&mut level.flows, &mut level.bytes, &mut level.packets, &mut level.uniq_src];
        for (i, slot) in slots.into_iter().enumerate() {
            let mean = f64::from(*slot);
            ratio[i] = ((now[i] + units[i]) / (mean + units[i])).ln();
            if teaches {
                *slot = (mean + self.alpha * (now[i].min(CLIP * (mean + units[i])) - mean)) as f32;
            }
        }
        if teaches {
            level.seen_ns = window.end_ns;
        }
        Relative { flows: ratio[0], bytes: ratio[1], packets: ratio[2], uniq_src: ratio[3] }
    }

    /// Every level, exact. In no order: sorting would take longer than saving.
    pub(super) fn save(&self) -> Vec<u8> {
        let mut s = Saver::new(WHAT, VERSION);
        s.reserve(self.of.len() * (SAVED_LEAST + 4) + 16);
        s.bool(self.with_sources);
        s.count(self.of.len());
        for (key, level) in &self.of {
            s.key(key);
            s.f32(level.flows);
            s.f32(level.bytes);
            s.f32(level.packets);
            if self.with_sources {
                s.f32(level.uniq_src);
            }
            s.u64(level.seen_ns);
        }
        s.done()
    }

    /// Adds the saved levels of the entities that it `owns`; of more than there is room for, those seen last.
    pub(super) fn restore(&mut self, bytes: &[u8], owns: impl Fn(&EntityKey) -> bool) -> Result<(), NotLoaded> {
        let mut l = Loader::new(bytes, WHAT, VERSION)?;
        let had_sources = l.bool()?;
        if self.with_sources && !had_sources {
            return Err(NotLoaded::Insane("levels without distinct sources"));
        }
        let n = l.count(SAVED_LEAST)?;
        let mut mine = Vec::new();
        for _ in 0..n {
            let (key, flows, bytes, packets) = (l.key()?, l.f32()?, l.f32()?, l.f32()?);
            let uniq_src = if had_sources { l.f32()? } else { 0.0 };
            if ![flows, bytes, packets, uniq_src].iter().all(|v| *v >= 0.0 && v.is_finite()) {
                return Err(NotLoaded::Insane("a level that is no number, or below 0"));
            }
            let uniq_src = if self.with_sources { uniq_src } else { 0.0 };
            let level = Level { flows, bytes, packets, uniq_src, seen_ns: l.u64()? };
            if owns(&key) {
                mine.push((key, level));
            }
        }
        l.end()?;
        self.of.extend(mine);
        if self.of.len() > self.max {
            self.forget(self.of.len() - self.max - 1);
        }
        Ok(())
    }

    /// Drops the tenth of the entities that were not seen for longest.
    #[cold]
    fn forget_oldest(&mut self) {
        self.forget(self.of.len() / 10);
    }

    /// Drops the entity that so many others were not seen longer than, with these others.
    fn forget(&mut self, nth: usize) {
        let mut seen: Vec<u64> = self.of.values().map(|l| l.seen_ns).collect();
        let (_, &mut cut, _) = seen.select_nth_unstable(nth);
        let before = self.of.len();
        self.of.retain(|_, l| l.seen_ns > cut);
        self.forgotten += (before - self.of.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Addr, KeyKind};
    use proptest::prelude::*;

    fn window(n: u64) -> WindowInfo {
        WindowInfo {
            start_ns: n * 1_000_000_000,
            end_ns: (n + 1) * 1_000_000_000,
            revision: 0,
            watermark_ns: 0,
            partial: false,
        }
    }
    fn key(n: u8) -> EntityKey {
        EntityKey { kind: KeyKind::DstAddr, addr: Addr([n; 16]), extra: 0 }
    }
    fn flows(n: u64) -> Aggregate {
        Aggregate { flows: n, bytes: n * 500, packets: n * 3, ..Aggregate::default() }
    }

    #[test]
    fn first_sight_is_zero_steady_stays_zero_and_a_burst_shows() {
        let mut levels = Levels::new(10.0, 100, false);
        assert_eq!(levels.compare(&key(1), &flows(100), &window(0)).flows, 0.0);
        for n in 1..50 {
            assert!(levels.compare(&key(1), &flows(100), &window(n)).flows.abs() < 1e-6);
        }
        let burst = levels.compare(&key(1), &flows(10_000), &window(50));
        assert!((burst.flows - (10_001.0f64 / 101.0).ln()).abs() < 1e-3);
        assert!(burst.get(Quantity::Bytes) > 4.0);
    }

    #[test]
    fn an_attack_teaches_slowly() {
        let mut levels = Levels::new(10.0, 100, false);
        levels.compare(&key(1), &flows(100), &window(0));
        for n in 1..10 {
            assert!(levels.compare(&key(1), &flows(100_000), &window(n)).flows > 5.0, "window {n}");
        }
    }

    /// A small world of entities, in windows that are whole or not.
    fn rows() -> impl Strategy<Value = Vec<(u8, u64, u64, bool)>> {
        prop::collection::vec((0u8..40, 0u64..1_000_000, 0u64..300, prop::bool::weighted(0.2)), 1..200)
    }

    fn compare(levels: &mut Levels, n: usize, (who, flows, sources, partial): (u8, u64, u64, bool)) -> [u64; 4] {
        let mut a = Aggregate { flows, bytes: flows * 700, packets: flows * 3, ..Aggregate::default() };
        (0..sources as u32).for_each(|s| a.src.add(s.wrapping_mul(0x9e37_79b9), 1));
        let r = levels.compare(&key(who), &a, &WindowInfo { partial, ..window(n as u64) });
        [r.flows, r.bytes, r.packets, r.uniq_src].map(f64::to_bits)
    }

    proptest! {
        #[test]
        fn restored_levels_compare_alike(
            rows in rows(), cut in any::<prop::sample::Index>(), sources in any::<bool>(), max in 1usize..60,
        ) {
            let cut = cut.index(rows.len() + 1);
            let (mut whole, mut restored) = (Levels::new(5.0, max, sources), Levels::new(5.0, max, sources));
            for (n, row) in rows[..cut].iter().enumerate() {
                compare(&mut whole, n, *row);
            }
            restored.restore(&whole.save(), |_| true).unwrap();
            for (n, row) in rows.iter().enumerate().skip(cut) {
                prop_assert_eq!(compare(&mut restored, n, *row), compare(&mut whole, n, *row));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(
            rows in rows(), end in any::<prop::sample::Index>(), whole in any::<bool>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut levels = Levels::new(5.0, 100, true);
            for (n, row) in rows.iter().enumerate() {
                compare(&mut levels, n, *row);
            }
            let mut bytes = levels.save();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if !whole {
                bytes.truncate(end.index(bytes.len()));
            }
            let mut other = Levels::new(5.0, 10, true);
            if other.restore(&bytes, |_| true).is_err() {
                prop_assert!(other.of.is_empty());
            }
            prop_assert!(other.of.len() <= 10);
            for (n, row) in rows.iter().enumerate() {
                prop_assert!(compare(&mut other, n, *row).iter().all(|r| f64::from_bits(*r).is_finite()));
            }
        }
    }

    #[test]
    fn a_smaller_table_keeps_the_newest_and_each_worker_its_own() {
        let mut levels = Levels::new(10.0, 100, false);
        for n in 0..50u8 {
            levels.compare(&key(n), &flows(1), &window(u64::from(n)));
        }
        let saved = levels.save();
        let mut small = Levels::new(10.0, 20, false);
        small.restore(&saved, |_| true).unwrap();
        assert_eq!((small.of.len(), small.forgotten()), (20, 30));
        assert!(small.of.contains_key(&key(49)) && !small.of.contains_key(&key(29)));
        let mut even = Levels::new(10.0, 100, false);
        even.restore(&saved, |k| k.addr.0[0] % 2 == 0).unwrap();
        even.restore(&levels.save(), |k| k.addr.0[0] % 2 == 0).unwrap();
        assert_eq!(even.of.len(), 25);
        assert!(Levels::new(10.0, 100, true).restore(&saved, |_| true).is_err(), "its sources were not counted");
    }

    /// How long and how large: `cargo test -- --ignored --nocapture how_large_levels`.
    #[test]
    #[ignore = "measures"]
    fn how_large_levels() {
        let mut levels = Levels::new(10.0, 50_000, true);
        for n in 0..50_000u32 {
            let addr = Addr::from_v4_bytes(n.to_be_bytes());
            levels.compare(&EntityKey { addr, ..key(0) }, &flows(n.into()), &window(0));
        }
        for _ in 0..3 {
            let began = std::time::Instant::now();
            let saved = levels.save();
            let saved_in = began.elapsed();
            let began = std::time::Instant::now();
            Levels::new(10.0, 50_000, true).restore(&saved, |_| true).unwrap();
            println!("50000 levels: {} bytes, saved in {saved_in:?}, restored in {:?}", saved.len(), began.elapsed());
        }
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_counts() {
        let mut levels = Levels::new(10.0, 50, false);
        for n in 0..200u8 {
            levels.compare(&key(n), &flows(1), &window(u64::from(n)));
        }
        assert!(levels.of.len() <= 50);
        assert_eq!(levels.forgotten() as usize, 200 - levels.of.len());
    }
}
