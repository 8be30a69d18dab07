//! IP addresses and prefixes in one fixed width. IPv4 is held as `::ffff:a.b.c.d` (RFC 4291 2.5.5.2),
//! so that a column of addresses is one fixed-size buffer whatever the family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A 16-byte address, IPv4 mapped into IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Addr(pub [u8; 16]);

impl Addr {
    /// `::`, the value of an address that the record did not carry.
    pub const UNSPECIFIED: Addr = Addr([0; 16]);

    /// Maps an IPv4 address given as four bytes in network order.
    #[inline]
    pub const fn from_v4_bytes(b: [u8; 4]) -> Self {
        Addr([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, b[0], b[1], b[2], b[3]])
    }

    /// True for an IPv4-mapped address.
    #[inline]
    pub fn is_v4(&self) -> bool {
        self.0[..10] == [0; 10] && self.0[10] == 0xff && self.0[11] == 0xff
    }

    /// True for `::` and `0.0.0.0`: the record carried no address.
    #[inline]
    pub fn is_unspecified(&self) -> bool {
        *self == Self::UNSPECIFIED || *self == Self::from_v4_bytes([0; 4])
    }

    /// The address in its own family.
    pub fn to_ip(self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::new(self.0[12], self.0[13], self.0[14], self.0[15]))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.0))
        }
    }

    /// The address with its host bits cleared: `v4_len` bits are kept of an IPv4 address (0..=32),
    /// `v6_len` of an IPv6 one (0..=128).
    #[inline]
    pub fn prefix(self, v4_len: u8, v6_len: u8) -> Prefix {
        let (len, total) =
            if self.is_v4() { (v4_len.min(32), 96 + v4_len.min(32)) } else { (v6_len.min(128), v6_len.min(128)) };
        let bits = u128::from_be_bytes(self.0);
        let mask = if total == 0 { 0 } else { u128::MAX << (128 - u32::from(total)) };
        Prefix { addr: Addr((bits & mask).to_be_bytes()), len }
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::from_v4_bytes(v4.octets()),
            IpAddr::V6(v6) => Addr(v6.octets()),
        }
    }
}

impl FromStr for Addr {
    type Err = std::net::AddrParseError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse::<IpAddr>().map(Addr::from)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A network: address with host bits cleared, and length in the bits of its own family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Prefix {
    /// Network address.
    pub addr: Addr,
    /// 0..=32 for IPv4, 0..=128 for IPv6.
    pub len: u8,
}

impl Prefix {
    /// True when `addr` lies inside.
    pub fn contains(&self, addr: Addr) -> bool {
        addr.is_v4() == self.addr.is_v4() && addr.prefix(self.len, self.len) == *self
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_keep_the_family_length() {
        let v4: Addr = "192.0.2.77".parse().unwrap();
        assert_eq!(v4.prefix(24, 64).to_string(), "192.0.2.0/24");
        assert_eq!(v4.prefix(0, 64).to_string(), "0.0.0.0/0");
        let v6: Addr = "2001:db8:1:2:3::9".parse().unwrap();
        assert_eq!(v6.prefix(24, 64).to_string(), "2001:db8:1:2::/64");
        assert_eq!(v6.prefix(24, 0).to_string(), "::/0");
        assert!(v4.prefix(24, 64).contains("192.0.2.1".parse().unwrap()));
        assert!(!v4.prefix(24, 64).contains("192.0.3.1".parse().unwrap()));
        assert!(!v4.prefix(0, 0).contains(v6));
    }
}
