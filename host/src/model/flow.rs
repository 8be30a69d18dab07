//! One flow record, and the builder that turns records into columns.

use super::addr::Addr;
use super::flow_columns;
use super::schema::{col, flow_schema};
use arrow_array::types::{UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, FixedSizeBinaryArray, RecordBatch, UInt8Array, UInt16Array, UInt32Array, UInt64Array};
use arrow_buffer::{Buffer, ScalarBuffer};
use std::sync::Arc;

/// Export protocol. Numbers 0..=4 are GoFlow2's `FlowMessage.FlowType`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum FlowType {
    /// Not stated (JSON or CSV files).
    #[default]
    Unknown = 0,
    /// sFlow version 5.
    Sflow5 = 1,
    /// NetFlow version 5.
    NetflowV5 = 2,
    /// NetFlow version 9 (RFC 3954).
    NetflowV9 = 3,
    /// IPFIX (RFC 7011).
    Ipfix = 4,
    /// NetFlow version 7.
    NetflowV7 = 5,
}

impl FlowType {
    /// Every type.
    pub const ALL: [FlowType; 6] = [
        FlowType::Unknown,
        FlowType::Sflow5,
        FlowType::NetflowV5,
        FlowType::NetflowV9,
        FlowType::Ipfix,
        FlowType::NetflowV7,
    ];

    /// Name in JSON (GoFlow2's spelling).
    pub const fn name(self) -> &'static str {
        match self {
            FlowType::Unknown => "FLOWUNKNOWN",
            FlowType::Sflow5 => "SFLOW_5",
            FlowType::NetflowV5 => "NETFLOW_V5",
            FlowType::NetflowV9 => "NETFLOW_V9",
            FlowType::Ipfix => "IPFIX",
            FlowType::NetflowV7 => "NETFLOW_V7",
        }
    }

    /// The type of that number or, for numbers nobody has given out, `Unknown`.
    pub fn from_u8(n: u8) -> Self {
        Self::ALL.into_iter().find(|t| *t as u8 == n).unwrap_or_default()
    }
}

/// One decoded flow record. Absent values are 0 (addresses `::`), as in the schema.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the schema documents the names
pub struct FlowRecord {
    pub time_received_ns: u64,
    pub time_flow_start_ns: u64,
    pub time_flow_end_ns: u64,
    pub sampler_address: Addr,
    pub observation_domain_id: u32,
    /// N of 1-in-N; 0 unknown.
    pub sampling_rate: u64,
    pub src_addr: Addr,
    pub dst_addr: Addr,
    pub src_port: u16,
    pub dst_port: u16,
    pub proto: u8,
    pub tcp_flags: u16,
    pub bytes: u64,
    pub packets: u64,
    pub in_if: u32,
    pub out_if: u32,
    pub src_as: u32,
    pub dst_as: u32,
    pub src_net: u8,
    pub dst_net: u8,
    pub next_hop: Addr,
    pub ip_tos: u8,
    pub vlan_id: u16,
    pub flow_type: FlowType,
    /// What is not in the core columns; filled only when the decoder is asked for it (`kaminari decode`).
    pub extra: Option<Box<super::flow_extra::FlowExtra>>,
}

/// Where decoders put their records.
pub trait FlowSink {
    /// Takes one record.
    fn push(&mut self, record: &FlowRecord);

    /// Takes many: a batch with exactly [`flow_schema`]. Row by row, unless the sink has columns itself.
    fn push_columns(&mut self, batch: &RecordBatch) {
        flow_columns::each(batch, |record| self.push(record));
    }
}

impl FlowSink for Vec<FlowRecord> {
    fn push(&mut self, record: &FlowRecord) {
        Vec::push(self, record.clone());
    }
}

/// Columns under construction. `extra` is not kept: it has no columns.
#[derive(Default, Debug)]
pub struct FlowBatchBuilder {
    time_received_ns: Vec<u64>,
    time_flow_start_ns: Vec<u64>,
    time_flow_end_ns: Vec<u64>,
    sampler_address: Vec<[u8; 16]>,
    observation_domain_id: Vec<u32>,
    sampling_rate: Vec<u64>,
    src_addr: Vec<[u8; 16]>,
    dst_addr: Vec<[u8; 16]>,
    src_port: Vec<u16>,
    dst_port: Vec<u16>,
    proto: Vec<u8>,
    tcp_flags: Vec<u16>,
    bytes: Vec<u64>,
    packets: Vec<u64>,
    bytes_scaled: Vec<u64>,
    packets_scaled: Vec<u64>,
    in_if: Vec<u32>,
    out_if: Vec<u32>,
    src_as: Vec<u32>,
    dst_as: Vec<u32>,
    src_net: Vec<u8>,
    dst_net: Vec<u8>,
    next_hop: Vec<[u8; 16]>,
    ip_tos: Vec<u8>,
    vlan_id: Vec<u16>,
    flow_type: Vec<u8>,
}

impl FlowSink for FlowBatchBuilder {
    #[inline]
    fn push(&mut self, r: &FlowRecord) {
        let rate = r.sampling_rate.max(1);
        self.time_received_ns.push(r.time_received_ns);
        self.time_flow_start_ns.push(r.time_flow_start_ns);
        self.time_flow_end_ns.push(r.time_flow_end_ns);
        self.sampler_address.push(r.sampler_address.0);
        self.observation_domain_id.push(r.observation_domain_id);
        self.sampling_rate.push(r.sampling_rate);
        self.src_addr.push(r.src_addr.0);
        self.dst_addr.push(r.dst_addr.0);
        self.src_port.push(r.src_port);
        self.dst_port.push(r.dst_port);
        self.proto.push(r.proto);
        self.tcp_flags.push(r.tcp_flags);
        self.bytes.push(r.bytes);
        self.packets.push(r.packets);
        self.bytes_scaled.push(r.bytes.saturating_mul(rate));
        self.packets_scaled.push(r.packets.saturating_mul(rate));
        self.in_if.push(r.in_if);
        self.out_if.push(r.out_if);
        self.src_as.push(r.src_as);
        self.dst_as.push(r.dst_as);
        self.src_net.push(r.src_net);
        self.dst_net.push(r.dst_net);
        self.next_hop.push(r.next_hop.0);
        self.ip_tos.push(r.ip_tos);
        self.vlan_id.push(r.vlan_id);
        self.flow_type.push(r.flow_type as u8);
    }

    /// The columns as they are, the scaled ones too.
    fn push_columns(&mut self, batch: &RecordBatch) {
        use flow_columns::{addresses, primitive};
        self.time_received_ns.extend_from_slice(primitive::<UInt64Type>(batch, col::TIME_RECEIVED_NS));
        self.time_flow_start_ns.extend_from_slice(primitive::<UInt64Type>(batch, col::TIME_FLOW_START_NS));
        self.time_flow_end_ns.extend_from_slice(primitive::<UInt64Type>(batch, col::TIME_FLOW_END_NS));
        self.sampler_address.extend_from_slice(addresses(batch, col::SAMPLER_ADDRESS));
        self.observation_domain_id.extend_from_slice(primitive::<UInt32Type>(batch, col::OBSERVATION_DOMAIN_ID));
        self.sampling_rate.extend_from_slice(primitive::<UInt64Type>(batch, col::SAMPLING_RATE));
        self.src_addr.extend_from_slice(addresses(batch, col::SRC_ADDR));
        self.dst_addr.extend_from_slice(addresses(batch, col::DST_ADDR));
        self.src_port.extend_from_slice(primitive::<UInt16Type>(batch, col::SRC_PORT));
        self.dst_port.extend_from_slice(primitive::<UInt16Type>(batch, col::DST_PORT));
        self.proto.extend_from_slice(primitive::<UInt8Type>(batch, col::PROTO));
        self.tcp_flags.extend_from_slice(primitive::<UInt16Type>(batch, col::TCP_FLAGS));
        self.bytes.extend_from_slice(primitive::<UInt64Type>(batch, col::BYTES));
        self.packets.extend_from_slice(primitive::<UInt64Type>(batch, col::PACKETS));
        self.bytes_scaled.extend_from_slice(primitive::<UInt64Type>(batch, col::BYTES_SCALED));
        self.packets_scaled.extend_from_slice(primitive::<UInt64Type>(batch, col::PACKETS_SCALED));
        self.in_if.extend_from_slice(primitive::<UInt32Type>(batch, col::IN_IF));
        self.out_if.extend_from_slice(primitive::<UInt32Type>(batch, col::OUT_IF));
        self.src_as.extend_from_slice(primitive::<UInt32Type>(batch, col::SRC_AS));
        self.dst_as.extend_from_slice(primitive::<UInt32Type>(batch, col::DST_AS));
        self.src_net.extend_from_slice(primitive::<UInt8Type>(batch, col::SRC_NET));
        self.dst_net.extend_from_slice(primitive::<UInt8Type>(batch, col::DST_NET));
        self.next_hop.extend_from_slice(addresses(batch, col::NEXT_HOP));
        self.ip_tos.extend_from_slice(primitive::<UInt8Type>(batch, col::IP_TOS));
        self.vlan_id.extend_from_slice(primitive::<UInt16Type>(batch, col::VLAN_ID));
        self.flow_type.extend_from_slice(primitive::<UInt8Type>(batch, col::TYPE));
    }
}

impl FlowBatchBuilder {
    /// Records so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when nothing was pushed since the last `finish`.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Ingest times of the first and the last record.
    pub fn received_ns(&self) -> Option<(u64, u64)> {
        self.time_received_ns.first().copied().zip(self.time_received_ns.last().copied())
    }

    /// Takes the columns out as a batch with [`flow_schema`] and starts anew.
    pub fn finish(&mut self) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            u64s(&mut self.time_received_ns),
            u64s(&mut self.time_flow_start_ns),
            u64s(&mut self.time_flow_end_ns),
            addrs(&mut self.sampler_address),
            u32s(&mut self.observation_domain_id),
            u64s(&mut self.sampling_rate),
            addrs(&mut self.src_addr),
            addrs(&mut self.dst_addr),
            u16s(&mut self.src_port),
            u16s(&mut self.dst_port),
            u8s(&mut self.proto),
            u16s(&mut self.tcp_flags),
            u64s(&mut self.bytes),
            u64s(&mut self.packets),
            u64s(&mut self.bytes_scaled),
            u64s(&mut self.packets_scaled),
            u32s(&mut self.in_if),
            u32s(&mut self.out_if),
            u32s(&mut self.src_as),
            u32s(&mut self.dst_as),
            u8s(&mut self.src_net),
            u8s(&mut self.dst_net),
            addrs(&mut self.next_hop),
            u8s(&mut self.ip_tos),
            u16s(&mut self.vlan_id),
            u8s(&mut self.flow_type),
        ];
        RecordBatch::try_new(flow_schema(), columns).expect("the columns above follow the schema and have one length")
    }
}

fn u64s(v: &mut Vec<u64>) -> ArrayRef {
    Arc::new(UInt64Array::new(ScalarBuffer::from(take(v)), None))
}
fn u32s(v: &mut Vec<u32>) -> ArrayRef {
    Arc::new(UInt32Array::new(ScalarBuffer::from(take(v)), None))
}
fn u16s(v: &mut Vec<u16>) -> ArrayRef {
    Arc::new(UInt16Array::new(ScalarBuffer::from(take(v)), None))
}
fn u8s(v: &mut Vec<u8>) -> ArrayRef {
    Arc::new(UInt8Array::new(ScalarBuffer::from(take(v)), None))
}
fn addrs(v: &mut Vec<[u8; 16]>) -> ArrayRef {
    Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(take(v).into_flattened()), None))
}

/// Leaves an empty vector of the same capacity: the next batch will be about as large.
fn take<T>(v: &mut Vec<T>) -> Vec<T> {
    let capacity = v.capacity();
    std::mem::replace(v, Vec::with_capacity(capacity))
}

/// A batch of flow records on its way to the windows.
#[derive(Clone, Debug)]
pub struct FlowBatch {
    /// Source id in the config.
    pub source: Arc<str>,
    /// Partition of the source: watermarks are kept per partition.
    pub partition: u32,
    /// When they came in, ns, where that is not when they were received: records out of a log. What is idle goes by it.
    pub arrived_ns: Option<u64>,
    /// Rows with [`flow_schema`].
    pub batch: RecordBatch,
}
