//! The time at which a frame was received.

use crate::model::time::now_ns;
use std::time::Instant;

/// Ingest time: the wall clock, except that it never goes back and never stands still, because windows by `received`
/// count on it. When the wall clock is set back, time goes on from where it was at the pace of the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct IngestClock {
    last: Option<(u64, Instant)>,
    set_back: bool,
}

impl IngestClock {
    pub(super) fn now(&mut self) -> u64 {
        self.step(now_ns(), Instant::now())
    }

    fn step(&mut self, wall_ns: u64, at: Instant) -> u64 {
        let now = match self.last {
            Some((last_ns, last_at)) if wall_ns < last_ns => {
                if !std::mem::replace(&mut self.set_back, true) {
                    tracing::warn!(
                        "the wall clock was set back by {:.3} s: ingest time goes on without it",
                        (last_ns - wall_ns) as f64 / 1e9
                    );
                }
                last_ns + u64::try_from(at.duration_since(last_at).as_nanos()).unwrap_or(0)
            }
            _ => {
                self.set_back = false;
                wall_ns
            }
        };
        self.last = Some((now, at));
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ingest_time_goes_on_when_the_wall_clock_goes_back() {
        let (mut clock, start) = (IngestClock::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(clock.step(5_000_000_000, at(0)), 5_000_000_000);
        assert_eq!(clock.step(1_000_000_000, at(100)), 5_100_000_000);
        assert_eq!(clock.step(1_200_000_000, at(300)), 5_300_000_000);
        assert_eq!(clock.step(9_000_000_000, at(400)), 9_000_000_000, "the wall clock has caught up");
    }
}
