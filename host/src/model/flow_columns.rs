//! A flow batch read back: its columns as slices, or record by record. The batch has exactly `flow_schema()`.

use super::addr::Addr;
use super::flow::{FlowRecord, FlowType};
use super::schema::col;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};

/// A column of numbers.
///
/// # Panics
/// When the column has another type: batches have the schema of the model.
pub fn primitive<T: ArrowPrimitiveType>(batch: &RecordBatch, at: usize) -> &[T::Native] {
    batch.column(at).as_primitive::<T>().values()
}

/// A column of addresses.
///
/// # Panics
/// When the column has another type.
pub fn addresses(batch: &RecordBatch, at: usize) -> &[[u8; 16]] {
    batch.column(at).as_fixed_size_binary().value_data().as_chunks::<16>().0
}

/// Hands out every record. The scaled columns follow from the others.
pub fn each(batch: &RecordBatch, mut take: impl FnMut(&FlowRecord)) {
    let u64s = |at| primitive::<UInt64Type>(batch, at);
    let u32s = |at| primitive::<UInt32Type>(batch, at);
    let u16s = |at| primitive::<UInt16Type>(batch, at);
    let u8s = |at| primitive::<UInt8Type>(batch, at);
    let addrs = |at| addresses(batch, at);
    for row in 0..batch.num_rows() {
        take(&FlowRecord {
            time_received_ns: u64s(col::TIME_RECEIVED_NS)[row],
            time_flow_start_ns: u64s(col::TIME_FLOW_START_NS)[row],
            time_flow_end_ns: u64s(col::TIME_FLOW_END_NS)[row],
            sampler_address: Addr(addrs(col::SAMPLER_ADDRESS)[row]),
            observation_domain_id: u32s(col::OBSERVATION_DOMAIN_ID)[row],
            sampling_rate: u64s(col::SAMPLING_RATE)[row],
            src_addr: Addr(addrs(col::SRC_ADDR)[row]),
            dst_addr: Addr(addrs(col::DST_ADDR)[row]),
            src_port: u16s(col::SRC_PORT)[row],
            dst_port: u16s(col::DST_PORT)[row],
            proto: u8s(col::PROTO)[row],
            tcp_flags: u16s(col::TCP_FLAGS)[row],
            bytes: u64s(col::BYTES)[row],
            packets: u64s(col::PACKETS)[row],
            in_if: u32s(col::IN_IF)[row],
            out_if: u32s(col::OUT_IF)[row],
            src_as: u32s(col::SRC_AS)[row],
            dst_as: u32s(col::DST_AS)[row],
            src_net: u8s(col::SRC_NET)[row],
            dst_net: u8s(col::DST_NET)[row],
            next_hop: Addr(addrs(col::NEXT_HOP)[row]),
            ip_tos: u8s(col::IP_TOS)[row],
            vlan_id: u16s(col::VLAN_ID)[row],
            flow_type: FlowType::from_u8(u8s(col::TYPE)[row]),
            extra: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FlowBatchBuilder, FlowSink};

    #[test]
    fn columns_go_in_as_they_came_out() {
        let record = FlowRecord {
            time_received_ns: 5,
            src_addr: "192.0.2.1".parse().unwrap(),
            dst_addr: "2001:db8::1".parse().unwrap(),
            sampling_rate: 10,
            bytes: 7,
            packets: 1,
            vlan_id: 9,
            flow_type: FlowType::NetflowV7,
            ..Default::default()
        };
        let mut first = FlowBatchBuilder::default();
        first.push(&record);
        first.push(&FlowRecord { bytes: 8, ..record.clone() });
        let batch = first.finish();
        // As a slice, too: columns may begin in the middle of their buffers.
        let tail = batch.slice(1, 1);
        let (mut rows, mut columns) = (Vec::new(), FlowBatchBuilder::default());
        rows.push_columns(&batch);
        rows.push_columns(&tail);
        columns.push(&record);
        columns.push_columns(&tail);
        assert_eq!(rows.iter().map(|r| r.bytes).collect::<Vec<_>>(), [7, 8, 8]);
        assert_eq!(rows[0], record);
        assert_eq!(columns.finish(), batch);
    }
}
