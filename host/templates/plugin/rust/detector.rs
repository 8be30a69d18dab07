//! Alerts when a feature of an entity jumps above the entity's own level.

use kaminari_plugin_sdk::prelude::*;

config! {
    /// What an operator writes as `config` of the detector.
    struct Config {
        /// Feature to watch.
        feature: String,
        /// Alert above so many deviations.
        z: f64,
    }
}

/// One level per entity; the oldest give way when there are too many.
struct Jump(Config, KeyMap<Ewma>);

impl Detector for Jump {
    type Config = Config;
    fn new(config: Config) -> Result<Self> {
        Ok(Self(config, KeyMap::new(100_000)))
    }
    /// Asked at the start and by `kaminari validate`: a missing feature is a mistake in the configuration.
    fn requires(&self, schema: &Schema) -> Result<()> {
        schema.require("feature", &self.0.feature)
    }
    /// All entities of one window, column by column: one score per row, alerts on some.
    fn detect(&mut self, _window: &Window, batch: &Batch) -> Result<Verdict> {
        let Self(Config { feature, z }, levels) = self;
        let (values, keys) = (batch.f64s(feature)?, batch.keys()?);
        let mut score = |(x, key): (&f64, _)| levels.get_or_insert_with(key, || Ewma::half_life(60.0)).z_then_update(*x);
        let scores = values.iter().zip(keys.iter()).map(&mut score).collect();
        let alert = |row: usize| Alert::new("jump", Severity::Medium).message(format!("{feature} is {}", values[row]));
        Ok(Verdict::above(scores, *z, alert))
    }
}

export_detector!(Jump);
