//! What scoring costs: rows per second of one core. First the network alone (preprocessed rows in, mean squared error
//! out), our kernel with every instruction set of this CPU against the same network written with the `matrixmultiply`
//! crate; each has the layout that suits it best (columns for ours, rows for a matrix product). Then our whole path:
//! raw columns in `f64`, ln(1 + x), scaling and clipping, both losses.

use crate::Outcome;
use crate::measure::{repetition, row};
use kaminari::inference::{
    Activation, Architecture, CpuBackend, CpuScorer, FORMAT_VERSION, FeatureSpec, Isa, Layer, Losses, Manifest, Model,
    Network, Scorer, Transform, WeightsFile, reference,
};
use std::hint::black_box;
use std::sync::Arc;

/// Widths of the networks.
const NETWORKS: [(&str, [usize; 5]); 2] = [("A", [16, 32, 8, 32, 16]), ("B", [32, 64, 16, 64, 32])];
const BATCHES: [usize; 3] = [64, 1024, 8192];
/// Calls before the clock is looked at again: as many rows in each.
const ROWS: usize = 8192;
const REPETITIONS: usize = 5;

pub fn run() -> Outcome {
    for (name, dims) in NETWORKS {
        let model = Arc::new(model(&dims, 1)?);
        for batch in BATCHES {
            measure(&format!("{name} {batch}"), &model, &dims, batch)?;
        }
    }
    Ok(())
}

/// One network and batch size: all contenders in turns, so that a busy machine slows all alike.
fn measure(case: &str, model: &Arc<Model>, dims: &[usize], batch: usize) -> Outcome {
    let raw: Vec<Vec<f64>> = (0..dims[0]).map(|feature| column(feature as u64, batch)).collect();
    let prepare = |(spec, column): (&FeatureSpec, &Vec<f64>)| column.iter().map(|x| spec.prepare(*x) as f32).collect();
    let columns: Vec<Vec<f32>> = model.manifest.features.iter().zip(&raw).map(prepare).collect();
    let rows: Vec<f32> = (0..batch).flat_map(|r| columns.iter().map(move |column| column[r])).collect();
    let raw: Vec<&[f64]> = raw.iter().map(Vec::as_slice).collect();
    let columns: Vec<&[f32]> = columns.iter().map(Vec::as_slice).collect();

    let scorer = |isa| Some((isa, CpuBackend::with(isa)?.cpu_scorer(model).ok()?));
    let mut ours: Vec<(Isa, CpuScorer)> = Isa::available().into_iter().filter_map(scorer).collect();
    let mut products = Products::new(model.network().ok_or("no perceptron")?);
    let (mut mse, mut losses) = (vec![0.0; batch], Losses::default());
    products.mse(&rows, &mut mse);
    same_scores(model, &raw, &mse)?;

    let repeat = |call: &mut dyn FnMut() -> Outcome| -> Result<f64, Box<dyn std::error::Error>> {
        let (rows, seconds) = repetition(|| {
            for _ in 0..ROWS / batch {
                call()?;
            }
            Ok::<_, Box<dyn std::error::Error>>(ROWS as u64)
        })?;
        Ok(rows as f64 / seconds)
    };
    for rep in 1..=REPETITIONS {
        let mut best = 0.0;
        for (isa, scorer) in &mut ours {
            best = repeat(&mut || Ok(scorer.prepared_mse(black_box(&columns), &mut mse)?))?;
            row("inference", &format!("{case}: {}", isa.name()), "rows/s", best, rep);
        }
        let theirs = repeat(&mut || {
            products.mse(black_box(&rows), &mut mse);
            Ok(())
        })?;
        row("inference", &format!("{case}: matrixmultiply"), "rows/s", theirs, rep);
        // The best instruction set is the last.
        row("inference", &format!("{case}: ratio"), "x", best / theirs, rep);
        if let Some((isa, scorer)) = ours.last_mut() {
            let whole = repeat(&mut || Ok(scorer.losses(black_box(&raw), &mut losses)?))?;
            row("inference", &format!("{case}: {} from raw columns", isa.name()), "rows/s", whole, rep);
        }
    }
    Ok(())
}

/// Refuses to compare with a contender that computes something else.
fn same_scores(model: &Model, raw: &[&[f64]], mse: &[f32]) -> Outcome {
    for (at, got) in mse.iter().enumerate() {
        let values: Vec<f64> = raw.iter().map(|column| column[at]).collect();
        let network = model.network().ok_or("no perceptron")?;
        let (expected, _) = reference::losses(network, &model.manifest.features, &values);
        if !reference::close(f64::from(*got), expected) {
            return Err(format!("matrixmultiply scores row {at} {got}, and it is {expected}").into());
        }
    }
    Ok(())
}

/// The network as matrix products, in chunks that stay in the cache.
struct Products {
    layers: Vec<Layer>,
    buffers: [Vec<f32>; 2],
}

impl Products {
    const CHUNK: usize = 512;

    fn new(network: &Network) -> Self {
        let widest = network.layers.iter().map(|layer| layer.outputs).max().unwrap_or(0);
        let buffer = || vec![0.0; Self::CHUNK * widest];
        Self { layers: network.layers.clone(), buffers: [buffer(), buffer()] }
    }

    fn mse(&mut self, rows: &[f32], out: &mut [f32]) {
        let width = self.layers[0].inputs;
        for (rows, out) in rows.chunks(Self::CHUNK * width).zip(out.chunks_mut(Self::CHUNK)) {
            let [from, to] = &mut self.buffers;
            let (mut from, mut to) = (from, to);
            let last = self.layers.len() - 1;
            for (at, layer) in self.layers.iter().enumerate() {
                let x = if at == 0 { rows } else { &from[..] };
                product(layer, x, &mut to[..out.len() * layer.outputs]);
                if at < last {
                    to[..out.len() * layer.outputs].iter_mut().for_each(|y| *y = y.max(0.0));
                }
                std::mem::swap(&mut from, &mut to);
            }
            for ((x, y), out) in rows.chunks_exact(width).zip(from.chunks_exact(width)).zip(out) {
                *out = x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f32>() / width as f32;
            }
        }
    }
}

/// `y = x Wᵀ + b`, rows one after the other.
fn product(layer: &Layer, x: &[f32], y: &mut [f32]) {
    let (inputs, outputs) = (layer.inputs, layer.outputs);
    let rows = y.len() / outputs;
    assert!(x.len() >= rows * inputs && layer.weight.len() == inputs * outputs && layer.bias.len() == outputs);
    y.chunks_exact_mut(outputs).for_each(|y| y.copy_from_slice(&layer.bias));
    let (x, w, y) = (x.as_ptr(), layer.weight.as_ptr(), y.as_mut_ptr());
    let (across, out) = (inputs as isize, outputs as isize);
    // SAFETY: three matrices of rows x inputs, inputs x outputs (transposed) and rows x outputs, as large as asserted.
    unsafe { matrixmultiply::sgemm(rows, inputs, outputs, 1.0, x, across, 1, w, 1, across, 1.0, y, out, 1) };
}

/// Random weights: what they are does not change the time.
pub fn model(dims: &[usize], seed: u64) -> Result<Model, kaminari::inference::ModelError> {
    let mut random = random(seed);
    let layer = |d: &[usize]| {
        let spread = (6.0 / (d[0] + d[1]) as f64).sqrt();
        let mut numbers = |n| (0..n).map(|_| (spread * (2.0 * random() - 1.0)) as f32).collect();
        Layer { inputs: d[0], outputs: d[1], weight: numbers(d[0] * d[1]), bias: numbers(d[1]) }
    };
    let network = Network { layers: dims.windows(2).map(layer).collect(), activation: Activation::Relu, code: None };
    let feature =
        |at| FeatureSpec { name: format!("f{at}"), transform: Transform::Log1p, center: 1.0, scale: 2.0, clip: 8.0 };
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        name: "bench".into(),
        version: String::new(),
        input: None,
        architecture: Architecture::of(&network),
        weights: WeightsFile::default(),
        features: (0..dims[0]).map(feature).collect(),
        calibration: None,
        golden: None,
        training: None,
    };
    Model::new(manifest, network)
}

/// Heavy-tailed numbers, the same in every run.
pub fn column(seed: u64, rows: usize) -> Vec<f64> {
    let mut random = random(seed + 2);
    (0..rows).map(|_| 1.0 / (1.0 - random()).max(1e-5)).collect()
}

/// From 0 to 1 (xorshift).
fn random(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}
