//! Connections that bring streams of frames: accepted, read and framed on one thread, however many there are. In: a
//! listener. Out: batches of frames, in the order of each connection. A stream can wait: while the queue to the decoder is
//! full, nothing is read, and the senders' own buffers fill. Refused, each with a reason: connections (too many, a handshake
//! that fails), frames (too long, incomplete), streams without frames.
//!
//! A source that is set up anew goes on with the listener and all connections of the one before, in the middle of a frame if need
//! be: senders do not notice. What its table says about connections counts at once, what it says about their beginning (framing,
//! certificates) for those that come. One that would not have been let in (plain where TLS is asked for now, other authorities of
//! clients) is told the end and read until its sender heeds it.
//!
//! Metrics: `kaminari_source_{received_bytes,datagrams,refused,waits,connections,connections_refused,connections_closed}`.

mod connection;
mod listener;
mod outbox;

pub(super) use listener::{Listener, Socket};
pub(super) use outbox::queue_len;

use super::Receive;
use super::framing::Framing;
use super::handover::{Claim, Open, Place, place};
use super::seldom::Seldom;
use super::tls::Tls;
use crate::model::{Delivery, FrameBatch};
use crate::telemetry::{SOURCE_CONNECTIONS, SOURCE_CONNECTIONS_CLOSED, SOURCE_CONNECTIONS_REFUSED, SOURCE_REFUSED};
use connection::{Closed, Connection};
use crossbeam_channel::{Receiver, Sender};
use metrics::{counter, gauge};
use outbox::Outbox;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

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
    open: Open<Server>,
    tls: Option<Tls>,
    limits: Limits,
    place: Place<Server>,
}

/// A listener and its connections, with what drives them. Goes from a receiver to the next.
pub(super) struct Server {
    // Before the runtime, in which they live.
    room: Room,
    runtime: Runtime,
}

struct Room {
    listener: Listener,
    shared: Arc<Shared>,
    connections: JoinSet<()>,
    orders: watch::Sender<Orders>,
    /// Who may connect.
    tls: Option<Tls>,
}

/// What connections are told.
#[derive(Clone, Copy, Debug)]
struct Orders {
    limits: Limits,
    /// Those that came when this was another number would not be let in now.
    admission: u64,
    stop: bool,
}

impl StreamReceiver {
    /// `make` makes the listener, in the runtime that will drive it. The second value: how a successor comes to it.
    pub(super) fn new(
        id: &str,
        tls: Option<Tls>,
        limits: Limits,
        make: impl FnOnce() -> std::io::Result<Listener>,
    ) -> std::io::Result<(Self, Claim<Server>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let listener = {
            let _inside = runtime.enter();
            make()?
        };
        let id: Arc<str> = id.into();
        let outbox = Outbox::new(&id);
        let shared = Shared { outbox, space: Mutex::new(vec![0; READ_BYTES]), seldom: Mutex::default(), id };
        let (shared, connections) = (Arc::new(shared), JoinSet::new());
        let orders = watch::Sender::new(Orders { limits, admission: 0, stop: false });
        let server = Server { room: Room { listener, shared, connections, orders, tls: tls.clone() }, runtime };
        Ok(Self::with(Open::Own(server), tls, limits))
    }

    /// Goes on for the one before when that has been told to stop, with all that it has open.
    pub(super) fn after(before: &Claim<Server>, tls: Option<Tls>, limits: Limits) -> (Self, Claim<Server>) {
        Self::with(Open::Before(before.clone()), tls, limits)
    }

    fn with(open: Open<Server>, tls: Option<Tls>, limits: Limits) -> (Self, Claim<Server>) {
        let (place, claim) = place();
        (Self { open, tls, limits, place }, claim)
    }
}

impl Receive for StreamReceiver {
    /// A stop first reads what the kernel has of each connection, unless there is a successor, who has them then.
    fn run(self: Box<Self>, out: &Sender<Delivery>, recycled: &Receiver<FrameBatch>, stop: &Arc<AtomicBool>) {
        let Self { open, tls, limits, place } = *self;
        let Some(Server { mut room, runtime }) = open.get() else { return };
        room.shared.outbox.connect(out.clone(), recycled.clone());
        let stricter = tls.as_ref().is_some_and(|tls| !tls.admits_all_of(room.tls.as_ref()));
        room.tls = tls;
        room.orders
            .send_modify(|orders| (orders.limits, orders.admission) = (limits, orders.admission + u64::from(stricter)));
        if let Some(room) = runtime.block_on(room.serve(limits.max_connections, stop, &place)) {
            place.leave(Server { room, runtime });
        }
    }
}

/// What all connections of a source share; they take turns on one thread.
struct Shared {
    id: Arc<str>,
    outbox: Outbox,
    /// Reads go here, and out of it before anybody else has his turn.
    space: Mutex<Vec<u8>>,
    seldom: Mutex<Seldom>,
}

/// Nobody ever waits: there is one thread at a time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// A connection that is not served.
    fn refused(&self, reason: &'static str, peer: &dyn Display, why: &dyn Display) {
        counter!(SOURCE_CONNECTIONS_REFUSED, "component_id" => self.id.clone(), "reason" => reason).increment(1);
        if let Some(more) = lock(&self.seldom).due(reason) {
            tracing::warn!(component_id = &*self.id, "a connection from {peer} was refused: {why}{more}");
        }
    }

    fn closed(&self, peer: &dyn Display, closed: &Closed, limits: &Limits) {
        let reason = closed.reason();
        counter!(SOURCE_CONNECTIONS_CLOSED, "component_id" => self.id.clone(), "reason" => reason).increment(1);
        if let Some(why) = closed.complaint(limits)
            && let Some(more) = lock(&self.seldom).due(reason)
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

impl Room {
    /// Until `stop`. Gives itself where there is a successor; else all is read out and closed.
    async fn serve(mut self, max_connections: usize, stop: &AtomicBool, place: &Place<Server>) -> Option<Self> {
        let shared = self.shared.clone();
        let open = gauge!(SOURCE_CONNECTIONS, "component_id" => shared.id.clone());
        let flusher = {
            let shared = shared.clone();
            tokio::spawn(async move { shared.outbox.run().await })
        };
        let mut look = tokio::time::interval(STOP_EVERY);
        while !shared.outbox.is_gone() {
            // Counts from the beginning on, so that an absent series is not mistaken for silence.
            open.set(self.connections.len() as f64);
            tokio::select! {
                biased;
                _ = look.tick() => if stop.load(Ordering::Acquire) { break },
                Some(ended) = self.connections.join_next() => raise(ended),
                accepted = self.listener.accept() => match accepted {
                    Ok((_, peer)) if self.connections.len() >= max_connections => {
                        let why = format!("there are {} already (`max_connections`)", self.connections.len());
                        shared.refused("limit", &peer, &why);
                    }
                    Ok((socket, peer)) => {
                        let connection = Connection::new(shared.clone(), peer, self.orders.subscribe());
                        let tls = self.tls.as_ref().map(|tls| tls.acceptor.clone());
                        self.connections.spawn(connection.serve(socket, tls));
                    }
                    Err(error) => {
                        shared.refused("accept", &"somewhere", &error);
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        if place.is_claimed() && !shared.outbox.is_gone() {
            flusher.abort();
            // What came before the change goes where it went. Nobody else has a turn between this and the end.
            shared.outbox.finish().await;
            shared.outbox.disconnect();
            return Some(self);
        }
        let Self { listener, mut connections, orders, .. } = self;
        drop(listener);
        orders.send_modify(|orders| orders.stop = true);
        while let Some(ended) = connections.join_next().await {
            raise(ended);
        }
        open.set(0.0);
        flusher.abort();
        shared.outbox.finish().await;
        shared.outbox.disconnect();
        None
    }
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
