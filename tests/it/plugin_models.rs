//! Plugins that score with the host's models: grants, swaps, what is missing, and that the guest gets what the host's
//! scorer says. The fixture `model` asks one thing in every call.

use crate::plugin_faults::{metered, sample};
use crate::plugin_files::{detector, frame, plan};
use kaminari::calibration::{Calibration, Tail, raw_score};
use kaminari::config::PluginPlan;
use kaminari::detect::Detector;
use kaminari::inference::{
    Activation, Architecture, Backend, FORMAT_VERSION, FeatureError, FeatureSpec, InferenceError, Losses, Manifest,
    Model, Network, Scorer, Transform, WeightsFile,
};
use kaminari::model::Verdict;
use kaminari::plugin::{CallError, CallErrorKind, Followed, PluginHost, PluginInstance, PluginReply};
use serde_json::json;
use std::sync::Arc;

/// Expects every feature at its centre.
pub struct AtTheCentre;

struct CentreScorer(Arc<Model>);

impl Backend for AtTheCentre {
    fn name(&self) -> String {
        "test".into()
    }

    fn scorer(&self, model: &Arc<Model>) -> Result<Box<dyn Scorer>, InferenceError> {
        Ok(Box::new(CentreScorer(model.clone())))
    }
}

impl Scorer for CentreScorer {
    fn losses(&mut self, columns: &[&[f64]], out: &mut Losses) -> Result<(), InferenceError> {
        *out = Losses::default();
        for row in 0..columns[0].len() {
            let row: Vec<f64> = columns.iter().map(|c| c[row]).collect();
            let errors: Vec<f64> = self.explain(&row)?.iter().map(|e| e.error).collect();
            let mean = |f: fn(f64) -> f64| (errors.iter().map(|e| f(*e)).sum::<f64>() / errors.len() as f64) as f32;
            out.mse.push(mean(|e| e));
            out.log1p.push(mean(f64::ln_1p));
        }
        Ok(())
    }

    fn explain(&mut self, row: &[f64]) -> Result<Vec<FeatureError>, InferenceError> {
        let error = |(feature, (spec, &observed)): (usize, (&FeatureSpec, &f64))| {
            let error = ((observed - spec.center) / spec.scale).powi(2);
            FeatureError { feature, observed, expected: spec.center, error }
        };
        let mut errors: Vec<_> = self.0.manifest.features.iter().zip(row).enumerate().map(error).collect();
        errors.sort_by(|a, b| b.error.total_cmp(&a.error));
        Ok(errors)
    }
}

/// The tail of scores that are exponential, with that mean.
fn tail(mean: f64) -> Tail {
    let scores: Vec<f64> = (0..10_000).map(|i| -mean * (1.0 - (f64::from(i) + 0.5) / 10_000.0).ln()).collect();
    Tail::fit(&scores, 0.01).unwrap()
}

pub fn calibration() -> Calibration {
    Calibration { rows_per_day: 1e6, score: tail(0.5) }
}

/// Features with their centres; the scale of all is 10.
pub fn model(features: &[(&str, f64)], calibration: Option<Calibration>) -> Arc<Model> {
    let spec = |&(name, center): &(&str, f64)| FeatureSpec {
        name: name.into(),
        transform: Transform::Identity,
        center,
        scale: 10.0,
        clip: f64::MAX,
    };
    let width = features.len();
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        name: "ddos".into(),
        version: "7".into(),
        input: None,
        architecture: Architecture {
            kind: "mlp-autoencoder".into(),
            dims: vec![width, width],
            activation: Some(Activation::Relu),
            ..Architecture::default()
        },
        weights: WeightsFile::default(),
        features: features.iter().map(spec).collect(),
        calibration,
        golden: None,
        training: None,
    };
    let weights = Network { layers: Vec::new(), activation: Activation::Relu, code: None }.into();
    Arc::new(Model { manifest, weights, digest: String::new(), dir: Default::default() })
}

/// A host with the model `ae` of the features `x` (usually 10) and `y` (usually 0).
fn host() -> (tempfile::TempDir, Arc<PluginHost>) {
    let dir = tempfile::tempdir().unwrap();
    let host = PluginHost::new(&dir.path().join("cache")).unwrap();
    host.models().insert("ae", model(&[("x", 10.0), ("y", 0.0)], Some(calibration())), Arc::new(AtTheCentre));
    (dir, host)
}

fn granted(name: &str) -> PluginPlan {
    PluginPlan { inference: vec!["ae".into(), "raw".into(), "gone".into()], ..plan(name) }
}

fn asker(host: &PluginHost, plan: &PluginPlan, config: serde_json::Value) -> PluginInstance {
    host.load(plan).unwrap().instantiate("p", &config.to_string()).unwrap()
}

const X: [f64; 4] = [10.0, 30.0, f64::NAN, 10.0];
const Y: [f64; 4] = [0.0, 5.0, 0.0, f64::INFINITY];

fn ask(instance: &mut PluginInstance) -> Result<Verdict, CallError> {
    let frame = frame(&[("x", &X), ("y", &Y)]);
    instance.detect(&frame.window, frame.batch)
}

fn reply(answer: Result<Verdict, CallError>) -> PluginReply {
    match answer.unwrap_err().kind {
        CallErrorKind::Plugin(reply) => reply,
        other => panic!("{other:?}"),
    }
}

/// Losses of the rows as the scorer itself has them.
fn losses() -> Losses {
    let mut losses = Losses::default();
    let (model, _) = host().1.models().get("ae").unwrap();
    AtTheCentre.scorer(&model).unwrap().losses(&[&X, &Y], &mut losses).unwrap();
    losses
}

/// Bit for bit, so that NaN is NaN.
fn bits(values: impl IntoIterator<Item = f64>) -> Vec<u64> {
    values.into_iter().map(|x| if x.is_nan() { f64::NAN } else { x }.to_bits()).collect()
}

#[test]
fn a_model_that_is_not_granted_is_refused() {
    let (_dir, host) = host();
    let config = json!({ "model": "ae", "ask": "mse" });
    let mut refused = asker(&host, &plan("model"), config.clone());
    let denied = PluginReply::Denied("model `ae`: name it in `plugins.model.inference`".into());
    assert_eq!(reply(ask(&mut refused)), denied);
    assert_eq!(ask(&mut asker(&host, &granted("model"), config)).unwrap().scores.len(), 4, "its twin is granted it");
    // Not even whether it exists is told.
    let mut unknown = asker(&host, &plan("model"), json!({ "model": "nothing", "ask": "mse" }));
    assert!(matches!(reply(ask(&mut unknown)), PluginReply::Denied(_)));
    let mut gone = asker(&host, &granted("model"), json!({ "model": "gone", "ask": "mse" }));
    assert_eq!(reply(ask(&mut gone)), PluginReply::NotFound("there is no model `gone`".into()));
}

#[test]
fn a_window_without_rows_is_scored_too() {
    let (_dir, host) = host();
    let mut instance = asker(&host, &granted("model"), json!({ "model": "ae", "ask": "tails" }));
    let frame = frame(&[("x", &X), ("y", &Y)]);
    let verdict = instance.detect(&frame.window, frame.batch.slice(0, 0)).unwrap();
    assert!(verdict.scores.is_empty() && verdict.alerts.is_empty());
}

#[test]
fn a_plugin_gets_what_the_scorer_says() {
    let (_dir, host) = host();
    let plugin = host.load(&granted("model")).unwrap();
    let answer = |what: &str| {
        let config = json!({ "model": "ae", "ask": what, "false_alarms_per_day": 10.0 });
        ask(&mut plugin.instantiate("p", &config.to_string()).unwrap()).unwrap()
    };
    let (losses, calibration) = (losses(), calibration());
    assert!(losses.mse[1] == 2.125 && losses.mse[2].is_nan(), "{losses:?}");
    assert_eq!(bits(answer("mse").scores)[..3], bits(losses.mse.iter().map(|&x| x.into()))[..3]);
    assert_eq!(bits(answer("log1p").scores)[..3], bits(losses.log1p.iter().map(|&x| x.into()))[..3]);
    let rows = losses.mse.iter().zip(&losses.log1p).take(3);
    let tails = rows.map(|(&mse, &log1p)| calibration.tail_score(mse.into(), log1p.into()));
    let tails = bits(tails);
    assert_eq!(bits(answer("tails").scores)[..3], tails);
    assert_eq!(answer("limit").scores, [5.0; 4]);
    assert_eq!(answer("info").alerts[0].message, "ddos 7 [\"x\", \"y\"] true");

    let told = answer("explain").alerts;
    let row = |row: usize| {
        let told = told[row].contributions.iter();
        told.map(|c| (&*c.column, c.observed, c.expected, c.weight)).collect::<Vec<_>>()
    };
    assert_eq!(row(1), [("x", 30.0, 10.0, 4.0), ("y", 5.0, 0.0, 0.25)]);
    assert_eq!((row(2), row(3)), (vec![], vec![]), "not finite: no error to explain");
}

#[test]
fn a_swapped_model_scores_from_the_next_call_on() {
    let (_dir, host) = host();
    let mut mse = asker(&host, &granted("model"), json!({ "model": "ae", "ask": "mse" }));
    let mut revision = asker(&host, &granted("model"), json!({ "model": "ae", "ask": "revision" }));
    assert_eq!((ask(&mut mse).unwrap().scores[1], ask(&mut revision).unwrap().scores[0]), (2.125, 1.0));

    let swap = |features: &[(&str, f64)]| host.models().insert("ae", model(features, None), Arc::new(AtTheCentre));
    assert_eq!(swap(&[("x", 20.0), ("y", 5.0)]), 2);
    assert_eq!((ask(&mut mse).unwrap().scores[1], ask(&mut revision).unwrap().scores[0]), (0.5, 2.0));
    // Other features, fewer or more than the batch has.
    swap(&[("y", 15.0)]);
    assert_eq!(ask(&mut mse).unwrap().scores[1], 1.0);
    swap(&[("flows", 0.0), ("x", 0.0), ("key", 0.0)]);
    let schema = "model `ae` takes features that are no numeric columns of the batch: `flows`, `key`";
    assert_eq!(reply(ask(&mut mse)), PluginReply::Schema(schema.into()));
    swap(&[("x", 20.0)]);
    assert_eq!(ask(&mut mse).unwrap().scores[1], 1.0, "the instance lived on");
}

#[test]
fn tails_follow_what_the_engine_follows() {
    let (_dir, host) = host();
    let config = |ask: &str| json!({ "model": "ae", "ask": ask, "false_alarms_per_day": 1.0 });
    let mut tails = asker(&host, &granted("model"), config("tails"));
    let mut limit = asker(&host, &granted("model"), config("limit"));
    let own = ask(&mut tails).unwrap().scores[1];
    let raw = tails.take_raw_scores("ae").unwrap();
    let losses = losses();
    assert_eq!((raw.revision, raw.scores.len()), (1, 4));
    assert_eq!(raw.scores[1], raw_score(losses.mse[1].into(), losses.log1p[1].into()));
    assert!(raw.scores[2].is_nan());
    assert_eq!((tails.take_raw_scores("ae"), tails.take_raw_scores("raw")), (None, None));

    let followed = |revision| Followed { revision, tail: Arc::new(tail(5.0)), rows_per_day: 1e4 };
    for instance in [&mut tails, &mut limit] {
        instance.follow("ae", Some(followed(1)));
    }
    let drifted = ask(&mut tails).unwrap().scores[1];
    assert!(drifted < own, "{drifted} {own}");
    assert_eq!(drifted, tail(5.0).log10(raw.scores[1]));
    assert_eq!(ask(&mut limit).unwrap().scores[0], 4.0);
    assert_eq!(limit.take_raw_scores("ae"), None, "no tails were asked for");
    // Of another revision: not for this one.
    for instance in [&mut tails, &mut limit] {
        instance.follow("ae", Some(followed(2)));
    }
    assert_eq!((ask(&mut tails).unwrap().scores[1], ask(&mut limit).unwrap().scores[0]), (own, 6.0));
    tails.follow("ae", None);
    assert_eq!(ask(&mut tails).unwrap().scores[1], own);
}

#[test]
fn what_a_model_cannot_answer_is_told() {
    let (_dir, host) = host();
    host.models().insert("raw", model(&[("x", 10.0)], None), Arc::new(AtTheCentre));
    let plugin = host.load(&granted("model")).unwrap();
    let answer = |config: serde_json::Value| ask(&mut plugin.instantiate("p", &config.to_string()).unwrap());
    for what in ["tails", "limit"] {
        let reply = reply(answer(json!({ "model": "raw", "ask": what, "false_alarms_per_day": 1.0 })));
        assert!(
            matches!(&reply, PluginReply::Other(m) if m.starts_with("model `raw` has no calibration")),
            "{reply:?}"
        );
    }
    assert_eq!(answer(json!({ "model": "raw", "ask": "mse" })).unwrap().scores[1], 4.0);
    for alarms in [0.0, -1.0] {
        let reply = reply(answer(json!({ "model": "ae", "ask": "limit", "false_alarms_per_day": alarms })));
        assert!(matches!(&reply, PluginReply::Other(m) if m.contains("must be above 0")), "{reply:?}");
    }
    let beyond = reply(answer(json!({ "model": "ae", "ask": "explain_beyond" })));
    assert_eq!(beyond, PluginReply::NotFound("no row 4: the batch has 4".into()));
}

#[test]
fn rows_offered_to_a_model_are_counted_by_outcome() {
    metered(|metrics| {
        let (_dir, host) = host();
        let config = json!({ "model": "ae", "ask": "tails" });
        let mut instance = asker(&host, &granted("model"), config);
        let frame = frame(&[("x", &[1.0, f64::NAN, 2.0]), ("y", &[0.0; 3])]);
        for _ in 0..2 {
            instance.detect(&frame.window, frame.batch.clone()).unwrap();
        }
        let rows =
            |outcome| sample(metrics, &format!("kaminari_inference_rows_total{{model=\"ae\",outcome=\"{outcome}\"}}"));
        assert_eq!((rows("scored"), rows("non_finite")), (4.0, 2.0));
        assert_eq!(sample(metrics, "kaminari_inference_duration_seconds_count{model=\"ae\"}"), 2.0);
    });
}

#[test]
fn the_autoencoder_plugin_alerts_through_its_sandbox() {
    let (_dir, host) = host();
    let plugin = host.load(&granted("autoencoder")).unwrap();
    let mut detector = detector(&plugin, json!({ "model": "ae" }), &["x", "y"]);
    let mut x = vec![10.0; 20_000];
    (x[10_000], x[15_000]) = (1e6, f64::NAN);
    let frame = frame(&[("x", &x), ("y", &vec![0.0; 20_000])]);
    let judged = detector.detect(&frame, 0);
    assert_eq!((judged.scores.len(), judged.scores[15_000].is_nan()), (20_000, true));
    let [found] = &judged.detections[..] else { panic!("{:?}", judged.detections) };
    assert_eq!((found.alert.row, &*found.alert.kind, found.alert.threshold), (10_000, "anomaly", 6.0));
    assert_eq!(found.alert.score, judged.scores[10_000]);
    let told = &found.alert.contributions[..];
    assert_eq!((told.len(), &*told[0].column, told[0].observed, told[0].expected), (1, "x", 1e6, 10.0));
    assert!(found.alert.message.contains("x is 1.00 M where 10.0 is expected"), "{}", found.alert.message);
}

#[test]
fn the_autoencoder_plugin_says_what_it_lacks() {
    let (_dir, host) = host();
    let said = |plan: &PluginPlan, config: serde_json::Value| {
        let error = host.load(plan).unwrap().instantiate("p", &config.to_string()).err().expect("refused");
        error.to_string()
    };
    let denied = said(&plan("autoencoder"), json!({ "model": "ae" }));
    assert!(denied.ends_with("bad config at `model`: denied: model `ae`: name it in `plugins.autoencoder.inference`"));
    let gone = said(&granted("autoencoder"), json!({ "model": "gone" }));
    assert!(gone.ends_with("bad config at `model`: not found: there is no model `gone`"), "{gone}");

    let plugin = host.load(&granted("autoencoder")).unwrap();
    let mut instance = plugin.instantiate("p", &json!({ "model": "ae" }).to_string()).unwrap();
    let error = instance.requires(frame(&[("x", &[1.0])]).batch.schema_ref()).unwrap_err().to_string();
    assert!(error.ends_with("model `ae` takes features that the pipeline does not have: `y`"), "{error}");
}
