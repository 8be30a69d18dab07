//! The smallest useful detector. As a plugin it is a library (`crate-type = ["cdylib", "rlib"]`), and what `main` does
//! here is its test.

use kaminari_plugin_sdk::{prelude::*, testing};

config! {
    struct Config { feature: String, z: f64 }
}

struct ZScore(Config, KeyMap<Ewma>);

impl Detector for ZScore {
    type Config = Config;
    fn new(config: Config) -> Result<Self> {
        Ok(Self(config, KeyMap::new(100_000)))
    }
    fn detect(&mut self, _window: &Window, batch: &Batch) -> Result<Verdict> {
        let (x, keys) = (batch.f64s(&self.0.feature)?, batch.keys()?);
        let mut z = |(x, key)| self.1.get_or_insert_with(key, || Ewma::half_life(60.0)).z_then_update(x);
        let scores = x.iter().copied().zip(keys.iter()).map(&mut z).collect();
        Ok(Verdict::above(scores, self.0.z, |_| Alert::new("outlier", Severity::Medium)))
    }

    // What it has learned outlives a restart and a crash.
    const STATE_VERSION: u32 = 1;
    fn snapshot(&self) -> Result<Vec<u8>> {
        state::to_bytes(&self.1.iter().collect::<Vec<_>>())
    }
    fn restore(&mut self, _version: u32, bytes: &[u8]) -> Result<()> {
        self.1.extend(state::from_bytes::<Vec<(Key, Ewma)>>(bytes)?);
        Ok(())
    }
}

export_detector!(ZScore, name = "zscore");

fn main() -> Result<()> {
    let mut harness = testing::Harness::<ZScore>::new(testing::json!({ "feature": "flows", "z": 6.0 }))?;
    let steady = |i: u32| f64::from(100 + i % 3);
    for i in 0..60 {
        let flows = if i == 50 { 1000.0 } else { steady(i) };
        let batch = testing::batch().hosts([1, 2]).f64s("flows", [flows, steady(i)]).build();
        let verdict = harness.detect(&testing::window(u64::from(i) * 10, 10), &batch)?;
        let rows: Vec<_> = verdict.alerts.iter().map(|a| a.row).collect();
        assert_eq!(rows, if i == 50 { vec![0] } else { vec![] }, "window {i}");
    }
    // Another one goes on where it was.
    let saved = harness.detector.snapshot()?;
    let mut again = testing::Harness::<ZScore>::new(testing::json!({ "feature": "flows", "z": 6.0 }))?;
    again.detector.restore(ZScore::STATE_VERSION, &saved)?;
    let flood = testing::batch().hosts([1, 2]).f64s("flows", [steady(0), 1000.0]).build();
    assert_eq!(again.detect(&testing::window(600, 10), &flood)?.alerts[0].row, 1);
    println!("one host, one window: found");
    Ok(())
}
