//! The interface `inference`: models that the operator granted, one scorer each per instance. Comes in: batches by
//! handle; goes out: losses, tails, explanations. Refused: models not granted, batches without the model's features,
//! more rows to explain than [`EXPLAIN_ROWS`]. Moves `kaminari_inference_rows_total` and `_duration_seconds`.

use super::batch::Batch;
use super::bindings::kaminari::plugin::common::Error;
use super::bindings::kaminari::plugin::inference::{FeatureError, Host, HostModel, ModelInfo, RowLoss};
use super::frame::FrameScores;
use super::instance::State;
use super::limits::{EXPLAIN_ROWS, SCORED_ROWS};
use super::models::{Models, Slot};
use crate::calibration::{self, Calibration, Tail};
use crate::inference::{InferenceError, Losses, Model, Scorer};
use crate::telemetry;
use arrow_buffer::ScalarBuffer;
use metrics::{Counter, Histogram};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Instant;
use wasmtime::component::Resource;

/// A tail that follows drifting traffic: stands in for that of the model's own calibration.
#[derive(Clone, Debug)]
pub struct Followed {
    /// Revision of the model whose raw scores it was fitted to; with any other revision it does not count.
    pub revision: u64,
    /// Tail of the raw scores.
    pub tail: Arc<Tail>,
    /// Rows of benign traffic a day, all entities together.
    pub rows_per_day: f64,
}

/// What the last `tails` of a call was made of: food for whoever follows the drift.
#[derive(Clone, Debug, PartialEq)]
pub struct RawScores {
    /// Revision of the model that scored.
    pub revision: u64,
    /// [`raw_score`](crate::calibration::raw_score) of every row, in order; NaN: a feature of the row is not finite.
    pub scores: Vec<f64>,
}

/// A model that an instance has opened.
#[derive(Clone)]
pub struct ModelInUse {
    /// The operator's name for it.
    pub name: Arc<str>,
    /// What it is.
    pub model: Arc<Model>,
    /// Rises with every swap.
    pub revision: u64,
}

/// What stands behind a `model` handle: its name, which the operator granted.
pub struct ModelHandle(Arc<str>);

/// One instance's models.
#[derive(Default)]
pub struct Inference {
    models: Arc<Models>,
    granted: Vec<Arc<str>>,
    in_use: BTreeMap<Arc<str>, InUse>,
    followed: BTreeMap<Arc<str>, Followed>,
    /// What models said to the frame that is judged, before anybody asked, and the first row that is shown.
    pub frame: Option<(Arc<FrameScores>, usize)>,
}

/// A model that was used at least once.
struct InUse {
    /// The operator's name for it.
    name: Arc<str>,
    slot: Slot,
    scorer: Box<dyn Scorer>,
    losses: Losses,
    /// Compared with what the host has now, in this call.
    current: bool,
    raw: Option<RawScores>,
    meters: Meters,
}

struct Meters {
    scored: Counter,
    non_finite: Counter,
    seconds: Histogram,
}

impl Inference {
    pub fn new(models: Arc<Models>, granted: &[Arc<str>]) -> Self {
        Self { models, granted: granted.to_vec(), ..Self::default() }
    }

    /// A call begins: it sees what the host has now, and nothing was scored yet.
    pub fn begin(&mut self) {
        for in_use in self.in_use.values_mut() {
            (in_use.current, in_use.raw) = (false, None);
        }
    }

    pub fn follow(&mut self, model: &str, followed: Option<Followed>) {
        match followed {
            Some(followed) => drop(self.followed.insert(model.into(), followed)),
            None => drop(self.followed.remove(model)),
        }
    }

    pub fn take_raw_scores(&mut self, model: &str) -> Option<RawScores> {
        self.in_use.get_mut(model)?.raw.take()
    }

    /// The losses of every row of a batch, in the model's `losses`.
    fn score(&mut self, name: &Arc<str>, batch: &Batch) -> Result<&mut InUse, Error> {
        let frame = self.frame.clone();
        let in_use = self.model(name)?;
        let ahead = frame
            .as_ref()
            .zip(batch.frame_row)
            .and_then(|((frame, _), row)| frame.losses(name, in_use.slot.revision, row, batch.batch.num_rows()));
        match ahead {
            Some((mse, log1p)) => {
                in_use.losses.mse.clear();
                in_use.losses.mse.extend_from_slice(mse);
                in_use.losses.log1p.clear();
                in_use.losses.log1p.extend_from_slice(log1p);
            }
            None => in_use.score(batch)?,
        }
        in_use.count();
        Ok(in_use)
    }

    /// The model as it is in this call, with its scorer.
    fn model(&mut self, name: &Arc<str>) -> Result<&mut InUse, Error> {
        let slot = || self.models.slot(name).ok_or_else(|| Error::NotFound(format!("there is no model `{name}`")));
        match self.in_use.entry(name.clone()) {
            Entry::Vacant(vacant) => Ok(vacant.insert(InUse::new(name, slot()?)?)),
            Entry::Occupied(occupied) => {
                let in_use = occupied.into_mut();
                if !in_use.current {
                    let slot = slot()?;
                    if slot.revision != in_use.slot.revision {
                        *in_use = InUse::new(name, slot)?;
                    }
                    in_use.current = true;
                }
                Ok(in_use)
            }
        }
    }

    /// The models that were used so far, as they are now.
    pub fn models(&self) -> Vec<ModelInUse> {
        let told = |in_use: &InUse| ModelInUse {
            name: in_use.name.clone(),
            model: in_use.slot.model.clone(),
            revision: in_use.slot.revision,
        };
        self.in_use.values().map(told).collect()
    }

    fn open(&mut self, plugin: &str, name: &str) -> Result<ModelHandle, Error> {
        let Some(name) = self.granted.iter().find(|granted| ***granted == *name).cloned() else {
            return Err(Error::Denied(format!("model `{name}`: name it in `plugins.{plugin}.inference`")));
        };
        self.model(&name)?;
        Ok(ModelHandle(name))
    }

    fn tails(&mut self, name: &Arc<str>, batch: &Batch) -> Result<Vec<f64>, Error> {
        let followed = self.followed.get(name).cloned();
        self.model(name)?.calibration()?;
        let in_use = self.score(name, batch)?;
        let calibration = in_use.calibration()?;
        let losses = in_use.losses.mse.iter().zip(&in_use.losses.log1p);
        let raw = losses.map(|(&mse, &log1p)| calibration::raw_score(mse.into(), log1p.into()));
        let scores: Vec<f64> = raw.collect();
        let revision = in_use.slot.revision;
        let tail = followed.as_ref().filter(|f| f.revision == revision).map_or(&calibration.score, |f| &f.tail);
        let tails = scores.iter().map(|&score| tail.log10(score)).collect();
        in_use.raw = Some(RawScores { revision, scores });
        Ok(tails)
    }

    fn limit(&mut self, name: &Arc<str>, false_alarms_per_day: f64) -> Result<f64, Error> {
        if !(false_alarms_per_day > 0.0 && false_alarms_per_day.is_finite()) {
            return Err(Error::Other(format!("false alarms a day must be above 0, not {false_alarms_per_day}")));
        }
        let followed = self.followed.get(name).cloned();
        let in_use = self.model(name)?;
        let rows_per_day = followed.filter(|f| f.revision == in_use.slot.revision).map(|f| f.rows_per_day);
        let rows_per_day = rows_per_day.map_or_else(|| in_use.calibration().map(|c| c.rows_per_day), Ok)?;
        Ok(calibration::limit(false_alarms_per_day, rows_per_day))
    }
}

impl InUse {
    fn new(name: &Arc<str>, slot: Slot) -> Result<Self, Error> {
        let scorer = slot.backend.scorer(&slot.model).map_err(|e| failed(name, &e))?;
        let rows = |outcome: &'static str| metrics::counter!(telemetry::INFERENCE_ROWS, "model" => name.to_string(), "outcome" => outcome);
        let seconds = metrics::histogram!(telemetry::INFERENCE_DURATION, "model" => name.to_string());
        let meters = Meters { scored: rows("scored"), non_finite: rows("non_finite"), seconds };
        Ok(Self { name: name.clone(), slot, scorer, losses: Losses::default(), current: true, raw: None, meters })
    }

    fn calibration(&self) -> Result<&Calibration, Error> {
        let calibration = self.slot.model.manifest.calibration.as_ref();
        calibration.ok_or_else(|| {
            let name = &self.name;
            let help = "only its losses can be asked for; `kaminari train --network` fits one";
            Error::Other(format!("model `{name}` has no calibration: {help}"))
        })
    }

    /// The model's features, in its order; or a complaint that names all that the batch lacks.
    fn columns(&self, batch: &Batch) -> Result<Vec<ScalarBuffer<f64>>, Error> {
        let (mut columns, mut missing) = (Vec::new(), Vec::new());
        for feature in &self.slot.model.manifest.features {
            let column = batch.batch.schema_ref().index_of(&feature.name).ok();
            match column.and_then(|column| batch.f64s(column as u32).ok()) {
                Some(column) => columns.push(column),
                None => missing.push(format!("`{}`", feature.name)),
            }
        }
        if missing.is_empty() {
            return Ok(columns);
        }
        let (name, missing) = (&self.name, missing.join(", "));
        Err(Error::Schema(format!("model `{name}` takes features that are no numeric columns of the batch: {missing}")))
    }

    /// The losses of every row, into `self.losses`.
    fn score(&mut self, batch: &Batch) -> Result<(), Error> {
        let rows = batch.batch.num_rows();
        if rows > SCORED_ROWS {
            return Err(Error::Quota(format!("{rows} rows to score: at most {SCORED_ROWS} a call")));
        }
        let columns = self.columns(batch)?;
        let columns: Vec<&[f64]> = columns.iter().map(|column| &**column).collect();
        let began = Instant::now();
        let scored = self.scorer.losses(&columns, &mut self.losses);
        scored.map_err(|e| failed(&self.name, &e))?;
        self.meters.seconds.record(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Rows that were asked for.
    fn count(&self) {
        let non_finite = self.losses.mse.iter().filter(|loss| loss.is_nan()).count();
        self.meters.non_finite.increment(non_finite as u64);
        self.meters.scored.increment((self.losses.mse.len() - non_finite) as u64);
    }

    fn explain(&mut self, batch: &Batch, rows: &[u32]) -> Result<Vec<Vec<FeatureError>>, Error> {
        if rows.len() > EXPLAIN_ROWS {
            return Err(Error::Quota(format!("{} rows to explain: at most {EXPLAIN_ROWS} a call", rows.len())));
        }
        let have = batch.batch.num_rows();
        if let Some(row) = rows.iter().find(|&&row| row as usize >= have) {
            return Err(Error::NotFound(format!("no row {row}: the batch has {have}")));
        }
        let columns = self.columns(batch)?;
        rows.iter().map(|&row| self.explain_row(columns.iter().map(|column| column[row as usize]).collect())).collect()
    }

    fn explain_row(&mut self, row: Vec<f64>) -> Result<Vec<FeatureError>, Error> {
        if row.iter().any(|x| !x.is_finite()) {
            return Ok(Vec::new());
        }
        let errors = self.scorer.explain(&row).map_err(|e| failed(&self.name, &e))?;
        let features = &self.slot.model.manifest.features;
        let told = errors.into_iter().filter_map(|e| {
            let column = features.get(e.feature)?.name.clone();
            Some(FeatureError { column, observed: e.observed, expected: e.expected, error: e.error })
        });
        Ok(told.collect())
    }
}

fn failed(model: &str, error: &InferenceError) -> Error {
    Error::Other(format!("model `{model}`: {error}"))
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for State {}

impl HostModel for State {
    fn open(&mut self, name: String) -> Answer<Resource<ModelHandle>> {
        Ok(match self.inference.open(&self.id, &name) {
            Ok(handle) => Ok(self.table.push(handle)?),
            Err(e) => Err(e),
        })
    }

    fn info(&mut self, model: Resource<ModelHandle>) -> Answer<ModelInfo> {
        let name = &self.table.get(&model)?.0;
        Ok(self.inference.model(name).map(|in_use| {
            let manifest = &in_use.slot.model.manifest;
            ModelInfo {
                name: manifest.name.clone(),
                version: manifest.version.clone(),
                features: manifest.features.iter().map(|feature| feature.name.clone()).collect(),
                calibrated: manifest.calibration.is_some(),
            }
        }))
    }

    fn revision(&mut self, model: Resource<ModelHandle>) -> Answer<u64> {
        let name = &self.table.get(&model)?.0;
        Ok(self.inference.model(name).map(|in_use| in_use.slot.revision))
    }

    fn reconstruction(
        &mut self,
        model: Resource<ModelHandle>,
        batch: Resource<Batch>,
        loss: RowLoss,
    ) -> Answer<Vec<f64>> {
        let (name, batch) = (&self.table.get(&model)?.0, self.table.get(&batch)?);
        Ok(self.inference.score(name, batch).map(|in_use| {
            let losses = match loss {
                RowLoss::Mse => &in_use.losses.mse,
                RowLoss::Log1p => &in_use.losses.log1p,
            };
            losses.iter().map(|&loss| loss.into()).collect()
        }))
    }

    fn tails(&mut self, model: Resource<ModelHandle>, batch: Resource<Batch>) -> Answer<Vec<f64>> {
        let (name, batch) = (&self.table.get(&model)?.0, self.table.get(&batch)?);
        Ok(self.inference.tails(name, batch))
    }

    fn limit(&mut self, model: Resource<ModelHandle>, false_alarms_per_day: f64) -> Answer<f64> {
        let name = &self.table.get(&model)?.0;
        Ok(self.inference.limit(name, false_alarms_per_day))
    }

    fn explain(
        &mut self,
        model: Resource<ModelHandle>,
        batch: Resource<Batch>,
        rows: Vec<u32>,
    ) -> Answer<Vec<Vec<FeatureError>>> {
        let (name, batch) = (&self.table.get(&model)?.0, self.table.get(&batch)?);
        Ok(self.inference.model(name).and_then(|in_use| in_use.explain(batch, &rows)))
    }

    fn drop(&mut self, model: Resource<ModelHandle>) -> wasmtime::Result<()> {
        self.table.delete(model).map(drop).map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::{Activation, Backend, Model, Network};
    use arrow_array::{Float64Array, Int64Array, RecordBatch};

    /// Explains nothing and loses nothing.
    struct Silent;

    impl Backend for Silent {
        fn name(&self) -> String {
            "silent".into()
        }
        fn scorer(&self, _: &Arc<Model>) -> Result<Box<dyn Scorer>, InferenceError> {
            Ok(Box::new(Silent))
        }
    }

    impl Scorer for Silent {
        fn losses(&mut self, columns: &[&[f64]], out: &mut Losses) -> Result<(), InferenceError> {
            out.mse = columns[0].iter().map(|&x| x as f32).collect();
            Ok(())
        }
        fn explain(&mut self, _: &[f64]) -> Result<Vec<crate::inference::FeatureError>, InferenceError> {
            Ok(Vec::new())
        }
    }

    /// Scores with a model of the feature `n`.
    fn inference() -> Inference {
        let manifest = "format_version = 1\nname = 'm'\nfeatures = [{ name = 'n', center = 0.0, scale = 1.0 }]\n\
                        architecture = { kind = 'mlp-autoencoder', dims = [1, 1], activation = 'relu' }";
        let weights = Network { layers: Vec::new(), activation: Activation::Relu, code: None }.into();
        let manifest = toml::from_str(manifest).unwrap();
        let model = Model { manifest, weights, digest: String::new(), dir: Default::default() };
        let models = Arc::new(Models::default());
        models.insert("m", Arc::new(model), Arc::new(Silent));
        Inference::new(models, &["m".into()])
    }

    fn batch(column: Arc<dyn arrow_array::Array>) -> Batch {
        Batch::lent(RecordBatch::try_from_iter([("n", column)]).unwrap())
    }

    #[test]
    fn so_many_rows_are_explained_in_one_call() {
        let mut inference = inference();
        let ModelHandle(name) = inference.open("p", "m").unwrap();
        let rows = batch(Arc::new(Float64Array::from(vec![1.0; 2 * EXPLAIN_ROWS])));
        let asked: Vec<u32> = (0..EXPLAIN_ROWS as u32 + 1).collect();
        let model = inference.model(&name).unwrap();
        assert_eq!(model.explain(&rows, &asked[1..]).unwrap().len(), EXPLAIN_ROWS);
        assert!(matches!(model.explain(&rows, &asked), Err(Error::Quota(_))));
        // Also where it is always the same row.
        assert!(matches!(model.explain(&rows, &vec![0; EXPLAIN_ROWS + 1]), Err(Error::Quota(_))));
    }

    #[test]
    fn any_number_will_do_for_a_feature() {
        let mut inference = inference();
        let ModelHandle(name) = inference.open("p", "m").unwrap();
        let model = inference.model(&name).unwrap();
        model.score(&batch(Arc::new(Int64Array::from(vec![Some(3), None])))).unwrap();
        assert!(model.losses.mse[0] == 3.0 && model.losses.mse[1].is_nan());
        let text = batch(Arc::new(arrow_array::StringArray::from(vec!["3"])));
        assert!(matches!(model.score(&text), Err(Error::Schema(m)) if m.ends_with(": `n`")));
    }

    #[test]
    fn a_model_stays_the_same_during_a_call() {
        let mut inference = inference();
        let ModelHandle(name) = inference.open("p", "m").unwrap();
        let (model, first) = inference.models.get("m").unwrap();
        assert_eq!(inference.models.insert("m", model, Arc::new(Silent)), first + 1);
        assert_eq!(inference.model(&name).unwrap().slot.revision, first);
        inference.begin();
        assert_eq!(inference.model(&name).unwrap().slot.revision, first + 1);
    }
}
