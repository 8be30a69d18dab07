use super::*;
use crate::decode::stats::RateOrigin;
use crate::model::frames::NO_PEER;
use crate::model::time::SECOND;
use crate::model::{FlowRecord, FlowType, FrameBatch};
use std::net::SocketAddr;

const MESSAGE_NS: u64 = 1_700_000_500 * SECOND;
/// 2023-02-28 09:46:39 UTC.
const T: u64 = 1_677_577_599 * SECOND;

pub(super) fn feed(d: &mut JsonDecoder, message: &[u8], peer: SocketAddr, at_ns: u64) -> Vec<FlowRecord> {
    let (mut batch, mut out) = (FrameBatch::default(), Vec::new());
    batch.push(message, peer, at_ns);
    d.decode(&batch, &mut out);
    out
}

/// Every byte is somewhere.
pub(super) fn accounted(s: &DecodeStats) -> bool {
    s.framing_bytes + s.decoded_bytes + s.undecoded_total() == s.bytes && s.refusals == s.errors_total()
}

fn with(mut d: JsonDecoder, message: &str) -> (Vec<FlowRecord>, DecodeStats) {
    let out = feed(&mut d, message.as_bytes(), NO_PEER, MESSAGE_NS);
    assert!(accounted(d.stats()), "{:?}", d.stats());
    (out, d.stats().clone())
}

fn pmacct(message: &str) -> (Vec<FlowRecord>, DecodeStats) {
    with(JsonDecoder::pmacct(&DecodeOptions::default(), false), message)
}

fn goflow2(message: &str) -> (Vec<FlowRecord>, DecodeStats) {
    with(JsonDecoder::goflow2(&DecodeOptions::default(), false), message)
}

fn reasons(stats: &DecodeStats) -> Vec<Refusal> {
    stats.reasons_since(&DecodeStats::default().errors)
}

#[test]
fn pmacct_as_nfacctd_writes_it() {
    let message = r#"{"event_type": "purge", "tag": 0, "label": "edge \"a\"", "mac_src": "00:01:02:ab:04:05", "vlan_in": 7,
        "etype": "800", "as_src": 64500, "as_dst": 4200000000, "comms": "64500:1_64500:2", "as_path": ["64500","64501"],
        "peer_ip_src": "192.0.2.9", "peer_ip_dst": "", "iface_in": 10, "iface_out": 20, "ip_src": "192.0.2.1",
        "net_src": "192.0.2.0", "ip_dst": "2001:db8::1", "mask_src": 24, "mask_dst": 48, "port_src": 443, "port_dst": 51000,
        "country_ip_src": "DE", "tcp_flags": 27, "ip_proto": "tcp", "tos": 8, "sampling_rate": 1000,
        "timestamp_start": "2023-02-28 09:46:39.000000", "timestamp_end": "2023-02-28 09:46:41.500000",
        "timestamp_arrival": "2023-02-28 09:46:42.000001", "export_proto_version": 10, "export_proto_sysid": 3,
        "custom_primitives": {"x": [1, {"y": null}], "z": "}"}, "stamp_inserted": "2023-02-28 09:46:00",
        "stamp_updated": "2023-02-28 09:47:01", "flows": null, "packets": 12, "bytes": 3456, "writer_id": "default/1836"}"#;
    let (out, stats) = pmacct(&message.replace('\n', " "));
    assert_eq!(stats.first_error, None);
    let expected = FlowRecord {
        time_received_ns: T + 3 * SECOND + 1000,
        time_flow_start_ns: T,
        time_flow_end_ns: T + 2_500_000_000,
        sampler_address: "192.0.2.9".parse().unwrap(),
        observation_domain_id: 3,
        sampling_rate: 1000,
        src_addr: "192.0.2.1".parse().unwrap(),
        dst_addr: "2001:db8::1".parse().unwrap(),
        src_port: 443,
        dst_port: 51000,
        proto: 6,
        tcp_flags: 27,
        bytes: 3456,
        packets: 12,
        in_if: 10,
        out_if: 20,
        src_as: 64500,
        dst_as: 4_200_000_000,
        src_net: 24,
        dst_net: 48,
        ip_tos: 8,
        vlan_id: 7,
        flow_type: FlowType::Ipfix,
        ..FlowRecord::default()
    };
    assert_eq!(out, [expected]);
    assert_eq!((stats.flows_total(), stats.sampling[RateOrigin::Record as usize]), (1, 1));
}

#[test]
fn pmacct_in_its_other_forms() {
    let base = r#""ip_dst":"192.0.2.1""#;
    let one = |field: &str| {
        let (out, stats) = pmacct(&format!("{{{base},{field}}}"));
        assert_eq!(stats.first_error, None, "{field}");
        out[0].clone()
    };
    for (field, flags) in [
        (r#""tcp_flags":"18""#, 18),
        (r#""tcp_flags":"0x12""#, 18),
        (r#""tcp_flags":["ACK","SYN"]"#, 18),
        (r#""tcp_flags": [ "FIN" , "C\u0057R" ] "#, 0x81),
        (r#""tcp_flags":[]"#, 0),
        (r#""tcp_flags":"SYN|ACK""#, 18),
    ] {
        assert_eq!(one(field).tcp_flags, flags, "{field}");
    }
    for (proto, n) in [(r#""udp""#, 17), (r#""ipv6-icmp""#, 58), (r#""vrrp""#, 112), (r#""47""#, 47), ("50", 50)] {
        assert_eq!(one(&format!("\"ip_proto\":{proto}")).proto, n, "{proto}");
    }
    for time in
        [r#""2023-02-28 09:46:39.000000""#, r#""1677577599.000000""#, r#""2023-02-28T11:46:39+02:00""#, "1677577599"]
    {
        let r = one(&format!("\"timestamp_end\":{time}"));
        assert_eq!((r.time_flow_end_ns, r.time_received_ns), (T, MESSAGE_NS), "{time}");
    }
    let aggregate = r#"{"net_src": "192.0.2.0", "mask_src": 24, "net_dst": "198.51.100.0/25", "packets": 1}"#;
    let r = &pmacct(aggregate).0[0];
    assert_eq!((r.src_addr.to_string(), r.src_net), ("192.0.2.0".to_owned(), 24));
    assert_eq!((r.dst_addr.to_string(), r.dst_net), ("198.51.100.0".to_owned(), 25));
    assert_eq!(one(r#""vlan":5,"vlan_in":6"#).vlan_id, 5);
    assert_eq!(one(r#""export_proto_version":5"#).flow_type, FlowType::Unknown);
}

#[test]
fn which_time_is_the_received_one() {
    let d = || JsonDecoder::pmacct(&DecodeOptions::default(), false);
    let at = |fields: &str, message_ns| {
        let message = format!(r#"{{"ip_dst":"192.0.2.1"{fields}}}"#);
        feed(&mut d(), message.as_bytes(), NO_PEER, message_ns)[0].time_received_ns
    };
    let all = r#","timestamp_arrival":"5.0","timestamp_export":"4.0","timestamp_max":"1.0","stamp_inserted":"2","stamp_updated":"3""#;
    assert_eq!(at(all, MESSAGE_NS), 5 * SECOND);
    assert_eq!(at(&all.replace("arrival", "x"), MESSAGE_NS), 4 * SECOND);
    let stamps = r#","timestamp_end":"1.0","stamp_inserted":"2","stamp_updated":"3""#;
    assert_eq!(at(stamps, MESSAGE_NS), MESSAGE_NS);
    assert_eq!(at(stamps, 0), 3 * SECOND, "a file has no time of its own");
    assert_eq!(at(r#","timestamp_end":"1.0","stamp_inserted":"2""#, 0), SECOND);
    assert_eq!(at(r#","stamp_inserted":"2""#, 0), 2 * SECOND);
}

#[test]
fn several_objects_in_a_message_and_marks_of_a_purge() {
    let message = concat!(
        r#"{"event_type": "purge_init", "writer_id": "default_kafka/1836"}"#,
        "\n",
        r#"{"event_type": "purge", "ip_src": "192.0.2.1", "bytes": 1}"#,
        "\r\n\n",
        r#"{"ip_src": "192.0.2.1", "bytes": "#,
        "\n",
        r#"{"ip_src": "192.0.2.1", "bytes": 2} {}"#,
        "\n",
        r#"{"as_src": 64500, "bytes": 3}"#,
        "\n",
        r#"{"ip_src": "192.0.2.1", "port_src": 65536}"#,
        "\n",
        r#"{"event_type": "purge_close", "purged_entries": 2, "total_entries": 2}"#,
        "\n",
        r#"  {"ip_src": "192.0.2.1", "bytes": 4}"#,
    );
    let (out, stats) = pmacct(message);
    assert_eq!(out.iter().map(|r| r.bytes).collect::<Vec<_>>(), [1, 4]);
    assert_eq!(reasons(&stats), [Refusal::BadLine, Refusal::BadField, Refusal::NoAddress]);
    assert_eq!((stats.refusals, stats.flows_total()), (4, 2));
    assert_eq!(stats.first_error.as_deref(), Some("record 3: neither comma nor brace after a value"));
}

#[test]
fn goflow2_as_it_prints() {
    let message = r#"{"type":"NETFLOW_V9","time_received_ns":1700000000000000001,"sequence_num":4711,"sampling_rate":100,
        "sampler_address":"::ffff:192.0.2.9","time_flow_start_ns":1700000000000000000,"time_flow_end_ns":"1700000000500000000",
        "bytes":1500,"packets":2,"src_addr":"192.0.2.1","dst_addr":"198.51.100.7","etype":"IPv4","proto":"UDP","src_port":53,
        "dst_port":1024,"in_if":1,"out_if":2,"src_mac":"00:00:00:00:00:00","src_vlan":9,"dst_vlan":0,"vlan_id":0,"ip_tos":4,
        "tcp_flags":0,"src_as":64500,"dst_as":0,"next_hop":"","src_net":"192.0.2.0/24","dst_net":"invalid Prefix",
        "as_path":[],"mpls_label":[],"observation_domain_id":7,"layer_stack":["Ethernet","IPv4"]}"#;
    let (out, stats) = goflow2(&message.replace('\n', " "));
    assert_eq!(stats.first_error, None);
    let r = &out[0];
    assert_eq!((r.flow_type, r.proto, r.src_net, r.dst_net, r.vlan_id), (FlowType::NetflowV9, 17, 24, 0, 9));
    assert_eq!((r.time_received_ns, r.time_flow_end_ns), (1_700_000_000_000_000_001, 1_700_000_000_500_000_000));
    assert_eq!((r.sampler_address.to_string(), r.observation_domain_id), ("192.0.2.9".to_owned(), 7));
    let numbers = r#"{"type":3,"src_addr":"2001:db8::1","etype":34525,"proto":58,"src_net":48}"#;
    let r = &goflow2(numbers).0[0];
    assert_eq!((r.flow_type, r.proto, r.src_net), (FlowType::NetflowV9, 58, 48));
    assert_eq!(goflow2(r#"{"src_addr":"192.0.2.1","proto":""}"#).0[0].proto, 0, "GoFlow2 has few names");
}

#[test]
fn the_exporter_and_the_rate_may_come_from_elsewhere() {
    let overrides = [("192.0.2.0/28".parse().unwrap(), 7)].into();
    let options = DecodeOptions { sampling_rate: Some(50), sampling_overrides: overrides, ..Default::default() };
    let peer: SocketAddr = "192.0.2.9:2055".parse().unwrap();
    let mut d = JsonDecoder::pmacct(&options, false);
    let r = &feed(&mut d, br#"{"ip_src":"10.0.0.1","sampling_rate":3}"#, peer, 1)[0];
    assert_eq!((r.sampler_address.to_string(), r.sampling_rate), ("192.0.2.9".to_owned(), 7));
    let r = &feed(&mut d, br#"{"ip_src":"10.0.0.1","peer_ip_src":"198.51.100.1"}"#, peer, 1)[0];
    assert_eq!((r.sampler_address.to_string(), r.sampling_rate), ("198.51.100.1".to_owned(), 50));
}

#[test]
fn what_is_no_json_object() {
    for bad in [
        "[]",
        "1",
        "{",
        r#"{"ip_src":"192.0.2.1"}}"#,
        r#"{"ip_src":"192.0.2.1",}"#,
        r#"{"ip_src":"192.0.2.1" "x":1}"#,
        r#"{"ip_src":"192.0.2.1","x":01}"#,
        r#"{"ip_src":"192.0.2.1","x":1.}"#,
        r#"{"ip_src":"192.0.2.1","x":"\x"}"#,
        r#"{"ip_src":"192.0.2.1","x":"\u12g4"}"#,
        r#"{"ip_src":"192.0.2.1","x":tru}"#,
        r#"{"ip_src":"192.0.2.1","x":[1,]}"#,
        r#"{"ip_src":"192.0.2.1","x":{"a"}}"#,
        r#"{"ip_src":"192.0.2.1","bytes":-}"#,
        r#"{"ip_src":"192.0.2.1","bytes":1e}"#,
        r#"{ip_src:"192.0.2.1"}"#,
        "{\"ip_src\":\"192.0.2.1\",\"x\":\"\t\"}",
        "\u{0}",
    ] {
        let (out, stats) = pmacct(bad);
        assert_eq!((out.len(), reasons(&stats)), (0, vec![Refusal::BadLine]), "{bad}");
    }
    let deep = format!(r#"{{"ip_src":"192.0.2.1","x":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(reasons(&pmacct(&deep).1), [Refusal::BadLine]);
    for bad in [
        r#""ip_src":"192.0.2.256""#,
        r#""ip_src":3"#,
        r#""bytes":-1"#,
        r#""bytes":1.5"#,
        r#""bytes":18446744073709551616"#,
        r#""ip_proto":"nonsense""#,
        r#""ip_proto":256"#,
        r#""timestamp_end":"yesterday""#,
        r#""tcp_flags":["ACK",7]"#,
        r#""mask_dst":129"#,
    ] {
        let (_, stats) = pmacct(&format!(r#"{{"ip_dst":"192.0.2.1",{bad}}}"#));
        assert_eq!(reasons(&stats), [Refusal::BadField], "{bad}");
    }
    let escaped = r#"{"\u0069p_src":"\u0031\u0039\u0032.0.2.1","bytes":1e3,"x":"\ud800"}"#;
    let r = &pmacct(escaped).0[0];
    assert_eq!((r.src_addr.to_string(), r.bytes), ("192.0.2.1".to_owned(), 1000));
}

#[test]
fn what_only_a_person_asks_for() {
    let message = r#"{"ip_src":"192.0.2.1","etype":"86dd","mac_dst":"00:01:02:ab:04:05","vlan_in":3,"post_nat_ip_src":"203.0.113.1","flow_label":70000,"fwd_status":999}"#;
    let (out, _) = with(JsonDecoder::pmacct(&DecodeOptions::default(), true), message);
    let x = out[0].extra.as_ref().unwrap();
    assert_eq!((x.etype, x.dst_mac, x.src_vlan), (Some(0x86dd), Some([0, 1, 2, 0xab, 4, 5]), Some(3)));
    assert_eq!((x.nat_src_addr.unwrap().to_string(), x.ipv6_flow_label), ("203.0.113.1".to_owned(), Some(70_000)));
    assert_eq!(x.forwarding_status, None, "does not fit, and is no reason to refuse a flow");
}
