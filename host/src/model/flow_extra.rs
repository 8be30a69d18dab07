//! What a flow record may carry beyond the core columns. Filled only on request (`kaminari decode`): the hot path
//! does not pay for it.

use super::addr::Addr;

/// Optional fields of a flow record, named as GoFlow2 where it has a name. `None` or empty: the record did not carry it.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the names say it
pub struct FlowExtra {
    pub src_mac: Option<[u8; 6]>,
    pub dst_mac: Option<[u8; 6]>,
    pub src_vlan: Option<u16>,
    pub dst_vlan: Option<u16>,
    pub ip_ttl: Option<u8>,
    pub ip_flags: Option<u8>,
    /// Ethernet type of the network layer: 0x0800, 0x86dd.
    pub etype: Option<u16>,
    pub icmp_type: Option<u8>,
    pub icmp_code: Option<u8>,
    pub ipv6_flow_label: Option<u32>,
    pub fragment_id: Option<u32>,
    pub fragment_offset: Option<u16>,
    pub forwarding_status: Option<u8>,
    /// Top label first.
    pub mpls_label: Vec<u32>,
    pub bgp_next_hop: Option<Addr>,
    pub observation_point_id: Option<u64>,
    /// 0 ingress, 1 egress.
    pub flow_direction: Option<u8>,
    /// RFC 5103: true for the record made of the reverse half of a biflow.
    pub biflow_reverse: bool,
    pub flow_end_reason: Option<u8>,
    pub ingress_vrf_id: Option<u32>,
    pub egress_vrf_id: Option<u32>,
    pub nat_src_addr: Option<Addr>,
    pub nat_dst_addr: Option<Addr>,
    pub nat_src_port: Option<u16>,
    pub nat_dst_port: Option<u16>,
    pub nat_event: Option<u8>,
    pub firewall_event: Option<u8>,
    /// Octets and packets after the middlebox, where the record states both sides.
    pub post_bytes: Option<u64>,
    pub post_packets: Option<u64>,
    /// Sampler or selector that the exporter named.
    pub sampler_id: Option<u64>,
}

impl FlowExtra {
    /// Forgets everything and keeps the label stack's memory.
    pub fn reset(&mut self) {
        let mut labels = std::mem::take(&mut self.mpls_label);
        labels.clear();
        *self = Self { mpls_label: labels, ..Self::default() };
    }
}
