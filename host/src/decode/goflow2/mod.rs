//! GoFlow2's protobuf (`flowpb.FlowMessage`). Comes in: messages of a topic, or of a file, with and without the length
//! that GoFlow2 writes before each, one or several in a frame; goes out: flow records. Fields that we have no column for
//! are skipped. Refuses what is no protobuf or has one of our fields in another wire type (`bad_message`), values that do
//! not fit (`bad_field`) and records without any address (`no_address`).

use super::Decoder;
use super::foreign::{Bad, Foreign};
use super::stats::{DecodeStats, Refusal};
use super::wire::{self, Wire};
use crate::config::decode_options::DecodeOptions;
use crate::model::flow_extra::FlowExtra;
use crate::model::{Addr, FlowRecord, FlowSink, FlowType, Frame};

const BROKEN: Bad = Bad { why: Refusal::BadMessage, what: "not a FlowMessage in protobuf, or broken off" };

/// Decoder of `FlowMessage`s.
pub struct Goflow2Decoder {
    foreign: Foreign,
    want_extra: bool,
    record: FlowRecord,
    number: u64,
    stats: DecodeStats,
}

impl Goflow2Decoder {
    /// A decoder. `want_extra`: fill `FlowRecord::extra` too.
    pub fn new(options: &DecodeOptions, want_extra: bool) -> Self {
        Self {
            foreign: Foreign::new(options),
            want_extra,
            record: FlowRecord::default(),
            number: 0,
            stats: DecodeStats::default(),
        }
    }

    fn parse(&mut self, message: &[u8]) -> Result<(), Bad> {
        self.record = FlowRecord::default();
        if self.want_extra {
            self.record.extra = Some(Box::default());
        }
        parse(message, &mut self.record)
    }

    fn has_address(&self) -> bool {
        self.record.src_addr != Addr::UNSPECIFIED || self.record.dst_addr != Addr::UNSPECIFIED
    }

    /// What was parsed goes out, or is refused; `taken` bytes of the frame were for it.
    fn emit(&mut self, read: Result<(), Bad>, message: &[u8], taken: usize, frame: &Frame, out: &mut dyn FlowSink) {
        self.number += 1;
        let settled = read.and_then(|()| self.foreign.settle(&mut self.record, frame, &mut self.stats));
        match settled {
            Ok(()) => {
                self.stats.framing_bytes += (taken - message.len()) as u64;
                self.stats.decoded_bytes += message.len() as u64;
                out.push(&self.record);
            }
            Err(bad) => {
                self.stats.refuse(bad.why, taken);
                let number = self.number;
                self.stats.first_error.get_or_insert_with(|| format!("message {number}: {}", bad.what));
            }
        }
    }
}

impl Decoder for Goflow2Decoder {
    /// A frame that is made of delimited messages only may still be one plain message by chance: the first message tells.
    /// Its fields cannot make sense in both readings, but for chance again, so the reading with addresses counts.
    fn frame(&mut self, bytes: &[u8], frame: &Frame, out: &mut dyn FlowSink) {
        self.stats.datagrams += 1;
        self.stats.bytes += bytes.len() as u64;
        let mut plain = None;
        if let Some(mut messages) = wire::delimited(bytes)
            && let Some((first, taken)) = messages.next()
        {
            let read = self.parse(first);
            if read.is_ok() && self.has_address() {
                self.emit(read, first, taken, frame, out);
                for (message, taken) in messages {
                    let read = self.parse(message);
                    self.emit(read, message, taken, frame, out);
                }
                return;
            }
            let whole = self.parse(bytes);
            if read.is_ok() && !(whole.is_ok() && self.has_address()) {
                self.emit(Err(Bad::NO_ADDRESS), first, taken, frame, out);
                for (message, taken) in messages {
                    let read = self.parse(message);
                    self.emit(read, message, taken, frame, out);
                }
                return;
            }
            plain = Some(whole);
        }
        let read = plain.unwrap_or_else(|| self.parse(bytes));
        self.emit(read, bytes, bytes.len(), frame, out);
    }

    fn stats(&self) -> &DecodeStats {
        &self.stats
    }
}

/// Tags: `number << 3 | wire type`.
mod tag {
    const fn n(number: u64) -> u64 {
        number << 3
    }
    const fn b(number: u64) -> u64 {
        number << 3 | 2
    }
    pub const TYPE: u64 = n(1);
    pub const SAMPLING_RATE: u64 = n(3);
    pub const SRC_ADDR: u64 = b(6);
    pub const DST_ADDR: u64 = b(7);
    pub const BYTES: u64 = n(9);
    pub const PACKETS: u64 = n(10);
    pub const SAMPLER_ADDRESS: u64 = b(11);
    pub const NEXT_HOP: u64 = b(12);
    pub const SRC_AS: u64 = n(14);
    pub const DST_AS: u64 = n(15);
    pub const SRC_NET: u64 = n(16);
    pub const DST_NET: u64 = n(17);
    pub const IN_IF: u64 = n(18);
    pub const OUT_IF: u64 = n(19);
    pub const PROTO: u64 = n(20);
    pub const SRC_PORT: u64 = n(21);
    pub const DST_PORT: u64 = n(22);
    pub const IP_TOS: u64 = n(23);
    pub const FORWARDING_STATUS: u64 = n(24);
    pub const IP_TTL: u64 = n(25);
    pub const TCP_FLAGS: u64 = n(26);
    pub const SRC_MAC: u64 = n(27);
    pub const DST_MAC: u64 = n(28);
    pub const VLAN_ID: u64 = n(29);
    pub const ETYPE: u64 = n(30);
    pub const ICMP_TYPE: u64 = n(31);
    pub const ICMP_CODE: u64 = n(32);
    pub const SRC_VLAN: u64 = n(33);
    pub const DST_VLAN: u64 = n(34);
    pub const FRAGMENT_ID: u64 = n(35);
    pub const FRAGMENT_OFFSET: u64 = n(36);
    pub const FLOW_LABEL: u64 = n(37);
    pub const IP_FLAGS: u64 = n(38);
    pub const DOMAIN: u64 = n(70);
    pub const OBSERVATION_POINT: u64 = n(71);
    pub const BGP_NEXT_HOP: u64 = b(100);
    pub const TIME_RECEIVED: u64 = n(110);
    pub const TIME_START: u64 = n(111);
    pub const TIME_END: u64 = n(112);

    /// Fields that fill a column: in another wire type they belong to another message.
    pub fn is_ours(tag: u64) -> bool {
        matches!(tag >> 3, 1 | 3 | 6 | 7 | 9..=12 | 14..=23 | 26 | 29 | 33 | 70 | 110..=112)
    }
}

fn parse(message: &[u8], r: &mut FlowRecord) -> Result<(), Bad> {
    let mut wire = Wire::new(message);
    let mut src_vlan = 0;
    while !wire.is_empty() {
        let tag = wire.tag().ok_or(BROKEN)?;
        match tag {
            tag::TYPE => r.flow_type = FlowType::from_u8(u8::try_from(number(&mut wire)?).unwrap_or(0)),
            tag::SAMPLING_RATE => r.sampling_rate = number(&mut wire)?,
            tag::SRC_ADDR => r.src_addr = address(&mut wire, "src_addr")?,
            tag::DST_ADDR => r.dst_addr = address(&mut wire, "dst_addr")?,
            tag::BYTES => r.bytes = number(&mut wire)?,
            tag::PACKETS => r.packets = number(&mut wire)?,
            tag::SAMPLER_ADDRESS => r.sampler_address = address(&mut wire, "sampler_address")?,
            tag::NEXT_HOP => r.next_hop = address(&mut wire, "next_hop")?,
            tag::SRC_AS => r.src_as = fit(&mut wire, "src_as")?,
            tag::DST_AS => r.dst_as = fit(&mut wire, "dst_as")?,
            tag::SRC_NET => r.src_net = fit(&mut wire, "src_net")?,
            tag::DST_NET => r.dst_net = fit(&mut wire, "dst_net")?,
            tag::IN_IF => r.in_if = fit(&mut wire, "in_if")?,
            tag::OUT_IF => r.out_if = fit(&mut wire, "out_if")?,
            tag::PROTO => r.proto = fit(&mut wire, "proto")?,
            tag::SRC_PORT => r.src_port = fit(&mut wire, "src_port")?,
            tag::DST_PORT => r.dst_port = fit(&mut wire, "dst_port")?,
            tag::IP_TOS => r.ip_tos = fit(&mut wire, "ip_tos")?,
            tag::TCP_FLAGS => r.tcp_flags = fit(&mut wire, "tcp_flags")?,
            tag::VLAN_ID => r.vlan_id = fit(&mut wire, "vlan_id")?,
            tag::SRC_VLAN => {
                src_vlan = fit(&mut wire, "src_vlan")?;
                if let Some(x) = &mut r.extra {
                    x.src_vlan = Some(src_vlan);
                }
            }
            tag::DOMAIN => r.observation_domain_id = fit(&mut wire, "observation_domain_id")?,
            tag::TIME_RECEIVED => r.time_received_ns = number(&mut wire)?,
            tag::TIME_START => r.time_flow_start_ns = number(&mut wire)?,
            tag::TIME_END => r.time_flow_end_ns = number(&mut wire)?,
            _ if tag::is_ours(tag) => return Err(BROKEN),
            _ => match &mut r.extra {
                Some(x) => extra(tag, &mut wire, x)?,
                None => wire.skip(tag).ok_or(BROKEN)?,
            },
        }
    }
    // The VLAN of the flow, where only one side is told.
    if r.vlan_id == 0 {
        r.vlan_id = src_vlan;
    }
    Ok(())
}

fn number(wire: &mut Wire<'_>) -> Result<u64, Bad> {
    wire.varint().ok_or(BROKEN)
}

#[inline]
fn fit<T: TryFrom<u64>>(wire: &mut Wire<'_>, what: &'static str) -> Result<T, Bad> {
    T::try_from(number(wire)?).map_err(|_| Bad { why: Refusal::BadField, what })
}

/// 4 or 16 bytes; none: not known.
#[inline]
fn address(wire: &mut Wire<'_>, what: &'static str) -> Result<Addr, Bad> {
    let bytes = wire.bytes().ok_or(BROKEN)?;
    match bytes.len() {
        4 => Ok(Addr::from_v4_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
        16 => bytes.try_into().map(Addr).map_err(|_| BROKEN),
        0 => Ok(Addr::UNSPECIFIED),
        _ => Err(Bad { why: Refusal::BadField, what }),
    }
}

/// What only a person asks for: what does not fit is left out.
#[cold]
fn extra(tag: u64, wire: &mut Wire<'_>, x: &mut FlowExtra) -> Result<(), Bad> {
    if tag == tag::BGP_NEXT_HOP {
        x.bgp_next_hop = Some(address(wire, "bgp_next_hop")?).filter(|a| !a.is_unspecified());
        return Ok(());
    }
    if tag & 7 != wire::VARINT {
        return wire.skip(tag).ok_or(BROKEN);
    }
    let n = number(wire)?;
    let (byte, short, word) = (u8::try_from(n).ok(), u16::try_from(n).ok(), u32::try_from(n).ok());
    let mac = || n.to_be_bytes().last_chunk::<6>().copied();
    match tag {
        tag::FORWARDING_STATUS => x.forwarding_status = byte,
        tag::IP_TTL => x.ip_ttl = byte,
        tag::SRC_MAC => x.src_mac = mac(),
        tag::DST_MAC => x.dst_mac = mac(),
        tag::ETYPE => x.etype = short,
        tag::ICMP_TYPE => x.icmp_type = byte,
        tag::ICMP_CODE => x.icmp_code = byte,
        tag::DST_VLAN => x.dst_vlan = short,
        tag::FRAGMENT_ID => x.fragment_id = word,
        tag::FRAGMENT_OFFSET => x.fragment_offset = short,
        tag::FLOW_LABEL => x.ipv6_flow_label = word,
        tag::IP_FLAGS => x.ip_flags = byte,
        tag::OBSERVATION_POINT => x.observation_point_id = Some(n),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
