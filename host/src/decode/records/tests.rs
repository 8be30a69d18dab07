use super::*;
use crate::config::decode_options::TimeUnit;
use crate::model::frames::NO_PEER;
use crate::model::{FlowRecord, FlowType, FrameBatch};

fn decode(options: &DecodeOptions, lines: &[&str]) -> (Vec<FlowRecord>, DecodeStats) {
    let mut decoder = RecordDecoder::new(options).unwrap();
    let mut batch = FrameBatch::default();
    for line in lines {
        batch.push(line.as_bytes(), NO_PEER, 0);
    }
    let mut out = Vec::new();
    decoder.decode(&batch, &mut out);
    (out, decoder.stats().clone())
}

fn csv_options(columns: &[(&str, &str)]) -> DecodeOptions {
    DecodeOptions {
        format: Some(DecodeFormat::Csv),
        time_unit: TimeUnit::Seconds,
        columns: columns.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        ..Default::default()
    }
}

#[test]
fn goflow2_json() {
    let line = r#"{"type":"NETFLOW_V9","time_received_ns":1700000000000000001,"src_addr":"192.0.2.1","dst_addr":"2001:db8::1",
        "proto":"TCP","etype":"IPv4","src_net":"192.0.2.0/24","dst_net":56,"bytes":"1500","packets":2,"as_path":[1,{"x":2}],
        "next_hop":null,"sampling_rate":100,"tcp_flags":18}"#;
    let (out, stats) = decode(&DecodeOptions::default(), &[&line.replace('\n', " ")]);
    let r = &out[0];
    assert_eq!((r.flow_type, r.proto, r.src_net, r.dst_net), (FlowType::NetflowV9, 6, 24, 56));
    assert_eq!((r.bytes, r.packets, r.sampling_rate, r.tcp_flags), (1500, 2, 100, 18));
    assert_eq!(r.time_received_ns, 1_700_000_000_000_000_001);
    assert_eq!(r.src_addr.to_string(), "192.0.2.1");
    assert_eq!(stats.sampling_unknown(), 0);
}

#[test]
fn csv_with_a_column_map_and_a_duration() {
    let options = csv_options(&[
        ("time_flow_start_ns", "ts"),
        ("duration", "dur"),
        ("src_addr", "src"),
        ("dst_addr", "dst"),
        ("src_port", "sport"),
        ("dst_port", "dport"),
        ("tcp_flags", "flags"),
    ]);
    let (out, stats) = decode(
        &options,
        &[
            "ts,dur,src,dst,sport,dport,proto,flags,packets,bytes,event",
            "259200.319,29.879,100.64.0.127,203.0.113.60,49279,52027,6,27,66,51808,0",
        ],
    );
    let r = &out[0];
    assert_eq!(r.time_flow_start_ns, 259_200_319_000_000);
    assert_eq!(r.time_flow_end_ns, 259_230_198_000_000);
    assert_eq!(r.time_received_ns, r.time_flow_end_ns);
    assert_eq!((r.src_port, r.dst_port, r.proto, r.tcp_flags, r.packets, r.bytes), (49279, 52027, 6, 27, 66, 51808));
    assert_eq!((stats.flows_total(), stats.errors_total()), (1, 0));
}

#[test]
fn bad_lines_are_counted_and_the_first_is_told() {
    let options = csv_options(&[]);
    let (out, stats) = decode(
        &options,
        &["src_addr,bytes,note", "192.0.2.1,5,\"a, \"\"b\"\"\"", "not-an-address,5,x", "192.0.2.1,5", "192.0.2.9,7,"],
    );
    assert_eq!(out.iter().map(|r| r.bytes).collect::<Vec<_>>(), [5, 7]);
    assert_eq!(stats.errors[Refusal::BadField as usize], 1);
    assert_eq!(stats.errors[Refusal::FieldCount as usize], 1);
    assert_eq!(stats.first_error.as_deref(), Some("line 3: src_addr: cannot read Text(\"not-an-address\")"));

    let good = r#"{"dst_addr":"192.0.2.1","bytes":1}"#;
    let lines = [good, r#"{"bytes":"#, "[1]", r#"{"bytes":-1}"#, "", r#"{"bytes":1}"#];
    let (out, stats) = decode(&DecodeOptions::default(), &lines);
    assert_eq!(stats.errors[Refusal::NoAddress as usize], 1);
    assert_eq!(out.len(), 1);
    assert_eq!(stats.errors[Refusal::BadLine as usize], 2);
    assert_eq!(stats.errors[Refusal::BadField as usize], 1);
}

#[test]
fn several_lines_of_a_message_and_mapped_keys() {
    let columns = [("src_addr", "quelle"), ("bytes", "o\u{308}ktette")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let options = DecodeOptions { columns: columns.into(), ..Default::default() };
    let message = "{\"quelle\":\"192.0.2.1\",\"o\u{308}ktette\":7,\"src_addr\":\"x\"}\n{\"dst_addr\":\"192.0.2.2\"\n{\"dst_addr\":\"192.0.2.3\"}\n";
    let (out, stats) = decode(&options, &[message]);
    assert_eq!(out.iter().map(|r| r.bytes).collect::<Vec<_>>(), [7, 0]);
    assert_eq!((out[0].src_addr.to_string(), stats.datagrams, stats.errors_total()), ("192.0.2.1".to_owned(), 3, 1));
}

#[test]
fn what_is_written_is_read_back() {
    let record = FlowRecord {
        time_received_ns: 5,
        time_flow_start_ns: 3,
        time_flow_end_ns: 4,
        sampler_address: "192.0.2.9".parse().unwrap(),
        observation_domain_id: 7,
        sampling_rate: 10,
        src_addr: "192.0.2.1".parse().unwrap(),
        dst_addr: "198.51.100.1".parse().unwrap(),
        src_port: 53,
        dst_port: 1024,
        proto: 17,
        tcp_flags: 2,
        bytes: 100,
        packets: 1,
        in_if: 1,
        out_if: 2,
        src_as: 64500,
        dst_as: 64501,
        src_net: 24,
        dst_net: 16,
        next_hop: "192.0.2.254".parse().unwrap(),
        ip_tos: 8,
        vlan_id: 100,
        flow_type: FlowType::Ipfix,
        extra: None,
    };
    let mut text = Vec::new();
    crate::model::flow_json::write(&record, &mut text);
    let (out, stats) = decode(&DecodeOptions::default(), &[std::str::from_utf8(&text).unwrap()]);
    assert_eq!(stats.first_error, None);
    assert_eq!(out, [record]);
}

#[test]
fn an_unknown_name_in_the_map_is_refused_with_the_near_miss() {
    let error = RecordDecoder::new(&csv_options(&[("sampler", "x")])).err().unwrap().to_string();
    assert!(error.contains("sampler is no field") && error.contains("did you mean sampler_address?"), "{error}");
}
