//! NetFlow v5 and v7: records of one fixed form, no templates. The library's structs to flow records.

use super::clock::Clock;
use crate::model::time::{MILLISECOND, SECOND};
use crate::model::{Addr, FlowRecord};
use netflow_parser::static_versions::{v5, v7};
use std::net::Ipv4Addr;

fn v4(ip: Ipv4Addr) -> Addr {
    Addr::from_v4_bytes(ip.octets())
}

/// The clock of a v5 or v7 header.
pub(super) fn clock(unix_secs: u32, unix_nsecs: u32, uptime_ms: u32) -> Clock {
    // Exporters' clocks tick in milliseconds; some put garbage into the nanoseconds.
    let millis = if unix_nsecs < 1_000_000_000 { u64::from(unix_nsecs) / MILLISECOND } else { 0 };
    Clock { export_ns: u64::from(unix_secs) * SECOND + millis * MILLISECOND, uptime_ms: Some(uptime_ms), init_ms: 0 }
}

/// Two bits of mode, 14 bits of N. 0: the exporter does not say.
pub(super) fn header_rate(sampling_interval: u16) -> u64 {
    u64::from(sampling_interval & 0x3fff)
}

/// Bytes of one v5 record.
pub(super) const V5_RECORD: usize = 48;
/// Bytes of one v7 record.
pub(super) const V7_RECORD: usize = 52;
/// Bytes of either header.
pub(super) const HEADER: usize = 24;

macro_rules! fill {
    ($r:ident, $f:ident, $clock:ident) => {
        $r.src_addr = v4($f.src_addr);
        $r.dst_addr = v4($f.dst_addr);
        $r.next_hop = v4($f.next_hop);
        $r.in_if = u32::from($f.input);
        $r.out_if = u32::from($f.output);
        $r.packets = u64::from($f.d_pkts);
        $r.bytes = u64::from($f.d_octets);
        $r.time_flow_start_ns = $clock.uptime($f.first);
        $r.time_flow_end_ns = $clock.uptime($f.last);
        $r.src_port = $f.src_port;
        $r.dst_port = $f.dst_port;
        $r.tcp_flags = u16::from($f.tcp_flags);
        $r.proto = $f.protocol_number;
        $r.ip_tos = $f.tos;
        $r.src_as = u32::from($f.src_as);
        $r.dst_as = u32::from($f.dst_as);
        $r.src_net = $f.src_mask;
        $r.dst_net = $f.dst_mask;
    };
}

/// One v5 record.
pub(super) fn fill_v5(r: &mut FlowRecord, f: &v5::FlowSet, clock: &Clock) {
    fill!(r, f, clock);
}

/// One v7 record.
pub(super) fn fill_v7(r: &mut FlowRecord, f: &v7::FlowSet, clock: &Clock) {
    fill!(r, f, clock);
}
