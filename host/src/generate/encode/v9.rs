//! NetFlow version 9 (RFC 3954): templates for IPv4 and IPv6, and an options template for the sampling rate.
//!
//! Flow times are FIRST_SWITCHED and LAST_SWITCHED, milliseconds of sysUptime; the header gives whole seconds of the
//! wall clock only, so absolute times carry up to a second of uncertainty, as with real exporters.

use super::{Encoder, Layout, SET_HEADER, TEMPLATE_SAMPLING, close_set, data_sets, put_addresses, put16, put32};
use crate::model::FlowRecord;

pub const HEADER: usize = 20;

/// RFC 3954 section 8: numbers and lengths.
pub const LAYOUT: Layout = Layout::new(&[
    (10, 4), // INPUT_SNMP
    (14, 4), // OUTPUT_SNMP
    (2, 8),  // IN_PKTS
    (1, 8),  // IN_BYTES
    (22, 4), // FIRST_SWITCHED
    (21, 4), // LAST_SWITCHED
    (7, 2),  // L4_SRC_PORT
    (11, 2), // L4_DST_PORT
    (6, 1),  // TCP_FLAGS
    (4, 1),  // PROTOCOL
    (5, 1),  // SRC_TOS
    (16, 4), // SRC_AS
    (17, 4), // DST_AS
    (58, 2), // SRC_VLAN
]);

/// One datagram. Says how many records went in and how many were used up.
pub fn datagram(e: &mut Encoder, records: &[FlowRecord], now_ns: u64, data: &mut Vec<u8>) -> (usize, usize) {
    let start = data.len();
    let mut count = 0;
    put16(data, 9);
    put16(data, 0);
    put32(data, e.uptime_ms(now_ns));
    put32(data, (now_ns / 1_000_000_000) as u32);
    put32(data, e.sequence);
    put32(data, e.domain);
    if e.templates_due(now_ns) {
        templates(e, data);
        count += 4;
    }
    let flows = data_sets(data, start, &LAYOUT, true, records, |data, record, v4| write(e, data, record, v4));
    count += flows as u16;
    data[start + 2..start + 4].copy_from_slice(&count.to_be_bytes());
    e.sequence = e.sequence.wrapping_add(1);
    (flows, flows)
}

/// Two templates, one options template, one options record.
fn templates(e: &Encoder, data: &mut Vec<u8>) {
    let at = data.len();
    put16(data, 0);
    put16(data, 0);
    LAYOUT.templates(data);
    close_set(data, at, true);

    let at = data.len();
    put16(data, 1);
    put16(data, 0);
    put16(data, TEMPLATE_SAMPLING);
    put16(data, 4); // length of the scope fields
    put16(data, 8); // length of the option fields
    for (field, len) in [(1, 4), (34, 4), (35, 1)] {
        // scope System; SAMPLING_INTERVAL; SAMPLING_ALGORITHM
        put16(data, field);
        put16(data, len);
    }
    close_set(data, at, true);

    let at = data.len();
    debug_assert_eq!(SET_HEADER, 4);
    put16(data, TEMPLATE_SAMPLING);
    put16(data, 0);
    put32(data, 0);
    put32(data, e.sampling);
    data.push(1); // deterministic
    close_set(data, at, true);
}

#[inline]
fn write(e: &Encoder, data: &mut Vec<u8>, r: &FlowRecord, v4: bool) {
    put_addresses(data, r, v4);
    let mut b = [0u8; 49];
    let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &r.in_if.to_be_bytes());
    put(4, &r.out_if.to_be_bytes());
    put(8, &r.packets.to_be_bytes());
    put(16, &r.bytes.to_be_bytes());
    put(24, &e.uptime_ms(r.time_flow_start_ns).to_be_bytes());
    put(28, &e.uptime_ms(r.time_flow_end_ns).to_be_bytes());
    put(32, &r.src_port.to_be_bytes());
    put(34, &r.dst_port.to_be_bytes());
    put(36, &[r.tcp_flags as u8, r.proto, r.ip_tos]);
    put(39, &r.src_as.to_be_bytes());
    put(43, &r.dst_as.to_be_bytes());
    put(47, &r.vlan_id.to_be_bytes());
    data.extend_from_slice(&b);
}
