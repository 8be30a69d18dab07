//! Whatever comes, every byte is accounted for; what comes in another order is decoded alike; the library agrees.

use super::tests::{Datagram, Element, accounted, decoder, feed};
use super::*;
use crate::model::FlowRecord;
use proptest::prelude::*;

/// Elements of every kind of target, with the widths that exporters use.
pub(super) fn elements() -> impl Strategy<Value = Vec<Element>> {
    let element = prop_oneof![
        prop::sample::select(vec![(0u32, 8u16, 4u16), (0, 12, 4), (0, 27, 16), (0, 28, 16), (0, 56, 6), (0, 15, 4)]),
        (prop::sample::select(vec![1u16, 2, 10, 14, 16, 17, 31, 34, 48, 85, 86, 231, 232]), 1u16..=8)
            .prop_map(|(e, len)| (0, e, len)),
        prop::sample::select(vec![(0, 4, 1), (0, 5, 1), (0, 6, 1), (0, 7, 2), (0, 11, 2), (0, 61, 1), (0, 89, 1)]),
        prop::sample::select(vec![(0, 150, 4), (0, 152, 8), (0, 153, 8), (0, 154, 8), (0, 21, 4), (0, 22, 4)]),
        (128u16..500, 1u16..20).prop_map(|(e, len)| (0, e, len)),
    ];
    prop::collection::vec(element, 1..20)
}

/// Elements that the library keeps as they are.
const PLAIN: &[Element] = &[
    (0, 8, 4),
    (0, 12, 4),
    (0, 27, 16),
    (0, 28, 16),
    (0, 7, 2),
    (0, 11, 2),
    (0, 1, 4),
    (0, 1, 8),
    (0, 2, 4),
    (0, 10, 4),
];

/// Per record and field, the bytes that the library found.
fn library_records(packet: &NetflowPacket) -> Vec<Vec<Vec<u8>>> {
    use netflow_parser::variable_versions::{ipfix, v9};
    let bytes = |value: &netflow_parser::FieldValue| {
        let mut bytes = Vec::new();
        value.write_be_bytes(&mut bytes).unwrap();
        bytes
    };
    let mut out = Vec::new();
    match packet {
        NetflowPacket::V9(p) => {
            for set in &p.flowsets {
                if let v9::FlowSetBody::Data(data) = &set.body {
                    out.extend(data.fields.iter().map(|r| r.iter().map(|(_, v)| bytes(v)).collect::<Vec<_>>()));
                }
            }
        }
        NetflowPacket::IPFix(p) => {
            for set in &p.flowsets {
                if let ipfix::FlowSetBody::Data(data) = &set.body {
                    out.extend(data.fields.iter().map(|r| r.iter().map(|(_, v)| bytes(v)).collect::<Vec<_>>()));
                }
            }
        }
        _ => {}
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// What came before its template and what came after it are decoded alike.
    #[test]
    fn waiting_changes_nothing(
        ipfix in any::<bool>(),
        fields in elements(),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let template = Datagram::new(ipfix).template(300, &fields).encode();
        let data = Datagram::new(ipfix).set(300, &bytes).encode();
        let (mut first, mut last) = (decoder(DecodeOptions::default()), decoder(DecodeOptions::default()));
        feed(&mut first, &template);
        let after = feed(&mut first, &data);
        prop_assert_eq!(feed(&mut last, &data).len(), 0);
        prop_assert_eq!(after, feed(&mut last, &template));
        prop_assert!(accounted(first.stats()) && accounted(last.stats()));
    }

    /// The second opinion: `netflow_parser` finds the same records with the same bytes in the same fields.
    #[test]
    fn the_library_agrees(
        ipfix in any::<bool>(),
        fields in prop::collection::vec(prop::sample::select(PLAIN.to_vec()), 1..20),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut parser = NetflowParser::default();
        prop_assert!(parser.parse_bytes(&Datagram::new(ipfix).template(300, &fields).encode()).error.is_none());
        let packets = parser.parse_bytes(&Datagram::new(ipfix).set(300, &bytes).encode()).packets;
        let theirs: Vec<Vec<Vec<u8>>> = packets.iter().flat_map(library_records).collect();
        let len: usize = fields.iter().map(|f| usize::from(f.2)).sum();
        let ours: Vec<Vec<Vec<u8>>> = bytes
            .chunks_exact(len)
            .map(|record| {
                let mut at = 0;
                fields.iter().map(|f| { at += usize::from(f.2); record[at - usize::from(f.2)..at].to_vec() }).collect()
            })
            .collect();
        prop_assert_eq!(&theirs, &ours);
        // And our decoder makes the same flow records of them as of each record alone.
        let mut d = decoder(DecodeOptions::default());
        feed(&mut d, &Datagram::new(ipfix).template(300, &fields).encode());
        let together = feed(&mut d, &Datagram::new(ipfix).set(300, &bytes).encode());
        let alone: Vec<FlowRecord> = theirs
            .iter()
            .flat_map(|record| feed(&mut d, &Datagram::new(ipfix).set(300, &record.concat()).encode()))
            .collect();
        prop_assert_eq!(together.len(), theirs.len());
        prop_assert_eq!(together, alone);
    }

    #[test]
    fn random_bytes_are_accounted_for(
        datagrams in prop::collection::vec((0u8..14, prop::collection::vec(any::<u8>(), 0..300)), 1..8),
    ) {
        let mut d = decoder(DecodeOptions::default());
        for (version, mut bytes) in datagrams {
            if bytes.len() >= 2 {
                bytes[..2].copy_from_slice(&[0, version]);
            }
            feed(&mut d, &bytes);
        }
        prop_assert!(accounted(d.stats()), "{:?}", d.stats());
    }

    /// Valid datagrams with some bytes changed, cut anywhere.
    #[test]
    fn mutated_and_truncated_datagrams_are_accounted_for(
        ipfix in any::<bool>(),
        fields in elements(),
        body in prop::collection::vec(any::<u8>(), 0..200),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        waiting in 0usize..2000,
    ) {
        let whole = Datagram::new(ipfix)
            .set(301, &body)
            .template(300, &fields)
            .options_template(301, &[(0, 1, 4), (0, 48, 2), (0, 305, 4), (0, 306, 4)])
            .set(300, &body)
            .set(301, &body)
            .encode();
        let mut changed = whole.clone();
        for (at, value) in changes {
            let at = at.index(changed.len());
            changed[at] = value;
        }
        changed.truncate(cut.index(changed.len()) + 1);
        let mut d = decoder(DecodeOptions { pending_bytes: waiting, ..Default::default() });
        for datagram in [&changed, &whole, &changed] {
            feed(&mut d, datagram);
            prop_assert!(accounted(d.stats()), "{:?}", d.stats());
        }
        prop_assert!(d.stats().pending_bytes <= waiting as u64);
    }
}
