//! Scores a row by the feature that lies furthest from its level, in deviations. The level of a feature is that of all
//! rows of the windows before, so it fits features that mean the same for all entities (ratios, entropies, relative
//! ones). The same detector stands in Python and JavaScript in `examples/plugins`; what it costs in each is a benchmark.

use kaminari_plugin_sdk::{Lanes, prelude::*, serde};

config! {
    /// What an operator writes as `config` of the detector.
    pub struct Config {
        /// Features to watch.
        features: Vec<String>,
        /// Alert above so many deviations.
        z: f64,
        /// A window loses half of its weight after so many.
        #[serde(default = "half_life")]
        half_life: f64,
    }
}

fn half_life() -> f64 {
    60.0
}

/// The detector.
pub struct ZMax {
    config: Config,
    alpha: f64,
    levels: Vec<Level>,
}

/// Mean and variance of a feature over all rows of the windows before.
#[derive(Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
#[serde(crate = "kaminari_plugin_sdk::serde")]
struct Level {
    mean: f64,
    variance: f64,
    windows: f64,
}

impl Detector for ZMax {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if config.features.is_empty() {
            return Err(error::config("features", "name one at least"));
        }
        if config.half_life.is_nan() || config.half_life <= 0.0 {
            return Err(error::config("half_life", "must be above 0"));
        }
        let levels = vec![Level::default(); config.features.len()];
        Ok(Self { alpha: 1.0 - 0.5f64.powf(1.0 / config.half_life), config, levels })
    }

    fn requires(&self, schema: &Schema) -> Result<()> {
        schema.require_all("features", &self.config.features)
    }

    fn detect(&mut self, window: &Window, batch: &Batch) -> Result<Verdict> {
        let mut scores = vec![0.0; batch.len()];
        for (name, level) in self.config.features.iter().zip(&mut self.levels) {
            let column = batch.f64s(name)?;
            if level.windows == 0.0 {
                // Not far from the mean: squares of what is left are exact.
                level.mean = column.iter().copied().find(|x| x.is_finite()).unwrap_or(0.0);
            }
            let (first, second) = level.judge(&column, &mut scores);
            if window.is_final() && !column.is_empty() {
                let rows = column.len() as f64;
                level.learn(first / rows, second / rows, self.alpha);
            }
        }
        let alert = |_| Alert::new("outlier", Severity::Medium).message("a feature lies far from its level");
        Ok(Verdict::above(scores, self.config.z, alert))
    }

    const STATE_VERSION: u32 = 1;
    fn snapshot(&self) -> Result<Vec<u8>> {
        state::to_bytes(&self.levels)
    }
    fn restore(&mut self, _version: u32, bytes: &[u8]) -> Result<()> {
        let levels: Vec<Level> = state::from_bytes(bytes)?;
        if levels.len() != self.levels.len() {
            return Err(error::other("saved with another number of features"));
        }
        self.levels = levels;
        Ok(())
    }
}

/// Rows of one turn of the loop. Two times what `Lanes` takes is fastest in the sandbox: sums leave their registers at the
/// end of a turn, and more than that no longer fits them.
const TURN: usize = 2 * Lanes::LEN;

impl Level {
    /// Raises scores; sums of distances and of their squares.
    fn judge(&self, column: &[f64], scores: &mut [f64]) -> (f64, f64) {
        let scale = if self.variance > 0.0 { self.variance.sqrt().recip() } else { 0.0 };
        let (mean, by) = (Lanes::splat(self.mean), Lanes::splat(scale));
        let (mut first, mut second) = (Lanes::splat(0.0), Lanes::splat(0.0));
        let (turns, rest) = column.as_chunks::<TURN>();
        let (score_turns, score_rest) = scores.as_chunks_mut::<TURN>();
        for (xs, scores) in turns.iter().zip(score_turns) {
            for (x, score) in xs.as_chunks().0.iter().zip(scores.as_chunks_mut().0) {
                let d = Lanes::load(x) - mean;
                Lanes::load(score).higher(d.abs() * by).store(score);
                first = first + d;
                second = second + d * d;
            }
        }
        let (mut first, mut second) = (first.sum(), second.sum());
        for (x, score) in rest.iter().zip(score_rest) {
            let d = x - self.mean;
            let z = d.abs() * scale;
            *score = if *score < z { z } else { *score };
            (first, second) = (first + d, second + d * d);
        }
        if second.is_finite() {
            return (first, second);
        }
        // A value that is no number teaches nothing, and takes no other with it.
        let distances = column.iter().map(|x| x - self.mean).filter(|d| d.is_finite());
        distances.fold((0.0, 0.0), |(first, second), d| (first + d, second + d * d))
    }

    /// From the means of a window's distances and of their squares.
    fn learn(&mut self, first: f64, second: f64, alpha: f64) {
        self.windows += 1.0;
        // Until the half-life has passed all windows weigh the same.
        let plain = 1.0 / self.windows;
        let a = if alpha < plain { plain } else { alpha };
        self.variance = (1.0 - a) * self.variance + a * second - a * a * first * first;
        self.mean += a * first;
    }
}

export_detector!(ZMax, name = "zmax");

#[cfg(test)]
mod tests {
    use super::*;
    use kaminari_plugin_sdk::testing::{self, Harness, json};

    fn column(rows: usize, shift: f64) -> Vec<f64> {
        (0..rows).map(|i| shift + ((i * 7919) % 101) as f64).collect()
    }

    #[test]
    fn the_level_is_that_of_all_rows_before_and_every_row_is_judged() {
        let config = json!({ "features": ["a", "b"], "z": 6.0 });
        let mut harness = Harness::<ZMax>::new(config).unwrap();
        // Not a multiple of a turn, so that the last rows are judged one by one.
        let rows = 3 * TURN + 5;
        for at in [0, 2 * TURN, rows - 1] {
            let (a, mut b) = (column(rows, 10.0), column(rows, 1e9));
            let calm = testing::batch().f64s("a", a.clone()).f64s("b", b.clone()).build();
            assert!(harness.detect(&testing::window(0, 10), &calm).unwrap().alerts.is_empty());
            b[at] += 5_000.0;
            let odd = testing::batch().f64s("a", a).f64s("b", b).build();
            let partial = Window { partial: true, ..testing::window(10, 10) };
            let verdict = harness.detect(&partial, &odd).unwrap();
            let alerts: Vec<_> = verdict.alerts.iter().map(|a| a.row as usize).collect();
            assert_eq!(alerts, [at]);
        }
        let level = harness.detector.levels[1];
        let values = column(rows, 0.0);
        let mean = values.iter().sum::<f64>() / rows as f64;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64;
        assert!((level.mean - 1e9 - mean).abs() < 1e-6, "{}", level.mean - 1e9 - mean);
        assert!((level.variance / variance - 1.0).abs() < 1e-3, "{} {variance}", level.variance);
    }

    #[test]
    fn what_is_no_number_teaches_nothing() {
        let mut harness = Harness::<ZMax>::new(json!({ "features": ["a"], "z": 6.0 })).unwrap();
        let mut values = column(200, 0.0);
        values[100] = f64::NAN;
        let batch = testing::batch().f64s("a", values).build();
        harness.detect(&testing::window(0, 10), &batch).unwrap();
        assert!(harness.detector.levels[0].variance > 0.0);
        let verdict = harness.detect(&testing::window(10, 10), &batch).unwrap();
        assert!(verdict.scores.iter().all(|s| s.is_finite()) && verdict.alerts.is_empty());
    }

    #[test]
    fn it_goes_on_where_it_was() {
        let make = || Harness::<ZMax>::new(json!({ "features": ["a"], "z": 6.0 })).unwrap();
        let (mut one, mut two) = (make(), make());
        let batch = testing::batch().f64s("a", column(100, 3.0)).build();
        one.detect(&testing::window(0, 10), &batch).unwrap();
        two.detector.restore(1, &one.detector.snapshot().unwrap()).unwrap();
        let second = testing::window(10, 10);
        assert_eq!(one.detect(&second, &batch).unwrap(), two.detect(&second, &batch).unwrap());
        let other = Harness::<ZMax>::new(json!({ "features": ["a", "b"], "z": 6.0 })).unwrap();
        assert!({ other }.detector.restore(1, &one.detector.snapshot().unwrap()).is_err());
    }
}
