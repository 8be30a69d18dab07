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

/// Where the records of one level go: implemented by each kind of window.
pub(super) trait Slots {
    /// The table that takes a pane's records, open or closed.
    fn table(&mut self, pane: u64) -> &mut Table;
    /// Records of a closed pane came in for these entities.
    fn late(&mut self, pane: u64, entities: &[(u64, EntityKey)]);
    /// True when the pane has closed.
    fn is_late(&self, pane: u64) -> bool;
    /// Entities a table may hold.
    fn max_keys(&self) -> usize;
}

/// What the two kinds share: tables of open panes.
pub(super) struct Panes {
    open: BTreeMap<u64, Table>,
    /// The pane that the last record went to, out of the map: nearly every record goes where the one before it went.
    hot: Option<(u64, Table)>,
    /// First pane that is not closed.
    pub(super) next: u64,
    last_len: usize,
}

impl Panes {
    pub(super) fn new() -> Self {
        Self { open: BTreeMap::new(), hot: None, next: 0, last_len: 0 }
    }

    /// Tables of all open panes.
    pub(super) fn open(&self) -> impl Iterator<Item = &Table> {
        self.open.values().chain(self.hot.as_ref().map(|(_, table)| table))
    }

    /// The table of an open pane.
    #[inline]
    pub(super) fn table(&mut self, pane: u64) -> &mut Table {
        if self.hot.as_ref().is_none_or(|(hot, _)| *hot != pane) {
            self.warm(pane);
        }
        &mut self.hot.get_or_insert_with(|| (pane, Table::default())).1
    }

    #[cold]
    fn warm(&mut self, pane: u64) {
        let capacity = self.last_len;
        let table = self.open.remove(&pane).unwrap_or_else(|| Table::with_capacity(capacity));
        if let Some((before, table)) = self.hot.replace((pane, table)) {
            self.open.insert(before, table);
        }
    }

    /// Closes a pane and takes its table.
    pub(super) fn close(&mut self, pane: u64) -> Option<Table> {
        self.next = pane + 1;
        let table = match self.hot.take_if(|(hot, _)| *hot == pane) {
            Some((_, table)) => table,
            None => self.open.remove(&pane)?,
        };
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

    /// Records (and shares of spread records) refused so far because a table was full, once per level.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// True when the entity falls to this shard.
    pub fn owns(&self, key: &EntityKey) -> bool {
        self.of == 1 || (self.hasher.hash(&key.addr.0, key.extra) >> 48) % self.of == self.number
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
        let share = Share { hasher: &self.hasher, number: self.number, of: self.of, needs: self.needs };
        for (level, windows) in &mut self.levels {
            self.refused += match windows {
                Windows::Tumbling(t) => share.add(*level, &columns, input, bytes, packets, t),
                Windows::Sliding(s) => share.add(*level, &columns, input, bytes, packets, s),
            };
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

/// Rows looked up before any of them is counted.
const BLOCK: usize = 64;
const EMPTY_KEY: EntityKey = EntityKey { kind: KeyKind::DstAddr, addr: Addr::UNSPECIFIED, extra: 0 };

/// Which entities are this shard's, and what is kept of them.
struct Share<'a> {
    hasher: &'a KeyHasher,
    number: u64,
    of: u64,
    needs: Needs,
}

impl Share<'_> {
    /// Adds a batch to one level; returns how many records found no room.
    fn add(
        &self,
        level: KeyLevel,
        columns: &FlowColumns<'_>,
        input: &Prepared,
        bytes: &[u64],
        packets: &[u64],
        slots: &mut impl Slots,
    ) -> u64 {
        let (mut refused, max) = (0, slots.max_keys());
        let (mut entities, mut places) = ([(0, 0u64, EMPTY_KEY); BLOCK], [0u32; BLOCK]);
        let mut row = 0;
        while row < input.pane.len() {
            // A block of rows of one pane: first all look-ups, then all updates, so that memory answers many at once.
            let pane = input.pane[row];
            let mut n = 0;
            while n < BLOCK && row < input.pane.len() && input.pane[row] == pane {
                if let Some((hash, key)) = self.mine(level, columns, row) {
                    entities[n] = (row, hash, key);
                    n += 1;
                }
                row += 1;
            }
            if pane == DROPPED {
                continue;
            }
            if slots.is_late(pane) {
                let keys: Vec<(u64, EntityKey)> = entities[..n].iter().map(|e| (e.1, e.2)).collect();
                slots.late(pane, &keys);
            }
            let table = slots.table(pane);
            for (place, (_, hash, key)) in places.iter_mut().zip(&entities[..n]) {
                *place = table.place(*hash, *key, max);
            }
            for (&place, &(row, ..)) in places.iter().zip(&entities[..n]) {
                match table.at(place) {
                    Some(aggregate) => self.count(aggregate, input, bytes, packets, row),
                    None => refused += 1,
                }
            }
        }
        for part in &input.parts {
            let Some((hash, key)) = self.mine(level, columns, part.row as usize) else { continue };
            if slots.is_late(part.pane) {
                slots.late(part.pane, &[(hash, key)]);
            }
            let table = slots.table(part.pane);
            let place = table.place(hash, key, max);
            let Some(a) = table.at(place) else {
                refused += 1;
                continue;
            };
            a.bytes = a.bytes.saturating_add(part.bytes);
            a.packets = a.packets.saturating_add(part.packets);
        }
        refused
    }

    #[inline]
    fn count(&self, a: &mut Aggregate, input: &Prepared, bytes: &[u64], packets: &[u64], row: usize) {
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
    }

    /// The entity of a row at a level, if it is this shard's.
    #[inline]
    fn mine(&self, level: KeyLevel, columns: &FlowColumns<'_>, row: usize) -> Option<(u64, EntityKey)> {
        let (addr, extra) = key_parts(level, columns, row);
        let hash = self.hasher.hash(&addr.0, extra);
        (self.of == 1 || (hash >> 48) % self.of == self.number)
            .then_some((hash, EntityKey { kind: level.kind, addr, extra }))
    }
}

/// The seed that all shards of a pipeline share: it decides which entity is whose.
#[derive(Clone, Debug)]
pub struct Hasher(KeyHasher);

impl Hasher {
    /// A seed that nobody can guess.
    pub fn random_seed() -> u64 {
        KeyHasher::random_seed()
    }

    /// The same entities to the same shards as with this seed before.
    pub fn with_seed(seed: u64) -> Self {
        Self(KeyHasher::with_seed(seed))
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::with_seed(Self::random_seed())
    }
}

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
        // Flow records have no names: the config refuses such a level for them.
        KeyKind::Network | KeyKind::Name => (Addr::UNSPECIFIED, 0),
    }
}
