//! Sliding windows: one fires for every pane that closes, over that pane and the ones before it.

use super::ingest::Close;
use super::shard::{Panes, Slots};
use super::table::{Entry, Table};
use crate::config::WindowPlan;
use crate::model::{Aggregate, EntityKey, KeyKind, WindowInfo, WindowSink};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

pub(super) struct Sliding {
    plan: WindowPlan,
    panes: Panes,
    /// Closed panes that a window may still need, by number.
    kept: BTreeMap<u64, Table>,
    /// Entities of closed panes that late records have changed since the last close.
    late: BTreeMap<u64, HashSet<(u64, EntityKey)>>,
    /// Times that a window (by its last pane) was fired again.
    revisions: BTreeMap<u64, u32>,
}

impl Slots for Sliding {
    #[inline]
    fn slot(&mut self, pane: u64, hash: u64, key: EntityKey) -> Option<&mut Aggregate> {
        if pane >= self.panes.next {
            return self.panes.table(pane).get_or_insert(hash, key, self.plan.max_keys);
        }
        if self.plan.allowed_lateness_ns > 0 {
            self.late.entry(pane).or_default().insert((hash, key));
        }
        self.kept.entry(pane).or_default().get_or_insert(hash, key, self.plan.max_keys)
    }
}

impl Sliding {
    pub(super) fn new(plan: WindowPlan) -> Self {
        Self { plan, panes: Panes::new(), kept: BTreeMap::new(), late: BTreeMap::new(), revisions: BTreeMap::new() }
    }

    pub(super) fn entities(&self) -> usize {
        self.panes.open().chain(self.kept.values()).map(Table::len).sum()
    }

    fn window(&self, last_pane: u64, revision: u32, watermark_ns: u64) -> WindowInfo {
        let end_ns = (last_pane + 1) * self.plan.pane_ns;
        WindowInfo {
            start_ns: end_ns.saturating_sub(self.plan.size_ns),
            end_ns,
            revision,
            watermark_ns,
            partial: end_ns > watermark_ns.saturating_add(self.plan.out_of_order_ns),
        }
    }

    /// The entity over the window that ends with `last_pane`. Borrowed when one pane alone has it: most entities.
    fn over_window<'a>(
        &'a self,
        last_pane: u64,
        newest: Option<&'a Aggregate>,
        hash: u64,
        key: &EntityKey,
    ) -> Option<Cow<'a, Aggregate>> {
        let first = (last_pane + 1).saturating_sub(self.plan.panes());
        let older_than = if newest.is_some() { last_pane } else { last_pane + 1 };
        let mut sum = newest.map(Cow::Borrowed);
        for (_, table) in self.kept.range(first..older_than) {
            if let Some(aggregate) = table.get(hash, key) {
                match &mut sum {
                    Some(sum) => sum.to_mut().merge(aggregate),
                    None => sum = Some(Cow::Borrowed(aggregate)),
                }
            }
        }
        sum
    }

    pub(super) fn close(
        &mut self,
        order: &Close,
        kind: KeyKind,
        sink: &mut dyn WindowSink,
        fired: &mut dyn FnMut(WindowInfo),
    ) -> u64 {
        self.fire_again(order, kind, sink, fired);
        for pane in order.first..order.end {
            let window = self.window(pane, 0, order.watermark_ns);
            fired(window);
            let Some(table) = self.panes.close(pane) else {
                self.drop_old(pane + 1);
                continue;
            };
            sink.begin(&window, kind, table.len());
            for Entry { key, hash, aggregate } in table.entries() {
                if let Some(row) = self.over_window(pane, Some(aggregate), *hash, key) {
                    sink.row(key, &row);
                }
            }
            sink.end();
            self.kept.insert(pane, table);
            self.drop_old(pane + 1);
        }
        self.panes.next = self.panes.next.max(order.end);
        0
    }

    /// Windows that fired without records which came within the allowed lateness.
    fn fire_again(
        &mut self,
        order: &Close,
        kind: KeyKind,
        sink: &mut dyn WindowSink,
        fired: &mut dyn FnMut(WindowInfo),
    ) {
        let late = std::mem::take(&mut self.late);
        let mut by_window: BTreeMap<u64, HashSet<(u64, EntityKey)>> = BTreeMap::new();
        for (pane, keys) in &late {
            for last_pane in *pane..(pane + self.plan.panes()).min(self.panes.next) {
                let end_ns = (last_pane + 1) * self.plan.pane_ns;
                if end_ns + self.plan.allowed_lateness_ns > self.panes.next * self.plan.pane_ns {
                    by_window.entry(last_pane).or_default().extend(keys);
                }
            }
        }
        for (last_pane, keys) in by_window {
            let revision = self.revisions.entry(last_pane).or_default();
            *revision += 1;
            let window = self.window(last_pane, self.revisions[&last_pane], order.watermark_ns);
            fired(window);
            sink.begin(&window, kind, keys.len());
            for (hash, key) in &keys {
                if let Some(row) = self.over_window(last_pane, None, *hash, key) {
                    sink.row(key, &row);
                }
            }
            sink.end();
        }
    }

    fn drop_old(&mut self, next: u64) {
        let boundary = next * self.plan.pane_ns;
        while let Some((&pane, _)) = self.kept.first_key_value()
            && !self.plan.retained(pane, boundary)
        {
            self.kept.pop_first();
            self.revisions.remove(&pane);
        }
    }
}
