//! The wire format of protobuf, read by hand: varints, tags and lengths of one message, and the length prefixes that
//! stand before messages in files and in GoFlow2's topics. Comes in: bytes; goes out: fields, borrowed. `None`: the bytes
//! break off or are no protobuf. Groups, which proto3 does not have, are none either.

/// The upper bit of each byte: more bytes of the number follow.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Pushes the lower seven bits of all bytes together.
#[inline(always)]
fn packed(bytes: u64) -> u64 {
    let x = bytes & !HIGH;
    let x = (x & 0x007f_007f_007f_007f) | (x & 0x7f00_7f00_7f00_7f00) >> 1;
    let x = (x & 0x0000_3fff_0000_3fff) | (x & 0x3fff_0000_3fff_0000) >> 2;
    (x & 0x0fff_ffff) | (x & 0x0fff_ffff_0000_0000) >> 4
}

/// Bytes of a message that are still to be read.
pub(super) struct Wire<'a> {
    rest: &'a [u8],
}

/// Wire type of a varint.
pub(super) const VARINT: u64 = 0;
/// Wire type of bytes behind their length.
pub(super) const BYTES: u64 = 2;

impl<'a> Wire<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline(always)]
    pub fn varint(&mut self) -> Option<u64> {
        match *self.rest {
            [a, ref rest @ ..] if a < 0x80 => {
                self.rest = rest;
                Some(u64::from(a))
            }
            _ => self.long_varint(),
        }
    }

    /// Of more than one byte: eight at once, where they are there.
    #[inline]
    fn long_varint(&mut self) -> Option<u64> {
        let Some(eight) = self.rest.first_chunk::<8>() else { return self.byte_by_byte() };
        let eight = u64::from_le_bytes(*eight);
        let ends = !eight & HIGH;
        if ends != 0 {
            let end = ends.trailing_zeros() + 1;
            self.rest = &self.rest[end as usize / 8..];
            return Some(packed(eight & (u64::MAX >> (64 - end))));
        }
        let (value, last) = match self.rest[8..] {
            [a, ..] if a < 0x80 => (packed(eight) | u64::from(a) << 56, 9),
            // The tenth byte has room for one bit.
            [a, b @ ..=1, ..] => (packed(eight) | u64::from(a & 0x7f) << 56 | u64::from(b) << 63, 10),
            _ => return None,
        };
        self.rest = &self.rest[last..];
        Some(value)
    }

    #[cold]
    fn byte_by_byte(&mut self) -> Option<u64> {
        let mut value = 0;
        for (i, byte) in self.rest.iter().enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Some(value);
            }
        }
        None
    }

    /// Field number and wire type as one number: `number << 3 | type`.
    #[inline]
    pub fn tag(&mut self) -> Option<u64> {
        self.varint().filter(|tag| *tag >= 8 && *tag <= u64::from(u32::MAX))
    }

    #[inline]
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Skips the value behind a tag.
    pub fn skip(&mut self, tag: u64) -> Option<()> {
        let fixed = match tag & 7 {
            VARINT => return self.varint().map(|_| ()),
            BYTES => return self.bytes().map(|_| ()),
            1 => 8,
            5 => 4,
            _ => return None,
        };
        self.rest = self.rest.get(fixed..)?;
        Some(())
    }
}

/// The messages of a frame that is nothing but messages, each behind its length. `None`: it is not made so.
pub(super) fn delimited(frame: &[u8]) -> Option<Delimited<'_>> {
    let mut wire = Wire::new(frame);
    while !wire.is_empty() {
        wire.bytes()?;
    }
    (!frame.is_empty()).then_some(Delimited(Wire::new(frame)))
}

/// See [`delimited`].
pub(super) struct Delimited<'a>(Wire<'a>);

impl<'a> Iterator for Delimited<'a> {
    /// A message, and the bytes that it took with its length.
    type Item = (&'a [u8], usize);

    fn next(&mut self) -> Option<Self::Item> {
        let before = self.0.left();
        let message = self.0.bytes()?;
        Some((message, before - self.0.left()))
    }
}

/// An encoder for tests.
#[cfg(test)]
pub(super) mod encode {
    pub fn varint(mut n: u64, out: &mut Vec<u8>) {
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }

    /// A number; 0 is left out, as proto3 does.
    pub fn number(field: u64, n: u64, out: &mut Vec<u8>) {
        if n > 0 {
            varint(field << 3, out);
            varint(n, out);
        }
    }

    pub fn bytes(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
        varint(field << 3 | 2, out);
        delimited(bytes, out);
    }

    pub fn delimited(bytes: &[u8], out: &mut Vec<u8>) {
        varint(bytes.len() as u64, out);
        out.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_are_read_back(n in any::<u64>(), shift in 0u32..64) {
            let mut bytes = Vec::new();
            encode::varint(n >> shift, &mut bytes);
            prop_assert_eq!(Wire::new(&bytes[..bytes.len() - 1]).varint(), None);
            // At the end of the message, and within it.
            for after in [0, 20] {
                let mut bytes = bytes.clone();
                bytes.resize(bytes.len() + after, 0xff);
                let mut wire = Wire::new(&bytes);
                prop_assert_eq!((wire.varint(), wire.left()), (Some(n >> shift), after));
            }
        }
    }

    #[test]
    fn what_is_no_protobuf() {
        assert_eq!(Wire::new(&[0xff; 11]).varint(), None, "more than 64 bits");
        assert_eq!(Wire::new(&[0x07]).tag(), None, "field 0");
        assert_eq!(Wire::new(&[5, 1]).bytes(), None, "breaks off");
        assert_eq!(Wire::new(&[]).skip(0x0b), None, "a group");
        assert_eq!(Wire::new(&[1, 2, 3]).skip(0x0d), None, "four bytes");
    }

    #[test]
    fn delimited_frames() {
        assert!(delimited(&[]).is_none());
        assert!(delimited(&[2, 9]).is_none());
        let all: Vec<_> = delimited(&[1, 7, 0, 2, 8, 9]).unwrap().collect();
        assert_eq!(all, [(&[7][..], 2), (&[][..], 1), (&[8, 9][..], 3)]);
    }
}
