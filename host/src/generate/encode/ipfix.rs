//! IPFIX (RFC 7011): templates for IPv4 and IPv6, and an options template for the sampling rate.

use super::{Encoder, Layout, TEMPLATE_SAMPLING, close_set, data_sets, put_addresses, put16, put32};
use crate::model::FlowRecord;

pub const HEADER: usize = 16;

/// IANA information elements and lengths.
pub const LAYOUT: Layout = Layout::new(&[
    (10, 4),  // ingressInterface
    (14, 4),  // egressInterface
    (2, 8),   // packetDeltaCount
    (1, 8),   // octetDeltaCount
    (152, 8), // flowStartMilliseconds
    (153, 8), // flowEndMilliseconds
    (7, 2),   // sourceTransportPort
    (11, 2),  // destinationTransportPort
    (6, 2),   // tcpControlBits
    (4, 1),   // protocolIdentifier
    (5, 1),   // ipClassOfService
    (16, 4),  // bgpSourceAsNumber
    (17, 4),  // bgpDestinationAsNumber
    (58, 2),  // vlanId
]);

/// One message. Says how many records went in and how many were used up.
pub fn datagram(e: &mut Encoder, records: &[FlowRecord], now_ns: u64, data: &mut Vec<u8>) -> (usize, usize) {
    let start = data.len();
    put16(data, 10);
    put16(data, 0);
    put32(data, (now_ns / 1_000_000_000) as u32);
    put32(data, e.sequence);
    put32(data, e.domain);
    // RFC 7011 3.1: the sequence number counts data records, options data records among them, templates not.
    let mut data_records = 0;
    if e.templates_due(now_ns) {
        templates(e, data);
        data_records += 1;
    }
    let flows = data_sets(data, start, &LAYOUT, false, records, write);
    data_records += flows as u32;
    let len = (data.len() - start) as u16;
    data[start + 2..start + 4].copy_from_slice(&len.to_be_bytes());
    e.sequence = e.sequence.wrapping_add(data_records);
    (flows, flows)
}

/// Two templates, one options template, one options record.
fn templates(e: &Encoder, data: &mut Vec<u8>) {
    let at = data.len();
    put16(data, 2);
    put16(data, 0);
    LAYOUT.templates(data);
    close_set(data, at, false);

    let at = data.len();
    put16(data, 3);
    put16(data, 0);
    put16(data, TEMPLATE_SAMPLING);
    put16(data, 3); // fields
    put16(data, 1); // of them scope
    for (element, len) in [(149, 4), (34, 4), (35, 1)] {
        // observationDomainId; samplingInterval; samplingAlgorithm
        put16(data, element);
        put16(data, len);
    }
    close_set(data, at, false);

    let at = data.len();
    put16(data, TEMPLATE_SAMPLING);
    put16(data, 0);
    put32(data, e.domain);
    put32(data, e.sampling);
    data.push(1); // deterministic
    close_set(data, at, false);
}

#[inline]
fn write(data: &mut Vec<u8>, r: &FlowRecord, v4: bool) {
    put_addresses(data, r, v4);
    let mut b = [0u8; 58];
    let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &r.in_if.to_be_bytes());
    put(4, &r.out_if.to_be_bytes());
    put(8, &r.packets.to_be_bytes());
    put(16, &r.bytes.to_be_bytes());
    put(24, &(r.time_flow_start_ns / 1_000_000).to_be_bytes());
    put(32, &(r.time_flow_end_ns / 1_000_000).to_be_bytes());
    put(40, &r.src_port.to_be_bytes());
    put(42, &r.dst_port.to_be_bytes());
    put(44, &r.tcp_flags.to_be_bytes());
    put(46, &[r.proto, r.ip_tos]);
    put(48, &r.src_as.to_be_bytes());
    put(52, &r.dst_as.to_be_bytes());
    put(56, &r.vlan_id.to_be_bytes());
    data.extend_from_slice(&b);
}
