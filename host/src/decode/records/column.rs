//! Fields of a flow record by name, and a record filled field by field from text or numbers.

use super::BadLine;
use crate::config::decode_options::TimeUnit;
use crate::decode::DecodeError;
use crate::decode::stats::Refusal;
use crate::model::{Addr, FlowRecord, FlowType};

/// A value of a text file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::decode) enum Scalar<'a> {
    Integer(u64),
    Float(f64),
    Text(&'a str),
    /// A time, ns since the Unix epoch.
    Nanos(u64),
}

macro_rules! columns {
    ($($id:ident = $name:literal,)+) => {
        /// A field that a text file may carry.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum Column { $($id,)+ }
        impl Column {
            const NAMES: &'static [&'static str] = &[$($name,)+];
            /// Every one.
            pub fn all() -> impl Iterator<Item = Self> {
                [$(Column::$id,)+].into_iter()
            }
            /// The field of that canonical name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Column::$id),)+ _ => None }
            }
            pub const fn name(self) -> &'static str {
                match self { $(Column::$id => $name,)+ }
            }
        }
    };
}

columns! {
    Type = "type",
    TimeReceived = "time_received_ns",
    Start = "time_flow_start_ns",
    End = "time_flow_end_ns",
    Duration = "duration",
    SamplerAddress = "sampler_address",
    ObservationDomain = "observation_domain_id",
    SamplingRate = "sampling_rate",
    SrcAddr = "src_addr",
    DstAddr = "dst_addr",
    SrcPort = "src_port",
    DstPort = "dst_port",
    Proto = "proto",
    TcpFlags = "tcp_flags",
    Bytes = "bytes",
    Packets = "packets",
    InIf = "in_if",
    OutIf = "out_if",
    SrcAs = "src_as",
    DstAs = "dst_as",
    SrcNet = "src_net",
    DstNet = "dst_net",
    NextHop = "next_hop",
    IpTos = "ip_tos",
    VlanId = "vlan_id",
}

/// The complaint about a name in `columns` that is no field.
pub(super) fn unknown(name: &str) -> DecodeError {
    // The near miss: a canonical name that contains what was written, or the other way round.
    let plain = name.replace(['_', '-'], "").to_lowercase();
    let near = Column::NAMES.iter().find(|known| {
        let known = known.replace('_', "");
        known.contains(&plain) || plain.contains(&known)
    });
    DecodeError::UnknownColumn {
        name: name.to_owned(),
        near: near.map(|n| format!(" (did you mean {n}?)")).unwrap_or_default(),
        known: Column::NAMES.join(", "),
    }
}

/// One record in the making.
pub(super) struct Line {
    record: FlowRecord,
    duration_ns: u64,
    unit: TimeUnit,
}

impl Line {
    pub fn new(unit: TimeUnit) -> Self {
        Self { record: FlowRecord::default(), duration_ns: 0, unit }
    }

    /// Starts anew.
    pub fn clear(&mut self) {
        self.record = FlowRecord::default();
        self.duration_ns = 0;
    }

    /// Takes one field. An empty text is an absent field.
    pub fn set(&mut self, column: Column, value: Scalar<'_>) -> Result<(), BadLine> {
        if value == Scalar::Text("") {
            return Ok(());
        }
        let bad = || BadLine { why: Refusal::BadField, text: format!("{}: cannot read {value:?}", column.name()) };
        self.take(column, value).ok_or_else(bad)
    }

    fn take(&mut self, column: Column, value: Scalar<'_>) -> Option<()> {
        let r = &mut self.record;
        match column {
            Column::Type => r.flow_type = flow_type(value)?,
            Column::TimeReceived => r.time_received_ns = time(value, self.unit)?,
            Column::Start => r.time_flow_start_ns = time(value, self.unit)?,
            Column::End => r.time_flow_end_ns = time(value, self.unit)?,
            Column::Duration => self.duration_ns = time(value, self.unit)?,
            Column::SamplerAddress => r.sampler_address = address(value)?,
            Column::ObservationDomain => r.observation_domain_id = integer(value)?.try_into().ok()?,
            Column::SamplingRate => r.sampling_rate = integer(value)?,
            Column::SrcAddr => r.src_addr = address(value)?,
            Column::DstAddr => r.dst_addr = address(value)?,
            Column::SrcPort => r.src_port = integer(value)?.try_into().ok()?,
            Column::DstPort => r.dst_port = integer(value)?.try_into().ok()?,
            Column::Proto => r.proto = proto(value)?,
            Column::TcpFlags => r.tcp_flags = integer(value)?.try_into().ok()?,
            Column::Bytes => r.bytes = integer(value)?,
            Column::Packets => r.packets = integer(value)?,
            Column::InIf => r.in_if = integer(value)?.try_into().ok()?,
            Column::OutIf => r.out_if = integer(value)?.try_into().ok()?,
            Column::SrcAs => r.src_as = integer(value)?.try_into().ok()?,
            Column::DstAs => r.dst_as = integer(value)?.try_into().ok()?,
            Column::SrcNet => r.src_net = mask(value)?,
            Column::DstNet => r.dst_net = mask(value)?,
            Column::NextHop => r.next_hop = address(value)?,
            Column::IpTos => r.ip_tos = integer(value)?.try_into().ok()?,
            Column::VlanId => r.vlan_id = integer(value)?.try_into().ok()?,
        }
        Some(())
    }

    /// A record without addresses is none: most likely the file has other names for them.
    pub fn check(&self) -> Result<(), BadLine> {
        if self.record.src_addr == Addr::UNSPECIFIED && self.record.dst_addr == Addr::UNSPECIFIED {
            let text = "neither src_addr nor dst_addr: map the file's names in `columns`".to_owned();
            return Err(BadLine { why: Refusal::NoAddress, text });
        }
        Ok(())
    }

    /// The record, with the times that follow from others.
    pub fn finish(&mut self, received_ns: u64) -> &mut FlowRecord {
        let r = &mut self.record;
        if r.time_flow_end_ns == 0 && r.time_flow_start_ns > 0 {
            r.time_flow_end_ns = r.time_flow_start_ns.saturating_add(self.duration_ns);
        }
        if r.time_flow_start_ns == 0 {
            r.time_flow_start_ns = r.time_flow_end_ns.saturating_sub(self.duration_ns);
        }
        if r.time_received_ns == 0 {
            // A file says when the flow was, not when it was received: an exporter sends it when it ended.
            r.time_received_ns = if r.time_flow_end_ns > 0 { r.time_flow_end_ns } else { received_ns };
        }
        r
    }
}

fn integer(value: Scalar<'_>) -> Option<u64> {
    match value {
        Scalar::Integer(n) => Some(n),
        Scalar::Float(x) => (x >= 0.0 && x.fract() == 0.0 && x < 18_446_744_073_709_551_616.0).then_some(x as u64),
        Scalar::Nanos(_) => None,
        Scalar::Text(t) => {
            let t = t.trim();
            match t.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).ok(),
                None => t.parse().ok().or_else(|| integer(Scalar::Float(t.parse().ok()?))),
            }
        }
    }
}

pub(in crate::decode) fn time(value: Scalar<'_>, unit: TimeUnit) -> Option<u64> {
    match value {
        Scalar::Integer(n) => n.checked_mul(unit.nanos()),
        Scalar::Float(x) => (x.is_finite() && x >= 0.0).then_some((x * unit.nanos() as f64).round() as u64),
        Scalar::Text(t) => decimal(t.trim(), unit.nanos()).or_else(|| rfc3339(t.trim())).or_else(|| civil(t.trim())),
        Scalar::Nanos(ns) => Some(ns),
    }
}

/// `123.456` without the rounding of a float.
fn decimal(text: &str, nanos: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut ns = whole.parse::<u64>().ok()?.checked_mul(nanos)?;
    let mut digit = nanos;
    for c in fraction.bytes() {
        if !c.is_ascii_digit() {
            return None;
        }
        digit /= 10;
        ns = ns.checked_add(u64::from(c - b'0') * digit)?;
    }
    Some(ns)
}

fn rfc3339(text: &str) -> Option<u64> {
    text.parse::<jiff::Timestamp>().ok()?.as_nanosecond().try_into().ok()
}

/// `2014-02-14 14:30:00`, as metrics are exported: no zone is written, so it is UTC. Date alone is no time.
fn civil(text: &str) -> Option<u64> {
    text.contains(':').then_some(())?;
    let time: jiff::civil::DateTime = text.parse().ok()?;
    time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_nanosecond().try_into().ok()
}

pub(in crate::decode) fn address(value: Scalar<'_>) -> Option<Addr> {
    match value {
        Scalar::Text(t) => t.trim().parse().ok(),
        _ => None,
    }
}

/// A prefix length, or a network whose length counts (GoFlow2's JSON).
fn mask(value: Scalar<'_>) -> Option<u8> {
    match value {
        Scalar::Text(t) => match t.rsplit_once('/') {
            Some((_, len)) => len.parse().ok(),
            None => integer(value)?.try_into().ok(),
        },
        _ => integer(value)?.try_into().ok(),
    }
}

fn flow_type(value: Scalar<'_>) -> Option<FlowType> {
    match value {
        Scalar::Text(t) => FlowType::ALL.into_iter().find(|k| k.name().eq_ignore_ascii_case(t)),
        _ => Some(FlowType::from_u8(integer(value)?.try_into().ok()?)),
    }
}

fn proto(value: Scalar<'_>) -> Option<u8> {
    match value {
        Scalar::Text(t) => crate::model::flow_json::proto_number(t).or_else(|| integer(value)?.try_into().ok()),
        _ => integer(value)?.try_into().ok(),
    }
}
