//! How far a number is from all that were seen before, and how likely that is. Comes in: one number a window; goes out:
//! its gap to the nearest number seen, as a share of the gap that all but one in 200 stay within. Bounded: numbers
//! close to each other are remembered as one, gaps in a histogram.

use kaminari_plugin_sdk::serde;

/// Share of the gaps that are within the reference gap.
const QUANTILE: f64 = 0.995;
/// The reference gap is at least this share of the range seen: what moves by a grain of it is no news.
const LEAST_SHARE: f64 = 0.003;
/// ... and this share of the size of the numbers: a constant that is rounded otherwise is no news either.
const LEAST_RELATIVE: f64 = 1e-9;
/// Bins per doubling of the gap.
const PER_DOUBLING: f64 = 4.0;
/// Gaps from 2^-60 to 2^60 have bins of their own.
const SPAN: f64 = 60.0;
const BINS: usize = (2.0 * SPAN * PER_DOUBLING) as usize + 1;
/// No ratio is above this: what is told of it has to fade within reasonable time.
const HIGHEST: f64 = 1e3;

/// The numbers and gaps seen.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(crate = "kaminari_plugin_sdk::serde")]
pub struct Novelty {
    /// Sorted; lowest and highest are those of all that were seen.
    seen: Vec<f64>,
    /// Gaps by size.
    gaps: Vec<u32>,
    count: u32,
    /// No bin above this one is used.
    top: usize,
}

impl Default for Novelty {
    fn default() -> Self {
        Self { seen: Vec::new(), gaps: vec![0; BINS], count: 0, top: 0 }
    }
}

impl Novelty {
    /// Distance to the nearest number seen; 0 where there is none.
    pub fn gap(&self, x: f64) -> f64 {
        let at = self.seen.partition_point(|&s| s < x);
        let above = self.seen.get(at).map_or(f64::INFINITY, |s| s - x);
        let below = if at > 0 { x - self.seen[at - 1] } else { f64::INFINITY };
        let gap = if above < below { above } else { below };
        if gap.is_finite() { gap } else { 0.0 }
    }

    /// The gap as a multiple of the reference gap.
    pub fn ratio(&self, gap: f64) -> f64 {
        let (Some(low), Some(high)) = (self.seen.first(), self.seen.last()) else { return 0.0 };
        let least = LEAST_SHARE * (high - low);
        let tiny = LEAST_RELATIVE * higher(low.abs(), high.abs());
        let reference = higher(self.quantile(), higher(least, tiny));
        if reference > 0.0 {
            (gap / reference).min(HIGHEST)
        } else if gap > 0.0 {
            HIGHEST
        } else {
            0.0
        }
    }

    /// Remembers a number, in at most `memory` places, and, where `settled`, its gap.
    pub fn learn(&mut self, x: f64, gap: f64, memory: usize, settled: bool) {
        let at = self.seen.partition_point(|&s| s < x);
        if self.seen.get(at) != Some(&x) {
            self.seen.insert(at, x);
            if self.seen.len() > memory {
                self.merge();
            }
        }
        if settled {
            let bin = if gap > 0.0 { ((gap.log2() + SPAN) * PER_DOUBLING).clamp(0.0, (BINS - 1) as f64) } else { 0.0 };
            self.gaps[bin as usize] = self.gaps[bin as usize].saturating_add(1);
            self.count = self.count.saturating_add(1);
            self.top = self.top.max(bin as usize);
        }
    }

    /// Forgets one of the two numbers that are nearest to each other, never the lowest or highest.
    fn merge(&mut self) {
        let mut nearest = (f64::INFINITY, 1);
        for (i, pair) in self.seen.windows(2).enumerate() {
            if pair[1] - pair[0] < nearest.0 {
                nearest = (pair[1] - pair[0], i + 1);
            }
        }
        let last = self.seen.len() - 1;
        self.seen.remove(if nearest.1 == last { last - 1 } else { nearest.1 });
    }

    /// The gap that all but one in 200 stay within: lower edge of its bin.
    fn quantile(&self) -> f64 {
        let rare = (1.0 - QUANTILE) * f64::from(self.count);
        let mut above = 0.0;
        for bin in (1..=self.top).rev() {
            above += f64::from(self.gaps[bin]);
            if above >= rare {
                return (bin as f64 / PER_DOUBLING - SPAN).exp2();
            }
        }
        0.0
    }

    /// Whether this came out of a state that was saved: what a damaged one would break.
    pub fn is_sound(&self) -> bool {
        self.gaps.len() == BINS && self.top < BINS && self.seen.is_sorted() && self.seen.iter().all(|x| x.is_finite())
    }
}

/// -log10 of how likely a gap is that large: a log-logistic tail through the reference gap. Its odds fall as the gap
/// grows, so that twice the gap is half as likely.
pub fn rarity(ratio: f64) -> f64 {
    (1.0 + QUANTILE / (1.0 - QUANTILE) * ratio).log10()
}

/// As `f64::max` of two numbers, without its call in WebAssembly.
fn higher(a: f64, b: f64) -> f64 {
    if a < b { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taught(values: impl IntoIterator<Item = f64>, memory: usize) -> Novelty {
        let mut novelty = Novelty::default();
        for x in values {
            let gap = novelty.gap(x);
            novelty.learn(x, gap, memory, true);
        }
        novelty
    }

    #[test]
    fn what_was_seen_is_likely_and_what_lies_far_out_is_not() {
        let n = taught((0..2000).map(|i| f64::from(i * 37 % 101)), 256);
        assert_eq!(rarity(n.ratio(n.gap(50.0))), 0.0);
        let (near, far) = (rarity(n.ratio(n.gap(101.0))), rarity(n.ratio(n.gap(1000.0))));
        assert!(near < far && far > 4.0, "{near} {far}");
        assert!((rarity(1.0) - 2.301).abs() < 0.001, "the reference gap is one in 200");
    }

    #[test]
    fn a_hole_between_two_modes_is_new_too() {
        let n = taught((0..2000).map(|i| f64::from(i % 5) + if i % 2 == 0 { 0.0 } else { 1000.0 }), 64);
        assert!(rarity(n.ratio(n.gap(500.0))) > 3.0);
    }

    #[test]
    fn a_constant_may_be_rounded_but_not_leave() {
        let n = taught(vec![0.1; 500], 64);
        assert!(rarity(n.ratio(n.gap(0.1 + 1e-13))) < 0.1);
        assert!(rarity(n.ratio(n.gap(0.2))) > 5.0);
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_ends() {
        let n = taught((0..5000).map(|i| f64::from(i * 7919 % 10_007)), 32);
        assert_eq!(n.seen.len(), 32);
        let (low, high) = (n.seen[0], n.seen[31]);
        assert!(low < 10.0 && high > 9_990.0, "{low} {high}");
        assert!(n.is_sound());
    }
}
