//! What is committed with a position: up to where windows are told and messages were seen, and the checkpoint that belongs
//! to it. A few hundred bytes of JSON in the group's own record, so that position and knowledge cannot come apart.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The form that this engine writes.
const VERSION: u32 = 1;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Committed {
    v: u32,
    /// Messages before this position were processed; what lies between the committed position and this one is read again
    /// only for the windows to come.
    #[serde(default)]
    pub(super) seen: i64,
    /// Id of the checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<String>,
    /// Pipeline -> event time (ns) up to which its windows are told.
    #[serde(default)]
    pub(super) told: BTreeMap<String, u64>,
}

impl Committed {
    pub(super) fn new(seen: i64, state: Option<String>, told: BTreeMap<String, u64>) -> Self {
        Self { v: VERSION, seen, state, told }
    }

    /// Reads it; nothing where another program (or a person, by resetting the group) has committed.
    pub(super) fn read(text: &str) -> Self {
        let read: Option<Self> = serde_json::from_str(text).ok();
        read.filter(|c| c.v == VERSION).unwrap_or_default()
    }

    /// The same with nothing seen yet: the log is another one.
    pub(super) fn anew(self) -> Self {
        Self { seen: 0, ..self }
    }

    pub(super) fn write(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_commit_says_nothing() {
        let committed = Committed::new(7, Some("a1".into()), BTreeMap::from([("ddos".into(), 5)]));
        assert_eq!(Committed::read(&committed.write()), committed);
        for text in ["", "hello", "{\"v\":2,\"seen\":3}"] {
            assert_eq!(Committed::read(text), Committed::default());
        }
    }
}
