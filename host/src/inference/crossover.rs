//! From how many rows on a device is faster than the built-in kernel: measured when a model is loaded, with its own
//! shape. Comes in: the model and both backends; goes out: rows a second of both at some batch sizes, and the crossover.
//! Rows on the way to a device cost a call and a transfer whatever their number, so there is one.

use super::model::Model;
use super::scorer::{Backend, InferenceError, Losses};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Batch sizes that are tried.
const ROWS: [usize; 5] = [64, 512, 4096, 32_768, 262_144];
/// The kernel does not care for more.
const KERNEL_ROWS: usize = 512;
/// Time for one size of one backend.
const TIME: Duration = Duration::from_millis(20);
/// A batch that would take longer tells nothing new.
const LONG: Duration = Duration::from_millis(250);
/// The device has to be so much faster: it is shared, the measurement is short.
const CLEARLY: f64 = 1.1;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The built-in kernel's name.
    pub cpu: String,
    /// The device's.
    pub device: String,
    /// Rows of a batch, rows a second of the built-in kernel, rows a second of the device.
    pub rates: Vec<(usize, f64, f64)>,
    /// Rows from which on the device scores; `None`: never.
    pub from_rows: Option<usize>,
}

impl Measured {
    /// For a line of a log: `64: 4.5M/0.1M, ...`.
    pub fn figures(&self) -> String {
        let one = |(rows, cpu, device): &(usize, f64, f64)| format!("{rows} rows {} / {}", short(*cpu), short(*device));
        self.rates.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

fn short(rate: f64) -> String {
    match rate {
        r if r >= 1e6 => format!("{:.2} M/s", r / 1e6),
        r if r >= 1e3 => format!("{:.1} k/s", r / 1e3),
        r => format!("{r:.0}/s"),
    }
}

/// Measures. `most`: rows of the largest batch that the device gets.
pub fn measure(
    model: &Arc<Model>,
    cpu: &dyn Backend,
    device: &dyn Backend,
    most: usize,
) -> Result<Measured, InferenceError> {
    let names = (cpu.name(), device.name());
    let (mut cpu, mut device) = (cpu.scorer(model)?, device.scorer(model)?);
    let mut rates = Vec::new();
    let (mut losses, mut kernel) = (Losses::default(), 0.0);
    for rows in ROWS.into_iter().filter(|&rows| rows == ROWS[0] || rows <= most) {
        let columns: Vec<Vec<f64>> = model.manifest.features.iter().map(|f| column(f.center, f.scale, rows)).collect();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        if rows <= KERNEL_ROWS {
            kernel = rate(rows, || cpu.losses(&columns, &mut losses))?;
        }
        let rate = match rate(rows, || device.losses(&columns, &mut losses)) {
            // Too many rows for the device's memory, say: what is known of fewer counts.
            Err(_) if !rates.is_empty() => break,
            rate => rate?,
        };
        rates.push((rows, kernel, rate));
        if rate * LONG.as_secs_f64() < 8.0 * rows as f64 {
            break;
        }
    }
    Ok(Measured { cpu: names.0, device: names.1, from_rows: crossover(&rates), rates })
}

/// The least size from which on the device is clearly faster at all sizes.
fn crossover(rates: &[(usize, f64, f64)]) -> Option<usize> {
    let faster = rates.iter().rev().take_while(|(_, cpu, device)| *device > CLEARLY * cpu);
    faster.last().map(|(rows, ..)| *rows)
}

/// Rows a second, the best of some calls; the first warms up.
fn rate(rows: usize, mut call: impl FnMut() -> Result<(), InferenceError>) -> Result<f64, InferenceError> {
    call()?;
    let (begin, mut best) = (Instant::now(), Duration::MAX);
    while best == Duration::MAX || begin.elapsed() < TIME {
        let call_began = Instant::now();
        call()?;
        best = best.min(call_began.elapsed());
    }
    Ok(rows as f64 / best.as_secs_f64().max(1e-9))
}

/// Numbers around the centre, as far as the transform lets them.
fn column(center: f64, scale: f64, rows: usize) -> Vec<f64> {
    (0..rows).map(|row| center + scale * ((row * 37 % 41) as f64 / 10.0 - 2.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::tests::model;
    use crate::inference::{Activation, CpuBackend, Isa};

    #[test]
    fn the_device_scores_from_where_it_stays_ahead() {
        assert_eq!(crossover(&[(64, 5.0, 1.0), (512, 5.0, 5.4), (4096, 5.0, 6.0), (32_768, 5.0, 40.0)]), Some(4096));
        assert_eq!(crossover(&[(64, 5.0, 9.0), (512, 5.0, 5.0), (4096, 5.0, 9.0)]), Some(4096));
        assert_eq!(crossover(&[(64, 1.0, 2.0), (512, 1.0, 2.0)]), Some(64));
        assert_eq!(crossover(&[(64, 5.0, 9.0), (512, 5.0, 5.0)]), None);
        assert_eq!(crossover(&[]), None);
    }

    #[test]
    fn two_backends_are_measured_with_the_models_own_shape() {
        let model = Arc::new(model(&[6, 16, 3, 16, 6], Activation::Tanh, 5));
        let slow = CpuBackend::with(Isa::Scalar).unwrap();
        let measured = measure(&model, &slow, &CpuBackend::detect(), 4096).unwrap();
        let rows: Vec<usize> = measured.rates.iter().map(|r| r.0).collect();
        assert!(rows.starts_with(&[64, 512]) && rows.iter().all(|rows| *rows <= 4096), "{measured:?}");
        assert!(measured.rates.iter().all(|(_, cpu, device)| *cpu > 0.0 && *device > 0.0), "{measured:?}");
        assert!(measured.figures().starts_with("64 rows "), "{}", measured.figures());
    }
}
