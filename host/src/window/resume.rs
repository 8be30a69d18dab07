//! A restart in the middle of anything: reading again from the safe position gives the very windows that an undisturbed run
//! gives, each told once.

use super::properties::{LEVELS, batch, plan, records};
use super::*;
use crate::config::{EventTime, WindowKind, WindowPlan};
use crate::model::time::SECOND;
use crate::model::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Every firing: window end, whether early, entity -> flows, bytes, sources.
type Told = BTreeMap<(u64, bool, EntityKey), (u64, u64, u64)>;

#[derive(Default)]
struct Tell {
    told: Told,
    window: Option<WindowInfo>,
    twice: bool,
}

impl WindowSink for Tell {
    fn begin(&mut self, window: &WindowInfo, _: KeyKind, _: usize) {
        self.window = Some(*window);
    }
    fn row(&mut self, key: &EntityKey, a: &Aggregate) {
        let window = self.window.expect("begin came first");
        let row = (a.flows, a.bytes, a.src.distinct() as u64);
        self.twice |= self.told.insert((window.end_ns, window.partial, *key), row).is_some();
    }
    fn end(&mut self) {}
}

/// One life of the engine.
struct Life {
    ingest: Ingest,
    shard: Shard,
    backlog: Backlog,
    fired: Vec<u64>,
}

impl Life {
    fn new(plan: WindowPlan, from: usize, resume: Option<u64>) -> Self {
        let needs = Needs { src: true, ..Needs::default() };
        let mut ingest = Ingest::of_log(plan, needs);
        resume.into_iter().for_each(|boundary| ingest.resume(boundary));
        let shard = Shard::new(plan, needs, &LEVELS, &Hasher::default(), 0, 1);
        Self { ingest, shard, backlog: Backlog::new(from as i64), fired: Vec::new() }
    }

    fn close(&mut self, closes: Vec<Close>, out: &mut Tell) {
        for close in closes {
            self.fired.extend(self.shard.close(&close, out).iter().map(|w| w.end_ns));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_restart_changes_nothing(
        mut records in records(), sliding: bool, early: bool, spread: bool, lens in (1usize..20, 1usize..60),
        kills in prop::collection::vec(1usize..200, 0..5),
    ) {
        records.sort_by_key(|r| r.arrival);
        let kind = if sliding { WindowKind::Sliding } else { WindowKind::Tumbling };
        let event_time = if spread { EventTime::Spread } else { EventTime::End };
        let mut plan = plan(kind, 10, if sliding || early { 1 } else { 10 }, event_time);
        plan.out_of_order_ns = 2 * SECOND;

        let run = |kills: &[usize], batch_len: usize| {
            let mut kills = kills.to_vec();
            let (mut out, mut fired) = (Tell::default(), Vec::new());
            let mut life = Life::new(plan, 0, None);
            let (mut at, mut steps) = (0, 0);
            let mut replayed = 0;
            while at < records.len() {
                let end = (at + batch_len).min(records.len());
                let (first, mut needed) = (at, 0);
                while at < end {
                    let count = life.ingest.until_close(&batch(&records[at..end]));
                    let prepared = life.ingest.push(&batch(&records[at..at + count]));
                    needed = needed.max(prepared.needed_ns());
                    life.shard.push(&prepared);
                    let closes = life.ingest.close();
                    life.close(closes, &mut out);
                    at += count;
                }
                life.backlog.push(first as i64, end as i64, needed);
                steps += 1;
                if kills.first().is_some_and(|kill| steps % kill == 0) {
                    kills.remove(0);
                    fired.append(&mut life.fired);
                    let boundary = life.ingest.boundary_ns();
                    at = life.backlog.safe(boundary.unwrap_or(0)) as usize;
                    replayed += life.ingest.counts().replayed;
                    life = Life::new(plan, at, boundary);
                }
            }
            let closes = life.ingest.close_all();
            life.close(closes, &mut out);
            fired.append(&mut life.fired);
            (out, fired, replayed)
        };
        let (undisturbed, fired, _) = run(&[], lens.0);
        let (disturbed, fired_too, _) = run(&kills, lens.1);
        prop_assert!(!undisturbed.twice && !disturbed.twice);
        prop_assert_eq!(fired, fired_too);
        prop_assert_eq!(undisturbed.told, disturbed.told);
    }
}
