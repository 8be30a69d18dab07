//! Ids that are the same in every replay: digests of what the incident is about, never of when it was computed.

use crate::model::EntityKey;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The same for every recurrence of an incident: pipeline and entity. The kind is not part of it, because one attack is
/// seen by several detectors and changes its face from window to window.
pub fn fingerprint(pipeline: &str, entity: &EntityKey) -> String {
    digest(&[pipeline.as_bytes(), entity.kind.name().as_bytes(), entity.to_string().as_bytes()])
}

/// The fingerprint of what a pipeline says about itself.
pub fn pipeline_fingerprint(pipeline: &str) -> String {
    digest(&[pipeline.as_bytes(), b"pipeline", pipeline.as_bytes()])
}

/// One occurrence: the fingerprint and the start of the first window that counted to opening.
pub fn incident_id(fingerprint: &str, first_window_start_ns: u64) -> String {
    digest(&[fingerprint.as_bytes(), &first_window_start_ns.to_be_bytes()])
}

/// First 16 hex digits of the sha256 of the parts, each with its length before it.
fn digest(parts: &[&[u8]]) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part);
    }
    sha.finalize()[..8].iter().fold(String::with_capacity(16), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string does not fail");
        hex
    })
}
