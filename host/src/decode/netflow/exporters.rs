//! State per exporter and observation domain, bounded. Templates are scoped by exporter address and domain, not by
//! port: exporters change their source port. UDP is spoofable, so nobody who is not on the allow-list gets state, and
//! newcomers cannot push out exporters that are alive.

use super::layout::Layouts;
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
        if self.map.len() < self.limit {
            return Ok(None);
        }
        if now_ns < self.search_after_ns {
            return Err(());
        }
        let oldest = self.map.iter().min_by_key(|(_, (seen, _))| *seen).map(|(k, (seen, _))| (*k, *seen));
        match oldest {
            Some((key, seen)) if now_ns.saturating_sub(seen) >= IDLE_NS => Ok(self.map.remove(&key).map(|(_, v)| v)),
            _ => {
                self.search_after_ns = now_ns + SECOND;
                Err(())
            }
        }
    }
}

/// One exporter.
#[derive(Debug)]
pub(super) struct Exporter {
    domains: Bounded<(FlowType, u32), Domain>,
    sampling: Sampling,
    /// Templates of all domains.
    templates: usize,
}

/// What decoding one datagram needs of its exporter.
pub(super) struct Scope<'a> {
    pub domain: &'a mut Domain,
    pub sampling: &'a mut Sampling,
    /// Templates of all domains of the exporter.
    pub templates: &'a mut usize,
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
    pub fn domain(&mut self, version: FlowType, id: u32, now_ns: u64, stats: &mut DecodeStats) -> Option<Scope<'_>> {
        let key = (version, id);
        // Looked up twice only for newcomers; the borrow checker forbids returning from the first look-up.
        if !self.domains.map.contains_key(&key) {
            match self.domains.make_room(now_ns) {
                Ok(pushed_out) => {
                    let gone = pushed_out.map_or(0, |d| d.layouts.len());
                    self.templates -= gone;
                    stats.templates -= gone as u64;
                }
                Err(()) => return None,
            }
            self.domains.map.insert(key, (now_ns, Domain::new()));
        }
        let domain = self.domains.get_mut(&key, now_ns)?;
        Some(Scope { domain, sampling: &mut self.sampling, templates: &mut self.templates })
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
        stats: &mut DecodeStats,
    ) -> Option<&mut Exporter> {
        if !self.map.map.contains_key(&peer) {
            match self.map.make_room(now_ns) {
                Ok(pushed_out) => {
                    stats.exporters += u64::from(pushed_out.is_none());
                    stats.templates -= pushed_out.map_or(0, |e| e.templates as u64);
                }
                Err(()) => {
                    stats.refuse(Refusal::ExporterLimit, bytes);
                    return None;
                }
            }
            let sampling = Sampling::new(options, peer);
            let exporter = Exporter { domains: Bounded::new(MAX_DOMAINS), sampling, templates: 0 };
            self.map.map.insert(peer, (now_ns, exporter));
        }
        self.map.get_mut(&peer, now_ns)
    }
}
