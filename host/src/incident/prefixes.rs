//! The tracker's dealings between prefixes and their hosts: acts on what `cover.rs` decides.

use super::cover::{self, Host, Verdict};
use super::merge::Seen;
use super::{IncidentTracker, Now};
use crate::model::{Addr, EntityKey, KeyKind};
use std::collections::{BTreeMap, BTreeSet};

impl IncidentTracker {
    /// Spread over its hosts, or explained by a few of them?
    pub(super) fn judge_prefix(&mut self, prefix: &EntityKey, now: &Now, seen: &BTreeMap<EntityKey, Seen>) -> Verdict {
        if self.is_suppressed(prefix) {
            return Verdict::Spread; // Never told either way: counted where it would open.
        }
        let (share, min_hosts) = (self.plan.dominant_share, self.plan.cover_min_hosts as usize);
        let volume = seen[prefix].volume();
        let range = cover::hosts_of(prefix);
        let hosts: Vec<Host> =
            seen.range(range.clone()).map(|(k, s)| Host { addr: k.addr, volume: s.volume() }).collect();
        let dominant: BTreeSet<Addr> =
            hosts.iter().filter(|h| cover::dominates(h.volume, volume, share)).map(|h| h.addr).collect();
        let lately = self.lately();
        let others = self
            .tracks
            .range(range.clone())
            .filter(|(_, t)| t.alerted_within(now.number, lately))
            .filter(|(k, _)| !dominant.contains(&k.addr) && !self.is_suppressed(k))
            .count();

        let explained_until = now.number + self.quiet_windows();
        let track = self.tracks.get_mut(prefix).expect("admitted entities are tracked");
        let cover = track.cover.get_or_insert_default();
        cover.volume = volume;
        let before = now.number <= cover.explained_until;
        // Fewer of its hosts than there were are still the attack that was told, unless one of them has taken it over.
        let verdict = if track.open.is_some() && dominant.is_empty() && !before {
            Verdict::Spread
        } else {
            cover::judge(volume, &hosts, others, before, share, min_hosts)
        };
        if verdict == Verdict::Explained && !hosts.is_empty() {
            cover.explained_until = cover.explained_until.max(explained_until);
        }
        let alone = |addr: &Addr| match verdict {
            Verdict::Explained => hosts.iter().any(|h| h.addr == *addr),
            Verdict::Spread => dominant.contains(addr),
        };
        for (key, track) in self.tracks.range_mut(range) {
            track.stands_alone |= alone(&key.addr);
        }
        if verdict == Verdict::Explained && !before {
            self.suppressed("explained", 1);
        }
        verdict
    }

    /// A prefix opens by its own m of n windows; or in the window in which enough of its hosts would open.
    pub(super) fn prefix_opens(&self, prefix: &EntityKey, now: &Now, seen: &BTreeMap<EntityKey, Seen>) -> bool {
        let track = &self.tracks[prefix];
        if track.open.is_some() || now.number <= track.told_until || self.is_suppressed(prefix) {
            return false;
        }
        let qualifies = |key: &EntityKey| self.tracks[key].qualifies(now.number, self.m(), self.n()).is_some();
        let hosts = || {
            let alike = |k: &&EntityKey| !self.tracks[*k].stands_alone && !self.is_suppressed(k) && qualifies(k);
            seen.range(cover::hosts_of(prefix)).map(|(k, _)| k).filter(alike).count()
        };
        qualifies(prefix) || hosts() >= (self.plan.cover_min_hosts as usize).max(1)
    }

    /// Covers the hosts alerted in this window whose prefix has an incident (open, opening, or just over). Returns them.
    pub(super) fn fold_hosts(
        &mut self,
        now: &Now,
        seen: &BTreeMap<EntityKey, Seen>,
        opening: &BTreeSet<EntityKey>,
    ) -> BTreeSet<EntityKey> {
        let mut folded = BTreeMap::new();
        for (key, host) in seen.iter().filter(|(k, _)| k.kind == KeyKind::DstAddr) {
            if self.tracks[key].open.is_some() || self.is_suppressed(key) {
                continue;
            }
            let covering = self.lengths.parents(key.addr, &self.tracks).find(|prefix| {
                let track = &self.tracks[prefix];
                track.cover.as_ref().is_some_and(|cover| {
                    (opening.contains(prefix) || track.open.is_some() || now.number <= cover.covers_until)
                        && !cover::dominates(host.volume(), cover.volume, self.plan.dominant_share)
                })
            });
            if let Some(prefix) = covering {
                self.cover(&prefix, key.addr, host.volume().packets);
                folded.insert(*key, prefix);
            }
        }
        // While enough hosts are alerted the attack goes on, even when the prefix fell under its own limit first.
        let mut alive: BTreeMap<EntityKey, u32> = BTreeMap::new();
        for prefix in folded.values() {
            *alive.entry(*prefix).or_default() += 1;
        }
        for (prefix, _) in alive.into_iter().filter(|(_, hosts)| *hosts >= self.plan.cover_min_hosts) {
            if let Some(incident) = self.tracks.get_mut(&prefix).and_then(|t| t.open.as_mut()) {
                incident.alive(now.number);
            }
        }
        folded.into_keys().collect()
    }

    /// The host incidents that opened just before their prefix and are the same attack: covered, to be closed.
    pub(super) fn take_over(&mut self, prefix: &EntityKey, now: &Now) -> Vec<EntityKey> {
        let lately = self.lately();
        let same_attack: Vec<(EntityKey, f64)> = self
            .tracks
            .range(cover::hosts_of(prefix))
            .filter(|(_, track)| !track.stands_alone)
            .filter_map(|(key, track)| {
                let incident = track.open.as_ref().filter(|i| i.opened_window + lately > now.number)?;
                Some((*key, incident.lead.feature("packets").unwrap_or(0.0)))
            })
            .collect();
        for (host, packets) in &same_attack {
            self.cover(prefix, host.addr, *packets);
        }
        same_attack.into_iter().map(|(host, _)| host).collect()
    }

    /// Adds a host to what a prefix covers.
    fn cover(&mut self, prefix: &EntityKey, host: Addr, packets: f64) {
        let full = self.is_full();
        let track = self.tracks.get_mut(prefix).expect("a covering prefix is tracked");
        let hosts = &mut track.cover.get_or_insert_default().hosts;
        if let Some(most) = hosts.get_mut(&host) {
            *most = most.max(packets);
        } else if full {
            self.suppressed("table_full", 1);
        } else {
            hosts.insert(host, packets);
            self.covered += 1;
            self.suppressed("covered", 1);
        }
    }
}
