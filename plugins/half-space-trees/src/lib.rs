//! Rows in sparse regions: several features judged together, by streaming half-space trees (Tan, Ting, Liu 2011). No
//! training: what is usual are the rows of the last turn. The score of a row is how often the density halves from the
//! usual one to that where the row lies; above the limit it alerts.

pub mod config;
mod forest;

use config::{Config, Scope};
use forest::{Forest, Splits};
use kaminari_plugin_sdk::{prelude::*, short};

/// The key of all rows together: no entity has it.
const ALL: Key = [0xff; 21];

/// The detector.
pub struct HalfSpaceTrees {
    config: Config,
    splits: Splits,
    forests: KeyMap<Forest>,
}

impl Detector for HalfSpaceTrees {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        config.check()?;
        let splits = Splits::draw(&config);
        let forests = KeyMap::new(config.max_entities);
        Ok(Self { config, splits, forests })
    }

    fn requires(&self, schema: &Schema) -> Result<()> {
        schema.require_all("features", &self.config.features)
    }

    fn detect(&mut self, window: &Window, batch: &Batch) -> Result<Verdict> {
        let (config, splits) = (&self.config, &self.splits);
        let columns = config.features.iter().map(|f| batch.f64s(f)).collect::<Result<Vec<_>>>()?;
        let keys = batch.keys()?;
        let mut verdict = Verdict::scores(Vec::with_capacity(batch.len()));
        let mut values = Vec::with_capacity(columns.len());
        for (row, key) in keys.iter().enumerate() {
            values.clear();
            values.extend(columns.iter().map(|x| x[row]));
            if values.iter().any(|x| !x.is_finite()) {
                verdict.scores.push(f64::NAN);
                continue;
            }
            let key = if config.scope == Scope::All { &ALL } else { key };
            let forest = self.forests.get_or_insert_with(key, || Forest::new(config));
            let score = forest.score(splits, &values).unwrap_or(f64::NAN);
            verdict.scores.push(score);
            let alerts = score > config.limit;
            if alerts {
                verdict.push(alert(config, row, score, &values, forest.reasons(splits, &values)));
            }
            if window.is_final() && (!alerts || config.learn_from_alerts) {
                forest.learn(splits, config, &values);
            }
        }
        Ok(verdict)
    }

    const STATE_VERSION: u32 = 1;

    fn snapshot(&self) -> Result<Vec<u8>> {
        state::to_bytes(&self.forests.iter().collect::<Vec<_>>())
    }

    fn restore(&mut self, _version: u32, bytes: &[u8]) -> Result<()> {
        let saved = state::from_bytes::<Vec<(Key, Forest)>>(bytes)?;
        if !saved.iter().all(|(_, forest)| forest.fits(&self.splits, &self.config)) {
            return Err(error::other("the saved state is of other features or trees"));
        }
        self.forests.extend(saved);
        Ok(())
    }
}

fn alert(config: &Config, row: usize, score: f64, values: &[f64], reasons: Vec<(f64, f64)>) -> Alert {
    let mut alert = Alert::new("sparse-region", config.severity).row(row).score(score, config.limit);
    let total: f64 = reasons.iter().map(|r| r.0).sum();
    for ((name, x), (halvings, mean)) in config.features.iter().zip(values).zip(reasons) {
        let weight = if total > 0.0 { halvings / total } else { 1.0 / values.len() as f64 };
        if weight > 0.0 {
            alert = alert.because(name.as_str(), weight, *x, mean);
        }
    }
    alert.contributions.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let told: Vec<String> =
        alert.contributions.iter().take(3).map(|c| format!("{} is {}", c.column, short(c.observed))).collect();
    let times = short(score.exp2());
    alert.message = format!("few rows were like this one, {times} times fewer than usual: {}", told.join(", "));
    alert
}

export_detector!(HalfSpaceTrees, name = "half-space-trees");

#[cfg(test)]
mod tests;
