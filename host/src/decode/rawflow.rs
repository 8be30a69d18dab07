//! Akvorado's `RawFlow`: a datagram as it came from an exporter, in protobuf with its origin. Comes in: messages, with and
//! without a length before them; goes out: what `NetflowDecoder` makes of their payloads. The exporter is the message's
//! source address when it says so (`use_source_address`) or the frame has no peer; else the peer. The receive time is the
//! message's own, else the frame's; `timestamp_source` is not followed, because the pipeline's `event_time` says which
//! time counts. Decapsulation and rate limits are Akvorado's own business and ignored. Refuses what is no RawFlow
//! (`bad_message`), source addresses of another length than 4 or 16 (`bad_field`) and payloads for other decoders than
//! NetFlow's: sFlow, gob (`unsupported_decoder`).

use super::foreign::Bad;
use super::netflow::NetflowDecoder;
use super::stats::{DecodeStats, Refusal};
use super::wire::{self, Wire};
use super::{Decoder, foreign};
use crate::config::decode_options::DecodeOptions;
use crate::model::time::{MILLISECOND, SECOND};
use crate::model::{FlowSink, Frame};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const BROKEN: Bad = Bad { why: Refusal::BadMessage, what: "not a RawFlow in protobuf, or broken off" };
const ADDRESS: Bad = Bad { why: Refusal::BadField, what: "source_address is neither 4 nor 16 bytes long" };
const DECODER: Bad =
    Bad { why: Refusal::UnsupportedDecoder, what: "the payload is for another decoder than NetFlow's" };

/// Decoder of `RawFlow`s.
pub struct RawflowDecoder {
    netflow: NetflowDecoder,
    number: u64,
}

/// What we take of a message.
#[derive(Default)]
struct RawFlow<'a> {
    time_received: u64,
    payload: &'a [u8],
    source_address: &'a [u8],
    use_source_address: bool,
    decoder: u64,
}

impl RawflowDecoder {
    /// A decoder without any state. `want_extra`: fill `FlowRecord::extra` too.
    pub fn new(options: &DecodeOptions, want_extra: bool) -> Self {
        Self { netflow: NetflowDecoder::new(options, want_extra), number: 0 }
    }

    fn message(&mut self, message: &RawFlow<'_>, taken: usize, frame: &Frame, out: &mut dyn FlowSink) {
        let inner = match origin(message, frame) {
            Ok(inner) => inner,
            Err(bad) => return self.refuse(bad, taken),
        };
        let wrapping = (taken - message.payload.len()) as u64;
        let stats = self.netflow.stats_mut();
        stats.bytes += wrapping;
        stats.framing_bytes += wrapping;
        self.netflow.frame(message.payload, &inner, out);
    }

    fn refuse(&mut self, bad: Bad, bytes: usize) {
        let number = self.number;
        let stats = self.netflow.stats_mut();
        stats.datagrams += 1;
        stats.bytes += bytes as u64;
        stats.refuse(bad.why, bytes);
        stats.first_error.get_or_insert_with(|| format!("message {number}: {}", bad.what));
    }
}

impl Decoder for RawflowDecoder {
    fn frame(&mut self, bytes: &[u8], frame: &Frame, out: &mut dyn FlowSink) {
        self.number += 1;
        // As in `Goflow2Decoder`: the first message tells which of the two ways of framing it is.
        if let Some(mut messages) = wire::delimited(bytes)
            && let Some((first, taken)) = messages.next()
            && let Ok(read) = parse(first)
        {
            self.message(&read, taken, frame, out);
            for (message, taken) in messages {
                self.number += 1;
                match parse(message) {
                    Ok(read) => self.message(&read, taken, frame, out),
                    Err(bad) => self.refuse(bad, taken),
                }
            }
            return;
        }
        match parse(bytes) {
            Ok(read) => self.message(&read, bytes.len(), frame, out),
            Err(bad) => self.refuse(bad, bytes.len()),
        }
    }

    fn stats(&self) -> &DecodeStats {
        self.netflow.stats()
    }

    fn save(&self) -> Vec<u8> {
        self.netflow.save()
    }

    fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        self.netflow.restore(saved)
    }
}

/// Fields in another wire type than theirs, or a message without a payload: no RawFlow.
fn parse(message: &[u8]) -> Result<RawFlow<'_>, Bad> {
    let mut wire = Wire::new(message);
    let mut out = RawFlow::default();
    while !wire.is_empty() {
        let tag = wire.tag().ok_or(BROKEN)?;
        match (tag >> 3, tag & 7) {
            (1, wire::VARINT) => out.time_received = wire.varint().ok_or(BROKEN)?,
            (2, wire::BYTES) => out.payload = wire.bytes().ok_or(BROKEN)?,
            (3, wire::BYTES) => out.source_address = wire.bytes().ok_or(BROKEN)?,
            (4, wire::VARINT) => out.use_source_address = wire.varint().ok_or(BROKEN)? != 0,
            (5, wire::VARINT) => out.decoder = wire.varint().ok_or(BROKEN)?,
            (1..=5, _) => return Err(BROKEN),
            _ => wire.skip(tag).ok_or(BROKEN)?,
        }
    }
    if out.payload.is_empty() { Err(BROKEN) } else { Ok(out) }
}

/// The frame that the payload would have been, had we received it ourselves.
fn origin(message: &RawFlow<'_>, frame: &Frame) -> Result<Frame, foreign::Bad> {
    const UNSPECIFIED: u64 = 0;
    const NETFLOW: u64 = 1;
    if !matches!(message.decoder, UNSPECIFIED | NETFLOW) {
        return Err(DECODER);
    }
    let mut inner = Frame { start: 0, len: message.payload.len() as u32, ..*frame };
    if (message.use_source_address || frame.peer.ip().is_unspecified()) && !message.source_address.is_empty() {
        let ip = match *message.source_address {
            [a, b, c, d] => IpAddr::from([a, b, c, d]),
            ref long => Ipv6Addr::from(*long.as_array::<16>().ok_or(ADDRESS)?).to_canonical(),
        };
        inner.peer = SocketAddr::new(ip, frame.peer.port());
    }
    if message.time_received > 0 {
        inner.received_ns = nanos(message.time_received);
    }
    Ok(inner)
}

/// Akvorado writes seconds; other writers, and perhaps later versions, something finer. Their ranges do not meet before the
/// year 5138.
fn nanos(time: u64) -> u64 {
    let unit = match time {
        0..100_000_000_000 => SECOND,
        100_000_000_000..100_000_000_000_000 => MILLISECOND,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    time.saturating_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::wire::encode;
    use crate::model::frames::NO_PEER;
    use crate::model::{FlowRecord, FrameBatch};
    use proptest::prelude::*;

    const MESSAGE_NS: u64 = 1_700_000_500 * SECOND;

    /// A v5 datagram with one record.
    fn v5() -> Vec<u8> {
        let mut b = [0, 5, 0, 1].to_vec();
        b.extend(1_000_000u32.to_be_bytes());
        b.extend(1_700_000_000u32.to_be_bytes());
        b.extend([0; 12]);
        b.extend([192, 0, 2, 10, 198, 51, 100, 20]);
        b.extend([0; 40]);
        b
    }

    fn message(decoder: u64, payload: &[u8], source: &[u8], use_source: bool) -> Vec<u8> {
        let mut out = Vec::new();
        encode::number(1, 1_700_000_100, &mut out);
        encode::bytes(2, payload, &mut out);
        encode::bytes(3, source, &mut out);
        encode::number(4, use_source.into(), &mut out);
        encode::number(5, decoder, &mut out);
        encode::number(6, 1, &mut out);
        encode::number(8, 1000, &mut out);
        out
    }

    fn feed(d: &mut RawflowDecoder, bytes: &[u8], peer: SocketAddr) -> Vec<FlowRecord> {
        let (mut batch, mut out) = (FrameBatch::default(), Vec::new());
        batch.push(bytes, peer, MESSAGE_NS);
        d.decode(&batch, &mut out);
        let s = d.stats();
        assert_eq!(
            s.framing_bytes + s.decoded_bytes + s.padding_bytes + s.undecoded_total() + s.pending_bytes,
            s.bytes
        );
        assert_eq!(s.refusals, s.errors_total());
        out
    }

    fn decoder() -> RawflowDecoder {
        RawflowDecoder::new(&DecodeOptions::default(), false)
    }

    #[test]
    fn a_datagram_in_a_message() {
        let (mut d, peer) = (decoder(), "203.0.113.1:9".parse().unwrap());
        let source = Ipv6Addr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0209]).octets();
        let plain = message(1, &v5(), &source, true);
        let mut prefixed = Vec::new();
        encode::delimited(&plain, &mut prefixed);
        for bytes in [&plain, &prefixed] {
            let r = &feed(&mut d, bytes, peer)[0];
            assert_eq!(
                (r.sampler_address.to_string(), r.src_addr.to_string()),
                ("192.0.2.9".into(), "192.0.2.10".into())
            );
            assert_eq!(r.time_received_ns, 1_700_000_100 * SECOND);
        }
        let exporter = |d: &mut RawflowDecoder, bytes: &[u8], peer| feed(d, bytes, peer)[0].sampler_address.to_string();
        let not_used = message(0, &v5(), &source, false);
        assert_eq!(exporter(&mut d, &not_used, peer), "203.0.113.1");
        assert_eq!(exporter(&mut d, &not_used, NO_PEER), "192.0.2.9");
        assert_eq!(exporter(&mut d, &message(0, &v5(), &[], true), peer), "203.0.113.1");
        assert_eq!(d.stats().refusals, 0);
    }

    /// A v9 datagram: one set.
    fn v9(set: u16, body: &[u8]) -> Vec<u8> {
        let mut b = [0, 9, 0, 1].to_vec();
        b.extend(1_000_000u32.to_be_bytes());
        b.extend(1_700_000_000u32.to_be_bytes());
        b.extend([0; 8]);
        b.extend(set.to_be_bytes());
        b.extend((body.len() as u16 + 4).to_be_bytes());
        b.extend(body);
        message(1, &b, &[192, 0, 2, 9], true)
    }

    #[test]
    fn templates_are_kept_from_message_to_message_and_from_life_to_life() {
        // Template 256: the destination's address.
        let template = v9(0, &[1, 0, 0, 1, 0, 12, 0, 4]);
        let data = v9(256, &[198, 51, 100, 7]);
        let mut d = decoder();
        assert_eq!(feed(&mut d, &template, NO_PEER), []);
        assert_eq!(feed(&mut d, &data, NO_PEER).len(), 1);
        let mut next = decoder();
        next.restore(&d.save()).unwrap();
        assert_eq!(feed(&mut next, &data, NO_PEER)[0].dst_addr.to_string(), "198.51.100.7");
        assert_eq!(next.stats().missing_template, 0);
    }

    #[test]
    fn what_is_refused() {
        for (bytes, why) in [
            (message(2, &v5(), &[192, 0, 2, 9], true), Refusal::UnsupportedDecoder),
            (message(3, &v5(), &[192, 0, 2, 9], true), Refusal::UnsupportedDecoder),
            (message(1, &v5(), &[192, 0, 2], true), Refusal::BadField),
            (message(1, &[0, 5], &[192, 0, 2, 9], true), Refusal::ShortHeader),
            (message(1, &[], &[192, 0, 2, 9], true), Refusal::BadMessage),
            (v5(), Refusal::BadMessage),
            (Vec::new(), Refusal::BadMessage),
        ] {
            let mut d = decoder();
            assert_eq!(feed(&mut d, &bytes, NO_PEER), []);
            assert_eq!(d.stats().reasons_since(&DecodeStats::default().errors), [why]);
        }
    }

    #[test]
    fn times_of_any_unit() {
        for (time, ns) in
            [(1_700_000_000, 1_700_000_000 * SECOND), (1_700_000_000_123, 1_700_000_000_123 * MILLISECOND)]
        {
            assert_eq!(nanos(time), ns);
        }
        assert_eq!(nanos(1_700_000_000_123_456), 1_700_000_000_123_456_000);
        assert_eq!(nanos(1_700_000_000_123_456_789), 1_700_000_000_123_456_789);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_counted(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
            noise in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let whole = message(1, &v5(), &[192, 0, 2, 9], true);
            let mut changed = whole.clone();
            for (at, byte) in changes {
                let at = at.index(changed.len());
                changed[at] = byte;
            }
            let mut d = decoder();
            for bytes in [&changed[..], &whole[..cut.index(whole.len())], &noise] {
                let (before, seen) = (d.stats().refusals, d.stats().framing_bytes + d.stats().pending_bytes);
                let out = feed(&mut d, bytes, NO_PEER);
                let framed = d.stats().framing_bytes + d.stats().pending_bytes > seen;
                prop_assert!(!out.is_empty() || d.stats().refusals > before || framed);
            }
        }
    }
}
