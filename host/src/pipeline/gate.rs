//! All or none: those who are to change are ready, or none of them changes. In: a vote of each, and the word of the one who
//! asked; out: that word, for all.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Ready, with what the operator should know; or why not.
pub(super) type Vote = Result<Vec<String>, String>;

/// See the module.
#[derive(Default)]
pub(super) struct Gate {
    inner: Mutex<Inner>,
    moved: Condvar,
}

#[derive(Default)]
struct Inner {
    votes: usize,
    notes: Vec<String>,
    refused: Option<String>,
    open: Option<bool>,
}

impl Gate {
    /// A vote.
    pub(super) fn vote(&self, vote: Vote) {
        let mut inner = self.lock();
        inner.votes += 1;
        match vote {
            Ok(notes) => inner.notes.extend(notes),
            Err(why) => drop(inner.refused.get_or_insert(why)),
        }
        self.moved.notify_all();
    }

    /// The word, as soon as it is said. Whoever asked always says it.
    pub(super) fn wait(&self) -> bool {
        let mut inner = self.lock();
        loop {
            match inner.open {
                Some(open) => return open,
                None => inner = self.moved.wait(inner).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// The word, if it has been said.
    pub(super) fn word(&self) -> Option<bool> {
        self.lock().open
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the one who asks. Dropped without a word, it says no.
pub(super) struct Asking(Arc<Gate>);

impl Asking {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// For those who vote.
    pub(super) fn gate(&self) -> Arc<Gate> {
        self.0.clone()
    }

    /// Waits for so many votes. Err: one is not ready, or not all have answered in time.
    pub(super) fn votes(&self, all: usize, at_most: Duration) -> Vote {
        let until = Instant::now() + at_most;
        let mut inner = self.0.lock();
        loop {
            if let Some(why) = inner.refused.take() {
                return Err(why);
            }
            if inner.votes >= all {
                return Ok(std::mem::take(&mut inner.notes));
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return Err(format!("{} of {all} threads were not ready in {at_most:?}", all - inner.votes));
            };
            inner = self.0.moved.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// It is to be.
    pub(super) fn open(self) {
        self.say(true);
    }

    fn say(&self, open: bool) {
        self.0.lock().open.get_or_insert(open);
        self.0.moved.notify_all();
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.say(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_vote(votes: Vec<Vote>, open: bool) -> (Vote, Vec<bool>) {
        let asking = Asking::new();
        let n = votes.len();
        let threads: Vec<_> = votes
            .into_iter()
            .map(|vote| {
                let gate = asking.gate();
                std::thread::spawn(move || {
                    gate.vote(vote);
                    gate.wait()
                })
            })
            .collect();
        let counted = asking.votes(n, Duration::from_secs(10));
        if open && counted.is_ok() {
            asking.open()
        } else {
            drop(asking)
        }
        (counted, threads.into_iter().map(|t| t.join().unwrap()).collect())
    }

    #[test]
    fn all_or_none() {
        assert_eq!(all_vote(vec![Ok(vec!["a".into()]), Ok(vec![])], true), (Ok(vec!["a".into()]), vec![true, true]));
        assert_eq!(all_vote(vec![Ok(vec![]), Err("no".into())], true), (Err("no".into()), vec![false, false]));
        assert_eq!(all_vote(vec![Ok(vec![])], false).1, [false], "the one who asked thought better of it");
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        let asking = Asking::new();
        let why = asking.votes(1, Duration::from_millis(20)).unwrap_err();
        assert!(why.contains("1 of 1"), "{why}");
    }
}
