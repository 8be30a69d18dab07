//! Packet captures: UDP payloads with their sender and the time of capture. Link types: raw IP (101, 12, 228, 229),
//! Ethernet with VLAN tags, Linux cooked (SLL, SLL2), loopback (NULL, LOOP). IP fragments, other protocols and cut
//! packets are skipped and counted by reason.

use crate::model::FrameBatch;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError};
use std::io::{Cursor, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Packets that are no UDP datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// IP fragments: reassembly is not done.
    pub fragments: u64,
    /// Other than UDP over IP.
    pub not_udp: u64,
    /// Shorter than their own headers say (a small snap length).
    pub truncated: u64,
    /// Link types that are not read.
    pub link_type: u64,
}

impl Skipped {
    /// With their labels.
    pub fn reasons(&self) -> [(&'static str, u64); 4] {
        [
            ("fragment", self.fragments),
            ("not_udp", self.not_udp),
            ("truncated", self.truncated),
            ("link_type", self.link_type),
        ]
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.reasons().iter().map(|(_, n)| n).sum()
    }
}

type Input<R> = std::io::Chain<Cursor<Vec<u8>>, R>;

enum Kind<R: Read> {
    Pcap(PcapReader<Input<R>>),
    PcapNg(Box<PcapNgReader<Input<R>>>),
}

/// One open capture.
pub(super) struct Capture<R: Read> {
    kind: Kind<R>,
    packets: u64,
    skipped: Skipped,
    ended: bool,
}

impl<R: Read> Capture<R> {
    /// Reads the file header.
    pub fn open(mut reader: R) -> Result<Self, String> {
        let mut magic = Vec::with_capacity(4);
        reader.by_ref().take(4).read_to_end(&mut magic).map_err(|e| e.to_string())?;
        let is_ng = magic == [0x0a, 0x0d, 0x0d, 0x0a];
        let input = Cursor::new(magic).chain(reader);
        let kind = if is_ng {
            PcapNgReader::new(input).map(|r| Kind::PcapNg(Box::new(r)))
        } else {
            PcapReader::new(input).map(Kind::Pcap)
        };
        let kind = kind.map_err(|e| format!("this is no pcap or pcapng file: {}", text(&e)))?;
        Ok(Self { kind, packets: 0, skipped: Skipped::default(), ended: false })
    }

    /// Packets read so far, whatever they were.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// Reads one packet; adds it when it is a UDP datagram. False at the end.
    pub fn next(&mut self, batch: &mut FrameBatch) -> Result<bool, String> {
        if self.ended {
            return Ok(false);
        }
        let read = self.step(batch);
        self.ended = !matches!(read, Ok(true));
        read
    }

    fn step(&mut self, batch: &mut FrameBatch) -> Result<bool, String> {
        match &mut self.kind {
            Kind::Pcap(reader) => {
                let link = reader.header().datalink;
                let Some(packet) = reader.next_packet() else { return Ok(false) };
                let packet = packet.map_err(|e| text(&e))?;
                self.packets += 1;
                take(link, &packet.data, nanos(packet.timestamp.as_nanos()), batch, &mut self.skipped);
            }
            Kind::PcapNg(reader) => {
                let Some(block) = reader.next_block() else { return Ok(false) };
                let block = block.map_err(|e| text(&e))?.into_owned();
                let interfaces = reader.interfaces();
                let (interface, ticks, data) = match &block {
                    Block::EnhancedPacket(p) => (p.interface_id, p.timestamp.as_nanos(), &p.data),
                    Block::SimplePacket(p) => (0, 0, &p.data),
                    _ => return Ok(true),
                };
                let interface = interfaces.get(interface as usize).ok_or("its interface is not described")?;
                self.packets += 1;
                // The library takes the ticks for nanoseconds, whatever the interface's resolution is.
                let resolution = interface.options.iter().find_map(|o| match o {
                    InterfaceDescriptionOption::IfTsResol(r) => Some(*r),
                    _ => None,
                });
                let ns = nanos(to_nanos(ticks, resolution.unwrap_or(6)));
                take(interface.linktype, data, ns, batch, &mut self.skipped);
            }
        }
        Ok(true)
    }
}

fn text(error: &PcapError) -> String {
    match error {
        PcapError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => "the file breaks off".to_owned(),
        PcapError::IoError(e) => e.to_string(),
        other => other.to_string(),
    }
}

fn nanos(ns: u128) -> u64 {
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// pcapng if_tsresol: 10^-n seconds, or 2^-n with the highest bit set.
fn to_nanos(ticks: u128, resolution: u8) -> u128 {
    let n = u32::from(resolution & 0x7f);
    if resolution & 0x80 != 0 {
        return ticks.saturating_mul(1_000_000_000) >> n.min(127);
    }
    if n <= 9 {
        ticks.saturating_mul(10u128.pow(9 - n))
    } else {
        ticks / 10u128.checked_pow(n - 9).unwrap_or(u128::MAX)
    }
}

/// Why a packet is skipped.
enum Why {
    Fragment,
    NotUdp,
    Truncated,
    LinkType,
}

fn take(link: DataLink, packet: &[u8], ns: u64, batch: &mut FrameBatch, skipped: &mut Skipped) {
    match network_layer(link, packet).and_then(udp) {
        Ok((peer, payload)) => batch.push(payload, peer, ns),
        Err(Why::Fragment) => skipped.fragments += 1,
        Err(Why::NotUdp) => skipped.not_udp += 1,
        Err(Why::Truncated) => skipped.truncated += 1,
        Err(Why::LinkType) => skipped.link_type += 1,
    }
}

/// The IP packet in a frame.
fn network_layer(link: DataLink, b: &[u8]) -> Result<&[u8], Why> {
    let at = |n: usize| b.get(n..).ok_or(Why::Truncated);
    match link {
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 | DataLink::Unknown(12 | 14) => Ok(b),
        DataLink::ETHERNET => ethertype(b, 12),
        DataLink::LINUX_SLL => ethertype(b, 14),
        // SLL2: the protocol stands first, the header is 20 bytes.
        DataLink::LINUX_SLL2 => is_ip(b.get(..2).ok_or(Why::Truncated)?).and_then(|()| at(20)),
        // A 4-byte family in the byte order of the capturing host: the IP version below says the same.
        DataLink::NULL | DataLink::LOOP => at(4),
        _ => Err(Why::LinkType),
    }
}

/// Follows VLAN tags from the type field at `at`.
fn ethertype(b: &[u8], mut at: usize) -> Result<&[u8], Why> {
    loop {
        let kind = b.get(at..at + 2).ok_or(Why::Truncated)?;
        if !matches!(kind, [0x81, 0x00] | [0x88, 0xa8] | [0x91, 0x00]) {
            return is_ip(kind).and_then(|()| b.get(at + 2..).ok_or(Why::Truncated));
        }
        at += 4;
    }
}

fn is_ip(kind: &[u8]) -> Result<(), Why> {
    if matches!(kind, [0x08, 0x00] | [0x86, 0xdd]) { Ok(()) } else { Err(Why::NotUdp) }
}

fn udp(ip: &[u8]) -> Result<(SocketAddr, &[u8]), Why> {
    let version = ip.first().ok_or(Why::Truncated)? >> 4;
    let (source, segment): (IpAddr, &[u8]) = match version {
        4 => {
            let h = ip.get(..20).ok_or(Why::Truncated)?;
            // More fragments, or an offset.
            if u16::from_be_bytes([h[6], h[7]]) & 0x3fff != 0 {
                return Err(Why::Fragment);
            }
            if h[9] != 17 {
                return Err(Why::NotUdp);
            }
            let source = Ipv4Addr::new(h[12], h[13], h[14], h[15]);
            (source.into(), ip.get(usize::from(h[0] & 0x0f) * 4..).ok_or(Why::Truncated)?)
        }
        6 => {
            let h = ip.get(..40).ok_or(Why::Truncated)?;
            let source: [u8; 16] = h[8..24].try_into().expect("16 bytes");
            let mut next = h[6];
            let mut rest = &ip[40..];
            while let 0 | 43 | 60 = next {
                let len = 8 + usize::from(*rest.get(1).ok_or(Why::Truncated)?) * 8;
                next = rest[0];
                rest = rest.get(len..).ok_or(Why::Truncated)?;
            }
            match next {
                17 => (Ipv6Addr::from(source).into(), rest),
                44 => return Err(Why::Fragment),
                _ => return Err(Why::NotUdp),
            }
        }
        _ => return Err(Why::NotUdp),
    };
    let h = segment.get(..8).ok_or(Why::Truncated)?;
    let port = u16::from_be_bytes([h[0], h[1]]);
    let len = usize::from(u16::from_be_bytes([h[4], h[5]]));
    // Behind the datagram a frame may have padding.
    let payload = segment.get(8..len).ok_or(Why::Truncated)?;
    Ok((SocketAddr::new(source, port), payload))
}

#[cfg(test)]
mod tests;
