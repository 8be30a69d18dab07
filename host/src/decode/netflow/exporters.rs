//! State per exporter and observation domain, bounded. Templates are scoped by exporter address and domain, not by
//! port: exporters change their source port. UDP is spoofable, so nobody who is not on the allow-list gets state, and
//! newcomers cannot push out exporters that are alive.

use super::layout::Layouts;
use super::save::{SavedDomain, SavedExporter};
use crate::config::decode_options::DecodeOptions;
use crate::decode::sampling::Sampling;
use crate::decode::sequence::Sequence;
use crate::decode::stats::{DecodeStats, RateOrigin, Refusal};
use crate::model::FlowType;
use crate::model::time::SECOND;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// Observation domains of one exporter.
const MAX_DOMAINS: usize = 256;
/// [`Held`] fields of all exporters, 12 bytes each: 4096 exporters with ten templates of 80 fields. Without this bound
/// a flood of large templates from spoofed addresses would take `max_exporters` times 12 MB.
pub(super) const MAX_FIELDS: usize = 4 << 20;
/// From here on newcomers take the place of idle exporters even while there are places.
const CROWDED_FIELDS: usize = MAX_FIELDS / 4 * 3;
/// State whose owner was silent so long may be given away.
const IDLE_NS: u64 = 60 * SECOND;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A map with room for so many; a newcomer takes the place of one that was silent for [`IDLE_NS`], or is refused.
#[derive(Debug)]
struct Bounded<K, V> {
    map: Map<K, (u64, V)>,
    limit: usize,
    /// No use looking for an idle one before then: the search is linear, and newcomers may be a flood.
    search_after_ns: u64,
}

impl<K: Copy + Eq + Hash, V> Bounded<K, V> {
    fn new(limit: usize) -> Self {
        Self { map: Map::default(), limit, search_after_ns: 0 }
    }

    fn get_mut(&mut self, key: &K, now_ns: u64) -> Option<&mut V> {
        let (seen, value) = self.map.get_mut(key)?;
        *seen = now_ns;
        Some(value)
    }

    /// Makes room; gives what was pushed out. `Err`: there is none.
    fn make_room(&mut self, now_ns: u64) -> Result<Option<V>, ()> {
        if self.map.len() < self.limit { Ok(None) } else { self.push_out_idle(now_ns).map(Some).ok_or(()) }
    }

    /// Removes the one that was silent longest, when that is long enough.
    fn push_out_idle(&mut self, now_ns: u64) -> Option<V> {
        if now_ns < self.search_after_ns {
            return None;
        }
        let oldest = self.map.iter().min_by_key(|(_, (seen, _))| *seen).map(|(k, (seen, _))| (*k, *seen));
        match oldest {
            Some((key, seen)) if now_ns.saturating_sub(seen) >= IDLE_NS => self.map.remove(&key).map(|(_, v)| v),
            _ => {
                self.search_after_ns = now_ns + SECOND;
                None
            }
        }
    }
}

/// What templates take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Held {
    pub templates: usize,
    /// Their fields; each template counts for some more.
    pub fields: usize,
}

impl Held {
    /// `self` after what was `before` has become `after`.
    pub fn changed(self, before: Self, after: Self) -> Self {
        Self {
            templates: self.templates + after.templates - before.templates,
            fields: self.fields + after.fields - before.fields,
        }
    }
}

/// One exporter.
#[derive(Debug)]
pub(super) struct Exporter {
    domains: Bounded<(FlowType, u32), Domain>,
    sampling: Sampling,
    /// Templates of all domains.
    held: Held,
}

/// What decoding one datagram needs of its exporter.
pub(super) struct Scope<'a> {
    pub domain: &'a mut Domain,
    pub sampling: &'a mut Sampling,
    /// Templates of all domains of the exporter.
    pub held: &'a mut Held,
}

/// One observation domain of an exporter (v5, v7: an engine).
#[derive(Debug)]
pub(super) struct Domain {
    pub layouts: Layouts,
    pub sequence: Sequence,
    /// IPFIX 160 by options data: when the exporter started, ms.
    pub init_ms: u64,
    /// Last answer of the sampling resolver: generation, sampler, answer.
    pub last_rate: Option<(u64, Option<u64>, (u64, RateOrigin))>,
}

impl Exporter {
    /// The domain of that number, made when it is new.
    pub fn domain(&mut self, version: FlowType, id: u32, now_ns: u64, all: &mut Held) -> Option<Scope<'_>> {
        let key = (version, id);
        // Looked up twice only for newcomers; the borrow checker forbids returning from the first look-up.
        if !self.domains.map.contains_key(&key) {
            match self.domains.make_room(now_ns) {
                Ok(pushed_out) => {
                    let gone = pushed_out.map_or(Held::default(), |d| d.layouts.held());
                    self.held = self.held.changed(gone, Held::default());
                    *all = all.changed(gone, Held::default());
                }
                Err(()) => return None,
            }
            self.domains.map.insert(key, (now_ns, Domain::new()));
        }
        let domain = self.domains.get_mut(&key, now_ns)?;
        Some(Scope { domain, sampling: &mut self.sampling, held: &mut self.held })
    }
}

impl Exporter {
    fn new(options: &DecodeOptions, peer: IpAddr) -> Self {
        Self { domains: Bounded::new(MAX_DOMAINS), sampling: Sampling::new(options, peer), held: Held::default() }
    }

    /// What its options data said.
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Its domains, the one heard last first: version, number, when it was heard.
    pub fn domains(&self) -> Vec<(FlowType, u32, u64, &Domain)> {
        let mut all: Vec<_> = self.domains.map.iter().map(|((v, id), (seen, d))| (*v, *id, *seen, d)).collect();
        all.sort_unstable_by_key(|(version, id, seen, _)| (std::cmp::Reverse(*seen), *version as u8, *id));
        all
    }

    /// Adds a domain, where there is room. Of two templates with one id the one learned last counts.
    fn restore(&mut self, saved: SavedDomain, max_templates: usize, all: &mut Held) {
        let (key, domains) = ((saved.version, saved.id), &mut self.domains);
        if !domains.map.contains_key(&key) && domains.map.len() >= domains.limit {
            return;
        }
        let (seen, domain) = domains.map.entry(key).or_insert_with(|| (saved.seen_ns, Domain::new()));
        *seen = saved.seen_ns.max(*seen);
        if saved.init_ms > 0 {
            domain.init_ms = saved.init_ms;
        }
        let before = domain.layouts.held();
        for (id, layout) in saved.layouts {
            if domain.layouts.learned_ns(id).is_some_and(|learned| learned >= layout.learned_ns) {
                continue;
            }
            domain.layouts.remove(id);
            let full = |domain: &Domain| {
                let now = domain.layouts.held();
                self.held.changed(before, now).templates >= max_templates
                    || all.changed(before, now).fields + layout.cost() > MAX_FIELDS
            };
            while full(domain) && !domain.layouts.is_empty() {
                domain.layouts.evict();
            }
            if !full(domain) {
                domain.layouts.insert(id, layout);
            }
        }
        self.held = self.held.changed(before, domain.layouts.held());
        *all = all.changed(before, domain.layouts.held());
    }
}

impl Domain {
    fn new() -> Self {
        Self { layouts: Layouts::default(), sequence: Sequence::default(), init_ms: 0, last_rate: None }
    }
}

/// All exporters.
#[derive(Debug)]
pub(super) struct Exporters {
    map: Bounded<IpAddr, Exporter>,
}

impl Exporters {
    pub fn new(options: &DecodeOptions) -> Self {
        Self { map: Bounded::new(options.max_exporters.max(1)) }
    }

    /// True for an exporter that is not on the allow-list: nothing it sends is looked at.
    pub fn is_stranger(&self, peer: IpAddr, options: &DecodeOptions) -> bool {
        !options.allow.is_empty()
            && !self.map.map.contains_key(&peer)
            && !options.allow.iter().any(|net| net.contains(&peer))
    }

    /// The exporter at that address, made when it is new and allowed. `None`: refused, and counted with `bytes`.
    pub fn get(
        &mut self,
        peer: IpAddr,
        now_ns: u64,
        bytes: usize,
        options: &DecodeOptions,
        all: &mut Held,
        stats: &mut DecodeStats,
    ) -> Option<&mut Exporter> {
        if !self.map.map.contains_key(&peer) {
            let Ok(mut pushed_out) = self.map.make_room(now_ns) else {
                stats.refuse(Refusal::ExporterLimit, bytes);
                return None;
            };
            if pushed_out.is_none() && all.fields >= CROWDED_FIELDS {
                pushed_out = self.map.push_out_idle(now_ns);
            }
            stats.exporters += u64::from(pushed_out.is_none());
            *all = all.changed(pushed_out.map_or(Held::default(), |e| e.held), Held::default());
            self.map.map.insert(peer, (now_ns, Exporter::new(options, peer)));
        }
        self.map.get_mut(&peer, now_ns)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.map.map.len()
    }

    /// All of them, the one heard last first: address and when it was heard.
    pub fn all(&self) -> Vec<(IpAddr, u64, &Exporter)> {
        let mut all: Vec<_> = self.map.map.iter().map(|(peer, (seen, exporter))| (*peer, *seen, exporter)).collect();
        all.sort_unstable_by_key(|(peer, seen, _)| (std::cmp::Reverse(*seen), *peer));
        all
    }

    /// Adds what was saved of an exporter, where it is allowed and there is room.
    pub fn restore(&mut self, saved: SavedExporter, options: &DecodeOptions, all: &mut Held) {
        let (peer, map) = (saved.peer, &self.map.map);
        if self.is_stranger(peer, options) || (!map.contains_key(&peer) && map.len() >= self.map.limit) {
            return;
        }
        let new = || (saved.seen_ns, Exporter::new(options, peer));
        let (seen, exporter) = self.map.map.entry(peer).or_insert_with(new);
        *seen = saved.seen_ns.max(*seen);
        exporter.sampling.restore(saved.rates);
        for domain in saved.domains {
            exporter.restore(domain, options.max_templates_per_exporter, all);
        }
    }
}
