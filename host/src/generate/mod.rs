//! Labelled flow traffic: a benign background, attacks whose place and time are known, and exporters that say it all
//! in NetFlow v5, v9 and IPFIX.
//!
//! Comes in: [`Options`]. Goes out: datagrams (frames whose peer is the exporter) and the [`truth`] about them.
//! Everything follows from the seed and moves in event time, so that two runs with the same options give the same
//! bytes; only [`output`] knows files, sockets and the wall clock. What cannot be expressed (an attack that ends
//! after the traffic, a sampling rate that v5's header cannot hold) is refused before the first datagram. No metric
//! moves: this room is not part of the engine.

pub mod attacks;
pub mod dist;
pub mod encode;
pub mod exporter;
pub mod generator;
pub mod output;
pub mod traffic;
pub mod truth;

pub use attacks::{AttackKind, AttackSpec};
pub use encode::{Encoder, Version};
pub use generator::{Generator, Options};
pub use truth::Truth;

use std::net::SocketAddr;
use std::path::PathBuf;

#[cfg(test)]
mod demo_limits;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

/// Why nothing, or not everything, was generated.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the texts say it
pub enum GenerateError {
    #[error("attack \"{text}\": {problem}; write KIND[@START+SECONDS][:target=ADDRESS,pps=N,fps=N,hosts=N,bytes=N]")]
    AttackSpec { text: String, problem: String },
    #[error(
        "attack {name} ends at {end:.1} s but the traffic lasts {seconds:.1} s: start it earlier or raise --seconds"
    )]
    AttackTooLate { name: String, end: f64, seconds: f64 },
    #[error("{what} must be {allowed}, got {got}")]
    OutOfRange { what: &'static str, allowed: String, got: String },
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: std::io::Error },
    #[error("cannot send from {from} to {to}: {error}{}", send_help(error))]
    Send { from: SocketAddr, to: SocketAddr, error: std::io::Error },
    #[error("cannot write to topic {topic} at {brokers}: {why}")]
    Kafka { brokers: String, topic: String, why: String },
}

fn send_help(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => " (nobody listens there: start the receiver first)",
        std::io::ErrorKind::AddrNotAvailable => " (exporters send to loopback from 127.0.0.11 and up)",
        _ => "",
    }
}
