//! A flow record as GoFlow2's protobuf message (`flowpb.FlowMessage`), with its length before it as GoFlow2 itself writes
//! it to Kafka. Written by hand, straight into a buffer: numbers that are 0 and addresses that are not there are left
//! out, as proto3 does.

use super::addr::Addr;
use super::flow::{FlowRecord, FlowType};
use super::flow_extra::FlowExtra;

const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// Appends the record's message: its length as a varint, then its fields.
pub fn write(r: &FlowRecord, out: &mut Vec<u8>) {
    let start = out.len();
    // Nearly every message is longer than 127 bytes and shorter than 16384: two bytes of length.
    out.extend_from_slice(&[0; 2]);
    fields(r, out);
    let len = out.len() - start - 2;
    if (128..16_384).contains(&len) {
        out[start] = (len as u8) | 0x80;
        out[start + 1] = (len >> 7) as u8;
    } else {
        let mut prefix = Vec::with_capacity(4);
        varint(&mut prefix, len as u64);
        out.splice(start..start + 2, prefix);
    }
}

fn fields(r: &FlowRecord, out: &mut Vec<u8>) {
    // v7 has no number there.
    let kind = if r.flow_type == FlowType::NetflowV7 { FlowType::Unknown } else { r.flow_type };
    number(out, 1, kind as u64);
    number(out, 3, r.sampling_rate);
    address(out, 6, r.src_addr);
    address(out, 7, r.dst_addr);
    number(out, 9, r.bytes);
    number(out, 10, r.packets);
    address(out, 11, r.sampler_address);
    address(out, 12, r.next_hop);
    number(out, 14, u64::from(r.src_as));
    number(out, 15, u64::from(r.dst_as));
    number(out, 16, u64::from(r.src_net));
    number(out, 17, u64::from(r.dst_net));
    number(out, 18, u64::from(r.in_if));
    number(out, 19, u64::from(r.out_if));
    number(out, 20, u64::from(r.proto));
    number(out, 21, u64::from(r.src_port));
    number(out, 22, u64::from(r.dst_port));
    number(out, 23, u64::from(r.ip_tos));
    number(out, 26, u64::from(r.tcp_flags));
    number(out, 29, u64::from(r.vlan_id));
    number(out, 30, u64::from(etype(r)));
    number(out, 70, u64::from(r.observation_domain_id));
    number(out, 110, r.time_received_ns);
    number(out, 111, r.time_flow_start_ns);
    number(out, 112, r.time_flow_end_ns);
    if let Some(extra) = &r.extra {
        extra_fields(extra, out);
    }
}

/// As the record says, or by the family of its addresses.
fn etype(r: &FlowRecord) -> u16 {
    let said = r.extra.as_ref().and_then(|x| x.etype);
    said.unwrap_or(match (r.src_addr.is_unspecified(), r.src_addr.is_v4()) {
        (true, _) => 0,
        (false, true) => 0x0800,
        (false, false) => 0x86dd,
    })
}

fn extra_fields(x: &FlowExtra, out: &mut Vec<u8>) {
    let mac = |m: Option<[u8; 6]>| m.map(|[a, b, c, d, e, f]| u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
    let numbers = [
        (24, x.forwarding_status.map(u64::from)),
        (25, x.ip_ttl.map(u64::from)),
        (27, mac(x.src_mac)),
        (28, mac(x.dst_mac)),
        (31, x.icmp_type.map(u64::from)),
        (32, x.icmp_code.map(u64::from)),
        (33, x.src_vlan.map(u64::from)),
        (34, x.dst_vlan.map(u64::from)),
        (35, x.fragment_id.map(u64::from)),
        (36, x.fragment_offset.map(u64::from)),
        (37, x.ipv6_flow_label.map(u64::from)),
        (38, x.ip_flags.map(u64::from)),
        (71, x.observation_point_id),
    ];
    for (field, value) in numbers {
        number(out, field, value.unwrap_or(0));
    }
    // Packed, as proto3 writes repeated numbers.
    if !x.mpls_label.is_empty() {
        let mut labels = Vec::new();
        x.mpls_label.iter().for_each(|label| varint(&mut labels, u64::from(*label)));
        bytes(out, 81, &labels);
    }
    if let Some(hop) = x.bgp_next_hop {
        address(out, 100, hop);
    }
}

#[inline]
fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

#[inline]
fn number(out: &mut Vec<u8>, field: u64, n: u64) {
    if n != 0 {
        varint(out, field << 3 | VARINT);
        varint(out, n);
    }
}

#[inline]
fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[inline]
fn address(out: &mut Vec<u8>, field: u64, addr: Addr) {
    match (addr.is_unspecified(), addr.is_v4()) {
        (true, _) => {}
        (false, true) => bytes(out, field, &addr.0[12..]),
        (false, false) => bytes(out, field, &addr.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::flow_rows::fixtures;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq)]
    enum Value {
        Number(u64),
        Bytes(Vec<u8>),
    }

    fn take_varint(bytes: &mut &[u8]) -> u64 {
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            n |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return n;
            }
        }
    }

    /// The fields of one message with its length before it; what follows it is left.
    fn read(bytes: &mut &[u8]) -> BTreeMap<u64, Value> {
        let len = take_varint(bytes) as usize;
        let (mut message, rest) = bytes.split_at(len);
        *bytes = rest;
        let mut fields = BTreeMap::new();
        while !message.is_empty() {
            let tag = take_varint(&mut message);
            let value = match tag & 7 {
                VARINT => Value::Number(take_varint(&mut message)),
                BYTES => {
                    let len = take_varint(&mut message) as usize;
                    let (value, rest) = message.split_at(len);
                    message = rest;
                    Value::Bytes(value.to_vec())
                }
                other => panic!("wire type {other}"),
            };
            assert!(fields.insert(tag >> 3, value).is_none(), "field {} stands twice", tag >> 3);
        }
        fields
    }

    #[test]
    fn every_field_has_its_number() {
        let mut out = Vec::new();
        write(&fixtures::record(3), &mut out);
        let mut rest = &out[..];
        let fields = read(&mut rest);
        assert!(rest.is_empty());
        let n = |n| Value::Number(n);
        let b = |b: &[u8]| Value::Bytes(b.to_vec());
        let hop: Addr = "2001:db8::9".parse().unwrap();
        let expected = [
            (1, n(4)),
            (3, n(1000)),
            (6, b(&[198, 51, 100, 3])),
            (7, b(&[203, 0, 3, 7])),
            (9, n(1400)),
            (10, n(2)),
            (11, b(&[192, 0, 2, 1])),
            (12, b(&hop.0)),
            (14, n(64_500)),
            (15, n(64_501)),
            (16, n(24)),
            (17, n(22)),
            (18, n(10)),
            (19, n(20)),
            (20, n(17)),
            (21, n(53)),
            (22, n(40_003)),
            (23, n(8)),
            (26, n(0x12)),
            (29, n(42)),
            (30, n(0x0800)),
            (70, n(300)),
            (110, n(1_700_000_000_000_000_003)),
            (111, n(1_699_999_999_000_000_001)),
            (112, n(1_699_999_999_500_000_002)),
        ];
        assert_eq!(fields, BTreeMap::from(expected));
    }

    #[test]
    fn short_and_long_messages_have_the_right_length_before_them() {
        let empty = FlowRecord::default();
        let extra = FlowExtra { mpls_label: vec![1_048_575; 8000], ..FlowExtra::default() };
        let long = FlowRecord { extra: Some(Box::new(extra)), ..fixtures::record(1) };
        let mut out = Vec::new();
        for record in [&empty, &long, &fixtures::record(2), &FlowRecord { proto: 6, ..FlowRecord::default() }] {
            write(record, &mut out);
        }
        let mut rest = &out[..];
        assert_eq!(read(&mut rest), BTreeMap::new());
        assert_eq!(read(&mut rest)[&81], Value::Bytes([0xff, 0xff, 0x3f].repeat(8000)));
        assert_eq!(read(&mut rest)[&20], Value::Number(17));
        assert_eq!(read(&mut rest), BTreeMap::from([(20, Value::Number(6))]));
        assert!(rest.is_empty());
    }
}
