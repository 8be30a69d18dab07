//! What really happened, as JSON lines: one line per attack, then one per exporter. Field names are a contract with
//! `cargo xtask demo` and with whoever scores a detector against it.

use super::GenerateError;
use super::attacks::Attack;
use super::exporter::Exporter;
use crate::model::time::rfc3339;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// One attack.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AttackTruth {
    /// Number in the run, from 0.
    pub attack: usize,
    /// Kind, e.g. `syn-flood`: also the alert kind expected of a detector.
    pub kind: &'static str,
    /// Level of the target: `dst_addr` or `dst_prefix`.
    pub entity: &'static str,
    /// Host or /24.
    pub target: String,
    /// Start of the traffic, event time, RFC 3339.
    pub start: String,
    /// End of the traffic, event time, RFC 3339.
    pub end: String,
    /// Start, ns.
    pub start_ns: u64,
    /// End, ns.
    pub end_ns: u64,
    /// Packets a second before sampling.
    pub packets_per_s: f64,
    /// Bits a second before sampling.
    pub bits_per_s: f64,
    /// Flow records exported.
    pub flows: u64,
    /// Packets exported, times the sampling rate.
    pub packets: u64,
    /// Bytes exported, times the sampling rate.
    pub bytes: u64,
    /// When the datagram with its first record left: wall clock over UDP, capture time in a file; 0: none left.
    pub first_sent_ns: u64,
    /// When the datagram with its last record left.
    pub last_sent_ns: u64,
}

/// One exporter.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ExporterTruth {
    /// Its address.
    pub exporter: String,
    /// `v5`, `v9` or `ipfix`.
    pub version: &'static str,
    /// N of 1-in-N.
    pub sampling: u32,
    /// Flow records sent.
    pub flows: u64,
    /// Datagrams sent.
    pub datagrams: u64,
}

/// All of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Truth {
    /// In the order they were asked for.
    pub attacks: Vec<AttackTruth>,
    /// In the order they were asked for.
    pub exporters: Vec<ExporterTruth>,
}

impl AttackTruth {
    /// The line of an attack that has not begun.
    pub fn new(number: usize, attack: &Attack) -> Self {
        let spec = attack.spec();
        Self {
            attack: number,
            kind: spec.kind.name(),
            entity: if spec.kind == super::AttackKind::CarpetBombing { "dst_prefix" } else { "dst_addr" },
            target: attack.target(),
            start: rfc3339(attack.start_ns()),
            end: rfc3339(attack.end_ns()),
            start_ns: attack.start_ns(),
            end_ns: attack.end_ns(),
            packets_per_s: spec.pps,
            bits_per_s: spec.pps * spec.packet_bytes * 8.0,
            flows: 0,
            packets: 0,
            bytes: 0,
            first_sent_ns: 0,
            last_sent_ns: 0,
        }
    }
}

impl From<&Exporter> for ExporterTruth {
    fn from(exporter: &Exporter) -> Self {
        let encoder = exporter.encoder();
        Self {
            exporter: encoder.peer().ip().to_string(),
            version: encoder.version().name(),
            sampling: encoder.sampling(),
            flows: encoder.flows(),
            datagrams: encoder.datagrams(),
        }
    }
}

impl Truth {
    /// Flow records sent.
    pub fn flows(&self) -> u64 {
        self.exporters.iter().map(|e| e.flows).sum()
    }

    /// Datagrams sent.
    pub fn datagrams(&self) -> u64 {
        self.exporters.iter().map(|e| e.datagrams).sum()
    }

    /// Writes the JSON lines.
    pub fn write(&self, path: &Path) -> Result<(), GenerateError> {
        let write = || -> std::io::Result<()> {
            let mut out = BufWriter::new(File::create(path)?);
            for attack in &self.attacks {
                writeln!(out, "{}", serde_json::to_string(attack)?)?;
            }
            for exporter in &self.exporters {
                writeln!(out, "{}", serde_json::to_string(exporter)?)?;
            }
            out.flush()
        };
        write().map_err(|error| GenerateError::Write { path: path.into(), error })
    }
}
