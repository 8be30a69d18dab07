//! A classic capture file: nanosecond times, raw IP packets (link type 101) from the exporter to the collector.

use super::Output;
use crate::generate::GenerateError;
use crate::model::{Frame, FrameBatch};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// Port that NetFlow and IPFIX collectors of the captures listen on.
pub const COLLECTOR_PORT: u16 = 2055;
const COLLECTOR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const IP_UDP_HEADERS: usize = 28;

/// A capture file being written.
#[derive(Debug)]
pub struct PcapOutput {
    path: PathBuf,
    out: BufWriter<File>,
}

impl PcapOutput {
    /// Creates (or empties) the file.
    pub fn create(path: &Path) -> Result<Self, GenerateError> {
        let create = || -> std::io::Result<_> {
            let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
            // Magic of nanosecond captures, version 2.4, no time zone, no accuracy, snap length, LINKTYPE_RAW.
            out.write_all(&0xa1b2_3c4d_u32.to_le_bytes())?;
            out.write_all(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
            out.write_all(&65_535u32.to_le_bytes())?;
            out.write_all(&101u32.to_le_bytes())?;
            Ok(out)
        };
        let out = create().map_err(|error| GenerateError::Write { path: path.into(), error })?;
        Ok(Self { path: path.into(), out })
    }

    fn packet(&mut self, frame: &Frame, payload: &[u8]) -> std::io::Result<()> {
        let len = IP_UDP_HEADERS + payload.len();
        let mut head = [0u8; 16 + IP_UDP_HEADERS];
        let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &((frame.received_ns / 1_000_000_000) as u32).to_le_bytes());
        put(4, &((frame.received_ns % 1_000_000_000) as u32).to_le_bytes());
        put(8, &(len as u32).to_le_bytes());
        put(12, &(len as u32).to_le_bytes());
        let source = match frame.peer.ip() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let ip = ipv4_header(len as u16, source);
        put(16, &ip);
        put(36, &frame.peer.port().to_be_bytes());
        put(38, &COLLECTOR_PORT.to_be_bytes());
        put(40, &((8 + payload.len()) as u16).to_be_bytes());
        // No UDP checksum: allowed over IPv4 (RFC 768).
        self.out.write_all(&head)?;
        self.out.write_all(payload)
    }
}

impl Output for PcapOutput {
    fn send(&mut self, frames: &FrameBatch) -> Result<u64, GenerateError> {
        for frame in &frames.frames {
            self.packet(frame, frames.bytes(frame))
                .map_err(|error| GenerateError::Write { path: self.path.clone(), error })?;
        }
        Ok(frames.frames.last().map_or(0, |f| f.received_ns))
    }

    fn finish(&mut self) -> Result<(), GenerateError> {
        self.out.flush().map_err(|error| GenerateError::Write { path: self.path.clone(), error })
    }
}

fn ipv4_header(len: u16, source: Ipv4Addr) -> [u8; 20] {
    let mut h = [0u8; 20];
    h[0] = 0x45;
    h[2..4].copy_from_slice(&len.to_be_bytes());
    h[6] = 0x40; // don't fragment
    h[8] = 64;
    h[9] = 17;
    h[12..16].copy_from_slice(&source.octets());
    h[16..20].copy_from_slice(&COLLECTOR.octets());
    let sum: u32 = h.chunks_exact(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    h[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    h
}
