//! One connection: handshake, reads, frames, time-outs, end.

use super::listener::Peer;
use super::{Limits, Shared, Socket};
use crate::source::framing::{Broken, Framer};
use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// A handshake may take so long.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After a stop, a connection whose sender goes on is read for so long.
const DRAIN: Duration = Duration::from_secs(2);

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
            Closed::Stop => "stop",
        }
    }

    /// What a person should know; nothing where all is as it should be.
    pub(super) fn complaint(&self, limits: &Limits) -> Option<String> {
        let secs = |limit: Option<Duration>| limit.unwrap_or_default().as_secs_f64();
        match self {
            Closed::Peer | Closed::Stop | Closed::Idle => None,
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
    shared: Rc<Shared>,
    peer: Peer,
    framer: Framer,
    stopping: watch::Receiver<bool>,
    /// When the last frame was whole.
    whole: Instant,
    /// When the frame that is not whole began.
    began: Option<Instant>,
}

impl Connection {
    pub(super) fn new(shared: Rc<Shared>, peer: Peer, stopping: watch::Receiver<bool>) -> Self {
        let framer = Framer::new(shared.limits.framing);
        Self { shared, peer, framer, stopping, whole: Instant::now(), began: None }
    }

    /// From the first byte to the last.
    pub(super) async fn serve(self, socket: Socket) {
        match socket {
            Socket::Tcp(stream) => match self.shared.tls.clone() {
                None => self.read(stream).await,
                Some(tls) => {
                    let refused = |reason, why: &dyn Display| self.shared.refused(reason, &self.peer, why);
                    let mut stopping = self.stopping.clone();
                    let handshake = tokio::select! {
                        handshake = timeout(HANDSHAKE, tls.accept(stream)) => handshake,
                        _ = stopping.changed() => return,
                    };
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

    async fn read(mut self, mut stream: impl AsyncRead + Unpin) {
        let closed = loop {
            self.shared.outbox.room().await;
            if *self.stopping.borrow_and_update() {
                break self.drain(&mut stream).await;
            }
            let (deadline, late) = self.deadline();
            let mut stopping = self.stopping.clone();
            let turn = async {
                tokio::select! {
                    biased;
                    turn = poll_fn(|cx| self.turn(cx, &mut stream)) => turn,
                    _ = stopping.changed() => Turn::Read,
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
        let Self { shared, peer, framer, .. } = &mut self;
        let incomplete = match closed {
            // Where a frame begins is not known any more.
            Closed::Framing(_) => false,
            _ => shared.outbox.add(peer.address(), |frame| framer.finish(&mut |f| frame(f))),
        };
        shared.refused_frames("incomplete", u64::from(incomplete));
        shared.closed(peer, &closed);
    }

    /// When this connection has been quiet for too long, and what that is called.
    fn deadline(&self) -> (Option<Instant>, Closed) {
        let limits = &self.shared.limits;
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
        let mut space = shared.space.borrow_mut();
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
}
