//! One worker's share of the entities: aggregates records by level and pane, fires windows when panes close.

use super::ingest::{Close, DROPPED, Prepared};
use super::sliding::Sliding;
use super::table::{KeyHasher, Table};
use super::tumbling::Tumbling;
use crate::config::{WindowKind, WindowPlan};
use crate::model::schema::FlowColumns;
use crate::model::{Addr, Aggregate, EntityKey, KeyKind, KeyLevel, Needs, WindowInfo, WindowSink};
use std::collections::BTreeMap;

/// See the module.
pub struct Shard {
    plan: WindowPlan,
    needs: Needs,
    hasher: KeyHasher,
    number: u64,
    of: u64,
    levels: Vec<(KeyLevel, Windows)>,
    refused: u64,
}

enum Windows {
    Tumbling(Tumbling),
    Sliding(Sliding),
}

/// What the two kinds share: tables of open panes, and where records of closed ones go.
pub(super) struct Panes {
    pub(super) open: BTreeMap<u64, Table>,
    /// First pane that is not closed.
    pub(super) next: u64,
    last_len: usize,
}

impl Panes {
    pub(super) fn new() -> Self {
        Self { open: BTreeMap::new(), next: 0, last_len: 0 }
    }

    /// The table of an open pane.
    pub(super) fn table(&mut self, pane: u64) -> &mut Table {
        let capacity = self.last_len;
        self.open.entry(pane).or_insert_with(|| Table::with_capacity(capacity))
    }

    /// Closes a pane and takes its table.
    pub(super) fn close(&mut self, pane: u64) -> Option<Table> {
        self.next = pane + 1;
        let table = self.open.remove(&pane)?;
        self.last_len = table.len();
        Some(table)
    }
}

impl Shard {
    /// Shard `number` of `of`. Every shard of a pipeline must be made from the same [`Hasher`].
    pub fn new(plan: WindowPlan, needs: Needs, levels: &[KeyLevel], hasher: &Hasher, number: usize, of: usize) -> Self {
        let windows = || match plan.kind {
            WindowKind::Tumbling => Windows::Tumbling(Tumbling::new(plan)),
            WindowKind::Sliding => Windows::Sliding(Sliding::new(plan)),
        };
        Self {
            plan,
            needs,
            hasher: hasher.0.clone(),
            number: number as u64,
            of: of as u64,
            levels: levels.iter().map(|&level| (level, windows())).collect(),
            refused: 0,
        }
    }

    /// Records refused so far because a table was full (once per level).
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Entities in open panes, all levels.
    pub fn entities(&self) -> usize {
        self.levels
            .iter()
            .map(|(_, w)| match w {
                Windows::Tumbling(t) => t.entities(),
                Windows::Sliding(s) => s.entities(),
            })
            .sum()
    }

    /// Aggregates a batch.
    pub fn push(&mut self, input: &Prepared) {
        let columns = FlowColumns::new(&input.batch);
        let (bytes, packets) = match &input.own {
            Some((bytes, packets)) => (bytes.as_slice(), packets.as_slice()),
            None => (columns.bytes_scaled, columns.packets_scaled),
        };
        for (level, windows) in &mut self.levels {
            let mut add = |row: usize, pane: u64, apply: &mut dyn FnMut(&mut Aggregate)| {
                let (addr, extra) = key_parts(*level, &columns, row);
                let hash = self.hasher.hash(&addr.0, extra);
                if self.of > 1 && (hash >> 48) % self.of != self.number {
                    return true;
                }
                let key = EntityKey { kind: level.kind, addr, extra };
                let slot = match windows {
                    Windows::Tumbling(t) => t.slot(pane, hash, key),
                    Windows::Sliding(s) => s.slot(pane, hash, key),
                };
                slot.map(apply).is_some()
            };
            for (row, &pane) in input.pane.iter().enumerate() {
                if pane == DROPPED {
                    continue;
                }
                let placed = add(row, pane, &mut |a| {
                    a.flows += 1;
                    a.bytes = a.bytes.saturating_add(bytes[row]);
                    a.packets = a.packets.saturating_add(packets[row]);
                    a.classify(input.class[row]);
                    if self.needs.src {
                        a.src.add(input.src[row], 1);
                    }
                    if self.needs.dst {
                        a.dst.add(input.dst[row], 1);
                    }
                    if self.needs.src_port {
                        a.src_port.add(input.src_port[row], 1);
                    }
                    if self.needs.dst_port {
                        a.dst_port.add(input.dst_port[row], 1);
                    }
                });
                self.refused += u64::from(!placed);
            }
            for part in &input.parts {
                add(part.row as usize, part.pane, &mut |a| {
                    a.bytes = a.bytes.saturating_add(part.bytes);
                    a.packets = a.packets.saturating_add(part.packets);
                });
            }
        }
    }

    /// Closes panes: fires every window that is due into `sink`, level by level, in order of time. Returns the windows
    /// fired: one per closed pane (also when it had no rows), and those fired again for late records.
    pub fn close(&mut self, order: &Close, sink: &mut dyn WindowSink) -> Vec<WindowInfo> {
        let mut fired: BTreeMap<(u64, u32), WindowInfo> = BTreeMap::new();
        for (level, windows) in &mut self.levels {
            let mut note = |w: WindowInfo| {
                fired.entry((w.end_ns, w.revision)).or_insert(w);
            };
            self.refused += match windows {
                Windows::Tumbling(t) => t.close(order, level.kind, sink, &mut note),
                Windows::Sliding(s) => s.close(order, level.kind, sink, &mut note),
            };
        }
        debug_assert!(self.plan.panes() > 0);
        fired.into_values().collect()
    }
}

/// The seed that all shards of a pipeline share.
#[derive(Clone, Debug, Default)]
pub struct Hasher(KeyHasher);

#[inline]
fn key_parts(level: KeyLevel, columns: &FlowColumns<'_>, row: usize) -> (Addr, u32) {
    match level.kind {
        KeyKind::DstAddr => (Addr(columns.dst_addr[row]), 0),
        KeyKind::SrcAddr => (Addr(columns.src_addr[row]), 0),
        KeyKind::DstPrefix => {
            let prefix = Addr(columns.dst_addr[row]).prefix(level.v4_prefix, level.v6_prefix);
            (prefix.addr, u32::from(prefix.len))
        }
        KeyKind::Interface => (Addr(columns.sampler_address[row]), columns.in_if[row]),
    }
}
