//! What a plugin has saved, as it lies in a checkpoint: a line of JSON that says whose it is, and then the plugin's own bytes.

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
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    plugin: String,
    state_version: u32,
}

impl Memory {
    pub(super) fn write(&self) -> Vec<u8> {
        let header = Header { plugin: self.plugin.clone(), state_version: self.version };
        let mut out = serde_json::to_vec(&header).expect("a string and a number are always JSON");
        out.push(b'\n');
        out.extend_from_slice(&self.bytes);
        out
    }

    /// Refused: what is not a plugin's, or another one's.
    pub(super) fn read(saved: &[u8], plugin: &str) -> Result<Self, String> {
        let end = saved.iter().position(|&b| b == b'\n').ok_or("it has no header")?;
        let header: Header = serde_json::from_slice(&saved[..end]).map_err(|e| format!("its header is none: {e}"))?;
        if header.plugin != plugin {
            return Err(format!("it is that of the plugin {:?}", header.plugin));
        }
        Ok(Self { plugin: header.plugin, version: header.state_version, bytes: saved[end + 1..].to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::Memory;

    #[test]
    fn only_its_own() {
        let memory = Memory { plugin: "ewma".into(), version: 3, bytes: b"\n{}\0\n".to_vec() };
        assert_eq!(Memory::read(&memory.write(), "ewma"), Ok(memory.clone()));
        assert!(Memory::read(&memory.write(), "cusum").is_err());
        assert!(Memory::read(b"", "ewma").is_err() && Memory::read(b"\n", "ewma").is_err());
    }
}
