//! Tests read the generator's datagrams with an independent decoder (`netflow_parser`) and check what a collector
//! would check: sequence numbers, templates before data, sampling announcements.

use super::Version;
use crate::model::{Addr, FlowRecord};
use netflow_parser::variable_versions::ipfix::{self, lookup::IPFixField};
use netflow_parser::variable_versions::v9;
use netflow_parser::{FieldValue, NetflowPacket, NetflowParser, V9Field};
use std::collections::HashMap;
use std::net::IpAddr;

/// Numbers of the elements that our templates use.
const ELEMENTS: [u16; 26] =
    [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 21, 22, 27, 28, 29, 30, 58, 62, 152, 153];

/// One collector for all exporters.
#[derive(Default)]
pub struct Reference {
    exporters: HashMap<IpAddr, Exporter>,
    /// What was decoded, in order of arrival.
    pub records: Vec<FlowRecord>,
    pub datagrams: u64,
}

#[derive(Default)]
struct Exporter {
    parser: NetflowParser,
    next_sequence: u32,
    sampling: u64,
}

impl Reference {
    /// Decodes one datagram; panics on whatever a collector would complain about.
    pub fn datagram(&mut self, from: IpAddr, received_ns: u64, bytes: &[u8]) {
        self.datagrams += 1;
        let exporter = self.exporters.entry(from).or_default();
        let result = exporter.parser.parse_bytes(bytes);
        assert!(result.error.is_none(), "{:?}", result.error);
        assert_eq!(result.packets.len(), 1);
        let first = self.records.len();
        let sequence = match &result.packets[0] {
            NetflowPacket::V5(v5) => exporter.v5(v5, &mut self.records),
            NetflowPacket::V9(v9) => exporter.v9(v9, &mut self.records),
            NetflowPacket::IPFix(ipfix) => exporter.ipfix(ipfix, &mut self.records),
            other => panic!("unexpected packet {other:?}"),
        };
        let (got, next) = sequence;
        assert_eq!(got, exporter.next_sequence, "sequence number of {from}");
        exporter.next_sequence = next;
        assert!(exporter.sampling > 0, "no sampling rate before the first records of {from}");
        for record in &mut self.records[first..] {
            record.time_received_ns = received_ns;
            record.sampler_address = Addr::from(from);
            record.sampling_rate = exporter.sampling;
        }
    }
}

impl Exporter {
    fn v5(&mut self, v5: &netflow_parser::static_versions::v5::V5, out: &mut Vec<FlowRecord>) -> (u32, u32) {
        let h = &v5.header;
        assert_eq!(usize::from(h.count), v5.flowsets.len());
        assert_eq!(h.sampling_interval >> 14, 1);
        self.sampling = u64::from(h.sampling_interval & 0x3fff);
        let boot_ns =
            u64::from(h.unix_secs) * 1_000_000_000 + u64::from(h.unix_nsecs) - u64::from(h.sys_up_time) * 1_000_000;
        out.extend(v5.flowsets.iter().map(|f| FlowRecord {
            time_flow_start_ns: boot_ns + u64::from(f.first) * 1_000_000,
            time_flow_end_ns: boot_ns + u64::from(f.last) * 1_000_000,
            observation_domain_id: u32::from(h.engine_id),
            src_addr: IpAddr::from(f.src_addr).into(),
            dst_addr: IpAddr::from(f.dst_addr).into(),
            next_hop: IpAddr::from(f.next_hop).into(),
            src_port: f.src_port,
            dst_port: f.dst_port,
            proto: f.protocol_number,
            tcp_flags: f.tcp_flags.into(),
            bytes: f.d_octets.into(),
            packets: f.d_pkts.into(),
            in_if: f.input.into(),
            out_if: f.output.into(),
            src_as: f.src_as.into(),
            dst_as: f.dst_as.into(),
            src_net: f.src_mask,
            dst_net: f.dst_mask,
            ip_tos: f.tos,
            flow_type: Version::V5.flow_type(),
            ..FlowRecord::default()
        }));
        (h.flow_sequence, h.flow_sequence.wrapping_add(u32::from(h.count)))
    }

    fn v9(&mut self, v9: &v9::V9, out: &mut Vec<FlowRecord>) -> (u32, u32) {
        let h = &v9.header;
        let boot_ns = u64::from(h.unix_secs) * 1_000_000_000 - u64::from(h.sys_up_time) * 1_000_000;
        let mut count = 0;
        for set in &v9.flowsets {
            match &set.body {
                v9::FlowSetBody::Template(t) => count += t.templates.len(),
                v9::FlowSetBody::OptionsTemplate(t) => count += t.templates.len(),
                v9::FlowSetBody::OptionsData(options) => {
                    for (field, value) in &options.fields[0].options_fields {
                        if *field == V9Field::from(34) {
                            self.sampling = value.as_u64().unwrap();
                        }
                    }
                    count += options.fields.len();
                }
                v9::FlowSetBody::Data(data) => {
                    count += data.fields.len();
                    for fields in &data.fields {
                        let pairs = fields.iter().map(|(f, v)| (u16::from(*f), v));
                        out.push(record(pairs, h.source_id, Version::V9, boot_ns));
                    }
                }
                other => panic!("unexpected flowset {other:?}"),
            }
        }
        assert_eq!(usize::from(h.count), count, "records of every kind");
        (h.sequence_number, h.sequence_number.wrapping_add(1))
    }

    fn ipfix(&mut self, ipfix: &ipfix::IPFix, out: &mut Vec<FlowRecord>) -> (u32, u32) {
        let h = &ipfix.header;
        let mut data_records = 0;
        for set in &ipfix.flowsets {
            match &set.body {
                ipfix::FlowSetBody::Templates(_) | ipfix::FlowSetBody::OptionsTemplate(_) => {}
                ipfix::FlowSetBody::OptionsData(options) => {
                    for (field, value) in &options.fields[0] {
                        if *field == IPFixField::new(34, None) {
                            self.sampling = value.as_u64().unwrap();
                        }
                    }
                    data_records += options.fields.len();
                }
                ipfix::FlowSetBody::Data(data) => {
                    data_records += data.fields.len();
                    for fields in &data.fields {
                        let pairs = fields.iter().map(|(f, v)| {
                            let number = ELEMENTS.into_iter().find(|n| IPFixField::new(*n, None) == *f);
                            (number.expect("an element of ours"), v)
                        });
                        out.push(record(pairs, h.observation_domain_id, Version::Ipfix, 0));
                    }
                }
                other => panic!("unexpected set {other:?}"),
            }
        }
        (h.sequence_number, h.sequence_number.wrapping_add(data_records as u32))
    }
}

fn record<'a>(
    pairs: impl Iterator<Item = (u16, &'a FieldValue)>,
    domain: u32,
    version: Version,
    boot_ns: u64,
) -> FlowRecord {
    let mut r = FlowRecord { observation_domain_id: domain, flow_type: version.flow_type(), ..FlowRecord::default() };
    for (element, value) in pairs {
        let mut bytes = Vec::new();
        value.write_be_bytes(&mut bytes).unwrap();
        let n = bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
        let address = || match bytes.len() {
            4 => Addr::from_v4_bytes(bytes[..].try_into().unwrap()),
            _ => Addr(bytes[..].try_into().unwrap()),
        };
        match element {
            1 => r.bytes = n,
            2 => r.packets = n,
            4 => r.proto = n as u8,
            5 => r.ip_tos = n as u8,
            6 => r.tcp_flags = n as u16,
            7 => r.src_port = n as u16,
            8 | 27 => r.src_addr = address(),
            9 | 29 => r.src_net = n as u8,
            10 => r.in_if = n as u32,
            11 => r.dst_port = n as u16,
            12 | 28 => r.dst_addr = address(),
            13 | 30 => r.dst_net = n as u8,
            14 => r.out_if = n as u32,
            15 | 62 => r.next_hop = address(),
            16 => r.src_as = n as u32,
            17 => r.dst_as = n as u32,
            21 => r.time_flow_end_ns = boot_ns + n * 1_000_000,
            22 => r.time_flow_start_ns = boot_ns + n * 1_000_000,
            58 => r.vlan_id = n as u16,
            152 => r.time_flow_start_ns = n * 1_000_000,
            153 => r.time_flow_end_ns = n * 1_000_000,
            other => panic!("element {other} is not ours"),
        }
    }
    r
}
