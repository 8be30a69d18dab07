//! Where models are scored, and with what arithmetic: the words of `[inference]`.

use std::fmt;
use std::str::FromStr;

/// Who scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// Whoever is faster, by measurement; a TorchScript archive is libtorch's.
    #[default]
    Auto,
    /// The built-in kernel.
    Cpu,
    /// libtorch, always.
    Torch,
}

impl FromStr for BackendChoice {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "torch" => Ok(Self::Torch),
            _ => Err(()),
        }
    }
}

/// Where libtorch computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// In the thread that asks.
    Cpu,
    /// A CUDA device, by number.
    Cuda(u16),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text.strip_prefix("cuda:").and_then(|n| n.parse().ok()).map(Self::Cuda).ok_or(()),
        }
    }
}

/// Arithmetic of libtorch's networks. Preprocessing and losses are wider, whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single.
    #[default]
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    /// `f32`, ...
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        }
    }
}

impl FromStr for Dtype {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::F32, Self::F16, Self::Bf16].into_iter().find(|dtype| dtype.name() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(11)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        assert!(["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU"].iter().all(|t| t.parse::<Device>().is_err()));
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            assert_eq!(dtype.name().parse(), Ok(dtype));
        }
        assert!("f64".parse::<Dtype>().is_err() && "gpu".parse::<BackendChoice>().is_err());
    }
}
