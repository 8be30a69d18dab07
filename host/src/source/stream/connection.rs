//! One connection: handshake, reads, frames, time-outs, end.

use super::listener::Peer;
use super::{Limits, Orders, Shared, Socket, lock};
use crate::source::framing::{Broken, Framer};
use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

/// A handshake may take so long.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After a stop, a connection whose sender goes on is read for so long.
const DRAIN: Duration = Duration::from_secs(2);
/// A sender that was told the end has so long to heed it.
const FAREWELL: Duration = Duration::from_secs(10);

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Closed {
    /// The sender closed it.
    Peer,
    /// It broke.
    Error(io::Error),
    /// No frame for too long.
    Idle,
    /// A frame began and did not end.
    Slow,
    /// What comes are no frames.
    Framing(Broken),
    /// The source asks for more than this connection was asked for.
    Admission,
    /// The engine stops.
    Stop,
}

impl Closed {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Closed::Peer => "peer",
            Closed::Error(_) => "error",
            Closed::Idle => "idle",
            Closed::Slow => "slow",
            Closed::Framing(_) => "framing",
            Closed::Admission => "admission",
            Closed::Stop => "stop",
        }
    }

    /// What a person should know; nothing where all is as it should be.
    pub(super) fn complaint(&self, limits: &Limits) -> Option<String> {
        let secs = |limit: Option<Duration>| limit.unwrap_or_default().as_secs_f64();
        match self {
            Closed::Peer | Closed::Stop | Closed::Idle => None,
            Closed::Admission => Some(format!(
                "its sender would not be let in as it was (`tls`), and went on for {} s after it was told the end",
                FAREWELL.as_secs()
            )),
            Closed::Error(error) => Some(error.to_string()),
            Closed::Slow => {
                Some(format!("a frame was not whole after {} s (`frame_timeout_secs`)", secs(limits.frame)))
            }
            Closed::Framing(broken) => Some(broken.to_string()),
        }
    }
}

/// What one turn brought.
enum Turn {
    /// Bytes.
    Read,
    /// Nothing was read: the decoder is behind.
    Full,
    /// It ended.
    Closed(Closed),
}

pub(super) struct Connection {
    shared: Arc<Shared>,
    peer: Peer,
    framer: Framer,
    orders: watch::Receiver<Orders>,
    limits: Limits,
    /// It was let in by this.
    admission: u64,
    /// When the last frame was whole.
    whole: Instant,
    /// When the frame that is not whole began.
    began: Option<Instant>,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, peer: Peer, orders: watch::Receiver<Orders>) -> Self {
        let Orders { limits, admission, .. } = *orders.borrow();
        let framer = Framer::new(limits.framing);
        Self { shared, peer, framer, orders, limits, admission, whole: Instant::now(), began: None }
    }

    /// From the first byte to the last.
    pub(super) async fn serve(mut self, socket: Socket, tls: Option<TlsAcceptor>) {
        match socket {
            Socket::Tcp(stream) => match tls {
                None => self.read(stream).await,
                Some(tls) => {
                    let handshake = tokio::select! {
                        handshake = timeout(HANDSHAKE, tls.accept(stream)) => handshake,
                        () = stopped(&mut self.orders) => return,
                    };
                    let refused = |reason, why: &dyn Display| self.shared.refused(reason, &self.peer, why);
                    match handshake {
                        Ok(Ok(stream)) => self.read(stream).await,
                        Ok(Err(error)) => {
                            refused(crate::source::tls::reason(&error), &format!("TLS handshake: {error}"));
                        }
                        Err(_) => refused("tls_timeout", &"TLS handshake: it took too long"),
                    }
                }
            },
            Socket::Unix(stream) => self.read(stream).await,
        }
    }

    async fn read(mut self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let closed = loop {
            self.shared.outbox.room().await;
            let Orders { limits, admission, stop } = *self.orders.borrow_and_update();
            if stop {
                break self.drain(&mut stream).await;
            }
            if admission != self.admission {
                break self.farewell(&mut stream).await;
            }
            self.limits = limits;
            self.framer.limit(limits.framing);
            let (deadline, late) = self.deadline();
            let mut orders = self.orders.clone();
            let turn = async {
                tokio::select! {
                    biased;
                    turn = poll_fn(|cx| self.turn(cx, &mut stream)) => turn,
                    _ = orders.changed() => Turn::Read,
                }
            };
            let turn = match deadline {
                Some(at) => timeout_at(at, turn).await.unwrap_or(Turn::Closed(late)),
                None => turn.await,
            };
            if let Turn::Closed(closed) = turn {
                break closed;
            }
        };
        let Self { shared, peer, framer, limits, .. } = &mut self;
        let incomplete = match closed {
            // Where a frame begins is not known any more.
            Closed::Framing(_) => false,
            _ => shared.outbox.add(peer.address(), |frame| framer.finish(&mut |f| frame(f))),
        };
        shared.refused_frames("incomplete", u64::from(incomplete));
        shared.closed(peer, &closed, limits);
    }

    /// When this connection has been quiet for too long, and what that is called.
    fn deadline(&self) -> (Option<Instant>, Closed) {
        let limits = &self.limits;
        let idle = limits.idle.map(|limit| self.whole + limit);
        match (self.began.zip(limits.frame).map(|(began, limit)| began + limit), idle) {
            (Some(slow), Some(idle)) if idle < slow => (Some(idle), Closed::Idle),
            (Some(slow), _) => (Some(slow), Closed::Slow),
            (None, idle) => (idle, Closed::Idle),
        }
    }

    /// One read, and its frames to the outbox.
    fn turn(&mut self, cx: &mut Context<'_>, stream: &mut (impl AsyncRead + Unpin)) -> Poll<Turn> {
        // Others may have filled it since.
        if self.shared.outbox.is_full() {
            return Poll::Ready(Turn::Full);
        }
        let shared = self.shared.clone();
        let mut space = lock(&shared.space);
        let mut buffer = ReadBuf::new(&mut space);
        if let Err(error) = ready!(Pin::new(stream).poll_read(cx, &mut buffer)) {
            // Many TLS peers just hang up.
            let ended = error.kind() == io::ErrorKind::UnexpectedEof;
            return Poll::Ready(Turn::Closed(if ended { Closed::Peer } else { Closed::Error(error) }));
        }
        let bytes = buffer.filled();
        if bytes.is_empty() {
            return Poll::Ready(Turn::Closed(Closed::Peer));
        }
        let mut whole = false;
        let fed = shared.outbox.add(self.peer.address(), |frame| {
            self.framer.feed(bytes, &mut |bytes| {
                whole = true;
                frame(bytes);
            })
        });
        shared.refused_frames("oversized", self.framer.take_oversized());
        if let Err(broken) = fed {
            return Poll::Ready(Turn::Closed(Closed::Framing(broken)));
        }
        let now = Instant::now();
        if whole {
            self.whole = now;
        }
        let within = self.framer.pending() > 0;
        self.began = within.then(|| self.began.filter(|_| !whole).unwrap_or(now));
        Poll::Ready(Turn::Read)
    }

    /// The kernel has acknowledged what it holds: that is read before the end.
    async fn drain(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Closed {
        let until = Instant::now() + DRAIN;
        while Instant::now() < until {
            self.shared.outbox.room().await;
            // Without tokio's budget, whose end looks as if nothing were there.
            let turn = tokio::task::unconstrained(poll_fn(|cx| match self.turn(cx, stream) {
                Poll::Pending => Poll::Ready(None),
                Poll::Ready(turn) => Poll::Ready(Some(turn)),
            }));
            match turn.await {
                None => break,
                Some(Turn::Closed(closed)) => return closed,
                Some(Turn::Read | Turn::Full) => {}
            }
        }
        Closed::Stop
    }

    /// The sender is told the end, and what it sends before it has heard of it is read.
    async fn farewell(&mut self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Closed {
        let until = Instant::now() + FAREWELL;
        // One that is gone, or never reads, is seen below.
        let _ = timeout_at(until, stream.shutdown()).await;
        loop {
            self.shared.outbox.room().await;
            if self.orders.borrow_and_update().stop {
                return self.drain(stream).await;
            }
            let mut orders = self.orders.clone();
            let turn = async {
                tokio::select! {
                    biased;
                    turn = poll_fn(|cx| self.turn(cx, stream)) => turn,
                    () = stopped(&mut orders) => Turn::Read,
                }
            };
            match timeout_at(until, turn).await {
                Ok(Turn::Closed(closed)) => return closed,
                Ok(Turn::Read | Turn::Full) if Instant::now() < until => {}
                _ => return Closed::Admission,
            }
        }
    }
}

/// Waits for a stop.
async fn stopped(orders: &mut watch::Receiver<Orders>) {
    // When nobody gives orders any more, all ends too.
    drop(orders.wait_for(|orders| orders.stop).await);
}
