//! Anomaly likelihood of metrics: how unlikely is a window after all that was seen of its entity? After the idea of
//! Lavin and Ahmad (2015), that errors of a forecaster are to be judged by their own past, with a tail that needs no
//! normal distribution. Of every metric three views are watched: its value, the error of a short forecast, and its
//! spread. The least likely view speaks, and after it only what is less likely, until that has faded.

pub mod config;
mod novelty;

use config::Config;
use kaminari_plugin_sdk::{Column, prelude::*, serde, short};
use novelty::{Novelty, rarity};

/// Gaps of the first windows are not learned: everything is new then.
const UNSETTLED: u32 = 20;
const VIEWS: usize = 3;
/// Kinds of the alerts, by view.
const KINDS: [&str; VIEWS] = ["unusual-value", "unusual-change", "unusual-spread"];

/// The detector.
pub struct Likelihood {
    config: Config,
    entities: KeyMap<Vec<Series>>,
}

/// One metric of one entity.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(crate = "kaminari_plugin_sdk::serde")]
struct Series {
    /// Predicts the next value.
    level: Ewma,
    spread: Ewma,
    /// Value, error, spread.
    views: [Novelty; VIEWS],
    /// Windows judged or learned.
    windows: u32,
    /// The ratio that was told last, and fades.
    told: f64,
}

/// What is thought of one metric in one row.
#[derive(Clone, Copy)]
struct Opinion {
    score: f64,
    view: usize,
    expected: f64,
}

impl Detector for Likelihood {
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
        let columns = self.config.features.iter().map(|f| batch.f64s(f)).collect::<Result<Vec<_>>>()?;
        let keys = batch.keys()?;
        let mut verdict = Verdict::scores(Vec::with_capacity(batch.len()));
        for (row, key) in keys.iter().enumerate() {
            let config = &self.config;
            let series = self.entities.get_or_insert_with(key, || Series::of(config));
            let opinions: Vec<Option<Opinion>> =
                series.iter_mut().zip(&columns).map(|(s, x)| s.judge(x[row], config, window.is_final())).collect();
            let score = opinions.iter().flatten().map(|o| o.score).reduce(f64::max).unwrap_or(f64::NAN);
            verdict.scores.push(score);
            if score > config.limit {
                verdict.push(alert(config, row, score, &opinions, &columns));
            }
        }
        Ok(verdict)
    }

    const STATE_VERSION: u32 = 1;

    fn snapshot(&self) -> Result<Vec<u8>> {
        state::to_bytes(&self.entities.iter().collect::<Vec<_>>())
    }

    fn restore(&mut self, _version: u32, bytes: &[u8]) -> Result<()> {
        let saved = state::from_bytes::<Vec<(Key, Vec<Series>)>>(bytes)?;
        let sound = |s: &Series| s.views.iter().all(Novelty::is_sound);
        if !saved.iter().all(|(_, series)| series.len() == self.config.features.len() && series.iter().all(sound)) {
            return Err(error::other("the saved state is of other features"));
        }
        self.entities.extend(saved);
        Ok(())
    }
}

impl Series {
    fn of(config: &Config) -> Vec<Self> {
        let one = Self {
            level: Ewma::half_life(config.forecast_half_life_windows),
            spread: Ewma::half_life(config.spread_half_life_windows),
            views: Default::default(),
            windows: 0,
            told: 0.0,
        };
        vec![one; config.features.len()]
    }

    /// None while warming up, and where there is no value.
    fn judge(&mut self, x: f64, config: &Config, learns: bool) -> Option<Opinion> {
        if !x.is_finite() {
            return None;
        }
        let warm = self.windows >= config.warm_up_windows;
        let expected = if self.level.count() == 0 { x } else { self.level.level() };
        let mut spread = self.spread;
        spread.update(x);
        let looked = [x, x - expected, spread.deviation()];
        let gaps: [f64; VIEWS] = std::array::from_fn(|v| self.views[v].gap(looked[v]));
        let (mut ratio, mut view) = (0.0, 0);
        if warm {
            for (v, gap) in gaps.iter().enumerate() {
                let r = self.views[v].ratio(*gap);
                if r > ratio {
                    (ratio, view) = (r, v);
                }
            }
        }
        // Worse was told of late: nothing new.
        let news = ratio > self.told;
        let score = if news { rarity(ratio) } else { 0.0 };
        if learns {
            let fading = match config.quiet_half_life_windows {
                half_life if half_life > 0.0 => (-1.0 / half_life).exp2(),
                _ => 0.0,
            };
            self.told = fading * if news { ratio } else { self.told };
            let settled = self.windows >= UNSETTLED;
            self.windows = self.windows.saturating_add(1);
            if config.learn_from_alerts || rarity(ratio) <= config.limit {
                for (v, gap) in gaps.into_iter().enumerate() {
                    self.views[v].learn(looked[v], gap, config.memory, settled);
                }
            }
            // Where the metric is now, not what is usual: a forecast that stood still would be ever more wrong.
            self.level.update(x);
            self.spread = spread;
        }
        warm.then_some(Opinion { score, view, expected })
    }
}

fn alert(config: &Config, row: usize, score: f64, opinions: &[Option<Opinion>], columns: &[Column<f64>]) -> Alert {
    let mut alert = Alert::new("", config.severity).row(row).score(score, config.limit);
    let total: f64 = opinions.iter().flatten().map(|o| o.score).sum();
    let mut loudest = 0.0;
    for ((name, opinion), x) in config.features.iter().zip(opinions).zip(columns) {
        let Some(o) = opinion else { continue };
        if o.score > loudest {
            loudest = o.score;
            alert.kind = KINDS[o.view].to_owned();
            let (x, expected) = (short(x[row]), short(o.expected));
            alert.message = match o.view {
                0 => format!("{name} is {x}, far from all values seen; {expected} was expected"),
                1 => format!("{name} is {x} where {expected} was expected: an error never seen before"),
                _ => format!("{name} varies as it never did, now {x} where {expected} was expected"),
            };
        }
        if o.score > 0.0 {
            alert = alert.because(name.as_str(), o.score / total, x[row], o.expected);
        }
    }
    alert.contributions.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    alert
}

export_detector!(Likelihood, name = "likelihood");

#[cfg(test)]
mod tests;
