//! A decoder that took up what another saved reads what that one reads.

use super::properties::elements;
use super::tests::{Datagram, Element, RECEIVED, accounted, decoder, feed_from};
use super::*;
use proptest::prelude::*;

/// Source of a datagram: exporter, version, domain.
type From = (u8, bool, u32);

/// What exporters send.
#[derive(Clone, Debug)]
enum Sent {
    Template(u16, Vec<Element>),
    Options(u32, u32, u64),
    Data(u16, Vec<u8>),
}

fn sent() -> impl Strategy<Value = Vec<(From, Sent)>> {
    let what = prop_oneof![
        4 => (256u16..262, elements()).prop_map(|(id, fields)| Sent::Template(id, fields)),
        2 => (0u32..3, 1u32..5000, 0u64..1_800_000_000_000).prop_map(|(s, rate, init)| Sent::Options(s, rate, init)),
        4 => (256u16..262, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(id, body)| Sent::Data(id, body)),
    ];
    prop::collection::vec(((0u8..4, any::<bool>(), 7u32..10), what), 1..60)
}

fn datagram((_, ipfix, domain): From, sent: &Sent) -> Vec<u8> {
    let mut d = Datagram::new(ipfix);
    d.domain = domain;
    match sent {
        Sent::Template(id, fields) => d.template(*id, fields),
        Sent::Options(sampler, rate, init) => {
            let sampler_field = if *sampler == 0 { (0, 10, 4) } else { (0, 48, 4) };
            let body = [&[0; 4][..], &sampler.to_be_bytes(), &rate.to_be_bytes(), &init.to_be_bytes()].concat();
            d.options_template(300, &[(0, 1, 4), sampler_field, (0, 34, 4), (0, 160, 8)]).set(300, &body)
        }
        Sent::Data(id, body) => d.set(*id, body),
    }
    .encode()
}

fn peer(from: From) -> String {
    if from.0 == 3 { "[2001:db8::1]:50000".into() } else { format!("192.0.2.{}:50000", from.0) }
}

/// Sets do not wait: those that wait are not saved.
fn options(max_templates: usize, max_exporters: usize) -> DecodeOptions {
    DecodeOptions {
        pending_bytes: 0,
        max_templates_per_exporter: max_templates,
        max_exporters,
        template_ttl_secs: 30,
        ..Default::default()
    }
}

proptest! {
    #[test]
    fn a_restored_decoder_decodes_alike(
        sent in sent(), cut in any::<prop::sample::Index>(), max_templates in 1usize..10, max_exporters in 1usize..6,
        extra in any::<bool>(),
    ) {
        let options = options(max_templates, max_exporters);
        let new = || NetflowDecoder::new(&options, extra);
        let (mut whole, mut restored) = (new(), new());
        let cut = cut.index(sent.len() + 1);
        let at = |n: usize| RECEIVED + n as u64 * SECOND;
        for (n, (from, sent)) in sent[..cut].iter().enumerate() {
            feed_from(&mut whole, &peer(*from), at(n), &datagram(*from, sent));
        }
        let saved = whole.save();
        restored.restore(&saved).unwrap();
        prop_assert_eq!(restored.stats().templates, whole.stats().templates);
        prop_assert_eq!(restored.held, whole.held);
        for (n, (from, sent)) in sent.iter().enumerate().skip(cut) {
            // An exporter of which nothing is known is not saved; here it has its place again.
            if whole.exporters.len() != restored.exporters.len() && max_exporters < 4 {
                break;
            }
            let bytes = datagram(*from, sent);
            let expected = feed_from(&mut whole, &peer(*from), at(n), &bytes);
            prop_assert_eq!(feed_from(&mut restored, &peer(*from), at(n), &bytes), expected);
        }
        prop_assert!(accounted(restored.stats()));
    }

    /// Changed and cut bytes are refused or taken, and a decoder that took them goes on within its bounds.
    #[test]
    fn no_bytes_make_it_panic(
        sent in sent(), end in any::<prop::sample::Index>(), cut in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut whole = decoder(options(20, 10));
        for (from, sent) in &sent {
            feed_from(&mut whole, &peer(*from), RECEIVED, &datagram(*from, sent));
        }
        let mut bytes = whole.save();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        let mut other = decoder(options(3, 2));
        if other.restore(&bytes).is_err() {
            prop_assert_eq!((other.exporters.len(), other.held), (0, Held::default()));
        }
        for (from, sent) in &sent {
            feed_from(&mut other, &peer(*from), RECEIVED, &datagram(*from, sent));
            prop_assert!(other.exporters.len() <= 2 && other.held.templates <= 6);
            prop_assert!(accounted(other.stats()));
        }
    }
}

const BYTES: &[Element] = &[(0, 8, 4), (0, 12, 4), (0, 1, 4)];
const PACKETS: &[Element] = &[(0, 8, 4), (0, 12, 4), (0, 2, 4)];

fn record(n: u8) -> Vec<u8> {
    vec![192, 0, 2, 1, 192, 0, 2, 2, 0, 0, 0, n]
}

fn template(d: &mut NetflowDecoder, at_ns: u64, fields: &[Element]) {
    feed_from(d, "192.0.2.1:1", at_ns, &Datagram::new(true).template(300, fields).encode());
}

fn data(d: &mut NetflowDecoder, at_ns: u64) -> Option<(u64, u64)> {
    let out = feed_from(d, "192.0.2.1:1", at_ns, &Datagram::new(true).set(300, &record(9)).encode());
    out.first().map(|r| (r.bytes, r.packets))
}

#[test]
fn what_several_sockets_saved_comes_together_and_the_newer_template_counts() {
    let (mut old, mut new) = (decoder(DecodeOptions::default()), decoder(DecodeOptions::default()));
    template(&mut old, RECEIVED, BYTES);
    template(&mut new, RECEIVED + 1, PACKETS);
    feed_from(&mut old, "192.0.2.2:1", RECEIVED, &Datagram::new(false).template(300, BYTES).encode());
    for order in [[&old, &new], [&new, &old]] {
        let mut d = decoder(DecodeOptions::default());
        order.iter().for_each(|o| d.restore(&o.save()).unwrap());
        assert_eq!((d.stats().exporters, d.stats().templates, d.held.templates), (2, 2, 2));
        assert_eq!(data(&mut d, RECEIVED + 2), Some((0, 9)));
    }
}

#[test]
fn a_template_grows_old_from_when_it_was_learned() {
    let options = DecodeOptions { template_ttl_secs: 10, ..Default::default() };
    let mut d = decoder(options.clone());
    template(&mut d, RECEIVED, BYTES);
    let mut young = decoder(options.clone());
    young.restore(&d.save()).unwrap();
    assert_eq!(data(&mut young, RECEIVED + 10 * SECOND), Some((9, 0)));
    let mut old = decoder(options);
    old.restore(&d.save()).unwrap();
    assert_eq!(data(&mut old, RECEIVED + 11 * SECOND), None);
}

#[test]
fn who_is_no_longer_allowed_stays_out_and_who_said_nothing_is_not_saved() {
    let mut d = decoder(DecodeOptions::default());
    let empty = d.save().len();
    feed_from(&mut d, "192.0.2.1:1", RECEIVED, &Datagram::new(true).set(300, &record(1)).encode());
    assert_eq!(d.save().len(), empty);
    template(&mut d, RECEIVED, BYTES);
    let mut other = decoder(DecodeOptions { allow: vec!["198.51.100.0/24".parse().unwrap()], ..Default::default() });
    other.restore(&d.save()).unwrap();
    assert_eq!(other.stats().exporters, 0);
    assert_eq!(data(&mut other, RECEIVED), None);
    assert_eq!(other.stats().strangers, 1);
    assert_eq!(other.restore(b"{}").unwrap_err(), "not a state of exporters");
    other.restore(&[]).unwrap();
}

/// How long and how large: `cargo test -- --ignored --nocapture how_large_a_decoder`.
#[test]
#[ignore = "measures"]
fn how_large_a_decoder() {
    let mut d = decoder(DecodeOptions::default());
    let fields = [(0, 8, 4); 25];
    for exporter in 0..1000u32 {
        for id in 0..10 {
            let peer = format!("10.0.{}.{}:1", exporter >> 8, exporter & 255);
            feed_from(&mut d, &peer, RECEIVED, &Datagram::new(false).template(300 + id, &fields).encode());
        }
    }
    let began = std::time::Instant::now();
    let saved = d.save();
    let saved_in = began.elapsed();
    let began = std::time::Instant::now();
    decoder(DecodeOptions::default()).restore(&saved).unwrap();
    println!(
        "1000 exporters of 10 templates of 25 fields: {} bytes, saved in {saved_in:?}, restored in {:?}",
        saved.len(),
        began.elapsed()
    );
}
