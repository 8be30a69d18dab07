//! Bytes in, with their sender and time: UDP sockets, capture files, files of records. Parses no payload.

pub mod file;
mod pcap;

pub use pcap::Skipped;
