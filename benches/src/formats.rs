//! Messages of other collectors to columns: ns of one core per flow, by format. The same records in each: JSON and protobuf
//! with one flow in a message, Arrow with 4096. pmacct's also by a tree of `serde_json` values, into the same columns: the
//! peer.

use crate::Outcome;
use crate::measure::{REPETITIONS, repetition, row};
use crate::traffic;
use kaminari::config::decode_options::{DecodeFormat, DecodeOptions};
use kaminari::decode;
use kaminari::generate::Version;
use kaminari::model::frames::NO_PEER;
use kaminari::model::time::rfc3339;
use kaminari::model::{Addr, FlowBatchBuilder, FlowRecord, FlowSink, FlowType, FrameBatch, flow_json};
use serde_json::Value;
use std::hint::black_box;
use std::io::Write;

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
    for (r, i) in records.iter_mut().zip(1..) {
        (r.src_as, r.dst_as) = (64_000 + i % 900, 65_000 + i % 77);
        (r.src_net, r.dst_net, r.vlan_id) = (24, 16, (i % 4000) as u16);
        (r.in_if, r.out_if) = (100 + i % 40, 200 + i % 40);
        r.next_hop = Addr::from_v4_bytes([198, 51, 100, (i % 200) as u8]);
        r.sampling_rate = 1000;
    }
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

/// What nfacctd writes to Kafka with a usual choice of primitives, and jansson's spaces.
fn pmacct(r: &FlowRecord, out: &mut Vec<u8>) {
    let time = |ns: u64| {
        let text = rfc3339(ns / 1_000_000_000 * 1_000_000_000);
        format!("{} {}.{:06}", &text[..10], &text[11..19], ns / 1000 % 1_000_000)
    };
    let proto = match r.proto {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        1 => "icmp".to_owned(),
        n => n.to_string(),
    };
    let written = write!(
        out,
        "{{\"event_type\": \"purge\", \"as_src\": {}, \"as_dst\": {}, \"peer_ip_src\": \"{}\", \"iface_in\": {}, \
         \"iface_out\": {}, \"ip_src\": \"{}\", \"ip_dst\": \"{}\", \"mask_src\": {}, \"mask_dst\": {}, \"port_src\": {}, \
         \"port_dst\": {}, \"tcp_flags\": {}, \"ip_proto\": \"{proto}\", \"tos\": {}, \"sampling_rate\": {}, \
         \"timestamp_start\": \"{}\", \"timestamp_end\": \"{}\", \"timestamp_arrival\": \"{}\", \"stamp_inserted\": \"{}\", \
         \"stamp_updated\": \"{}\", \"packets\": {}, \"bytes\": {}, \"writer_id\": \"default_kafka/1836\"}}",
        r.src_as,
        r.dst_as,
        r.sampler_address,
        r.in_if,
        r.out_if,
        r.src_addr,
        r.dst_addr,
        r.src_net,
        r.dst_net,
        r.src_port,
        r.dst_port,
        r.tcp_flags,
        r.ip_tos,
        r.sampling_rate,
        time(r.time_flow_start_ns),
        time(r.time_flow_end_ns),
        time(r.time_received_ns),
        &time(r.time_received_ns / 60_000_000_000 * 60_000_000_000)[..19],
        &time(r.time_received_ns)[..19],
        r.packets,
        r.bytes
    );
    written.expect("a vector takes everything");
}

/// GoFlow2's default printing: all fields of `FlowMessage`, also those that are empty.
fn goflow2_json(r: &FlowRecord, out: &mut Vec<u8>) {
    let proto = match r.proto {
        6 => "TCP",
        17 => "UDP",
        1 => "ICMP",
        _ => "",
    };
    let written = write!(
        out,
        "{{\"type\":\"IPFIX\",\"time_received_ns\":{},\"sequence_num\":4711,\"sampling_rate\":{},\"sampler_address\":\"{}\",\
         \"time_flow_start_ns\":{},\"time_flow_end_ns\":{},\"bytes\":{},\"packets\":{},\"src_addr\":\"{}\",\"dst_addr\":\"{}\",\
         \"etype\":\"IPv4\",\"proto\":\"{proto}\",\"src_port\":{},\"dst_port\":{},\"in_if\":{},\"out_if\":{},\
         \"src_mac\":\"00:00:00:00:00:00\",\"dst_mac\":\"00:00:00:00:00:00\",\"src_vlan\":0,\"dst_vlan\":0,\"vlan_id\":{},\
         \"ip_tos\":{},\"forwarding_status\":0,\"ip_ttl\":0,\"ip_flags\":0,\"tcp_flags\":{},\"icmp_type\":0,\"icmp_code\":0,\
         \"ipv6_flow_label\":0,\"fragment_id\":0,\"fragment_offset\":0,\"src_as\":{},\"dst_as\":{},\"next_hop\":\"{}\",\
         \"next_hop_as\":0,\"src_net\":\"{}/{}\",\"dst_net\":\"{}/{}\",\"bgp_next_hop\":\"\",\"bgp_communities\":[],\
         \"as_path\":[],\"mpls_ttl\":[],\"mpls_label\":[],\"mpls_ip\":[],\"observation_domain_id\":{},\
         \"observation_point_id\":0,\"layer_stack\":[],\"layer_size\":[],\"ipv6_routing_header_addresses\":[],\
         \"ipv6_routing_header_seg_left\":0}}",
        r.time_received_ns,
        r.sampling_rate,
        r.sampler_address,
        r.time_flow_start_ns,
        r.time_flow_end_ns,
        r.bytes,
        r.packets,
        r.src_addr,
        r.dst_addr,
        r.src_port,
        r.dst_port,
        r.in_if,
        r.out_if,
        r.vlan_id,
        r.ip_tos,
        r.tcp_flags,
        r.src_as,
        r.dst_as,
        r.next_hop,
        r.src_addr,
        r.src_net,
        r.dst_addr,
        r.dst_net,
        r.observation_domain_id
    );
    written.expect("a vector takes everything");
}

/// A `FlowMessage` behind its length.
fn goflow2(r: &FlowRecord, out: &mut Vec<u8>) {
    fn varint(mut n: u64, out: &mut Vec<u8>) {
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }
    let mut message = Vec::new();
    for (field, n) in [
        (1, r.flow_type as u64),
        (3, r.sampling_rate),
        (4, 4711),
        (9, r.bytes),
        (10, r.packets),
        (14, r.src_as.into()),
        (15, r.dst_as.into()),
        (16, r.src_net.into()),
        (17, r.dst_net.into()),
        (18, r.in_if.into()),
        (19, r.out_if.into()),
        (20, r.proto.into()),
        (21, r.src_port.into()),
        (22, r.dst_port.into()),
        (23, r.ip_tos.into()),
        (26, r.tcp_flags.into()),
        (29, r.vlan_id.into()),
        (30, 0x0800),
        (70, r.observation_domain_id.into()),
        (110, r.time_received_ns),
        (111, r.time_flow_start_ns),
        (112, r.time_flow_end_ns),
    ] {
        if n > 0 {
            varint(field << 3, &mut message);
            varint(n, &mut message);
        }
    }
    for (field, addr) in [(6, r.src_addr), (7, r.dst_addr), (11, r.sampler_address), (12, r.next_hop)] {
        let bytes = if addr.is_v4() { &addr.0[12..] } else { &addr.0[..] };
        varint(field << 3 | 2, &mut message);
        varint(bytes.len() as u64, &mut message);
        message.extend(bytes);
    }
    varint(message.len() as u64, out);
    out.extend(message);
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
