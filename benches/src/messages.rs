//! Messages as other collectors write them: flow records of ours in their words.

use kaminari::model::time::rfc3339;
use kaminari::model::{Addr, FlowRecord};
use std::io::Write;

/// Fills what the generator leaves empty and routers tell: networks, AS numbers, interfaces, next hop.
pub fn complete(records: &mut [FlowRecord]) {
    for (r, i) in records.iter_mut().zip(1..) {
        (r.src_as, r.dst_as) = (64_000 + i % 900, 65_000 + i % 77);
        (r.src_net, r.dst_net, r.vlan_id) = (24, 16, (i % 4000) as u16);
        (r.in_if, r.out_if) = (100 + i % 40, 200 + i % 40);
        r.next_hop = Addr::from_v4_bytes([198, 51, 100, (i % 200) as u8]);
    }
}

/// What nfacctd writes to Kafka with a usual choice of primitives, and jansson's spaces.
pub fn pmacct(r: &FlowRecord, out: &mut Vec<u8>) {
    let time = |ns: u64| {
        let text = rfc3339(ns / 1_000_000_000 * 1_000_000_000);
        format!("{} {}.{:06}", &text[..10], &text[11..19], ns / 1000 % 1_000_000)
    };
    let proto = match r.proto {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        1 => "icmp".to_owned(),
        n => n.to_string(),
    };
    let written = write!(
        out,
        "{{\"event_type\": \"purge\", \"as_src\": {}, \"as_dst\": {}, \"peer_ip_src\": \"{}\", \"iface_in\": {}, \
         \"iface_out\": {}, \"ip_src\": \"{}\", \"ip_dst\": \"{}\", \"mask_src\": {}, \"mask_dst\": {}, \"port_src\": {}, \
         \"port_dst\": {}, \"tcp_flags\": {}, \"ip_proto\": \"{proto}\", \"tos\": {}, \"sampling_rate\": {}, \
         \"timestamp_start\": \"{}\", \"timestamp_end\": \"{}\", \"timestamp_arrival\": \"{}\", \"stamp_inserted\": \"{}\", \
         \"stamp_updated\": \"{}\", \"packets\": {}, \"bytes\": {}, \"writer_id\": \"default_kafka/1836\"}}",
        r.src_as,
        r.dst_as,
        r.sampler_address,
        r.in_if,
        r.out_if,
        r.src_addr,
        r.dst_addr,
        r.src_net,
        r.dst_net,
        r.src_port,
        r.dst_port,
        r.tcp_flags,
        r.ip_tos,
        r.sampling_rate,
        time(r.time_flow_start_ns),
        time(r.time_flow_end_ns),
        time(r.time_received_ns),
        &time(r.time_received_ns / 60_000_000_000 * 60_000_000_000)[..19],
        &time(r.time_received_ns)[..19],
        r.packets,
        r.bytes
    );
    written.expect("a vector takes everything");
}

/// GoFlow2's default printing: all fields of `FlowMessage`, also those that are empty.
pub fn goflow2_json(r: &FlowRecord, out: &mut Vec<u8>) {
    let proto = match r.proto {
        6 => "TCP",
        17 => "UDP",
        1 => "ICMP",
        _ => "",
    };
    let written = write!(
        out,
        "{{\"type\":\"IPFIX\",\"time_received_ns\":{},\"sequence_num\":4711,\"sampling_rate\":{},\"sampler_address\":\"{}\",\
         \"time_flow_start_ns\":{},\"time_flow_end_ns\":{},\"bytes\":{},\"packets\":{},\"src_addr\":\"{}\",\"dst_addr\":\"{}\",\
         \"etype\":\"IPv4\",\"proto\":\"{proto}\",\"src_port\":{},\"dst_port\":{},\"in_if\":{},\"out_if\":{},\
         \"src_mac\":\"00:00:00:00:00:00\",\"dst_mac\":\"00:00:00:00:00:00\",\"src_vlan\":0,\"dst_vlan\":0,\"vlan_id\":{},\
         \"ip_tos\":{},\"forwarding_status\":0,\"ip_ttl\":0,\"ip_flags\":0,\"tcp_flags\":{},\"icmp_type\":0,\"icmp_code\":0,\
         \"ipv6_flow_label\":0,\"fragment_id\":0,\"fragment_offset\":0,\"src_as\":{},\"dst_as\":{},\"next_hop\":\"{}\",\
         \"next_hop_as\":0,\"src_net\":\"{}/{}\",\"dst_net\":\"{}/{}\",\"bgp_next_hop\":\"\",\"bgp_communities\":[],\
         \"as_path\":[],\"mpls_ttl\":[],\"mpls_label\":[],\"mpls_ip\":[],\"observation_domain_id\":{},\
         \"observation_point_id\":0,\"layer_stack\":[],\"layer_size\":[],\"ipv6_routing_header_addresses\":[],\
         \"ipv6_routing_header_seg_left\":0}}",
        r.time_received_ns,
        r.sampling_rate,
        r.sampler_address,
        r.time_flow_start_ns,
        r.time_flow_end_ns,
        r.bytes,
        r.packets,
        r.src_addr,
        r.dst_addr,
        r.src_port,
        r.dst_port,
        r.in_if,
        r.out_if,
        r.vlan_id,
        r.ip_tos,
        r.tcp_flags,
        r.src_as,
        r.dst_as,
        r.next_hop,
        r.src_addr,
        r.src_net,
        r.dst_addr,
        r.dst_net,
        r.observation_domain_id
    );
    written.expect("a vector takes everything");
}

/// A `FlowMessage` behind its length.
pub fn goflow2(r: &FlowRecord, out: &mut Vec<u8>) {
    fn varint(mut n: u64, out: &mut Vec<u8>) {
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }
    let mut message = Vec::new();
    for (field, n) in [
        (1, r.flow_type as u64),
        (3, r.sampling_rate),
        (4, 4711),
        (9, r.bytes),
        (10, r.packets),
        (14, r.src_as.into()),
        (15, r.dst_as.into()),
        (16, r.src_net.into()),
        (17, r.dst_net.into()),
        (18, r.in_if.into()),
        (19, r.out_if.into()),
        (20, r.proto.into()),
        (21, r.src_port.into()),
        (22, r.dst_port.into()),
        (23, r.ip_tos.into()),
        (26, r.tcp_flags.into()),
        (29, r.vlan_id.into()),
        (30, 0x0800),
        (70, r.observation_domain_id.into()),
        (110, r.time_received_ns),
        (111, r.time_flow_start_ns),
        (112, r.time_flow_end_ns),
    ] {
        if n > 0 {
            varint(field << 3, &mut message);
            varint(n, &mut message);
        }
    }
    for (field, addr) in [(6, r.src_addr), (7, r.dst_addr), (11, r.sampler_address), (12, r.next_hop)] {
        let bytes = if addr.is_v4() { &addr.0[12..] } else { &addr.0[..] };
        varint(field << 3 | 2, &mut message);
        varint(bytes.len() as u64, &mut message);
        message.extend(bytes);
    }
    varint(message.len() as u64, out);
    out.extend(message);
}
