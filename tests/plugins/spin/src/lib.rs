//! Never returns from `detect` on batches whose column `flows` holds the value in the config, or on any.

use kaminari_plugin_sdk::prelude::*;

config! {
    pub struct Config {
        poison: Option<f64>,
        /// Wait in a host function instead of computing.
        #[serde(default)]
        sleep: bool,
    }
}

pub struct Spin(Config);

impl Detector for Spin {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }

    fn detect(&mut self, _window: &Window, batch: &Batch) -> Result<Verdict> {
        let poisoned = match self.0.poison {
            Some(poison) => batch.f64s("flows")?.contains(&poison),
            None => true,
        };
        if poisoned && self.0.sleep {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        }
        if poisoned {
            loop {
                std::hint::spin_loop();
            }
        }
        Ok(Verdict::scores(vec![0.0; batch.len()]))
    }
}

export_detector!(Spin, name = "spin");
