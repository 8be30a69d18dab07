//! Tests through the table, as the engine calls it; libtorch on the CPU.

mod scoring;
mod scripts;
mod training;
mod wiring;

use kaminari_torch_abi::{Activation, Api, Buffer, CPU, Dtype, Failure, Feature, Member, Mlp, ModelSpec, Status};
use std::ffi::c_void;
use std::ptr::{null, null_mut};

fn api() -> &'static Api {
    static STARTED: std::sync::Once = std::sync::Once::new();
    let api = unsafe { &*crate::kaminari_torch_api() };
    STARTED.call_once(|| check(|failure| unsafe { (api.start)(1, failure) }).unwrap());
    api
}

/// Its text, where a call fails.
fn check(call: impl FnOnce(*mut Failure) -> Status) -> Result<(), (Status, String)> {
    let mut failure = Failure::new();
    match call(&mut failure) {
        Status::Ok => Ok(()),
        status => Err((status, String::from_utf8(failure.text[..failure.len].to_vec()).unwrap())),
    }
}

/// Repeatable numbers in [-1, 1).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn floats(&mut self, n: usize, scale: f64) -> Vec<f32> {
        (0..n).map(|_| (self.next() * scale) as f32).collect()
    }
}

/// What a model is, owned.
#[derive(Clone)]
struct Recipe {
    dims: Vec<u32>,
    activation: Activation,
    code: u32,
    params: Vec<f32>,
    features: Vec<Feature>,
    dtype: Dtype,
    script: Vec<u8>,
}

impl Recipe {
    /// A network with random weights over features of every kind.
    fn new(dims: &[u32], activation: Activation, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut params = Vec::new();
        for d in dims.windows(2) {
            params.extend(random.floats((d[0] * d[1]) as usize, (3.0 / f64::from(d[0])).sqrt()));
            params.extend(random.floats(d[1] as usize, 0.1));
        }
        let feature = |i: u32| Feature {
            log1p: i32::from(i % 3 == 1),
            center: random.next() * 2.0,
            scale: 1.5 + random.next(),
            clip: if seed > 4 { 3.0 } else { 2.0 + f64::from(i % 4) },
        };
        let features = (0..dims[0]).map(feature).collect();
        Self { dims: dims.to_vec(), activation, code: 0, params, features, dtype: Dtype::F32, script: Vec::new() }
    }

    fn script(archive: Vec<u8>, features: usize) -> Self {
        let mut recipe = Self::new(&[features as u32; 2], Activation::Relu, 1);
        recipe.script = archive;
        recipe
    }

    fn mlp(&self) -> Mlp {
        Mlp {
            dims: self.dims.as_ptr(),
            dims_len: self.dims.len(),
            activation: self.activation,
            code: self.code,
            params: self.params.as_ptr(),
            params_len: self.params.len(),
        }
    }

    fn load(&self) -> Result<Model, (Status, String)> {
        self.load_on(CPU)
    }

    fn load_on(&self, device: i32) -> Result<Model, (Status, String)> {
        let mlp = self.mlp();
        let spec = ModelSpec {
            device,
            dtype: self.dtype,
            features: self.features.as_ptr(),
            features_len: self.features.len(),
            mlp: if self.script.is_empty() { &mlp } else { null() },
            script: if self.script.is_empty() { null() } else { self.script.as_ptr() },
            script_len: self.script.len(),
        };
        let mut model = null_mut();
        check(|failure| unsafe { (api().model_new)(&spec, &mut model, failure) })?;
        Ok(Model(model))
    }

    fn prepare(&self, row: &[f64]) -> Vec<f64> {
        let prepare = |(f, x): (&Feature, &f64)| {
            let x = if f.log1p != 0 { x.abs().ln_1p().copysign(*x) } else { *x };
            ((x - f.center) / f.scale).clamp(-f.clip, f.clip)
        };
        self.features.iter().zip(row).map(prepare).collect()
    }

    /// The network, with plain loops.
    fn output(&self, prepared: &[f64]) -> Vec<f64> {
        let (mut x, mut at) = (prepared.to_vec(), 0);
        for (layer, d) in self.dims.windows(2).enumerate() {
            let (weights, biases) = self.params[at..].split_at((d[0] * d[1]) as usize);
            at += ((d[0] + 1) * d[1]) as usize;
            let dot = |w: &[f32]| w.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
            let sums: Vec<f64> =
                weights.chunks(d[0] as usize).zip(biases).map(|(w, b)| dot(w) + f64::from(*b)).collect();
            let plain = layer + 2 == self.dims.len() || layer + 1 == self.code as usize;
            let activate = |y: f64| match self.activation {
                _ if plain => y,
                Activation::Relu => y.max(0.0),
                Activation::Tanh => y.tanh(),
            };
            x = sums.into_iter().map(activate).collect();
        }
        x
    }

    /// Mean squared and mean log1p error of a raw row.
    fn losses(&self, row: &[f64]) -> (f64, f64) {
        if row.iter().any(|x| !x.is_finite()) {
            return (f64::NAN, f64::NAN);
        }
        let x = self.prepare(row);
        let squares: Vec<f64> = self.output(&x).iter().zip(&x).map(|(y, x)| (y - x).powi(2)).collect();
        let mean = |of: fn(f64) -> f64| squares.iter().map(|s| of(*s)).sum::<f64>() / squares.len() as f64;
        (mean(|s| s), mean(f64::ln_1p))
    }
}

struct Model(*mut c_void);

impl Drop for Model {
    fn drop(&mut self) {
        unsafe { (api().model_free)(self.0) }
    }
}

struct Group {
    handle: *mut c_void,
    columns: usize,
    models: usize,
}

impl Drop for Group {
    fn drop(&mut self) {
        unsafe { (api().group_free)(self.handle) }
    }
}

impl Group {
    fn new(members: &[(&Model, &[u32], &[f64])], columns: usize) -> Result<Self, (Status, String)> {
        let member = |(model, columns, offsets): &(&Model, &[u32], &[f64])| Member {
            model: model.0,
            columns: columns.as_ptr(),
            offsets: offsets.as_ptr(),
        };
        let members: Vec<Member> = members.iter().map(member).collect();
        let mut handle = null_mut();
        check(|f| unsafe { (api().group_new)(members.as_ptr(), members.len(), columns, &mut handle, f) })?;
        Ok(Self { handle, columns, models: members.len() })
    }

    /// All columns in order, nothing subtracted.
    fn plain(model: &Model, columns: usize) -> Self {
        let numbers: Vec<u32> = (0..columns as u32).collect();
        Self::new(&[(model, &numbers, &vec![0.0; columns])], columns).unwrap()
    }

    /// Losses of rows given in parts: per model mean squared, then mean log1p errors.
    fn score(&self, parts: &[&[Vec<f64>]]) -> Vec<Vec<f32>> {
        let rows: usize = parts.iter().map(|part| part.len()).sum();
        let buffer = Floats::new(rows * self.columns);
        let mut at = buffer.0.floats;
        for part in parts {
            for column in 0..self.columns {
                for row in *part {
                    unsafe {
                        at.write(row[column] as f32);
                        at = at.add(1);
                    }
                }
            }
        }
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        let mut losses = vec![-1.0; self.models * 2 * rows];
        self.run(&buffer, &lengths, &mut losses).unwrap();
        losses.chunks(rows.max(1)).map(<[f32]>::to_vec).collect()
    }

    fn run(&self, buffer: &Floats, parts: &[usize], losses: &mut [f32]) -> Result<(), (Status, String)> {
        let (out, len) = (losses.as_mut_ptr(), losses.len());
        check(|f| unsafe { (api().score)(self.handle, buffer.0.handle, parts.as_ptr(), parts.len(), out, len, f) })
    }
}

struct Floats(Buffer);

impl Floats {
    fn new(floats: usize) -> Self {
        let mut buffer = Buffer { handle: null_mut(), floats: null_mut() };
        check(|f| unsafe { (api().buffer_new)(CPU, floats, &mut buffer, f) }).unwrap();
        Self(buffer)
    }
}

impl Drop for Floats {
    fn drop(&mut self) {
        unsafe { (api().buffer_free)(self.0.handle) }
    }
}

/// Rows of values that are exact in `f32`, of many sizes.
fn rows(n: usize, width: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut random = Random(seed);
    let value = |random: &mut Random| f64::from((random.next() * 10f64.powf(random.next() * 2.0)) as f32);
    (0..n).map(|_| (0..width).map(|_| value(&mut random)).collect()).collect()
}

#[track_caller]
fn assert_close(got: &[f32], expected: impl IntoIterator<Item = f64>, absolute: f64, relative: f64) {
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let off = (f64::from(*got) - expected).abs();
        let near = off <= absolute || off <= relative * expected.abs() || (got.is_nan() && expected.is_nan());
        assert!(near, "row {i}: {got}, not {expected}");
    }
}
