//! Known keys of an object, found by two words of their bytes: a table made once, one look and one comparison per key.

/// Places of the table; several times as many as keys.
const PLACES: usize = 512;

/// Which key means what.
pub(in crate::decode) struct Keys<T> {
    /// Position in `keys` and 1, or 0.
    places: Box<[u16; PLACES]>,
    keys: Vec<Key<T>>,
}

struct Key<T> {
    print: Print,
    name: Box<[u8]>,
    means: T,
}

/// Its first and last bytes and its length: to the point up to 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Print {
    first: u64,
    last: u64,
    len: usize,
}

impl Print {
    #[inline(always)]
    fn of(key: &[u8]) -> Self {
        let len = key.len();
        let (first, last) = match (key.first_chunk::<8>(), key.last_chunk::<8>()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => match (key.first_chunk::<4>(), key.last_chunk::<4>()) {
                (Some(first), Some(last)) => (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into()),
                _ => (key.iter().fold(0, |n, b| n << 8 | u64::from(*b)), 0),
            },
        };
        Self { first, last, len }
    }

    #[inline(always)]
    fn place(self) -> usize {
        // The golden ratio mixes well into the upper bits.
        let mixed = (self.first ^ self.last.rotate_left(29) ^ self.len as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize % PLACES
    }
}

impl<T: Copy> Keys<T> {
    /// Of two meanings of one key the first counts. Takes up to 256 keys.
    pub fn new<N: AsRef<[u8]>>(keys: impl IntoIterator<Item = (N, T)>) -> Self {
        let mut out = Self { places: Box::new([0; PLACES]), keys: Vec::new() };
        for (name, means) in keys {
            let (name, print) = (name.as_ref(), Print::of(name.as_ref()));
            if out.keys.len() == PLACES / 2 || out.get(name).is_some() {
                continue;
            }
            let mut place = print.place();
            while out.places[place] != 0 {
                place = (place + 1) % PLACES;
            }
            out.keys.push(Key { print, name: name.into(), means });
            out.places[place] = out.keys.len() as u16;
        }
        out
    }

    /// What the key means, if it is known.
    #[inline(always)]
    pub fn get(&self, key: &[u8]) -> Option<T> {
        let print = Print::of(key);
        let mut place = print.place();
        loop {
            let known = self.keys.get(usize::from(self.places[place]).wrapping_sub(1))?;
            if known.print == print && (print.len <= 16 || *known.name == *key) {
                return Some(known.means);
            }
            place = (place + 1) % PLACES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_of_every_length_are_found() {
        let long = "a_key_that_is_longer_than_sixteen_bytes";
        let names: Vec<&str> =
            (0..long.len()).map(|n| &long[..n]).chain(["timestamp_start_x", "timestamp_stArt_x"]).collect();
        let keys = Keys::new(names.iter().enumerate().map(|(i, n)| (n, i)));
        for (i, name) in names.iter().enumerate() {
            assert_eq!(keys.get(name.as_bytes()), Some(i), "{name}");
        }
        assert_eq!(keys.get(b"a_key_that_is_longer_thaN_sixteen_bytes"), None);
        let twice = Keys::new([("a", 1), ("a", 2)]);
        assert_eq!(twice.get(b"a"), Some(1));
    }

    proptest! {
        #[test]
        fn as_a_map(names in prop::collection::vec("[ab]{0,20}", 0..40), other in "[ab]{0,20}") {
            let keys = Keys::new(names.iter().enumerate().map(|(i, n)| (n, i)));
            for name in names.iter().chain([&other]) {
                prop_assert_eq!(keys.get(name.as_bytes()), names.iter().position(|n| n == name));
            }
        }
    }
}
