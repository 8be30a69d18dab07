//! What scoring costs where: the built-in kernel, libtorch on the CPU and, where there is one, on a CUDA device; raw `f64`
//! columns in, both losses of every row out. Comes in: libtorch's folder, the shared object, and how many rows at most.
//! One thread; CPU time on the CPU, wall time with a device. `pytorch_eager.py` is the peer: the same work, the same rows
//! of CSV.
//!
//! Runs on a machine without a Rust toolchain, too: `kaminari-bench torch LIBTORCH LIBRARY [MAX-ROWS]`.

use crate::Outcome;
use crate::inference::{column, model};
use crate::measure::{row, thread_cpu};
use kaminari::inference::torch::{Buffer, Library, TorchBackend};
use kaminari::inference::{Backend, Backends, CpuBackend, Losses, Model, Options, Panel, reference};
use kaminari::model::{BackendChoice, Device, Dtype};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Widths of the networks: A and B of `inference`, and one with a hundred times B's weights.
const NETWORKS: [(&str, [usize; 5]); 3] =
    [("A", [16, 32, 8, 32, 16]), ("B", [32, 64, 16, 64, 32]), ("C", [32, 960, 288, 960, 32])];
const BATCHES: [usize; 5] = [64, 1024, 8192, 65_536, 1_048_576];
/// Models on one batch.
const TOGETHER: [usize; 3] = [1, 4, 16];
const REPETITIONS: usize = 5;
/// One repetition takes at least so long; a call that takes longer than the second is not repeated five times.
const LONG_ENOUGH: Duration = Duration::from_millis(300);
const TOO_LONG: Duration = Duration::from_secs(10);
const BENCH: &str = "inference-torch";

/// Measures all.
pub fn run(libtorch: &Path, object: &Path, most: usize) -> Outcome {
    start_up(libtorch, object)?;
    let library = Library::open(libtorch, object)?;
    let on = |device, dtype| TorchBackend::new(&library, device, dtype, 1 << 20, Duration::ZERO, false);
    let mut backends: Vec<(Arc<dyn Backend>, Device)> =
        vec![(Arc::new(CpuBackend::detect()), Device::Cpu), (on(Device::Cpu, Dtype::F32)?, Device::Cpu)];
    let gpu = Device::Cuda(0);
    match library.cuda() {
        Ok(_) => backends.extend([(on(gpu, Dtype::F32)? as _, gpu), (on(gpu, Dtype::F16)? as _, gpu)]),
        Err(why) => eprintln!("not measured: CUDA: {why}"),
    }
    for (name, dims) in NETWORKS {
        for batch in BATCHES.into_iter().filter(|&batch| batch <= most) {
            let case = format!("{name} {batch}");
            let raw: Vec<Vec<f64>> = (0..dims[0]).map(|feature| column(feature as u64, batch)).collect();
            let raw: Vec<&[f64]> = raw.iter().map(Vec::as_slice).collect();
            let models: Vec<Arc<Model>> = (0..TOGETHER[2] as u64)
                .map(|seed| Ok(Arc::new(model(&dims, seed + 1)?)))
                .collect::<Result<_, crate::Error>>()?;
            for (backend, device) in &backends {
                for count in TOGETHER {
                    // Minutes for one core, and no other figure than before.
                    if name == "C" && *device == Device::Cpu && (count == 16 || batch > 65_536) {
                        continue;
                    }
                    let who = match count {
                        1 => backend.name(),
                        _ => format!("{} x{count}", backend.name()),
                    };
                    together(&format!("{case}: {who}"), &**backend, *device, &models[..count], &raw)?;
                }
            }
            if library.cuda().is_ok() {
                floor(&format!("{case}: floor {gpu}"), &library, gpu, dims[0], batch)?;
            }
        }
    }
    Ok(())
}

/// Rows a second of a batch that some models score.
fn together(case: &str, backend: &dyn Backend, device: Device, models: &[Arc<Model>], raw: &[&[f64]]) -> Outcome {
    let mut panel = backend.panel(models)?;
    let mut losses = vec![Losses::default(); models.len()];
    same_scores(&models[0], &mut *panel, raw, &mut losses)?;
    rate(case, device, raw[0].len(), || Ok(panel.losses(black_box(raw), &mut losses)?))
}

/// Refuses to measure a backend that computes something else. A few rows: the reference takes its time.
fn same_scores(model: &Model, panel: &mut dyn Panel, raw: &[&[f64]], losses: &mut [Losses]) -> Outcome {
    let rows = raw[0].len().min(64);
    let some: Vec<&[f64]> = raw.iter().map(|column| &column[..rows]).collect();
    panel.losses(&some, losses)?;
    let losses = &losses[0];
    let network = model.network().ok_or("no perceptron")?;
    for at in 0..rows {
        let values: Vec<f64> = some.iter().map(|column| column[at]).collect();
        let (expected, _) = reference::losses(network, &model.manifest.features, &values);
        let got = f64::from(losses.mse[at]);
        // Half precision is in the race, too.
        if (got - expected).abs() > 1e-2 + 5e-2 * expected {
            return Err(format!("row {at} scores {got}, and it is {expected}").into());
        }
    }
    Ok(())
}

/// The card's own limit: the rows there, both losses of one model back.
fn floor(case: &str, library: &Arc<Library>, device: Device, width: usize, rows: usize) -> Outcome {
    let mut buffer = Buffer::new(library, device, rows * width)?;
    rate(case, device, rows, || Ok(buffer.transfer(rows * width, 2 * rows)?))
}

fn rate(case: &str, device: Device, rows: usize, mut call: impl FnMut() -> Outcome) -> Outcome {
    let now = || match device {
        Device::Cpu => thread_cpu(),
        Device::Cuda(_) => wall(),
    };
    let began = now();
    call()?;
    let once = now() - began;
    if once > TOO_LONG {
        row(BENCH, case, "rows/s", rows as f64 / once.as_secs_f64(), 1);
        return Ok(());
    }
    for rep in 1..=REPETITIONS {
        let (began, mut calls) = (now(), 0);
        while calls == 0 || now() - began < LONG_ENOUGH {
            call()?;
            calls += 1;
        }
        row(BENCH, case, "rows/s", (calls * rows) as f64 / (now() - began).as_secs_f64(), rep);
        if once > Duration::from_secs(1) {
            break;
        }
    }
    Ok(())
}

/// Since the first call.
fn wall() -> Duration {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed()
}

/// What this part costs when the engine starts: with libtorch configured and no GPU, and with libtorch loaded.
fn start_up(libtorch: &Path, object: &Path) -> Outcome {
    let options = |backend| Options {
        backend,
        device: None,
        dtype: Dtype::F32,
        libtorch: Some(libtorch.into()),
        library: object.into(),
        max_batch: 1 << 18,
        max_wait: Duration::ZERO,
    };
    for (what, backend) in [("auto", BackendChoice::Auto), ("torch", BackendChoice::Torch)] {
        let (before, began) = (resident()?, Instant::now());
        let opened = Backends::open(&options(backend))?;
        let (seconds, after) = (began.elapsed().as_secs_f64(), resident()?);
        let case = format!("start {what}: {}", opened.name());
        row(BENCH, &case, "ms", seconds * 1e3, 1);
        row(BENCH, &case, "MB", (after - before) / 1e6, 1);
    }
    Ok(())
}

/// Bytes of memory in use.
fn resident() -> Result<f64, crate::Error> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = text.split(' ').nth(1).ok_or("no statm")?.parse()?;
    // SAFETY: asks for a number.
    Ok(pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as f64)
}
