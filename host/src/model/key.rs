//! What is judged. A pipeline may key its windows by several levels at once: a flood on one host is plain
//! per host, carpet bombing only per prefix.

use super::addr::Addr;
use super::name;
use std::fmt;

/// A level of aggregation, under the name that configs and incidents use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum KeyKind {
    /// Destination host.
    DstAddr = 1,
    /// Destination network (default /24 for IPv4, /64 for IPv6).
    DstPrefix = 2,
    /// Source host.
    SrcAddr = 3,
    /// Exporter and its input interface (ifIndex).
    Interface = 4,
    /// All that the pipeline sees, as one.
    Network = 5,
    /// Whatever the features of records of another kind are about, by its name.
    Name = 6,
}

impl KeyKind {
    /// Every level, in the order of the documentation.
    pub const ALL: [KeyKind; 6] =
        [KeyKind::DstAddr, KeyKind::DstPrefix, KeyKind::SrcAddr, KeyKind::Interface, KeyKind::Network, KeyKind::Name];

    /// Name in configs, incidents and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            KeyKind::DstAddr => "dst_addr",
            KeyKind::DstPrefix => "dst_prefix",
            KeyKind::SrcAddr => "src_addr",
            KeyKind::Interface => "interface",
            KeyKind::Network => "network",
            KeyKind::Name => "name",
        }
    }

    /// The level of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.name() == name)
    }
}

/// A level with the prefix lengths it was configured with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyLevel {
    /// Which level.
    pub kind: KeyKind,
    /// Bits of an IPv4 address that make its prefix (only for prefix levels).
    pub v4_prefix: u8,
    /// Bits of an IPv6 address that make its prefix (only for prefix levels).
    pub v6_prefix: u8,
}

/// One entity: a host, a prefix, an exporter's interface, the whole network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct EntityKey {
    /// Which level the entity belongs to.
    pub kind: KeyKind,
    /// Host or network address; the exporter's for interfaces; unspecified for the whole network; what stands for a name
    /// ([`name`]).
    pub addr: Addr,
    /// Prefix length for prefixes, ifIndex for interfaces, 0 for hosts.
    pub extra: u32,
}

impl EntityKey {
    /// The entity of that name.
    pub fn named(text: &str) -> Self {
        Self { kind: KeyKind::Name, addr: name::encode(text), extra: 0 }
    }

    /// Width of the binary form.
    pub const WIDTH: usize = 21;

    /// Fixed-width binary form (kind, address, extra in big endian): the `key` column of a frame of features.
    pub fn to_bytes(self) -> [u8; Self::WIDTH] {
        let mut out = [0; Self::WIDTH];
        out[0] = self.kind as u8;
        out[1..17].copy_from_slice(&self.addr.0);
        out[17..].copy_from_slice(&self.extra.to_be_bytes());
        out
    }
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            KeyKind::DstAddr | KeyKind::SrcAddr => self.addr.fmt(f),
            KeyKind::DstPrefix => write!(f, "{}/{}", self.addr, self.extra),
            KeyKind::Interface => write!(f, "{} if {}", self.addr, self.extra),
            KeyKind::Network => f.write_str("all"),
            KeyKind::Name => name::write(&self.addr, f),
        }
    }
}
