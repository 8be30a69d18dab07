//! Data sets that came before their template. Bounded in bytes: the oldest gives way.

use super::row::Origin;
use crate::decode::stats::{DecodeStats, Refusal};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Bookkeeping of one set: keeps a flood of tiny sets within the bound.
const OVERHEAD: usize = 128;

/// Whose template a set waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    pub peer: IpAddr,
    pub ipfix: bool,
    pub domain: u32,
    pub template: u16,
}

/// One set.
#[derive(Debug)]
pub(super) struct Waiting {
    key: Key,
    pub origin: Origin,
    pub body: Box<[u8]>,
}

/// All of them, oldest first.
#[derive(Debug)]
pub(super) struct Pending {
    sets: VecDeque<Waiting>,
    held: usize,
    limit: usize,
}

impl Pending {
    pub fn new(limit: usize) -> Self {
        Self { sets: VecDeque::new(), held: 0, limit }
    }

    /// Keeps a copy of a set, or counts its bytes as lost.
    pub fn keep(&mut self, key: Key, origin: Origin, body: &[u8], stats: &mut DecodeStats) {
        stats.missing_template += 1;
        let cost = body.len() + OVERHEAD;
        if cost > self.limit {
            stats.refuse(Refusal::MissingTemplate, body.len());
            return;
        }
        while self.held + cost > self.limit {
            let Some(oldest) = self.sets.pop_front() else { break };
            self.give_up(&oldest, stats);
        }
        self.held += cost;
        stats.pending_buffered += 1;
        stats.pending_bytes += body.len() as u64;
        self.sets.push_back(Waiting { key, origin, body: body.into() });
    }

    /// Takes out the sets that waited for this template.
    pub fn take(&mut self, key: Key, stats: &mut DecodeStats) -> Vec<Waiting> {
        if self.sets.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        let all = std::mem::take(&mut self.sets);
        for set in all {
            if set.key == key {
                self.held -= set.body.len() + OVERHEAD;
                stats.pending_replayed += 1;
                stats.pending_bytes -= set.body.len() as u64;
                found.push(set);
            } else {
                self.sets.push_back(set);
            }
        }
        found
    }

    fn give_up(&mut self, set: &Waiting, stats: &mut DecodeStats) {
        self.held -= set.body.len() + OVERHEAD;
        stats.pending_expired += 1;
        stats.pending_bytes -= set.body.len() as u64;
        stats.refuse(Refusal::MissingTemplate, set.body.len());
    }
}
