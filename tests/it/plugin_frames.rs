//! Frames are scored ahead: one panel for all models of all detectors of a thread, one call for all rows.

use crate::plugin_files::{FOLLOW, frame, offer, plan};
use crate::plugin_models::{AtTheCentre, calibration, model};
use kaminari::config::{DetectorPlan, PluginPlan};
use kaminari::detect::{Detector, PluginDetector};
use kaminari::inference::{Backend, InferenceError, Losses, Model, Panel, Scorer};
use kaminari::model::FeatureFrame;
use kaminari::plugin::{FrameScorer, PluginHost};
use serde_json::json;
use std::sync::{Arc, Mutex};

/// Says what was asked of it: rows and models of every call.
#[derive(Default)]
struct Counting {
    calls: Arc<Mutex<Vec<(usize, usize)>>>,
}

struct Counted<T: ?Sized> {
    inner: Box<T>,
    models: usize,
    calls: Arc<Mutex<Vec<(usize, usize)>>>,
}

impl Counting {
    fn take(&self) -> Vec<(usize, usize)> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl Backend for Counting {
    fn name(&self) -> String {
        "counting".into()
    }

    fn scorer(&self, model: &Arc<Model>) -> Result<Box<dyn Scorer>, InferenceError> {
        Ok(Box::new(Counted { inner: AtTheCentre.scorer(model)?, models: 1, calls: self.calls.clone() }))
    }

    fn panel(&self, models: &[Arc<Model>]) -> Result<Box<dyn Panel>, InferenceError> {
        let inner = AtTheCentre.panel(models)?;
        Ok(Box::new(Counted { inner, models: models.len(), calls: self.calls.clone() }))
    }
}

impl Scorer for Counted<dyn Scorer> {
    fn losses(&mut self, columns: &[&[f64]], out: &mut Losses) -> Result<(), InferenceError> {
        self.calls.lock().unwrap().push((columns[0].len(), self.models));
        self.inner.losses(columns, out)
    }

    fn explain(&mut self, row: &[f64]) -> Result<Vec<kaminari::inference::FeatureError>, InferenceError> {
        self.inner.explain(row)
    }
}

impl Panel for Counted<dyn Panel> {
    fn columns(&self) -> &[String] {
        self.inner.columns()
    }

    fn losses(&mut self, columns: &[&[f64]], out: &mut [Losses]) -> Result<(), InferenceError> {
        self.calls.lock().unwrap().push((columns[0].len(), self.models));
        self.inner.losses(columns, out)
    }
}

struct Thread {
    _dir: tempfile::TempDir,
    host: Arc<PluginHost>,
    backend: Arc<Counting>,
    scorer: Arc<FrameScorer>,
}

/// Models `one` of x and y, and `two` of y and z.
fn thread() -> Thread {
    let dir = tempfile::tempdir().unwrap();
    let host = PluginHost::new(&dir.path().join("cache")).unwrap();
    let backend = Arc::new(Counting::default());
    host.models().insert("one", model(&[("x", 10.0), ("y", 0.0)], Some(calibration())), backend.clone());
    host.models().insert("two", model(&[("y", 0.0), ("z", 5.0)], Some(calibration())), backend.clone());
    let scorer = Arc::new(FrameScorer::new(host.models().clone()));
    Thread { _dir: dir, host, backend, scorer }
}

impl Thread {
    fn detector(&self, id: &str, name: &str, config: serde_json::Value) -> PluginDetector {
        let plugin = PluginPlan { inference: vec!["one".into(), "two".into()], ..plan(name) };
        let plugin = self.host.load(&plugin).unwrap();
        let plan = DetectorPlan {
            id: id.into(),
            plugin: plugin.id().clone(),
            keys: None,
            config,
            follow: FOLLOW,
            on_state_mismatch: Default::default(),
        };
        PluginDetector::new(plugin, &plan, &offer(&["x", "y", "z"]), &self.scorer).unwrap()
    }
}

/// More rows than one call shows to a plugin.
const ROWS: usize = 20_000;

fn rows(seed: usize) -> FeatureFrame {
    let column = |at: usize| (0..ROWS).map(|row| ((row * 31 + at * 7 + seed) % 101) as f64).collect::<Vec<_>>();
    frame(&[("x", &column(1)), ("y", &column(2)), ("z", &column(3))])
}

#[test]
fn all_models_of_all_detectors_score_a_frame_in_one_go() {
    let thread = thread();
    let mut detectors = [
        thread.detector("a", "autoencoder", json!({ "model": "one" })),
        thread.detector("b", "autoencoder", json!({ "model": "two" })),
        thread.detector("c", "model", json!({ "model": "one", "ask": "mse" })),
    ];
    let judge = |detectors: &mut [PluginDetector], frame: &FeatureFrame| -> Vec<Vec<f64>> {
        detectors.iter_mut().map(|d| d.detect(frame, 0).scores).collect()
    };
    // Nobody has asked before: each model is scored where it is asked for, chunk by chunk.
    let first = judge(&mut detectors, &rows(0));
    assert_eq!(thread.backend.take().len(), 9);
    // From now on one call scores all rows for both models, and all see the same as before.
    let again = judge(&mut detectors, &rows(0));
    assert_eq!(thread.backend.take(), [(ROWS, 2)]);
    assert_eq!(first, again);
    assert!(first.iter().all(|scores| scores.len() == ROWS && scores.iter().all(|s| s.is_finite())));
    // A frame that one detector alone is shown is scored once all the same; and the next is another one.
    let other = judge(&mut detectors[2..], &rows(1));
    assert_eq!(thread.backend.take(), [(ROWS, 2)]);
    assert_ne!(other[0], again[2]);
}

#[test]
fn a_model_that_nobody_asks_for_any_more_is_left_out() {
    let thread = thread();
    let mut detectors = [
        thread.detector("a", "autoencoder", json!({ "model": "one" })),
        thread.detector("b", "autoencoder", json!({ "model": "two" })),
    ];
    for seed in 0..2 {
        detectors.iter_mut().for_each(|d| drop(d.detect(&rows(seed), 0)));
    }
    thread.backend.take();
    let mut models = Vec::new();
    for seed in 0..20 {
        detectors[0].detect(&rows(seed), 0);
        models.extend(thread.backend.take().iter().map(|(rows, models)| (*rows == ROWS, *models)));
    }
    assert_eq!(models.len(), 20);
    assert_eq!((models[0], models[19]), ((true, 2), (true, 1)), "{models:?}");
}

#[test]
fn a_swapped_model_is_scored_as_the_new_one_is() {
    let thread = thread();
    let mut detector = thread.detector("a", "model", json!({ "model": "one", "ask": "mse" }));
    let old = detector.detect(&rows(0), 0).scores;
    assert_eq!(detector.detect(&rows(0), 0).scores, old);
    let frame = rows(0);
    // Scored ahead by the old one, and swapped before the plugin asks.
    thread.scorer.scores("dst_addr", &frame.batch);
    thread.backend.take();
    let new = model(&[("x", 50.0), ("y", 0.0)], Some(calibration()));
    thread.host.models().insert("one", new, thread.backend.clone());
    let swapped = detector.detect(&frame, 0).scores;
    assert_ne!(swapped, old);
    assert_eq!(thread.backend.take().len(), 3, "chunk by chunk, by the new model");
    assert_eq!(detector.detect(&rows(0), 0).scores, swapped);
    assert_eq!(thread.backend.take(), [(ROWS, 1)]);
}
