//! What a window keeps of the flow records of one entity: sums and counted sets, mergeable, bounded.

use super::sketch::CountedSet;

/// Which counted sets a pipeline's features need; what is not needed is not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Source addresses.
    pub src: bool,
    /// Destination addresses.
    pub dst: bool,
    /// Source ports.
    pub src_port: bool,
    /// Destination ports.
    pub dst_port: bool,
}

/// Class bits of a flow record, worked out once per record and used at every level.
pub mod class {
    /// TCP.
    pub const TCP: u8 = 1;
    /// UDP.
    pub const UDP: u8 = 2;
    /// ICMP or ICMPv6.
    pub const ICMP: u8 = 4;
    /// TCP with SYN and no other flag.
    pub const SYN_ONLY: u8 = 8;
    /// One packet.
    pub const SINGLE_PACKET: u8 = 16;
    /// UDP from a port of a known amplifier.
    pub const AMP_PORT: u8 = 32;
}

/// Sums and sets of one entity. Bytes and packets are scaled by the sampling rate; flows are records as received.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // one word each
pub struct Aggregate {
    pub flows: u64,
    pub bytes: u64,
    pub packets: u64,
    pub tcp: u32,
    pub udp: u32,
    pub icmp: u32,
    pub syn_only: u32,
    pub single_packet: u32,
    pub amp_port: u32,
    pub src: CountedSet,
    pub dst: CountedSet,
    pub src_port: CountedSet,
    pub dst_port: CountedSet,
}

impl Aggregate {
    /// Counts the class bits of one record.
    #[inline]
    pub fn classify(&mut self, bits: u8) {
        let bit = |mask: u8| u32::from(bits & mask != 0);
        self.tcp += bit(class::TCP);
        self.udp += bit(class::UDP);
        self.icmp += bit(class::ICMP);
        self.syn_only += bit(class::SYN_ONLY);
        self.single_packet += bit(class::SINGLE_PACKET);
        self.amp_port += bit(class::AMP_PORT);
    }

    /// Adds all of another aggregate.
    pub fn merge(&mut self, other: &Aggregate) {
        self.flows += other.flows;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.packets = self.packets.saturating_add(other.packets);
        self.tcp += other.tcp;
        self.udp += other.udp;
        self.icmp += other.icmp;
        self.syn_only += other.syn_only;
        self.single_packet += other.single_packet;
        self.amp_port += other.amp_port;
        self.src.merge(&other.src);
        self.dst.merge(&other.dst);
        self.src_port.merge(&other.src_port);
        self.dst_port.merge(&other.dst_port);
    }
}

/// Takes the rows of firing windows, one level at a time. The window stage calls it, the features stage implements it.
pub trait WindowSink {
    /// A window of a level fires with about `rows` rows.
    fn begin(&mut self, window: &super::WindowInfo, kind: super::KeyKind, rows: usize);
    /// One entity of it.
    fn row(&mut self, key: &super::EntityKey, aggregate: &Aggregate);
    /// That was all of the level.
    fn end(&mut self);
}
