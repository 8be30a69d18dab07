//! Once per pipeline: gives each record its pane, decides what is late, keeps the watermark.
//!
//! In: batches, heartbeats, ends of partitions. Out: [`Prepared`] batches for the shards and [`Close`] orders. Counts
//! on-time, late (accepted, dropped) and future records, and bytes clipped from spread flows.

use super::watermark::{Partition, Tracker};
use crate::config::{EventTime, WindowPlan};
use crate::model::aggregate::class;
use crate::model::schema::FlowColumns;
use crate::model::sketch::{hash_addr, hash_port};
use crate::model::{FlowBatch, Needs, RowBatch};
use arrow_array::RecordBatch;
use std::collections::BTreeSet;

/// Pane of a record that is not counted.
pub(super) const DROPPED: u64 = u64::MAX;
/// So many empty panes are closed one by one; a longer gap is jumped.
const MAX_EMPTY_PANES: u64 = 1000;

/// What happened to the records so far. `on_time + late_accepted + late_dropped + replayed` is all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // named as in the metric catalogue
pub struct IngestCounts {
    pub records: u64,
    pub on_time: u64,
    pub late_accepted: u64,
    pub late_dropped: u64,
    pub replayed: u64,
    pub future: u64,
    pub spread_clipped_bytes: u64,
}

/// A share of a spread flow that falls into another pane than the flow's own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) row: u32,
    pub(super) pane: u64,
    pub(super) bytes: u64,
    pub(super) packets: u64,
}

/// A batch with everything worked out once that every level and shard needs.
#[derive(Debug)]
pub struct Prepared {
    pub(super) batch: RecordBatch,
    pub(super) pane: Vec<u64>,
    pub(super) class: Vec<u8>,
    /// Hashes for the counted sets; empty when no feature needs them.
    pub(super) src: Vec<u32>,
    pub(super) dst: Vec<u32>,
    pub(super) src_port: Vec<u32>,
    pub(super) dst_port: Vec<u32>,
    /// With spreading: what is left of bytes and packets for the record's own pane.
    pub(super) own: Option<(Vec<u64>, Vec<u64>)>,
    pub(super) parts: Vec<Part>,
    needed_ns: u64,
}

impl Prepared {
    /// Event time at which no window needs these records any more: all that hold one have fired for the last time. 0:
    /// none of them is in a window.
    pub fn needed_ns(&self) -> u64 {
        self.needed_ns
    }
}

/// Rows of any kind with their panes.
#[derive(Debug)]
pub struct PlacedRows {
    pub(super) batch: RecordBatch,
    pub(super) pane: Vec<u64>,
    needed_ns: u64,
}

impl PlacedRows {
    /// As [`Prepared::needed_ns`].
    pub fn needed_ns(&self) -> u64 {
        self.needed_ns
    }
}

/// Panes to close, in order: `first..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// First pane.
    pub first: u64,
    /// One past the last pane.
    pub end: u64,
    /// Watermark that closes them.
    pub watermark_ns: u64,
    /// The stream ends: windows that are not complete fire too, marked partial.
    pub flush: bool,
    /// These panes were told before a restart: they are summed for the windows to come, and nothing fires.
    pub silent: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Ingest {
    plan: WindowPlan,
    needs: Needs,
    tracker: Tracker,
    /// Panes that hold records and are not closed.
    open: BTreeSet<u64>,
    /// First pane that is not closed; `None` until a pane was closed.
    next: Option<u64>,
    /// Panes before it were closed and told before a restart.
    told: u64,
    counts: IngestCounts,
}

impl Ingest {
    /// An empty one.
    pub fn new(plan: WindowPlan, needs: Needs) -> Self {
        Self::with_time(plan, needs, plan.event_time == EventTime::Received)
    }

    /// For records out of a log, which may be read long after they were received and more than once: only they move
    /// event time, and heartbeats say no more than that the end of the log was reached.
    pub fn of_log(plan: WindowPlan, needs: Needs) -> Self {
        Self::with_time(plan, needs, false)
    }

    fn with_time(plan: WindowPlan, needs: Needs, follows_ingest: bool) -> Self {
        let tracker = Tracker::new(plan.out_of_order_ns, plan.idle_timeout_ns, follows_ingest);
        Self { plan, needs, tracker, open: BTreeSet::new(), next: None, told: 0, counts: IngestCounts::default() }
    }

    /// Goes on after a restart: every window that ends at `boundary_ns` or before was told. The records that later
    /// windows need are given again; those that none needs are counted as replayed and left out.
    pub fn resume(&mut self, boundary_ns: u64) {
        self.told = boundary_ns / self.plan.pane_ns;
        let mut floor = self.told;
        while floor > 0 && self.plan.retained(floor - 1, boundary_ns) {
            floor -= 1;
        }
        self.next = Some(floor);
        self.tracker.resume(boundary_ns);
    }

    /// Windows that end at this event time or before have fired; `None` before the first.
    pub fn boundary_ns(&self) -> Option<u64> {
        Some(self.next?.max(self.told) * self.plan.pane_ns)
    }

    /// Counters since the start.
    pub fn counts(&self) -> IngestCounts {
        self.counts
    }

    /// How far the watermark is behind the newest event time, in nanoseconds.
    pub fn delay_ns(&self) -> u64 {
        self.tracker.delay_ns()
    }

    /// The event time of a record, and whether it said one that is too far ahead to be believed.
    fn event_ns(&self, columns: &FlowColumns<'_>, row: usize) -> (u64, bool) {
        let received = columns.time_received_ns[row];
        let event = match columns.time_flow_end_ns[row] {
            0 => received,
            end => end,
        };
        self.believed(event, received)
    }

    /// How many of the records, the only partition's of a log, come before a pane closes: up to the one whose time closes
    /// it. Pushed in such pieces, with [`close`](Self::close) after each, what is late does not depend on where a batch
    /// begins or ends, and so not on restarts.
    pub fn until_close(&self, input: &FlowBatch) -> usize {
        let columns = FlowColumns::new(&input.batch);
        // What closes first is the oldest pane with a record or with a part of one.
        let oldest = |row: usize, event: u64| {
            let start = columns.time_flow_start_ns[row];
            match self.plan.event_time {
                EventTime::Spread if start != 0 => event.min(start.max(event.saturating_sub(self.plan.max_spread_ns))),
                _ => event,
            }
        };
        self.until(input.batch.num_rows(), |row| self.event_ns(&columns, row).0, oldest)
    }

    /// The same of rows of any kind.
    pub fn rows_until_close(&self, input: &RowBatch) -> usize {
        let times = input.times();
        self.until(times.len(), |row| self.believed(times[row], input.received_ns).0, |_, event| event)
    }

    fn until(&self, rows: usize, event: impl Fn(usize) -> u64, oldest: impl Fn(usize, u64) -> u64) -> usize {
        let (mut first, mut newest) = (self.open.first().copied(), self.tracker.newest_event_ns());
        for row in 0..rows {
            let event = event(row);
            let next = match self.next {
                Some(next) => next,
                None => *first.insert(first.unwrap_or(u64::MAX).min(oldest(row, event) / self.plan.pane_ns)),
            };
            newest = newest.max(event);
            if newest.saturating_sub(self.plan.out_of_order_ns) / self.plan.pane_ns > next {
                return row + 1;
            }
        }
        rows
    }

    /// The event time, or the time of receipt where the event time is too far ahead of it to be believed.
    fn believed(&self, event: u64, received: u64) -> (u64, bool) {
        let event = if self.plan.event_time == EventTime::Received { received } else { event };
        let is_future = event > received.saturating_add(self.plan.max_future_ns);
        (if is_future { received } else { event }, is_future)
    }

    /// Gives every record its pane. Lateness is judged against the panes closed before this batch.
    pub fn push(&mut self, input: &FlowBatch) -> Prepared {
        let columns = FlowColumns::new(&input.batch);
        let n = input.batch.num_rows();
        let mut prepared = Prepared {
            batch: input.batch.clone(),
            pane: Vec::new(),
            class: (0..n).map(|i| classify(&columns, i)).collect(),
            src: if self.needs.src { columns.src_addr.iter().map(hash_addr).collect() } else { Vec::new() },
            dst: if self.needs.dst { columns.dst_addr.iter().map(hash_addr).collect() } else { Vec::new() },
            src_port: if self.needs.src_port { columns.src_port.iter().map(hash_port).collect() } else { Vec::new() },
            dst_port: if self.needs.dst_port { columns.dst_port.iter().map(hash_port).collect() } else { Vec::new() },
            own: None,
            parts: Vec::new(),
            needed_ns: 0,
        };
        let boundary = self.next.map_or(0, |next| next * self.plan.pane_ns);
        let (panes, needed_ns, newest_event) = self.place(n, |ingest, row| ingest.event_ns(&columns, row));
        (prepared.pane, prepared.needed_ns) = (panes, needed_ns);
        if self.plan.event_time == EventTime::Spread {
            self.spread(&columns, &mut prepared, boundary);
        }
        if n > 0 {
            let newest = || columns.time_received_ns.iter().copied().max().unwrap_or(0);
            let ingest_ns = input.arrived_ns.unwrap_or_else(newest);
            self.tracker.records(&(input.source.clone(), input.partition), newest_event, ingest_ns);
        }
        prepared
    }

    /// The same of rows of any kind.
    pub fn push_rows(&mut self, input: &RowBatch) -> PlacedRows {
        let times = input.times();
        let event = |ingest: &Self, row: usize| ingest.believed(times[row], input.received_ns);
        let (pane, needed_ns, newest_event) = self.place(times.len(), event);
        if !times.is_empty() {
            let ingest_ns = input.arrived_ns.unwrap_or(input.received_ns);
            self.tracker.records(&(input.source.clone(), input.partition), newest_event, ingest_ns);
        }
        PlacedRows { batch: input.batch.clone(), pane, needed_ns }
    }

    /// The pane of every record, until when the records are needed, and their newest event time.
    fn place(&mut self, rows: usize, event: impl Fn(&Self, usize) -> (u64, bool)) -> (Vec<u64>, u64, u64) {
        let mut panes = Vec::with_capacity(rows);
        let (mut newest_event, mut last_pane, mut newest_pane) = (0, DROPPED, None);
        let boundary = self.next.map_or(0, |next| next * self.plan.pane_ns);
        let told = self.told * self.plan.pane_ns;
        for row in 0..rows {
            let (event, is_future) = event(self, row);
            self.counts.future += u64::from(is_future);
            newest_event = newest_event.max(event);
            let mut pane = event / self.plan.pane_ns;
            if pane < self.told && !self.plan.retained(pane, told) {
                pane = DROPPED;
                self.counts.replayed += 1;
            } else if self.next.is_some_and(|next| pane < next) {
                pane = self.late(pane, boundary);
            } else {
                self.counts.on_time += 1;
                if pane != last_pane {
                    self.open.insert(pane);
                    last_pane = pane;
                }
            }
            newest_pane = match newest_pane {
                _ if pane == DROPPED => newest_pane,
                Some(newest) => Some(pane.max(newest)),
                None => Some(pane),
            };
            panes.push(pane);
        }
        self.counts.records += rows as u64;
        (panes, newest_pane.map_or(0, |pane| self.plan.needed_ns(pane)), newest_event)
    }

    /// The pane of a record whose pane has closed, or [`DROPPED`].
    fn late(&mut self, pane: u64, boundary: u64) -> u64 {
        let plan = &self.plan;
        if !plan.retained(pane, boundary) {
            self.counts.late_dropped += 1;
            DROPPED
        } else if plan.kind == crate::config::WindowKind::Tumbling && plan.window_end(pane) > boundary {
            // Only an early firing missed it; its window has yet to fire.
            self.counts.on_time += 1;
            pane
        } else {
            self.counts.late_accepted += 1;
            pane
        }
    }

    /// Shares bytes and packets of each flow over [start, end] by time, in whole numbers that add up. The flow itself
    /// (and what it adds to counted sets) stays in the pane of its end.
    fn spread(&mut self, columns: &FlowColumns<'_>, prepared: &mut Prepared, boundary: u64) {
        let (plan, told) = (self.plan, self.told * self.plan.pane_ns);
        let mut own = (columns.bytes_scaled.to_vec(), columns.packets_scaled.to_vec());
        for row in 0..prepared.pane.len() {
            let (own_pane, end, start) =
                (prepared.pane[row], columns.time_flow_end_ns[row], columns.time_flow_start_ns[row]);
            if own_pane == DROPPED || start == 0 || start >= end || end / plan.pane_ns != own_pane {
                continue;
            }
            let start = start.max(end.saturating_sub(plan.max_spread_ns));
            let (total_bytes, total_packets, length) = (own.0[row], own.1[row], end - start);
            let share = |total: u64, until: u64| {
                (u128::from(total) * u128::from(until.saturating_sub(start).min(length)) / u128::from(length)) as u64
            };
            let (mut given_bytes, mut given_packets) = (0, 0);
            for pane in start / plan.pane_ns..own_pane {
                let until = (pane + 1) * plan.pane_ns;
                let (bytes, packets) = (share(total_bytes, until), share(total_packets, until));
                let part = Part { row: row as u32, pane, bytes: bytes - given_bytes, packets: packets - given_packets };
                (given_bytes, given_packets) = (bytes, packets);
                if pane < self.told && !plan.retained(pane, told) {
                    // Told before the restart, with this part in it.
                } else if self.next.is_some_and(|next| pane < next) && !plan.retained(pane, boundary) {
                    self.counts.spread_clipped_bytes += part.bytes;
                } else if part.bytes > 0 || part.packets > 0 {
                    if self.next.is_none_or(|next| pane >= next) {
                        self.open.insert(pane);
                    }
                    prepared.parts.push(part);
                }
            }
            own.0[row] = total_bytes - given_bytes;
            own.1[row] = total_packets - given_packets;
        }
        prepared.own = Some(own);
    }

    /// A partition will say something: event time waits for it.
    pub fn expect(&mut self, partition: &Partition) {
        self.tracker.expect(partition);
    }

    /// A partition says that all it received before `ingest_ns` has been handed over.
    pub fn heartbeat(&mut self, partition: &Partition, ingest_ns: u64) {
        self.tracker.heartbeat(partition, ingest_ns);
    }

    /// A partition has ended.
    pub fn end_partition(&mut self, partition: &Partition) {
        self.tracker.end(partition);
    }

    /// The panes that the watermark has passed since the last call.
    pub fn close(&mut self) -> Vec<Close> {
        let watermark_ns = self.tracker.advance();
        self.close_before(watermark_ns / self.plan.pane_ns, watermark_ns, false)
    }

    /// All panes that hold records: the stream ends.
    pub fn close_all(&mut self) -> Vec<Close> {
        // Nothing is out of order any more: time is where the records came to.
        let watermark_ns = self.tracker.advance().saturating_add(self.plan.out_of_order_ns);
        let end = self.open.last().map_or(self.next.unwrap_or(0), |last| last + 1);
        let mut closes = self.close_before(end, watermark_ns, true);
        if closes.is_empty()
            && let Some(next) = self.next
        {
            // Nothing open, but a tumbling window may have fired only early: an order with no pane lets it out.
            closes.push(Close { first: next, end: next, watermark_ns, flush: true, silent: false });
        }
        closes
    }

    fn close_before(&mut self, end: u64, watermark_ns: u64, flush: bool) -> Vec<Close> {
        let mut closes: Vec<Close> = Vec::new();
        // Before the first record there is nothing to close.
        let Some(mut cursor) = self.next.or(self.open.first().copied()) else { return closes };
        if cursor >= end {
            return closes;
        }
        self.next = Some(end);
        let mut close = |first: u64, end: u64| match closes.last_mut() {
            Some(last) if last.end == first => last.end = end,
            _ => closes.push(Close { first, end, watermark_ns, flush: false, silent: false }),
        };
        while cursor < end {
            match self.open.first().copied().filter(|&open| open < end) {
                Some(open) if open <= cursor + MAX_EMPTY_PANES => {
                    close(cursor, open + 1);
                    cursor = open + 1;
                    self.open.pop_first();
                }
                Some(open) => {
                    close(cursor, cursor + MAX_EMPTY_PANES);
                    cursor = open;
                }
                None => {
                    close(cursor, end.min(cursor + MAX_EMPTY_PANES));
                    break;
                }
            }
        }
        if let Some(last) = closes.last_mut() {
            last.flush = flush;
        }
        if closes.first().is_some_and(|close| close.first < self.told) { self.hush(closes) } else { closes }
    }

    /// Panes that were told before a restart close in silence.
    fn hush(&self, closes: Vec<Close>) -> Vec<Close> {
        let mut out = Vec::with_capacity(closes.len() + 1);
        for close in closes {
            let split = close.end.min(self.told);
            if close.first < split {
                out.push(Close { end: split, flush: false, silent: true, ..close });
            }
            if close.end > split || close.first == close.end {
                out.push(Close { first: close.first.max(split), ..close });
            }
        }
        out
    }
}

impl WindowPlan {
    /// Panes in a window.
    pub(super) fn panes(&self) -> u64 {
        self.size_ns / self.pane_ns
    }

    /// End of the last window that holds the pane.
    pub(super) fn window_end(&self, pane: u64) -> u64 {
        match self.kind {
            crate::config::WindowKind::Tumbling => (pane / self.panes() + 1).saturating_mul(self.size_ns),
            crate::config::WindowKind::Sliding => (pane + self.panes()).saturating_mul(self.pane_ns),
        }
    }

    /// Event time at which the last window that holds the pane has fired for the last time.
    pub(super) fn needed_ns(&self, pane: u64) -> u64 {
        self.window_end(pane).saturating_add(self.allowed_lateness_ns)
    }

    /// True while some window that holds the pane may still fire, all panes before `boundary` being closed.
    pub(super) fn retained(&self, pane: u64, boundary: u64) -> bool {
        self.needed_ns(pane) > boundary
    }
}

#[inline]
fn classify(columns: &FlowColumns<'_>, row: usize) -> u8 {
    const SYN: u16 = 0x02;
    const ALL_FLAGS: u16 = 0x3f;
    let mut bits = match columns.proto[row] {
        6 if columns.tcp_flags[row] & ALL_FLAGS == SYN => class::TCP | class::SYN_ONLY,
        6 => class::TCP,
        17 if is_amplifier_port(columns.src_port[row]) => class::UDP | class::AMP_PORT,
        17 => class::UDP,
        1 | 58 => class::ICMP,
        _ => 0,
    };
    if columns.packets[row] == 1 {
        bits |= class::SINGLE_PACKET;
    }
    bits
}

/// UDP services abused as reflectors (US-CERT TA14-017A and later additions): QOTD, CharGEN, DNS, TFTP, portmap, NTP,
/// NetBIOS, SNMP, CLDAP, SLP, ISAKMP, RIP, IPMI, OpenVPN, MS-SQL, L2TP, SSDP, ARD, STUN, WS-Discovery, mDNS, CoAP,
/// Ubiquiti discovery, memcached, Quake, Steam, Plex, DVR (DHDiscover).
#[inline]
fn is_amplifier_port(port: u16) -> bool {
    matches!(
        port,
        17 | 19
            | 53
            | 69
            | 111
            | 123
            | 137
            | 161
            | 389
            | 427
            | 500
            | 520
            | 623
            | 1194
            | 1434
            | 1701
            | 1900
            | 3283
            | 3478
            | 3702
            | 5353
            | 5683
            | 10001
            | 11211
            | 27015
            | 27960
            | 32414
            | 37810
    )
}
