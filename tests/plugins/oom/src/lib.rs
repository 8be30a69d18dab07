//! Allocates for ever in `detect`, on batches whose column `flows` holds the value in the config, or on any.

use kaminari_plugin_sdk::prelude::*;

config! {
    pub struct Config {
        poison: Option<f64>,
    }
}

pub struct Oom {
    config: Config,
    hoard: Vec<Vec<u8>>,
}

impl Detector for Oom {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self { config, hoard: Vec::new() })
    }

    fn detect(&mut self, _window: &Window, batch: &Batch) -> Result<Verdict> {
        let poisoned = match self.config.poison {
            Some(poison) => batch.f64s("flows")?.contains(&poison),
            None => true,
        };
        if poisoned {
            loop {
                self.hoard.push(vec![1; 1 << 20]);
            }
        }
        Ok(Verdict::scores(vec![0.0; batch.len()]))
    }
}

export_detector!(Oom, name = "oom");
