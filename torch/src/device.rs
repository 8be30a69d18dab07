//! Devices, and memory between them and the engine: floats in, floats out. Refused: a device that is not there.

use crate::fault::{Fault, Result};
use kaminari_torch_abi::CPU;
use tch::{Cuda, Device, Kind, Tensor};

/// Prepares the process: `threads` for one operation on the CPU, no TF32 anywhere.
pub fn start(threads: i32) -> Result<()> {
    const TF32: &str = "NVIDIA_TF32_OVERRIDE";
    // Products of matrices are without TF32 unless it is asked for, convolutions are with it: only the driver's own
    // switch reaches those from here.
    if std::env::var_os(TF32).is_none() {
        // SAFETY: the engine calls this once, before anything else of libtorch and before the driver is asked for
        // anything; nobody else changes the environment.
        unsafe { std::env::set_var(TF32, "0") };
    }
    tch::set_num_threads(threads.max(1));
    // It would compile kernels for every new number of rows, in the middle of the traffic.
    Ok(tch::jit::f_set_tensor_expr_fuser_enabled(false)?)
}

/// How many CUDA devices there are.
pub fn count() -> i32 {
    Cuda::device_count().try_into().unwrap_or(0)
}

/// The device of that number.
pub fn find(number: i32) -> Result<Device> {
    match usize::try_from(number) {
        Err(_) if number == CPU => Ok(Device::Cpu),
        Ok(index) if number < count() => Ok(Device::Cuda(index)),
        _ => Err(Fault::lost(format!("there is no CUDA device {number} ({} found)", count()))),
    }
}

/// A tensor of the device with these values.
pub fn upload<T: tch::kind::Element>(values: &[T], size: &[i64], device: Device) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_view(size)?.f_to(device)?)
}

/// Memory of the host that the device reads and writes fast.
fn host_memory(floats: usize, device: Device) -> Result<Tensor> {
    let plain = Tensor::f_zeros([length(floats)?], (Kind::Float, Device::Cpu))?;
    // `pin_memory` would do the same and print that its argument is deprecated.
    Ok(if device.is_cuda() { plain.f_internal_pin_memory(device)? } else { plain })
}

/// As libtorch counts.
pub fn length(n: usize) -> Result<i64> {
    i64::try_from(n).map_err(|_| Fault::refused(format!("{n} is more than there can be")))
}

/// What the engine fills and a device reads.
pub struct Buffer {
    floats: Tensor,
    len: usize,
    device: Device,
    /// Where results come to before they are copied out; grows.
    back: Option<Tensor>,
}

impl Buffer {
    /// Of so many floats.
    pub fn new(device: Device, floats: usize) -> Result<Self> {
        Ok(Self { floats: host_memory(floats, device)?, len: floats, device, back: None })
    }

    /// Where the engine writes.
    pub fn start(&self) -> *mut f32 {
        self.floats.data_ptr().cast()
    }

    /// The device that it is for.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The first floats on their device: a view on the CPU, else one copy that may still be on its way.
    pub fn on_device(&self, floats: usize) -> Result<Tensor> {
        if floats > self.len {
            return Err(Fault::refused(format!("the buffer holds {} floats, not {floats}", self.len)));
        }
        let used = self.floats.f_narrow(0, 0, length(floats)?)?;
        Ok(if self.device.is_cuda() { used.f_to_device_(self.device, Kind::Float, true, false)? } else { used })
    }

    /// Copies a tensor of the device to the host, and waits until everything before it is done.
    pub fn fetch(&mut self, result: &Tensor) -> Result<Tensor> {
        if !self.device.is_cuda() {
            return Ok(result.shallow_clone());
        }
        let len = result.numel();
        let back = match self.back.take() {
            Some(back) if back.numel() >= len => back,
            _ => host_memory(len, self.device)?,
        };
        let mut used = back.f_narrow(0, 0, length(len)?)?;
        self.back = Some(back);
        used.f_copy_(&result.f_view([-1])?)?;
        Ok(used)
    }

    /// Floats to the device, and `back` of them back.
    pub fn transfer(&mut self, floats: usize, back: usize) -> Result<()> {
        if back > floats {
            return Err(Fault::refused(format!("of {floats} floats {back} cannot come back")));
        }
        let there = self.on_device(floats)?;
        // One at least: its coming back is what waits.
        _ = self.fetch(&there.f_narrow(0, 0, length(back.max(1).min(floats))?)?)?;
        Ok(())
    }
}
