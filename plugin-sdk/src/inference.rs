//! Models that the host loaded: it scores the batch where it lies, and only losses, tails and explanations come back.
//! The operator grants them by name, `inference = ["name"]` in the plugin's table. Natively: what
//! [`crate::testing::model`] put there.

use crate::batch::Batch;
use crate::error::Result;

#[cfg(not(target_arch = "wasm32"))]
use crate::testing::model::Handle;
#[cfg(target_arch = "wasm32")]
use guest::Handle;

/// Rows that the host explains in one call; [`Model::explain`] asks for more in several.
const EXPLAIN_ROWS: usize = 1000;

/// What a model is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelInfo {
    /// Its own name.
    pub name: String,
    /// Which one of that name.
    pub version: String,
    /// Features that a batch must have.
    pub features: Vec<String>,
    /// Whether there are [`Model::tails`] and a [`Model::limit`].
    pub calibrated: bool,
}

/// How a row's errors become one loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowLoss {
    /// Mean squared error over the features.
    Mse,
    /// Mean of ln(1 + squared error): one feature alone cannot own it.
    Log1p,
}

/// One feature's part in a row's error.
#[derive(Clone, PartialEq, Debug)]
pub struct FeatureError {
    /// Feature.
    pub column: String,
    /// Value in the row.
    pub observed: f64,
    /// What the model expected, in the feature's own unit.
    pub expected: f64,
    /// Squared error of the preprocessed value.
    pub error: f64,
}

/// A model that the host scores with. It may be swapped between two calls of the plugin: ask for the limit anew in every
/// call instead of keeping it.
pub struct Model(Handle);

impl Model {
    /// The model of that name. [`crate::Error::Denied`]: not granted; [`crate::Error::NotFound`]: no such model.
    pub fn open(name: &str) -> Result<Self> {
        Handle::open(name).map(Self)
    }

    /// What it is.
    pub fn info(&self) -> Result<ModelInfo> {
        self.0.info()
    }

    /// Changes when the host swaps the weights: what was learned from the old one's scores is worth nothing then.
    pub fn revision(&self) -> Result<u64> {
        self.0.revision()
    }

    /// One loss per row; NaN where a feature of the row is not finite.
    pub fn reconstruction(&self, batch: &Batch, loss: RowLoss) -> Result<Vec<f64>> {
        self.0.reconstruction(batch, loss)
    }

    /// How rare each row is in benign traffic: -log10 of its tail probability, 3 is one in a thousand. NaN where a
    /// feature of the row is not finite.
    pub fn tails(&self, batch: &Batch) -> Result<Vec<f64>> {
        self.0.tails(batch)
    }

    /// The tail that benign rows exceed so many times a day.
    pub fn limit(&self, false_alarms_per_day: f64) -> Result<f64> {
        self.0.limit(false_alarms_per_day)
    }

    /// For each of these rows every feature's part in its error, largest first; nothing for a row without a loss.
    pub fn explain(&self, batch: &Batch, rows: &[u32]) -> Result<Vec<Vec<FeatureError>>> {
        let mut all = Vec::with_capacity(rows.len());
        for some in rows.chunks(EXPLAIN_ROWS) {
            all.extend(self.0.explain(batch, some)?);
        }
        Ok(all)
    }
}

/// The host's model, through the contract.
#[cfg(target_arch = "wasm32")]
mod guest {
    use super::{FeatureError, ModelInfo, RowLoss};
    use crate::batch::Batch;
    use crate::bindings::kaminari::plugin::inference as host;
    use crate::error::Result;

    pub struct Handle(host::Model);

    impl Handle {
        pub fn open(name: &str) -> Result<Self> {
            Ok(Self(host::Model::open(name)?))
        }

        pub fn info(&self) -> Result<ModelInfo> {
            let host::ModelInfo { name, version, features, calibrated } = self.0.info()?;
            Ok(ModelInfo { name, version, features, calibrated })
        }

        pub fn revision(&self) -> Result<u64> {
            Ok(self.0.revision()?)
        }

        pub fn reconstruction(&self, batch: &Batch, loss: RowLoss) -> Result<Vec<f64>> {
            let loss = match loss {
                RowLoss::Mse => host::RowLoss::Mse,
                RowLoss::Log1p => host::RowLoss::Log1p,
            };
            Ok(self.0.reconstruction(batch.host()?, loss)?)
        }

        pub fn tails(&self, batch: &Batch) -> Result<Vec<f64>> {
            Ok(self.0.tails(batch.host()?)?)
        }

        pub fn limit(&self, false_alarms_per_day: f64) -> Result<f64> {
            Ok(self.0.limit(false_alarms_per_day)?)
        }

        pub fn explain(&self, batch: &Batch, rows: &[u32]) -> Result<Vec<Vec<FeatureError>>> {
            let told = |e: host::FeatureError| FeatureError {
                column: e.column,
                observed: e.observed,
                expected: e.expected,
                error: e.error,
            };
            let rows = self.0.explain(batch.host()?, rows)?;
            Ok(rows.into_iter().map(|row| row.into_iter().map(told).collect()).collect())
        }
    }
}
