//! Attacks with a known place and time.
//!
//! | kind | what it looks like | default |
//! | --- | --- | --- |
//! | `udp-amplification` | thousands of reflectors, source ports 53, 123, 389, 1900, 11211, big packets, one host | 200 kpps, 1400 bytes = 2.24 Gbit/s |
//! | `syn-flood` | spoofed sources, one port of one host, SYN only, 40 to 60 bytes | 30 kpps |
//! | `carpet-bombing` | every host of a /24 (250 of them), each at a rate that harms nobody | 80 kpps in all: 320 pps and 2.3 Mbit/s a host |
//!
//! An exporter reports a flow when it ends or when it has lasted for the attack's *hold* time (1 s; 0.1 s for the
//! short-lived flows of a SYN flood), so a record reported at t carries the packets of [t - hold, t] that fall into
//! the attack; packets add up to rate x duration exactly. `fps` bounds the flow records a second (default 5,000, or
//! the packet rate where that is lower): a SYN flood of 30 kpps becomes 5,000 five-tuples a second that are tried
//! six times each. `fps` equal to `pps` gives one packet a record, as from a tool that never repeats a source.

use super::GenerateError;
use super::dist::{Carry, mix};
use super::traffic::{SYN, next_hop, source_addr};
use crate::model::{Addr, FlowRecord};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Source ports of the protocols that amplify best.
pub const AMPLIFIER_PORTS: [u16; 5] = [53, 123, 389, 1900, 11_211];
const DEFAULT_FPS: f64 = 5_000.0;

/// Kind of attack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttackKind {
    /// Reflected UDP on one host.
    UdpAmplification,
    /// Half-open TCP connections on one port of one host.
    SynFlood,
    /// A whole /24 at once.
    CarpetBombing,
}

impl AttackKind {
    /// Every kind.
    pub const ALL: [AttackKind; 3] = [AttackKind::UdpAmplification, AttackKind::SynFlood, AttackKind::CarpetBombing];

    /// Name on the command line and in the truth file.
    pub const fn name(self) -> &'static str {
        match self {
            AttackKind::UdpAmplification => "udp-amplification",
            AttackKind::SynFlood => "syn-flood",
            AttackKind::CarpetBombing => "carpet-bombing",
        }
    }

    const fn defaults(self) -> (f64, f64) {
        match self {
            AttackKind::UdpAmplification => (200_000.0, 1400.0),
            AttackKind::SynFlood => (30_000.0, 50.0),
            AttackKind::CarpetBombing => (80_000.0, 900.0),
        }
    }

    /// How long one record covers at most, ns.
    const fn hold_ns(self) -> u64 {
        match self {
            AttackKind::SynFlood => 100_000_000,
            _ => 1_000_000_000,
        }
    }
}

/// One attack as asked for. What is `None` gets its default in [`AttackSpec::place`].
#[derive(Clone, PartialEq, Debug)]
pub struct AttackSpec {
    /// Kind.
    pub kind: AttackKind,
    /// Start and length in seconds from the start of the traffic.
    pub when: Option<(f64, f64)>,
    /// Host; for carpet bombing any address of the /24.
    pub target: Option<Addr>,
    /// Packets a second, over all hosts.
    pub pps: f64,
    /// Flow records a second at most.
    pub fps: f64,
    /// Bytes a packet.
    pub packet_bytes: f64,
    /// Hosts of the /24 (carpet bombing only).
    pub hosts: u32,
}

impl AttackSpec {
    /// The kind with its defaults.
    pub fn new(kind: AttackKind) -> Self {
        let (pps, packet_bytes) = kind.defaults();
        Self { kind, when: None, target: None, pps, fps: DEFAULT_FPS, packet_bytes, hosts: 250 }
    }

    /// With start and length in seconds.
    pub fn at(self, start: f64, seconds: f64) -> Self {
        Self { when: Some((start, seconds)), ..self }
    }

    /// Reads `KIND[@START+SECONDS][:key=value,...]`.
    pub fn parse(text: &str) -> Result<Self, GenerateError> {
        let fail = |problem: String| GenerateError::AttackSpec { text: text.into(), problem };
        let (head, options) = text.split_once(':').map_or((text, None), |(h, o)| (h, Some(o)));
        let (name, when) = head.split_once('@').map_or((head, None), |(n, w)| (n, Some(w)));
        let kind = AttackKind::ALL.into_iter().find(|k| k.name() == name).ok_or_else(|| {
            fail(format!("unknown kind \"{name}\" (known: {})", AttackKind::ALL.map(AttackKind::name).join(", ")))
        })?;
        let number = |what: &str, s: &str| match s.trim_end_matches('s').parse::<f64>() {
            Ok(n) if n.is_finite() && n >= 0.0 => Ok(n),
            _ => Err(fail(format!("{what} \"{s}\" is not a number"))),
        };
        let positive = |what: &str, s: &str| match number(what, s)? {
            0.0 => Err(fail(format!("{what} must be above 0"))),
            n => Ok(n),
        };
        let mut spec = Self::new(kind);
        if let Some(when) = when {
            let (start, seconds) =
                when.split_once('+').ok_or_else(|| fail(format!("no \"+SECONDS\" after \"@{when}\"")))?;
            spec.when = Some((number("start", start)?, positive("duration", seconds)?));
        }
        for option in options.into_iter().flat_map(|o| o.split(',')) {
            // An IPv6 target has colons, but no "=" and no ",": only the first ":" of the text separates.
            let (key, value) =
                option.split_once('=').ok_or_else(|| fail(format!("option \"{option}\" has no value")))?;
            match key {
                "target" => {
                    spec.target =
                        Some(value.parse().map_err(|_| fail(format!("target \"{value}\" is not an IP address")))?);
                }
                "pps" => spec.pps = positive(key, value)?,
                "fps" => spec.fps = positive(key, value)?,
                "bytes" => spec.packet_bytes = positive(key, value)?,
                "hosts" => match value.parse() {
                    Ok(n @ 1..=254) => spec.hosts = n,
                    _ => return Err(fail(format!("hosts must be 1 to 254, got \"{value}\""))),
                },
                _ => return Err(fail(format!("unknown option \"{key}\""))),
            }
        }
        if kind == AttackKind::CarpetBombing && spec.target.is_some_and(|t| !t.is_v4()) {
            return Err(fail("carpet bombing needs an IPv4 target (a /24)".into()));
        }
        Ok(spec)
    }

    /// The three attacks of `cargo xtask demo`, in 70 s of traffic.
    pub fn demo() -> Vec<Self> {
        vec![
            Self::new(AttackKind::UdpAmplification).at(8.0, 8.0),
            Self::new(AttackKind::SynFlood).at(22.0, 8.0),
            Self::new(AttackKind::CarpetBombing).at(36.0, 10.0),
        ]
    }

    /// Fills in place and time: the `index`-th of `count` attacks gets its own share of the traffic's `seconds` and
    /// an ordinary host of `hosts` (most popular first).
    pub fn place(mut self, index: usize, count: usize, seconds: f64, hosts: &[Addr]) -> Result<Self, GenerateError> {
        let slot = seconds / count as f64;
        let (start, length) = *self.when.get_or_insert(((index as f64 + 0.25) * slot, slot / 3.0));
        if start + length > seconds + 1e-9 {
            return Err(GenerateError::AttackTooLate { name: self.kind.name().into(), end: start + length, seconds });
        }
        if self.target.is_none() {
            let v4: Vec<Addr> = hosts.iter().copied().filter(Addr::is_v4).collect();
            // The less popular half, in as many steps as there are attacks.
            let step = index * v4.len() / (2 * count).max(16);
            self.target = Some(v4[(v4.len() / 2 + step).min(v4.len() - 1)]);
        }
        if self.kind == AttackKind::CarpetBombing {
            self.target = self.target.map(|t| t.prefix(24, 64).addr);
        }
        self.fps = self.fps.min(self.pps);
        Ok(self)
    }
}

/// A placed attack as a stream of flow records.
#[derive(Debug)]
pub struct Attack {
    spec: AttackSpec,
    target: Addr,
    start_ns: u64,
    end_ns: u64,
    rng: SmallRng,
    seed: u64,
    due: Carry,
    packets_carry: Carry,
    next: u64,
}

impl Attack {
    /// `spec` must have been placed; `origin_ns` is the start of the traffic.
    pub fn new(spec: AttackSpec, origin_ns: u64, seed: u64) -> Self {
        let (start, length) = spec.when.expect("a placed attack has a time");
        let target = spec.target.expect("a placed attack has a target");
        let start_ns = origin_ns + (start * 1e9) as u64;
        Self {
            target,
            start_ns,
            end_ns: start_ns + (length * 1e9) as u64,
            rng: SmallRng::seed_from_u64(seed),
            seed,
            due: Carry::default(),
            packets_carry: Carry::default(),
            next: 0,
            spec,
        }
    }

    /// As asked for, with the defaults filled in.
    pub fn spec(&self) -> &AttackSpec {
        &self.spec
    }

    /// Start of its traffic, event time.
    pub fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// End of its traffic, event time. The last records are reported up to a hold time later.
    pub fn end_ns(&self) -> u64 {
        self.end_ns
    }

    /// When its last record is reported.
    pub fn reported_by_ns(&self) -> u64 {
        self.end_ns + self.spec.kind.hold_ns()
    }

    /// Text of the target: a host, or the /24.
    pub fn target(&self) -> String {
        match self.spec.kind {
            AttackKind::CarpetBombing => self.target.prefix(24, 64).to_string(),
            _ => self.target.to_string(),
        }
    }

    /// Appends the records reported in `[from_ns, to_ns)`.
    pub fn tick(&mut self, from_ns: u64, to_ns: u64, out: &mut Vec<FlowRecord>) {
        let (from, to) = (from_ns.max(self.start_ns), to_ns.min(self.reported_by_ns()));
        if from >= to {
            return;
        }
        let count = self.due.take(self.spec.fps * (to - from) as f64 / 1e9);
        for i in 0..count {
            // The later end of the slice, so that the very first record of an attack has something to report.
            let at_ns = from + (to - from) * (i + 1) / count;
            let hold_ns = self.spec.kind.hold_ns();
            let first_ns = at_ns.saturating_sub(hold_ns).max(self.start_ns);
            let last_ns = at_ns.min(self.end_ns);
            let covered = last_ns.saturating_sub(first_ns) as f64 / hold_ns as f64;
            let packets = self.packets_carry.take(self.spec.pps / self.spec.fps * covered);
            let tuple = self.next;
            self.next += 1;
            if packets > 0 {
                let flow = self.flow(tuple, packets, first_ns, last_ns);
                out.push(flow);
            }
        }
    }

    fn flow(&mut self, tuple: u64, packets: u64, first_ns: u64, last_ns: u64) -> FlowRecord {
        let v6 = !self.target.is_v4();
        // Reflectors and bots last: the same five-tuples again and again. Spoofed ones do not.
        let tuples = (self.spec.fps * self.spec.kind.hold_ns() as f64 / 1e9).max(1.0) as u64;
        let (who, size) = match self.spec.kind {
            AttackKind::SynFlood => {
                (mix(self.seed ^ tuple), self.spec.packet_bytes + self.rng.random_range(-10.0..=10.0))
            }
            _ => (mix(self.seed ^ (tuple % tuples)), self.spec.packet_bytes),
        };
        let (src_port, dst_port) = match self.spec.kind {
            AttackKind::UdpAmplification => (AMPLIFIER_PORTS[(who % 5) as usize], 1024 + (who >> 8) as u16 % 60_000),
            AttackKind::SynFlood => (1024 + (who >> 8) as u16 % 60_000, 443),
            AttackKind::CarpetBombing => (1024 + (who >> 8) as u16 % 60_000, 1024 + (who >> 24) as u16 % 60_000),
        };
        let mut dst_addr = self.target;
        if self.spec.kind == AttackKind::CarpetBombing {
            dst_addr.0[15] = 1 + (tuple % tuples % u64::from(self.spec.hosts)) as u8;
        }
        let syn = self.spec.kind == AttackKind::SynFlood;
        FlowRecord {
            time_flow_start_ns: first_ns,
            time_flow_end_ns: last_ns,
            src_addr: source_addr(who, v6),
            dst_addr,
            src_port,
            dst_port,
            proto: if syn { 6 } else { 17 },
            tcp_flags: if syn { SYN } else { 0 },
            bytes: (packets as f64 * size.max(20.0)) as u64,
            packets,
            in_if: 1 + (who & 3) as u32,
            out_if: 10,
            src_as: 64_512 + (who >> 8 & 0x3f) as u32,
            dst_as: 64_500,
            src_net: if v6 { 48 } else { 16 },
            dst_net: if v6 { 64 } else { 24 },
            next_hop: next_hop(v6),
            ..FlowRecord::default()
        }
    }
}
