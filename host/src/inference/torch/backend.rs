//! libtorch as a backend: one device, one arithmetic. On the CPU it computes in the thread that asks, in pieces that the
//! caches hold; on a CUDA device through a queue, which makes one transfer of what many threads and models ask for.

use super::error::TorchError;
use super::handles::{Buffer, DeviceModel, Group};
use super::library::Library;
use super::matrix::Matrix;
use super::queue::{Queue, Shareable, Ticket};
use crate::inference::model::Model;
use crate::inference::network::Weights;
use crate::inference::reference;
use crate::inference::scorer::{Backend, FeatureError, InferenceError, Losses, Panel, Scorer};
use crate::model::{Device, Dtype};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Rows of a piece on the CPU: larger ones leave the caches, smaller ones pay for the calls.
const CPU_ROWS: usize = 2048;
/// Batches that one thread has on their way: one is written while one is computed.
const ON_THE_WAY: usize = 2;

/// libtorch on one device.
pub struct TorchBackend {
    library: Arc<Library>,
    device: Device,
    dtype: Dtype,
    queue: Option<Arc<Queue>>,
    /// Models on the device, by digest, while somebody uses them.
    models: Mutex<HashMap<String, Weak<DeviceModel>>>,
    /// Groups of the queue, by the digests of their models: threads that score the same meet in them.
    groups: Mutex<HashMap<String, Weak<Shareable>>>,
}

impl TorchBackend {
    /// Refuses a CUDA device that is not there. A queue is used for CUDA, and where `queued` asks for one.
    pub fn new(
        library: &Arc<Library>,
        device: Device,
        dtype: Dtype,
        max_batch: usize,
        max_wait: Duration,
        queued: bool,
    ) -> Result<Arc<Self>, TorchError> {
        library.has(device)?;
        let queued = queued || device != Device::Cpu;
        let queue = queued.then(|| Queue::start(library, device, max_batch, max_wait)).transpose()?;
        Ok(Arc::new(Self {
            library: library.clone(),
            device,
            dtype,
            queue: queue.map(Arc::new),
            models: Mutex::default(),
            groups: Mutex::default(),
        }))
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// With what.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn model(&self, model: &Arc<Model>) -> Result<Arc<DeviceModel>, TorchError> {
        shared(&self.models, &model.digest, || {
            DeviceModel::new(&self.library, &model.weights, &model.manifest.features, self.device, self.dtype)
        })
    }

    fn torch_panel(&self, models: &[Arc<Model>]) -> Result<TorchPanel, TorchError> {
        let matrix = Matrix::of(models);
        let group = || {
            let on_device = models.iter().map(|model| self.model(model)).collect::<Result<Vec<_>, _>>()?;
            Group::new(&self.library, on_device, &matrix.places, matrix.width())
        };
        let runner = match &self.queue {
            None => {
                let buffer = Buffer::new(&self.library, self.device, CPU_ROWS * matrix.width())?;
                Runner::Here { group: group()?, buffer, scored: Vec::new() }
            }
            Some(queue) => {
                let digests: Vec<&str> = models.iter().map(|model| &*model.digest).collect();
                let group = shared(&self.groups, &digests.join(" "), || Ok(Shareable::new(group()?, matrix.width())))?;
                group.join();
                Runner::Queued { queue: queue.clone(), group }
            }
        };
        Ok(TorchPanel { name: self.name(), matrix, runner, models: models.len() })
    }
}

/// What has the key, or is made for it. One with an empty key is nobody else's.
fn shared<T>(
    all: &Mutex<HashMap<String, Weak<T>>>,
    key: &str,
    make: impl FnOnce() -> Result<T, TorchError>,
) -> Result<Arc<T>, TorchError> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, one| one.strong_count() > 0);
    if let Some(one) = all.get(key).and_then(Weak::upgrade) {
        return Ok(one);
    }
    let one = Arc::new(make()?);
    if !key.is_empty() {
        all.insert(key.to_owned(), Arc::downgrade(&one));
    }
    Ok(one)
}

impl Backend for TorchBackend {
    fn name(&self) -> String {
        format!("torch/{}/{}", self.device, self.dtype.name())
    }

    fn scorer(&self, model: &Arc<Model>) -> Result<Box<dyn Scorer>, InferenceError> {
        let make = || {
            let panel = self.torch_panel(std::slice::from_ref(model))?;
            Ok(TorchScorer { model: model.clone(), on_device: self.model(model)?, panel })
        };
        let made: Result<TorchScorer, TorchError> = make();
        Ok(Box::new(made.map_err(|e| e.told_by(&self.name()))?))
    }

    fn panel(&self, models: &[Arc<Model>]) -> Result<Box<dyn Panel>, InferenceError> {
        Ok(Box::new(self.torch_panel(models).map_err(|e| e.told_by(&self.name()))?))
    }
}

/// Models on a device, for one thread.
struct TorchPanel {
    /// Of the backend.
    name: String,
    matrix: Matrix,
    runner: Runner,
    models: usize,
}

enum Runner {
    /// In this thread.
    Here { group: Group, buffer: Buffer, scored: Vec<f32> },
    /// Together with others.
    Queued { queue: Arc<Queue>, group: Arc<Shareable> },
}

impl Drop for TorchPanel {
    fn drop(&mut self) {
        if let Runner::Queued { group, .. } = &self.runner {
            group.leave();
        }
    }
}

impl TorchPanel {
    /// `each` gets the model, the first row, and both losses from there on.
    fn run(
        &mut self,
        columns: &[&[f64]],
        rows: usize,
        mut each: impl FnMut(usize, usize, &[f32], &[f32]),
    ) -> Result<(), TorchError> {
        let models = self.models;
        match &mut self.runner {
            Runner::Here { group, buffer, scored } => {
                for from in (0..rows).step_by(CPU_ROWS) {
                    let part = CPU_ROWS.min(rows - from);
                    self.matrix.write(columns, from, part, &mut buffer.floats()[..part * self.matrix.width()]);
                    group.score(buffer, &[part], scored)?;
                    for (model, losses) in scored.chunks_exact(2 * part).enumerate() {
                        let (mse, log1p) = losses.split_at(part);
                        each(model, from, mse, log1p);
                    }
                }
                Ok(())
            }
            Runner::Queued { queue, group } => {
                let mut on_the_way: VecDeque<(usize, Ticket)> = VecDeque::new();
                let mut receive = |(from, ticket): (usize, Ticket)| {
                    ticket.wait(models, |model, mse, log1p| each(model, from, mse, log1p))
                };
                for from in (0..rows).step_by(queue.max_rows()) {
                    let part = queue.max_rows().min(rows - from);
                    on_the_way.push_back((from, queue.send(group, &self.matrix, columns, from, part)?));
                    if on_the_way.len() == ON_THE_WAY
                        && let Some(first) = on_the_way.pop_front()
                    {
                        receive(first)?;
                    }
                }
                on_the_way.into_iter().try_for_each(receive)
            }
        }
    }
}

impl Panel for TorchPanel {
    fn columns(&self) -> &[String] {
        &self.matrix.names.names
    }

    fn losses(&mut self, columns: &[&[f64]], out: &mut [Losses]) -> Result<(), InferenceError> {
        let rows = self.matrix.names.rows(columns)?;
        for out in out.iter_mut() {
            out.mse.resize(rows, 0.0);
            out.log1p.resize(rows, 0.0);
        }
        let run = self.run(columns, rows, |model, from, mse, log1p| {
            if let Some(out) = out.get_mut(model) {
                out.mse[from..from + mse.len()].copy_from_slice(mse);
                out.log1p[from..from + log1p.len()].copy_from_slice(log1p);
            }
        });
        run.map_err(|e| e.told_by(&self.name))
    }
}

/// One model on a device, for one thread.
struct TorchScorer {
    model: Arc<Model>,
    on_device: Arc<DeviceModel>,
    panel: TorchPanel,
}

impl Scorer for TorchScorer {
    fn losses(&mut self, columns: &[&[f64]], out: &mut Losses) -> Result<(), InferenceError> {
        self.panel.losses(columns, std::slice::from_mut(out))
    }

    fn explain(&mut self, row: &[f64]) -> Result<Vec<FeatureError>, InferenceError> {
        let features = &self.model.manifest.features;
        if let Weights::Mlp(network) = &self.model.weights {
            return reference::explain(network, features, row);
        }
        let mut tells = true;
        let parts = reference::explain_with(features, row, |prepared| {
            let prepared: Vec<f32> = prepared.iter().map(|&x| x as f32).collect();
            let output = self.on_device.forward(&prepared).map_err(|e| e.told_by(&self.panel.name))?;
            tells = output.len() == features.len();
            Ok(output.into_iter().map(f64::from).collect())
        })?;
        Ok(if tells { parts } else { Vec::new() })
    }
}
