use super::*;
use crate::decode::tests_support::record;
use crate::decode::wire::encode;
use crate::model::FrameBatch;
use crate::model::frames::NO_PEER;
use proptest::prelude::*;

/// As GoFlow2 marshals it: in the order of the numbers, zeros left out; with fields that we have no column for.
fn message(r: &FlowRecord) -> Vec<u8> {
    let mut out = Vec::new();
    let address = |a: Addr| if a.is_v4() { a.0[12..].to_vec() } else { a.0.to_vec() };
    encode::number(1, r.flow_type as u64, &mut out);
    encode::number(3, r.sampling_rate, &mut out);
    encode::number(4, 4711, &mut out);
    encode::bytes(6, &address(r.src_addr), &mut out);
    encode::bytes(7, &address(r.dst_addr), &mut out);
    encode::number(9, r.bytes, &mut out);
    encode::number(10, r.packets, &mut out);
    encode::bytes(11, &address(r.sampler_address), &mut out);
    encode::bytes(12, &address(r.next_hop), &mut out);
    for (field, n) in [
        (14, r.src_as),
        (15, r.dst_as),
        (16, r.src_net.into()),
        (17, r.dst_net.into()),
        (18, r.in_if),
        (19, r.out_if),
        (20, r.proto.into()),
        (21, r.src_port.into()),
        (22, r.dst_port.into()),
        (23, r.ip_tos.into()),
        (26, r.tcp_flags.into()),
    ] {
        encode::number(field, n.into(), &mut out);
    }
    encode::number(27, 0x0001_02ab_0405, &mut out);
    encode::number(29, r.vlan_id.into(), &mut out);
    encode::number(30, 0x0800, &mut out);
    encode::number(70, r.observation_domain_id.into(), &mut out);
    encode::bytes(81, &[1, 2, 3], &mut out);
    encode::bytes(102, &[0xf4, 0xf7, 3], &mut out);
    encode::number(110, r.time_received_ns, &mut out);
    encode::number(111, r.time_flow_start_ns, &mut out);
    encode::number(112, r.time_flow_end_ns, &mut out);
    encode::bytes(1000, b"own", &mut out);
    out
}

fn prefixed(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    messages.iter().for_each(|m| encode::delimited(m, &mut out));
    out
}

fn feed(d: &mut Goflow2Decoder, bytes: &[u8]) -> Vec<FlowRecord> {
    let (mut batch, mut out) = (FrameBatch::default(), Vec::new());
    batch.push(bytes, NO_PEER, 7);
    d.decode(&batch, &mut out);
    let s = d.stats();
    assert_eq!(s.framing_bytes + s.decoded_bytes + s.undecoded_total(), s.bytes);
    out
}

fn decoder() -> Goflow2Decoder {
    Goflow2Decoder::new(&DecodeOptions::default(), false)
}

fn sample() -> FlowRecord {
    FlowRecord {
        flow_type: FlowType::Ipfix,
        src_addr: "192.0.2.1".parse().unwrap(),
        dst_addr: "2001:db8::1".parse().unwrap(),
        time_received_ns: 5,
        sampling_rate: 1000,
        bytes: 1500,
        packets: 1,
        proto: 17,
        ..FlowRecord::default()
    }
}

/// One IPv4 flow, written by hand from the schema, with its length before it.
#[test]
fn bytes_by_hand() {
    let bytes: &[u8] = &[
        48, // length
        0x08, 3, // type NETFLOW_V9
        0x18, 0xe8, 0x07, // sampling_rate 1000
        0x32, 4, 192, 0, 2, 1, // src_addr
        0x3a, 4, 198, 51, 100, 7, // dst_addr
        0x48, 0xdc, 0x0b, // bytes 1500
        0x50, 1, // packets
        0x5a, 4, 192, 0, 2, 9, // sampler_address
        0xa0, 1, 6, // proto
        0xa8, 1, 0xbb, 3, // src_port 443
        0xd0, 1, 0x12, // tcp_flags
        0x88, 2, 7, // src_vlan
        0xf2, 1, 0, // field 30 as bytes: not ours, skipped
        0xf0, 6, 5, // time_received_ns
        0x3d,
    ];
    // The last byte belongs to no field.
    let mut d = decoder();
    assert_eq!(feed(&mut d, bytes).len(), 0);
    assert_eq!(d.stats().errors[Refusal::BadMessage as usize], 1);
    let mut whole = bytes[..bytes.len() - 1].to_vec();
    whole[0] = (whole.len() - 1) as u8;
    for bytes in [&whole[..], &whole[1..]] {
        let r = &feed(&mut d, bytes)[0];
        assert_eq!((r.flow_type, r.sampling_rate, r.bytes, r.packets), (FlowType::NetflowV9, 1000, 1500, 1));
        assert_eq!((r.src_addr.to_string(), r.dst_addr.to_string()), ("192.0.2.1".into(), "198.51.100.7".into()));
        assert_eq!((r.proto, r.src_port, r.tcp_flags, r.vlan_id, r.time_received_ns), (6, 443, 0x12, 7, 5));
    }
}

#[test]
fn with_a_length_without_and_several() {
    let (mut d, one) = (decoder(), message(&sample()));
    assert_eq!(feed(&mut d, &one), [sample()]);
    assert_eq!(feed(&mut d, &prefixed(std::slice::from_ref(&one))), [sample()]);
    let three = prefixed(&[one.clone(), one.clone(), one.clone()]);
    assert_eq!(feed(&mut d, &three).len(), 3);
    assert_eq!(d.stats().refusals, 0);
    // One without an address among others, wherever it stands, costs only itself.
    let mut arp = Vec::new();
    encode::number(1, 4, &mut arp);
    encode::number(9, 64, &mut arp);
    for messages in [[arp.clone(), one.clone()], [one.clone(), arp.clone()]] {
        assert_eq!(feed(&mut d, &prefixed(&messages)).len(), 1);
    }
    assert_eq!(d.stats().errors[Refusal::NoAddress as usize], 2);
    assert_eq!(d.stats().first_error.as_deref(), Some("message 6: neither a source nor a destination address"));
    // Cut.
    assert_eq!(feed(&mut d, &three[..three.len() - 1]).len(), 0);
    assert_eq!(d.stats().errors[Refusal::BadMessage as usize], 1);
}

/// A message without a type whose first tag, that of `src_addr`, is by chance the length of the rest.
#[test]
fn a_tag_that_could_be_a_length() {
    let mut plain = Vec::new();
    encode::bytes(6, &[192, 0, 2, 1], &mut plain);
    encode::bytes(7, &[198, 51, 100, 7], &mut plain);
    while plain.len() < 51 {
        encode::number(9, 1, &mut plain);
        if plain.len() == 50 {
            plain.truncate(48);
            encode::number(9, 1 << 8, &mut plain);
        }
    }
    assert_eq!(usize::from(plain[0]), plain.len() - 1);
    let out = feed(&mut decoder(), &plain);
    assert_eq!(out[0].src_addr.to_string(), "192.0.2.1");
}

#[test]
fn values_that_do_not_fit() {
    let mut d = decoder();
    for (field, n) in [(20, 256), (21, 65_536), (14, 1 << 32), (16, 256)] {
        let mut bytes = message(&sample());
        encode::number(field, n, &mut bytes);
        assert_eq!(feed(&mut d, &bytes).len(), 0);
    }
    let mut bytes = message(&sample());
    encode::bytes(7, &[1, 2, 3], &mut bytes);
    assert_eq!(feed(&mut d, &bytes).len(), 0);
    assert_eq!(d.stats().errors[Refusal::BadField as usize], 5);
    // A field of ours in another wire type belongs to another message.
    let mut bytes = message(&sample());
    encode::bytes(9, &[1], &mut bytes);
    assert_eq!(feed(&mut d, &bytes).len(), 0);
    assert_eq!(d.stats().errors[Refusal::BadMessage as usize], 1);
}

#[test]
fn what_only_a_person_asks_for() {
    let mut d = Goflow2Decoder::new(&DecodeOptions::default(), true);
    let x = feed(&mut d, &message(&sample()))[0].extra.clone().unwrap();
    assert_eq!((x.src_mac, x.etype), (Some([0, 1, 2, 0xab, 4, 5]), Some(0x0800)));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(records in prop::collection::vec(record(), 1..4)) {
        let mut d = decoder();
        let messages: Vec<_> = records.iter().map(message).collect();
        prop_assert_eq!(feed(&mut d, &messages[0]), &records[..1]);
        prop_assert_eq!(feed(&mut d, &prefixed(&messages)), records);
        prop_assert_eq!(d.stats().refusals, 0);
    }

    #[test]
    fn whatever_comes_is_counted(
        r in record(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..80),
        extra in any::<bool>(),
    ) {
        let mut d = Goflow2Decoder::new(&DecodeOptions::default(), extra);
        let mut changed = prefixed(&[message(&r), message(&r)]);
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        for bytes in [&changed[..], &changed[..cut.index(changed.len())], &noise, &[]] {
            let before = d.stats().refusals;
            let out = feed(&mut d, bytes);
            prop_assert!(out.len() as u64 + d.stats().refusals > before);
            prop_assert_eq!(d.stats().refusals, d.stats().errors_total());
        }
    }
}
