//! Whether a device may be asked again. Comes in: what became of the batches sent to it; goes out: yes or no. After a
//! failure the CPU scores for a second, after the next for two, and so on up to a minute. Moves
//! `kaminari_inference_failovers_total`; one WARN when a device fails, one line when it is back.

use super::scorer::Reason;
use crate::telemetry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Of one device.
#[derive(Debug)]
pub(super) struct Health {
    device: String,
    state: Mutex<Option<Sick>>,
}

/// Since the last batch that went well.
#[derive(Debug)]
struct Sick {
    until: Instant,
    wait: Duration,
}

impl Health {
    pub fn of(device: String) -> Self {
        Self { device, state: Mutex::new(None) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sick>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a batch may go to the device.
    pub fn permits(&self, now: Instant) -> bool {
        self.lock().as_ref().is_none_or(|sick| now >= sick.until)
    }

    /// A batch went well.
    pub fn success(&self) {
        if self.lock().take().is_some() {
            tracing::info!(device = self.device, "the device scores again");
        }
    }

    /// A batch failed, and the CPU scored it.
    pub fn failure(&self, now: Instant, reason: Reason, message: &str) {
        let labels = [("device", self.device.clone()), ("reason", reason.name().to_owned())];
        metrics::counter!(telemetry::INFERENCE_FAILOVERS, &labels).increment(1);
        let mut state = self.lock();
        let wait = match &*state {
            // Of a batch that was on its way beside the one that failed first.
            Some(sick) if now < sick.until => return,
            Some(sick) => (sick.wait * 2).min(LONGEST),
            None => FIRST,
        };
        if state.is_none() {
            tracing::warn!(
                device = self.device,
                reason = reason.name(),
                "the device failed, the CPU scores until it is back: {message}"
            );
        }
        *state = Some(Sick { until: now + wait, wait });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_fails_is_asked_again_ever_later_and_all_is_well_when_it_answers() {
        let health = Health::of("cuda:0".into());
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(health.permits(start));
        health.failure(start, Reason::OutOfMemory, "full");
        assert!(!health.permits(start) && health.permits(after(1)));
        // One that was on its way does not count twice.
        health.failure(start, Reason::OutOfMemory, "full");
        assert!(health.permits(after(1)));
        health.failure(after(1), Reason::DeviceLost, "gone");
        assert!(!health.permits(after(2)) && health.permits(after(3)));
        let mut now = after(3);
        for _ in 0..10 {
            health.failure(now, Reason::DeviceLost, "gone");
            now += LONGEST;
        }
        assert!(health.permits(now));
        health.success();
        health.failure(now, Reason::OutOfMemory, "full");
        assert!(health.permits(now + FIRST));
    }
}
