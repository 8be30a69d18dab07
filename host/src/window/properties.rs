//! Properties that hold for every arrival order, window and number of shards.

use super::*;
use crate::config::{EventTime, WindowKind, WindowPlan};
use crate::model::time::SECOND;
use crate::model::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows as they came out last (the highest revision wins): (window end, entity) -> flows, bytes, packets, sources.
type Rows = BTreeMap<(u64, EntityKey), (u64, u64, u64, u64)>;

#[derive(Default)]
struct Collect {
    rows: Rows,
    window: Option<WindowInfo>,
    fired: Vec<(u64, u32, bool)>,
}

impl WindowSink for Collect {
    fn begin(&mut self, window: &WindowInfo, _: KeyKind, _: usize) {
        self.window = Some(*window);
        self.fired.push((window.end_ns, window.revision, window.partial));
    }
    fn row(&mut self, key: &EntityKey, a: &Aggregate) {
        let end = self.window.expect("begin came first").end_ns;
        self.rows.insert((end, *key), (a.flows, a.bytes, a.packets, a.src.distinct() as u64));
    }
    fn end(&mut self) {}
}

#[derive(Clone, Debug)]
pub(super) struct Rec {
    pub(super) start_ms: u64,
    pub(super) end_ms: u64,
    pub(super) arrival: u64,
    pub(super) dst: u8,
    pub(super) src: u8,
    pub(super) bytes: u64,
    pub(super) packets: u64,
}

pub(super) fn plan(kind: WindowKind, size_s: u64, pane_s: u64, event_time: EventTime) -> WindowPlan {
    WindowPlan {
        kind,
        size_ns: size_s * SECOND,
        pane_ns: pane_s * SECOND,
        event_time,
        max_spread_ns: 30 * SECOND,
        out_of_order_ns: 5 * SECOND,
        allowed_lateness_ns: 0,
        idle_timeout_ns: 3600 * SECOND,
        max_future_ns: u64::MAX / 2,
        max_keys: 1_000_000,
    }
}

pub(super) const LEVELS: [KeyLevel; 2] = [
    KeyLevel { kind: KeyKind::DstAddr, v4_prefix: 24, v6_prefix: 64 },
    KeyLevel { kind: KeyKind::DstPrefix, v4_prefix: 24, v6_prefix: 64 },
];

fn addr(host: u8) -> Addr {
    Addr::from_v4_bytes([192, 0, host % 3, host])
}

pub(super) fn batch(records: &[Rec]) -> FlowBatch {
    let mut b = FlowBatchBuilder::default();
    for r in records {
        b.push(&FlowRecord {
            time_received_ns: r.arrival * 1_000_000,
            time_flow_start_ns: r.start_ms * 1_000_000,
            time_flow_end_ns: r.end_ms * 1_000_000,
            src_addr: addr(r.src),
            dst_addr: addr(r.dst),
            bytes: r.bytes,
            packets: r.packets,
            ..FlowRecord::default()
        });
    }
    FlowBatch { source: Arc::from("s"), partition: 0, arrived_ns: None, batch: b.finish() }
}

/// Runs records in the order given; every shard's rows together, and the counts.
fn run(plan: WindowPlan, records: &[Rec], batch_len: usize, shards: usize) -> (Collect, IngestCounts) {
    let needs = Needs { src: true, ..Needs::default() };
    let mut ingest = Ingest::new(plan, needs);
    let hasher = Hasher::default();
    let mut workers: Vec<Shard> = (0..shards).map(|i| Shard::new(plan, needs, &LEVELS, &hasher, i, shards)).collect();
    let mut out = Collect::default();
    for chunk in records.chunks(batch_len.max(1)) {
        let prepared = ingest.push(&batch(chunk));
        workers.iter_mut().for_each(|w| w.push(&prepared));
        for close in ingest.close() {
            workers.iter_mut().for_each(|w| drop(w.close(&close, &mut out)));
        }
    }
    for close in ingest.close_all() {
        workers.iter_mut().for_each(|w| drop(w.close(&close, &mut out)));
    }
    (out, ingest.counts())
}

/// The same by brute force, for records that are never late.
fn reference(plan: &WindowPlan, records: &[Rec]) -> Rows {
    let mut panes: BTreeMap<(u64, EntityKey), Vec<&Rec>> = BTreeMap::new();
    for r in records {
        for level in LEVELS {
            let key = match level.kind {
                KeyKind::DstAddr => EntityKey { kind: level.kind, addr: addr(r.dst), extra: 0 },
                _ => EntityKey { kind: level.kind, addr: addr(r.dst).prefix(24, 64).addr, extra: 24 },
            };
            panes.entry((r.end_ms * 1_000_000 / plan.pane_ns, key)).or_default().push(r);
        }
    }
    let n = plan.size_ns / plan.pane_ns;
    let mut rows = Rows::new();
    for (pane, key) in panes.keys() {
        let (first, last) = match plan.kind {
            WindowKind::Sliding => ((pane + 1).saturating_sub(n), *pane),
            WindowKind::Tumbling => (pane / n * n, pane / n * n + n - 1),
        };
        let inside = || (first..=last).flat_map(|p| panes.get(&(p, *key)).into_iter().flatten());
        let sources: std::collections::BTreeSet<u8> = inside().map(|r| r.src).collect();
        let row = (
            inside().count() as u64,
            inside().map(|r| r.bytes).sum(),
            inside().map(|r| r.packets).sum(),
            sources.len() as u64,
        );
        rows.insert(((last + 1) * plan.pane_ns, *key), row);
    }
    rows
}

pub(super) fn records() -> impl Strategy<Value = Vec<Rec>> {
    let one = (0u64..40_000, 0u64..5_000, 0u64..5_000, 0u8..6, 0u8..200, 1u64..5_000, 1u64..50).prop_map(
        |(end, duration, jitter, dst, src, bytes, packets)| Rec {
            start_ms: 1_000_000 + end - duration.min(end),
            end_ms: 1_000_000 + end,
            arrival: 1_000_000 + end + jitter,
            dst,
            src,
            bytes,
            packets,
        },
    );
    prop::collection::vec(one, 1..150)
}

proptest! {
    #[test]
    fn any_order_within_the_bound_gives_the_same_windows(
        mut records in records(), sliding: bool, batch_len in 1usize..40, shards in 1usize..4
    ) {
        let kind = if sliding { WindowKind::Sliding } else { WindowKind::Tumbling };
        let plan = plan(kind, 10, if sliding { 1 } else { 10 }, EventTime::End);
        let expected = reference(&plan, &records);
        records.sort_by_key(|r| r.arrival);
        let (out, counts) = run(plan, &records, batch_len, shards);
        prop_assert_eq!(counts.on_time, records.len() as u64);
        prop_assert_eq!(&out.rows, &expected);
        records.sort_by_key(|r| r.end_ms);
        let (in_order, _) = run(plan, &records, 7, 1);
        prop_assert_eq!(&in_order.rows, &expected);
    }

    #[test]
    fn every_record_is_on_time_late_or_dropped(
        records in records(), sliding: bool, early: bool, batch_len in 1usize..10, lateness in 0u64..20, bound in 0u64..5
    ) {
        let kind = if sliding { WindowKind::Sliding } else { WindowKind::Tumbling };
        let mut plan = plan(kind, 10, if sliding || early { 1 } else { 10 }, EventTime::End);
        plan.allowed_lateness_ns = lateness * SECOND;
        plan.out_of_order_ns = bound * SECOND;
        let (out, counts) = run(plan, &records, batch_len, 2);
        prop_assert_eq!(counts.on_time + counts.late_accepted + counts.late_dropped, records.len() as u64);
        if !sliding {
            // Every record that was taken stands in the last firing of exactly one whole window.
            let taken: u64 = out
                .rows
                .iter()
                .filter(|((_, key), _)| key.kind == KeyKind::DstAddr)
                .fold(BTreeMap::new(), |mut last: BTreeMap<(u64, EntityKey), u64>, (&(end, key), row)| {
                    // Early firings of a window share its number; the latest has all.
                    last.insert(((end - 1) / plan.size_ns, key), row.0);
                    last
                })
                .values()
                .sum();
            prop_assert_eq!(taken, counts.on_time + counts.late_accepted);
        }
    }

    #[test]
    fn spreading_loses_no_byte(records in records(), batch_len in 1usize..20) {
        let mut records = records;
        records.sort_by_key(|r| r.arrival);
        let plan = plan(WindowKind::Tumbling, 1, 1, EventTime::Spread);
        let (out, counts) = run(plan, &records, batch_len, 2);
        let total: u64 = records.iter().map(|r| r.bytes).sum();
        let seen: u64 = out.rows.iter().filter(|((_, k), _)| k.kind == KeyKind::DstAddr).map(|(_, r)| r.1).sum();
        let flows: u64 = out.rows.iter().filter(|((_, k), _)| k.kind == KeyKind::DstAddr).map(|(_, r)| r.0).sum();
        prop_assert_eq!(seen + counts.spread_clipped_bytes, total);
        prop_assert_eq!(flows, records.len() as u64);
    }
}

fn rec(end_ms: u64, bytes: u64) -> Rec {
    Rec { start_ms: end_ms, end_ms, arrival: end_ms, dst: 1, src: 1, bytes, packets: 1 }
}

#[test]
fn a_minute_long_flow_is_no_one_second_flood() {
    let plan = plan(WindowKind::Tumbling, 1, 1, EventTime::Spread);
    let flow = Rec { start_ms: 100_000, end_ms: 120_000, arrival: 120_000, dst: 1, src: 1, bytes: 20_000, packets: 20 };
    let (out, _) = run(plan, &[flow], 1, 1);
    let most = out.rows.iter().filter(|((_, k), _)| k.kind == KeyKind::DstAddr).map(|(_, r)| r.1).max();
    assert_eq!(most, Some(1_000));
}

#[test]
fn early_firing_shows_the_window_so_far_and_the_last_firing_has_all() {
    let plan = plan(WindowKind::Tumbling, 10, 1, EventTime::End);
    let (out, _) = run(plan, &[rec(1_000, 1), rec(2_500, 2), rec(30_000, 4)], 1, 1);
    let bytes = |end_s: u64| {
        let key = EntityKey { kind: KeyKind::DstAddr, addr: addr(1), extra: 0 };
        out.rows.get(&(end_s * SECOND, key)).map(|r| r.1)
    };
    assert_eq!((bytes(2), bytes(3), bytes(4), bytes(10)), (Some(1), Some(3), None, Some(3)));
    assert_eq!(bytes(31), Some(4), "the last window fires at the end of the stream");
    assert!(out.fired.contains(&(2 * SECOND, 0, true)) && out.fired.contains(&(10 * SECOND, 0, false)));
}

#[test]
fn late_records_fire_their_windows_again() {
    let mut plan = plan(WindowKind::Tumbling, 10, 10, EventTime::End);
    plan.out_of_order_ns = 0;
    plan.allowed_lateness_ns = 60 * SECOND;
    let (out, counts) = run(plan, &[rec(1_000, 1), rec(25_000, 2), rec(2_000, 4), rec(26_000, 8)], 1, 1);
    assert_eq!((counts.late_accepted, counts.late_dropped), (1, 0));
    let key = EntityKey { kind: KeyKind::DstAddr, addr: addr(1), extra: 0 };
    assert_eq!(out.rows[&(10 * SECOND, key)].1, 5);
    assert!(out.fired.contains(&(10 * SECOND, 1, false)));
}

#[test]
fn a_full_table_refuses_new_entities_and_counts_them() {
    let mut plan = plan(WindowKind::Tumbling, 10, 10, EventTime::End);
    plan.max_keys = 2;
    let needs = Needs::default();
    let mut ingest = Ingest::new(plan, needs);
    let mut shard = Shard::new(plan, needs, &LEVELS[..1], &Hasher::default(), 0, 1);
    let records: Vec<Rec> = (0..5).map(|dst| Rec { dst, ..rec(1_000, 1) }).collect();
    shard.push(&ingest.push(&batch(&records)));
    assert_eq!((shard.entities(), shard.refused()), (2, 3));
}

#[test]
fn a_gap_of_years_closes_quickly_and_loses_nothing() {
    let plan = plan(WindowKind::Sliding, 10, 1, EventTime::End);
    let (out, counts) = run(plan, &[rec(1_000, 1), rec(1_700_000_000_000, 2), rec(1_700_000_100_000, 4)], 1, 2);
    assert_eq!(counts.on_time, 3);
    assert_eq!(out.rows.iter().filter(|((_, k), _)| k.kind == KeyKind::DstAddr).count(), 3);
}

#[test]
fn clocks_far_ahead_are_not_believed() {
    let mut plan = plan(WindowKind::Tumbling, 10, 10, EventTime::End);
    plan.max_future_ns = SECOND;
    let ahead = Rec { end_ms: 900_000, ..rec(5_000, 1) };
    let (out, counts) = run(plan, &[Rec { arrival: 5_000, ..ahead }, rec(6_000, 1)], 1, 1);
    assert_eq!((counts.future, counts.late_dropped), (1, 0));
    assert!(out.rows.keys().all(|(end, _)| *end == 10 * SECOND));
}
