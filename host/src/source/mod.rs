//! Bytes arrive: UDP sockets, Kafka topics, capture files, files of records and of messages.
//!
//! In: datagrams, captures, lines. Out: [`Delivery`](crate::model::Delivery)s of frames with their origin and ingest
//! time. Parses no payload. What a source refuses or sheds is counted with a reason.

pub mod file;
pub mod kafka;
mod messages;
mod parquet;
mod pcap;
pub mod udp;

pub use pcap::Skipped;

use crate::config::registry::ComponentDef;
use std::net::SocketAddr;

/// Every source type.
pub const SOURCES: &[ComponentDef] = &[udp::DEF, kafka::DEF, file::DEF];

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
}
