//! One field's value, whether the parser library decoded it or the row walk found its bytes. The mapping to a flow
//! record is written once, over this trait.

use netflow_parser::variable_versions::field_value::DurationValue;
use netflow_parser::{DataNumber, FieldValue};

/// A field's value as it was on the wire.
pub(super) trait Field {
    /// Big-endian unsigned integer; NTP times are seconds << 32 | fraction.
    fn number(&self) -> u64;
    /// Four bytes, or zeros.
    fn v4(&self) -> [u8; 4];
    /// Sixteen bytes, or zeros.
    fn v6(&self) -> [u8; 16];
    /// Six bytes, or zeros.
    fn mac(&self) -> [u8; 6];
    /// The bytes of an octet array; empty for other types.
    fn octets(&self) -> &[u8];
}

impl Field for [u8] {
    #[inline]
    fn number(&self) -> u64 {
        // Reduced-size encoding (RFC 7011 6.2): any width up to 8; longer values keep their last 8 bytes.
        match *self {
            [a] => u64::from(a),
            [a, b] => u64::from(u16::from_be_bytes([a, b])),
            [a, b, c, d] => u64::from(u32::from_be_bytes([a, b, c, d])),
            _ => self.iter().fold(0, |n, b| (n << 8) | u64::from(*b)),
        }
    }
    #[inline]
    fn v4(&self) -> [u8; 4] {
        self.try_into().unwrap_or_default()
    }
    #[inline]
    fn v6(&self) -> [u8; 16] {
        self.try_into().unwrap_or_default()
    }
    #[inline]
    fn mac(&self) -> [u8; 6] {
        self.try_into().unwrap_or_default()
    }
    #[inline]
    fn octets(&self) -> &[u8] {
        self
    }
}

impl Field for FieldValue {
    #[inline]
    fn number(&self) -> u64 {
        match self {
            FieldValue::DataNumber(n) => match n {
                DataNumber::U8(n) => u64::from(*n),
                DataNumber::U16(n) => u64::from(*n),
                DataNumber::U24(n) | DataNumber::U32(n) => u64::from(*n),
                DataNumber::U64(n) => *n,
                DataNumber::Vec(bytes) => bytes.number(),
                DataNumber::U128(n) => *n as u64,
                // Signed integers stand for no element that is mapped.
                _ => 0,
            },
            FieldValue::ProtocolType(p) => u64::from(u8::from(*p)),
            FieldValue::TcpControlBits(bits, _) => u64::from(u16::from(*bits)),
            FieldValue::Duration(d) => match d {
                DurationValue::Seconds { value, .. } | DurationValue::Millis { value, .. } => *value,
                DurationValue::MicrosNtp { seconds, fraction } | DurationValue::NanosNtp { seconds, fraction } => {
                    (u64::from(*seconds) << 32) | u64::from(*fraction)
                }
            },
            FieldValue::Vec(bytes) => bytes.number(),
            FieldValue::ForwardingStatus(v) => u64::from(u8::from(*v)),
            FieldValue::FragmentFlags(v) => u64::from(u8::from(*v)),
            FieldValue::FlowEndReason(v) => u64::from(u8::from(*v)),
            FieldValue::NatEvent(v) => u64::from(u8::from(*v)),
            FieldValue::FirewallEvent(v) => u64::from(u8::from(*v)),
            FieldValue::Ip4Addr(ip) => u64::from(u32::from(*ip)),
            FieldValue::Float64(v) => v.to_bits(),
            FieldValue::String(s) => s.raw.number(),
            _ => 0,
        }
    }
    #[inline]
    fn v4(&self) -> [u8; 4] {
        match self {
            FieldValue::Ip4Addr(ip) => ip.octets(),
            other => other.octets().v4(),
        }
    }
    #[inline]
    fn v6(&self) -> [u8; 16] {
        match self {
            FieldValue::Ip6Addr(ip) => ip.octets(),
            other => other.octets().v6(),
        }
    }
    #[inline]
    fn mac(&self) -> [u8; 6] {
        match self {
            FieldValue::MacAddr(mac) => *mac,
            other => other.octets().mac(),
        }
    }
    #[inline]
    fn octets(&self) -> &[u8] {
        match self {
            FieldValue::Vec(bytes) | FieldValue::DataNumber(DataNumber::Vec(bytes)) => bytes,
            FieldValue::String(s) => &s.raw,
            _ => &[],
        }
    }
}
