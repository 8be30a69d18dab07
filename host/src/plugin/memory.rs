//! What a plugin has saved, as it lies in a checkpoint: a line of JSON that says whose it is, then the plugin's own bytes, then
//! the buckets that the host keeps for it.

use super::handover::NotRestored;
use serde::{Deserialize, Serialize};

/// What an instance of a plugin knew.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Memory {
    /// Name of the plugin.
    pub(super) plugin: String,
    /// Version of its state.
    pub(super) version: u32,
    /// Its own.
    pub(super) bytes: Vec<u8>,
    /// The buckets; empty: there are none.
    pub(super) buckets: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    plugin: String,
    state_version: u32,
    /// Bytes of the buckets, at the end.
    #[serde(default)]
    buckets: usize,
}

impl Memory {
    pub(super) fn write(&self) -> Vec<u8> {
        let header = Header { plugin: self.plugin.clone(), state_version: self.version, buckets: self.buckets.len() };
        let mut out = serde_json::to_vec(&header).expect("a string and a number are always JSON");
        out.push(b'\n');
        out.extend_from_slice(&self.bytes);
        out.extend_from_slice(&self.buckets);
        out
    }

    /// Refused: what is not a plugin's, or another one's.
    pub(super) fn read(saved: &[u8], plugin: &str) -> Result<Self, NotRestored> {
        let damaged = |why: &str| NotRestored::Damaged(why.to_owned());
        let end = saved.iter().position(|&b| b == b'\n').ok_or_else(|| damaged("it has no header"))?;
        let header: Header =
            serde_json::from_slice(&saved[..end]).map_err(|e| damaged(&format!("its header is none: {e}")))?;
        if header.plugin != plugin {
            return Err(NotRestored::Another { of: header.plugin });
        }
        let rest = &saved[end + 1..];
        let own = rest.len().checked_sub(header.buckets).ok_or_else(|| damaged("it ends before its buckets do"))?;
        let (bytes, buckets) = rest.split_at(own);
        let (bytes, buckets) = (bytes.to_vec(), buckets.to_vec());
        Ok(Self { plugin: header.plugin, version: header.state_version, bytes, buckets })
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, NotRestored};

    #[test]
    fn only_its_own() {
        let memory =
            Memory { plugin: "ewma".into(), version: 3, bytes: b"\n{}\0\n".to_vec(), buckets: b"\nb".to_vec() };
        assert_eq!(Memory::read(&memory.write(), "ewma").unwrap(), memory);
        assert!(matches!(Memory::read(&memory.write(), "cusum"), Err(NotRestored::Another { of }) if of == "ewma"));
        let before = Memory { plugin: "ewma".into(), version: 3, bytes: b"x".to_vec(), buckets: Vec::new() };
        assert_eq!(Memory::read(b"{\"plugin\":\"ewma\",\"state_version\":3}\nx", "ewma").unwrap(), before);
        let early = &b"{\"plugin\":\"ewma\",\"state_version\":3,\"buckets\":2}\nx"[..];
        for damaged in [early, b"", b"\n"] {
            assert!(matches!(Memory::read(damaged, "ewma"), Err(NotRestored::Damaged(_))));
        }
    }
}
