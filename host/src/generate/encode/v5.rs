//! NetFlow version 5: 24 bytes of header, up to 30 records of 48 bytes.

use super::{Encoder, V5_MAX_SAMPLING, put16, put32};
use crate::model::{Addr, FlowRecord};

/// Records of a full datagram.
pub const RECORDS: usize = 30;
const HEADER: usize = 24;

/// One datagram. Says how many records went in and how many were used up (IPv6 ones are passed over).
pub fn datagram(e: &mut Encoder, records: &[FlowRecord], now_ns: u64, data: &mut Vec<u8>) -> (usize, usize) {
    let start = data.len();
    data.resize(start + HEADER, 0);
    let (mut flows, mut used) = (0, 0);
    for record in records {
        if flows == RECORDS {
            break;
        }
        used += 1;
        if e.version.can_say(record) {
            write(e, data, record);
            flows += 1;
        }
    }
    let mut header = Vec::with_capacity(HEADER);
    put16(&mut header, 5);
    put16(&mut header, flows as u16);
    put32(&mut header, e.uptime_ms(now_ns));
    put32(&mut header, (now_ns / 1_000_000_000) as u32);
    put32(&mut header, (now_ns % 1_000_000_000) as u32);
    put32(&mut header, e.sequence);
    header.extend_from_slice(&[0, e.domain as u8]);
    // Two bits of mode (1: deterministic), 14 bits of interval.
    put16(&mut header, 1 << 14 | e.sampling.min(V5_MAX_SAMPLING) as u16);
    data[start..start + HEADER].copy_from_slice(&header);
    e.sequence = e.sequence.wrapping_add(flows as u32);
    (flows, used)
}

#[inline]
fn write(e: &Encoder, data: &mut Vec<u8>, r: &FlowRecord) {
    let mut b = [0u8; 48];
    let mut put = |at: usize, bytes: &[u8]| b[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, v4(&r.src_addr));
    put(4, v4(&r.dst_addr));
    put(8, v4(&r.next_hop));
    put(12, &cut16(r.in_if));
    put(14, &cut16(r.out_if));
    put(16, &cut32(r.packets));
    put(20, &cut32(r.bytes));
    put(24, &e.uptime_ms(r.time_flow_start_ns).to_be_bytes());
    put(28, &e.uptime_ms(r.time_flow_end_ns).to_be_bytes());
    put(32, &r.src_port.to_be_bytes());
    put(34, &r.dst_port.to_be_bytes());
    put(37, &[r.tcp_flags as u8, r.proto, r.ip_tos]);
    put(40, &cut16(r.src_as));
    put(42, &cut16(r.dst_as));
    put(44, &[r.src_net, r.dst_net]);
    data.extend_from_slice(&b);
}

fn v4(Addr(bytes): &Addr) -> &[u8] {
    &bytes[12..]
}

/// 65535 (AS numbers: 23456, AS_TRANS) would be as wrong: what does not fit is cut to the largest number.
fn cut16(n: u32) -> [u8; 2] {
    u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes()
}

fn cut32(n: u64) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes()
}
