//! Random numbers with the shapes that traffic has: Zipf for who is popular, Pareto for how much, normal noise.

use rand::Rng;

/// Draws an index with given weights in constant time (Walker's alias method).
#[derive(Debug)]
pub struct Weighted {
    /// Chance to stay on the column that was drawn, and where to go otherwise.
    columns: Vec<(f32, u32)>,
}

impl Weighted {
    /// `weights` must not be empty, and at least one must be positive.
    pub fn new(weights: &[f64]) -> Self {
        let n = weights.len();
        let mean = weights.iter().sum::<f64>() / n as f64;
        let mut share: Vec<f64> = weights.iter().map(|w| w / mean).collect();
        let mut columns: Vec<(f32, u32)> = (0..n).map(|i| (1.0, i as u32)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| share[i] < 1.0);
        while let (Some(s), Some(&l)) = (small.pop(), large.last()) {
            columns[s] = (share[s] as f32, l as u32);
            share[l] -= 1.0 - share[s];
            if share[l] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
        Self { columns }
    }

    /// Zipf-Mandelbrot: the k-th of `n` has weight 1 / (k + shift)^exponent.
    pub fn zipf(n: usize, exponent: f64, shift: f64) -> Self {
        let weights: Vec<f64> = (1..=n).map(|k| (k as f64 + shift).powf(-exponent)).collect();
        Self::new(&weights)
    }

    /// One index.
    #[inline]
    pub fn draw(&self, rng: &mut impl Rng) -> usize {
        let i = rng.random_range(0..self.columns.len());
        let (stay, other) = self.columns[i];
        if rng.random::<f32>() < stay { i } else { other as usize }
    }
}

/// Pareto: at least `min`, tail exponent `alpha`, cut at `max`.
#[inline]
pub fn pareto(rng: &mut impl Rng, min: f64, alpha: f64, max: f64) -> f64 {
    let u: f64 = 1.0 - rng.random::<f64>();
    (min * u.powf(-1.0 / alpha)).min(max)
}

/// Standard normal (Box-Muller).
#[inline]
pub fn normal(rng: &mut impl Rng) -> f64 {
    let u: f64 = 1.0 - rng.random::<f64>();
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// Whole numbers whose sum follows a sum of fractions exactly: what is cut off now is given out later.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carry(f64);

impl Carry {
    /// Adds `amount` and takes the whole part out. Negative amounts (noise) are paid back first.
    #[inline]
    pub fn take(&mut self, amount: f64) -> u64 {
        self.0 += amount;
        let whole = self.0.floor().max(0.0);
        self.0 -= whole;
        whole as u64
    }
}

/// One well-mixed number out of another (SplitMix64's finaliser): addresses and assignments that look random and
/// never change.
#[inline]
pub const fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    #[test]
    fn weighted_draws_follow_the_weights() {
        let mut rng = SmallRng::seed_from_u64(1);
        let table = Weighted::new(&[1.0, 0.0, 7.0, 2.0]);
        let mut seen = [0u32; 4];
        for _ in 0..100_000 {
            seen[table.draw(&mut rng)] += 1;
        }
        assert_eq!(seen[1], 0);
        for (got, want) in [(seen[0], 0.1), (seen[2], 0.7), (seen[3], 0.2)] {
            assert!((f64::from(got) / 1e5 - want).abs() < 0.01, "{seen:?}");
        }
    }

    #[test]
    fn zipf_is_heavy_tailed_and_pareto_is_bounded() {
        let mut rng = SmallRng::seed_from_u64(2);
        let zipf = Weighted::zipf(1000, 1.0, 0.0);
        let top = (0..100_000).filter(|_| zipf.draw(&mut rng) == 0).count();
        assert!((12_000..15_000).contains(&top), "1/H(1000) is 13.4 %: {top}");
        for _ in 0..10_000 {
            let x = pareto(&mut rng, 3.0, 1.2, 500.0);
            assert!((3.0..=500.0).contains(&x));
        }
    }

    #[test]
    fn carry_loses_nothing() {
        let mut carry = Carry::default();
        let sum: u64 = (0..1000).map(|i| carry.take(if i % 3 == 0 { -0.2 } else { 0.85 })).sum();
        assert_eq!(sum, (666.0f64 * 0.85 - 334.0 * 0.2).floor() as u64);
    }
}
