//! Known keys of an object, found by two words of their bytes: a table made once, one look and one comparison per key. And
//! quicker still: a collector writes the same keys in the same order every time, so what stood before the n-th value of
//! the last object is tried first.

/// Places of the table; several times as many as keys.
const PLACES: usize = 512;

/// Which key means what.
pub(in crate::decode) struct Keys<T> {
    /// Position in `keys` and 1, or 0.
    places: Box<[u16; PLACES]>,
    keys: Vec<Key<T>>,
    /// What stood before each value of the last object.
    guesses: Vec<Guess<T>>,
}

/// Guesses kept: as many keys as a large record has.
const GUESSES: usize = 96;
/// Longest text of a guess.
const GUESS: usize = 32;

/// The text from a brace or comma to a value, which is a key with its colon, and what it means.
#[derive(Clone, Copy)]
struct Guess<T> {
    /// Two halves, filled up with zeros, and which of their bits count.
    text: [u128; 2],
    mask: [u128; 2],
    len: usize,
    means: Option<T>,
}

impl<T: Copy> Guess<T> {
    fn new(text: &[u8], means: Option<T>) -> Self {
        let halves = |fill: &dyn Fn(usize) -> u8| {
            let half = |at| u128::from_le_bytes(std::array::from_fn(|i| fill(at + i)));
            [half(0), half(16)]
        };
        let mask = halves(&|i| if i < text.len() { 0xff } else { 0 });
        Self { text: halves(&|i| text.get(i).copied().unwrap_or(0)), mask, len: text.len(), means }
    }

    #[inline(always)]
    fn fits(&self, next: &[u8; GUESS]) -> bool {
        let (Some(first), Some(last)) = (next.first_chunk::<16>(), next.last_chunk::<16>()) else { return false };
        let a = (u128::from_le_bytes(*first) & self.mask[0]) ^ self.text[0];
        let b = (u128::from_le_bytes(*last) & self.mask[1]) ^ self.text[1];
        a | b == 0
    }
}

/// The last bytes of a text. No guess has zeros.
#[cold]
fn padded(last: &[u8]) -> [u8; GUESS] {
    std::array::from_fn(|i| last.get(i).copied().unwrap_or(0))
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
        let mut out = Self { places: Box::new([0; PLACES]), keys: Vec::new(), guesses: Vec::new() };
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

    /// Whether the text goes on as that of the last object did before its n-th value: how long that is, and what the key
    /// means.
    #[inline(always)]
    pub fn guess(&self, n: usize, next: &[u8]) -> Option<(usize, Option<T>)> {
        let guess = self.guesses.get(n)?;
        let fits = match next.first_chunk() {
            Some(next) => guess.fits(next),
            None => guess.fits(&padded(next)),
        };
        fits.then_some((guess.len, guess.means))
    }

    /// Keeps the text before the n-th value for the next object.
    pub fn learn(&mut self, n: usize, text: &[u8], means: Option<T>) {
        if n >= GUESSES || text.len() > GUESS || n > self.guesses.len() {
            return;
        }
        let guess = Guess::new(text, means);
        match self.guesses.get_mut(n) {
            Some(kept) => *kept = guess,
            None => self.guesses.push(guess),
        }
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
