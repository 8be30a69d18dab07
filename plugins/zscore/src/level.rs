//! Level and deviation of one number, plain or robust. The robust one is the exponential smoothing of Gelper, Fried and
//! Croux (2010): what is more than two deviations off counts as two (Huber), and the scale grows by a bounded
//! (biweight) function of the residual. It begins with median and MAD of the first windows.

use crate::config::Method;
use kaminari_plugin_sdk::{Ewma, serde};

/// Deviations beyond which a value counts no more.
const K: f64 = 2.0;
/// Makes the bounded scale that of a normal distribution, for `K` 2.
const C: f64 = 2.52;
/// Makes the median of absolute deviations that of a normal distribution.
const MAD: f64 = 1.4826;

/// An estimate.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(crate = "kaminari_plugin_sdk::serde")]
pub enum Level {
    /// Exponentially weighted mean and deviation.
    Plain(Ewma),
    /// The first values: no estimate yet.
    First(Vec<f64>),
    /// Robust level and scale.
    Robust {
        /// Level.
        level: f64,
        /// Scale: a deviation.
        scale: f64,
        /// Values learned.
        count: u32,
    },
}

impl Level {
    /// Knows nothing.
    pub fn new(method: Method, half_life: f64) -> Self {
        match method {
            Method::Ewma => Level::Plain(Ewma::half_life(half_life)),
            Method::Robust => Level::First(Vec::new()),
        }
    }

    /// Level and deviation, once `warm_up` values are learned.
    pub fn estimate(&self, warm_up: u32) -> Option<(f64, f64)> {
        match self {
            Level::Plain(ewma) => (ewma.count() >= warm_up).then(|| (ewma.level(), ewma.deviation())),
            Level::First(_) => None,
            Level::Robust { level, scale, .. } => Some((*level, *scale)),
        }
    }

    /// Learns a value that is a number. `least` is the least share of the level that a deviation is.
    pub fn learn(&mut self, x: f64, half_life: f64, warm_up: u32, least: f64) {
        match self {
            Level::Plain(ewma) => ewma.update(x),
            Level::First(values) => {
                values.push(x);
                if values.len() >= warm_up as usize {
                    let level = median(values);
                    values.iter_mut().for_each(|x| *x = (*x - level).abs());
                    *self = Level::Robust { level, scale: MAD * median(values), count: warm_up };
                }
            }
            Level::Robust { level, scale, count } => {
                *count = count.saturating_add(1);
                let alpha = (1.0 - (-1.0 / half_life).exp2()).max(1.0 / f64::from(*count));
                // A scale of 0 would stay 0.
                let unit = scale.max(least * level.abs()).max(f64::MIN_POSITIVE);
                let residual = (x - *level) / unit;
                *scale = unit * (1.0 + alpha * (bounded(residual) - 1.0)).sqrt();
                *level += alpha * unit * residual.clamp(-K, K);
            }
        }
    }

    /// Whether this is an estimate of that method.
    pub fn is_of(&self, method: Method) -> bool {
        matches!(self, Level::Plain(_)) == (method == Method::Ewma)
    }
}

/// Biweight: the square for small residuals, `C` at most.
fn bounded(residual: f64) -> f64 {
    if residual.abs() > K {
        return C;
    }
    let share = 1.0 - (residual / K).powi(2);
    C * (1.0 - share.powi(3))
}

/// Of at least one number.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of twelve uniform numbers: nearly normal, deviation 1, always the same.
    fn normal(n: usize) -> Vec<f64> {
        let mut x = 12345u64;
        let mut uniform = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect()
    }

    #[test]
    fn both_find_mean_and_deviation_of_normal_numbers() {
        for method in [Method::Ewma, Method::Robust] {
            let mut level = Level::new(method, 500.0);
            normal(5000).iter().for_each(|x| level.learn(50.0 + 3.0 * x, 500.0, 30, 0.0));
            let (mean, deviation) = level.estimate(30).unwrap();
            assert!((mean - 50.0).abs() < 0.5, "{method:?} {mean}");
            assert!((deviation - 3.0).abs() < 0.45, "{method:?} {deviation}");
        }
    }

    #[test]
    fn one_outlier_in_ten_hardly_moves_the_robust_one() {
        let estimate = |method| {
            let mut level = Level::new(method, 200.0);
            for (i, x) in normal(3000).iter().enumerate() {
                level.learn(if i % 10 == 9 { 1000.0 } else { 50.0 + *x }, 200.0, 30, 0.0);
            }
            level.estimate(30).unwrap()
        };
        let ((plain, _), (robust, scale)) = (estimate(Method::Ewma), estimate(Method::Robust));
        assert!(plain > 100.0 && (robust - 50.0).abs() < 1.0, "{plain} {robust}");
        assert!(scale < 2.5, "{scale}");
    }

    #[test]
    fn a_steady_number_can_start_to_move() {
        let mut level = Level::new(Method::Robust, 20.0);
        (0..30).for_each(|_| level.learn(100.0, 20.0, 30, 0.01));
        assert_eq!(level.estimate(30), Some((100.0, 0.0)));
        (0..500).for_each(|i| level.learn(if i % 2 == 0 { 90.0 } else { 110.0 }, 20.0, 30, 0.01));
        let (mean, deviation) = level.estimate(30).unwrap();
        assert!((mean - 100.0).abs() < 3.0 && deviation > 6.0, "{mean} {deviation}");
    }
}
