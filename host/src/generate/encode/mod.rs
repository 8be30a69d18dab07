//! Flow records in, datagrams out: what an exporter does. One [`Encoder`] is one exporter's stream with its sequence
//! numbers, sysUptime and template resends.
//!
//! Records are written as they stand (raw counters; `sampling_rate`, `sampler_address`, `observation_domain_id` and
//! `flow_type` of a record are not looked at: they are the encoder's own). A v5 datagram cannot say IPv6, VLAN, or
//! AS numbers and ifIndexes above 65535: IPv6 records are refused and counted, the others are cut off as real
//! exporters do.

mod ipfix;
mod v5;
mod v9;

use crate::model::{Addr, FlowRecord, FlowType, Frame, FrameBatch};
use std::net::SocketAddr;

/// Longest v9 or IPFIX datagram: fits every path without fragments. A full v5 datagram is 1464 bytes, by its format.
pub const MAX_DATAGRAM: usize = 1400;
/// Templates are sent again after so many datagrams ...
pub const TEMPLATE_DATAGRAMS: u64 = 500;
/// ... or so much time.
pub const TEMPLATE_INTERVAL_NS: u64 = 20_000_000_000;
/// v5 has 14 bits for the sampling rate.
pub const V5_MAX_SAMPLING: u32 = 0x3fff;

/// Export protocol that an encoder speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// NetFlow version 5.
    V5,
    /// NetFlow version 9 (RFC 3954).
    V9,
    /// IPFIX (RFC 7011).
    Ipfix,
}

impl Version {
    /// Every version, in the order of their ages.
    pub const ALL: [Version; 3] = [Version::V5, Version::V9, Version::Ipfix];

    /// Name on the command line and in the truth file.
    pub const fn name(self) -> &'static str {
        match self {
            Version::V5 => "v5",
            Version::V9 => "v9",
            Version::Ipfix => "ipfix",
        }
    }

    /// The version of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.name() == name)
    }

    /// The type that its records have once decoded.
    pub const fn flow_type(self) -> FlowType {
        match self {
            Version::V5 => FlowType::NetflowV5,
            Version::V9 => FlowType::NetflowV9,
            Version::Ipfix => FlowType::Ipfix,
        }
    }

    /// True when records between these addresses can be told.
    #[inline]
    pub fn can_say(self, record: &FlowRecord) -> bool {
        self != Version::V5 || (record.src_addr.is_v4() && record.dst_addr.is_v4())
    }

    /// Records of a full datagram without templates (IPv4).
    pub const fn records_per_datagram(self) -> usize {
        match self {
            Version::V5 => v5::RECORDS,
            Version::V9 => (MAX_DATAGRAM - v9::HEADER - SET_HEADER - 3) / v9::LAYOUT.v4_len,
            Version::Ipfix => (MAX_DATAGRAM - ipfix::HEADER - SET_HEADER) / ipfix::LAYOUT.v4_len,
        }
    }
}

/// One exporter's stream.
#[derive(Debug)]
pub struct Encoder {
    version: Version,
    /// Stands as peer in the frames.
    peer: SocketAddr,
    domain: u32,
    sampling: u32,
    /// When the exporter started: sysUptime counts from here.
    boot_ns: u64,
    /// v5: flow records so far. v9: datagrams so far. IPFIX: data records so far.
    sequence: u32,
    flows: u64,
    datagrams: u64,
    refused: u64,
    template_at: Option<(u64, u64)>,
}

impl Encoder {
    /// A new stream. `sampling` is N of 1-in-N and is announced; 1 says that nothing is sampled.
    pub fn new(version: Version, peer: SocketAddr, domain: u32, sampling: u32, boot_ns: u64) -> Self {
        Self {
            version,
            peer,
            domain,
            sampling: sampling.max(1),
            boot_ns,
            sequence: 0,
            flows: 0,
            datagrams: 0,
            refused: 0,
            template_at: None,
        }
    }

    /// Export protocol.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The exporter's address and port.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Observation domain (v5: engine id).
    pub fn domain(&self) -> u32 {
        self.domain
    }

    /// N of 1-in-N.
    pub fn sampling(&self) -> u32 {
        self.sampling
    }

    /// Flow records written so far.
    pub fn flows(&self) -> u64 {
        self.flows
    }

    /// Datagrams written so far.
    pub fn datagrams(&self) -> u64 {
        self.datagrams
    }

    /// Records that the protocol cannot say (IPv6 in v5).
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Appends the datagrams that carry `records`, exported at `now_ns`. Templates and the sampling rate come in the
    /// first one and again when due.
    pub fn encode(&mut self, records: &[FlowRecord], now_ns: u64, out: &mut FrameBatch) {
        let mut rest = records;
        while !rest.is_empty() {
            let start = out.data.len();
            let (flows, used) = match self.version {
                Version::V5 => v5::datagram(self, rest, now_ns, &mut out.data),
                Version::V9 => v9::datagram(self, rest, now_ns, &mut out.data),
                Version::Ipfix => ipfix::datagram(self, rest, now_ns, &mut out.data),
            };
            rest = &rest[used..];
            self.flows += flows as u64;
            self.refused += (used - flows) as u64;
            if flows == 0 {
                out.data.truncate(start);
                continue;
            }
            self.datagrams += 1;
            let len = out.data.len() - start;
            out.frames.push(Frame { start: start as u32, len: len as u32, peer: self.peer, received_ns: now_ns });
        }
    }

    /// True when this datagram has to carry the templates; remembers that it does.
    fn templates_due(&mut self, now_ns: u64) -> bool {
        let due = match self.template_at {
            None => true,
            Some((datagrams, at_ns)) => {
                self.datagrams - datagrams >= TEMPLATE_DATAGRAMS || now_ns.saturating_sub(at_ns) >= TEMPLATE_INTERVAL_NS
            }
        };
        if due {
            self.template_at = Some((self.datagrams, now_ns));
        }
        due
    }

    /// Milliseconds since the exporter started, modulo 2^32. Times before the start wrap, as in exporters.
    #[inline]
    fn uptime_ms(&self, ns: u64) -> u32 {
        ((ns as i64).wrapping_sub(self.boot_ns as i64)).div_euclid(1_000_000) as u32
    }
}

/// Length of a set's header (v9: flowset).
pub const SET_HEADER: usize = 4;
/// Template of IPv4 records.
const TEMPLATE_V4: u16 = 256;
/// Template of IPv6 records.
const TEMPLATE_V6: u16 = 257;
/// Options template that announces the sampling rate.
const TEMPLATE_SAMPLING: u16 = 258;

/// Information element and its length on the wire.
type Element = (u16, u16);

/// The two data templates of a template-based protocol; they differ only in the addresses.
struct Layout {
    addresses_v4: [Element; 5],
    addresses_v6: [Element; 5],
    common: &'static [Element],
    v4_len: usize,
    v6_len: usize,
}

impl Layout {
    const fn new(common: &'static [Element]) -> Self {
        let mut len = 0;
        let mut i = 0;
        while i < common.len() {
            len += common[i].1 as usize;
            i += 1;
        }
        Layout {
            // Source, destination, next hop, source and destination prefix length: v9 and IPFIX give them one number.
            addresses_v4: [(8, 4), (12, 4), (15, 4), (9, 1), (13, 1)],
            addresses_v6: [(27, 16), (28, 16), (62, 16), (29, 1), (30, 1)],
            common,
            v4_len: 14 + len,
            v6_len: 50 + len,
        }
    }

    /// Both template records, one after the other.
    fn templates(&self, data: &mut Vec<u8>) {
        for (id, addresses) in [(TEMPLATE_V4, &self.addresses_v4), (TEMPLATE_V6, &self.addresses_v6)] {
            put16(data, id);
            put16(data, (addresses.len() + self.common.len()) as u16);
            for &(element, len) in addresses.iter().chain(self.common) {
                put16(data, element);
                put16(data, len);
            }
        }
    }
}

/// Appends data sets of both families until the datagram that began at `start` is full, and says how many records
/// went in. `pad` rounds each set up to four bytes (RFC 3954 5.3; optional in IPFIX and not done there).
fn data_sets(
    data: &mut Vec<u8>,
    start: usize,
    layout: &Layout,
    pad: bool,
    records: &[FlowRecord],
    mut write: impl FnMut(&mut Vec<u8>, &FlowRecord, bool),
) -> usize {
    let mut set: Option<(usize, bool)> = None;
    let mut written = 0;
    for record in records {
        let v4 = record.src_addr.is_v4() && record.dst_addr.is_v4();
        let new_set = set.is_none_or(|(_, open)| open != v4);
        let len = if v4 { layout.v4_len } else { layout.v6_len } + if new_set { SET_HEADER + 3 } else { 0 };
        if data.len() - start + len + 3 > MAX_DATAGRAM {
            break;
        }
        if new_set {
            if let Some((at, _)) = set {
                close_set(data, at, pad);
            }
            set = Some((data.len(), v4));
            put16(data, if v4 { TEMPLATE_V4 } else { TEMPLATE_V6 });
            put16(data, 0);
        }
        write(data, record, v4);
        written += 1;
    }
    if let Some((at, _)) = set {
        close_set(data, at, pad);
    }
    written
}

/// Writes the length of the set that began at `at`.
fn close_set(data: &mut Vec<u8>, at: usize, pad: bool) {
    if pad {
        let len = data.len() - at;
        data.resize(at + len.next_multiple_of(4), 0);
    }
    let len = (data.len() - at) as u16;
    data[at + 2..at + 4].copy_from_slice(&len.to_be_bytes());
}

#[inline]
fn put16(data: &mut Vec<u8>, n: u16) {
    data.extend_from_slice(&n.to_be_bytes());
}

#[inline]
fn put32(data: &mut Vec<u8>, n: u32) {
    data.extend_from_slice(&n.to_be_bytes());
}

/// What differs between the families: addresses (four bytes each in an IPv4 record, else sixteen), prefix lengths.
#[inline]
fn put_addresses(data: &mut Vec<u8>, record: &FlowRecord, v4: bool) {
    let from = if v4 { 12 } else { 0 };
    for Addr(bytes) in [record.src_addr, record.dst_addr, record.next_hop] {
        data.extend_from_slice(&bytes[from..]);
    }
    data.extend_from_slice(&[record.src_net, record.dst_net]);
}
