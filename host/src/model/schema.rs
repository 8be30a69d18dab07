//! Arrow schemas. Column names are GoFlow2's snake_case: the same in JSON, SQL, configs and plugins.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use std::sync::{Arc, LazyLock};

/// Positions of the core columns in a flow batch. A wide batch has the same and more after them.
pub mod col {
    /// Ingest time, ns.
    pub const TIME_RECEIVED_NS: usize = 0;
    /// Start of the flow, ns; 0 when the record has none.
    pub const TIME_FLOW_START_NS: usize = 1;
    /// End of the flow, ns; 0 when the record has none.
    pub const TIME_FLOW_END_NS: usize = 2;
    /// Exporter.
    pub const SAMPLER_ADDRESS: usize = 3;
    /// Observation domain (IPFIX), source id (v9), engine (v5).
    pub const OBSERVATION_DOMAIN_ID: usize = 4;
    /// N of 1-in-N; 0 unknown.
    pub const SAMPLING_RATE: usize = 5;
    /// Source address.
    pub const SRC_ADDR: usize = 6;
    /// Destination address.
    pub const DST_ADDR: usize = 7;
    /// Source port.
    pub const SRC_PORT: usize = 8;
    /// Destination port.
    pub const DST_PORT: usize = 9;
    /// IP protocol number.
    pub const PROTO: usize = 10;
    /// TCP flags, or-ed over the flow.
    pub const TCP_FLAGS: usize = 11;
    /// Bytes as on the wire of the export.
    pub const BYTES: usize = 12;
    /// Packets as on the wire of the export.
    pub const PACKETS: usize = 13;
    /// Bytes times the sampling rate (times 1 when unknown).
    pub const BYTES_SCALED: usize = 14;
    /// Packets times the sampling rate (times 1 when unknown).
    pub const PACKETS_SCALED: usize = 15;
    /// Input ifIndex.
    pub const IN_IF: usize = 16;
    /// Output ifIndex.
    pub const OUT_IF: usize = 17;
    /// Source AS.
    pub const SRC_AS: usize = 18;
    /// Destination AS.
    pub const DST_AS: usize = 19;
    /// Source prefix length.
    pub const SRC_NET: usize = 20;
    /// Destination prefix length.
    pub const DST_NET: usize = 21;
    /// Next hop.
    pub const NEXT_HOP: usize = 22;
    /// Type of service / traffic class.
    pub const IP_TOS: usize = 23;
    /// VLAN id.
    pub const VLAN_ID: usize = 24;
    /// Export protocol, see `FlowType`.
    pub const TYPE: usize = 25;
}

static FLOW: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(Schema::new(core_fields())));

/// The schema of a flow batch. No column is nullable: an absent value is 0 (or `::`).
pub fn flow_schema() -> SchemaRef {
    FLOW.clone()
}

fn core_fields() -> Vec<Field> {
    let f = |name: &str, ty: DataType| Field::new(name, ty, false);
    let addr = || DataType::FixedSizeBinary(16);
    vec![
        f("time_received_ns", DataType::UInt64),
        f("time_flow_start_ns", DataType::UInt64),
        f("time_flow_end_ns", DataType::UInt64),
        f("sampler_address", addr()),
        f("observation_domain_id", DataType::UInt32),
        f("sampling_rate", DataType::UInt64),
        f("src_addr", addr()),
        f("dst_addr", addr()),
        f("src_port", DataType::UInt16),
        f("dst_port", DataType::UInt16),
        f("proto", DataType::UInt8),
        f("tcp_flags", DataType::UInt16),
        f("bytes", DataType::UInt64),
        f("packets", DataType::UInt64),
        f("bytes_scaled", DataType::UInt64),
        f("packets_scaled", DataType::UInt64),
        f("in_if", DataType::UInt32),
        f("out_if", DataType::UInt32),
        f("src_as", DataType::UInt32),
        f("dst_as", DataType::UInt32),
        f("src_net", DataType::UInt8),
        f("dst_net", DataType::UInt8),
        f("next_hop", addr()),
        f("ip_tos", DataType::UInt8),
        f("vlan_id", DataType::UInt16),
        f("type", DataType::UInt8),
    ]
}

/// The core columns of a flow batch as plain slices, so that hot loops index instead of downcasting.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // the schema documents the names
pub struct FlowColumns<'a> {
    pub time_received_ns: &'a [u64],
    pub time_flow_start_ns: &'a [u64],
    pub time_flow_end_ns: &'a [u64],
    pub sampler_address: &'a [[u8; 16]],
    pub src_addr: &'a [[u8; 16]],
    pub dst_addr: &'a [[u8; 16]],
    pub src_port: &'a [u16],
    pub dst_port: &'a [u16],
    pub proto: &'a [u8],
    pub tcp_flags: &'a [u16],
    pub packets: &'a [u64],
    pub bytes_scaled: &'a [u64],
    pub packets_scaled: &'a [u64],
    pub in_if: &'a [u32],
}

impl<'a> FlowColumns<'a> {
    /// The columns of a batch that has [`flow_schema`] (or that and more).
    ///
    /// # Panics
    /// When the batch has another schema: batches are made only by `FlowBatchBuilder`.
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
            src_addr: addresses(batch, col::SRC_ADDR),
            dst_addr: addresses(batch, col::DST_ADDR),
            src_port: primitive::<UInt16Type>(batch, col::SRC_PORT),
            dst_port: primitive::<UInt16Type>(batch, col::DST_PORT),
            proto: primitive::<UInt8Type>(batch, col::PROTO),
            tcp_flags: primitive::<UInt16Type>(batch, col::TCP_FLAGS),
            packets: primitive::<UInt64Type>(batch, col::PACKETS),
            bytes_scaled: primitive::<UInt64Type>(batch, col::BYTES_SCALED),
            packets_scaled: primitive::<UInt64Type>(batch, col::PACKETS_SCALED),
            in_if: primitive::<UInt32Type>(batch, col::IN_IF),
        }
    }
}
