//! The arithmetic of training: forward, backward and the step. Rows stand in lanes, 16 to a tile, so that every inner loop
//! runs over a fixed number of floats and becomes vector code; a dispatch at run time picks the widest vectors. Sums are
//! taken in one fixed order and nothing is fused (no FMA), so the vectors' width does not change a bit of the result.

/// Rows of a tile.
pub(super) const LANES: usize = 16;
/// One value of each row of a tile.
pub(super) type Lane = [f32; LANES];
/// Outputs worked out at once: accumulators that stay in registers. Loops over them are written out, or the compiler keeps
/// the accumulators in memory and adds them float by float.
const BLOCK: usize = 4;

/// Weights and biases: per layer `outputs x inputs` weights, row after row, then `outputs` biases.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mlp {
    /// Widths, inputs first.
    pub dims: Vec<usize>,
    /// All layers, one after another.
    pub params: Vec<f32>,
    /// Width number so many is a code: nothing follows its layer. 0, which are the inputs: none.
    pub code: usize,
}

impl Mlp {
    /// Floats that a network of these widths has.
    pub fn len(dims: &[usize]) -> usize {
        dims.windows(2).map(|d| (d[0] + 1) * d[1]).sum()
    }
}

/// Buffers for a batch: what each layer said, and how the loss changes with it.
pub(super) struct Workspace {
    tiles: usize,
    /// Of the batch that is loaded.
    rows: usize,
    /// Per layer (inputs first), per tile, per unit.
    pub values: Vec<Vec<Lane>>,
    deltas: Vec<Vec<Lane>>,
    /// The gradient before the lanes are summed up.
    sums: Vec<Lane>,
    /// As [`Mlp::params`].
    pub gradient: Vec<f32>,
}

impl Workspace {
    /// For at most `rows` rows at once.
    pub fn new(dims: &[usize], rows: usize) -> Self {
        let params = Mlp::len(dims);
        let forward = Self::forward_only(dims, rows);
        let (deltas, sums) = (forward.values.clone(), vec![[0.0; LANES]; params]);
        Self { deltas, sums, gradient: vec![0.0; params], ..forward }
    }

    /// The same without room for a gradient, which is many times that of the weights.
    pub fn forward_only(dims: &[usize], rows: usize) -> Self {
        let tiles = rows.div_ceil(LANES);
        let values = dims.iter().map(|d| vec![[0.0; LANES]; d * tiles]).collect();
        Self { tiles, rows: 0, values, deltas: Vec::new(), sums: Vec::new(), gradient: Vec::new() }
    }

    /// Most rows at once.
    pub fn capacity(&self) -> usize {
        self.tiles * LANES
    }

    /// Takes rows of `width` values as the batch. Lanes past the last row hold zeros.
    pub fn load<'a>(&mut self, width: usize, rows: impl ExactSizeIterator<Item = &'a [f32]>) {
        self.rows = rows.len();
        let input = &mut self.values[0];
        for (r, row) in rows.enumerate() {
            for (i, value) in row.iter().enumerate() {
                input[r / LANES * width + i][r % LANES] = *value;
            }
        }
        for r in self.rows..self.rows.next_multiple_of(LANES) {
            for i in 0..width {
                input[r / LANES * width + i][r % LANES] = 0.0;
            }
        }
    }
}

/// Compiles a function once per vector width and calls the widest that the machine has.
macro_rules! widest {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) $(-> $result:ty)? = $body:ident) => {
        $(#[$doc])*
        #[allow(unsafe_code)]
        pub(super) fn $name($($arg: $kind),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512($($arg: $kind),*) $(-> $result)? {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $kind),*) $(-> $result)? {
                    $body($($arg),*)
                }
                if is_x86_feature_detected!("avx512f") {
                    // SAFETY: the machine has what the function was compiled for.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: as above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            $body($($arg),*)
        }
    };
}

widest! {
    /// What the network makes of the loaded batch: `values` of every layer.
    forward(mlp: &Mlp, ws: &mut Workspace) = forward_any
}

widest! {
    /// Forward and backward: `gradient` of the mean squared error (over rows and features) of the loaded batch. Returns
    /// the sum of the squared errors.
    gradient(mlp: &Mlp, ws: &mut Workspace) -> f64 = gradient_any
}

#[inline(always)]
fn forward_any(mlp: &Mlp, ws: &mut Workspace) {
    let tiles = ws.rows.div_ceil(LANES);
    let last = mlp.dims.len() - 2;
    let mut at = 0;
    for (k, d) in mlp.dims.windows(2).enumerate() {
        let (inputs, outputs) = (d[0], d[1]);
        let (weight, bias) = mlp.params[at..at + (inputs + 1) * outputs].split_at(inputs * outputs);
        at += (inputs + 1) * outputs;
        let (before, after) = ws.values.split_at_mut(k + 1);
        for (x, y) in before[k].chunks_exact(inputs).zip(after[0].chunks_exact_mut(outputs)).take(tiles) {
            affine(weight, bias, x, y);
            if k < last && k + 1 != mlp.code {
                y.iter_mut().for_each(tanh);
            }
        }
    }
}

#[inline(always)]
fn gradient_any(mlp: &Mlp, ws: &mut Workspace) -> f64 {
    forward_any(mlp, ws);
    let loss = output_delta(ws);
    let tiles = ws.rows.div_ceil(LANES);
    let mut end = mlp.params.len();
    for (k, d) in mlp.dims.windows(2).enumerate().rev() {
        let (inputs, outputs) = (d[0], d[1]);
        let at = end - (inputs + 1) * outputs;
        let weight = &mlp.params[at..at + inputs * outputs];
        let (gw, gb) = ws.sums[at..end].split_at_mut(inputs * outputs);
        end = at;
        let x = &ws.values[k][..tiles * inputs];
        let (before, after) = ws.deltas.split_at_mut(k + 1);
        let delta = &after[0][..tiles * outputs];
        weight_gradient(inputs, outputs, x, delta, gw);
        for (o, sum) in gb.iter_mut().enumerate() {
            *sum = [0.0; LANES];
            for d in delta.chunks_exact(outputs) {
                add(sum, &d[o]);
            }
        }
        if k > 0 {
            let tiles = before[k].chunks_exact_mut(inputs).zip(x.chunks_exact(inputs));
            for ((dx, x), dy) in tiles.zip(delta.chunks_exact(outputs)) {
                affine_back(weight, dy, dx);
                if k == mlp.code {
                    continue;
                }
                for (dx, x) in dx.iter_mut().zip(x) {
                    for l in 0..LANES {
                        dx[l] *= 1.0 - x[l] * x[l];
                    }
                }
            }
        }
    }
    for (g, sum) in ws.gradient.iter_mut().zip(&ws.sums) {
        *g = total(sum);
    }
    loss
}

/// Derivative of the loss by the outputs, and the sum of squared errors. Lanes past the last row count for nothing.
#[inline(always)]
fn output_delta(ws: &mut Workspace) -> f64 {
    let last = ws.values.len() - 1;
    let width = ws.values[0].len() / ws.tiles;
    let factor = 2.0 / (ws.rows * width) as f32;
    let mut loss = 0.0;
    let tiles = ws.values[last].chunks_exact(width).zip(ws.values[0].chunks_exact(width));
    let tiles = tiles.zip(ws.deltas[last].chunks_exact_mut(width)).take(ws.rows.div_ceil(LANES));
    for (t, ((y, x), delta)) in tiles.enumerate() {
        let mut sum = [0.0; LANES];
        for ((y, x), delta) in y.iter().zip(x).zip(delta.iter_mut()) {
            for l in 0..LANES {
                let error = y[l] - x[l];
                delta[l] = error * factor;
                sum[l] += error * error;
            }
        }
        let rows = (ws.rows - t * LANES).min(LANES);
        for delta in delta {
            delta[rows..].fill(0.0);
        }
        loss += sum[..rows].iter().map(|s| f64::from(*s)).sum::<f64>();
    }
    loss
}

/// `y = W x + b` of a tile.
#[inline(always)]
fn affine(weight: &[f32], bias: &[f32], x: &[Lane], y: &mut [Lane]) {
    let inputs = x.len();
    let mut rows = weight.chunks_exact(inputs * BLOCK);
    let mut at = 0;
    for w in rows.by_ref() {
        let mut sum = [[0.0; LANES]; BLOCK];
        for j in 0..BLOCK {
            sum[j] = [bias[at + j]; LANES];
        }
        let (w0, w) = w.split_at(inputs);
        let (w1, w) = w.split_at(inputs);
        let (w2, w3) = w.split_at(inputs);
        for ((((x, w0), w1), w2), w3) in x.iter().zip(w0).zip(w1).zip(w2).zip(w3) {
            add_scaled(&mut sum[0], *w0, x);
            add_scaled(&mut sum[1], *w1, x);
            add_scaled(&mut sum[2], *w2, x);
            add_scaled(&mut sum[3], *w3, x);
        }
        y[at..at + BLOCK].copy_from_slice(&sum);
        at += BLOCK;
    }
    for w in rows.remainder().chunks_exact(inputs) {
        let mut sum = [bias[at]; LANES];
        for (x, w) in x.iter().zip(w) {
            add_scaled(&mut sum, *w, x);
        }
        y[at] = sum;
        at += 1;
    }
}

/// `dx = W^T dy` of a tile.
#[inline(always)]
fn affine_back(weight: &[f32], dy: &[Lane], dx: &mut [Lane]) {
    let inputs = dx.len();
    let whole = inputs / BLOCK * BLOCK;
    for at in (0..whole).step_by(BLOCK) {
        let mut sum = [[0.0; LANES]; BLOCK];
        for (dy, w) in dy.iter().zip(weight.chunks_exact(inputs)) {
            let w = &w[at..at + BLOCK];
            add_scaled(&mut sum[0], w[0], dy);
            add_scaled(&mut sum[1], w[1], dy);
            add_scaled(&mut sum[2], w[2], dy);
            add_scaled(&mut sum[3], w[3], dy);
        }
        dx[at..at + BLOCK].copy_from_slice(&sum);
    }
    for at in whole..inputs {
        let mut sum = [0.0; LANES];
        for (dy, w) in dy.iter().zip(weight.chunks_exact(inputs)) {
            add_scaled(&mut sum, w[at], dy);
        }
        dx[at] = sum;
    }
}

/// `dW = dy x^T`, summed over all tiles but not over lanes: the shuffles of that would spill into the loops here.
#[inline(always)]
fn weight_gradient(inputs: usize, outputs: usize, x: &[Lane], dy: &[Lane], out: &mut [Lane]) {
    for (o, out) in out.chunks_exact_mut(inputs).enumerate() {
        let whole = inputs / BLOCK * BLOCK;
        for i in (0..whole).step_by(BLOCK) {
            let mut sum = [[0.0; LANES]; BLOCK];
            for (x, dy) in x.chunks_exact(inputs).zip(dy.chunks_exact(outputs)) {
                let (x, dy) = (&x[i..i + BLOCK], &dy[o]);
                add_product(&mut sum[0], &x[0], dy);
                add_product(&mut sum[1], &x[1], dy);
                add_product(&mut sum[2], &x[2], dy);
                add_product(&mut sum[3], &x[3], dy);
            }
            out[i..i + BLOCK].copy_from_slice(&sum);
        }
        for i in whole..inputs {
            let mut sum = [0.0; LANES];
            for (x, dy) in x.chunks_exact(inputs).zip(dy.chunks_exact(outputs)) {
                add_product(&mut sum, &x[i], &dy[o]);
            }
            out[i] = sum;
        }
    }
}

#[inline(always)]
fn add(sum: &mut Lane, x: &Lane) {
    for l in 0..LANES {
        sum[l] += x[l];
    }
}

#[inline(always)]
fn add_scaled(sum: &mut Lane, w: f32, x: &Lane) {
    for l in 0..LANES {
        sum[l] += w * x[l];
    }
}

#[inline(always)]
fn add_product(sum: &mut Lane, x: &Lane, y: &Lane) {
    for l in 0..LANES {
        sum[l] += x[l] * y[l];
    }
}

/// Sum of the lanes by halves: the same order whatever the vectors' width.
#[inline(always)]
fn total(x: &Lane) -> f32 {
    let mut sum = *x;
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            sum[l] += sum[l + half];
        }
        half /= 2;
    }
    sum[0]
}

/// tanh as a ratio of polynomials (the one of Eigen and XLA): within 5e-7 of the true value.
#[inline(always)]
fn tanh(x: &mut Lane) {
    for v in x {
        let x = v.clamp(-9.0, 9.0);
        let x2 = x * x;
        let p = -2.760_768_5e-16;
        let p = p * x2 + 2.000_188e-13;
        let p = p * x2 - 8.604_672e-11;
        let p = p * x2 + 5.122_297e-8;
        let p = p * x2 + 1.485_722_4e-5;
        let p = p * x2 + 6.372_619e-4;
        let p = p * x2 + 4.893_525e-3;
        let q = 1.198_258_4e-6;
        let q = q * x2 + 1.185_347e-4;
        let q = q * x2 + 2.268_434_6e-3;
        let q = q * x2 + 4.893_525_6e-3;
        *v = x * p / q;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::random::Random;

    #[test]
    fn tanh_is_close_everywhere() {
        let mut worst = 0.0f64;
        for k in -40_000..=40_000 {
            let x = k as f32 * 5e-4;
            let mut lane = [x; LANES];
            tanh(&mut lane);
            worst = worst.max((f64::from(lane[0]) - f64::from(x).tanh()).abs());
        }
        assert!(worst < 5e-7, "{worst}");
        let mut lane = [f32::INFINITY; LANES];
        tanh(&mut lane);
        assert!((lane[0] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn wide_vectors_and_plain_code_agree_bit_for_bit() {
        let dims = [19, 16, 6, 16, 19];
        let mut random = Random::new(5);
        let mut floats = |n: usize| (0..n).map(|_| (random.unit() * 2.0 - 1.0) as f32).collect::<Vec<f32>>();
        let mlp = Mlp { dims: dims.to_vec(), params: floats(Mlp::len(&dims)), code: 0 };
        let rows = floats(19 * 100);
        let mut wide = Workspace::new(&dims, 128);
        wide.load(19, rows.chunks_exact(19));
        let mut plain = Workspace::new(&dims, 128);
        plain.load(19, rows.chunks_exact(19));
        let (a, b) = (gradient(&mlp, &mut wide), gradient_any(&mlp, &mut plain));
        assert_eq!(a.to_bits(), b.to_bits());
        assert_eq!(wide.gradient, plain.gradient);
        assert_eq!(wide.values, plain.values);
    }

    /// A code of values far from 0, where tanh would show: as the reference has it.
    #[test]
    fn nothing_follows_the_layer_of_a_code() {
        let dims = [5, 7, 3, 7, 5];
        let mut random = Random::new(9);
        let mut floats = |n: usize| (0..n).map(|_| (random.unit() * 2.0 - 1.0) as f32).collect::<Vec<f32>>();
        let mlp = Mlp { dims: dims.to_vec(), params: floats(Mlp::len(&dims)), code: 2 };
        let rows: Vec<f32> = floats(5 * 20).iter().map(|x| x * 5.0).collect();
        let mut ws = Workspace::new(&dims, 20);
        ws.load(5, rows.chunks_exact(5));
        gradient(&mlp, &mut ws);
        let mut alone = Workspace::forward_only(&dims, 20);
        alone.load(5, rows.chunks_exact(5));
        forward(&mlp, &mut alone);
        assert_eq!(alone.values, ws.values);
        assert!(alone.values[2].as_flattened().iter().any(|x| x.abs() > 1.5), "a code that tanh would bound");
        let network = crate::train::network(&mlp);
        assert_eq!(network.code, Some(2));
        for (at, row) in rows.chunks_exact(5).enumerate() {
            let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            for (i, want) in crate::inference::reference::forward(&network, &row).into_iter().enumerate() {
                let got = f64::from(alone.values[4][at / LANES * 5 + i][at % LANES]);
                assert!((got - want).abs() < 1e-5, "row {at}, value {i}: {got} against {want}");
            }
        }
    }
}
