//! Who scores what: by choice, by measurement, and when a device fails.

use super::{losses, options, torch};
use crate::plugin_faults::{metered, sample};
use kaminari::inference::torch::{Library, TorchBackend, TorchError, nvidia_driver};
use kaminari::inference::{
    Backend, Backends, CpuBackend, InferenceError, Losses, Model, Panel, Placed, Reason, Scorer, reference,
};
use kaminari::model::{BackendChoice, Device, Dtype};
use kaminari_tests::root;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn fixture(name: &str) -> Arc<Model> {
    Arc::new(Model::load(&root().join("tests/fixtures").join(name)).unwrap())
}

fn rows(features: usize, count: usize) -> Vec<Vec<f64>> {
    (0..count).map(|row| (0..features).map(|f| ((row * 31 + f * 7) % 89) as f64).collect()).collect()
}

/// A device that fails so many times, then scores like the kernel.
struct Failing {
    left: AtomicUsize,
    asked: AtomicUsize,
    reason: Reason,
}

struct OfFailing(Box<dyn Panel>, Arc<Failing>);

#[derive(Clone)]
struct Device0(Arc<Failing>);

impl Backend for Device0 {
    fn name(&self) -> String {
        "torch/cuda:7/f32".into()
    }

    fn scorer(&self, model: &Arc<Model>) -> Result<Box<dyn Scorer>, InferenceError> {
        CpuBackend::detect().scorer(model)
    }

    fn panel(&self, models: &[Arc<Model>]) -> Result<Box<dyn Panel>, InferenceError> {
        Ok(Box::new(OfFailing(CpuBackend::detect().panel(models)?, self.0.clone())))
    }
}

impl Panel for OfFailing {
    fn columns(&self) -> &[String] {
        self.0.columns()
    }

    fn losses(&mut self, columns: &[&[f64]], out: &mut [Losses]) -> Result<(), InferenceError> {
        self.1.asked.fetch_add(1, Ordering::Relaxed);
        let fails = self.1.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
        if fails {
            let (backend, message) = ("torch/cuda:7/f32".into(), "CUDA out of memory".into());
            return Err(InferenceError::Backend { backend, reason: self.1.reason, message });
        }
        self.0.losses(columns, out)
    }
}

#[test]
fn when_a_device_fails_the_cpu_scores_the_same_batch_and_the_device_is_asked_again_later() {
    metered(|metrics| {
        let failing =
            Arc::new(Failing { left: AtomicUsize::new(1), asked: AtomicUsize::new(0), reason: Reason::OutOfMemory });
        let asked = || failing.asked.load(Ordering::Relaxed);
        let of_torch = options(None, PathBuf::new(), BackendChoice::Torch);
        let backends = Backends::with_device(of_torch, Arc::new(Device0(failing.clone())));
        let model = fixture("pytorch-deep/relu");
        let placed = backends.place(&model).unwrap();
        assert_eq!(placed, Placed { backend: "torch/cuda:7/f32".into(), from_rows: 0, measured: None, no_gain: None });
        let rows = rows(32, 100);
        let expected = losses(&CpuBackend::detect(), &model, &rows);
        // Fails: the CPU has scored it all the same.
        assert_eq!(losses(&backends, &model, &rows), expected);
        assert_eq!(asked(), 1);
        let failovers = "kaminari_inference_failovers_total{device=\"torch/cuda:7/f32\",reason=\"out_of_memory\"}";
        assert_eq!(sample(metrics, failovers), 1.0);
        // For a second nobody asks it.
        assert_eq!(losses(&backends, &model, &rows), expected);
        assert_eq!(asked(), 1);
        std::thread::sleep(Duration::from_millis(1050));
        assert_eq!(losses(&backends, &model, &rows), expected);
        assert_eq!(losses(&backends, &model, &rows), expected);
        assert_eq!((asked(), sample(metrics, failovers)), (3, 1.0));
    });
}

#[test]
fn without_libtorch_the_kernel_scores_perceptrons_and_archives_are_refused() {
    let backends = Backends::open(&options(None, PathBuf::new(), BackendChoice::Auto)).unwrap();
    let model = fixture("pytorch-deep/vae-mlp");
    assert_eq!(backends.place(&model).unwrap().backend, CpuBackend::detect().name());
    let error = backends.place(&fixture("torchscript/lstm")).unwrap_err().to_string();
    assert!(error.contains("`inference.libtorch` is not set"), "{error}");
    let kernel = Backends::open(&options(None, PathBuf::new(), BackendChoice::Cpu)).unwrap();
    let error = kernel.place(&fixture("torchscript/lstm")).unwrap_err().to_string();
    assert!(error.contains("`inference.backend` is `cpu`"), "{error}");
    let missing = Some("/no/such/folder".into());
    // `auto` goes on without it, and says why where it matters.
    let backends = Backends::open(&options(missing.clone(), PathBuf::new(), BackendChoice::Auto)).unwrap();
    backends.place(&model).unwrap();
    let error = backends.place(&fixture("torchscript/conv")).unwrap_err().to_string();
    assert!(error.contains("/no/such/folder/libc10.so: there is no such file"), "{error}");
    let error = Backends::open(&options(missing, PathBuf::new(), BackendChoice::Torch)).err().expect("refused");
    assert!(matches!(&error, TorchError::NotFound { .. }), "{error}");
}

#[test]
fn auto_measures_each_model_and_both_sides_score_alike() {
    let Some((libtorch, library)) = kaminari_tests::libtorch("measuring the crossover") else { return };
    let backends = Backends::open(&options(Some(libtorch), library, BackendChoice::Auto)).unwrap();
    for name in ["pytorch-deep/relu", "pytorch-deep/tanh", "pytorch-model"] {
        let model = fixture(name);
        let placed = backends.place(&model).unwrap();
        let measured = placed.measured.expect("auto measures");
        assert!(measured.rates.len() >= 2 && measured.rates.iter().all(|(_, cpu, torch)| *cpu > 0.0 && *torch > 0.0));
        assert_eq!((&*measured.device, &measured.cpu), ("torch/cpu/f32", &CpuBackend::detect().name()));
        for count in [1, 64, 3000] {
            let rows = rows(model.manifest.features.len(), count);
            let (got, expected) = (losses(&backends, &model, &rows), losses(&CpuBackend::detect(), &model, &rows));
            for (got, expected) in got.mse.iter().zip(&expected.mse) {
                let (got, expected) = (f64::from(*got), f64::from(*expected));
                assert!(
                    reference::close(got, expected) || (got - expected).abs() <= 2e-4 * expected,
                    "{got} {expected}"
                );
            }
        }
    }
    // An archive is libtorch's alone, whatever its size.
    let placed = backends.place(&fixture("torchscript/vae")).unwrap();
    assert_eq!((&*placed.backend, placed.from_rows, placed.measured), ("torch/cpu/f32", 0, None));
}

#[test]
fn a_model_whose_golden_rows_score_otherwise_there_is_refused() {
    let Some((libtorch, library)) = kaminari_tests::libtorch("the self-test of an archive") else { return };
    let backends = Backends::open(&options(Some(libtorch), library, BackendChoice::Torch)).unwrap();
    let mut model = Model::clone(&fixture("torchscript/vae"));
    model.manifest.features[0].center += 0.5;
    let error = backends.place(&Arc::new(model)).unwrap_err().to_string();
    assert!(error.contains("self-test: row 0 of golden.rows has mse"), "{error}");
    let mut model = Model::clone(&fixture("torchscript/vae"));
    model.weights = kaminari::inference::Weights::TorchScript(Arc::from(*b"PK but no archive"));
    let error = backends.place(&Arc::new(model)).unwrap_err().to_string();
    assert!(error.starts_with("torch/cpu/f32: ") && error.len() < 400, "{error}");
    // Takes five features, and the manifest has four.
    let mut model = Model::clone(&fixture("torchscript/conv"));
    model.manifest.features.pop();
    model.manifest.golden = None;
    let error = backends.place(&Arc::new(model)).unwrap_err().to_string();
    assert!(error.starts_with("torch/cpu/f32: ") && error.len() < 600, "{error}");
}

#[test]
fn a_cuda_device_that_is_not_there_is_named() {
    let Some((libtorch, library)) = kaminari_tests::libtorch("a missing CUDA device") else { return };
    let open = |device| {
        let library = Library::open(&libtorch, &library).unwrap();
        TorchBackend::new(&library, device, Dtype::F32, 1024, Duration::ZERO, false)
    };
    let error = open(Device::Cuda(99)).err().expect("nobody has so many").to_string();
    assert!(error.starts_with("there is no device cuda:99: "), "{error}");
    if !nvidia_driver() {
        assert!(error.ends_with("no NVIDIA driver (libcuda.so.1)"), "{error}");
    }
    let mut wanted = options(Some(libtorch.clone()), library.clone(), BackendChoice::Auto);
    wanted.device = Some(Device::Cuda(99));
    let backends = Backends::open(&wanted).unwrap();
    assert_eq!(backends.place(&fixture("pytorch-model")).unwrap().backend, CpuBackend::detect().name());
    wanted.backend = BackendChoice::Torch;
    assert!(matches!(Backends::open(&wanted), Err(TorchError::NoDevice { .. })));
}

#[test]
fn models_of_one_backend_share_what_is_on_the_device() {
    let Some(backend) = torch("a panel", Dtype::F32, false) else { return };
    let models = [fixture("pytorch-deep/relu"), fixture("pytorch-deep/vae-mlp")];
    let panel = backend.panel(&models).unwrap();
    // The same 32 features.
    assert_eq!(panel.columns().len(), 32);
}

/// A device that refuses the model `tanh` and counts what it scores.
struct Picky(Arc<AtomicUsize>);

struct OfPicky(Box<dyn Panel>, bool, Arc<AtomicUsize>);

impl Backend for Picky {
    fn name(&self) -> String {
        "torch/cuda:8/f32".into()
    }

    fn scorer(&self, model: &Arc<Model>) -> Result<Box<dyn Scorer>, InferenceError> {
        CpuBackend::detect().scorer(model)
    }

    fn panel(&self, models: &[Arc<Model>]) -> Result<Box<dyn Panel>, InferenceError> {
        let refused = models.iter().any(|model| model.manifest.name == "tanh");
        Ok(Box::new(OfPicky(CpuBackend::detect().panel(models)?, refused, self.0.clone())))
    }
}

impl Panel for OfPicky {
    fn columns(&self) -> &[String] {
        self.0.columns()
    }

    fn losses(&mut self, columns: &[&[f64]], out: &mut [Losses]) -> Result<(), InferenceError> {
        if self.1 {
            let (backend, message) = ("torch/cuda:8/f32".into(), "not this one".into());
            return Err(InferenceError::Backend { backend, reason: Reason::Refused, message });
        }
        self.2.fetch_add(out.len(), Ordering::Relaxed);
        self.0.losses(columns, out)
    }
}

#[test]
fn a_model_that_the_device_refuses_does_not_take_it_from_the_others() {
    metered(|metrics| {
        let models = ["pytorch-deep/relu", "pytorch-deep/tanh", "pytorch-deep/vae-mlp"].map(fixture);
        let scored = Arc::new(AtomicUsize::new(0));
        let device = Arc::new(Picky(scored.clone()));
        let backends = Backends::with_device(options(None, PathBuf::new(), BackendChoice::Torch), device);
        models.iter().for_each(|model| drop(backends.place(model).unwrap()));
        let mut panel = backends.panel(&models).unwrap();
        let rows = rows(32, 100);
        let by_feature = super::columns(&rows);
        let columns: Vec<&[f64]> =
            panel.columns().iter().map(|name| &*by_feature[name[1..].parse::<usize>().unwrap()]).collect();
        for round in 1..=3 {
            let mut out = vec![Losses::default(); 3];
            panel.losses(&columns, &mut out).unwrap();
            for (model, got) in models.iter().zip(&out) {
                assert_eq!(*got, losses(&CpuBackend::detect(), model, &rows));
            }
            // The other two, every time; the refused one is not tried again for a second.
            assert_eq!(scored.load(Ordering::Relaxed), 2 * round);
        }
        let failovers = "kaminari_inference_failovers_total{device=\"torch/cuda:8/f32\",reason=\"refused\"}";
        assert_eq!(sample(metrics, failovers), 1.0);
    });
}

/// Scores everything wrong, or not at all.
struct Broken(bool);

impl Backend for Broken {
    fn name(&self) -> String {
        "torch/cuda:9/f16".into()
    }

    fn scorer(&self, model: &Arc<Model>) -> Result<Box<dyn Scorer>, InferenceError> {
        if self.0 {
            let (backend, message) = (self.name(), "CUDA out of memory".into());
            return Err(InferenceError::Backend { backend, reason: Reason::OutOfMemory, message });
        }
        let mut other = Model::clone(model);
        other.manifest.features[0].center += 5.0;
        CpuBackend::detect().scorer(&Arc::new(other))
    }
}

#[test]
fn under_auto_a_device_that_cannot_score_a_model_is_left_to_others_and_told_where_it_is_asked_for_by_name() {
    for broken in [true, false] {
        let model = fixture("pytorch-deep/relu");
        let open = |choice| Backends::with_device(options(None, PathBuf::new(), choice), Arc::new(Broken(broken)));
        let backends = open(BackendChoice::Auto);
        let placed = backends.place(&model).unwrap();
        assert_eq!((placed.backend, placed.measured), (CpuBackend::detect().name(), None));
        let rows = rows(32, 10);
        assert_eq!(losses(&backends, &model, &rows), losses(&CpuBackend::detect(), &model, &rows));
        let error = open(BackendChoice::Torch).place(&model).unwrap_err().to_string();
        assert!(error.contains(if broken { "CUDA out of memory" } else { "self-test: row 0" }), "{error}");
    }
}
