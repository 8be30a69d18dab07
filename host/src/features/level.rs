//! Each entity's own level: an exponentially weighted mean of its earlier windows (Roberts 1959), which relative
//! features compare with. A window far above the level moves it only as much as one at `CLIP` times the level would,
//! so that an attack does not teach itself to be normal.

use super::catalogue::Quantity;
use crate::model::{Aggregate, EntityKey, WindowInfo};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Largest multiple of the level that a window may teach.
const CLIP: f64 = 4.0;

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

    /// Drops the tenth of the entities that were not seen for longest.
    #[cold]
    fn forget_oldest(&mut self) {
        let mut seen: Vec<u64> = self.of.values().map(|l| l.seen_ns).collect();
        let tenth = seen.len() / 10;
        let (_, &mut cut, _) = seen.select_nth_unstable(tenth);
        let before = self.of.len();
        self.of.retain(|_, l| l.seen_ns > cut);
        self.forgotten += (before - self.of.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Addr, KeyKind};

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
