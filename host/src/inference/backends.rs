//! Who scores which model. Comes in: what the operator chose, then models; goes out: one [`Backend`] that sends every
//! batch to the built-in kernel or to a device, and to the CPU when the device fails. Refused: what was asked for by
//! name and cannot be had; under `auto` that is told once and the built-in kernel goes on.

use super::cpu::CpuBackend;
use super::crossover::{self, Measured};
use super::error::ModelError;
use super::health::Health;
use super::model::Model;
use super::network::Weights;
use super::placed::{PlacedPanel, PlacedScorer};
use super::reference;
use super::scorer::{Backend, InferenceError, Panel, Scorer};
use super::torch::{Library, TorchBackend, TorchError, nvidia_driver};
use crate::model::{BackendChoice, Device, Dtype};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

/// `[inference]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Who scores.
    pub backend: BackendChoice,
    /// Where libtorch computes; `None`: on the first CUDA device, if there is one.
    pub device: Option<Device>,
    /// With what arithmetic.
    pub dtype: Dtype,
    /// The folder with `libtorch_cpu.so`.
    pub libtorch: Option<PathBuf>,
    /// The shared object that speaks for it.
    pub library: PathBuf,
    /// Most rows of one transfer to a CUDA device.
    pub max_batch: usize,
    /// How long rows wait for those of others.
    pub max_wait: Duration,
}

/// Everything that can score here.
pub struct Backends {
    options: Options,
    cpu: Arc<CpuBackend>,
    /// Where the models go that are faster there; `None`: nowhere.
    device: Option<Arc<dyn Backend>>,
    /// libtorch on the CPU, for archives without a device: loaded when the first one comes.
    archives: OnceLock<Result<Arc<dyn Backend>, TorchError>>,
    health: Arc<Health>,
    places: RwLock<HashMap<String, Place>>,
    /// Why `auto` has no device: it cannot be had.
    why_not: Option<TorchError>,
    /// Or would be no gain.
    no_gain: Option<&'static str>,
    opening: Mutex<()>,
}

/// Where a model is scored.
#[derive(Clone)]
pub(super) struct Place {
    /// The device, for batches of at least so many rows.
    pub device: Option<(Arc<dyn Backend>, usize)>,
    /// Who scores the others.
    pub cpu: Arc<dyn Backend>,
    /// Of the device.
    pub health: Arc<Health>,
    /// Of this model on it: the device may refuse one and score the others.
    pub own_health: Arc<Health>,
}

/// What was decided for a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Who scores: `cpu/avx512`, `torch/cuda:0/f32`.
    pub backend: String,
    /// Rows from which on that is so; below them it is the built-in kernel. 0: always.
    pub from_rows: usize,
    /// What `auto` measured.
    pub measured: Option<Measured>,
    /// Why `auto` did not measure.
    pub no_gain: Option<&'static str>,
}

impl Backends {
    fn with(options: Options, device: Option<Arc<dyn Backend>>) -> Self {
        let name = device.as_ref().map_or_else(String::new, |device| device.name());
        Self {
            options,
            cpu: Arc::new(CpuBackend::detect()),
            device,
            archives: OnceLock::new(),
            health: Arc::new(Health::of(name)),
            places: RwLock::default(),
            why_not: None,
            no_gain: None,
            opening: Mutex::default(),
        }
    }

    /// As the operator chose. Loads libtorch only where something may run on it.
    pub fn open(options: &Options) -> Result<Self, TorchError> {
        let made = Self::with(options.clone(), None);
        let device = match options.backend {
            BackendChoice::Cpu => return Ok(made),
            BackendChoice::Torch => made.torch(options.device)?,
            BackendChoice::Auto => {
                // Without a driver the kernel is faster, by measurement: nothing is loaded on such a machine.
                let wanted = match options.device {
                    _ if options.libtorch.is_none() => return Ok(made),
                    None if !nvidia_driver() => {
                        let no_gain = "no NVIDIA driver, so libtorch is left alone";
                        return Ok(Self { no_gain: Some(no_gain), ..made });
                    }
                    wanted => wanted,
                };
                match made.torch(wanted) {
                    Ok(device) => device,
                    Err(error) => {
                        tracing::warn!("the built-in backend scores: {error}");
                        return Ok(Self { why_not: Some(error), ..made });
                    }
                }
            }
        };
        Ok(Self::with(options.clone(), Some(device)))
    }

    /// With a device of the caller's own.
    pub fn with_device(options: Options, device: Arc<dyn Backend>) -> Self {
        Self::with(options, Some(device))
    }

    /// libtorch on this device, or on the first CUDA device, or else on the CPU.
    fn torch(&self, device: Option<Device>) -> Result<Arc<dyn Backend>, TorchError> {
        let Options { libtorch, library, dtype, max_batch, max_wait, .. } = &self.options;
        let libtorch = libtorch.as_deref().ok_or(TorchError::NotConfigured)?;
        let library = Library::open(libtorch, library)?;
        let device = device.unwrap_or(if library.cuda().is_ok() { Device::Cuda(0) } else { Device::Cpu });
        Ok(TorchBackend::new(&library, device, *dtype, *max_batch, *max_wait, false)?)
    }

    /// libtorch on the CPU.
    fn archives(&self) -> Result<Arc<dyn Backend>, TorchError> {
        let _one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        self.archives.get_or_init(|| self.torch(Some(Device::Cpu))).clone()
    }

    /// Decides who scores a model, and has it prove itself there on its golden rows.
    pub fn place(&self, model: &Arc<Model>) -> Result<Placed, PlaceError> {
        let (name, kernel) = (&model.manifest.name, &self.cpu);
        let place = |device, cpu| self.at(device, cpu);
        let (place, placed) = match (&model.weights, &self.device) {
            (Weights::TorchScript(_), None) => {
                let refused = |why| PlaceError::NoTorch { model: name.clone(), why };
                if self.options.backend == BackendChoice::Cpu {
                    return Err(refused("`inference.backend` is `cpu`: write `auto` or `torch`".into()));
                }
                let why = |e: TorchError| refused(self.why_not.clone().unwrap_or(e).to_string());
                let archives = self.archives().map_err(why)?;
                self.prove(model, &*archives)?;
                let backend = archives.name();
                (place(None, archives), Placed { backend, from_rows: 0, measured: None, no_gain: None })
            }
            (Weights::TorchScript(_), Some(device)) => {
                self.prove(model, &**device)?;
                // With a device of its own a process has libtorch's CPU, too; a test's own device may have none.
                let cpu = self.archives().unwrap_or_else(|_| device.clone());
                let backend = device.name();
                let device = Some((device.clone(), 0));
                (place(device, cpu), Placed { backend, from_rows: 0, measured: None, no_gain: None })
            }
            (Weights::Mlp(_), None) => (
                place(None, kernel.clone()),
                Placed { backend: kernel.name(), from_rows: 0, measured: None, no_gain: self.no_gain },
            ),
            (Weights::Mlp(_), Some(device)) if self.options.backend == BackendChoice::Auto => {
                let measured = self.prove(model, &**device).and_then(|()| {
                    let most = self.options.max_batch;
                    crossover::measure(model, &**kernel, &**device, most).map_err(PlaceError::Inference)
                });
                match measured {
                    Ok(measured) => {
                        let from = measured.from_rows;
                        let chosen: Arc<dyn Backend> = if from.is_some() { device.clone() } else { kernel.clone() };
                        let (backend, from_rows) = (chosen.name(), from.unwrap_or(0));
                        let device = from.map(|from| (device.clone(), from));
                        let placed = Placed { backend, from_rows, measured: Some(measured), no_gain: None };
                        (place(device, kernel.clone()), placed)
                    }
                    Err(error) => {
                        tracing::warn!(model = name, "the built-in backend scores: {}: {error}", device.name());
                        let no_gain = Some("the device does not score it as it should");
                        let placed = Placed { backend: kernel.name(), from_rows: 0, measured: None, no_gain };
                        (place(None, kernel.clone()), placed)
                    }
                }
            }
            (Weights::Mlp(_), Some(device)) => {
                self.prove(model, &**device)?;
                let placed = Placed { backend: device.name(), from_rows: 0, measured: None, no_gain: None };
                (place(Some((device.clone(), 0)), kernel.clone()), placed)
            }
        };
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        places.insert(model.digest.clone(), place);
        Ok(placed)
    }

    fn prove(&self, model: &Arc<Model>, backend: &dyn Backend) -> Result<(), PlaceError> {
        // Of an archive, the model is seen by nobody before: what it gives is found out here.
        backend.scorer(model).map_err(PlaceError::Inference)?;
        let close: fn(f64, f64) -> bool = match self.options.dtype {
            Dtype::F32 => reference::close,
            Dtype::F16 => |got, expected| near(got, expected, 1e-2),
            Dtype::Bf16 => |got, expected| near(got, expected, 8e-2),
        };
        model.prove(backend, close).map_err(PlaceError::Model)
    }

    /// Where a model was placed; one that was not is the built-in kernel's.
    fn of(&self, model: &Model) -> Place {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places.get(&model.digest).cloned().unwrap_or_else(|| self.at(None, self.cpu.clone()))
    }

    fn at(&self, device: Option<(Arc<dyn Backend>, usize)>, cpu: Arc<dyn Backend>) -> Place {
        let own_health = Arc::new(Health::of(device.as_ref().map_or_else(String::new, |(device, _)| device.name())));
        Place { device, cpu, health: self.health.clone(), own_health }
    }
}

/// Losses of half precision: a wrong model is further off.
fn near(got: f64, expected: f64, tolerance: f64) -> bool {
    (got - expected).abs() <= tolerance * (1.0 + 5.0 * expected.abs())
}

impl Backend for Backends {
    /// The built-in kernel, or the device that some batches go to.
    fn name(&self) -> String {
        self.device.as_ref().map_or_else(|| self.cpu.name(), |device| device.name())
    }

    fn scorer(&self, model: &Arc<Model>) -> Result<Box<dyn Scorer>, InferenceError> {
        Ok(Box::new(PlacedScorer::new(model, self.of(model))?))
    }

    fn panel(&self, models: &[Arc<Model>]) -> Result<Box<dyn Panel>, InferenceError> {
        Ok(Box::new(PlacedPanel::new(models, models.iter().map(|model| self.of(model)).collect())?))
    }
}

/// A model that nobody here can score.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It takes libtorch.
    #[error("model {model} is a TorchScript archive, which libtorch alone computes: {why}")]
    NoTorch {
        /// Name of the model.
        model: String,
        /// Why there is none.
        why: String,
    },
    /// It does not score its golden rows there as it should.
    #[error(transparent)]
    Model(ModelError),
    /// It cannot be computed there.
    #[error(transparent)]
    Inference(InferenceError),
}
