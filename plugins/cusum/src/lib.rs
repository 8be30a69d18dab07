//! Small shifts that stay: two-sided cumulative sums (Page 1954) of values standardised by each entity's own level. Every
//! window adds how far it is off less the allowance `k`; the score is the larger sum over the limit `h`, above 1 it
//! alerts.

pub mod config;

use config::{AfterAlarm, Config};
use kaminari_plugin_sdk::{prelude::*, serde, short};

/// The detector.
pub struct Cusum {
    config: Config,
    entities: KeyMap<Box<[Sums]>>,
}

/// One feature of one entity.
#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
#[serde(crate = "kaminari_plugin_sdk::serde")]
struct Sums {
    level: Ewma,
    up: Sum,
    down: Sum,
}

/// Sum of one side.
#[derive(Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
#[serde(crate = "kaminari_plugin_sdk::serde")]
struct Sum {
    value: f64,
    /// Windows since it was 0: when the shift began.
    since: u32,
}

/// What a window does to the sums of one feature.
#[derive(Clone, Copy)]
struct Next {
    up: Sum,
    down: Sum,
    score: f64,
}

impl Detector for Cusum {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        config.check()?;
        let entities = KeyMap::new(config.max_entities);
        Ok(Self { config, entities })
    }

    fn requires(&self, schema: &Schema) -> Result<()> {
        schema.require_all("features", &self.config.features)
    }

    fn detect(&mut self, window: &Window, batch: &Batch) -> Result<Verdict> {
        let config = &self.config;
        let columns = config.features.iter().map(|f| batch.f64s(f)).collect::<Result<Vec<_>>>()?;
        let keys = batch.keys()?;
        let mut verdict = Verdict::scores(Vec::with_capacity(batch.len()));
        let new = || vec![Sums::new(config); config.features.len()].into_boxed_slice();
        for (row, key) in keys.iter().enumerate() {
            let sums = self.entities.get_or_insert_with(key, new);
            let next: Vec<Option<Next>> = sums.iter().zip(&columns).map(|(s, x)| s.next(x[row], config)).collect();
            let score = next.iter().flatten().map(|n| n.score).reduce(f64::max).unwrap_or(f64::NAN);
            verdict.scores.push(score);
            let alerts = score > 1.0;
            if alerts {
                let values = columns.iter().map(|x| x[row]);
                verdict.push(alert(config, row, score, sums, &next, values));
            }
            if window.is_final() {
                let teaches = !alerts || config.learn_from_alerts;
                for ((sums, next), x) in sums.iter_mut().zip(next).zip(&columns) {
                    sums.go_on(next, x[row], teaches, config);
                }
            }
        }
        Ok(verdict)
    }

    const STATE_VERSION: u32 = 1;

    fn snapshot(&self) -> Result<Vec<u8>> {
        state::to_bytes(&self.entities.iter().collect::<Vec<_>>())
    }

    fn restore(&mut self, _version: u32, bytes: &[u8]) -> Result<()> {
        let saved = state::from_bytes::<Vec<(Key, Box<[Sums]>)>>(bytes)?;
        if saved.iter().any(|(_, sums)| sums.len() != self.config.features.len()) {
            return Err(error::other("the saved state is of other features"));
        }
        self.entities.extend(saved);
        Ok(())
    }
}

impl Sums {
    fn new(config: &Config) -> Self {
        // Without forgetting it is the plain mean, and stops to learn after the warm-up.
        let half_life = if config.half_life_windows > 0.0 { config.half_life_windows } else { f64::from(u32::MAX) };
        Self { level: Ewma::half_life(half_life), up: Sum::default(), down: Sum::default() }
    }

    fn is_warm(&self, config: &Config) -> bool {
        self.level.count() >= config.warm_up_windows
    }

    /// None while warming up, and where there is no value.
    fn next(&self, x: f64, config: &Config) -> Option<Next> {
        if !x.is_finite() || !self.is_warm(config) {
            return None;
        }
        let off = x - self.level.level();
        let deviation = self.level.deviation().max(config.min_deviation_share * self.level.level().abs());
        let z = if off == 0.0 { 0.0 } else { (off / deviation).clamp(-config.max_z, config.max_z) };
        let (up, down) = (self.up.add(z, config), self.down.add(-z, config));
        Some(Next { up, down, score: up.value.max(down.value) / config.h })
    }

    fn go_on(&mut self, next: Option<Next>, x: f64, teaches: bool, config: &Config) {
        match next {
            Some(n) if n.score > 1.0 && config.after_alarm == AfterAlarm::Relearn => return *self = Self::new(config),
            Some(n) if n.score > 1.0 && config.after_alarm == AfterAlarm::Reset => {
                (self.up, self.down) = Default::default();
            }
            Some(n) => (self.up, self.down) = (n.up, n.down),
            None => {}
        }
        if teaches && (config.half_life_windows > 0.0 || !self.is_warm(config)) {
            self.level.update(x);
        }
    }
}

impl Sum {
    fn add(self, z: f64, config: &Config) -> Self {
        // No higher than twice the limit: what stands must come down within reach when all is well again.
        let value = (self.value + z - config.k).clamp(0.0, 2.0 * config.h);
        Self { value, since: if value > 0.0 { self.since.saturating_add(1) } else { 0 } }
    }
}

fn alert(
    config: &Config,
    row: usize,
    score: f64,
    sums: &[Sums],
    next: &[Option<Next>],
    values: impl Iterator<Item = f64>,
) -> Alert {
    let mut alert = Alert::new("level-shift", config.severity).row(row).score(score, 1.0);
    for (((name, sums), next), x) in config.features.iter().zip(sums).zip(next).zip(values) {
        let Some(n) = next else { continue };
        let level = sums.level.level();
        if n.score > 1.0 {
            alert = alert.because(name.as_str(), n.score, x, level);
        }
        if n.score == score {
            let (side, since) =
                if n.up.value >= n.down.value { ("above", n.up.since) } else { ("below", n.down.since) };
            let (x, level) = (short(x), short(level));
            alert.message = format!("{name} has been {side} its level of {level} for {since} windows, now {x}");
        }
    }
    let total: f64 = alert.contributions.iter().map(|c| c.weight).sum();
    alert.contributions.iter_mut().for_each(|c| c.weight /= total);
    alert.contributions.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    alert
}

export_detector!(Cusum, name = "cusum");

#[cfg(test)]
mod tests;
