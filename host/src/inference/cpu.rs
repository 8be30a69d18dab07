//! The built-in backend: the fused kernel, compiled for several instruction sets, the best of which is picked when the
//! process starts. One binary for all machines, no setting.

use super::kernel::{self, Columns, Packed, Prepared, Raw, Tile};
use super::model::Model;
use super::network::Weights;
use super::panel::rows;
use super::reference;
use super::scorer::{Backend, FeatureError, InferenceError, Losses, Scorer};
use std::sync::Arc;

/// An instruction set that the kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// No vectors: for machines of which nothing is known.
    Scalar,
    /// x86-64: every machine has it.
    Sse2,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 (F, VL, DQ).
    Avx512,
    /// aarch64: every machine has it.
    Neon,
}

impl Isa {
    /// Those that this CPU has, the best last.
    pub fn available() -> Vec<Isa> {
        let mut found = vec![Isa::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            found.push(Isa::Sse2);
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Isa::Avx2);
                let all = is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq");
                if all {
                    found.push(Isa::Avx512);
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(Isa::Neon);
        found
    }

    /// `avx512`, ...
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Sse2 => "sse2",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }

    /// Rows of a tile.
    fn lanes(self) -> usize {
        match self {
            Isa::Scalar => SCALAR,
            Isa::Sse2 => SSE2,
            Isa::Avx2 => AVX2,
            Isa::Avx512 => AVX512,
            Isa::Neon => NEON,
        }
    }
}

// Rows of a tile: as many registers of sums as there are, measured. Four outputs each.
const SCALAR: usize = 1;
const SSE2: usize = 8;
const AVX2: usize = 16;
const AVX512: usize = 64;
const NEON: usize = 16;

/// Scores on the CPU, in the caller's thread.
#[derive(Clone, Copy, Debug)]
pub struct CpuBackend {
    /// One of [`Isa::available`], always: the kernel relies on it.
    isa: Isa,
}

impl CpuBackend {
    /// With the best instructions of this CPU.
    pub fn detect() -> Self {
        Self { isa: Isa::available().last().copied().unwrap_or(Isa::Scalar) }
    }

    /// With these instructions; `None` if this CPU does not have them.
    pub fn with(isa: Isa) -> Option<Self> {
        Isa::available().contains(&isa).then_some(Self { isa })
    }

    /// The instructions it uses.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// As [`Backend::scorer`], for callers that want the kernel itself.
    pub fn cpu_scorer(&self, model: &Arc<Model>) -> Result<CpuScorer, InferenceError> {
        let Weights::Mlp(network) = &model.weights else {
            return Err(InferenceError::NeedsTorch { model: model.manifest.name.clone() });
        };
        let net = Packed::new(network, &model.manifest.features);
        let tile = Tile::new(&net, self.isa.lanes());
        Ok(CpuScorer { model: model.clone(), net, tile, isa: self.isa })
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> String {
        format!("cpu/{}", self.isa.name())
    }

    fn scorer(&self, model: &Arc<Model>) -> Result<Box<dyn Scorer>, InferenceError> {
        Ok(Box::new(self.cpu_scorer(model)?))
    }
}

/// One model on one thread.
pub struct CpuScorer {
    model: Arc<Model>,
    net: Packed,
    tile: Tile,
    /// As in [`CpuBackend`].
    isa: Isa,
}

impl CpuScorer {
    /// Mean squared error of rows that are preprocessed already: the network alone, for benchmarks.
    pub fn prepared_mse(&mut self, columns: &[&[f32]], out: &mut Vec<f32>) -> Result<(), InferenceError> {
        let rows = rows(self.net.features(), columns)?;
        out.resize(rows, 0.0);
        self.run(&Prepared(columns), out, None);
        Ok(())
    }

    fn run(&mut self, columns: &impl Columns, mse: &mut [f32], log1p: Option<&mut [f32]>) {
        let Self { net, tile, isa, .. } = self;
        match *isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Sse2 => kernel::losses::<std::arch::x86_64::__m128, false, SSE2, 2>(net, tile, columns, mse, log1p),
            // SAFETY: the backend was made for an instruction set that this CPU has.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2(net, tile, columns, mse, log1p) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512(net, tile, columns, mse, log1p) },
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => {
                kernel::losses::<std::arch::aarch64::float32x4_t, true, NEON, 4>(net, tile, columns, mse, log1p)
            }
            _ => kernel::losses::<f32, false, SCALAR, 1>(net, tile, columns, mse, log1p),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(net: &Packed, tile: &mut Tile, columns: &impl Columns, mse: &mut [f32], log1p: Option<&mut [f32]>) {
    kernel::losses::<std::arch::x86_64::__m256, true, AVX2, 2>(net, tile, columns, mse, log1p);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
fn avx512(net: &Packed, tile: &mut Tile, columns: &impl Columns, mse: &mut [f32], log1p: Option<&mut [f32]>) {
    kernel::losses::<std::arch::x86_64::__m512, true, AVX512, 4>(net, tile, columns, mse, log1p);
}

impl Scorer for CpuScorer {
    fn losses(&mut self, columns: &[&[f64]], out: &mut Losses) -> Result<(), InferenceError> {
        let rows = rows(self.net.features(), columns)?;
        out.mse.resize(rows, 0.0);
        out.log1p.resize(rows, 0.0);
        self.run(&Raw(columns), &mut out.mse, Some(&mut out.log1p));
        Ok(())
    }

    fn explain(&mut self, row: &[f64]) -> Result<Vec<FeatureError>, InferenceError> {
        match &self.model.weights {
            Weights::Mlp(network) => reference::explain(network, &self.model.manifest.features, row),
            Weights::TorchScript(_) => Err(InferenceError::NeedsTorch { model: self.model.manifest.name.clone() }),
        }
    }
}
