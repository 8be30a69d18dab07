//! Panics in `detect`: on the calls listed in the config (counted per instance, from 1), or on every one.

use kaminari_plugin_sdk::prelude::*;

config! {
    pub struct Config {
        /// Calls to panic on; every call when empty.
        #[serde(default)]
        calls: Vec<u32>,
        /// Panic only on batches with such a value in the column `flows`.
        poison: Option<f64>,
    }
}

pub struct Trap {
    config: Config,
    call: u32,
}

impl Detector for Trap {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self { config, call: 0 })
    }

    fn detect(&mut self, _window: &Window, batch: &Batch) -> Result<Verdict> {
        self.call += 1;
        let poisoned = match self.config.poison {
            Some(poison) => batch.f64s("flows")?.contains(&poison),
            None => self.config.calls.is_empty() || self.config.calls.contains(&self.call),
        };
        assert!(!poisoned, "as the fixture was told, on call {}", self.call);
        Ok(Verdict::scores(vec![0.0; batch.len()]))
    }
}

export_detector!(Trap, name = "trap");
