//! SIGTERM and SIGINT. The first stops the sources, and what is under way is finished; another one leaves at once.

use crate::pipeline::Running;
use crate::reload::{Control, Engine, Trigger};
use miette::{IntoDiagnostic, WrapErr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// `timeout`, shells and supervisors signal a process and then its group: what comes so soon is the same request.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// A reload that cannot begin because one runs is tried again after this time.
const BUSY: Duration = Duration::from_millis(200);

/// Both signals, caught from now on.
pub struct Signals {
    term: Signal,
    int: Signal,
}

/// One thread for signals and the API.
pub fn runtime() -> miette::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("kaminari-io")
        .enable_all()
        .build()
        .into_diagnostic()
        .wrap_err("cannot start the runtime")
}

/// Reloads on each SIGHUP; those that come while one runs are one more.
pub fn on_hangup(engine: Arc<Engine>) -> miette::Result<impl Future<Output = ()>> {
    let caught = signal(SignalKind::hangup());
    let mut hangup = caught.into_diagnostic().wrap_err("cannot catch SIGHUP")?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            let engine = engine.clone();
            let reloaded = tokio::task::spawn_blocking(move || {
                while engine.reload(Trigger::Signal).is_err() {
                    std::thread::sleep(BUSY);
                }
            });
            if reloaded.await.is_err() {
                tracing::error!("a reload panicked: this is a bug; the plan before goes on");
            }
        }
    })
}

impl Signals {
    /// Catches them; inside a runtime.
    pub fn catch() -> miette::Result<Self> {
        let caught = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
        let (term, int) = caught.into_diagnostic().wrap_err("cannot catch signals")?;
        Ok(Self { term, int })
    }

    /// Waits for a signal or for the end of `running`, looking so often, and tends it then; tells its sources to stop. True: a
    /// signal came.
    pub async fn until_stopped(&mut self, running: &Running, often: Duration, tend: &dyn Fn()) -> bool {
        loop {
            tokio::select! {
                name = self.next() => {
                    tracing::info!("{name}: draining");
                    running.stop();
                    return true;
                }
                () = tokio::time::sleep(often) => {
                    if running.panicked() {
                        tracing::error!("a thread panicked: this is a bug; stopping, because the engine would go on blind");
                        running.stop();
                        return false;
                    }
                    if running.sources_ended() {
                        return false;
                    }
                    tend();
                }
            }
        }
    }

    /// Ends the process when one more comes.
    pub async fn then_leave(mut self) {
        let asked = Instant::now();
        loop {
            let name = self.next().await;
            if asked.elapsed() >= SAME_REQUEST {
                tracing::error!("{name} again: leaving at once, records in flight are lost");
                std::process::exit(1);
            }
        }
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
