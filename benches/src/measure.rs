//! CPU time of this thread, and repetitions long enough to mean something. CPU time rather than wall time: on a busy
//! machine a stage should not look slower than it is.

use std::time::Duration;

/// Repetitions of each case.
pub const REPETITIONS: usize = 5;
/// CPU time of one repetition, at least.
pub const LONG_ENOUGH: Duration = Duration::from_millis(300);

/// CPU time that this thread has used.
pub fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec that lives here.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0, "every Linux has a clock per thread");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Time of what is done between `start` and `stop`, added up: preparation in between does not count.
#[derive(Default)]
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// Runs and counts.
    pub fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let began = thread_cpu();
        let out = work();
        self.0 += thread_cpu() - began;
        out
    }

    /// So far.
    pub fn total(&self) -> Duration {
        self.0
    }
}

/// Calls `work` until a repetition has lasted long enough; returns units and seconds. `work` says how many units it did.
pub fn repetition<E>(mut work: impl FnMut() -> Result<u64, E>) -> Result<(u64, f64), E> {
    let (began, mut units) = (thread_cpu(), 0);
    loop {
        units += work()?;
        let spent = thread_cpu() - began;
        if spent >= LONG_ENOUGH {
            return Ok((units, spent.as_secs_f64()));
        }
    }
}

/// First line of the CSV.
pub fn header() {
    println!("bench,case,unit,value,rep");
}

/// One row of the CSV; `rep` counts from 1.
pub fn row(bench: &str, case: &str, unit: &str, value: f64, rep: usize) {
    println!("{bench},{case},{unit},{value:.4},{rep}");
}
