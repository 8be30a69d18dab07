//! What the desk has learnt, handed to the workers so that it does not matter who is ahead. Comes in: tails, each with
//! the close order from which it counts; goes out: the tail of a close order. A worker that is [`LAG`] orders ahead of the
//! desk waits for it, because nobody can know yet what will count there.

use super::Tail;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Close orders between the one that taught something and the first that it counts for: as far as a worker may be ahead.
pub const LAG: u64 = 64;

/// What counts from some close order on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Published {
    /// The followed tail; none: not enough was seen, the detector has no opinion.
    pub tail: Option<Arc<Tail>>,
    /// Rows a day, for the limit; none: not known yet.
    pub rows_per_day: Option<f64>,
    /// Scores above it are handed to the follower.
    pub floor: f64,
}

/// One detector's tails over the close orders.
#[derive(Debug)]
pub struct Timeline {
    inner: Mutex<Inner>,
    moved: Condvar,
}

#[derive(Debug)]
struct Inner {
    /// From which order what counts, ascending.
    entries: VecDeque<(u64, Published)>,
    /// The newest order that the desk is done with.
    done: Option<u64>,
    open: bool,
}

impl Timeline {
    /// What counts from the first order on.
    pub fn new(first: Published) -> Self {
        let inner = Inner { entries: VecDeque::from([(0, first)]), done: None, open: false };
        Self { inner: Mutex::new(inner), moved: Condvar::new() }
    }

    /// What counts from the first order on, instead of what was said when it was made. False: an order is done, it is too
    /// late. Nobody may have asked yet, or they were told something else.
    pub fn begin(&self, first: Published) -> bool {
        let mut inner = self.lock();
        let early = inner.done.is_none();
        if early {
            inner.entries = VecDeque::from([(0, first)]);
        }
        early
    }

    /// It begins in the middle of a run, with this order: what it was made with counts from there on.
    pub fn start_at(&self, seq: u64) {
        self.lock().done = Some(seq);
    }

    /// True once an order is done.
    pub fn begun(&self) -> bool {
        self.lock().done.is_some()
    }

    /// The desk is done with this order and learnt something, or nothing, from it. Orders come one after the other.
    pub fn done(&self, seq: u64, learnt: Option<Published>) {
        let mut inner = self.lock();
        if let Some(published) = learnt {
            inner.entries.push_back((seq + LAG, published));
        }
        inner.done = Some(seq);
        // All workers are past `seq`: what the next order no longer needs may go.
        while inner.entries.get(1).is_some_and(|(from, _)| *from <= seq + 1) {
            inner.entries.pop_front();
        }
        self.moved.notify_all();
    }

    /// What counts for this order. Waits for the desk when that is too far behind.
    pub fn at(&self, seq: u64) -> Published {
        let mut inner = self.lock();
        while !inner.open && seq >= inner.done.map_or(0, |done| done + 1) + LAG {
            inner = self.moved.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let entry = inner.entries.iter().rev().find(|(from, _)| *from <= seq);
        entry.or(inner.entries.front()).map(|(_, published)| published.clone()).unwrap_or_default()
    }

    /// Nobody waits any more: the desk is gone.
    pub fn release(&self) {
        self.lock().open = true;
        self.moved.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(rows_per_day: f64) -> Published {
        Published { rows_per_day: Some(rows_per_day), ..Published::default() }
    }

    #[test]
    fn what_was_learnt_counts_lag_orders_later() {
        let timeline = Timeline::new(rate(1.0));
        for seq in 0..10 {
            timeline.done(seq, (seq == 3).then(|| rate(2.0)));
        }
        assert_eq!(timeline.at(10), rate(1.0));
        assert_eq!(timeline.at(3 + LAG - 1), rate(1.0));
        assert_eq!(timeline.at(3 + LAG), rate(2.0));
        assert_eq!(timeline.at(9 + LAG), rate(2.0));
    }

    #[test]
    fn what_it_begins_with_is_settled_before_the_first_order() {
        let timeline = Timeline::new(rate(1.0));
        assert!(!timeline.begun() && timeline.begin(rate(2.0)));
        assert_eq!(timeline.at(0), rate(2.0));
        timeline.done(0, None);
        assert!(timeline.begun() && !timeline.begin(rate(3.0)));
        assert_eq!(timeline.at(1), rate(2.0));
    }

    #[test]
    fn keeps_only_what_can_still_be_asked_for() {
        let timeline = Timeline::new(rate(0.0));
        for seq in 0..1000 {
            timeline.done(seq, Some(rate(seq as f64)));
        }
        assert!(timeline.lock().entries.len() as u64 <= LAG + 1);
        assert_eq!(timeline.at(1000), rate((1000 - LAG) as f64));
    }

    #[test]
    fn a_worker_too_far_ahead_waits_for_the_desk() {
        let timeline = Arc::new(Timeline::new(rate(1.0)));
        let ahead = {
            let timeline = timeline.clone();
            std::thread::spawn(move || timeline.at(LAG))
        };
        // Whether the worker asks before or after this, it is told the same.
        timeline.done(0, Some(rate(2.0)));
        assert_eq!(ahead.join().expect("the worker ends"), rate(2.0));
        assert_eq!(timeline.at(LAG - 1), rate(1.0));
    }

    #[test]
    fn release_lets_everybody_go() {
        let timeline = Arc::new(Timeline::new(rate(1.0)));
        let ahead = {
            let timeline = timeline.clone();
            std::thread::spawn(move || timeline.at(10 * LAG))
        };
        timeline.release();
        assert_eq!(ahead.join().expect("the worker ends"), rate(1.0));
    }
}
