/// Exponentially weighted level and deviation of one number, in 24 bytes.
///
/// Until the half-life has passed it is the plain mean and variance, so the first values do not weigh too much.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Ewma {
    mean: f64,
    variance: f64,
    alpha: f32,
    count: u32,
}

impl Ewma {
    /// A value loses half of its weight after so many updates.
    pub fn half_life(updates: f64) -> Self {
        let alpha = 1.0 - 0.5f64.powf(1.0 / updates.max(f64::MIN_POSITIVE));
        Self { mean: 0.0, variance: 0.0, alpha: alpha as f32, count: 0 }
    }

    /// The level: 0 before the first update.
    #[inline]
    pub fn level(&self) -> f64 {
        self.mean
    }

    /// Standard deviation around the level.
    #[inline]
    pub fn deviation(&self) -> f64 {
        self.variance.sqrt()
    }

    /// How many values it has seen.
    #[inline]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Learns one value. A value that is not finite teaches nothing.
    #[inline]
    pub fn update(&mut self, x: f64) {
        if !x.is_finite() {
            return;
        }
        self.count = self.count.saturating_add(1);
        let (alpha, plain) = (f64::from(self.alpha), 1.0 / f64::from(self.count));
        // Not `f64::max`: in WebAssembly that is a call.
        let alpha = if alpha < plain { plain } else { alpha };
        let delta = x - self.mean;
        self.mean += alpha * delta;
        self.variance = (1.0 - alpha) * (self.variance + alpha * delta * delta);
    }

    /// By how many deviations `x` lies above the level (negative: below). 0 where the deviation is 0.
    #[inline]
    pub fn z(&self, x: f64) -> f64 {
        if self.variance > 0.0 { (x - self.mean) / self.deviation() } else { 0.0 }
    }

    /// [`Ewma::z`] against what was known before, then [`Ewma::update`].
    #[inline]
    pub fn z_then_update(&mut self, x: f64) -> f64 {
        let z = self.z(x);
        self.update(x);
        z
    }
}

#[cfg(test)]
mod tests {
    use super::Ewma;

    #[test]
    fn starts_as_the_plain_mean_and_variance() {
        let mut e = Ewma::half_life(1000.0);
        for x in [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0] {
            e.update(x);
        }
        assert!((e.level() - 5.0).abs() < 1e-12, "{}", e.level());
        assert!((e.deviation() - 2.0).abs() < 1e-12, "{}", e.deviation());
    }

    #[test]
    fn half_of_the_old_level_is_gone_after_a_half_life() {
        let mut e = Ewma::half_life(10.0);
        (0..1000).for_each(|_| e.update(100.0));
        (0..10).for_each(|_| e.update(0.0));
        assert!((e.level() - 50.0).abs() < 0.01, "{}", e.level());
    }

    #[test]
    fn not_a_number_teaches_nothing() {
        let mut e = Ewma::half_life(10.0);
        e.update(1.0);
        e.update(f64::NAN);
        e.update(f64::INFINITY);
        assert_eq!((e.count(), e.level()), (1, 1.0));
    }
}
