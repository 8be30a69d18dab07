//! What is written is read back, whatever comes is counted, and `serde_json` agrees on what is JSON.

use super::tests::{accounted, feed};
use super::*;
use crate::decode::tests_support::record;
use crate::model::frames::NO_PEER;
use crate::model::{FlowRecord, FlowType, flow_json};
use proptest::prelude::*;
use serde_json::{Value as Tree, json};

/// As nfacctd writes it; what pmacct has no key for is not in the record.
fn pmacct(r: &FlowRecord, form: u8) -> (Tree, FlowRecord) {
    let times = [r.time_flow_start_ns, r.time_flow_end_ns, r.time_received_ns].map(|ns| ns / 1000 * 1000);
    let time = |ns: u64| {
        let rfc = jiff::Timestamp::from_nanosecond(ns.into()).unwrap();
        match form % 3 {
            0 => format!("{:.6}", rfc.strftime("%Y-%m-%d %H:%M:%S.%6f")),
            1 => format!("{}.{:06}", ns / 1_000_000_000, ns / 1000 % 1_000_000),
            _ => rfc.to_string(),
        }
    };
    let flags = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "NS"];
    let flags: Vec<_> = flags.iter().enumerate().filter(|(i, _)| r.tcp_flags >> i & 1 == 1).map(|(_, f)| *f).collect();
    let tree = json!({
        "event_type": "purge",
        "timestamp_start": time(times[0]),
        "timestamp_end": time(times[1]),
        "timestamp_arrival": time(times[2]),
        "peer_ip_src": r.sampler_address.to_string(),
        "export_proto_sysid": r.observation_domain_id,
        "export_proto_version": match r.flow_type { FlowType::NetflowV9 => 9, FlowType::Ipfix => 10, _ => 5 },
        "sampling_rate": r.sampling_rate,
        "ip_src": r.src_addr.to_string(),
        "ip_dst": r.dst_addr.to_string(),
        "port_src": r.src_port,
        "port_dst": r.dst_port,
        "ip_proto": if form & 1 == 0 { json!(r.proto) } else { json!(r.proto.to_string()) },
        "tcp_flags": if form & 4 == 0 { json!(r.tcp_flags & 0x1ff) } else { json!(flags) },
        "bytes": r.bytes,
        "packets": r.packets,
        "flows": null,
        "iface_in": r.in_if,
        "iface_out": r.out_if,
        "as_src": r.src_as,
        "as_dst": r.dst_as,
        "mask_src": r.src_net,
        "mask_dst": r.dst_net,
        "peer_ip_dst": r.next_hop.to_string(),
        "tos": r.ip_tos,
        "vlan": r.vlan_id,
        "custom_primitives": { "a": [1, "b"] },
    });
    let flow_type = match r.flow_type {
        kept @ (FlowType::NetflowV9 | FlowType::Ipfix) => kept,
        _ => FlowType::Unknown,
    };
    let [time_flow_start_ns, time_flow_end_ns, time_received_ns] = times;
    let tcp_flags = r.tcp_flags & 0x1ff;
    (tree, FlowRecord { time_flow_start_ns, time_flow_end_ns, time_received_ns, tcp_flags, flow_type, ..r.clone() })
}

/// Some objects with the keys of both dialects, valid before they are changed.
fn objects() -> impl Strategy<Value = Vec<u8>> {
    record().prop_flat_map(|r| {
        let mut canonical = Vec::new();
        flow_json::write(&r, &mut canonical);
        let spaced = serde_json::to_vec_pretty(&pmacct(&r, 5).0).unwrap();
        let short =
            br#"{"ip_src":"192.0.2.1","x":[1.5e-3,{"y":"\ud83d\ude00\n"},[]],"bytes":12,"tos":null,"k\u0041":true}"#
                .to_vec();
        prop::sample::select(vec![canonical, pmacct(&r, 0).0.to_string().into_bytes(), spaced, short])
    })
}

/// Changes of single bytes to what means something in JSON.
fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    let bytes = b"{}[]\",:\\/u0123456789eE.+-truefalsn \t\n\x01\x80\xc3\xff".to_vec();
    prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(bytes)), 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn goflow2_is_read_back(r in record()) {
        let mut text = Vec::new();
        flow_json::write(&r, &mut text);
        let mut d = JsonDecoder::goflow2(&DecodeOptions::default(), false);
        let out = feed(&mut d, &text, NO_PEER, 7);
        prop_assert_eq!(d.stats().first_error.as_deref(), None);
        prop_assert_eq!(out, [r]);
    }

    #[test]
    fn pmacct_is_read_back(r in record(), form in any::<u8>()) {
        let (tree, expected) = pmacct(&r, form);
        let mut d = JsonDecoder::pmacct(&DecodeOptions::default(), false);
        let out = feed(&mut d, tree.to_string().as_bytes(), NO_PEER, 7);
        prop_assert_eq!(d.stats().first_error.as_deref(), None);
        prop_assert_eq!(out, [expected]);
    }

    /// Not only is nothing lost: a message that is not blank leaves a record, a mark or a refusal.
    #[test]
    fn whatever_comes_is_counted(
        whole in objects(),
        changes in changes(),
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut changed = whole.clone();
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        let cut = &changed[..cut.index(changed.len() + 1)];
        for mut d in [JsonDecoder::goflow2(&DecodeOptions::default(), true), JsonDecoder::pmacct(&DecodeOptions::default(), true)] {
            for message in [cut, &changed, &noise] {
                let (before, marks) = (d.stats().refusals, d.stats().framing_bytes);
                let out = feed(&mut d, message, NO_PEER, 7);
                let seen = out.len() as u64 + d.stats().refusals - before + u64::from(d.stats().framing_bytes > marks);
                prop_assert!(seen > 0 || message.is_empty());
                prop_assert!(accounted(d.stats()), "{:?}", d.stats());
            }
        }
    }

    /// An object that the scanner takes is JSON, and the other way round.
    #[test]
    fn serde_json_agrees(whole in objects(), changes in changes(), cut in any::<prop::sample::Index>(), whole_too in any::<bool>()) {
        let mut text = whole.clone();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        if !whole_too {
            text.truncate(cut.index(text.len() + 1));
        }
        // All keys are asked for, so that everything is looked at, but for the inside of lists and objects.
        let Ok(utf8) = std::str::from_utf8(&text) else { return Ok(()) };
        let theirs: Result<serde_json::Map<String, Tree>, _> = serde_json::from_str(utf8);
        let mut keys = Keys::new(theirs.iter().flatten().map(|(k, _)| (k.clone(), ())));
        // The object before this one was another or much alike, so that guesses are right and nearly right.
        let _ = Scanner::new(&whole).object(&mut keys, |(), _| Ok::<_, Invalid>(()));
        let mut ours = Vec::new();
        let mut scanner = Scanner::new(&text);
        let read = scanner.object(&mut keys, |(), value| {
            ours.push(match value {
                Value::Text(t) => Tree::String(std::str::from_utf8(t).map_err(|_| Invalid("utf-8"))?.to_owned()),
                Value::Integer(n) => n.into(),
                Value::Float(x) => x.into(),
                Value::Bool(b) => b.into(),
                Value::Null | Value::List(_) | Value::Object => Tree::Null,
            });
            Ok::<_, Invalid>(())
        });
        let ends = !scanner.more();
        match (theirs, read) {
            // Doubled keys: theirs has the last.
            (Ok(map), Ok(())) if ends && map.len() != ours.len() => {}
            (Ok(map), Ok(())) if ends => {
                let mut theirs: Vec<Tree> = map.into_iter().map(|(_, v)| if v.is_array() || v.is_object() { Tree::Null } else { v }).collect();
                theirs.sort_by_key(|v| v.as_f64().map_or(v.to_string(), |x| x.to_string()));
                ours.sort_by_key(|v| v.as_f64().map_or(v.to_string(), |x| x.to_string()));
                for (a, b) in theirs.iter().zip(&ours) {
                    prop_assert!(a == b || a.as_f64().is_some() && a.as_f64() == b.as_f64(), "{} {}", a, b);
                }
            }
            (Err(_), Ok(())) if ends => {
                // In what nobody asked for, halves of surrogates and numbers out of range pass.
                let lenient: Result<serde::de::IgnoredAny, _> = serde_json::from_str(utf8);
                prop_assert!(lenient.is_ok(), "taken, but no JSON: {}", utf8);
            }
            (Ok(_), other) => prop_assert!(false, "JSON, but refused ({:?}): {}", other, utf8),
            _ => {}
        }
    }
}
