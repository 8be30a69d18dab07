//! When a plugin may run again after it broke. Comes in: faults and successes with the time they happened (wall
//! clock: it is about this process, not about the data); goes out: run, wait, or never again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Wait after a batch broke two instances in a row; doubles while the next batches do the same.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Longest wait.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// So many broken batches ...
const QUARANTINE_FAULTS: usize = 5;
/// ... within so long, and the plugin is left out.
const QUARANTINE_WINDOW: Duration = Duration::from_secs(600);

/// Whether to call the plugin now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permit {
    /// Yes.
    Run,
    /// Not yet.
    Backoff,
    /// Not before its file or its configuration changes.
    Quarantine,
}

/// The life of one plugin in one pipeline.
#[derive(Debug, Default)]
pub struct Supervisor {
    faults: VecDeque<Instant>,
    backoff: Duration,
    wait_until: Option<Instant>,
    quarantined: bool,
}

impl Supervisor {
    /// Whether to call the plugin now.
    pub fn permit(&self, now: Instant) -> Permit {
        match self.wait_until {
            _ if self.quarantined => Permit::Quarantine,
            Some(until) if now < until => Permit::Backoff,
            _ => Permit::Run,
        }
    }

    /// A batch broke an instance. Called once per batch: its retry does not count twice. True when this is the fault
    /// that quarantines.
    pub fn fault(&mut self, now: Instant) -> bool {
        self.faults.push_back(now);
        while self.faults.front().is_some_and(|&t| now.duration_since(t) > QUARANTINE_WINDOW) {
            self.faults.pop_front();
        }
        let was = std::mem::replace(&mut self.quarantined, self.faults.len() >= QUARANTINE_FAULTS);
        self.quarantined && !was
    }

    /// The fresh instance broke too, or did not come up: wait before the next. Returns until when.
    pub fn wait(&mut self, now: Instant) -> Instant {
        self.backoff = if self.backoff.is_zero() { FIRST_BACKOFF } else { (self.backoff * 2).min(MAX_BACKOFF) };
        *self.wait_until.insert(now + self.backoff)
    }

    /// A call came back. True when it had waited before.
    pub fn success(&mut self) -> bool {
        self.backoff = Duration::ZERO;
        self.wait_until.take().is_some()
    }

    /// True when it may not run any more.
    pub fn is_quarantined(&self) -> bool {
        self.quarantined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_a_success_starts_anew() {
        let mut s = Supervisor::default();
        let now = Instant::now();
        let mut wait = || {
            s.wait(now);
            s.backoff.as_millis()
        };
        let waits: Vec<_> = (0..12).map(|_| wait()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(s.permit(now + Duration::from_secs(59)), Permit::Backoff);
        assert_eq!(s.permit(now + Duration::from_secs(60)), Permit::Run);
        s.success();
        assert_eq!(s.permit(now), Permit::Run);
        s.wait(now);
        assert_eq!(s.permit(now + Duration::from_millis(99)), Permit::Backoff);
        assert_eq!(s.permit(now + Duration::from_millis(100)), Permit::Run);
    }

    #[test]
    fn five_faults_in_ten_minutes_quarantine_for_good() {
        let mut s = Supervisor::default();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        for i in 0..4 {
            assert!(!s.fault(at(i)));
        }
        assert!(!s.fault(at(601 + 1)), "the first two are too long ago");
        assert_eq!(s.permit(at(602)), Permit::Run);
        assert!(!s.fault(at(602)));
        assert!(s.fault(at(602)), "the fifth within ten minutes");
        s.success();
        assert_eq!(s.permit(at(100_000)), Permit::Quarantine);
    }
}
