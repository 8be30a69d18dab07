//! Messages of other collectors to columns: ns of one core per flow, by format. The same records in each: JSON and protobuf
//! with one flow in a message, Arrow with 4096. pmacct's also by a tree of `serde_json` values, into the same columns: the
//! peer.

use crate::Outcome;
use crate::measure::{REPETITIONS, repetition, row};
use crate::messages::{self, goflow2, goflow2_json, pmacct};
use crate::traffic;
use kaminari::config::decode_options::{DecodeFormat, DecodeOptions};
use kaminari::decode;
use kaminari::generate::Version;
use kaminari::model::frames::NO_PEER;
use kaminari::model::{Addr, FlowBatchBuilder, FlowRecord, FlowSink, FlowType, FrameBatch, flow_json};
use serde_json::Value;
use std::hint::black_box;

/// Messages of one pass: 25 to 50 MB of JSON, which fit no cache.
const FLOWS: f64 = 60_000.0;
/// Messages that a source hands over at a time.
const FRAMES: usize = 1024;
const ARROW_ROWS: usize = 4096;

pub fn run() -> Outcome {
    let records = records()?;
    let arrow = [pack(arrow_messages(&records)?)];
    for (name, format, packed) in [
        ("pmacct JSON", DecodeFormat::Pmacct, &pack_all(&records, pmacct)[..]),
        ("goflow2 JSON", DecodeFormat::Goflow2Json, &pack_all(&records, goflow2_json)),
        ("canonical JSON", DecodeFormat::Jsonl, &pack_all(&records, flow_json::write)),
        ("goflow2 protobuf", DecodeFormat::Goflow2, &pack_all(&records, goflow2)),
        ("arrow 4096", DecodeFormat::Arrow, &arrow),
    ] {
        let options = DecodeOptions { format: Some(format), ..DecodeOptions::default() };
        let mut decoder = decode::build(&options, false)?;
        case(name, records.len(), packed, |frames, out| decoder.decode(frames, out))?;
        assert_eq!(decoder.stats().errors_total(), 0, "{}", decoder.stats());
    }
    case("pmacct JSON by serde_json values", records.len(), &pack_all(&records, pmacct), |frames, out| {
        for frame in &frames.frames {
            let value: Value = serde_json::from_slice(frames.bytes(frame)).expect("we wrote it");
            out.push(&by_tree(&value));
        }
    })
}

fn case(
    name: &str,
    flows: usize,
    packed: &[FrameBatch],
    mut decode: impl FnMut(&FrameBatch, &mut FlowBatchBuilder),
) -> Outcome {
    let mut builder = FlowBatchBuilder::default();
    let mut pass = || {
        let mut records = 0;
        for frames in packed {
            decode(frames, &mut builder);
            if builder.len() >= traffic::BATCH_ROWS {
                records += black_box(builder.finish()).num_rows();
            }
        }
        records += black_box(builder.finish()).num_rows();
        if records == flows { Ok(records as u64) } else { Err(format!("{name}: {records} records of {flows}")) }
    };
    pass()?;
    for rep in 1..=REPETITIONS {
        let (records, seconds) = repetition(&mut pass)?;
        row("formats", name, "ns/flow", seconds * 1e9 / records as f64, rep);
    }
    let bytes: usize = packed.iter().map(|frames| frames.data.len()).sum();
    row("formats", &format!("{name}: size"), "bytes/flow", bytes as f64 / flows as f64, 1);
    Ok(())
}

/// Flow records of the generator, as an IPFIX exporter tells them, with the fields that it does not fill.
fn records() -> Result<Vec<FlowRecord>, Box<dyn std::error::Error>> {
    let (packed, _) = traffic::datagrams(Version::Ipfix, FLOWS)?;
    let mut decoder = decode::build(&DecodeOptions::default(), false)?;
    let mut records: Vec<FlowRecord> = Vec::new();
    packed.iter().for_each(|frames| decoder.decode(frames, &mut records));
    messages::complete(&mut records);
    records.iter_mut().for_each(|r| r.sampling_rate = 1000);
    Ok(records)
}

fn pack(messages: Vec<Vec<u8>>) -> FrameBatch {
    let mut frames = FrameBatch::default();
    messages.iter().for_each(|message| frames.push(message, NO_PEER, 1_767_225_600_000_000_000));
    frames
}

fn pack_all(records: &[FlowRecord], write: impl Fn(&FlowRecord, &mut Vec<u8>)) -> Vec<FrameBatch> {
    let message = |r| {
        let mut message = Vec::new();
        write(r, &mut message);
        message
    };
    records.chunks(FRAMES).map(|chunk| pack(chunk.iter().map(message).collect())).collect()
}

fn arrow_messages(records: &[FlowRecord]) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let mut messages = Vec::new();
    for chunk in records.chunks(ARROW_ROWS) {
        let mut builder = FlowBatchBuilder::default();
        chunk.iter().for_each(|r| builder.push(r));
        let (batch, mut message) = (builder.finish(), Vec::new());
        let mut writer = arrow_ipc::writer::StreamWriter::try_new(&mut message, &batch.schema())?;
        writer.write(&batch)?;
        writer.finish()?;
        messages.push(message);
    }
    Ok(messages)
}

/// The peer: the obvious way to read such an object.
fn by_tree(v: &Value) -> FlowRecord {
    let number = |key: &str| v[key].as_u64().unwrap_or(0);
    let addr = |key: &str| v[key].as_str().and_then(|t| t.parse::<Addr>().ok()).unwrap_or_default();
    let time = |key: &str| {
        let text = v[key].as_str().unwrap_or_default().replacen(' ', "T", 1) + "Z";
        text.parse::<jiff::Timestamp>().map_or(0, |t| t.as_nanosecond() as u64)
    };
    let proto = v["ip_proto"].as_str().unwrap_or_default();
    FlowRecord {
        time_received_ns: time("timestamp_arrival"),
        time_flow_start_ns: time("timestamp_start"),
        time_flow_end_ns: time("timestamp_end"),
        sampler_address: addr("peer_ip_src"),
        sampling_rate: number("sampling_rate"),
        src_addr: addr("ip_src"),
        dst_addr: addr("ip_dst"),
        src_port: number("port_src") as u16,
        dst_port: number("port_dst") as u16,
        proto: flow_json::proto_number(proto).or_else(|| proto.parse().ok()).unwrap_or(0),
        tcp_flags: number("tcp_flags") as u16,
        bytes: number("bytes"),
        packets: number("packets"),
        in_if: number("iface_in") as u32,
        out_if: number("iface_out") as u32,
        src_as: number("as_src") as u32,
        dst_as: number("as_dst") as u32,
        src_net: number("mask_src") as u8,
        dst_net: number("mask_dst") as u8,
        ip_tos: number("tos") as u8,
        flow_type: FlowType::Unknown,
        ..FlowRecord::default()
    }
}
