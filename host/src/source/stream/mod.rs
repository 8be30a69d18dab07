//! Connections that bring streams of frames: accepted, read and framed on one thread, however many there are. In: a
//! listener. Out: batches of frames, in the order of each connection. A stream can wait: while the queue to the decoder is
//! full, nothing is read, and the senders' own buffers fill. Refused, each with a reason: connections (too many, a handshake
//! that fails), frames (too long, incomplete), streams without frames.
//!
//! Metrics: `kaminari_source_{received_bytes,datagrams,refused,waits,connections,connections_refused,connections_closed}`.

mod connection;
mod listener;
mod outbox;

pub(super) use listener::{Listener, Socket};

use super::Receive;
use super::framing::Framing;
use super::seldom::Seldom;
use crate::model::{Delivery, FrameBatch};
use crate::telemetry::{SOURCE_CONNECTIONS, SOURCE_CONNECTIONS_CLOSED, SOURCE_CONNECTIONS_REFUSED, SOURCE_REFUSED};
use connection::{Closed, Connection};
use crossbeam_channel::{Receiver, Sender};
use metrics::{counter, gauge};
use outbox::Outbox;
pub(super) use outbox::queue_len;
use std::cell::RefCell;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet, LocalSet};
use tokio_rustls::TlsAcceptor;

/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// How soon a stop is seen.
const STOP_EVERY: Duration = Duration::from_millis(50);
/// Pause when the system has no descriptor for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What connections may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How they frame.
    pub(super) framing: Framing,
    /// How many there may be.
    pub(super) max_connections: usize,
    /// How long one may bring no frame.
    pub(super) idle: Option<Duration>,
    /// How long a frame may take from its first byte to its last.
    pub(super) frame: Option<Duration>,
}

/// A listener with what it takes to serve it.
pub(super) struct StreamReceiver {
    id: Arc<str>,
    runtime: Runtime,
    listener: Listener,
    tls: Option<TlsAcceptor>,
    limits: Limits,
}

impl StreamReceiver {
    /// `make` makes the listener, in the runtime that will drive it.
    pub(super) fn new(
        id: &str,
        tls: Option<TlsAcceptor>,
        limits: Limits,
        make: impl FnOnce() -> std::io::Result<Listener>,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = {
            let _inside = runtime.enter();
            make()?
        };
        Ok(Self { id: id.into(), runtime, listener, tls, limits })
    }
}

impl Receive for StreamReceiver {
    /// A stop first reads what the kernel has of each connection.
    fn run(self: Box<Self>, out: &Sender<Delivery>, recycled: &Receiver<FrameBatch>, stop: &Arc<AtomicBool>) {
        let Self { id, runtime, listener, tls, limits } = *self;
        let shared = Rc::new(Shared {
            outbox: Outbox::new(&id, out.clone(), recycled.clone()),
            space: RefCell::new(vec![0; READ_BYTES]),
            seldom: RefCell::default(),
            tls,
            limits,
            id,
        });
        LocalSet::new().block_on(&runtime, serve(shared, listener, stop.clone()));
    }
}

/// What all connections of a source share; they take turns on one thread.
struct Shared {
    id: Arc<str>,
    limits: Limits,
    tls: Option<TlsAcceptor>,
    outbox: Outbox,
    /// Reads go here, and out of it before anybody else has his turn.
    space: RefCell<Vec<u8>>,
    seldom: RefCell<Seldom>,
}

impl Shared {
    /// A connection that is not served.
    fn refused(&self, reason: &'static str, peer: &dyn Display, why: &dyn Display) {
        counter!(SOURCE_CONNECTIONS_REFUSED, "component_id" => self.id.clone(), "reason" => reason).increment(1);
        if let Some(more) = self.seldom.borrow_mut().due(reason) {
            tracing::warn!(component_id = &*self.id, "a connection from {peer} was refused: {why}{more}");
        }
    }

    fn closed(&self, peer: &dyn Display, closed: &Closed) {
        let reason = closed.reason();
        counter!(SOURCE_CONNECTIONS_CLOSED, "component_id" => self.id.clone(), "reason" => reason).increment(1);
        if let Some(why) = closed.complaint(&self.limits)
            && let Some(more) = self.seldom.borrow_mut().due(reason)
        {
            tracing::warn!(component_id = &*self.id, "the connection from {peer} was closed: {why}{more}");
        }
    }

    /// Frames that are lost.
    fn refused_frames(&self, reason: &'static str, n: u64) {
        if n > 0 {
            counter!(SOURCE_REFUSED, "component_id" => self.id.clone(), "reason" => reason).increment(n);
        }
    }
}

async fn serve(shared: Rc<Shared>, listener: Listener, stop: Arc<AtomicBool>) {
    let (stopped, stopping) = watch::channel(false);
    let open = gauge!(SOURCE_CONNECTIONS, "component_id" => shared.id.clone());
    // Counts from the beginning on, so that an absent series is not mistaken for silence.
    open.set(0.0);
    let watcher = tokio::task::spawn_local(async move {
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(STOP_EVERY).await;
        }
        let _ = stopped.send(true);
    });
    let flusher = {
        let shared = shared.clone();
        tokio::task::spawn_local(async move { shared.outbox.run().await })
    };
    let mut connections = JoinSet::new();
    let mut stop_seen = stopping.clone();
    while !*stop_seen.borrow_and_update() && !shared.outbox.is_gone() {
        open.set(connections.len() as f64);
        tokio::select! {
            biased;
            _ = stop_seen.changed() => {}
            Some(ended) = connections.join_next() => raise(ended),
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if connections.len() >= shared.limits.max_connections => {
                    let why = format!("there are {} already (`max_connections`)", connections.len());
                    shared.refused("limit", &peer, &why);
                }
                Ok((socket, peer)) => {
                    connections.spawn_local(Connection::new(shared.clone(), peer, stopping.clone()).serve(socket));
                }
                Err(error) => {
                    shared.refused("accept", &"somewhere", &error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        raise(ended);
    }
    open.set(0.0);
    flusher.abort();
    watcher.abort();
    shared.outbox.finish().await;
}

/// A panic of one connection is one of the source.
fn raise(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

#[cfg(test)]
mod tests;
