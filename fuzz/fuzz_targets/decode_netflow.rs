//! Any datagrams of any exporters: the decoder neither panics nor loses a byte without a reason.
//! Input: datagrams, each behind one byte of exporter and two of length.
//! Run: `cargo +nightly fuzz run decode_netflow`.
//!
//! Built from the four rooms that the decoder may see, not from the whole library: wasmtime under a sanitizer takes
//! many minutes.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../host/src/config/mod.rs"]
mod config;
#[path = "../../host/src/decode/mod.rs"]
mod decode;
#[path = "../../host/src/model/mod.rs"]
mod model;
#[path = "../../host/src/telemetry/mod.rs"]
mod telemetry;

use config::decode_options::DecodeOptions;
use decode::{Decoder, NetflowDecoder};
use libfuzzer_sys::fuzz_target;
use model::{FlowRecord, FrameBatch};
use std::net::SocketAddr;

fuzz_target!(|input: &[u8]| {
    let options = DecodeOptions { pending_bytes: 4096, max_templates_per_exporter: 8, ..Default::default() };
    let mut decoder = NetflowDecoder::new(&options, true);
    let mut batch = FrameBatch::default();
    let mut rest = input;
    while let [exporter, a, b, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*a, *b])).min(tail.len());
        let peer = SocketAddr::from(([192, 0, 2, exporter % 4], 50000));
        batch.push(&tail[..len], peer, 1_700_000_000_000_000_000);
        rest = &tail[len..];
    }
    let mut flows: Vec<FlowRecord> = Vec::new();
    decoder.decode(&batch, &mut flows);
    let s = decoder.stats();
    assert_eq!(s.flows_total(), flows.len() as u64);
    assert!(s.pending_bytes <= 4096);
    assert_eq!(
        s.framing_bytes + s.decoded_bytes + s.padding_bytes + s.undecoded_total() + s.pending_bytes,
        s.bytes
    );
});
