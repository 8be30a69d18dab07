//! Bytes as they arrived, many frames packed end to end: a UDP datagram, a packet of a capture file, a line of a
//! text file. Sources fill batches, decoders empty them; buffers go round so that the hot path does not allocate.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Position of one frame in its batch, and where it came from.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Offset of the first byte in [`FrameBatch::data`].
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
    /// The exporter's (or sender's) address and port; unspecified for files of records.
    pub peer: SocketAddr,
    /// Ingest time: ns since the Unix epoch. From a capture file: the capture's time.
    pub received_ns: u64,
}

/// Many frames.
#[derive(Debug, Default)]
pub struct FrameBatch {
    /// All bytes.
    pub data: Vec<u8>,
    /// Where each frame lies.
    pub frames: Vec<Frame>,
}

/// Peer of frames that came from a file of records.
pub const NO_PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl FrameBatch {
    /// Appends a copy of `bytes`.
    pub fn push(&mut self, bytes: &[u8], peer: SocketAddr, received_ns: u64) {
        let start = self.data.len() as u32;
        self.data.extend_from_slice(bytes);
        self.frames.push(Frame { start, len: bytes.len() as u32, peer, received_ns });
    }

    /// The bytes of a frame of this batch.
    #[inline]
    pub fn bytes(&self, frame: &Frame) -> &[u8] {
        &self.data[frame.start as usize..(frame.start + frame.len) as usize]
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.data.clear();
        self.frames.clear();
    }
}

/// What a source hands to decoding.
#[derive(Debug)]
pub enum Delivery {
    /// Frames, in the order received.
    Frames(FrameBatch),
    /// Nothing came: everything received before this time (ns since the Unix epoch) has been handed over.
    Tick(u64),
}
