//! Every backend scores as PyTorch did when it wrote the fixtures.

use super::{columns, losses, torch};
use kaminari::inference::{Backend, CpuBackend, Isa, Losses, Model, reference};
use kaminari::model::Dtype;
use kaminari_tests::root;
use std::path::PathBuf;
use std::sync::Arc;

/// `expected.json`: rows that are not the golden ones, with what PyTorch made of them.
struct Expected {
    rows: Vec<Vec<f64>>,
    mse: Vec<f64>,
    log1p: Vec<f64>,
    /// Of the first rows, per feature: squared error, and the reconstruction in the feature's own unit.
    errors: Vec<(Vec<f64>, Vec<f64>)>,
}

impl Expected {
    fn read(dir: &std::path::Path) -> Self {
        let text = std::fs::read_to_string(dir.join("expected.json")).unwrap();
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        let numbers = |value: &serde_json::Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap_or(f64::NAN)).collect()
        };
        let rows = |key: &str| -> Vec<Vec<f64>> {
            all.get(key).and_then(|v| v.as_array()).into_iter().flatten().map(numbers).collect()
        };
        let errors = rows("errors").into_iter().zip(rows("expected")).collect();
        Self { rows: rows("rows"), mse: numbers(&all["mse"]), log1p: numbers(&all["log1p"]), errors }
    }
}

fn fixtures(folder: &str) -> Vec<(PathBuf, Arc<Model>, Expected)> {
    let folder = root().join("tests/fixtures").join(folder);
    let mut dirs: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    dirs.sort();
    assert!(dirs.len() >= 3, "{dirs:?}");
    let read = |dir: PathBuf| {
        let (model, expected) = (Arc::new(Model::load(&dir).unwrap()), Expected::read(&dir));
        (dir, model, expected)
    };
    dirs.into_iter().filter(|dir| dir.is_dir()).map(read).collect()
}

fn same(got: &Losses, expected: &Expected, who: &str, close: impl Fn(f64, f64) -> bool) {
    assert_eq!(got.mse.len(), expected.rows.len());
    for row in 0..expected.rows.len() {
        for (got, expected) in [(got.mse[row], expected.mse[row]), (got.log1p[row], expected.log1p[row])] {
            let got = f64::from(got);
            let same = if expected.is_nan() { got.is_nan() } else { close(got, expected) };
            assert!(same, "{who}, row {row}: {got}, and PyTorch has {expected}");
        }
    }
}

/// What a row's features add to its error.
fn explains(backend: &dyn Backend, model: &Arc<Model>, expected: &Expected, who: &str) {
    let mut scorer = backend.scorer(model).unwrap();
    for (row, (errors, values)) in expected.rows.iter().zip(&expected.errors) {
        let parts = scorer.explain(row).unwrap();
        assert_eq!(parts.len(), row.len(), "{who}");
        assert!(parts.is_sorted_by(|a, b| a.error >= b.error));
        for part in parts {
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-5 + 1e-3 * b.abs();
            let (error, value) = (errors[part.feature], values[part.feature]);
            assert!(near(part.error, error) && near(part.expected, value), "{who}: {part:?}, not {error}, {value}");
            assert_eq!(part.observed, row[part.feature]);
        }
    }
}

#[test]
fn the_built_in_kernel_scores_deep_networks_as_pytorch() {
    for (dir, model, expected) in fixtures("pytorch-deep") {
        for isa in Isa::available() {
            let backend = CpuBackend::with(isa).unwrap();
            same(
                &losses(&backend, &model, &expected.rows),
                &expected,
                &format!("{isa:?} {}", dir.display()),
                reference::close,
            );
        }
        explains(&CpuBackend::detect(), &model, &expected, &dir.display().to_string());
    }
}

#[test]
fn libtorch_scores_as_pytorch_in_one_piece_and_through_the_queue() {
    for queued in [false, true] {
        let Some(backend) = torch("parity with PyTorch", Dtype::F32, queued) else { return };
        for (dir, model, expected) in fixtures("pytorch-deep").into_iter().chain(fixtures("torchscript")) {
            let who = format!("{} {}", backend.name(), dir.display());
            model.prove(&*backend, reference::close).unwrap();
            same(&losses(&*backend, &model, &expected.rows), &expected, &who, reference::close);
            if !expected.errors.is_empty() {
                explains(&*backend, &model, &expected, &who);
            } else {
                // A loss without a reconstruction explains nothing.
                assert_eq!(backend.scorer(&model).unwrap().explain(&expected.rows[0]).unwrap(), []);
            }
        }
    }
}

#[test]
fn half_precision_scores_nearly_alike() {
    for (dtype, absolute, relative) in [(Dtype::F16, 1e-2, 5e-2), (Dtype::Bf16, 8e-2, 4e-1)] {
        let Some(backend) = torch("half precision", dtype, false) else { return };
        let close = |got: f64, expected: f64| (got - expected).abs() <= absolute + relative * expected.abs();
        for (dir, model, expected) in fixtures("pytorch-deep").into_iter().chain(fixtures("torchscript")) {
            let who = format!("{} {}", backend.name(), dir.display());
            same(&losses(&*backend, &model, &expected.rows), &expected, &who, close);
        }
    }
}

/// Rows of several batches of the queue, in pieces of all sizes, from several threads with the same and other models.
#[test]
fn whatever_comes_together_in_a_batch_every_thread_gets_its_own_rows() {
    let Some(backend) = torch("the queue of a device", Dtype::F32, true) else { return };
    let models: Vec<Arc<Model>> = fixtures("pytorch-deep").into_iter().map(|(_, model, _)| model).collect();
    let kernel = CpuBackend::detect();
    std::thread::scope(|scope| {
        for thread in 0..6usize {
            let (backend, models, kernel) = (&backend, &models, &kernel);
            scope.spawn(move || {
                // Four threads have the same models, two have less.
                let mine = &models[..if thread < 4 { 3 } else { 2 }];
                let mut panel = backend.panel(mine).unwrap();
                for round in 0..12usize {
                    let count = [1, 7, 100, 511, 512, 513, 2000][(thread + round) % 7];
                    let row = |at: usize| -> Vec<f64> {
                        (0..32).map(|f| ((at * 37 + f * 11 + thread * 5 + round) % 97) as f64 / 10.0).collect()
                    };
                    let rows: Vec<Vec<f64>> = (0..count).map(row).collect();
                    let by_feature = columns(&rows);
                    let asked: Vec<&[f64]> =
                        panel.columns().iter().map(|name| &*by_feature[name[1..].parse::<usize>().unwrap()]).collect();
                    let mut out = vec![Losses::default(); mine.len()];
                    panel.losses(&asked, &mut out).unwrap();
                    for (model, got) in mine.iter().zip(&out) {
                        let expected = losses(kernel, model, &rows);
                        assert_eq!(got.mse.len(), count);
                        for (got, expected) in
                            got.mse.iter().zip(&expected.mse).chain(got.log1p.iter().zip(&expected.log1p))
                        {
                            // Two roundings of f32 apart, in a network of six layers with rows far from its training.
                            let (got, expected) = (f64::from(*got), f64::from(*expected));
                            assert!((got - expected).abs() <= 1e-6 + 2e-4 * expected, "{got} {expected}");
                        }
                    }
                }
            });
        }
    });
}
