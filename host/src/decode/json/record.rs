//! A flow record filled from the keys of GoFlow2's and pmacct's JSON. Comes in: values as the scanner gives them; goes out:
//! the record, once what depends on several keys is settled. Refuses values that do not fit their field.

use super::keys::Keys;
use super::scan::{Value, elements};
use super::text;
use crate::model::flow_extra::FlowExtra;
use crate::model::{Addr, FlowRecord, FlowType, flow_json};

macro_rules! fields {
    ($($id:ident $(= $goflow2:literal)? $(/ $pmacct:literal)*,)+) => {
        /// A field that a key may fill.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum Field { $($id,)+ }
        const GOFLOW2: &[(&str, Field)] = &[$($(($goflow2, Field::$id),)?)+];
        const PMACCT: &[(&str, Field)] = &[$($(($pmacct, Field::$id),)*)+];
        impl Field {
            pub const fn name(self) -> &'static str {
                match self { $(Field::$id => stringify!($id),)+ }
            }
        }
    };
}

// GoFlow2's key, pmacct's keys.
fields! {
    SrcAddr = "src_addr" / "ip_src",
    DstAddr = "dst_addr" / "ip_dst",
    SrcPort = "src_port" / "port_src",
    DstPort = "dst_port" / "port_dst",
    Proto = "proto" / "ip_proto",
    TcpFlags = "tcp_flags" / "tcp_flags",
    Bytes = "bytes" / "bytes",
    Packets = "packets" / "packets",
    Start = "time_flow_start_ns" / "timestamp_start",
    End = "time_flow_end_ns" / "timestamp_end",
    Received = "time_received_ns" / "timestamp_arrival",
    Exporter = "sampler_address" / "peer_ip_src",
    SamplingRate = "sampling_rate" / "sampling_rate",
    InIf = "in_if" / "iface_in",
    OutIf = "out_if" / "iface_out",
    SrcAs = "src_as" / "as_src",
    DstAs = "dst_as" / "as_dst",
    SrcNet = "src_net" / "mask_src",
    DstNet = "dst_net" / "mask_dst",
    NextHop = "next_hop" / "peer_ip_dst",
    Tos = "ip_tos" / "tos",
    Vlan = "vlan_id" / "vlan",
    SrcVlan = "src_vlan" / "vlan_in",
    Domain = "observation_domain_id" / "export_proto_sysid",
    Type = "type",
    Exported / "timestamp_export",
    Earliest / "timestamp_min",
    Latest / "timestamp_max",
    Updated / "stamp_updated",
    Inserted / "stamp_inserted",
    SrcNetwork / "net_src",
    DstNetwork / "net_dst",
    Version / "export_proto_version",
    Event / "event_type",
    // Only for a person. The first of them bounds the rest: see `table`.
    Etype = "etype" / "etype",
    SrcMac = "src_mac" / "mac_src",
    DstMac = "dst_mac" / "mac_dst",
    DstVlan = "dst_vlan" / "vlan_out",
    Ttl = "ip_ttl",
    IpFlags = "ip_flags",
    IcmpType = "icmp_type",
    IcmpCode = "icmp_code",
    FragmentId = "fragment_id",
    FragmentOffset = "fragment_offset",
    FlowLabel = "ipv6_flow_label" / "flow_label",
    ForwardingStatus = "forwarding_status" / "fwd_status",
    ObservationPoint = "observation_point_id",
    BgpNextHop = "bgp_next_hop",
    NatSrc / "post_nat_ip_src",
    NatDst / "post_nat_ip_dst",
    NatSrcPort / "post_nat_port_src",
    NatDstPort / "post_nat_port_dst",
    NatEvent / "nat_event",
    FirewallEvent / "fw_event",
}

/// Whose JSON it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    Goflow2,
    Pmacct,
}

impl Dialect {
    /// The keys to look at.
    pub fn table(self, want_extra: bool) -> Keys<Field> {
        let keys = match self {
            Dialect::Goflow2 => GOFLOW2,
            Dialect::Pmacct => PMACCT,
        };
        Keys::new(keys.iter().copied().filter(|(_, field)| want_extra || (*field as usize) < Field::Etype as usize))
    }

    /// Nanoseconds of one, for times that are numbers.
    const fn unit(self) -> u64 {
        match self {
            Dialect::Goflow2 => 1,
            Dialect::Pmacct => 1_000_000_000,
        }
    }
}

/// One record in the making.
#[derive(Default)]
pub(super) struct Filler {
    pub record: FlowRecord,
    /// Set for objects that tell about other objects: pmacct's marks at the begin and the end of a purge.
    pub is_marker: bool,
    /// When the message came, or 0.
    message_ns: u64,
    wait: Wait,
    minutes: text::Minutes,
}

/// What counts only where another key is absent.
#[derive(Default)]
struct Wait {
    exported_ns: u64,
    earliest_ns: u64,
    latest_ns: u64,
    updated_ns: u64,
    inserted_ns: u64,
    src_network: Addr,
    dst_network: Addr,
    src_len: u8,
    dst_len: u8,
    src_vlan: u16,
}

impl Filler {
    /// Starts anew.
    pub fn begin(&mut self, message_ns: u64, want_extra: bool) {
        // Each by itself: made elsewhere and copied here they cost twice as much.
        self.record = FlowRecord::default();
        self.wait = Wait::default();
        self.is_marker = false;
        self.message_ns = message_ns;
        if want_extra {
            self.record.extra = Some(Box::default());
        }
    }

    /// Takes one value. Null, lists and objects (but for TCP flags) and empty texts are absent values.
    #[inline]
    pub fn take(&mut self, dialect: Dialect, field: Field, value: Value<'_>) -> Option<()> {
        if matches!(value, Value::Null | Value::Object | Value::Text(b""))
            || matches!(value, Value::List(_)) && field != Field::TcpFlags
        {
            return Some(());
        }
        let (r, w, minutes) = (&mut self.record, &mut self.wait, &mut self.minutes);
        match field {
            Field::SrcAddr => r.src_addr = address(value)?,
            Field::DstAddr => r.dst_addr = address(value)?,
            Field::SrcPort => r.src_port = fit(value)?,
            Field::DstPort => r.dst_port = fit(value)?,
            Field::Proto => r.proto = proto(value)?,
            Field::TcpFlags => r.tcp_flags = tcp_flags(value)?,
            Field::Bytes => r.bytes = integer(value)?,
            Field::Packets => r.packets = integer(value)?,
            Field::Start => r.time_flow_start_ns = time(value, dialect, minutes)?,
            Field::End => r.time_flow_end_ns = time(value, dialect, minutes)?,
            Field::Received => r.time_received_ns = time(value, dialect, minutes)?,
            Field::Exporter => r.sampler_address = address(value)?,
            Field::SamplingRate => r.sampling_rate = integer(value)?,
            Field::InIf => r.in_if = fit(value)?,
            Field::OutIf => r.out_if = fit(value)?,
            Field::SrcAs => r.src_as = fit(value)?,
            Field::DstAs => r.dst_as = fit(value)?,
            Field::SrcNet => r.src_net = network_len(value)?,
            Field::DstNet => r.dst_net = network_len(value)?,
            Field::NextHop => r.next_hop = address(value)?,
            Field::Tos => r.ip_tos = fit(value)?,
            Field::Vlan => r.vlan_id = fit(value)?,
            Field::SrcVlan => w.src_vlan = fit(value)?,
            Field::Domain => r.observation_domain_id = fit(value)?,
            Field::Type => r.flow_type = flow_type(value)?,
            Field::Exported => w.exported_ns = time(value, dialect, minutes)?,
            Field::Earliest => w.earliest_ns = time(value, dialect, minutes)?,
            Field::Latest => w.latest_ns = time(value, dialect, minutes)?,
            // Nobody will ask for them: see `finish`.
            Field::Updated | Field::Inserted if self.message_ns > 0 => {}
            Field::Updated => w.updated_ns = time(value, dialect, minutes)?,
            Field::Inserted => w.inserted_ns = time(value, dialect, minutes)?,
            Field::SrcNetwork => (w.src_network, w.src_len) = network(value)?,
            Field::DstNetwork => (w.dst_network, w.dst_len) = network(value)?,
            // 5 is NetFlow's in nfacctd and sFlow's in sfacctd: left open.
            Field::Version => match integer(value)? {
                9 => r.flow_type = FlowType::NetflowV9,
                10 => r.flow_type = FlowType::Ipfix,
                _ => {}
            },
            Field::Event => self.is_marker = matches!(value, Value::Text(b"purge_init" | b"purge_close")),
            _ => {
                // What does not fit is left out: it is only for looking at.
                if let Some(x) = &mut r.extra {
                    let _ = extra(field, value, dialect, x);
                }
            }
        }
        Some(())
    }

    /// Settles what depends on several keys.
    pub fn finish(&mut self) -> &mut FlowRecord {
        let (r, w) = (&mut self.record, &self.wait);
        if r.vlan_id == 0 {
            r.vlan_id = w.src_vlan;
        }
        // Aggregates by network have no hosts: the network stands for them.
        if r.src_addr == Addr::UNSPECIFIED {
            r.src_addr = w.src_network;
        }
        if r.dst_addr == Addr::UNSPECIFIED {
            r.dst_addr = w.dst_network;
        }
        if r.src_net == 0 {
            r.src_net = w.src_len;
        }
        if r.dst_net == 0 {
            r.dst_net = w.dst_len;
        }
        if r.time_flow_start_ns == 0 {
            r.time_flow_start_ns = w.earliest_ns;
        }
        if r.time_flow_end_ns == 0 {
            r.time_flow_end_ns = w.latest_ns;
        }
        if r.time_received_ns == 0 {
            // `stamp_updated` is when the object was written, in seconds: the message's time is finer. `stamp_inserted` is
            // the begin of a time bin that may be minutes long: the last resort.
            let times = [w.exported_ns, self.message_ns, w.updated_ns, r.time_flow_end_ns, r.time_flow_start_ns];
            r.time_received_ns = times.into_iter().find(|t| *t > 0).unwrap_or(w.inserted_ns);
        }
        if let Some(x) = &mut r.extra {
            x.src_vlan = (w.src_vlan > 0).then_some(w.src_vlan);
        }
        r
    }
}

#[inline]
fn integer(value: Value<'_>) -> Option<u64> {
    match value {
        Value::Integer(n) => Some(n),
        Value::Text(t) => text::integer(t),
        Value::Float(x) => (x >= 0.0 && x.fract() == 0.0 && x < 18_446_744_073_709_551_616.0).then_some(x as u64),
        _ => None,
    }
}

#[inline]
fn fit<T: TryFrom<u64>>(value: Value<'_>) -> Option<T> {
    T::try_from(integer(value)?).ok()
}

#[inline]
fn address(value: Value<'_>) -> Option<Addr> {
    match value {
        Value::Text(t) => text::address(t),
        _ => None,
    }
}

#[inline]
fn time(value: Value<'_>, dialect: Dialect, minutes: &mut text::Minutes) -> Option<u64> {
    match value {
        Value::Text(t) => text::time(t, dialect.unit(), minutes),
        Value::Integer(n) => n.checked_mul(dialect.unit()),
        Value::Float(x) => (x >= 0.0).then_some((x * dialect.unit() as f64).round() as u64),
        _ => None,
    }
}

/// A name or a number, as a number or as text.
#[inline]
fn proto(value: Value<'_>) -> Option<u8> {
    match value {
        Value::Text(b"tcp" | b"TCP") => Some(6),
        Value::Text(b"udp" | b"UDP") => Some(17),
        Value::Text(t) => named(t),
        _ => fit(value),
    }
}

#[cold]
fn named(name: &[u8]) -> Option<u8> {
    let number = std::str::from_utf8(name).ok().and_then(flow_json::proto_number);
    number.or_else(|| fit(Value::Text(name)))
}

/// A number, as a number or as text; names, as a list or as text.
#[inline]
fn tcp_flags(value: Value<'_>) -> Option<u16> {
    match value {
        Value::List(list) => {
            let mut all = 0;
            elements(list, |flag| match flag {
                Value::Text(t) => text::tcp_flags(t).map(|bit| all |= bit),
                _ => None,
            })?;
            Some(all)
        }
        Value::Text(t) => text::integer(t).map_or_else(|| text::tcp_flags(t), |n| u16::try_from(n).ok()),
        _ => fit(value),
    }
}

/// A prefix length, or a network whose length counts. GoFlow2 writes `invalid Prefix` where it has no address.
fn network_len(value: Value<'_>) -> Option<u8> {
    match value {
        Value::Text(b"invalid Prefix") => Some(0),
        Value::Text(t) if t.contains(&b'/') => network(value).map(|(_, len)| len),
        _ => fit(value).filter(|len| *len <= 128),
    }
}

/// A network, with a length behind a slash or without.
fn network(value: Value<'_>) -> Option<(Addr, u8)> {
    let Value::Text(t) = value else { return None };
    match t.iter().position(|b| *b == b'/') {
        Some(at) => {
            let addr = text::address(&t[..at])?;
            let most = if addr.is_v4() { 32 } else { 128 };
            let len = text::integer(&t[at + 1..]).filter(|len| *len <= most)?;
            Some((addr, len as u8))
        }
        None => Some((text::address(t)?, 0)),
    }
}

fn flow_type(value: Value<'_>) -> Option<FlowType> {
    match value {
        Value::Text(t) => FlowType::ALL.into_iter().find(|k| k.name().as_bytes().eq_ignore_ascii_case(t)),
        _ => Some(FlowType::from_u8(u8::try_from(integer(value)?).unwrap_or(0))),
    }
}

#[cold]
fn extra(field: Field, value: Value<'_>, dialect: Dialect, x: &mut FlowExtra) -> Option<()> {
    let mac = |value| match value {
        Value::Text(t) => text::mac(t),
        Value::Integer(n) => n.to_be_bytes().last_chunk::<6>().copied(),
        _ => None,
    };
    match field {
        Field::Etype => x.etype = Some(etype(value, dialect)?),
        Field::SrcMac => x.src_mac = Some(mac(value)?),
        Field::DstMac => x.dst_mac = Some(mac(value)?),
        Field::DstVlan => x.dst_vlan = Some(fit(value)?),
        Field::Ttl => x.ip_ttl = Some(fit(value)?),
        Field::IpFlags => x.ip_flags = Some(fit(value)?),
        Field::IcmpType => x.icmp_type = Some(fit(value)?),
        Field::IcmpCode => x.icmp_code = Some(fit(value)?),
        Field::FragmentId => x.fragment_id = Some(fit(value)?),
        Field::FragmentOffset => x.fragment_offset = Some(fit(value)?),
        Field::FlowLabel => x.ipv6_flow_label = Some(fit(value)?),
        Field::ForwardingStatus => x.forwarding_status = Some(fit(value)?),
        Field::ObservationPoint => x.observation_point_id = Some(integer(value)?),
        Field::BgpNextHop => x.bgp_next_hop = Some(address(value)?),
        Field::NatSrc => x.nat_src_addr = Some(address(value)?),
        Field::NatDst => x.nat_dst_addr = Some(address(value)?),
        Field::NatSrcPort => x.nat_src_port = Some(fit(value)?),
        Field::NatDstPort => x.nat_dst_port = Some(fit(value)?),
        Field::NatEvent => x.nat_event = Some(fit(value)?),
        Field::FirewallEvent => x.firewall_event = Some(fit(value)?),
        _ => {}
    }
    Some(())
}

/// A name, a number, or (pmacct) hexadecimal text.
fn etype(value: Value<'_>, dialect: Dialect) -> Option<u16> {
    match value {
        Value::Text(b"IPv4") => Some(0x0800),
        Value::Text(b"IPv6") => Some(0x86dd),
        Value::Text(b"ARP") => Some(0x0806),
        Value::Text(t) if dialect == Dialect::Pmacct => {
            u16::from_str_radix(std::str::from_utf8(t).ok()?.trim_start_matches("0x"), 16).ok()
        }
        _ => fit(value),
    }
}
