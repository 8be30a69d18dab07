//! Whole trainings on small made-up traffic.

use super::random::Random;
use super::*;
use crate::inference::Input;
use crate::inference::reference::{forward, losses};
use crate::model::time::SECOND;

/// Rows of one hidden level that four features follow, each with its own noise, and one that never changes.
pub(super) fn made(rows: usize, seed: u64) -> Rows {
    let mut random = Random::new(seed);
    let mut columns = vec![Vec::new(); 5];
    for _ in 0..rows {
        let level = 0.02 + 0.98 * random.unit();
        let mut noise = || 1.0 + 0.1 * (random.unit() - 0.5);
        columns[0].push((1000.0 * level * noise()).round());
        columns[1].push(60_000.0 * level * noise());
        columns[2].push(0.2 + 0.6 * level * noise());
        columns[3].push(1.0 - 0.8 * level * noise());
        columns[4].push(0.0);
    }
    let names = ["flows", "bytes", "udp_share", "tcp_share", "icmp_share"];
    Rows {
        names: names.map(String::from).to_vec(),
        columns,
        time_ns: (1..=rows as u64).map(|i| i * 10 * SECOND).collect(),
    }
}

pub(super) fn quick() -> Options {
    Options { hidden: Some(vec![8, 2, 8]), epochs: 15, least_steps: 600, seeds: vec![1, 2], ..Options::default() }
}

fn trained(training: &Rows, validation: &Rows, options: &Options) -> Trained {
    train(training, validation, options, &mut |_| ()).expect("trains")
}

fn made_model() -> (Rows, Trained) {
    let validation = made(800, 8);
    let model = trained(&made(3000, 7), &validation, &quick());
    (validation, model)
}

#[test]
fn it_learns_what_belongs_together() {
    let (validation, model) = made_model();
    let run = &model.report.runs[model.report.best];
    let (first, best) = (run.epochs[0].validation, run.best().validation);
    assert!(best < first / 5.0, "from {first} to {best}");
    assert!(model.report.runs.iter().all(|r| best <= r.best().validation));
    // Few flows with many bytes: each value is common, the two together are not.
    let mut strange = validation.row(0);
    (strange[0], strange[1], strange[2], strange[3]) = (20.0, 58_000.0, 0.75, 0.9);
    let (mse, log1p) = losses(&model.network, &model.manifest.features, &strange);
    let worst = |v: &[f32]| f64::from(v.iter().copied().fold(0.0, f32::max));
    assert!(mse > 2.0 * worst(&model.validation_mse), "{mse} against {}", worst(&model.validation_mse));
    assert!(log1p > worst(&model.validation_log1p));
}

#[test]
fn a_constant_feature_cannot_own_the_error() {
    let (validation, model) = made_model();
    let icmp = &model.report.features[4];
    assert!(icmp.floored() && icmp.scale > 0.0 && icmp.share < 0.05, "{icmp:?}");
    // A stray share of 1 % in a feature that was always 0 is no attack.
    let mut row = validation.row(400);
    let before = losses(&model.network, &model.manifest.features, &row).0;
    row[4] = 0.01;
    let after = losses(&model.network, &model.manifest.features, &row).0;
    assert!(after - before < 0.05, "from {before} to {after}");
}

#[test]
fn the_same_seed_makes_the_same_model_and_another_one_another() {
    let (training, validation) = (made(1000, 7), made(300, 8));
    let options = Options { seeds: vec![5], least_steps: 50, epochs: 2, ..quick() };
    let once = trained(&training, &validation, &options);
    let again = trained(&training, &validation, &options);
    assert_eq!(once.network, again.network);
    assert_eq!(once.manifest, again.manifest);
    assert_eq!(once.report, again.report);
    let other = trained(&training, &validation, &Options { seeds: vec![6], ..options });
    assert_ne!(once.network, other.network);
}

#[test]
fn losses_agree_with_the_reference_and_golden_rows_span_them() {
    let (validation, model) = made_model();
    assert_eq!(model.validation, validation);
    for at in 0..validation.len() {
        let (mse, log1p) = losses(&model.network, &model.manifest.features, &validation.row(at));
        for (got, want) in [(model.validation_mse[at], mse), (model.validation_log1p[at], log1p)] {
            let off = (f64::from(got) - want).abs();
            assert!(off <= 1e-6 || off <= 1e-4 * want, "row {at}: {got} against {want}");
        }
    }
    let golden = model.manifest.golden.expect("golden rows");
    assert_eq!((golden.rows.len(), golden.mse.len(), golden.log1p.len()), (32, 32, 32));
    assert!(golden.mse.is_sorted_by(|a, b| *a <= *b * (1.0 + 1e-4) + 1e-6), "{:?}", golden.mse);
    let worst = model.validation_mse.iter().copied().fold(0.0, f32::max);
    assert!((golden.mse[31] - f64::from(worst)).abs() < 1e-4 * golden.mse[31]);
}

#[test]
fn the_manifest_says_what_was_trained() {
    let mut training = made(1000, 7);
    training.columns[2][17] = f64::NAN;
    training.columns[0][20] = f64::INFINITY;
    let mut validation = made(300, 8);
    validation.columns[1][3] = f64::NAN;
    let input = Input { window_secs: 10.0, level: "dst_addr".into() };
    let options = Options { name: "mine".into(), input: Some(input), epochs: 1, least_steps: 1, ..quick() };
    let model = trained(&training, &validation, &options);
    assert_eq!((model.report.training.rows, model.report.training.left_out), (998, 2));
    assert_eq!((model.report.validation.rows, model.report.validation.left_out), (299, 1));
    assert_eq!((model.validation_mse.len(), model.validation.len()), (299, 299));
    assert_eq!(model.manifest.architecture.dims, [5, 8, 2, 8, 5]);
    let shapes: Vec<_> =
        model.network.layers.iter().map(|l| (l.inputs, l.outputs, l.weight.len(), l.bias.len())).collect();
    assert_eq!(shapes, [(5, 8, 40, 8), (8, 2, 16, 2), (2, 8, 16, 8), (8, 5, 40, 5)]);
    let told = model.manifest.training.expect("training");
    assert_eq!((told.rows, told.validation_rows, told.seeds, told.epochs), (998, 299, 2, 1));
    assert_eq!((told.from.as_str(), told.to.as_str()), ("1970-01-01T00:00:00Z", "1970-01-01T02:46:40Z"));
}

#[test]
fn more_rows_than_allowed_are_thinned_over_the_whole_time() {
    let training = made(4000, 7);
    let options = Options { max_rows: 1000, epochs: 1, least_steps: 1, ..quick() };
    let model = trained(&training, &made(300, 8), &options);
    assert_eq!((model.report.training.rows, model.report.training.usable), (1000, 4000));
    let thin = training.thinned(1000);
    assert_eq!(thin.len(), 1000);
    let half = thin.time_ns.iter().filter(|t| **t <= 20_000 * SECOND).count();
    assert!((430..570).contains(&half), "{half} in the first half");
}

#[test]
fn a_run_ends_when_the_validation_loss_does_not_get_better() {
    // Validation rows from nowhere: learning the training rows does not help them for long.
    let mut validation = made(200, 8);
    let mut random = Random::new(3);
    validation.columns.iter_mut().take(4).flatten().for_each(|x| *x *= random.unit());
    let options = Options { epochs: 400, patience: 4, learning_rate: 1e-2, seeds: vec![1], ..quick() };
    let model = trained(&made(600, 7), &validation, &options);
    let run = &model.report.runs[0];
    assert!(run.stopped_early && run.epochs.len() < 400, "{} epochs", run.epochs.len());
    assert_eq!(run.epochs.len() - 1 - run.best, 4);
    assert!(run.epochs.iter().all(|e| run.best().validation <= e.validation));
}

#[test]
fn every_epoch_is_told() {
    let mut told = Vec::new();
    let options = Options { epochs: 2, least_steps: 1, ..quick() };
    train(&made(300, 7), &made(300, 8), &options, &mut |p| told.push((p.run, p.epoch, p.runs, p.epochs)))
        .expect("trains");
    assert_eq!(told, [(0, 0, 2, 2), (0, 1, 2, 2), (1, 0, 2, 2), (1, 1, 2, 2)]);
}

#[test]
fn rows_are_cut_by_time_and_windows_stay_whole() {
    let mut rows = made(100, 7);
    // Four entities to a window.
    rows.time_ns = (0..100).map(|i| (i / 4 + 1) * SECOND).collect();
    let (first, second) = split_in_time(&rows, 0.25);
    assert_eq!((first.len(), second.len()), (76, 24));
    assert!(first.time_ns.iter().max() < second.time_ns.iter().min());
    assert_eq!(second.columns[1], rows.columns[1][76..]);
    assert_eq!(split_in_time(&rows, 0.0).1.len(), 0);
    assert_eq!(split_in_time(&Rows::default(), 0.5), (Rows::default(), Rows::default()));
}

#[test]
fn what_cannot_be_trained_is_refused_with_a_reason() {
    let (good, held) = (made(500, 7), made(300, 8));
    let refused = |training: &Rows, validation: &Rows, options: &Options| {
        train(training, validation, options, &mut |_| ()).expect_err("refused")
    };
    let none = Rows { names: Vec::new(), columns: Vec::new(), ..good.clone() };
    assert_eq!(refused(&none, &held, &quick()), TrainError::NoFeatures);

    let mut ragged = good.clone();
    ragged.columns[1].pop();
    assert_eq!(
        refused(&ragged, &held, &quick()).to_string(),
        "the training rows are ragged: 500 times, but 499 values of `bytes`"
    );

    let (_, empty) = split_in_time(&good, 0.0);
    assert_eq!(
        refused(&empty, &held, &quick()),
        TrainError::TooFew { which: "training", got: 0, least: 200, left_out: 0 }
    );
    assert_eq!(
        refused(&good, &empty, &quick()),
        TrainError::TooFew { which: "validation", got: 0, least: 100, left_out: 0 }
    );
    let mut holes = made(250, 7);
    holes.columns[0][..100].fill(f64::NAN);
    let text = refused(&holes, &held, &quick()).to_string();
    assert!(
        text.starts_with("150 training rows are too few, at least 200 are needed (100 more were left out"),
        "{text}"
    );

    let mut silent = good.clone();
    silent.columns[3].fill(f64::NAN);
    assert_eq!(refused(&silent, &held, &quick()), TrainError::NotFinite { feature: "tcp_share".into(), rows: 500 });

    let mut other = held.clone();
    other.names.swap(1, 2);
    let text = refused(&good, &other, &quick()).to_string();
    assert!(
        text.contains("feature 2 is `bytes` in the training rows and `udp_share` in the validation rows"),
        "{text}"
    );
    let mut short = held.clone();
    short.names.pop();
    short.columns.pop();
    let text = refused(&good, &short, &quick()).to_string();
    assert!(text.contains("feature 5 is `icmp_share` in the training rows and missing in"), "{text}");

    let mut still = good.clone();
    still.columns.iter_mut().for_each(|c| c.fill(3.0));
    assert_eq!(refused(&still, &held, &quick()), TrainError::Constant { features: 5, rows: 500 });

    for (options, option) in [
        (Options { seeds: Vec::new(), ..quick() }, "seeds"),
        (Options { epochs: 0, ..quick() }, "epochs"),
        (Options { batch: 0, ..quick() }, "batch"),
        (Options { hidden: Some(vec![4, 0]), ..quick() }, "hidden"),
        (Options { learning_rate: f32::NAN, ..quick() }, "learning_rate"),
        (Options { prepare: Prepare { clip: 0.0, ..Prepare::default() }, ..quick() }, "clip"),
        (Options { prepare: Prepare { spread_quantile: 0.5, ..Prepare::default() }, ..quick() }, "spread_quantile"),
    ] {
        let error = refused(&good, &held, &options);
        assert!(matches!(&error, TrainError::Option { option: o, .. } if *o == option), "{option}: {error}");
    }
    let wild = Options { learning_rate: 1e30, ..quick() };
    assert!(matches!(refused(&good, &held, &wild), TrainError::Diverged { seeds: 2, .. }));
}

#[test]
fn the_code_is_the_first_of_the_narrowest_and_takes_libtorch() {
    let variational = Options { kind: Kind::Variational { kl_weight: 0.001 }, ..quick() };
    assert_eq!(variational.code(&[12, 16, 6, 6, 16, 12]), 2);
    assert_eq!(variational.code(&[4, 9, 4]), 1);
    assert_eq!(quick().code(&[12, 16, 6, 16, 12]), 0);
    assert_eq!(variational.check(), Err(TrainError::NeedsTorch));
    let no_number = Options { kind: Kind::Variational { kl_weight: f64::NAN }, ..quick() };
    assert!(matches!(no_number.check(), Err(TrainError::Option { option: "kl_weight", .. })));
    for hidden in [vec![1025, 4], vec![8; 17], vec![]] {
        let options = Options { hidden: Some(hidden), ..quick() };
        assert!(matches!(options.check(), Err(TrainError::Option { option: "hidden", .. })), "{:?}", options.hidden);
    }
}

#[test]
fn gradients_agree_with_finite_differences_in_f64() {
    for code in [0, 2] {
        check_gradients(code);
    }
}

fn check_gradients(code: usize) {
    // Widths that no block or tile divides, and a batch that does not fill its last tile.
    let dims = [7, 9, 3, 6, 7];
    let mut random = Random::new(11);
    let mut float = || (random.unit() * 2.0 - 1.0) as f32;
    let params: Vec<f32> = (0..Mlp::len(&dims)).map(|_| float()).collect();
    let rows: Vec<Vec<f32>> = (0..37).map(|_| (0..7).map(|_| 2.0 * float()).collect()).collect();
    let mlp = Mlp { dims: dims.to_vec(), params, code };
    let mut ws = Workspace::new(&dims, 64);
    ws.load(7, rows.iter().map(Vec::as_slice));
    let sum = kernel::gradient(&mlp, &mut ws);
    let wide: Vec<Vec<f64>> = rows.iter().map(|r| r.iter().map(|x| f64::from(*x)).collect()).collect();
    let loss = |mlp: &Mlp| {
        let net = network(mlp);
        let squares = |x: &Vec<f64>| forward(&net, x).iter().zip(x).map(|(y, x)| (y - x).powi(2)).sum::<f64>();
        wide.iter().map(squares).sum::<f64>() / (37.0 * 7.0)
    };
    assert!((sum / (37.0 * 7.0) - loss(&mlp)).abs() < 1e-5);
    for k in 0..mlp.params.len() {
        let (mut up, mut down) = (mlp.clone(), mlp.clone());
        up.params[k] += 1e-2;
        down.params[k] -= 1e-2;
        let step = f64::from(up.params[k]) - f64::from(down.params[k]);
        let slope = (loss(&up) - loss(&down)) / step;
        let got = f64::from(ws.gradient[k]);
        assert!((got - slope).abs() < 1e-4 + 2e-3 * slope.abs(), "parameter {k}: {got} against {slope}");
    }
}
