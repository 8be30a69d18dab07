use super::*;
use crate::decode::stats::RateOrigin;
use crate::model::{FlowRecord, FrameBatch};
use std::net::SocketAddr;

pub(super) const RECEIVED: u64 = 1_700_000_100 * SECOND;
const EXPORTED: u32 = 1_700_000_000;

/// A small encoder: sets of one datagram.
pub(super) struct Datagram {
    ipfix: bool,
    pub(super) domain: u32,
    sequence: u32,
    uptime_ms: u32,
    sets: Vec<u8>,
}

/// An element: enterprise number (0: IANA), number, length.
pub(super) type Element = (u32, u16, u16);

impl Datagram {
    pub(super) fn new(ipfix: bool) -> Self {
        Self { ipfix, domain: 7, sequence: 0, uptime_ms: 1_000_000, sets: Vec::new() }
    }

    pub(super) fn set(mut self, id: u16, body: &[u8]) -> Self {
        self.sets.extend(id.to_be_bytes());
        self.sets.extend((body.len() as u16 + 4).to_be_bytes());
        self.sets.extend(body);
        self
    }

    fn elements(&self, fields: &[Element]) -> Vec<u8> {
        let mut b = Vec::new();
        for (pen, element, len) in fields {
            let enterprise = if *pen == 0 { 0 } else { 0x8000 };
            b.extend((element | enterprise).to_be_bytes());
            b.extend(len.to_be_bytes());
            if *pen != 0 {
                b.extend(pen.to_be_bytes());
            }
        }
        b
    }

    pub(super) fn template(self, id: u16, fields: &[Element]) -> Self {
        let mut body = id.to_be_bytes().to_vec();
        body.extend((fields.len() as u16).to_be_bytes());
        body.extend(self.elements(fields));
        let set_id = if self.ipfix { 2 } else { 0 };
        self.set(set_id, &body)
    }

    /// The first field is the scope.
    pub(super) fn options_template(self, id: u16, fields: &[Element]) -> Self {
        let mut body = id.to_be_bytes().to_vec();
        let (a, b) = if self.ipfix { (fields.len(), 1) } else { (4, (fields.len() - 1) * 4) };
        body.extend((a as u16).to_be_bytes());
        body.extend((b as u16).to_be_bytes());
        body.extend(self.elements(fields));
        let set_id = if self.ipfix { 3 } else { 1 };
        self.set(set_id, &body)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut b = Vec::new();
        if self.ipfix {
            b.extend(10u16.to_be_bytes());
            b.extend((self.sets.len() as u16 + 16).to_be_bytes());
            b.extend(EXPORTED.to_be_bytes());
            b.extend(self.sequence.to_be_bytes());
        } else {
            b.extend(9u16.to_be_bytes());
            b.extend(1u16.to_be_bytes());
            b.extend(self.uptime_ms.to_be_bytes());
            b.extend(EXPORTED.to_be_bytes());
            b.extend(self.sequence.to_be_bytes());
        }
        b.extend(self.domain.to_be_bytes());
        b.extend(&self.sets);
        b
    }
}

fn v5(count: u16, sampling: u16, sequence: u32, records: &[[u8; 48]]) -> Vec<u8> {
    let mut b = 5u16.to_be_bytes().to_vec();
    b.extend(count.to_be_bytes());
    b.extend(1_000_000u32.to_be_bytes());
    b.extend(EXPORTED.to_be_bytes());
    b.extend(0u32.to_be_bytes());
    b.extend(sequence.to_be_bytes());
    b.extend([1, 2]);
    b.extend(sampling.to_be_bytes());
    b.extend(records.concat());
    b
}

pub(super) fn decoder(options: DecodeOptions) -> NetflowDecoder {
    NetflowDecoder::new(&options, true)
}

pub(super) fn feed_from(d: &mut NetflowDecoder, peer: &str, at_ns: u64, datagram: &[u8]) -> Vec<FlowRecord> {
    let mut batch = FrameBatch::default();
    batch.push(datagram, peer.parse::<SocketAddr>().unwrap(), at_ns);
    let mut out = Vec::new();
    d.decode(&batch, &mut out);
    out
}

pub(super) fn feed(d: &mut NetflowDecoder, datagram: &[u8]) -> Vec<FlowRecord> {
    feed_from(d, "192.0.2.1:50000", RECEIVED, datagram)
}

/// Every byte is somewhere.
pub(super) fn accounted(s: &DecodeStats) -> bool {
    s.framing_bytes + s.decoded_bytes + s.padding_bytes + s.undecoded_total() + s.pending_bytes == s.bytes
}

const FIVE: &[Element] = &[(0, 8, 4), (0, 12, 4), (0, 7, 2), (0, 11, 2), (0, 4, 1), (0, 1, 4), (0, 2, 4)];

fn five(bytes: u32) -> Vec<u8> {
    let mut b = vec![192, 0, 2, 10, 198, 51, 100, 20, 0, 53, 0x30, 0x39, 17];
    b.extend(bytes.to_be_bytes());
    b.extend(3u32.to_be_bytes());
    b
}

#[test]
fn v9_times_and_padding() {
    let fields = [FIVE, &[(0, 22, 4), (0, 21, 4)]].concat();
    let mut record = five(100);
    record.extend(999_000u32.to_be_bytes());
    record.extend(1_000_500u32.to_be_bytes());
    record.extend([0; 3]); // padding
    let mut d = decoder(DecodeOptions::default());
    let out = feed(&mut d, &Datagram::new(false).template(300, &fields).set(300, &record).encode());
    assert_eq!(out.len(), 1);
    let r = &out[0];
    assert_eq!((r.bytes, r.packets, r.src_port, r.dst_port, r.proto), (100, 3, 53, 12345, 17));
    assert_eq!(r.time_flow_start_ns, (u64::from(EXPORTED) - 1) * SECOND);
    assert_eq!(r.time_flow_end_ns, u64::from(EXPORTED) * SECOND + SECOND / 2, "a little after the header's time");
    assert_eq!((r.flow_type, r.observation_domain_id, r.time_received_ns), (FlowType::NetflowV9, 7, RECEIVED));
    assert_eq!(d.stats().padding_bytes, 3);
    assert!(accounted(d.stats()));
}

#[test]
fn data_waits_for_its_template() {
    for ipfix in [false, true] {
        let mut d = decoder(DecodeOptions::default());
        let data = Datagram::new(ipfix).set(300, &five(1)).encode();
        assert_eq!(feed(&mut d, &data).len(), 0);
        assert_eq!((d.stats().missing_template, d.stats().pending_buffered), (1, 1));
        assert!(accounted(d.stats()));
        let out = feed_from(&mut d, "192.0.2.1:1", RECEIVED + 9, &Datagram::new(ipfix).template(300, FIVE).encode());
        assert_eq!(out.len(), 1, "another source port is the same exporter");
        assert_eq!(out[0].time_received_ns, RECEIVED, "the time when the data came");
        assert_eq!((d.stats().pending_replayed, d.stats().pending_bytes), (1, 0));
        assert!(accounted(d.stats()));
        let other = feed_from(&mut d, "192.0.2.2:50000", RECEIVED, &data);
        assert_eq!(other.len(), 0, "another exporter's template");
    }
}

#[test]
fn waiting_data_is_bounded() {
    let mut d = decoder(DecodeOptions { pending_bytes: 1000, ..Default::default() });
    for n in 0..100 {
        feed(&mut d, &Datagram::new(true).set(300, &five(n)).encode());
    }
    let s = d.stats();
    assert!(s.pending_bytes <= 1000 && s.pending_expired > 90);
    assert_eq!(s.undecoded_bytes[Refusal::MissingTemplate as usize], s.pending_expired * 21);
    assert!(accounted(s));
    let out = feed(&mut d, &Datagram::new(true).template(300, FIVE).encode());
    assert_eq!(out.last().unwrap().bytes, 99, "the newest are kept");
}

/// What the frame itself is refused for.
fn own(d: &mut NetflowDecoder, bytes: &[u8]) -> Vec<Refusal> {
    let before = d.stats().own_errors();
    feed(d, bytes);
    d.stats().reasons_since(&before)
}

#[test]
fn a_datagram_is_not_blamed_for_what_waited() {
    let mut d = decoder(DecodeOptions { pending_bytes: 600, ..Default::default() });
    // Two fit; the third gives up the first.
    for n in 0..3 {
        assert_eq!(own(&mut d, &Datagram::new(true).set(300, &five(n)).encode()), []);
    }
    assert_eq!(d.stats().errors[Refusal::MissingTemplate as usize], 1);
    // No whole number of records.
    let torn = [&five(9)[..], &[1; 9]].concat();
    let mut d = decoder(DecodeOptions::default());
    assert_eq!(own(&mut d, &Datagram::new(true).set(300, &torn).encode()), []);
    assert_eq!(own(&mut d, &Datagram::new(true).template(300, FIVE).encode()), [], "it was the other one");
    assert_eq!(d.stats().errors[Refusal::TruncatedRecord as usize], 1);
    let both = Datagram::new(true).set(301, &torn).template(301, FIVE).encode();
    assert_eq!(own(&mut d, &both), [Refusal::TruncatedRecord]);
    let mut never = decoder(DecodeOptions { pending_bytes: 0, ..Default::default() });
    assert_eq!(own(&mut never, &Datagram::new(true).set(300, &five(1)).encode()), [Refusal::MissingTemplate]);
}

#[test]
fn a_template_takes_its_own_sets_and_leaves_the_others() {
    let mut d = decoder(DecodeOptions { pending_bytes: 1500, ..Default::default() });
    for n in 0..4 {
        feed(&mut d, &Datagram::new(true).set(300 + n % 2, &five(u32::from(n))).encode());
    }
    let learned = |d: &mut NetflowDecoder, id| {
        let out = feed(d, &Datagram::new(true).template(id, FIVE).encode());
        out.iter().map(|r| r.bytes).collect::<Vec<_>>()
    };
    assert_eq!(learned(&mut d, 301), [1, 3]);
    // The two of 300 are still there, and the oldest of them goes first.
    for n in 10..14 {
        feed(&mut d, &Datagram::new(true).set(302, &five(n)).encode());
    }
    assert_eq!(d.stats().pending_expired, 1);
    assert_eq!(learned(&mut d, 300), [2]);
    assert_eq!(learned(&mut d, 302), [10, 11, 12, 13]);
    assert_eq!(d.stats().pending_bytes, 0);
    assert!(accounted(d.stats()));
}

#[test]
fn empty_variable_fields_lose_nothing() {
    // netflow_parser 1.0.6 gives no record of such a set.
    let fields = [FIVE, &[(0, 82, 65535)]].concat();
    let mut body = Vec::new();
    for (n, name) in [(1, &b""[..]), (2, b"eth0"), (3, b"")] {
        body.extend(five(n));
        body.push(name.len() as u8);
        body.extend(name);
    }
    let mut d = decoder(DecodeOptions::default());
    let out = feed(&mut d, &Datagram::new(true).template(300, &fields).set(300, &body).encode());
    assert_eq!(out.iter().map(|r| r.bytes).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(accounted(d.stats()));
}

#[test]
fn variable_fields_in_v9() {
    let fields = [FIVE, &[(0, 82, 65535)]].concat();
    let body = [&five(5)[..], &[3], b"abc", &five(6)[..], &[0]].concat();
    let mut d = decoder(DecodeOptions::default());
    let out = feed(&mut d, &Datagram::new(false).template(300, &fields).set(300, &body).encode());
    assert_eq!(out.iter().map(|r| r.bytes).collect::<Vec<_>>(), [5, 6]);
}

#[test]
fn a_bad_set_does_not_take_the_others_with_it() {
    // A template of a set id below 256, which makes the library give up the datagram.
    let bad = [0u8, 9, 0, 1, 0, 1, 0, 4];
    let datagram = Datagram::new(false).template(300, FIVE).set(0, &bad).set(300, &five(8)).encode();
    let mut d = decoder(DecodeOptions::default());
    assert_eq!(feed(&mut d, &datagram).len(), 1);
    assert_eq!(d.stats().errors[Refusal::BadTemplate as usize], 1);
    assert!(accounted(d.stats()));
}

#[test]
fn biflow_makes_two_records() {
    let reverse = 29305;
    let fields =
        [FIVE, &[(0, 10, 4), (0, 14, 4), (0, 6, 1), (reverse, 1, 8), (reverse, 2, 8), (reverse, 6, 1)]].concat();
    let with = |bytes: u64, packets: u64| {
        let mut b = five(100);
        b.extend(11u32.to_be_bytes());
        b.extend(12u32.to_be_bytes());
        b.push(2);
        b.extend(bytes.to_be_bytes());
        b.extend(packets.to_be_bytes());
        b.push(0x12);
        b
    };
    let mut d = decoder(DecodeOptions::default());
    let body = [with(999, 9), with(0, 0)].concat();
    let out = feed(&mut d, &Datagram::new(true).template(300, &fields).set(300, &body).encode());
    assert_eq!(out.len(), 3, "a flow that nobody answered is one record");
    let r = &out[1];
    assert_eq!((r.src_addr.to_string(), r.dst_addr.to_string()), ("198.51.100.20".into(), "192.0.2.10".into()));
    assert_eq!((r.src_port, r.dst_port, r.in_if, r.out_if), (12345, 53, 12, 11));
    assert_eq!((r.bytes, r.packets, r.tcp_flags), (999, 9, 0x12));
    assert!(r.extra.as_ref().unwrap().biflow_reverse && !out[2].extra.as_ref().unwrap().biflow_reverse);
    assert_eq!((out[0].bytes, out[0].tcp_flags), (100, 2));
}

#[test]
fn the_family_that_is_not_zero_counts() {
    let fields = [(0, 27, 16), (0, 28, 16), (0, 8, 4), (0, 12, 4), (0, 9, 1), (0, 29, 1)];
    let v6 = [&[0x20; 16][..], &[0x30; 16], &[0; 8], &[0, 64]].concat();
    let v4 = [&[0; 32][..], &[192, 0, 2, 1, 192, 0, 2, 2, 24, 0]].concat();
    let tunnel = [&[0x20; 16][..], &[0x30; 16], &[192, 0, 2, 1, 192, 0, 2, 2, 24, 64]].concat();
    let from_zero = [&[0; 16][..], &[0x30; 16], &[0; 10]].concat();
    let mut d = decoder(DecodeOptions::default());
    let body = [v6, v4, tunnel, from_zero].concat();
    let out = feed(&mut d, &Datagram::new(true).template(300, &fields).set(300, &body).encode());
    assert_eq!((out[0].src_addr.0, out[0].src_net), ([0x20; 16], 64));
    assert_eq!((out[1].src_addr.to_string(), out[1].src_net), ("192.0.2.1".into(), 24));
    assert_eq!((out[2].src_addr.to_string(), out[2].src_net), ("192.0.2.1".into(), 24), "the inner header comes last");
    assert_eq!((out[3].src_addr.to_string(), out[3].dst_addr.0), ("::".into(), [0x30; 16]));
}

#[test]
fn sampling_rates() {
    for ipfix in [false, true] {
        let mut d = decoder(DecodeOptions::default());
        let fields = [FIVE, &[(0, 48, 2)]].concat();
        let data = |sampler: u16| [&five(1)[..], &sampler.to_be_bytes()].concat();
        let datagram = Datagram::new(ipfix).template(300, &fields).set(300, &data(4)).encode();
        assert_eq!(feed(&mut d, &datagram)[0].sampling_rate, 0);
        assert_eq!(d.stats().sampling_unknown(), 1);
        // Scope: system (v9 type 1) or exporting process (IPFIX 144).
        let scope = if ipfix { 144 } else { 1 };
        let options = Datagram::new(ipfix)
            .options_template(400, &[(0, scope, 4), (0, 48, 2), (0, 50, 4)])
            .set(400, &[0, 0, 0, 1, 0, 4, 0, 0, 0x10, 0])
            .encode();
        assert_eq!(feed(&mut d, &options).len(), 0);
        assert_eq!(d.stats().options_records, 1);
        let out = feed(&mut d, &Datagram::new(ipfix).set(300, &[data(4), data(5)].concat()).encode());
        assert_eq!([out[0].sampling_rate, out[1].sampling_rate], [4096, 0]);
        assert_eq!(d.stats().sampling[RateOrigin::Sampler as usize], 1);
        assert!(accounted(d.stats()));
    }
    let mut d = decoder(DecodeOptions { sampling_rate: Some(50), ..Default::default() });
    assert_eq!(feed(&mut d, &v5(1, 0x4000 | 100, 0, &[[0; 48]]))[0].sampling_rate, 100, "14 bits");
    assert_eq!(feed(&mut d, &v5(1, 0, 1, &[[0; 48]]))[0].sampling_rate, 50);
}

#[test]
fn v5_and_v7_records() {
    let mut record = [0u8; 48];
    record[..12].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 10, 0, 0, 3]);
    record[12..16].copy_from_slice(&[0, 4, 0, 5]);
    record[16..24].copy_from_slice(&[0, 0, 0, 6, 0, 0, 1, 0]);
    record[24..32].copy_from_slice(&[0, 0x0f, 0x3e, 0x58, 0, 0x0f, 0x42, 0x40]); // 999 000, 1 000 000
    record[32..40].copy_from_slice(&[0, 80, 1, 0, 0, 0x12, 6, 4]);
    record[40..46].copy_from_slice(&[0xfd, 0xe8, 0xfd, 0xe9, 24, 16]);
    let mut d = decoder(DecodeOptions::default());
    let out = feed(&mut d, &v5(2, 0, 0, &[record, record]));
    let r = &out[1];
    assert_eq!((r.in_if, r.out_if, r.packets, r.bytes, r.src_port, r.dst_port), (4, 5, 6, 256, 80, 256));
    assert_eq!((r.tcp_flags, r.proto, r.ip_tos, r.src_as, r.dst_as), (0x12, 6, 4, 65000, 65001));
    assert_eq!((r.src_net, r.dst_net, r.next_hop.to_string().as_str()), (24, 16, "10.0.0.3"));
    assert_eq!(r.time_flow_end_ns, u64::from(EXPORTED) * SECOND);
    assert_eq!(r.time_flow_start_ns, (u64::from(EXPORTED) - 1) * SECOND);
    assert_eq!(r.observation_domain_id, 0x0102);

    let mut v7 = v5(1, 0, 0, &[record]);
    v7[1] = 7;
    v7.extend([0; 4]); // router_src
    let out = feed(&mut d, &v7);
    assert_eq!((out[0].flow_type, out[0].dst_port, out[0].src_net), (FlowType::NetflowV7, 256, 24));
    assert_eq!(feed(&mut d, &v5(3, 0, 9, &[record])).len(), 0, "says 3, holds 1");
    assert_eq!(d.stats().errors[Refusal::BadCount as usize], 1);
    assert!(accounted(d.stats()));
}

#[test]
fn sequence_gaps() {
    let mut d = decoder(DecodeOptions::default());
    let mut send = |ipfix, sequence, template: bool| {
        let mut datagram = Datagram::new(ipfix);
        datagram.sequence = sequence;
        if template {
            datagram = datagram.template(300, FIVE);
        }
        feed(&mut d, &datagram.set(300, &[five(1), five(2)].concat()).encode());
    };
    send(true, 0, true);
    send(true, 2, false);
    send(true, 14, false);
    send(false, 0, true);
    send(false, 1, false);
    send(false, 4, false);
    assert_eq!(d.stats().sequence_gap[FlowType::Ipfix as usize], 10, "records");
    assert_eq!(d.stats().sequence_gap[FlowType::NetflowV9 as usize], 2, "datagrams");
    feed(&mut d, &v5(1, 0, 100, &[[0; 48]]));
    feed(&mut d, &v5(1, 0, 111, &[[0; 48]]));
    assert_eq!(d.stats().sequence_gap[FlowType::NetflowV5 as usize], 10, "flows");
}

#[test]
fn strangers_get_no_state() {
    let allow = vec!["192.0.2.0/24".parse().unwrap()];
    let mut d = decoder(DecodeOptions { allow, ..Default::default() });
    let datagram = Datagram::new(true).template(300, FIVE).set(300, &five(1)).encode();
    assert_eq!(feed_from(&mut d, "203.0.113.1:50000", RECEIVED, &datagram).len(), 0);
    assert_eq!((d.stats().strangers, d.stats().exporters, d.stats().templates), (1, 0, 0));
    assert_eq!(feed(&mut d, &datagram).len(), 1);
    assert_eq!((d.stats().strangers, d.stats().exporters, d.stats().templates), (1, 1, 1));
}

#[test]
fn a_stranger_is_not_even_parsed() {
    let options = DecodeOptions { allow: vec!["198.51.100.0/24".parse().unwrap()], ..Default::default() };
    let mut d = decoder(options);
    for datagram in [&[][..], &[0, 5, 0, 99], &[0, 10], &[7; 40]] {
        feed(&mut d, datagram);
    }
    assert_eq!((d.stats().strangers, d.stats().errors_total()), (4, 0));
}

#[test]
fn an_ipfix_message_cut_between_two_sets_is_counted() {
    let mut whole = Datagram::new(true).template(300, FIVE).encode();
    let mut d = decoder(DecodeOptions::default());
    feed(&mut d, &whole);
    assert_eq!(d.stats().errors_total(), 0);
    whole[2..4].copy_from_slice(&u16::MAX.to_be_bytes());
    feed(&mut d, &whole);
    assert_eq!(d.stats().errors[Refusal::BadLength as usize], 1);
    assert!(accounted(d.stats()));
}

#[test]
fn exporters_and_templates_are_bounded() {
    let options = DecodeOptions { max_exporters: 2, max_templates_per_exporter: 3, ..Default::default() };
    let mut d = decoder(options);
    let datagram = Datagram::new(true).template(300, FIVE).set(300, &five(1)).encode();
    for n in 0..4 {
        let peer = format!("192.0.2.{n}:1");
        let expected = usize::from(n < 2);
        assert_eq!(feed_from(&mut d, &peer, RECEIVED, &datagram).len(), expected);
    }
    assert_eq!((d.stats().exporters, d.stats().errors[Refusal::ExporterLimit as usize]), (2, 2));
    let later = RECEIVED + 61 * SECOND;
    assert_eq!(feed_from(&mut d, "192.0.2.1:1", later, &datagram).len(), 1);
    assert_eq!(feed_from(&mut d, "192.0.2.9:1", later, &datagram).len(), 1, "in the place of the silent one");
    assert_eq!((d.stats().exporters, d.stats().templates), (2, 2));
    for id in 301..310 {
        feed_from(&mut d, "192.0.2.9:1", later, &Datagram::new(true).template(id, FIVE).encode());
    }
    assert_eq!(d.stats().templates, 1 + 3);
    let withdrawn = Datagram::new(true).set(2, &[0, 2, 0, 0]).encode();
    feed_from(&mut d, "192.0.2.9:1", later, &withdrawn);
    assert_eq!(d.stats().templates, 1);
}

#[test]
fn a_flood_of_large_templates_is_bounded() {
    let mut d = decoder(DecodeOptions::default());
    let fields = [(0, 8, 4); 1024];
    let large = |id| Datagram::new(false).template(id, &fields).encode();
    for exporter in 0..5 {
        for id in 0..1024 {
            let at = RECEIVED + exporter * SECOND;
            feed_from(&mut d, &format!("192.0.2.{exporter}:1"), at, &large(300 + id));
        }
        assert!(d.held.fields <= exporters::MAX_FIELDS, "{:?}", d.held);
    }
    assert_eq!(d.stats().errors[Refusal::TemplateLimit as usize], 1024, "the fifth has no room and takes nobody's");
    assert_eq!(d.stats().templates, d.held.templates as u64);
    let datagram = Datagram::new(false).template(300, FIVE).set(300, &five(1)).encode();
    assert_eq!(feed_from(&mut d, "192.0.2.1:1", RECEIVED, &datagram).len(), 1, "in the place of its own");
    let later = RECEIVED + 70 * SECOND;
    assert_eq!(feed_from(&mut d, "192.0.2.9:1", later, &datagram).len(), 1, "a silent exporter gave way");
    assert!(d.held.fields < exporters::MAX_FIELDS - 1000 * 1024, "{:?}", d.held);
    assert!(accounted(d.stats()));
}

#[test]
fn old_templates_are_forgotten() {
    let mut d = decoder(DecodeOptions { template_ttl_secs: 10, ..Default::default() });
    feed(&mut d, &Datagram::new(true).template(300, FIVE).encode());
    let data = Datagram::new(true).set(300, &five(1)).encode();
    assert_eq!(feed_from(&mut d, "192.0.2.1:1", RECEIVED + 10 * SECOND, &data).len(), 1);
    assert_eq!(feed_from(&mut d, "192.0.2.1:1", RECEIVED + 11 * SECOND, &data).len(), 0);
    assert_eq!((d.stats().templates, d.stats().missing_template), (0, 1));
}

#[test]
fn a_template_sent_anew_with_other_fields_counts() {
    let mut d = decoder(DecodeOptions::default());
    feed(&mut d, &Datagram::new(false).template(300, FIVE).encode());
    // The library rejects this one (a variable field in v9) and keeps the old: its records must not be taken.
    let fields = [&[(0, 1, 4), (0, 2, 4)], FIVE, &[(0, 82, 65535)]].concat();
    feed(&mut d, &Datagram::new(false).template(300, &fields).encode());
    let body = [&[0, 0, 0, 9, 0, 0, 0, 9][..], &five(77), &[0]].concat();
    let out = feed(&mut d, &Datagram::new(false).set(300, &body).encode());
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].bytes, out[0].src_port), (77, 53));
}
