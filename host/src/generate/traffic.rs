//! The benign background: who talks to whom, how often and how much.
//!
//! Thousands of destination hosts (198.18.0.0/15, RFC 2544's test range, and 2001:db8::/32 where an exporter can say
//! IPv6) with Zipf-like popularity, ten times as many sources (10.0.0.0/8), Pareto flow sizes, the usual protocols
//! and ports, complete TCP connections and a few SYN-only scans. Steady over time: no day, no flash crowds.
//!
//! Bounds that a network has and that keep a heavy tail believable: one flow runs at 20 Mbit/s at most, and the
//! exporter reports a long one every 15 s (active timeout), so no record holds more than some 37 MB.

use super::dist::{Carry, Weighted, mix, normal, pareto};
use crate::model::{Addr, FlowRecord};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Active timeout of the exporters' caches: the longest time that one record covers.
pub const ACTIVE_TIMEOUT_NS: u64 = 15_000_000_000;
/// No benign flow is faster (access lines).
pub const MAX_FLOW_BITS_PER_S: f64 = 20e6;
/// 198.18.0.0/15 has so many addresses that end neither in 0 nor in 255; half of them may be used.
pub const MAX_HOSTS: usize = 65_000;
/// TCP flags of a connection seen from beginning to end: FIN, SYN, PSH, ACK.
pub const COMPLETE: u16 = 0x1b;
/// TCP flags of a lone SYN.
pub const SYN: u16 = 0x02;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// What kinds of flow there are: weight and how they look.
const MIX: [(f64, Class); 12] = [
    (0.40, Class::Tcp { port: 443, min_packets: 6.0 }),
    (0.07, Class::Tcp { port: 80, min_packets: 5.0 }),
    (0.03, Class::Tcp { port: 25, min_packets: 8.0 }),
    (0.03, Class::Tcp { port: 22, min_packets: 10.0 }),
    (0.03, Class::Tcp { port: 993, min_packets: 8.0 }),
    (0.03, Class::Tcp { port: 8080, min_packets: 5.0 }),
    (0.12, Class::Quic),
    (0.14, Class::DnsQuery),
    (0.05, Class::DnsAnswer),
    (0.03, Class::Ntp),
    (0.04, Class::Icmp),
    (0.03, Class::Scan),
];

#[derive(Clone, Copy, Debug)]
enum Class {
    Tcp { port: u16, min_packets: f64 },
    Quic,
    DnsQuery,
    DnsAnswer,
    Ntp,
    Icmp,
    Scan,
}

/// The background as a stream.
#[derive(Debug)]
pub struct Background {
    rng: SmallRng,
    flows_per_s: f64,
    hosts: Vec<Addr>,
    popularity: Weighted,
    sources: u64,
    classes: Weighted,
    carry: Carry,
}

impl Background {
    /// `ipv6`: every 25th host is an IPv6 one.
    pub fn new(flows_per_s: f64, hosts: usize, seed: u64, ipv6: bool) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            flows_per_s,
            hosts: hosts_by_rank(hosts, ipv6),
            popularity: Weighted::zipf(hosts, 0.9, 5.0),
            sources: 10 * hosts as u64,
            classes: Weighted::new(&MIX.map(|(weight, _)| weight)),
            carry: Carry::default(),
        }
    }

    /// Destinations, most popular first.
    pub fn hosts(&self) -> &[Addr] {
        &self.hosts
    }

    /// Appends the flows that ended (or were reported) in `[from_ns, to_ns)`.
    pub fn tick(&mut self, from_ns: u64, to_ns: u64, out: &mut Vec<FlowRecord>) {
        let expected = self.flows_per_s * (to_ns - from_ns) as f64 / 1e9;
        // Poisson's variance is its mean; the normal curve is near enough.
        let count = self.carry.take(expected + expected.sqrt() * normal(&mut self.rng));
        for _ in 0..count {
            let flow = self.flow(from_ns, to_ns);
            out.push(flow);
        }
    }

    fn flow(&mut self, from_ns: u64, to_ns: u64) -> FlowRecord {
        let rng = &mut self.rng;
        let class = MIX[self.classes.draw(rng)].1;
        let dst_addr = match class {
            // Scanners try everyone alike.
            Class::Scan => self.hosts[rng.random_range(0..self.hosts.len())],
            _ => self.hosts[self.popularity.draw(rng)],
        };
        let source = match class {
            Class::Scan => u64::MAX - rng.random_range(0..20),
            Class::DnsAnswer => u64::MAX / 2 - rng.random_range(0..200),
            // Squaring favours the low numbers: some sources are busier.
            _ => (rng.random::<f64>().powi(2) * self.sources as f64) as u64,
        };
        let v6 = !dst_addr.is_v4();
        let src_addr = source_addr(source, v6);
        let ephemeral = rng.random_range(1024..=u16::MAX);
        let shape = Shape::draw(class, ephemeral, v6, rng);
        let end_ns = rng.random_range(from_ns..to_ns);
        let path = mix(source ^ 0x7061_7468);
        FlowRecord {
            time_flow_start_ns: end_ns.saturating_sub(shape.duration_ns),
            time_flow_end_ns: end_ns,
            src_addr,
            dst_addr,
            src_port: shape.src_port,
            dst_port: shape.dst_port,
            proto: shape.proto,
            tcp_flags: shape.tcp_flags,
            bytes: shape.bytes,
            packets: shape.packets,
            in_if: 1 + (path & 3) as u32,
            out_if: 10 + (path >> 2 & 1) as u32,
            src_as: 64_512 + (path >> 8 & 0x3f) as u32,
            dst_as: 64_500,
            src_net: if v6 { 48 } else { 16 },
            dst_net: if v6 { 64 } else { 24 },
            next_hop: next_hop(v6),
            ip_tos: if path & 0xf0 == 0 { 0x28 } else { 0 },
            ..FlowRecord::default()
        }
    }
}

/// Ports, flags and size of one flow.
struct Shape {
    src_port: u16,
    dst_port: u16,
    proto: u8,
    tcp_flags: u16,
    packets: u64,
    bytes: u64,
    duration_ns: u64,
}

impl Shape {
    fn draw(class: Class, ephemeral: u16, v6: bool, rng: &mut SmallRng) -> Self {
        let (src_port, dst_port, proto, tcp_flags) = match class {
            Class::Tcp { port, .. } => (ephemeral, port, TCP, COMPLETE),
            Class::Quic => (ephemeral, 443, UDP, 0),
            Class::DnsQuery => (ephemeral, 53, UDP, 0),
            Class::DnsAnswer => (53, ephemeral, UDP, 0),
            Class::Ntp => (123, 123, UDP, 0),
            // v5 and v9 exporters put type and code into the destination port: echo request.
            Class::Icmp => (0, if v6 { 0x8000 } else { 0x0800 }, if v6 { ICMPV6 } else { ICMP }, 0),
            Class::Scan => (ephemeral, [22, 23, 80, 443, 445, 3389][rng.random_range(0..6)], TCP, SYN),
        };
        let (packets, size) = match class {
            Class::Tcp { min_packets, .. } => {
                (pareto(rng, min_packets, 1.25, 30_000.0), rng.random_range(80.0..1400.0))
            }
            Class::Quic => (pareto(rng, 6.0, 1.2, 30_000.0), rng.random_range(200.0..1300.0)),
            Class::DnsQuery => (rng.random_range(1.0..2.2), rng.random_range(60.0..90.0)),
            Class::DnsAnswer => (rng.random_range(1.0..2.2), rng.random_range(90.0..520.0)),
            Class::Ntp => (rng.random_range(1.0..4.0), 76.0),
            Class::Icmp => (rng.random_range(1.0..8.0), rng.random_range(64.0..98.0)),
            Class::Scan => (1.0, rng.random_range(40.0..61.0)),
        };
        let mut packets = packets.floor();
        // A round trip of 5 to 200 ms for every few packets; then what the line and the exporter allow.
        let mut seconds = if packets > 1.0 { packets.sqrt() * rng.random_range(0.005..0.2) } else { 0.0 };
        seconds = seconds.max(packets * size * 8.0 / MAX_FLOW_BITS_PER_S);
        let longest = ACTIVE_TIMEOUT_NS as f64 / 1e9;
        if seconds > longest {
            packets = (packets * longest / seconds).floor().max(1.0);
            seconds = longest;
        }
        Shape {
            src_port,
            dst_port,
            proto,
            tcp_flags,
            packets: packets as u64,
            bytes: (packets * size) as u64,
            duration_ns: (seconds * 1e9) as u64,
        }
    }
}

/// Destinations by rank: spread over the whole range by a permutation, so that popular hosts share no prefix.
fn hosts_by_rank(hosts: usize, ipv6: bool) -> Vec<Addr> {
    let mut next = 0u32;
    let mut host_v4 = || {
        loop {
            // An odd factor permutes the 2^17 addresses.
            let n = next.wrapping_mul(0x9e37_79b1) & 0x1_ffff;
            next += 1;
            if !matches!(n & 0xff, 0 | 0xff) {
                return Addr::from_v4_bytes((0xc612_0000 | n).to_be_bytes());
            }
        }
    };
    (0..hosts).map(|rank| if ipv6 && rank % 25 == 24 { host_v6(rank) } else { host_v4() }).collect()
}

fn host_v6(rank: usize) -> Addr {
    let n = mix(rank as u64);
    v6([(n & 0xff) as u16, 0, 0, 0, (rank >> 16) as u16 + 1, rank as u16])
}

/// `2001:db8:` and six more groups.
fn v6(groups: [u16; 6]) -> Addr {
    let mut bytes = [0u8; 16];
    bytes[..2].copy_from_slice(&[0x20, 0x01]);
    bytes[2..4].copy_from_slice(&[0x0d, 0xb8]);
    for (i, group) in groups.iter().enumerate() {
        bytes[4 + 2 * i..6 + 2 * i].copy_from_slice(&group.to_be_bytes());
    }
    Addr(bytes)
}

/// The address of source number `n`.
pub fn source_addr(n: u64, v6_family: bool) -> Addr {
    let m = mix(n);
    if v6_family {
        v6([0x8000 | (m & 0x7fff) as u16, 0, 0, (m >> 16) as u16, (m >> 32) as u16, (m >> 48) as u16])
    } else {
        let b = (m as u32).to_be_bytes();
        Addr::from_v4_bytes([10, b[1], b[2], b[3]])
    }
}

/// The router behind the exporters.
pub fn next_hop(v6_family: bool) -> Addr {
    if v6_family { v6([0xffff, 0, 0, 0, 0, 1]) } else { Addr::from_v4_bytes([192, 0, 2, 1]) }
}
