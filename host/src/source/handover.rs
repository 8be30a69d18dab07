//! A source leaves what it has open to the one that takes its place: nobody finds nobody listening. Comes in: what one at work
//! holds; goes out: the same, to its successor. Nothing happens before the successor claims it; one that has ended leaves nothing.

use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// The place of a source at work.
pub(super) struct Place<T> {
    claimed: Arc<AtomicBool>,
    leave: Sender<T>,
}

/// How a successor comes to it. Keeps nothing open.
pub(super) struct Claim<T> {
    claimed: Weak<AtomicBool>,
    left: Receiver<T>,
}

impl<T> Clone for Claim<T> {
    fn clone(&self) -> Self {
        Self { claimed: self.claimed.clone(), left: self.left.clone() }
    }
}

/// What a receiver begins with.
pub(super) enum Open<T> {
    /// Its own.
    Own(T),
    /// What the one before leaves.
    Before(Claim<T>),
}

impl<T> Open<T> {
    /// Waits for the one before; `None`: it has ended and left nothing.
    pub(super) fn get(self) -> Option<T> {
        match self {
            Self::Own(own) => Some(own),
            Self::Before(claim) => claim.left.recv().ok(),
        }
    }
}

/// A place, and the way to it.
pub(super) fn place<T>() -> (Place<T>, Claim<T>) {
    let (leave, left) = bounded(1);
    let claimed = Arc::new(AtomicBool::new(false));
    let claim = Claim { claimed: Arc::downgrade(&claimed), left };
    (Place { claimed, leave }, claim)
}

impl<T> Place<T> {
    /// There is a successor: at a stop, what is open is left to it.
    pub(super) fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::Acquire)
    }

    /// Goes to the successor.
    pub(super) fn leave(self, what: T) {
        // Whoever has claimed it and is gone by now wants it no more: it is closed.
        let _ = self.leave.send(what);
    }
}

impl<T> Claim<T> {
    /// From now on the one at work leaves what it has when it is told to stop. False: it has ended.
    pub(super) fn make(&self) -> bool {
        let place = self.claimed.upgrade();
        place.is_some_and(|claimed| {
            claimed.store(true, Ordering::Release);
            true
        })
    }

    /// True while somebody is at work there.
    pub(super) fn is_held(&self) -> bool {
        self.claimed.strong_count() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found_and_who_has_ended_leaves_nothing() {
        let (held, claim) = place();
        assert!(!held.is_claimed() && claim.is_held());
        assert!(claim.make() && held.is_claimed());
        held.leave(7);
        assert!(!claim.is_held());
        assert_eq!(Open::Before(claim).get(), Some(7));

        let (held, claim) = place::<u8>();
        drop(held);
        assert!(!claim.make());
        assert_eq!(Open::Before(claim).get(), None);
    }
}
