//! How far a source that can be read again has come: a position is kept once every record before it is with the routers, and
//! safe with the sinks that take records as they are. In: what the intake has handed on. Out: positions in `state_dir`.

use super::saved::Saved;
use crate::sink::worker::{SinkHandle, is_lost};
use crate::source::tail::Places;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often positions are kept.
const EVERY: Duration = Duration::from_secs(1);
/// At the end, sinks are waited for so long: longer than they try themselves.
const FINISH: Duration = Duration::from_secs(10);

pub(super) struct Progress {
    places: Places,
    saved: Saved,
    /// Deliveries of frames that have come.
    taken: u64,
    /// Sinks that were asked whether all is safe, and up to where.
    asked: Option<(u64, Vec<Receiver<()>>)>,
    next: Instant,
}

impl Progress {
    /// Keeps where the source begins.
    pub(super) fn new(places: Places, mut saved: Saved) -> Self {
        saved.write(places.behind(0, true));
        Self { places, saved, taken: 0, asked: None, next: Instant::now() + EVERY }
    }

    /// One more delivery of frames has come.
    pub(super) fn take(&mut self) {
        self.taken += 1;
    }

    /// True when it is time to hand on what has come and [`ask`](Self::ask).
    pub(super) fn is_due(&self) -> bool {
        self.asked.is_none() && (Instant::now() >= self.next || self.places.is_urgent())
    }

    /// All that has come has been handed on.
    pub(super) fn ask(&mut self, sinks: &[Arc<SinkHandle>]) {
        self.next = Instant::now() + EVERY;
        self.asked = Some((self.taken, sinks.iter().map(|sink| sink.barrier()).collect()));
    }

    /// Keeps the positions when all who were asked have answered. Never waits.
    pub(super) fn settle(&mut self) {
        let Some((taken, answers)) = &mut self.asked else { return };
        if is_lost(answers) {
            // Something is not safe, and will not be: it is read again after a restart.
            self.asked = None;
        } else if answers.is_empty() {
            let taken = *taken;
            self.asked = None;
            self.saved.write(self.places.behind(taken, false));
        }
    }

    /// The source has ended and all has been handed on.
    pub(super) fn finish(mut self, sinks: &[Arc<SinkHandle>]) {
        self.ask(sinks);
        let until = Instant::now() + FINISH;
        let Some((taken, answers)) = self.asked.take() else { return };
        for answer in answers {
            match answer.recv_deadline(until) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    tracing::warn!("a sink does not say that all is safe: lines are read again at the next start");
                    return;
                }
            }
        }
        self.saved.write(self.places.behind(taken, true));
    }
}
