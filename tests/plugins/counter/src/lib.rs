//! Remembers: a row's score is how often its entity was judged. Alerts on nothing.

use kaminari_plugin_sdk::prelude::*;

config! {
    pub struct Config {
        /// Panic on this call of the instance (from 1).
        trap_on_call: Option<u32>,
        /// Refuse what was saved.
        #[serde(default)]
        forgetful: bool,
    }
}

pub struct Counter {
    config: Config,
    calls: u32,
    seen: KeyMap<u32>,
}

impl Detector for Counter {
    type Config = Config;
    const STATE_VERSION: u32 = 1;

    fn new(config: Config) -> Result<Self> {
        Ok(Self { config, calls: 0, seen: KeyMap::new(100_000) })
    }

    fn detect(&mut self, _window: &Window, batch: &Batch) -> Result<Verdict> {
        self.calls += 1;
        assert!(self.config.trap_on_call != Some(self.calls), "as the fixture was told");
        let mut score = |key: &Key| {
            let seen = self.seen.get_or_insert_with(key, || 0);
            *seen += 1;
            f64::from(*seen)
        };
        Ok(Verdict::scores(batch.keys()?.iter().map(&mut score).collect()))
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        state::to_bytes(&self.seen.iter().collect::<Vec<_>>())
    }

    fn restore(&mut self, version: u32, bytes: &[u8]) -> Result<()> {
        if self.config.forgetful || version != Self::STATE_VERSION {
            return Err(error::other(format!("no state of version {version} is wanted")));
        }
        self.seen.extend(state::from_bytes::<Vec<(Key, u32)>>(bytes)?);
        Ok(())
    }
}

export_detector!(Counter, name = "counter");
