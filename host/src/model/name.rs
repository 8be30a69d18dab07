//! Names of entities that are no addresses: a log's host, a metric's series. Comes in: text; goes out: sixteen bytes in place
//! of an address, and the text again. Up to 15 bytes are held as they are; of longer ones a hash, and the text in a table of
//! this process, bounded: a name that nobody has said for long is told by its hash.

use super::addr::Addr;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Longest name that is held as it is.
const INLINE: usize = 15;
/// First byte of the others.
const HASHED: u8 = 0xff;
/// Names in one half of the table. When it is full, the other half is forgotten.
const HALF: usize = 1 << 18;
/// Bytes of a name that are told.
const TOLD: usize = 256;

#[derive(Default)]
struct Table {
    young: HashMap<[u8; 16], Arc<str>>,
    old: HashMap<[u8; 16], Arc<str>>,
}

static TABLE: Mutex<Option<Table>> = Mutex::new(None);

fn with<R>(f: impl FnOnce(&mut Table) -> R) -> R {
    f(TABLE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// The bytes that stand for a name. The same name always has the same.
pub fn encode(name: &str) -> Addr {
    let mut out = [0; 16];
    if name.len() <= INLINE {
        out[0] = name.len() as u8;
        out[1..=name.len()].copy_from_slice(name.as_bytes());
        return Addr(out);
    }
    out[0] = HASHED;
    out[1..].copy_from_slice(&Sha256::digest(name)[..15]);
    with(|table| {
        if table.young.contains_key(&out) {
            return;
        }
        if table.young.len() >= HALF {
            table.old = std::mem::take(&mut table.young);
        }
        let told = table.old.remove(&out).unwrap_or_else(|| name[..name.floor_char_boundary(TOLD)].into());
        table.young.insert(out, told);
    });
    Addr(out)
}

/// The name that these bytes stand for, as far as it is known.
pub fn decode(bytes: &Addr) -> Option<Arc<str>> {
    match bytes.0[0] as usize {
        len @ 0..=INLINE => std::str::from_utf8(&bytes.0[1..=len]).ok().map(Arc::from),
        _ => with(|table| table.young.get(&bytes.0).or_else(|| table.old.get(&bytes.0)).cloned()),
    }
}

/// Writes the name, or what is known of it.
pub fn write(bytes: &Addr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match decode(bytes) {
        Some(name) => f.write_str(&name),
        None => {
            f.write_str("#")?;
            bytes.0[1..].iter().try_for_each(|b| write!(f, "{b:02x}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EntityKey;

    #[test]
    fn names_are_told_as_they_were() {
        for name in ["", "web-1", "exactly15bytes!", "sixteen bytes!!!", &"ü".repeat(100)] {
            assert_eq!(EntityKey::named(name).to_string(), name);
            assert_eq!(encode(name), encode(name));
        }
        assert_ne!(encode("sixteen bytes!!!"), encode("sixteen bytes!!?"));
        let long = "x".repeat(1000);
        assert_eq!(EntityKey::named(&long).to_string().len(), TOLD);
    }

    #[test]
    fn a_name_that_nobody_knows_is_told_by_its_hash() {
        let mut unknown = [7; 16];
        unknown[0] = HASHED;
        let key = EntityKey { addr: Addr(unknown), ..EntityKey::named("x") };
        assert_eq!(key.to_string(), format!("#{}", "07".repeat(15)));
    }
}
