//! What the tests of several formats need.

use crate::model::{Addr, FlowRecord, FlowType};
use proptest::prelude::*;

fn address() -> impl Strategy<Value = Addr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(Addr::from_v4_bytes),
        any::<[u8; 16]>().prop_map(Addr),
        any::<u16>().prop_map(|n| Addr(u128::from(n).to_be_bytes())),
    ]
}

/// Any record that has a source address and was received at some time, of any size: small values take other ways than large.
pub(super) fn record() -> impl Strategy<Value = FlowRecord> {
    let number = || (any::<u64>(), 0u32..64).prop_map(|(n, shift)| n >> shift);
    let time = || 1u64..4_000_000_000_000_000_000;
    let addresses = (address().prop_filter("an address", |a| *a != Addr::UNSPECIFIED), address(), address(), address());
    let words = prop::array::uniform5((any::<u32>(), 0u32..32).prop_map(|(n, shift)| n >> shift));
    let shorts = prop::array::uniform4(any::<u16>());
    let bytes = (any::<u8>(), any::<u8>(), 0u8..=32, 0u8..=32);
    let kind = prop::sample::select(FlowType::ALL.to_vec());
    // 0 is unknown, and the exporter too: what is there is not made up.
    let numbers = (time(), time(), time(), number(), number(), number());
    (addresses, words, shorts, bytes, numbers, kind).prop_map(
        |((src_addr, dst_addr, sampler_address, next_hop), words, shorts, bytes, numbers, flow_type)| FlowRecord {
            time_received_ns: numbers.0,
            time_flow_start_ns: numbers.1,
            time_flow_end_ns: numbers.2,
            sampler_address,
            observation_domain_id: words[0],
            sampling_rate: numbers.3,
            src_addr,
            dst_addr,
            src_port: shorts[0],
            dst_port: shorts[1],
            proto: bytes.0,
            tcp_flags: shorts[2],
            bytes: numbers.4,
            packets: numbers.5,
            in_if: words[1],
            out_if: words[2],
            src_as: words[3],
            dst_as: words[4],
            src_net: bytes.2,
            dst_net: bytes.3,
            next_hop,
            ip_tos: bytes.1,
            vlan_id: shorts[3],
            flow_type,
            extra: None,
        },
    )
}
