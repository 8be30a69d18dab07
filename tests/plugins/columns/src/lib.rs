//! Takes the columns that it is told to, and says nothing: what a benchmark of the boundary leaves over.

use kaminari_plugin_sdk::prelude::*;

config! {
    pub struct Config {
        columns: Vec<String>,
    }
}

pub struct Columns(Config);

impl Detector for Columns {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        Ok(Self(config))
    }

    fn detect(&mut self, _window: &Window, batch: &Batch) -> Result<Verdict> {
        for name in &self.0.columns {
            std::hint::black_box(batch.f64s(name)?);
        }
        Ok(Verdict::default())
    }
}

export_detector!(Columns, name = "columns");
