//! Who a label or a score is about, as far as labels and scores can be compared: networks of addresses by their text.

use std::net::IpAddr;

/// A host or a network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Net {
    addr: u128,
    bits: u8,
}

impl Net {
    /// `192.0.2.1`, `192.0.2.0/24`, IPv6 likewise; `None` for anything else (an interface, a name).
    pub fn parse(text: &str) -> Option<Self> {
        let (addr, length) = match text.split_once('/') {
            Some((addr, length)) => (addr, Some(length.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let (addr, first): (_, u8) = match addr.parse::<IpAddr>().ok()?.to_canonical() {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 96),
            IpAddr::V6(v6) => (v6, 0),
        };
        let bits = first.checked_add(length.unwrap_or(128 - first)).filter(|bits| *bits <= 128)?;
        Some(Self { addr: u128::from(addr) & mask(bits), bits })
    }

    /// True when the other lies in this one, or is the same.
    pub fn contains(&self, other: &Net) -> bool {
        self.bits <= other.bits && self.addr == other.addr & mask(self.bits)
    }

    /// Its prefix length, counted in 128 bits.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The network of that prefix length around it.
    pub fn widened(&self, bits: u8) -> Net {
        Net { addr: self.addr & mask(bits), bits }
    }
}

impl std::fmt::Display for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match std::net::Ipv6Addr::from(self.addr).to_canonical() {
            addr if self.bits == 128 => addr.fmt(f),
            IpAddr::V4(addr) if self.bits >= 96 => write!(f, "{addr}/{}", self.bits - 96),
            addr => write!(f, "{addr}/{}", self.bits),
        }
    }
}

/// Whom a label or a score names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Who {
    /// Everybody: the labels name nobody.
    All,
    /// A host or a network.
    Net(Net),
    /// Anything else, compared by its text.
    Name(String),
}

impl Who {
    /// The text of an entity; `*` is everybody.
    pub fn parse(text: &str) -> Self {
        match (text, Net::parse(text)) {
            ("*", _) => Who::All,
            (_, Some(net)) => Who::Net(net),
            (name, None) => Who::Name(name.into()),
        }
    }

    /// True when what concerns the other concerns this one: the same, or it lies within.
    pub fn holds(&self, other: &Who) -> bool {
        match (self, other) {
            (_, Who::All) | (Who::All, _) => true,
            (Who::Net(a), Who::Net(b)) => a.contains(b),
            (a, b) => a == b,
        }
    }
}

fn mask(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_hosts() {
        let net = |t| Net::parse(t).unwrap();
        assert!(net("198.18.7.0/24").contains(&net("198.18.7.250")));
        assert!(!net("198.18.7.0/24").contains(&net("198.18.8.1")));
        assert!(!net("198.18.7.250").contains(&net("198.18.7.0/24")));
        assert!(net("198.18.7.1").contains(&net("::ffff:198.18.7.1")));
        assert!(net("2001:db8::/64").contains(&net("2001:db8::5")));
        assert!(net("::/0").contains(&net("2001:db8::5")));
        for text in ["198.18.7.1", "198.18.7.0/24", "2001:db8::5", "2001:db8::/64"] {
            assert_eq!(net(text).to_string(), text);
        }
        let who = Who::parse;
        assert!(who("*").holds(&who("a")) && who("a").holds(&who("*")) && who("a").holds(&who("a")));
        assert!(who("10.0.0.0/8").holds(&who("10.1.1.1")) && !who("10.1.1.1").holds(&who("a")));
        for bad in ["", "host", "10.0.0.1 if 7", "10.0.0.0/33", "::/129", "1.2.3/8", "1.2.3.4/250"] {
            assert_eq!(Net::parse(bad), None, "{bad}");
        }
    }
}
