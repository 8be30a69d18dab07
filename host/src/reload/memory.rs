//! What a process keeps of memory that it has freed. glibc has pools of it for its threads (arenas), up to eight for each
//! processor, and gives little of them back: each thread that loads a plugin at a reload would leave some megabytes in another
//! one. So a daemon has few pools, and after a change what is free in them goes back to the system. Elsewhere nothing is done.

/// To be called before the first thread is started. Who runs the process knows better: nothing is done where the environment says
/// how many (`MALLOC_ARENA_MAX`, or `glibc.malloc.arena_max` in `GLIBC_TUNABLES`).
pub fn few_pools() {
    let told = std::env::var_os("MALLOC_ARENA_MAX").is_some();
    let tuned = std::env::var("GLIBC_TUNABLES").is_ok_and(|all| all.contains("glibc.malloc.arena_max"));
    if !told && !tuned {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        glibc::arenas(threads * POOLS_PER_PROCESSOR);
    }
}

/// No more threads run at once than there are processors; more pools than that, so that they seldom wait for each other.
const POOLS_PER_PROCESSOR: usize = 2;

/// Gives memory that nobody uses back to the system. Takes some milliseconds, in which other threads may wait for memory.
pub(super) fn give_back() {
    glibc::trim();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
mod glibc {
    pub(super) fn arenas(at_most: usize) {
        let at_most = libc::c_int::try_from(at_most).unwrap_or(libc::c_int::MAX);
        // SAFETY: takes two integers. Where it fails (0), there are as many as before.
        let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, at_most) };
    }

    pub(super) fn trim() {
        // SAFETY: touches only what is free, under the locks of the allocator.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod glibc {
    pub(super) fn arenas(_: usize) {}
    pub(super) fn trim() {}
}
