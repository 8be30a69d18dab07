//! Arrow schemas. Column names are GoFlow2's snake_case: the same in JSON, SQL, configs and plugins.

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
