//! One field's bytes as the value that its element says.

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
}
