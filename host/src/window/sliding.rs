//! Sliding windows: one fires for every pane that closes, over that pane and the ones before it.

use super::ingest::Close;
use super::shard::{Panes, Slots};
use super::stacks::Stacks;
use super::table::{Entry, Table};
use crate::config::WindowPlan;
use crate::model::{Aggregate, EntityKey, KeyKind, WindowInfo, WindowSink};
use hashbrown::HashTable;
use std::collections::{BTreeMap, HashSet};

struct Closed {
    key: EntityKey,
    hash: u64,
    stacks: Stacks,
}

/// The closed panes of an entity, by the hash that its records were placed with.
fn stacks_of(closed: &mut HashTable<Closed>, hash: u64, key: EntityKey) -> &mut Stacks {
    let entry = closed.entry(hash, |c| c.key == key, |c| c.hash);
    &mut entry.or_insert_with(|| Closed { key, hash, stacks: Stacks::default() }).into_mut().stacks
}

pub(super) struct Sliding {
    plan: WindowPlan,
    panes: Panes,
    /// Closed panes by entity: what windows to come are made of.
    closed: HashTable<Closed>,
    /// Panes that got records after they closed; folded into `closed` before the next window fires.
    late: BTreeMap<u64, Table>,
    /// With allowed lateness: closed panes as they are, for windows that fire again.
    kept: BTreeMap<u64, Table>,
    /// Times that a window (by its last pane) was fired again.
    revisions: BTreeMap<u64, u32>,
    /// Pane at which entities without recent traffic are next forgotten.
    sweep_at: u64,
}

impl Slots for Sliding {
    #[inline]
    fn table(&mut self, pane: u64) -> &mut Table {
        if pane >= self.panes.next { self.panes.table(pane) } else { self.late.entry(pane).or_default() }
    }

    /// The table itself is the note.
    fn late(&mut self, _: u64, _: &[(u64, EntityKey)]) {}

    #[inline]
    fn is_late(&self, pane: u64) -> bool {
        pane < self.panes.next
    }

    fn max_keys(&self) -> usize {
        self.plan.max_keys
    }
}

impl Sliding {
    pub(super) fn new(plan: WindowPlan) -> Self {
        Self {
            plan,
            panes: Panes::new(),
            closed: HashTable::new(),
            late: BTreeMap::new(),
            kept: BTreeMap::new(),
            revisions: BTreeMap::new(),
            sweep_at: 0,
        }
    }

    pub(super) fn entities(&self) -> usize {
        self.panes.open().map(Table::len).sum::<usize>() + self.closed.len()
    }

    /// The window that ends with `last_pane`, fired when the panes before `closed` had closed.
    fn window(&self, last_pane: u64, revision: u32, closed: u64, watermark_ns: u64) -> WindowInfo {
        let end_ns = (last_pane + 1) * self.plan.pane_ns;
        WindowInfo {
            start_ns: end_ns.saturating_sub(self.plan.size_ns),
            end_ns,
            revision,
            watermark_ns: watermark_ns.min(closed * self.plan.pane_ns),
            partial: end_ns > watermark_ns,
        }
    }

    /// First pane of the window that ends with `last_pane`.
    fn first_pane(&self, last_pane: u64) -> u64 {
        (last_pane + 1).saturating_sub(self.plan.panes())
    }

    pub(super) fn close(
        &mut self,
        order: &Close,
        kind: KeyKind,
        sink: &mut dyn WindowSink,
        fired: &mut dyn FnMut(WindowInfo),
    ) -> u64 {
        self.settle_late(order, kind, sink, fired);
        for pane in order.first..order.end {
            if order.silent {
                self.pass(pane);
                continue;
            }
            let window = self.window(pane, 0, pane + 1, order.watermark_ns);
            fired(window);
            if let Some(table) = self.panes.close(pane) {
                if self.plan.allowed_lateness_ns > 0 {
                    self.kept.insert(pane, table.clone());
                }
                self.fire(&window, pane, table, kind, sink);
            }
            self.forget(pane + 1);
        }
        self.panes.next = self.panes.next.max(order.end);
        0
    }

    /// A pane that was told before a restart: what windows to come need of it is kept, nothing fires.
    fn pass(&mut self, pane: u64) {
        if let Some(table) = self.panes.close(pane) {
            if self.plan.allowed_lateness_ns > 0 {
                self.kept.insert(pane, table.clone());
            }
            for Entry { key, hash, aggregate } in table.into_entries() {
                stacks_of(&mut self.closed, hash, key).push(pane, aggregate);
            }
        }
        self.forget(pane + 1);
    }

    /// One row for every entity of the pane that closed.
    fn fire(&mut self, window: &WindowInfo, pane: u64, table: Table, kind: KeyKind, sink: &mut dyn WindowSink) {
        let first = self.first_pane(pane);
        sink.begin(window, kind, table.len());
        for Entry { key, hash, aggregate } in table.into_entries() {
            let stacks = stacks_of(&mut self.closed, hash, key);
            stacks.push(pane, aggregate);
            if let Some(sum) = stacks.sum_from(first) {
                sink.row(&key, &sum);
            }
        }
        sink.end();
    }

    /// Folds late records into the panes of windows to come; windows that fired without them fire again within the
    /// allowed lateness.
    fn settle_late(
        &mut self,
        order: &Close,
        kind: KeyKind,
        sink: &mut dyn WindowSink,
        fired: &mut dyn FnMut(WindowInfo),
    ) {
        let mut again: BTreeMap<u64, HashSet<(u64, EntityKey)>> = BTreeMap::new();
        for (pane, table) in std::mem::take(&mut self.late) {
            for last_pane in pane..(pane + self.plan.panes()).min(self.panes.next) {
                let end_ns = (last_pane + 1) * self.plan.pane_ns;
                if end_ns + self.plan.allowed_lateness_ns > self.panes.next * self.plan.pane_ns {
                    again.entry(last_pane).or_default().extend(table.entries().iter().map(|e| (e.hash, e.key)));
                }
            }
            if self.plan.allowed_lateness_ns > 0 {
                self.kept.entry(pane).or_default().merge(&table, self.plan.max_keys);
            }
            for Entry { key, hash, aggregate } in table.into_entries() {
                stacks_of(&mut self.closed, hash, key).amend(pane, &mut |a| a.merge(&aggregate));
            }
        }
        // What was told before a restart is not told again for a record that comes again.
        again.retain(|_, _| !order.silent);
        for (last_pane, keys) in again {
            let revision = self.revisions.entry(last_pane).or_default();
            *revision += 1;
            let window = self.window(last_pane, self.revisions[&last_pane], order.first, order.watermark_ns);
            fired(window);
            sink.begin(&window, kind, keys.len());
            for (hash, key) in &keys {
                let mut sum = Aggregate::default();
                for (_, table) in self.kept.range(self.first_pane(last_pane)..=last_pane) {
                    table.get(*hash, key).into_iter().for_each(|a| sum.merge(a));
                }
                sink.row(key, &sum);
            }
            sink.end();
        }
    }

    fn forget(&mut self, next: u64) {
        let boundary = next * self.plan.pane_ns;
        while let Some((&pane, _)) = self.kept.first_key_value()
            && !self.plan.retained(pane, boundary)
        {
            self.kept.pop_first();
            self.revisions.remove(&pane);
        }
        if next >= self.sweep_at {
            // Once per window length: an entity lingers for at most two.
            self.sweep_at = next + self.plan.panes();
            let first = self.first_pane(next);
            self.closed.retain(|c| c.stacks.newest().is_some_and(|newest| newest >= first));
        }
    }
}
