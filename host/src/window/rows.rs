//! Rows of any kind, kept as they are until their windows fire. In: placed rows and close orders. Out: per fired window its
//! rows, pane by pane in the order they came. A row of a closed pane joins the windows to come; windows that fired without
//! it, within the allowed lateness, fire again. Refused and counted: rows beyond `max_bytes`.

use super::ingest::{Close, DROPPED, PlacedRows};
use crate::config::{WindowKind, WindowPlan};
use crate::model::WindowInfo;
use arrow_array::RecordBatch;
use std::collections::{BTreeMap, BTreeSet};

/// A window that fired, and its rows.
#[derive(Debug)]
pub struct FiredRows {
    /// The span.
    pub window: WindowInfo,
    /// In order; all of one schema.
    pub rows: Vec<RecordBatch>,
}

/// See the module.
#[derive(Debug)]
pub struct RowWindows {
    plan: WindowPlan,
    panes: BTreeMap<u64, Pane>,
    /// Closed panes that have got rows since.
    late: BTreeSet<u64>,
    /// Times that a window (by its last pane) was fired again.
    revisions: BTreeMap<u64, u32>,
    /// First pane that is not closed.
    next: u64,
    bytes: usize,
    max_bytes: usize,
    refused: u64,
}

#[derive(Debug, Default)]
struct Pane {
    rows: Vec<RecordBatch>,
    bytes: usize,
}

impl RowWindows {
    /// Keeps at most `max_bytes` of rows.
    pub fn new(plan: WindowPlan, max_bytes: usize) -> Self {
        let (panes, late, revisions) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { plan, panes, late, revisions, next: 0, bytes: 0, max_bytes, refused: 0 }
    }

    /// Rows refused so far because there was no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Bytes of the rows that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps rows for their windows.
    pub fn push(&mut self, input: &PlacedRows) {
        let total = input.pane.len();
        let bytes_of = |rows: usize| (input.batch.get_array_memory_size() * rows).div_ceil(total.max(1));
        let mut start = 0;
        // Rows come in order of time, nearly: runs of one pane are long.
        for run in input.pane.chunk_by(|a, b| a == b) {
            let (first, pane) = (start, run[0]);
            start += run.len();
            if pane == DROPPED {
                continue;
            }
            let bytes = bytes_of(run.len());
            if self.bytes + bytes > self.max_bytes {
                self.refused += run.len() as u64;
                continue;
            }
            let kept = self.panes.entry(pane).or_default();
            kept.rows.push(input.batch.slice(first, run.len()));
            kept.bytes += bytes;
            self.bytes += bytes;
            if pane < self.next {
                self.late.insert(pane);
            }
        }
    }

    /// Closes panes.
    pub fn close(&mut self, order: &Close) -> Vec<FiredRows> {
        let mut fired = Vec::new();
        self.fire_again(order, &mut fired);
        let panes = self.plan.panes();
        for pane in order.first..order.end {
            self.next = pane + 1;
            if !order.silent {
                let last = order.flush && pane + 1 == order.end;
                let whole = match self.plan.kind {
                    WindowKind::Sliding => true,
                    WindowKind::Tumbling => (pane + 1).is_multiple_of(panes),
                };
                // Between: early firing.
                let touched = whole || last || self.panes.contains_key(&pane);
                fired.push(self.window(pane, 0, pane + 1, order.watermark_ns, touched));
            }
            self.drop_old(pane + 1);
        }
        self.next = self.next.max(order.end);
        let under_way = self.plan.kind == WindowKind::Tumbling && !order.end.is_multiple_of(panes);
        if order.flush && order.first == order.end && under_way {
            // No pane was open, but a window that has fired only early is under way.
            fired.push(self.window(order.end - 1, 0, order.end, order.watermark_ns, true));
        }
        fired
    }

    /// The window that ends with `last`, fired when the panes before `closed` had closed.
    fn window(&self, last: u64, revision: u32, closed: u64, watermark_ns: u64, with_rows: bool) -> FiredRows {
        let (pane_ns, panes) = (self.plan.pane_ns, self.plan.panes());
        let first = match self.plan.kind {
            WindowKind::Tumbling => last / panes * panes,
            WindowKind::Sliding => (last + 1).saturating_sub(panes),
        };
        let end_ns = (last + 1) * pane_ns;
        let whole = self.plan.kind == WindowKind::Sliding || (last + 1).is_multiple_of(panes);
        let start_ns = match self.plan.kind {
            WindowKind::Tumbling => first * pane_ns,
            WindowKind::Sliding => end_ns.saturating_sub(self.plan.size_ns),
        };
        let window = WindowInfo {
            start_ns,
            end_ns,
            revision,
            watermark_ns: watermark_ns.min(closed * pane_ns),
            partial: !whole || end_ns > watermark_ns,
        };
        let range = if with_rows { first..last + 1 } else { 0..0 };
        FiredRows { window, rows: self.panes.range(range).flat_map(|(_, pane)| pane.rows.iter().cloned()).collect() }
    }

    /// Windows that fired without rows which came within the allowed lateness.
    fn fire_again(&mut self, order: &Close, fired: &mut Vec<FiredRows>) {
        let panes = self.plan.panes();
        let mut windows = BTreeSet::new();
        for pane in std::mem::take(&mut self.late) {
            match self.plan.kind {
                WindowKind::Tumbling => drop(windows.insert(pane / panes * panes + panes - 1)),
                WindowKind::Sliding => windows.extend(pane..pane + panes),
            }
        }
        let boundary = order.first * self.plan.pane_ns;
        windows.retain(|last| {
            let end_ns = (last + 1) * self.plan.pane_ns;
            *last < order.first && end_ns.saturating_add(self.plan.allowed_lateness_ns) > boundary
        });
        // What was told before a restart is not told again for a record that comes again.
        for last in windows.into_iter().filter(|_| !order.silent) {
            let revision = *self.revisions.entry(last).and_modify(|r| *r += 1).or_insert(1);
            fired.push(self.window(last, revision, order.first, order.watermark_ns, true));
        }
    }

    fn drop_old(&mut self, next: u64) {
        let boundary = next * self.plan.pane_ns;
        while let Some(entry) = self.panes.first_entry()
            && !self.plan.retained(*entry.key(), boundary)
        {
            self.bytes -= entry.remove().bytes;
        }
        while let Some((&last, _)) = self.revisions.first_key_value()
            && (last + 1) * self.plan.pane_ns + self.plan.allowed_lateness_ns <= boundary
        {
            self.revisions.pop_first();
        }
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
