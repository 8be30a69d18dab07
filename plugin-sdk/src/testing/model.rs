//! A model that needs no network.

use crate::batch::Batch;
use crate::error::{Error, Result, other};
use crate::inference::{FeatureError, ModelInfo, RowLoss};
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    /// Models and their revisions.
    static MODELS: RefCell<HashMap<String, (FakeModel, u64)>> = RefCell::default();
}

/// A model that expects every feature to be what it usually is. The error of a feature is its distance from there,
/// divided by the scale and squared; the tail of a row is its mean squared error.
#[derive(Clone, Debug)]
pub struct FakeModel {
    version: String,
    features: Vec<Feature>,
    rows_per_day: Option<f64>,
}

#[derive(Clone, Debug)]
struct Feature {
    name: String,
    usual: f64,
    scale: f64,
}

/// Grants the plugins of this thread a model, or swaps the one of that name.
pub fn model(name: &str, model: FakeModel) {
    MODELS.with_borrow_mut(|models| {
        let revision = models.get(name).map_or(1, |(_, revision)| revision + 1);
        models.insert(name.to_owned(), (model, revision));
    });
}

impl FakeModel {
    /// A model of these features: name, usual value, scale. Calibrated on a million rows a day.
    pub fn new<'a>(features: impl IntoIterator<Item = (&'a str, f64, f64)>) -> Self {
        let feature = |(name, usual, scale): (&str, f64, f64)| Feature { name: name.to_owned(), usual, scale };
        Self { version: "1".into(), features: features.into_iter().map(feature).collect(), rows_per_day: Some(1e6) }
    }

    /// So many benign rows a day.
    pub fn rows_per_day(mut self, rows: f64) -> Self {
        self.rows_per_day = Some(rows);
        self
    }

    /// Without calibration: no tails and no limit.
    pub fn uncalibrated(mut self) -> Self {
        self.rows_per_day = None;
        self
    }

    fn info(&self, name: &str) -> ModelInfo {
        let features = self.features.iter().map(|feature| feature.name.clone()).collect();
        let (name, version) = (name.to_owned(), self.version.clone());
        ModelInfo { name, version, features, calibrated: self.rows_per_day.is_some() }
    }

    fn calibrated(&self) -> Result<f64> {
        self.rows_per_day.ok_or_else(|| other("the model has no calibration"))
    }

    /// Of every row every feature's error, in the order of the features.
    fn errors(&self, batch: &Batch) -> Result<Vec<Vec<FeatureError>>> {
        let missing: Vec<_> = self.features.iter().filter(|f| batch.f64s(&f.name).is_err()).map(|f| &*f.name).collect();
        if !missing.is_empty() {
            return Err(Error::Schema(format!(
                "the model takes features that the batch lacks: {}",
                missing.join(", ")
            )));
        }
        let mut rows = vec![Vec::new(); batch.len()];
        for Feature { name, usual, scale } in &self.features {
            for (row, &observed) in rows.iter_mut().zip(batch.f64s(name)?.iter()) {
                let error = ((observed - usual) / scale).powi(2);
                row.push(FeatureError { column: name.clone(), observed, expected: *usual, error });
            }
        }
        Ok(rows)
    }

    fn reconstruction(&self, batch: &Batch, loss: RowLoss) -> Result<Vec<f64>> {
        let mean = |row: &Vec<FeatureError>| {
            if row.iter().any(|e| !e.observed.is_finite()) {
                return f64::NAN;
            }
            let errors = row.iter().map(|e| if loss == RowLoss::Mse { e.error } else { e.error.ln_1p() });
            errors.sum::<f64>() / row.len() as f64
        };
        Ok(self.errors(batch)?.iter().map(mean).collect())
    }
}

/// A model by name, looked up at every call: a swap shows at once.
pub(crate) struct Handle(String);

impl Handle {
    pub fn open(name: &str) -> Result<Self> {
        let handle = Self(name.to_owned());
        handle.with(|_, _| Ok(()))?;
        Ok(handle)
    }

    pub fn info(&self) -> Result<ModelInfo> {
        self.with(|model, _| Ok(model.info(&self.0)))
    }

    pub fn revision(&self) -> Result<u64> {
        self.with(|_, revision| Ok(revision))
    }

    pub fn reconstruction(&self, batch: &Batch, loss: RowLoss) -> Result<Vec<f64>> {
        self.with(|model, _| model.reconstruction(batch, loss))
    }

    pub fn tails(&self, batch: &Batch) -> Result<Vec<f64>> {
        self.with(|model, _| {
            model.calibrated()?;
            model.reconstruction(batch, RowLoss::Mse)
        })
    }

    pub fn limit(&self, false_alarms_per_day: f64) -> Result<f64> {
        self.with(|model, _| Ok((model.calibrated()? / false_alarms_per_day).log10().max(0.0)))
    }

    pub fn explain(&self, batch: &Batch, rows: &[u32]) -> Result<Vec<Vec<FeatureError>>> {
        self.with(|model, _| {
            let errors = model.errors(batch)?;
            let explain = |&row: &u32| {
                let row = errors.get(row as usize).ok_or_else(|| Error::NotFound(format!("no row {row}")))?;
                let mut row = row.clone();
                if row.iter().any(|e| !e.observed.is_finite()) {
                    row.clear();
                }
                row.sort_by(|a, b| b.error.total_cmp(&a.error));
                Ok(row)
            };
            rows.iter().map(explain).collect()
        })
    }

    fn with<T>(&self, f: impl FnOnce(&FakeModel, u64) -> Result<T>) -> Result<T> {
        MODELS.with_borrow(|models| match models.get(&self.0) {
            Some((model, revision)) => f(model, *revision),
            None => Err(Error::NotFound(format!("there is no model `{}`: see `testing::model`", self.0))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::Model;
    use crate::testing::batch;

    #[test]
    fn a_fake_model_scores_explains_and_is_swapped() {
        assert!(matches!(Model::open("ae"), Err(Error::NotFound(_))));
        model("ae", FakeModel::new([("x", 10.0, 2.0), ("y", 0.0, 1.0)]).rows_per_day(1000.0));
        let ae = Model::open("ae").unwrap();
        let b = batch().f64s("x", [10.0, 14.0, f64::NAN]).f64s("y", [0.0, 3.0, 0.0]).build();
        let tails = ae.tails(&b).unwrap();
        assert_eq!((&tails[..2], tails[2].is_nan()), (&[0.0, 6.5][..], true));
        let log1p = ae.reconstruction(&b, RowLoss::Log1p).unwrap()[1];
        assert!((log1p - (5f64.ln() + 10f64.ln()) / 2.0).abs() < 1e-12);
        let told = ae.explain(&b, &[1, 2]).unwrap();
        let y = FeatureError { column: "y".into(), observed: 3.0, expected: 0.0, error: 9.0 };
        assert_eq!((told[0].len(), &told[0][0], told[1].len()), (2, &y, 0));
        assert_eq!((ae.limit(1.0).unwrap(), ae.limit(1e9).unwrap(), ae.revision().unwrap()), (3.0, 0.0, 1));

        model("ae", FakeModel::new([("z", 0.0, 1.0)]).uncalibrated());
        assert_eq!((ae.revision().unwrap(), ae.info().unwrap().calibrated), (2, false));
        assert!(matches!(ae.reconstruction(&b, RowLoss::Mse), Err(Error::Schema(m)) if m.ends_with(": z")));
        assert!(ae.tails(&b).is_err() && ae.limit(1.0).is_err());
    }
}
