//! The fused kernel: `L` rows lie in the lanes of vector registers and pass the whole network before the next rows
//! come, so that nothing leaves the innermost cache. Written once, compiled once per instruction set (`cpu.rs`).
//! Comes in: columns; goes out: losses. A row with a feature that is not finite gets NaN, its neighbours do not notice.

use super::lanes::{ln_1p_32, signed_ln_1p_64, tanh};
use super::manifest::{Activation, FeatureSpec, Transform};
use super::network::{Layer, Network};
use super::register::Register;

/// Outputs of a layer that are computed together.
const OUTPUTS: usize = 4;
/// Floats of a cache line.
const LINE: usize = 16;

/// A network laid out for the kernel.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    layers: Vec<PackedLayer>,
    features: Vec<Feature>,
    /// Width of the widest layer, padded.
    widest: usize,
}

#[derive(Clone, Debug)]
struct PackedLayer {
    inputs: usize,
    /// `None`: the last, and the one that makes a code.
    activation: Option<Activation>,
    /// Blocks of [`OUTPUTS`] outputs: their biases, then their weights input by input. Behind the last output: 0.
    blocks: Vec<Vec<[f32; OUTPUTS]>>,
}

#[derive(Clone, Debug)]
struct Feature {
    transform: Transform,
    center: f64,
    factor: f64,
    clip: f64,
}

impl Packed {
    /// Lays out a network and its preprocessing.
    pub(super) fn new(network: &Network, features: &[FeatureSpec]) -> Self {
        let pack = |(at, layer)| PackedLayer::new(layer, network.activation_after(at));
        let layers: Vec<_> = network.layers.iter().enumerate().map(pack).collect();
        let feature = |spec: &FeatureSpec| Feature {
            transform: spec.transform,
            center: spec.center,
            factor: 1.0 / spec.scale,
            clip: spec.clip,
        };
        let widest = layers.iter().map(|layer| layer.blocks.len() * OUTPUTS).chain([features.len()]).max();
        Self { layers, features: features.iter().map(feature).collect(), widest: widest.unwrap_or(0) }
    }

    /// Number of features.
    pub(super) fn features(&self) -> usize {
        self.features.len()
    }
}

impl PackedLayer {
    fn new(layer: &Layer, activation: Option<Activation>) -> Self {
        let block = |first: usize| {
            let bias = std::array::from_fn(|o| layer.bias.get(first + o).copied().unwrap_or(0.0));
            let weight = |input: usize| {
                let at = |o: usize| (first + o) * layer.inputs + input;
                std::array::from_fn(|o| layer.weight.get(at(o)).copied().unwrap_or(0.0))
            };
            std::iter::once(bias).chain((0..layer.inputs).map(weight)).collect()
        };
        let blocks = (0..layer.outputs).step_by(OUTPUTS).map(block).collect();
        Self { inputs: layer.inputs, activation, blocks }
    }
}

/// Memory of one thread for the tile at hand: input, and the outputs of two layers in turn.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    memory: Vec<f32>,
    /// First float on a cache line.
    start: usize,
    /// Floats of each of the three.
    part: usize,
}

impl Tile {
    /// Room for `lanes` rows.
    pub(super) fn new(net: &Packed, lanes: usize) -> Self {
        let part = (net.widest * lanes).next_multiple_of(LINE);
        let memory = vec![0.0; 3 * part + LINE];
        // Loads that cross a line are slow; nothing but speed depends on it.
        let start = memory.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Self { memory, start, part }
    }

    #[inline(always)]
    fn parts<const L: usize>(&mut self) -> [&mut [[f32; L]]; 3] {
        let (input, rest) = self.memory[self.start..].split_at_mut(self.part);
        let (a, b) = rest.split_at_mut(self.part);
        [input, a, b].map(|part| part.as_chunks_mut().0)
    }
}

/// Rows that come in.
pub(super) trait Columns {
    /// Fills `x` with the `L` rows from `first` on (fewer at the end: anything in the other lanes). `poison` gets NaN
    /// in the lane of a row that must have no loss, and is 0 elsewhere.
    fn load<const L: usize, const FMA: bool>(
        &self,
        net: &Packed,
        first: usize,
        x: &mut [[f32; L]],
        poison: &mut [f32; L],
    );
}

/// Raw features.
pub(super) struct Raw<'a>(pub &'a [&'a [f64]]);

/// Features that were preprocessed.
pub(super) struct Prepared<'a>(pub &'a [&'a [f32]]);

impl Columns for Raw<'_> {
    #[inline(always)]
    fn load<const L: usize, const FMA: bool>(
        &self,
        net: &Packed,
        first: usize,
        x: &mut [[f32; L]],
        poison: &mut [f32; L],
    ) {
        let mut sick = [0.0f64; L];
        for ((column, feature), x) in self.0.iter().zip(&net.features).zip(x) {
            let mut value = lanes(column, first);
            for l in 0..L {
                sick[l] += value[l] * 0.0; // NaN of what is not finite
            }
            if feature.transform == Transform::Log1p {
                signed_ln_1p_64::<L, FMA>(&mut value);
            }
            for l in 0..L {
                x[l] = ((value[l] - feature.center) * feature.factor).max(-feature.clip).min(feature.clip) as f32;
            }
        }
        for l in 0..L {
            poison[l] = sick[l] as f32;
        }
    }
}

impl Columns for Prepared<'_> {
    #[inline(always)]
    fn load<const L: usize, const FMA: bool>(&self, _: &Packed, first: usize, x: &mut [[f32; L]], _: &mut [f32; L]) {
        for (column, x) in self.0.iter().zip(x) {
            *x = lanes(column, first);
        }
    }
}

#[inline(always)]
fn lanes<T: Copy + Default, const L: usize>(column: &[T], first: usize) -> [T; L] {
    let rest = &column[first..];
    match rest.first_chunk() {
        Some(full) => *full,
        None => {
            let mut padded = [T::default(); L];
            padded[..rest.len()].copy_from_slice(rest);
            padded
        }
    }
}

/// Losses of as many rows as `mse` has; `log1p` is computed if wanted, and is as long. `V` is the register, `FMA` that
/// of it, `L` the rows of a tile, in `R` registers.
#[inline(always)]
pub(super) fn losses<V: Register, const FMA: bool, const L: usize, const R: usize>(
    net: &Packed,
    tile: &mut Tile,
    columns: &impl Columns,
    mse: &mut [f32],
    mut log1p: Option<&mut [f32]>,
) {
    const { assert!(R * V::LANES == L && FMA == V::FMA) };
    let [input, a, b] = tile.parts::<L>();
    let features = net.features();
    let input = &mut input[..features];
    let share = 1.0 / features as f32;
    for first in (0..mse.len()).step_by(L) {
        let mut poison = [0.0; L];
        columns.load::<L, FMA>(net, first, input, &mut poison);
        let output = forward::<V, FMA, L, R>(net, input, a, b);
        let (mut squares, mut logs) = (poison, poison);
        for (x, y) in input.iter().zip(output) {
            let mut error = [0.0; L];
            for l in 0..L {
                let difference = y[l] - x[l];
                error[l] = difference * difference;
                squares[l] += error[l];
            }
            if log1p.is_some() {
                ln_1p_32::<L, FMA>(&mut error);
                for l in 0..L {
                    logs[l] += error[l];
                }
            }
        }
        store(&squares, share, &mut mse[first..]);
        if let Some(log1p) = &mut log1p {
            store(&logs, share, &mut log1p[first..]);
        }
    }
}

#[inline(always)]
fn store<const L: usize>(sums: &[f32; L], share: f32, out: &mut [f32]) {
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = sum * share;
    }
}

/// The network; the output lies in one of `a` and `b`.
#[inline(always)]
fn forward<'a, V: Register, const FMA: bool, const L: usize, const R: usize>(
    net: &Packed,
    input: &[[f32; L]],
    a: &'a mut [[f32; L]],
    b: &'a mut [[f32; L]],
) -> &'a [[f32; L]] {
    let (mut from, mut to) = (a, b);
    for (at, layer) in net.layers.iter().enumerate() {
        let x = if at == 0 { input } else { &*from };
        dense::<V, FMA, L, R>(layer, &x[..layer.inputs], to);
        std::mem::swap(&mut from, &mut to);
    }
    from
}

#[inline(always)]
fn dense<V: Register, const FMA: bool, const L: usize, const R: usize>(
    layer: &PackedLayer,
    x: &[[f32; L]],
    y: &mut [[f32; L]],
) {
    for (weights, y) in layer.blocks.iter().zip(y.as_chunks_mut().0) {
        block::<V, L, R>(weights, layer.activation == Some(Activation::Relu), x, y);
        if layer.activation == Some(Activation::Tanh) {
            for y in y {
                tanh::<L, FMA>(y);
            }
        }
    }
}

/// Some outputs of `L` rows: the sums stay in registers while the inputs pass.
#[inline(always)]
fn block<V: Register, const L: usize, const R: usize>(
    weights: &[[f32; OUTPUTS]],
    relu: bool,
    x: &[[f32; L]],
    y: &mut [[f32; L]; OUTPUTS],
) {
    let Some((bias, weights)) = weights.split_first() else { return };
    let mut sums = bias.map(|bias| [V::splat(bias); R]);
    for (w, x) in weights.iter().zip(x) {
        let mut rows = [V::splat(0.0); R];
        for r in 0..R {
            rows[r] = V::load(&x[r * V::LANES..]);
        }
        for o in 0..OUTPUTS {
            let w = V::splat(w[o]);
            for r in 0..R {
                sums[o][r] = w.mul_add(rows[r], sums[o][r]);
            }
        }
    }
    for o in 0..OUTPUTS {
        for r in 0..R {
            let sum = if relu { sums[o][r].max(V::splat(0.0)) } else { sums[o][r] };
            sum.store(&mut y[o][r * V::LANES..]);
        }
    }
}
