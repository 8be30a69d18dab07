//! State as bytes, for checkpoints. Comes in: numbers (exact to the bit, NaN too), text and keys, one after the other, under
//! a name and a version; goes out: bytes, and the same values back. Refused: another state or version, bytes that end
//! early or go on too long, values that cannot be. A declared length is believed only as far as there are bytes for it.

use super::{Addr, EntityKey, KeyKind, Severity, WindowInfo, name};
use std::collections::HashMap;
use std::sync::Arc;

/// Why saved bytes were not taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotLoaded {
    /// Something else.
    #[error("not a state of {0}")]
    Other(&'static str),
    /// Written by another engine.
    #[error("version {found} of the state of {what} is not {wanted}, which this engine reads")]
    Version {
        /// Of what.
        what: &'static str,
        /// In the bytes.
        found: u8,
        /// Read here.
        wanted: u8,
    },
    /// There should be more.
    #[error("the state ends early")]
    Early,
    /// There should be less.
    #[error("{0} bytes too many after the state")]
    Late(usize),
    /// A value that cannot be.
    #[error("the state has {0}")]
    Insane(&'static str),
}

/// Flags beside the level of a key: how much of the key follows.
const IPV4: u8 = 0x80;
const HAS_EXTRA: u8 = 0x40;

/// Writes a state.
#[derive(Debug)]
pub struct Saver {
    out: Vec<u8>,
    names: HashMap<Box<str>, u32>,
}

impl Saver {
    /// A state of `what` in this version.
    pub fn new(what: &'static str, version: u8) -> Self {
        let mut saver = Self { out: Vec::new(), names: HashMap::new() };
        saver.text(what);
        saver.u8(version);
        saver
    }

    /// The bytes.
    pub fn done(self) -> Vec<u8> {
        self.out
    }

    /// Room for so many bytes more.
    pub fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    /// One byte.
    pub fn u8(&mut self, v: u8) {
        self.out.push(v);
    }

    /// A yes or no.
    pub fn bool(&mut self, v: bool) {
        self.u8(u8::from(v));
    }

    /// Two bytes.
    pub fn u16(&mut self, v: u16) {
        self.out.extend(v.to_le_bytes());
    }

    /// Four bytes.
    pub fn u32(&mut self, v: u32) {
        self.out.extend(v.to_le_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, v: u64) {
        self.out.extend(v.to_le_bytes());
    }

    /// Four bytes, exact.
    pub fn f32(&mut self, v: f32) {
        self.u32(v.to_bits());
    }

    /// Eight bytes, exact.
    pub fn f64(&mut self, v: f64) {
        self.u64(v.to_bits());
    }

    /// How many of something follow.
    pub fn count(&mut self, n: usize) {
        self.u32(u32::try_from(n).unwrap_or(u32::MAX));
    }

    /// Bytes with their length.
    pub fn bytes(&mut self, v: &[u8]) {
        self.count(v.len());
        self.out.extend(v);
    }

    /// Text.
    pub fn text(&mut self, v: &str) {
        self.bytes(v.as_bytes());
    }

    /// Text that stands in the state again and again; from the second time on it takes four bytes.
    pub fn name(&mut self, v: &str) {
        if let Some(at) = self.names.get(v) {
            return self.u32(*at);
        }
        let at = self.names.len();
        self.count(at);
        self.text(v);
        self.names.insert(v.into(), at as u32);
    }

    /// Something or nothing.
    pub fn option<T>(&mut self, v: Option<T>, save: impl FnOnce(&mut Self, T)) {
        self.bool(v.is_some());
        if let Some(v) = v {
            save(self, v);
        }
    }

    /// An entity; one that has a name, by its name.
    pub fn key(&mut self, key: &EntityKey) {
        if key.kind == KeyKind::Name {
            self.u8(key.kind as u8);
            self.addr(&key.addr);
            // What its bytes stand for is known to this process only.
            return self.text(&name::decode(&key.addr).unwrap_or_default());
        }
        let is_v4 = key.addr.is_v4();
        let flags = if is_v4 { IPV4 } else { 0 } | if key.extra != 0 { HAS_EXTRA } else { 0 };
        self.u8(key.kind as u8 | flags);
        self.out.extend(&key.addr.0[if is_v4 { 12 } else { 0 }..]);
        if key.extra != 0 {
            self.u32(key.extra);
        }
    }

    /// An address.
    pub fn addr(&mut self, addr: &Addr) {
        self.out.extend(addr.0);
    }

    /// A window.
    pub fn window(&mut self, w: &WindowInfo) {
        self.u64(w.start_ns);
        self.u64(w.end_ns);
        self.u32(w.revision);
        self.u64(w.watermark_ns);
        self.bool(w.partial);
    }

    /// How bad.
    pub fn severity(&mut self, v: Severity) {
        self.u8(v as u8);
    }
}

/// Reads a state.
#[derive(Debug)]
pub struct Loader<'a> {
    rest: &'a [u8],
    names: Vec<Arc<str>>,
}

impl<'a> Loader<'a> {
    /// Bytes that should be a state of `what` in this version.
    pub fn new(bytes: &'a [u8], what: &'static str, version: u8) -> Result<Self, NotLoaded> {
        let mut loader = Self { rest: bytes, names: Vec::new() };
        if loader.text().ok() != Some(what) {
            return Err(NotLoaded::Other(what));
        }
        match loader.u8()? {
            found if found == version => Ok(loader),
            found => Err(NotLoaded::Version { what, found, wanted: version }),
        }
    }

    /// That was all.
    pub fn end(self) -> Result<(), NotLoaded> {
        if self.rest.is_empty() { Ok(()) } else { Err(NotLoaded::Late(self.rest.len())) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NotLoaded> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(NotLoaded::Early)?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, NotLoaded> {
        Ok(self.array::<1>()?[0])
    }

    /// A yes or no.
    pub fn bool(&mut self) -> Result<bool, NotLoaded> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(NotLoaded::Insane("neither a yes nor a no")),
        }
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, NotLoaded> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, NotLoaded> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, NotLoaded> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Four bytes, exact.
    pub fn f32(&mut self) -> Result<f32, NotLoaded> {
        Ok(f32::from_bits(self.u32()?))
    }

    /// Eight bytes, exact.
    pub fn f64(&mut self) -> Result<f64, NotLoaded> {
        Ok(f64::from_bits(self.u64()?))
    }

    /// How many follow, of which each takes `least` bytes or more.
    pub fn count(&mut self, least: usize) -> Result<usize, NotLoaded> {
        let n = self.u32()? as usize;
        if n.checked_mul(least.max(1)).is_some_and(|bytes| bytes <= self.rest.len()) {
            Ok(n)
        } else {
            Err(NotLoaded::Early)
        }
    }

    /// Bytes with their length.
    pub fn bytes(&mut self) -> Result<&'a [u8], NotLoaded> {
        let n = self.count(1)?;
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail;
        Ok(head)
    }

    /// Text.
    pub fn text(&mut self) -> Result<&'a str, NotLoaded> {
        std::str::from_utf8(self.bytes()?).map_err(|_| NotLoaded::Insane("text that is not UTF-8"))
    }

    /// Text that stands in the state again and again: kept once.
    pub fn name(&mut self) -> Result<Arc<str>, NotLoaded> {
        let at = self.u32()? as usize;
        if at == self.names.len() {
            let name = self.text()?;
            self.names.push(name.into());
        }
        self.names.get(at).cloned().ok_or(NotLoaded::Insane("a name that it did not give"))
    }

    /// Something or nothing.
    pub fn option<T>(&mut self, load: impl FnOnce(&mut Self) -> Result<T, NotLoaded>) -> Result<Option<T>, NotLoaded> {
        self.bool()?.then(|| load(self)).transpose()
    }

    /// An entity. Prefixes are no longer than addresses.
    pub fn key(&mut self) -> Result<EntityKey, NotLoaded> {
        let flags = self.u8()?;
        let kind = KeyKind::ALL.into_iter().find(|k| *k as u8 == flags & !(IPV4 | HAS_EXTRA));
        let kind = kind.ok_or(NotLoaded::Insane("an entity of an unknown level"))?;
        if kind == KeyKind::Name {
            let (addr, text) = (self.addr()?, self.text()?);
            if !text.is_empty() {
                name::encode(text);
            }
            return Ok(EntityKey { kind, addr, extra: 0 });
        }
        let addr = if flags & IPV4 == 0 { self.addr()? } else { Addr::from_v4_bytes(self.array()?) };
        let extra = if flags & HAS_EXTRA == 0 { 0 } else { self.u32()? };
        let bits = if addr.is_v4() { 32 } else { 128 };
        if kind == KeyKind::DstPrefix && extra > bits {
            return Err(NotLoaded::Insane("a prefix longer than an address"));
        }
        Ok(EntityKey { kind, addr, extra })
    }

    /// An address.
    pub fn addr(&mut self) -> Result<Addr, NotLoaded> {
        Ok(Addr(self.array()?))
    }

    /// A window. It does not end before it starts.
    pub fn window(&mut self) -> Result<WindowInfo, NotLoaded> {
        let (start_ns, end_ns, revision) = (self.u64()?, self.u64()?, self.u32()?);
        if end_ns < start_ns {
            return Err(NotLoaded::Insane("a window that ends before it starts"));
        }
        Ok(WindowInfo { start_ns, end_ns, revision, watermark_ns: self.u64()?, partial: self.bool()? })
    }

    /// How bad.
    pub fn severity(&mut self) -> Result<Severity, NotLoaded> {
        use Severity::*;
        let at = usize::from(self.u8()?);
        [Info, Low, Medium, High, Critical].get(at).copied().ok_or(NotLoaded::Insane("an unknown severity"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = EntityKey> {
        let addr = prop_oneof![any::<[u8; 4]>().prop_map(Addr::from_v4_bytes), any::<[u8; 16]>().prop_map(Addr)];
        (0..KeyKind::ALL.len(), addr, prop_oneof![0u32..33, any::<u32>()]).prop_map(|(kind, addr, extra)| {
            let kind = KeyKind::ALL[kind];
            if kind == KeyKind::Name {
                return EntityKey::named(&format!("{extra} of {addr}"));
            }
            EntityKey { kind, addr, extra: if kind == KeyKind::DstPrefix { extra % 33 } else { extra } }
        })
    }

    proptest! {
        #[test]
        fn what_was_saved_comes_back(
            key in key(), text in ".{0,20}", names in prop::collection::vec("[ab]{1,2}", 0..20), bits in any::<u64>(),
            window in any::<(u32, u32, u32, u64, bool)>(), number in any::<(u8, u16, bool)>(),
        ) {
            let window = WindowInfo {
                start_ns: window.0.into(), end_ns: u64::from(window.0) + u64::from(window.1), revision: window.2,
                watermark_ns: window.3, partial: window.4,
            };
            let mut s = Saver::new("things", 3);
            s.key(&key);
            s.text(&text);
            s.f64(f64::from_bits(bits));
            s.f32(f32::from_bits(bits as u32));
            s.window(&window);
            s.severity(Severity::High);
            s.u8(number.0);
            s.option(number.2.then_some(number.1), Saver::u16);
            s.count(names.len());
            names.iter().for_each(|n| s.name(n));
            let bytes = s.done();

            let mut l = Loader::new(&bytes, "things", 3).unwrap();
            prop_assert_eq!(l.key().unwrap(), key);
            prop_assert_eq!(l.text().unwrap(), text);
            prop_assert_eq!(l.f64().unwrap().to_bits(), bits);
            prop_assert_eq!(l.f32().unwrap().to_bits(), bits as u32);
            prop_assert_eq!(l.window().unwrap(), window);
            prop_assert_eq!(l.severity().unwrap(), Severity::High);
            prop_assert_eq!(l.u8().unwrap(), number.0);
            prop_assert_eq!(l.option(Loader::u16).unwrap(), number.2.then_some(number.1));
            for _ in 0..l.count(4).unwrap() {
                let _ = l.name().unwrap();
            }
            prop_assert_eq!(&l.names.iter().map(|n| n.to_string()).collect::<std::collections::BTreeSet<_>>(),
                &names.into_iter().collect());
            l.end().unwrap();

            prop_assert_eq!(Loader::new(&bytes, "others", 3).err(), Some(NotLoaded::Other("others")));
            let version = NotLoaded::Version { what: "things", found: 3, wanted: 4 };
            prop_assert_eq!(Loader::new(&bytes, "things", 4).err(), Some(version));
        }
    }

    #[test]
    fn lengths_that_the_bytes_do_not_have_are_refused() {
        let mut s = Saver::new("things", 1);
        s.u32(u32::MAX);
        s.u8(0);
        let bytes = s.done();
        let open = || Loader::new(&bytes, "things", 1).unwrap();
        assert_eq!(open().bytes(), Err(NotLoaded::Early));
        assert_eq!(open().count(0), Err(NotLoaded::Early));
        assert!(open().name().is_err());
        assert_eq!(open().end(), Err(NotLoaded::Late(5)));
        let mut long = Saver::new("things", 1);
        long.key(&EntityKey { kind: KeyKind::DstPrefix, addr: Addr::from_v4_bytes([1, 2, 3, 4]), extra: 33 });
        let bytes = long.done();
        assert!(Loader::new(&bytes, "things", 1).unwrap().key().is_err());
    }
}
