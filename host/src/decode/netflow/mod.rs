//! NetFlow v5, v7, v9 and IPFIX. Comes in: UDP payloads; goes out: flow records. v5 and v7 are read by the
//! `netflow_parser` crate. v9 and IPFIX sets are walked here by their templates, straight into a flow record: the crate
//! makes a vector of enums of every record, which cost seven times as much, and loses sets in silence (variable-length
//! fields of length zero, templates it rejects). It stays the second opinion: a property test compares the two. What
//! cannot be read is refused and its bytes counted by reason, so that `framing + decoded + padding + undecoded +
//! pending = all bytes` (another property test).

mod clock;
mod exporters;
mod fixed;
mod layout;
mod message;
mod pending;
#[cfg(test)]
mod properties;
mod row;
mod save;
#[cfg(test)]
mod save_tests;
mod target;
#[cfg(test)]
mod tests;
mod value;

use self::exporters::{Exporters, Held};
use self::pending::Pending;
use self::row::{Origin, Rate, Row};
use super::Decoder;
use super::stats::{DecodeStats, Refusal};
use crate::config::decode_options::DecodeOptions;
use crate::model::time::SECOND;
use crate::model::{Addr, FlowSink, FlowType, Frame};
use netflow_parser::{NetflowPacket, NetflowParser};

/// Decoder of all NetFlow versions and IPFIX.
pub struct NetflowDecoder {
    options: DecodeOptions,
    want_extra: bool,
    ttl_ns: u64,
    exporters: Exporters,
    /// Templates of all exporters.
    held: Held,
    pending: Pending,
    /// For v5 and v7, which have no templates.
    stateless: NetflowParser,
    row: Row,
    stats: DecodeStats,
}

impl NetflowDecoder {
    /// A decoder without any state. `want_extra`: fill `FlowRecord::extra` too.
    pub fn new(options: &DecodeOptions, want_extra: bool) -> Self {
        Self {
            want_extra,
            ttl_ns: options.template_ttl_secs.saturating_mul(SECOND),
            exporters: Exporters::new(options),
            held: Held::default(),
            pending: Pending::new(options.pending_bytes),
            stateless: NetflowParser::default(),
            row: Row::default(),
            stats: DecodeStats::default(),
            options: options.clone(),
        }
    }

    /// For who takes payloads out of other messages: what it refuses itself is counted here too.
    pub(super) fn stats_mut(&mut self) -> &mut DecodeStats {
        &mut self.stats
    }

    /// v5 and v7.
    fn fixed(&mut self, flow_type: FlowType, bytes: &[u8], frame: &Frame, out: &mut dyn FlowSink) {
        if bytes.len() < fixed::HEADER {
            return self.stats.refuse(Refusal::ShortHeader, bytes.len());
        }
        let packet = self.stateless.iter_packets(bytes).next();
        let (domain, sequence, count, record_len) = match &packet {
            Some(Ok(NetflowPacket::V5(p))) => {
                let engine = (u32::from(p.header.engine_type) << 8) | u32::from(p.header.engine_id);
                (engine, p.header.flow_sequence, p.flowsets.len(), fixed::V5_RECORD)
            }
            Some(Ok(NetflowPacket::V7(p))) => (0, p.header.flow_sequence, p.flowsets.len(), fixed::V7_RECORD),
            _ => return self.stats.refuse(Refusal::BadCount, bytes.len()),
        };
        let now_ns = frame.received_ns;
        let peer = frame.peer.ip();
        let (options, all) = (&self.options, &mut self.held);
        let Some(exporter) = self.exporters.get(peer, now_ns, bytes.len(), options, all, &mut self.stats) else {
            return;
        };
        let Some(scope) = exporter.domain(flow_type, domain, now_ns, all) else {
            return self.stats.refuse(Refusal::DomainLimit, bytes.len());
        };
        self.stats.templates = all.templates as u64;
        self.stats.framing_bytes += fixed::HEADER as u64;
        self.stats.decoded_bytes += (count * record_len) as u64;
        let trailing = bytes.len() - fixed::HEADER - count * record_len;
        if trailing > 0 {
            self.stats.refuse(Refusal::BadCount, trailing);
        }
        message::see(&mut scope.domain.sequence, flow_type, sequence, Some(count as u32), &mut self.stats);
        let mut origin = Origin {
            sampler_address: Addr::from(peer),
            domain,
            flow_type,
            received_ns: now_ns,
            clock: clock::Clock::default(),
        };
        let mut rate = Rate { sampling: scope.sampling, last: &mut scope.domain.last_rate };
        match packet {
            Some(Ok(NetflowPacket::V5(p))) => {
                origin.clock = fixed::clock(p.header.unix_secs, p.header.unix_nsecs, p.header.sys_up_time);
                for flow in &p.flowsets {
                    self.row.begin(&origin, self.want_extra);
                    fixed::fill_v5(self.row.record(), flow, &origin.clock);
                    self.row.set_own_rate(fixed::header_rate(p.header.sampling_interval));
                    self.row.finish_fixed(&origin, &mut rate, &mut self.stats, out);
                }
            }
            Some(Ok(NetflowPacket::V7(p))) => {
                origin.clock = fixed::clock(p.header.unix_secs, p.header.unix_nsecs, p.header.sys_up_time);
                for flow in &p.flowsets {
                    self.row.begin(&origin, self.want_extra);
                    fixed::fill_v7(self.row.record(), flow, &origin.clock);
                    self.row.finish_fixed(&origin, &mut rate, &mut self.stats, out);
                }
            }
            _ => {}
        }
    }
}

impl Decoder for NetflowDecoder {
    fn frame(&mut self, bytes: &[u8], frame: &Frame, out: &mut dyn FlowSink) {
        self.stats.datagrams += 1;
        self.stats.bytes += bytes.len() as u64;
        if self.exporters.is_stranger(frame.peer.ip(), &self.options) {
            self.stats.strangers += 1;
            return;
        }
        let Some(version) = bytes.first_chunk::<2>() else {
            return self.stats.refuse(Refusal::ShortHeader, bytes.len());
        };
        match u16::from_be_bytes(*version) {
            5 => self.fixed(FlowType::NetflowV5, bytes, frame, out),
            7 => self.fixed(FlowType::NetflowV7, bytes, frame, out),
            9 => self.message(FlowType::NetflowV9, bytes, frame, out),
            10 => self.message(FlowType::Ipfix, bytes, frame, out),
            _ => self.stats.refuse(Refusal::UnsupportedVersion, bytes.len()),
        }
    }

    fn stats(&self) -> &DecodeStats {
        &self.stats
    }

    fn save(&self) -> Vec<u8> {
        save::save(&self.exporters)
    }

    fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        if saved.is_empty() {
            return Ok(());
        }
        for exporter in save::load(saved, self.want_extra).map_err(|e| e.to_string())? {
            self.exporters.restore(exporter, &self.options, &mut self.held);
        }
        self.stats.exporters = self.exporters.len() as u64;
        self.stats.templates = self.held.templates as u64;
        Ok(())
    }
}
