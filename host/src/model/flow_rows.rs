//! The columns of a flow batch as records again: for formats that are written record by record.

use super::addr::Addr;
use super::flow::{FlowRecord, FlowType};
use super::schema::col;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};

/// All core columns as plain slices.
#[derive(Clone, Copy, Debug)]
pub struct FlowRows<'a> {
    time_received_ns: &'a [u64],
    time_flow_start_ns: &'a [u64],
    time_flow_end_ns: &'a [u64],
    sampler_address: &'a [[u8; 16]],
    observation_domain_id: &'a [u32],
    sampling_rate: &'a [u64],
    src_addr: &'a [[u8; 16]],
    dst_addr: &'a [[u8; 16]],
    src_port: &'a [u16],
    dst_port: &'a [u16],
    proto: &'a [u8],
    tcp_flags: &'a [u16],
    bytes: &'a [u64],
    packets: &'a [u64],
    in_if: &'a [u32],
    out_if: &'a [u32],
    src_as: &'a [u32],
    dst_as: &'a [u32],
    src_net: &'a [u8],
    dst_net: &'a [u8],
    next_hop: &'a [[u8; 16]],
    ip_tos: &'a [u8],
    vlan_id: &'a [u16],
    flow_type: &'a [u8],
}

impl<'a> FlowRows<'a> {
    /// The rows of a batch that has [`flow_schema`](super::schema::flow_schema) (or that and more).
    ///
    /// # Panics
    /// When the batch has another schema, as [`FlowColumns`](super::schema::FlowColumns).
    pub fn new(batch: &'a RecordBatch) -> Self {
        fn primitive<T: ArrowPrimitiveType>(batch: &RecordBatch, at: usize) -> &[T::Native] {
            batch.column(at).as_primitive::<T>().values()
        }
        fn addresses(batch: &RecordBatch, at: usize) -> &[[u8; 16]] {
            batch.column(at).as_fixed_size_binary().value_data().as_chunks::<16>().0
        }
        Self {
            time_received_ns: primitive::<UInt64Type>(batch, col::TIME_RECEIVED_NS),
            time_flow_start_ns: primitive::<UInt64Type>(batch, col::TIME_FLOW_START_NS),
            time_flow_end_ns: primitive::<UInt64Type>(batch, col::TIME_FLOW_END_NS),
            sampler_address: addresses(batch, col::SAMPLER_ADDRESS),
            observation_domain_id: primitive::<UInt32Type>(batch, col::OBSERVATION_DOMAIN_ID),
            sampling_rate: primitive::<UInt64Type>(batch, col::SAMPLING_RATE),
            src_addr: addresses(batch, col::SRC_ADDR),
            dst_addr: addresses(batch, col::DST_ADDR),
            src_port: primitive::<UInt16Type>(batch, col::SRC_PORT),
            dst_port: primitive::<UInt16Type>(batch, col::DST_PORT),
            proto: primitive::<UInt8Type>(batch, col::PROTO),
            tcp_flags: primitive::<UInt16Type>(batch, col::TCP_FLAGS),
            bytes: primitive::<UInt64Type>(batch, col::BYTES),
            packets: primitive::<UInt64Type>(batch, col::PACKETS),
            in_if: primitive::<UInt32Type>(batch, col::IN_IF),
            out_if: primitive::<UInt32Type>(batch, col::OUT_IF),
            src_as: primitive::<UInt32Type>(batch, col::SRC_AS),
            dst_as: primitive::<UInt32Type>(batch, col::DST_AS),
            src_net: primitive::<UInt8Type>(batch, col::SRC_NET),
            dst_net: primitive::<UInt8Type>(batch, col::DST_NET),
            next_hop: addresses(batch, col::NEXT_HOP),
            ip_tos: primitive::<UInt8Type>(batch, col::IP_TOS),
            vlan_id: primitive::<UInt16Type>(batch, col::VLAN_ID),
            flow_type: primitive::<UInt8Type>(batch, col::TYPE),
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One of them.
    #[inline]
    pub fn row(&self, i: usize) -> FlowRecord {
        FlowRecord {
            time_received_ns: self.time_received_ns[i],
            time_flow_start_ns: self.time_flow_start_ns[i],
            time_flow_end_ns: self.time_flow_end_ns[i],
            sampler_address: Addr(self.sampler_address[i]),
            observation_domain_id: self.observation_domain_id[i],
            sampling_rate: self.sampling_rate[i],
            src_addr: Addr(self.src_addr[i]),
            dst_addr: Addr(self.dst_addr[i]),
            src_port: self.src_port[i],
            dst_port: self.dst_port[i],
            proto: self.proto[i],
            tcp_flags: self.tcp_flags[i],
            bytes: self.bytes[i],
            packets: self.packets[i],
            in_if: self.in_if[i],
            out_if: self.out_if[i],
            src_as: self.src_as[i],
            dst_as: self.dst_as[i],
            src_net: self.src_net[i],
            dst_net: self.dst_net[i],
            next_hop: Addr(self.next_hop[i]),
            ip_tos: self.ip_tos[i],
            vlan_id: self.vlan_id[i],
            flow_type: FlowType::from_u8(self.flow_type[i]),
            extra: None,
        }
    }
}

#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;

    /// A record with a different value in every column.
    pub fn record(n: u8) -> FlowRecord {
        FlowRecord {
            time_received_ns: 1_700_000_000_000_000_000 + u64::from(n),
            time_flow_start_ns: 1_699_999_999_000_000_001,
            time_flow_end_ns: 1_699_999_999_500_000_002,
            sampler_address: Addr::from_v4_bytes([192, 0, 2, 1]),
            observation_domain_id: 300,
            sampling_rate: 1000,
            src_addr: Addr::from_v4_bytes([198, 51, 100, n]),
            dst_addr: Addr::from_v4_bytes([203, 0, n, 7]),
            src_port: 53,
            dst_port: 40_000 + u16::from(n),
            proto: 17,
            tcp_flags: 0x12,
            bytes: 1_400,
            packets: 2,
            in_if: 10,
            out_if: 20,
            src_as: 64_500,
            dst_as: 64_501,
            src_net: 24,
            dst_net: 22,
            next_hop: "2001:db8::9".parse().unwrap(),
            ip_tos: 8,
            vlan_id: 42,
            flow_type: FlowType::Ipfix,
            extra: None,
        }
    }

    /// So many of them as columns.
    pub fn batch(n: u8) -> RecordBatch {
        use crate::model::flow::{FlowBatchBuilder, FlowSink};
        let mut builder = FlowBatchBuilder::default();
        (0..n).for_each(|n| builder.push(&record(n)));
        builder.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_the_records_that_made_them() {
        let batch = fixtures::batch(5);
        let rows = FlowRows::new(&batch);
        assert_eq!((rows.len(), rows.is_empty()), (5, false));
        (0..5).for_each(|n| assert_eq!(rows.row(n), fixtures::record(n as u8)));
        let part = batch.slice(2, 2);
        assert_eq!(FlowRows::new(&part).row(0), fixtures::record(2));
    }
}
