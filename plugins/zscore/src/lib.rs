//! Deviations from each entity's own level. The score of a row is the largest number of deviations that one of its
//! features is off, on the side that is asked for; above `z` it alerts.

pub mod config;
mod level;

use config::Config;
use kaminari_plugin_sdk::{prelude::*, short};
use level::Level;

/// Deviations where there is none to divide by.
const HIGHEST: f64 = 1e6;

/// The detector.
pub struct ZScore {
    config: Config,
    /// Levels per entity, one per feature.
    levels: KeyMap<Box<[Level]>>,
}

impl Detector for ZScore {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        config.check()?;
        let levels = KeyMap::new(config.max_entities);
        Ok(Self { config, levels })
    }

    fn requires(&self, schema: &Schema) -> Result<()> {
        schema.require_all("features", &self.config.features)
    }

    fn detect(&mut self, window: &Window, batch: &Batch) -> Result<Verdict> {
        let config = &self.config;
        let columns = config.features.iter().map(|f| batch.f64s(f)).collect::<Result<Vec<_>>>()?;
        let keys = batch.keys()?;
        let mut verdict = Verdict::scores(Vec::with_capacity(batch.len()));
        let new = || config.features.iter().map(|_| Level::new(config.method, config.half_life_windows)).collect();
        for (row, key) in keys.iter().enumerate() {
            let levels = self.levels.get_or_insert_with(key, new);
            let mut score = f64::NAN;
            for (level, x) in levels.iter().zip(&columns) {
                if let Some(z) = z(level, x[row], config) {
                    score = score.max(config.direction.off(z));
                }
            }
            let alerts = score > config.z;
            if alerts {
                let values = columns.iter().map(|x| x[row]);
                verdict.push(alert(config, row, score, levels, values));
            }
            verdict.scores.push(score);
            if window.is_final() && (!alerts || config.learn_from_alerts) {
                for (level, x) in levels.iter_mut().zip(&columns) {
                    if x[row].is_finite() {
                        let least = config.min_deviation_share;
                        level.learn(x[row], config.half_life_windows, config.warm_up_windows, least);
                    }
                }
            }
        }
        Ok(verdict)
    }

    const STATE_VERSION: u32 = 1;

    fn snapshot(&self) -> Result<Vec<u8>> {
        state::to_bytes(&self.levels.iter().collect::<Vec<_>>())
    }

    fn restore(&mut self, _version: u32, bytes: &[u8]) -> Result<()> {
        let saved = state::from_bytes::<Vec<(Key, Box<[Level]>)>>(bytes)?;
        let method = self.config.method;
        let fits = |l: &[Level]| l.len() == self.config.features.len() && l.iter().all(|l| l.is_of(method));
        if !saved.iter().all(|(_, levels)| fits(levels)) {
            return Err(error::other("the saved state is of other features or another method"));
        }
        self.levels.extend(saved);
        Ok(())
    }
}

/// Deviations above the level; None while warming up and where there is no value.
fn z(level: &Level, x: f64, config: &Config) -> Option<f64> {
    let (mean, deviation) = level.estimate(config.warm_up_windows)?;
    let deviation = deviation.max(config.min_deviation_share * mean.abs());
    match x - mean {
        off if off.is_nan() => None,
        0.0 => Some(0.0),
        off => Some((off / deviation).clamp(-HIGHEST, HIGHEST)),
    }
}

fn alert(config: &Config, row: usize, score: f64, levels: &[Level], values: impl Iterator<Item = f64>) -> Alert {
    let mut alert = Alert::new("deviation", config.severity).row(row).score(score, config.z);
    for ((name, level), x) in config.features.iter().zip(levels).zip(values) {
        let (Some(z), Some((mean, _))) = (z(level, x, config), level.estimate(config.warm_up_windows)) else {
            continue;
        };
        let off = config.direction.off(z);
        if off > config.z {
            alert = alert.because(name.as_str(), off, x, mean);
        }
        if off == score {
            let side = if z > 0.0 { "above" } else { "below" };
            let (x, mean) = (short(x), short(mean));
            alert.message =
                format!("{name} is {x}, {off:.1} deviations {side} the {mean} that is usual for this entity");
        }
    }
    let total: f64 = alert.contributions.iter().map(|c| c.weight).sum();
    alert.contributions.iter_mut().for_each(|c| c.weight /= total);
    alert.contributions.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    alert
}

export_detector!(ZScore, name = "zscore");

#[cfg(test)]
mod tests;
