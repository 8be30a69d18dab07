//! Sees that files of the configuration have changed. Comes in: which files, and what they held when they were last read; goes
//! out: a call once they hold something else and rest. Folders are watched, not files (a watch on a file is deaf after the first
//! rename), whatever kinds of events come only say that it is time to look, and every 30 s it looks anyhow (NFS).

use super::folders::Folders;
use super::stable::{Content, Digests, settle};
use super::{Busy, Report};
use crate::config::Plan;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use std::convert::Infallible;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A second reload waits so long for the first.
const BUSY: Duration = Duration::from_secs(1);
/// A file that is gone may be about to come back: a folder is removed and copied anew.
const GONE: Duration = Duration::from_secs(2);
/// Somebody who never stops is looked at after so long.
const RESTLESS: Duration = Duration::from_secs(3);

/// How fast it is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// After an event it waits until nothing has happened for so long.
    pub quiet: Duration,
    /// It looks so often even if nothing happens.
    pub poll: Duration,
    /// A file that is written for longer is reported, and looked at again at the next event or poll.
    pub settle: Duration,
    /// Ask the kernel for events; else it only polls.
    pub events: bool,
}

impl Default for Pace {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self { quiet: Duration::from_millis(300), poll: secs(30), settle: secs(10), events: true }
    }
}

/// The files that a plan was made from and those that it names: configuration, plugins, folders of models, and what sources and
/// sinks read when they are made.
pub fn files(plan: &Plan) -> Vec<PathBuf> {
    let configuration = plan.places.files().map(PathBuf::from);
    let plugins = plan.plugins.values().map(|plugin| plugin.path.clone());
    let models = plan.models.values().map(|model| model.path.clone());
    let components = plan.sources.values().chain(plan.sinks.values());
    let read = components.flat_map(|component| component.files.values()).map(|file| file.path.clone());
    configuration.chain(plugins).chain(models).chain(read).collect()
}

/// A running watch; ends when it is dropped, after a call that is under way.
#[derive(Debug)]
pub struct Watch {
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins. `seen`: the files of the plan with what they held when they were last read, whatever came of it; asked again
    /// before each look. `reload` is called when they hold something else; what it answers is its own to report. Content that it
    /// was called for once is not told again while `seen` stays the same. Fails when there is no thread to be had.
    pub fn start(
        pace: Pace,
        seen: impl Fn() -> Digests + Send + 'static,
        reload: impl FnMut() -> Result<Report, Busy> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let thread = std::thread::Builder::new()
            .name("kaminari-watch".into())
            .spawn(move || Looker { pace, stopped, wake: bounded(1) }.run(&seen, reload))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.take();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the watch of the configuration panicked: this is a bug");
        }
    }
}

struct Looker {
    pace: Pace,
    stopped: Receiver<Infallible>,
    wake: (Sender<()>, Receiver<()>),
}

impl Looker {
    fn run(self, seen: &impl Fn() -> Digests, mut reload: impl FnMut() -> Result<Report, Busy>) {
        let mut folders = Folders::default();
        if self.pace.events {
            folders.open(self.wake.0.clone());
        }
        let (mut read, mut tried) = (seen(), None);
        loop {
            let now_read = seen();
            if now_read != read {
                (read, tried) = (now_read, None);
            }
            let paths = read.paths();
            // Before the files are read: nothing falls between.
            folders.follow(&paths);
            let rested = |digests: &Digests| *digests == read || tried.as_ref() == Some(digests);
            if rested(&Digests::of(&paths)) {
                if !self.idle() {
                    return;
                }
                continue;
            }
            let held = match settle(&paths, self.pace.settle, |pause| self.sleep(pause)) {
                Ok(Some(held)) => held,
                Ok(None) => return,
                Err(still) => {
                    tracing::warn!("configuration not reloaded: {still}");
                    if !self.idle() {
                        return;
                    }
                    continue;
                }
            };
            if rested(&held) {
                continue;
            }
            if gone(&held, &read) && !self.sleep(GONE) {
                return;
            }
            if Digests::of(&paths) != held {
                continue;
            }
            let changed: Vec<String> = held.differing(&read).map(|path| path.display().to_string()).collect();
            tracing::info!("changed: {}", changed.join(", "));
            match reload() {
                Ok(_) => tried = Some(held),
                Err(Busy) if !self.sleep(BUSY) => return,
                Err(Busy) => {}
            }
        }
    }

    /// Until it is time to look; false: to stop.
    fn idle(&self) -> bool {
        select! {
            recv(self.stopped) -> _ => return false,
            recv(self.wake.1) -> _ => {}
            default(self.pace.poll) => return true,
        }
        let began = Instant::now();
        while began.elapsed() < RESTLESS {
            select! {
                recv(self.stopped) -> _ => return false,
                recv(self.wake.1) -> _ => {}
                default(self.pace.quiet) => return true,
            }
        }
        true
    }

    /// False: it is time to stop.
    fn sleep(&self, pause: Duration) -> bool {
        self.stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
    }
}

/// True when a file is missing that was there.
fn gone(held: &Digests, read: &Digests) -> bool {
    held.differing(read).any(|path| held.get(path) == Some(Content::Missing))
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
