//! A flow record as one line of canonical JSON: GoFlow2's names in snake_case, addresses as text, times as integer
//! nanoseconds. Written straight into a buffer: no tree, no allocation.

use super::addr::Addr;
use super::flow::FlowRecord;
use super::flow_extra::FlowExtra;
use std::io::Write;

/// IANA protocol names as GoFlow2 prints them; others are printed as numbers.
const PROTOCOLS: &[(u8, &str)] = &[
    (0, "HOPOPT"),
    (1, "ICMP"),
    (2, "IGMP"),
    (4, "IPv4"),
    (6, "TCP"),
    (8, "EGP"),
    (17, "UDP"),
    (41, "IPv6"),
    (43, "IPv6-Route"),
    (44, "IPv6-Frag"),
    (46, "RSVP"),
    (47, "GRE"),
    (50, "ESP"),
    (51, "AH"),
    (58, "IPv6-ICMP"),
    (88, "EIGRP"),
    (89, "OSPFIGP"),
    (94, "IPIP"),
    (97, "ETHERIP"),
    (103, "PIM"),
    (112, "VRRP"),
    (115, "L2TP"),
    (132, "SCTP"),
    (136, "UDPLite"),
];

/// The protocol of that name, in any case.
pub fn proto_number(name: &str) -> Option<u8> {
    let found = PROTOCOLS.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map(|(n, _)| *n);
    // pmacct's and /etc/protocols' other spellings.
    found.or(match name {
        "icmp6" | "ICMPv6" | "icmpv6" => Some(58),
        "ospf" | "OSPF" => Some(89),
        "ip" => Some(0),
        _ => None,
    })
}

/// Appends the record as one line, without the line break.
pub fn write(r: &FlowRecord, out: &mut Vec<u8>) {
    let rate = r.sampling_rate.max(1);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(r.flow_type.name().as_bytes());
    out.push(b'"');
    number(out, "time_received_ns", r.time_received_ns);
    number(out, "time_flow_start_ns", r.time_flow_start_ns);
    number(out, "time_flow_end_ns", r.time_flow_end_ns);
    address(out, "sampler_address", r.sampler_address);
    number(out, "observation_domain_id", u64::from(r.observation_domain_id));
    number(out, "sampling_rate", r.sampling_rate);
    address(out, "src_addr", r.src_addr);
    address(out, "dst_addr", r.dst_addr);
    number(out, "src_port", u64::from(r.src_port));
    number(out, "dst_port", u64::from(r.dst_port));
    match PROTOCOLS.iter().find(|(n, _)| *n == r.proto) {
        Some((_, name)) => text(out, "proto", name),
        None => number(out, "proto", u64::from(r.proto)),
    }
    number(out, "tcp_flags", u64::from(r.tcp_flags));
    number(out, "bytes", r.bytes);
    number(out, "packets", r.packets);
    number(out, "bytes_scaled", r.bytes.saturating_mul(rate));
    number(out, "packets_scaled", r.packets.saturating_mul(rate));
    number(out, "in_if", u64::from(r.in_if));
    number(out, "out_if", u64::from(r.out_if));
    number(out, "src_as", u64::from(r.src_as));
    number(out, "dst_as", u64::from(r.dst_as));
    number(out, "src_net", u64::from(r.src_net));
    number(out, "dst_net", u64::from(r.dst_net));
    address(out, "next_hop", r.next_hop);
    number(out, "ip_tos", u64::from(r.ip_tos));
    number(out, "vlan_id", u64::from(r.vlan_id));
    if let Some(extra) = &r.extra {
        write_extra(extra, out);
    }
    out.push(b'}');
}

fn write_extra(x: &FlowExtra, out: &mut Vec<u8>) {
    for (name, mac) in [("src_mac", x.src_mac), ("dst_mac", x.dst_mac)] {
        if let Some([a, b, c, d, e, f]) = mac {
            key(out, name);
            let _ = write!(out, "\"{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}\"");
        }
    }
    match x.etype {
        Some(0x0800) => text(out, "etype", "IPv4"),
        Some(0x86dd) => text(out, "etype", "IPv6"),
        Some(0x0806) => text(out, "etype", "ARP"),
        Some(n) => number(out, "etype", u64::from(n)),
        None => {}
    }
    let numbers = [
        ("src_vlan", x.src_vlan.map(u64::from)),
        ("dst_vlan", x.dst_vlan.map(u64::from)),
        ("ip_ttl", x.ip_ttl.map(u64::from)),
        ("ip_flags", x.ip_flags.map(u64::from)),
        ("icmp_type", x.icmp_type.map(u64::from)),
        ("icmp_code", x.icmp_code.map(u64::from)),
        ("ipv6_flow_label", x.ipv6_flow_label.map(u64::from)),
        ("fragment_id", x.fragment_id.map(u64::from)),
        ("fragment_offset", x.fragment_offset.map(u64::from)),
        ("forwarding_status", x.forwarding_status.map(u64::from)),
        ("observation_point_id", x.observation_point_id),
        ("flow_direction", x.flow_direction.map(u64::from)),
        ("flow_end_reason", x.flow_end_reason.map(u64::from)),
        ("ingress_vrf_id", x.ingress_vrf_id.map(u64::from)),
        ("egress_vrf_id", x.egress_vrf_id.map(u64::from)),
        ("nat_src_port", x.nat_src_port.map(u64::from)),
        ("nat_dst_port", x.nat_dst_port.map(u64::from)),
        ("nat_event", x.nat_event.map(u64::from)),
        ("firewall_event", x.firewall_event.map(u64::from)),
        ("post_bytes", x.post_bytes),
        ("post_packets", x.post_packets),
        ("sampler_id", x.sampler_id),
    ];
    for (name, value) in numbers {
        if let Some(n) = value {
            number(out, name, n);
        }
    }
    for (name, addr) in
        [("bgp_next_hop", x.bgp_next_hop), ("nat_src_addr", x.nat_src_addr), ("nat_dst_addr", x.nat_dst_addr)]
    {
        if let Some(addr) = addr {
            address(out, name, addr);
        }
    }
    if !x.mpls_label.is_empty() {
        key(out, "mpls_label");
        for (i, label) in x.mpls_label.iter().enumerate() {
            let _ = write!(out, "{}{label}", if i == 0 { '[' } else { ',' });
        }
        out.push(b']');
    }
    if x.biflow_reverse {
        key(out, "biflow_reverse");
        out.extend_from_slice(b"true");
    }
}

// Writing to a Vec cannot fail: the results below are dropped for that reason.

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(out: &mut Vec<u8>, name: &str, n: u64) {
    key(out, name);
    let _ = write!(out, "{n}");
}

/// For names of our own tables, which need no escaping.
fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    key(out, name);
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

fn address(out: &mut Vec<u8>, name: &str, addr: Addr) {
    key(out, name);
    let _ = write!(out, "\"{addr}\"");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_valid_json() {
        let extra = FlowExtra {
            src_mac: Some([0, 1, 2, 0xab, 4, 5]),
            etype: Some(0x0800),
            mpls_label: vec![1, 2],
            nat_src_addr: Some("192.0.2.7".parse().unwrap()),
            biflow_reverse: true,
            ..Default::default()
        };
        let record = FlowRecord {
            proto: 6,
            bytes: 3,
            sampling_rate: 10,
            src_addr: "192.0.2.1".parse().unwrap(),
            extra: Some(Box::new(extra)),
            ..Default::default()
        };
        let mut out = Vec::new();
        write(&record, &mut out);
        let v: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(v["proto"], "TCP");
        assert_eq!(v["bytes_scaled"], 30);
        assert_eq!(v["src_addr"], "192.0.2.1");
        assert_eq!(v["src_mac"], "00:01:02:ab:04:05");
        assert_eq!(v["mpls_label"][1], 2);
        assert_eq!(v["nat_src_addr"], "192.0.2.7");
        assert_eq!(v["biflow_reverse"], true);
        assert!(!out.contains(&b'\n'));
    }

    #[test]
    fn names_and_numbers_of_protocols_agree() {
        for (n, name) in PROTOCOLS {
            assert_eq!(proto_number(&name.to_lowercase()), Some(*n));
        }
        assert_eq!(proto_number("nonsense"), None);
    }
}
