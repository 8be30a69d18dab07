//! Child processes that end with us, or that outlive us; and processes that are known by their number only.

use anyhow::{Context, Result, bail};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Starts a child that the kernel kills when this process ends, however it ends.
pub(crate) fn spawn_tied(mut command: Command) -> Result<Child> {
    let parent = std::process::id();
    #[cfg(target_os = "linux")]
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // It may have ended before the kernel was told.
            if libc::getppid() as u32 != parent {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    // The kernel looks at the thread that forked, and a test's thread ends with the test: one that stays does it.
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in taken {
                // Nobody waits for an answer that fails to arrive.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, answered) = mpsc::channel();
    let orders = spawner.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    orders.send((command, answer)).ok().context("the thread that starts brokers is gone")?;
    answered.recv().context("the thread that starts brokers is gone")?.context("cannot start java")
}

/// Starts a child in a session of its own: no signal of our terminal reaches it, and it outlives us.
pub(crate) fn spawn_loose(mut command: Command) -> Result<Child> {
    // SAFETY: only a system call between fork and exec.
    unsafe {
        command.pre_exec(|| if libc::setsid() < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) });
    }
    command.spawn().context("cannot start java")
}

/// Asks it to end. True if there was such a process.
pub(crate) fn terminate(pid: u32) -> bool {
    signal(pid, libc::SIGTERM)
}

fn signal(pid: u32, signal: libc::c_int) -> bool {
    // SAFETY: a system call without memory. A pid fits, and is never 0 or negative, which would mean a group.
    i32::try_from(pid).is_ok_and(|pid| pid > 0 && unsafe { libc::kill(pid, signal) } == 0)
}

/// True if the process lives and its command line names `file`: numbers are given to others later.
pub(crate) fn lives(pid: u32, file: &Path) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let file = file.as_os_str().as_encoded_bytes();
    line.split(|b| *b == 0).any(|arg| arg == file)
}

/// Waits until `done`, and fails after `limit`.
pub(crate) fn wait(limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !done()? {
        if Instant::now() > deadline {
            bail!("not within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Ends a process that is no child of ours: asked first, then killed.
pub(crate) fn end(pid: u32, file: &Path, limit: Duration) -> Result<()> {
    let gone = || Ok(!lives(pid, file));
    if !lives(pid, file) || !terminate(pid) || wait(limit, gone).is_ok() {
        return Ok(());
    }
    signal(pid, libc::SIGKILL);
    wait(limit, gone).with_context(|| format!("process {pid} does not end"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    /// Something that lives, and whose command line names a file.
    fn idle() -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do sleep 0.2; done", "/a/file"]).stdin(Stdio::null());
        command
    }

    #[test]
    fn a_tied_child_outlives_the_thread_that_asked_for_it() {
        let mut child = std::thread::spawn(|| spawn_tied(idle()).unwrap()).join().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(child.try_wait().unwrap().is_none());
        assert!(lives(child.id(), Path::new("/a/file")) && !lives(child.id(), Path::new("/another")));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!lives(child.id(), Path::new("/a/file")));
    }

    #[test]
    fn a_process_is_ended_only_if_it_is_the_one_that_was_meant() {
        let mut child = spawn_loose(idle()).unwrap();
        let pid = child.id();
        wait(Duration::from_secs(5), || Ok(lives(pid, Path::new("/a/file")))).unwrap();
        end(pid, Path::new("/another"), Duration::from_secs(5)).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        end(pid, Path::new("/a/file"), Duration::from_secs(5)).unwrap();
        assert!(!reaper.join().unwrap().success());
    }

    #[test]
    fn no_group_of_processes_is_ever_meant() {
        assert!(!signal(0, 0) && !signal(u32::MAX, 0));
    }

    #[test]
    fn waiting_ends() {
        assert!(wait(Duration::from_millis(30), || Ok(false)).is_err());
        assert!(wait(Duration::from_secs(5), || Ok(true)).is_ok());
        assert!(wait(Duration::from_secs(5), || bail!("no")).is_err());
    }
}
