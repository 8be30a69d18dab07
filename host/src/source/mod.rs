//! Bytes arrive: UDP sockets, TCP and TLS connections, unix sockets, files that grow, Kafka topics, capture files, files of
//! records and of messages.
//!
//! In: datagrams, streams, captures, lines. Out: [`Delivery`](crate::model::Delivery)s of frames with their origin and ingest
//! time. Parses no payload. What a source refuses or sheds is counted with a reason.

mod clock;
pub mod file;
pub mod framing;
mod handover;
pub mod kafka;
mod messages;
mod parquet;
mod pcap;
mod seldom;
mod stream;
pub mod tail;
pub mod tcp;
pub mod tls;
pub mod udp;
pub mod unix;

pub use pcap::Skipped;

use crate::config::registry::ComponentDef;
use crate::model::{Delivery, FrameBatch};
use crossbeam_channel::{Receiver, Sender};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Every source type.
pub const SOURCES: &[ComponentDef] = &[udp::DEF, tcp::DEF, unix::DEF, tail::DEF, kafka::DEF, file::DEF];

/// A source that is ready to receive, on a thread of its own.
pub trait Receive: Send {
    /// Receives until `stop`, hands over what it has by then, and returns. `recycled` brings used batches back. Returns, too,
    /// when nobody takes what it delivers.
    fn run(self: Box<Self>, out: &Sender<Delivery>, recycled: &Receiver<FrameBatch>, stop: &Arc<AtomicBool>);
}

/// What a source at work has open, for one that takes its place. Keeps nothing open itself.
#[derive(Clone)]
pub enum Held {
    /// Sockets.
    Udp(udp::Sockets),
    /// A listener with its connections.
    Tcp(tcp::Listening),
    /// The same, or a socket of datagrams, with their file.
    Unix(unix::Listening),
}

/// The change from the receivers of a source to those that take their place. Dropped before [`begin`](Self::begin), nothing has
/// happened.
pub struct Takeover(Box<dyn FnOnce() -> Result<(), SourceError> + Send>);

impl Takeover {
    /// `begin` does it.
    pub fn new(begin: impl FnOnce() -> Result<(), SourceError> + Send + 'static) -> Self {
        Self(Box::new(begin))
    }

    /// From now on the old receivers, told to stop, leave what they have open to the new ones. `Err`: they go on as they were.
    pub fn begin(self) -> Result<(), SourceError> {
        (self.0)()
    }
}

/// Why a source could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The socket could not be bound.
    #[error("source {id:?} cannot listen on {listen}: {source} (`listen` of `[sources.{id}]` sets it)")]
    Bind {
        /// Source id.
        id: String,
        /// Address asked for.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that the configuration names cannot be used.
    #[error("source {id:?}: {path}: {why}")]
    Unusable {
        /// Source id.
        id: String,
        /// Key of the source's table.
        key: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The system has no more threads or descriptors.
    #[error("source {id:?} cannot start: {source}")]
    System {
        /// Source id.
        id: String,
        /// What the system said.
        source: std::io::Error,
    },
}
