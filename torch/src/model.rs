//! A model on a device: a description in, losses of rows out.

use crate::device::{find, length, upload};
use crate::fault::{Fault, Result};
use crate::network::{Network, Shape};
use crate::script::Script;
use kaminari_torch_abi::{Dtype, Feature, ModelSpec};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// What scores.
pub struct Model {
    net: Net,
    kind: Kind,
    prepare: Prepare,
    device: Device,
    /// Its own order of the features: those with a logarithm first, so that it is taken of all at once. A script has its
    /// author's.
    order: Vec<usize>,
}

enum Net {
    Mlp(Network),
    Script(Script),
}

// SAFETY: nothing changes a model's tensors once it is made, libtorch counts their owners atomically, and modules are
// `Sync` by tch's own word.
unsafe impl Sync for Model {}

/// Constants of the preprocessing, `f64`.
struct Prepare {
    features: Vec<Feature>,
    /// What follows the subtraction of the center, a column.
    inverse_scale: Tensor,
    clip: Clip,
}

/// Bounds, in `f32`: those of what has become `f32` are the bounds of what it was, rounded.
enum Clip {
    /// One of all features: one operation.
    Same(f64),
    /// Columns of lower and upper ones.
    Each(Tensor, Tensor),
}

impl Model {
    /// Loads it.
    ///
    /// # Safety
    /// The pointers of the description are valid.
    pub unsafe fn new(spec: &ModelSpec) -> Result<Self> {
        let device = find(spec.device)?;
        // SAFETY: by the caller.
        let features = unsafe { std::slice::from_raw_parts(spec.features, spec.features_len) };
        let width = length(features.len())?;
        if features.is_empty() {
            return Err(Fault::refused("a model without features"));
        }
        let kind = match spec.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::Bf16 => Kind::BFloat16,
        };
        let mut order: Vec<usize> = (0..features.len()).collect();
        // SAFETY: by the caller.
        let net = match unsafe { spec.mlp.as_ref() } {
            Some(mlp) => {
                // SAFETY: by the caller.
                let (shape, params) = unsafe { Shape::read(mlp)? };
                if shape.width() != width {
                    let takes = shape.width();
                    return Err(Fault::refused(format!("a network of {takes} inputs cannot take {width} features")));
                }
                order.sort_by_key(|&feature| features[feature].log1p == 0);
                Net::Mlp(Network::new(&shape, &shape.reordered(params, &order), device, kind)?)
            }
            None if spec.script.is_null() => return Err(Fault::refused("a model without a network")),
            None => {
                // SAFETY: by the caller.
                let archive = unsafe { std::slice::from_raw_parts(spec.script, spec.script_len) };
                Net::Script(Script::new(archive, width, device, kind)?)
            }
        };
        let features: Vec<Feature> = order.iter().map(|&feature| features[feature]).collect();
        Ok(Self { net, kind, prepare: Prepare::new(&features, device)?, device, order })
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Where its inputs were when it was described.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Its inputs, in its own order.
    pub fn features(&self) -> &[Feature] {
        &self.prepare.features
    }

    /// Losses of rows: `raw` is [features, rows] of `f32`, of which `origin` was subtracted; `losses` is [2, rows].
    pub fn score(&self, raw: &Tensor, origin: &Origin, losses: &mut Tensor) -> Result<()> {
        let (z, unfit) = self.prepare.apply(raw, origin)?;
        let (mse, log1p) = (losses.f_get(0)?, losses.f_get(1)?);
        match &self.net {
            Net::Script(script) => {
                // Rows that are not judged must not reach code that may mix rows.
                let z = z.f_nan_to_num(0.0, None, None)?;
                let output = script.forward(&z)?;
                if script.tells_loss() {
                    losses.f_copy_(&output.f_clamp_min(0.0)?)?;
                } else {
                    errors(&output, &z, &mse, &log1p)?;
                }
            }
            Net::Mlp(network) => errors(&network.forward(&z.f_to_kind(self.kind)?)?, &z, &mse, &log1p)?,
        }
        // 0 or NaN.
        _ = losses.f_add_(&unfit)?;
        Ok(())
    }

    /// The network alone: [rows, features] to what it says, and how many values a row that has.
    pub fn forward(&self, prepared: &Tensor) -> Result<(Tensor, usize)> {
        let x = prepared.f_to(self.device)?.f_transpose(0, 1)?;
        let output = match &self.net {
            Net::Mlp(network) => {
                let order: Vec<i64> = self.order.iter().map(|&feature| feature as i64).collect();
                let order = upload(&order, &[-1], self.device)?;
                let y = network.forward(&x.f_index_select(0, &order)?.f_to_kind(self.kind)?)?;
                y.f_index_select(0, &order.f_argsort(-1, false)?)?
            }
            Net::Script(script) => script.forward(&x)?,
        };
        let (rows, width) =
            if output.dim() == 1 { (output, 1) } else { (output.f_transpose(0, 1)?, self.features().len()) };
        Ok((rows.f_to_kind(Kind::Float)?.f_to(Device::Cpu)?.f_contiguous()?, width))
    }
}

/// Mean squared and mean log1p difference per column. The output stays as it is: a script may have given a tensor of its
/// own.
fn errors(output: &Tensor, z: &Tensor, mse: &Tensor, log1p: &Tensor) -> Result<()> {
    // f16 less f32 is f32.
    let mut squares = output.f_sub(z)?.f_square_()?;
    _ = squares.f_mean_out(mse, [0i64].as_slice(), false, Kind::Float)?;
    _ = squares.f_log1p_()?.f_mean_out(log1p, [0i64].as_slice(), false, Kind::Float)?;
    Ok(())
}

/// What a group adds to the constants of a model's preprocessing.
pub struct Origin {
    /// Per feature, subtracted first: less what the caller has subtracted, and the center where no transform follows.
    shift: Tensor,
    /// Neighbouring features that are transformed, and their centers.
    logs: Vec<(Range<i64>, Tensor)>,
}

impl Origin {
    /// For values from which the caller subtracts these offsets.
    pub fn new(features: &[Feature], offsets: &[f64], device: Device) -> Result<Self> {
        let shift = |(feature, offset): (&Feature, &f64)| {
            if feature.log1p != 0 { -offset } else { feature.center - offset }
        };
        let shifts: Vec<f64> = features.iter().zip(offsets).map(shift).collect();
        let mut logs = Vec::new();
        let mut start = 0;
        for run in features.chunk_by(|a, b| (a.log1p != 0) == (b.log1p != 0)) {
            let end = start + length(run.len())?;
            if run[0].log1p != 0 {
                let centers: Vec<f64> = run.iter().map(|f| f.center).collect();
                logs.push((start..end, upload(&centers, &[-1, 1], device)?));
            }
            start = end;
        }
        Ok(Self { shift: upload(&shifts, &[-1, 1], device)?, logs })
    }
}

impl Prepare {
    fn new(features: &[Feature], device: Device) -> Result<Self> {
        let column = |of: fn(&Feature) -> f64| upload(&features.iter().map(of).collect::<Vec<f64>>(), &[-1, 1], device);
        let clip = if features.iter().all(|f| f.clip == features[0].clip) {
            Clip::Same(features[0].clip)
        } else {
            let high = column(|f| f.clip)?.f_to_kind(Kind::Float)?;
            Clip::Each(high.f_neg()?, high)
        };
        Ok(Self { features: features.to_vec(), inverse_scale: column(|f| 1.0 / f.scale)?, clip })
    }

    /// What the network sees, `f32`, and per row 0, or NaN where a value is not finite.
    fn apply(&self, raw: &Tensor, origin: &Origin) -> Result<(Tensor, Tensor)> {
        // f32 less f64 is f64 here.
        let x = raw.f_sub(&origin.shift)?;
        // Bounds make infinities finite, so this comes before them. In f64 sums of f32 stay finite.
        let unfit = x.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Double)?.f_mul_scalar_(0.0)?;
        for (features, centers) in &origin.logs {
            let x = x.f_narrow(0, features.start, features.end - features.start)?;
            _ = x.f_abs()?.f_log1p_()?.f_copysign_(&x)?.f_sub_out(&x, centers)?;
        }
        let z = Tensor::f_empty(x.size(), (Kind::Float, x.device()))?;
        let mut z = x.f_mul_out(&z, &self.inverse_scale)?;
        let z = match &self.clip {
            Clip::Same(clip) => z.f_clamp_(-clip, *clip)?,
            // A clamp between tensors is slow on the CPU.
            Clip::Each(low, high) => z.f_clamp_min_tensor_(low)?.f_clamp_max_tensor_(high)?,
        };
        Ok((z, unfit))
    }
}
