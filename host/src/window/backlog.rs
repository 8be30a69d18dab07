//! Which records of a log are still needed. Comes in: stretches of a partition, each with the event time at which no window
//! needs it any more; goes out: the position from which all open windows can be made again.

use std::collections::VecDeque;

/// One partition of a log.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    /// First position of a stretch, and until when it is needed.
    stretches: VecDeque<(i64, u64)>,
    /// One past the last position.
    next: i64,
}

impl Backlog {
    /// Nothing before `next` is needed.
    pub fn new(next: i64) -> Self {
        Self { stretches: VecDeque::new(), next }
    }

    /// The positions `first..next` were read; windows need them up to `needed_ns` ([`Prepared::needed_ns`](super::Prepared)).
    pub fn push(&mut self, first: i64, next: i64, needed_ns: u64) {
        self.next = next;
        // Who needs this one longer keeps what came before it no longer, but positions are given back in order: a
        // stretch that is needed no longer than the one before it adds nothing.
        if needed_ns > 0 && self.stretches.back().is_none_or(|(_, needed)| *needed < needed_ns) {
            self.stretches.push_back((first, needed_ns));
        }
    }

    /// One past the last position read.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// The first position that is needed when all windows that end at `boundary_ns` or before are done.
    pub fn safe(&mut self, boundary_ns: u64) -> i64 {
        while self.stretches.front().is_some_and(|(_, needed)| *needed <= boundary_ns) {
            self.stretches.pop_front();
        }
        self.stretches.front().map_or(self.next, |(first, _)| *first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stretch_that_a_window_needs_is_where_to_begin() {
        let mut backlog = Backlog::new(100);
        assert_eq!(backlog.safe(0), 100);
        backlog.push(100, 110, 10);
        backlog.push(110, 120, 30);
        backlog.push(120, 130, 20);
        backlog.push(130, 140, 0);
        assert_eq!((backlog.safe(5), backlog.next()), (100, 140));
        assert_eq!(backlog.safe(10), 110);
        assert_eq!(backlog.safe(25), 110, "what came after is read again too");
        assert_eq!(backlog.safe(30), 140);
    }
}
