//! One v9 datagram or IPFIX message: its sets, in order.

use super::NetflowDecoder;
use super::clock::Clock;
use super::exporters::{Domain, MAX_FIELDS, Scope};
use super::layout::{Definition, Kind, Layout, read_template_set};
use super::pending::Key;
use super::row::{Origin, Rate, Row};
use super::target::{Target, V9_SCOPE};
use super::value::Field as _;
use crate::decode::sampling::Sampling;
use crate::decode::sequence::{Seen, Sequence};
use crate::decode::stats::{DecodeStats, Refusal};
use crate::model::time::SECOND;
use crate::model::{Addr, FlowSink, FlowType, Frame};

/// Bytes of a v9 header (RFC 3954 5.1).
const V9_HEADER: usize = 20;
/// Bytes of an IPFIX header (RFC 7011 3.1).
const IPFIX_HEADER: usize = 16;
/// Bytes of a set's header.
const SET_HEADER: usize = 4;

/// Counts what a sequence number says.
pub(super) fn see(sequence: &mut Sequence, kind: FlowType, number: u32, units: Option<u32>, stats: &mut DecodeStats) {
    match sequence.see(number, units) {
        Seen::Nothing => {}
        Seen::Gap(n) => stats.sequence_gap[kind as usize] += n,
        Seen::Restart => stats.sequence_restarts += 1,
    }
}

/// The parts of the decoder that the sets of one datagram work with.
struct Work<'a> {
    row: &'a mut Row,
    stats: &'a mut DecodeStats,
    out: &'a mut dyn FlowSink,
    want_extra: bool,
    ttl_ns: u64,
}

/// The header of a datagram, and where its sets end.
struct Header {
    clock: Clock,
    sequence: u32,
    domain: u32,
    sets_at: usize,
    end: usize,
    /// Length that the header gives.
    announced: usize,
}

fn read_header(flow_type: FlowType, b: &[u8]) -> Result<Header, Refusal> {
    let u32_at = |at: usize| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    let seconds = |at: usize| u64::from(u32_at(at)) * SECOND;
    if flow_type == FlowType::NetflowV9 {
        if b.len() < V9_HEADER {
            return Err(Refusal::ShortHeader);
        }
        let clock = Clock { export_ns: seconds(8), uptime_ms: Some(u32_at(4)), init_ms: 0 };
        return Ok(Header {
            clock,
            sequence: u32_at(12),
            domain: u32_at(16),
            sets_at: V9_HEADER,
            end: b.len(),
            announced: 0,
        });
    }
    if b.len() < IPFIX_HEADER {
        return Err(Refusal::ShortHeader);
    }
    let end = usize::from(u16::from_be_bytes([b[2], b[3]]));
    if end < IPFIX_HEADER {
        return Err(Refusal::BadLength);
    }
    let clock = Clock { export_ns: seconds(4), uptime_ms: None, init_ms: 0 };
    // A message cut on its way: the sets that are whole are still good.
    Ok(Header {
        clock,
        sequence: u32_at(8),
        domain: u32_at(12),
        sets_at: IPFIX_HEADER,
        end: end.min(b.len()),
        announced: end,
    })
}

impl NetflowDecoder {
    /// A v9 datagram or an IPFIX message.
    pub(super) fn message(&mut self, flow_type: FlowType, bytes: &[u8], frame: &Frame, out: &mut dyn FlowSink) {
        let header = match read_header(flow_type, bytes) {
            Ok(header) => header,
            Err(why) => return self.stats.refuse(why, bytes.len()),
        };
        let (peer, now_ns) = (frame.peer.ip(), frame.received_ns);
        let (options, all) = (&self.options, &mut self.held);
        let Some(exporter) = self.exporters.get(peer, now_ns, bytes.len(), options, all, &mut self.stats) else {
            return;
        };
        let Some(scope) = exporter.domain(flow_type, header.domain, now_ns, all) else {
            return self.stats.refuse(Refusal::DomainLimit, bytes.len());
        };
        self.pending.next_frame();
        let Scope { domain, sampling, held } = scope;
        let mut origin = Origin {
            sampler_address: Addr::from(peer),
            domain: header.domain,
            flow_type,
            received_ns: now_ns,
            clock: Clock { init_ms: domain.init_ms, ..header.clock },
        };
        let ipfix = flow_type == FlowType::Ipfix;
        let mut work =
            Work { row: &mut self.row, stats: &mut self.stats, out, want_extra: self.want_extra, ttl_ns: self.ttl_ns };
        work.stats.framing_bytes += header.sets_at as u64;
        if bytes.len() > header.end {
            work.stats.refuse(Refusal::BadLength, bytes.len() - header.end);
        }
        let before = domain.layouts.held();
        let errors_before = work.stats.own_errors();
        // Data records of this message; None once some could not be counted.
        let mut records = Some(0u32);
        let mut rest = &bytes[header.sets_at..header.end];
        while !rest.is_empty() {
            let (set_id, body) = match next_set(&mut rest, work.stats) {
                Some(set) => set,
                None => {
                    records = None;
                    break;
                }
            };
            let key = |template| Key { peer, ipfix, domain: header.domain, template };
            match set_id {
                0 | 1 if !ipfix => {}
                2 | 3 if ipfix => {}
                256.. => {
                    let n = work.data_set(domain, sampling, &origin, set_id, body);
                    if n.is_none() {
                        self.pending.keep(key(set_id), origin, body, work.stats);
                    }
                    records = records.zip(n).map(|(a, b)| a + b);
                    origin.clock.init_ms = domain.init_ms;
                    continue;
                }
                _ => {
                    work.stats.refuse(Refusal::ReservedSet, body.len());
                    continue;
                }
            }
            let mut definitions = Vec::new();
            let read = read_template_set(ipfix, set_id, body, work.want_extra, &mut definitions);
            let lost = read.err().unwrap_or(0);
            work.stats.framing_bytes += (body.len() - lost) as u64;
            if lost > 0 {
                work.stats.refuse(Refusal::BadTemplate, lost);
            }
            for definition in definitions {
                let Definition::Learn(id, mut layout) = definition else {
                    withdraw(domain, definition);
                    continue;
                };
                layout.learned_ns = now_ns;
                // What comes in the place of an old one needs no room of its own.
                domain.layouts.remove(id);
                let full = |domain: &Domain| {
                    let now = domain.layouts.held();
                    held.changed(before, now).templates >= options.max_templates_per_exporter
                        || all.changed(before, now).fields + layout.cost() > MAX_FIELDS
                };
                while full(domain) && !domain.layouts.is_empty() {
                    domain.layouts.evict();
                }
                if full(domain) {
                    work.stats.refuse(Refusal::TemplateLimit, 0);
                    continue;
                }
                domain.layouts.insert(id, layout);
                for waiting in self.pending.take(key(id), work.stats) {
                    let before = work.stats.errors;
                    let _ = work.data_set(domain, sampling, &waiting.origin, id, &waiting.body);
                    if waiting.is_earlier {
                        work.stats.blame_earlier(&before);
                    }
                }
            }
        }
        if bytes.len() < header.announced && work.stats.own_errors() == errors_before {
            // Cut between two sets: nothing else has noticed.
            work.stats.refuse(Refusal::BadLength, 0);
        }
        *held = held.changed(before, domain.layouts.held());
        *all = all.changed(before, domain.layouts.held());
        work.stats.templates = all.templates as u64;
        let units = if ipfix { records } else { Some(1) };
        see(&mut domain.sequence, flow_type, header.sequence, units, work.stats);
    }
}

/// Cuts the next set off. `None`: what is left is no set (counted), or padding.
fn next_set<'a>(rest: &mut &'a [u8], stats: &mut DecodeStats) -> Option<(u16, &'a [u8])> {
    let all = std::mem::take(rest);
    let Some(head) = all.first_chunk::<SET_HEADER>() else {
        if all.iter().all(|b| *b == 0) {
            stats.padding_bytes += all.len() as u64;
        } else {
            stats.refuse(Refusal::BadSetLength, all.len());
        }
        return None;
    };
    let set_id = u16::from_be_bytes([head[0], head[1]]);
    let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if len < SET_HEADER {
        if all.iter().all(|b| *b == 0) {
            stats.padding_bytes += all.len() as u64;
        } else {
            stats.refuse(Refusal::BadSetLength, all.len());
        }
        return None;
    }
    if len > all.len() {
        stats.refuse(Refusal::TruncatedSet, all.len());
        return None;
    }
    stats.framing_bytes += SET_HEADER as u64;
    *rest = &all[len..];
    Some((set_id, &all[SET_HEADER..len]))
}

fn withdraw(domain: &mut Domain, definition: Definition) {
    match definition {
        Definition::Withdraw(id) => domain.layouts.remove(id),
        Definition::WithdrawAll(kind) => domain.layouts.remove_all(kind),
        Definition::Learn(..) => {}
    }
}

impl Work<'_> {
    /// One data set. Gives its number of records; `None` when its template is not known (nothing is counted then).
    fn data_set(
        &mut self,
        domain: &mut Domain,
        sampling: &mut Sampling,
        origin: &Origin,
        set_id: u16,
        body: &[u8],
    ) -> Option<u32> {
        let Domain { layouts, last_rate, init_ms, .. } = domain;
        let layout = layouts.get(set_id, origin.received_ns, self.ttl_ns)?;
        let (count, used) = layout.count(body);
        self.tail(&body[used..]);
        self.stats.decoded_bytes += used as u64;
        if layout.kind == Kind::Options {
            self.stats.options_records += count as u64;
            options_set(layout, &body[..used], origin.domain, sampling, init_ms);
            return Some(count as u32);
        }
        let mut rate = Rate { sampling, last: last_rate };
        self.walk(layout, &body[..used], origin, &mut rate);
        Some(count as u32)
    }

    /// The records of a set from their bytes.
    fn walk(&mut self, layout: &Layout, mut body: &[u8], origin: &Origin, rate: &mut Rate<'_>) {
        loop {
            self.row.begin(origin, self.want_extra);
            let row = &mut *self.row;
            let Some(len) = layout.walk(body, |field, bytes| row.set(field.target, bytes, &origin.clock)) else {
                return;
            };
            self.row.finish(origin, rate, self.stats, self.out);
            body = &body[len..];
        }
    }

    /// What is left of a data set after its last whole record: padding is zero or at most 3 bytes (RFC 7011 3.3.1).
    fn tail(&mut self, rest: &[u8]) {
        if rest.len() < 4 || rest.iter().all(|b| *b == 0) {
            self.stats.padding_bytes += rest.len() as u64;
        } else {
            self.stats.refuse(Refusal::TruncatedRecord, rest.len());
        }
    }
}

/// Options data: sampling rates (RFC 3954: 34, 50; RFC 5477: 305 to 311) and the exporter's start (160).
fn options_set(layout: &Layout, mut body: &[u8], header_domain: u32, sampling: &mut Sampling, init_ms: &mut u64) {
    loop {
        let mut domain = header_domain;
        let (mut sampler, mut rate) = (None, 0);
        let (mut interval, mut space, mut size, mut population, mut probability) = (0, 0, 0, 0, 0.0);
        let read = layout.walk(body, |field, bytes| {
            if field.pen == V9_SCOPE || field.pen != 0 {
                return;
            }
            let n = bytes.number();
            match field.element {
                149 if n > 0 => domain = n as u32,
                305 => interval = n,
                306 => space = n,
                309 => size = n,
                310 => population = n,
                311 => probability = real(bytes),
                _ => match field.target {
                    Target::SamplerId => sampler = Some(n),
                    Target::SamplingRate if n > 0 => rate = n,
                    Target::InitMillis if n > 0 => *init_ms = n,
                    _ => {}
                },
            }
        });
        let Some(len) = read else { return };
        // n out of N before packet counts: exporters that sample at random fill the latter with ones.
        if rate == 0 && size > 0 {
            rate = population / size;
        }
        if rate == 0 && interval > 0 {
            rate = interval.saturating_add(space) / interval;
        }
        if rate == 0 && probability > 0.0 && probability <= 1.0 {
            rate = (1.0 / probability).round() as u64;
        }
        sampling.learn(domain, sampler, rate);
        body = &body[len..];
    }
}

/// RFC 7011 6.1.7: float64, or float32 when encoded shorter.
fn real(bytes: &[u8]) -> f64 {
    match *bytes {
        [a, b, c, d] => f64::from(f32::from_be_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => f64::from_be_bytes([a, b, c, d, e, f, g, h]),
        _ => 0.0,
    }
}
