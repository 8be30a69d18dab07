//! When a call is too long. Comes in: the ticks of the epoch; goes out: a trap. Deadlines are wall time, and a thread that gets no
//! processor for a while (an overloaded machine, a virtual one that stood still) is past its own without having done
//! anything: so a call is stopped only when it is seen to compute. An endless loop always is.

use super::instance::State;
use super::limits::{PROOF_TICKS, TICK};
use std::time::Duration;
use wasmtime::{Store, Trap, UpdateDeadline};

/// What a call that is past its deadline had computed when it was last looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Overdue(Option<Duration>);

impl Overdue {
    /// Whether the call shall end; else it is looked at again after [`PROOF_TICKS`].
    fn is_proven(&mut self, computed: Option<Duration>) -> bool {
        // Where nobody can tell, the deadline counts as it is.
        let Some(computed) = computed else { return true };
        let before = self.0.replace(computed);
        before.is_some_and(|before| computed.saturating_sub(before) * 2 >= TICK * PROOF_TICKS as u32)
    }
}

/// Every call in this store is stopped so.
pub(super) fn watch(store: &mut Store<State>) {
    store.epoch_deadline_callback(|mut store| match store.data_mut().overdue.is_proven(thread_time()) {
        true => Err(Trap::Interrupt.into()),
        false => Ok(UpdateDeadline::Continue(PROOF_TICKS)),
    });
}

/// Processor time of this thread.
fn thread_time() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every Linux, and `time` is valid for the call.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } == 0;
    done.then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_computes_is_stopped() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let mut overdue = Overdue::default();
        assert!(!overdue.is_proven(ms(3)), "the first look proves nothing");
        assert!(!overdue.is_proven(ms(3)), "it got no processor");
        assert!(!overdue.is_proven(ms(20)), "nor enough of it");
        assert!(overdue.is_proven(ms(60)));
        assert!(Overdue::default().is_proven(None));
        assert!(thread_time().is_some() && thread_time() <= thread_time());
    }
}
