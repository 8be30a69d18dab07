//! One record under construction: fields go in one by one in template order, and `finish` settles what depends on more
//! than one field (which address family counts, which counter, which time) and hands the flow record on.

use super::clock::{Clock, ntp};
use super::target::{Form, Target};
use super::value::Field as _;
use crate::decode::packet::Packet;
use crate::decode::sampling::Sampling;
use crate::decode::stats::DecodeStats;
use crate::model::flow_extra::FlowExtra;
use crate::model::time::{MILLISECOND, SECOND};
use crate::model::{Addr, FlowRecord, FlowSink, FlowType};

/// What all records of a datagram share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub sampler_address: Addr,
    pub domain: u32,
    pub flow_type: FlowType,
    pub received_ns: u64,
    pub clock: Clock,
}

/// The record, and fields that wait for others.
#[derive(Debug, Default)]
pub(super) struct Row {
    record: FlowRecord,
    wait: Wait,
}

/// Fields whose meaning depends on others. Absent values are 0.
#[derive(Debug, Default)]
struct Wait {
    bytes_total: u64,
    packets_total: u64,
    bytes_post: u64,
    packets_post: u64,
    bytes_layer2: u64,
    net_v4: (u8, u8),
    net_v6: (u8, u8),
    bgp_next_hop: Addr,
    dscp: u8,
    observed_ns: u64,
    duration_ns: u64,
    own_rate: u64,
    sampler: Option<u64>,
    start_uptime: Option<u32>,
    end_uptime: Option<u32>,
    init_ms: u64,
    frame_size: u64,
    reverse: Reverse,
    /// Boxed: nearly no record has one.
    frame: Option<Box<Packet>>,
    post_src_mac: Option<[u8; 6]>,
    post_dst_mac: Option<[u8; 6]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Reverse {
    bytes: u64,
    packets: u64,
    tcp_flags: u16,
    tos: Option<u8>,
    start_ns: u64,
    end_ns: u64,
    delay_ns: u64,
}

impl Row {
    /// Starts anew.
    #[inline]
    pub fn begin(&mut self, origin: &Origin, want_extra: bool) {
        let extra = self.record.extra.take();
        self.record = FlowRecord {
            time_received_ns: origin.received_ns,
            sampler_address: origin.sampler_address,
            observation_domain_id: origin.domain,
            flow_type: origin.flow_type,
            ..FlowRecord::default()
        };
        self.wait = Wait::default();
        if want_extra {
            let mut extra = extra.unwrap_or_default();
            extra.reset();
            self.record.extra = Some(extra);
        }
    }

    /// The record itself, for formats whose every field is settled.
    pub fn record(&mut self) -> &mut FlowRecord {
        &mut self.record
    }

    /// The rate that the record states itself.
    pub fn set_own_rate(&mut self, rate: u64) {
        self.wait.own_rate = rate;
    }

    /// Takes one field.
    #[inline]
    pub fn set(&mut self, target: Target, f: &[u8], clock: &Clock) {
        let r = &mut self.record;
        let w = &mut self.wait;
        match target {
            Target::Skip => {}
            // Of several addresses the last that is not zero counts: a template for both families has one of them
            // zero, and with SRv6 the outer header comes before the inner one, whose flow it is.
            Target::SrcV4 => set_v4(&mut r.src_addr, f.v4()),
            Target::DstV4 => set_v4(&mut r.dst_addr, f.v4()),
            Target::SrcV6 => set_v6(&mut r.src_addr, f.v6()),
            Target::DstV6 => set_v6(&mut r.dst_addr, f.v6()),
            Target::SrcPort => r.src_port = f.number() as u16,
            Target::DstPort => r.dst_port = f.number() as u16,
            Target::Proto => r.proto = f.number() as u8,
            Target::TcpFlags => r.tcp_flags = f.number() as u16,
            Target::Bytes => r.bytes = f.number(),
            Target::Packets => r.packets = f.number(),
            Target::BytesTotal => w.bytes_total = f.number(),
            Target::PacketsTotal => w.packets_total = f.number(),
            Target::BytesPost => w.bytes_post = f.number(),
            Target::PacketsPost => w.packets_post = f.number(),
            Target::BytesLayer2 => w.bytes_layer2 = f.number(),
            Target::InIf => r.in_if = f.number() as u32,
            Target::OutIf => r.out_if = f.number() as u32,
            Target::SrcAs => r.src_as = f.number() as u32,
            Target::DstAs => r.dst_as = f.number() as u32,
            Target::SrcNetV4 => w.net_v4.0 = f.number() as u8,
            Target::DstNetV4 => w.net_v4.1 = f.number() as u8,
            Target::SrcNetV6 => w.net_v6.0 = f.number() as u8,
            Target::DstNetV6 => w.net_v6.1 = f.number() as u8,
            Target::NextHopV4 => set_v4(&mut r.next_hop, f.v4()),
            Target::NextHopV6 => set_v6(&mut r.next_hop, f.v6()),
            Target::BgpNextHopV4 => set_v4(&mut w.bgp_next_hop, f.v4()),
            Target::BgpNextHopV6 => set_v6(&mut w.bgp_next_hop, f.v6()),
            Target::Tos => r.ip_tos = f.number() as u8,
            Target::Dscp => w.dscp = f.number() as u8,
            Target::Start(Form::Uptime) => w.start_uptime = Some(f.number() as u32),
            Target::End(Form::Uptime) => w.end_uptime = Some(f.number() as u32),
            Target::Start(form) => set_time(&mut r.time_flow_start_ns, form, f.number(), clock),
            Target::End(form) => set_time(&mut r.time_flow_end_ns, form, f.number(), clock),
            Target::Observed(form) => set_time(&mut w.observed_ns, form, f.number(), clock),
            Target::DurationMillis => w.duration_ns = f.number().saturating_mul(MILLISECOND),
            Target::DurationMicros => w.duration_ns = f.number().saturating_mul(1000),
            Target::InitMillis => w.init_ms = f.number(),
            Target::SamplingRate => w.own_rate = f.number(),
            Target::SamplerId => w.sampler = Some(f.number()),
            Target::SrcVlan => {
                r.vlan_id = f.number() as u16;
                if let Some(x) = &mut r.extra {
                    x.src_vlan = Some(f.number() as u16);
                }
            }
            Target::ReverseBytes => w.reverse.bytes = f.number(),
            Target::ReversePackets => w.reverse.packets = f.number(),
            Target::ReverseTcpFlags => w.reverse.tcp_flags = f.number() as u16,
            Target::ReverseTos => w.reverse.tos = Some(f.number() as u8),
            Target::ReverseStart(form) => set_time(&mut w.reverse.start_ns, form, f.number(), clock),
            Target::ReverseEnd(form) => set_time(&mut w.reverse.end_ns, form, f.number(), clock),
            Target::ReverseDelayMillis => w.reverse.delay_ns = f.number().saturating_mul(MILLISECOND),
            Target::Frame => w.frame = Some(Box::new(Packet::ethernet(f))),
            Target::IpPacket => w.frame = Some(Box::new(Packet::ip(f))),
            Target::FrameSize => w.frame_size = f.number(),
            Target::PostSrcMac => w.post_src_mac = Some(f.mac()),
            Target::PostDstMac => w.post_dst_mac = Some(f.mac()),
            _ => {
                if let Some(x) = &mut r.extra {
                    set_extra(x, target, f);
                }
            }
        }
    }

    /// Settles the record and gives it (and, for a biflow, its reverse) to `out`.
    #[inline]
    pub fn finish(
        &mut self,
        origin: &Origin,
        sampling: &mut Rate<'_>,
        stats: &mut DecodeStats,
        out: &mut dyn FlowSink,
    ) {
        self.settle_times(&origin.clock);
        let (r, w) = (&mut self.record, &mut self.wait);
        if let Some(frame) = w.frame.take() {
            from_frame(r, &frame, w.frame_size);
        }
        if r.bytes == 0 {
            r.bytes = [w.bytes_total, w.bytes_post, w.bytes_layer2].into_iter().find(|n| *n > 0).unwrap_or(0);
        }
        if r.packets == 0 {
            r.packets = if w.packets_total > 0 { w.packets_total } else { w.packets_post };
        }
        settle_family(r);
        (r.src_net, r.dst_net) = if r.dst_addr.is_v4() { w.net_v4 } else { w.net_v6 };
        if r.next_hop.is_unspecified() && !w.bgp_next_hop.is_unspecified() {
            r.next_hop = w.bgp_next_hop;
        }
        if r.ip_tos == 0 {
            r.ip_tos = w.dscp << 2;
        }
        if r.extra.is_some() {
            self.settle_extra();
        }
        let (rate, rate_origin) = sampling.of(origin.domain, self.wait.sampler, self.wait.own_rate);
        self.record.sampling_rate = rate;
        stats.sampling[rate_origin as usize] += 1;
        stats.flows[origin.flow_type as usize] += 1;
        out.push(&self.record);
        if self.wait.reverse.packets > 0 || self.wait.reverse.bytes > 0 {
            stats.sampling[rate_origin as usize] += 1;
            stats.flows[origin.flow_type as usize] += 1;
            self.turn_round();
            out.push(&self.record);
        }
    }

    /// As `finish`, for v5 and v7 records, which have nothing to settle.
    pub fn finish_fixed(
        &mut self,
        origin: &Origin,
        sampling: &mut Rate<'_>,
        stats: &mut DecodeStats,
        out: &mut dyn FlowSink,
    ) {
        if self.record.extra.is_some() {
            self.settle_extra();
        }
        let (rate, rate_origin) = sampling.of(origin.domain, None, self.wait.own_rate);
        self.record.sampling_rate = rate;
        stats.sampling[rate_origin as usize] += 1;
        stats.flows[origin.flow_type as usize] += 1;
        out.push(&self.record);
    }

    #[inline]
    fn settle_times(&mut self, clock: &Clock) {
        let (r, w) = (&mut self.record, &self.wait);
        let mut clock = *clock;
        if w.init_ms > 0 {
            clock.init_ms = w.init_ms;
        }
        if let (0, Some(at)) = (r.time_flow_start_ns, w.start_uptime) {
            r.time_flow_start_ns = clock.uptime(at);
        }
        if let (0, Some(at)) = (r.time_flow_end_ns, w.end_uptime) {
            r.time_flow_end_ns = clock.uptime(at);
        }
        if r.time_flow_end_ns == 0 {
            r.time_flow_end_ns = match (r.time_flow_start_ns, w.duration_ns, w.observed_ns) {
                (start, 1.., _) if start > 0 => start.saturating_add(w.duration_ns),
                (_, _, observed) => observed,
            };
        }
        if r.time_flow_start_ns == 0 && r.time_flow_end_ns > 0 {
            r.time_flow_start_ns = r.time_flow_end_ns.saturating_sub(w.duration_ns);
        }
    }

    /// What `FlowExtra` says about the record as a whole.
    #[cold]
    fn settle_extra(&mut self) {
        let (r, w) = (&mut self.record, &self.wait);
        let Some(x) = &mut r.extra else { return };
        x.sampler_id = w.sampler;
        x.src_mac = x.src_mac.or(w.post_src_mac);
        x.dst_mac = x.dst_mac.or(w.post_dst_mac);
        x.bgp_next_hop = (!w.bgp_next_hop.is_unspecified()).then_some(w.bgp_next_hop);
        x.post_bytes = (w.bytes_post > 0).then_some(w.bytes_post);
        x.post_packets = (w.packets_post > 0).then_some(w.packets_post);
        if x.etype.is_none() && r.dst_addr != Addr::UNSPECIFIED {
            x.etype = Some(if r.dst_addr.is_v4() { 0x0800 } else { 0x86dd });
        }
        // ICMP's type and code travel as a destination port where the exporter has no field for them.
        if x.icmp_type.is_none() && matches!(r.proto, 1 | 58) && r.dst_port != 0 {
            x.icmp_type = Some((r.dst_port >> 8) as u8);
            x.icmp_code = Some(r.dst_port as u8);
        }
    }

    /// RFC 5103: the reverse half as a record of its own.
    fn turn_round(&mut self) {
        use std::mem::swap;
        let (r, reverse) = (&mut self.record, self.wait.reverse);
        swap(&mut r.src_addr, &mut r.dst_addr);
        swap(&mut r.src_port, &mut r.dst_port);
        swap(&mut r.src_as, &mut r.dst_as);
        swap(&mut r.src_net, &mut r.dst_net);
        swap(&mut r.in_if, &mut r.out_if);
        r.bytes = reverse.bytes;
        r.packets = reverse.packets;
        r.tcp_flags = reverse.tcp_flags;
        r.ip_tos = reverse.tos.unwrap_or(r.ip_tos);
        r.next_hop = Addr::UNSPECIFIED;
        if reverse.start_ns > 0 {
            r.time_flow_start_ns = reverse.start_ns;
        } else if r.time_flow_start_ns > 0 {
            r.time_flow_start_ns = r.time_flow_start_ns.saturating_add(reverse.delay_ns);
        }
        if reverse.end_ns > 0 {
            r.time_flow_end_ns = reverse.end_ns;
        }
        if let Some(x) = &mut r.extra {
            x.biflow_reverse = true;
            swap(&mut x.src_mac, &mut x.dst_mac);
            swap(&mut x.src_vlan, &mut x.dst_vlan);
            swap(&mut x.nat_src_addr, &mut x.nat_dst_addr);
            swap(&mut x.nat_src_port, &mut x.nat_dst_port);
            swap(&mut x.ingress_vrf_id, &mut x.egress_vrf_id);
        }
    }
}

/// The sampling rates of one exporter, with the last answer remembered: neighbours in a set mostly ask the same.
pub(super) struct Rate<'a> {
    pub sampling: &'a Sampling,
    pub last: &'a mut Option<(u64, Option<u64>, (u64, crate::decode::stats::RateOrigin))>,
}

impl Rate<'_> {
    #[inline]
    fn of(&mut self, domain: u32, sampler: Option<u64>, own: u64) -> (u64, crate::decode::stats::RateOrigin) {
        if own > 0 {
            return self.sampling.resolve(domain, sampler, own);
        }
        match *self.last {
            Some((generation, id, answer)) if generation == self.sampling.generation && id == sampler => answer,
            _ => {
                let answer = self.sampling.resolve(domain, sampler, 0);
                *self.last = Some((self.sampling.generation, sampler, answer));
                answer
            }
        }
    }
}

#[inline]
fn set_v4(slot: &mut Addr, v4: [u8; 4]) {
    if v4 != [0; 4] || *slot == Addr::UNSPECIFIED {
        *slot = Addr::from_v4_bytes(v4);
    }
}

#[inline]
fn set_v6(slot: &mut Addr, v6: [u8; 16]) {
    if v6 != [0; 16] {
        *slot = Addr(v6);
    }
}

/// Source and destination are of one family: an address that was zero in both families takes the other's.
#[inline]
fn settle_family(r: &mut FlowRecord) {
    if r.src_addr.is_v4() != r.dst_addr.is_v4() {
        if r.src_addr.is_unspecified() {
            r.src_addr = zero_like(r.dst_addr);
        } else if r.dst_addr.is_unspecified() {
            r.dst_addr = zero_like(r.src_addr);
        }
    }
}

fn zero_like(other: Addr) -> Addr {
    if other.is_v4() { Addr::from_v4_bytes([0; 4]) } else { Addr::UNSPECIFIED }
}

#[inline]
fn set_time(slot: &mut u64, form: Form, value: u64, clock: &Clock) {
    let ns = match form {
        Form::Seconds => value.saturating_mul(SECOND),
        Form::Millis => value.saturating_mul(MILLISECOND),
        Form::Ntp => ntp(value),
        Form::BeforeExport => clock.before_export(value),
        Form::Uptime => clock.uptime(value as u32),
    };
    if ns > 0 {
        *slot = ns;
    }
}

fn set_extra(x: &mut FlowExtra, target: Target, f: &[u8]) {
    let n = f.number();
    match target {
        Target::SrcMac => x.src_mac = Some(f.mac()),
        Target::DstMac => x.dst_mac = Some(f.mac()),
        Target::DstVlan => x.dst_vlan = Some(n as u16),
        Target::Ttl => x.ip_ttl = Some(x.ip_ttl.unwrap_or(n as u8).max(n as u8)),
        Target::IcmpTypeCode if n > 0 => {
            x.icmp_type = Some((n >> 8) as u8);
            x.icmp_code = Some(n as u8);
        }
        Target::IcmpType => x.icmp_type = Some(n as u8),
        Target::IcmpCode => x.icmp_code = Some(n as u8),
        Target::FlowLabel => x.ipv6_flow_label = Some(n as u32),
        Target::FragmentId => x.fragment_id = Some(n as u32),
        Target::FragmentOffset => x.fragment_offset = Some(n as u16),
        Target::ForwardingStatus => x.forwarding_status = Some(n as u8),
        // RFC 5477: label, experimental bits and bottom of stack in 3 bytes. Zero: the stack is not so deep.
        Target::MplsLabel if n > 0 => x.mpls_label.push((n >> 4) as u32),
        Target::ObservationPoint => x.observation_point_id = Some(n),
        Target::Direction => x.flow_direction = Some(n as u8),
        Target::EndReason => x.flow_end_reason = Some(n as u8),
        Target::IngressVrf => x.ingress_vrf_id = Some(n as u32),
        Target::EgressVrf => x.egress_vrf_id = Some(n as u32),
        Target::NatSrcV4 => x.nat_src_addr = Some(Addr::from_v4_bytes(f.v4())),
        Target::NatDstV4 => x.nat_dst_addr = Some(Addr::from_v4_bytes(f.v4())),
        Target::NatSrcV6 => x.nat_src_addr = Some(Addr(f.v6())),
        Target::NatDstV6 => x.nat_dst_addr = Some(Addr(f.v6())),
        Target::NatSrcPort => x.nat_src_port = Some(n as u16),
        Target::NatDstPort => x.nat_dst_port = Some(n as u16),
        Target::NatEvent => x.nat_event = Some(n as u8),
        Target::FirewallEvent => x.firewall_event = Some(n as u8),
        _ => {}
    }
}

/// Fills what the record itself did not say from the headers of its sampled frame.
#[cold]
fn from_frame(r: &mut FlowRecord, p: &Packet, frame_size: u64) {
    if r.dst_addr.is_unspecified() && r.src_addr.is_unspecified() {
        r.src_addr = p.src;
        r.dst_addr = p.dst;
        r.src_port = p.src_port;
        r.dst_port = p.dst_port;
        r.proto = p.proto;
        r.tcp_flags = p.tcp_flags;
        r.ip_tos = p.tos;
    }
    if r.bytes == 0 {
        r.bytes = if p.ip_len > 0 { p.ip_len } else { frame_size };
    }
    r.packets = r.packets.max(1);
    if r.vlan_id == 0 {
        r.vlan_id = p.vlan;
    }
    let Some(x) = &mut r.extra else { return };
    let some = |n: u16| (n > 0).then_some(n);
    x.src_mac = x.src_mac.or(Some(p.src_mac));
    x.dst_mac = x.dst_mac.or(Some(p.dst_mac));
    x.src_vlan = x.src_vlan.or(some(p.vlan));
    x.etype = x.etype.or(some(p.etype));
    x.ip_ttl = x.ip_ttl.or(Some(p.ttl));
    x.ip_flags = x.ip_flags.or(Some(p.ip_flags));
    x.fragment_id = x.fragment_id.or(Some(p.fragment_id));
    x.fragment_offset = x.fragment_offset.or(Some(p.fragment_offset));
    x.ipv6_flow_label = x.ipv6_flow_label.or((p.flow_label > 0).then_some(p.flow_label));
    if let Some((kind, code)) = p.icmp {
        x.icmp_type = x.icmp_type.or(Some(kind));
        x.icmp_code = x.icmp_code.or(Some(code));
    }
    if x.mpls_label.is_empty() {
        x.mpls_label.extend_from_slice(p.labels());
    }
}
