//! Tumbling windows: one fires when its last pane closes; with early firing also for every pane before that.

use super::ingest::Close;
use super::shard::{Panes, Slots};
use super::table::{Entry, Table};
use crate::config::WindowPlan;
use crate::model::{EntityKey, KeyKind, WindowInfo, WindowSink};
use std::collections::{BTreeMap, HashSet};

pub(super) struct Tumbling {
    plan: WindowPlan,
    panes: Panes,
    /// Windows by number: what their closed panes held.
    windows: BTreeMap<u64, Window>,
}

#[derive(Default)]
struct Window {
    sum: Table,
    /// Entities that late records have changed since the window last fired whole.
    late: HashSet<(u64, EntityKey)>,
    revision: u32,
}

impl Slots for Tumbling {
    #[inline]
    fn table(&mut self, pane: u64) -> &mut Table {
        if pane >= self.panes.next {
            self.panes.table(pane)
        } else {
            &mut self.windows.entry(pane / self.plan.panes()).or_default().sum
        }
    }

    /// Only a window that has fired whole must fire again.
    fn late(&mut self, pane: u64, entities: &[(u64, EntityKey)]) {
        if self.window_end_pane(pane) <= self.panes.next {
            self.windows.entry(pane / self.plan.panes()).or_default().late.extend(entities);
        }
    }

    #[inline]
    fn is_late(&self, pane: u64) -> bool {
        pane < self.panes.next
    }

    fn max_keys(&self) -> usize {
        self.plan.max_keys
    }
}

impl Tumbling {
    pub(super) fn new(plan: WindowPlan) -> Self {
        Self { plan, panes: Panes::new(), windows: BTreeMap::new() }
    }

    pub(super) fn entities(&self) -> usize {
        self.panes.open().chain(self.windows.values().map(|w| &w.sum)).map(Table::len).sum()
    }

    /// One past the last pane of the window that holds the pane.
    fn window_end_pane(&self, pane: u64) -> u64 {
        (pane / self.plan.panes() + 1) * self.plan.panes()
    }

    /// A firing of window `number` as far as `end_pane`, when the panes before `closed` had closed.
    fn info(&self, number: u64, end_pane: u64, revision: u32, closed: u64, watermark_ns: u64) -> WindowInfo {
        let end_ns = end_pane * self.plan.pane_ns;
        WindowInfo {
            start_ns: number * self.plan.size_ns,
            end_ns,
            revision,
            watermark_ns: watermark_ns.min(closed * self.plan.pane_ns),
            partial: !end_pane.is_multiple_of(self.plan.panes()) || end_ns > watermark_ns,
        }
    }

    pub(super) fn close(
        &mut self,
        order: &Close,
        kind: KeyKind,
        sink: &mut dyn WindowSink,
        fired: &mut dyn FnMut(WindowInfo),
    ) -> u64 {
        self.fire_again(order, kind, sink, fired);
        let mut refused = 0;
        for pane in order.first..order.end {
            let number = pane / self.plan.panes();
            let whole = pane + 1 == self.window_end_pane(pane);
            if order.silent {
                // Told before a restart: kept for the window that goes on, or that late records may fire again.
                if let Some(table) = self.panes.close(pane) {
                    refused += self.add(number, table);
                }
                self.drop_old(pane + 1);
                continue;
            }
            // At the end of the stream the window under way fires with all it has.
            let last = order.flush && pane + 1 == order.end;
            let info = self.info(number, pane + 1, 0, pane + 1, order.watermark_ns);
            fired(info);
            let table = self.panes.close(pane);
            if whole || last {
                if let Some(table) = table {
                    refused += self.add(number, table);
                }
                if let Some(window) = self.windows.get(&number) {
                    emit(&info, kind, window.sum.entries(), sink);
                }
            } else if let Some(table) = table {
                let touched: Vec<(u64, EntityKey)> = table.entries().iter().map(|e| (e.hash, e.key)).collect();
                refused += self.add(number, table);
                self.emit_some(&info, number, kind, &touched, sink);
            }
            self.drop_old(pane + 1);
        }
        self.panes.next = self.panes.next.max(order.end);
        if order.flush && order.first == order.end && !order.end.is_multiple_of(self.plan.panes()) {
            // No pane was open, but a window that has fired only early is under way.
            let number = order.end / self.plan.panes();
            let info = self.info(number, order.end, 0, order.end, order.watermark_ns);
            if let Some(window) = self.windows.get(&number) {
                fired(info);
                emit(&info, kind, window.sum.entries(), sink);
            }
        }
        refused
    }

    /// Adds a closed pane to its window; a window of one pane takes the table as it is.
    fn add(&mut self, number: u64, table: Table) -> u64 {
        let window = self.windows.entry(number).or_default();
        if window.sum.len() == 0 {
            window.sum = table;
            0
        } else {
            window.sum.merge(&table, self.plan.max_keys)
        }
    }

    fn emit_some(
        &self,
        info: &WindowInfo,
        number: u64,
        kind: KeyKind,
        keys: &[(u64, EntityKey)],
        sink: &mut dyn WindowSink,
    ) {
        let Some(window) = self.windows.get(&number) else { return };
        sink.begin(info, kind, keys.len());
        for (hash, key) in keys {
            if let Some(aggregate) = window.sum.get(*hash, key) {
                sink.row(key, aggregate);
            }
        }
        sink.end();
    }

    /// Windows that fired whole without records which came within the allowed lateness.
    fn fire_again(
        &mut self,
        order: &Close,
        kind: KeyKind,
        sink: &mut dyn WindowSink,
        fired: &mut dyn FnMut(WindowInfo),
    ) {
        let numbers: Vec<u64> = self.windows.iter().filter(|(_, w)| !w.late.is_empty()).map(|(n, _)| *n).collect();
        for number in numbers {
            let Some(window) = self.windows.get_mut(&number) else { continue };
            if order.silent {
                // What was told before a restart is not told again for a record that comes again.
                window.late.clear();
                continue;
            }
            window.revision += 1;
            let (revision, late) = (window.revision, std::mem::take(&mut window.late));
            let end_pane = (number + 1) * self.plan.panes();
            let info = self.info(number, end_pane, revision, order.first, order.watermark_ns);
            fired(info);
            self.emit_some(&info, number, kind, &late.into_iter().collect::<Vec<_>>(), sink);
        }
    }

    fn drop_old(&mut self, next: u64) {
        let boundary = next * self.plan.pane_ns;
        while let Some((&number, _)) = self.windows.first_key_value()
            && !self.plan.retained(number * self.plan.panes(), boundary)
        {
            self.windows.pop_first();
        }
    }
}

fn emit(info: &WindowInfo, kind: KeyKind, entries: &[Entry], sink: &mut dyn WindowSink) {
    sink.begin(info, kind, entries.len());
    for entry in entries {
        sink.row(&entry.key, &entry.aggregate);
    }
    sink.end();
}
