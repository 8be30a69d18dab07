//! One attack on many hosts is one incident of their prefix; one attack on one host is one incident of that host.
//! Pure decisions; the tracker acts on them. The rules in words: `docs/incidents.md`.

use super::merge::Volume;
use super::track::Track;
use crate::model::{Addr, EntityKey, KeyKind, Prefix};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// What an alerted prefix means in this window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// A few hosts make its traffic: they are told, the prefix is not.
    Explained,
    /// Spread over its hosts: the prefix is told, the hosts are covered.
    Spread,
}

/// A host of the prefix that is alerted in this window.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Who.
    pub addr: Addr,
    /// Its traffic in this window.
    pub volume: Volume,
}

/// True when the host alone makes `share` of the prefix's packets or bytes.
pub fn dominates(host: Volume, prefix: Volume, share: f64) -> bool {
    let makes = |part: f64, whole: f64| whole > 0.0 && part >= share * whole;
    makes(host.packets, prefix.packets) || makes(host.bytes, prefix.bytes)
}

/// Judges a prefix that is alerted in this window. `now` are its hosts alerted in this window; `others` counts the hosts
/// alerted lately that do not dominate; `explained_before` says that a few hosts explained it a moment ago.
pub fn judge(
    prefix: Volume,
    now: &[Host],
    others: usize,
    explained_before: bool,
    share: f64,
    min_hosts: usize,
) -> Verdict {
    if others >= min_hosts {
        return Verdict::Spread;
    }
    let joint = now.iter().fold(Volume::default(), |sum, h| Volume {
        packets: sum.packets + h.volume.packets,
        bytes: sum.bytes + h.volume.bytes,
    });
    // A flood that is ending may leave the prefix over its limit for a window in which the host no longer is.
    if dominates(joint, prefix, share) || explained_before { Verdict::Explained } else { Verdict::Spread }
}

/// The tracked hosts that can lie in `prefix`, as a range of keys.
pub fn hosts_of(prefix: &EntityKey) -> RangeInclusive<EntityKey> {
    let bits = u128::from_be_bytes(prefix.addr.0);
    let len = prefix.extra + if prefix.addr.is_v4() { 96 } else { 0 };
    let host_bits = if len == 0 { u128::MAX } else { (1u128 << (128 - len.min(128))) - 1 };
    let host = |addr: u128| EntityKey { kind: KeyKind::DstAddr, addr: Addr(addr.to_be_bytes()), extra: 0 };
    host(bits)..=host(bits | host_bits)
}

/// The prefix entity as a network.
pub fn network(prefix: &EntityKey) -> Prefix {
    Prefix { addr: prefix.addr, len: u8::try_from(prefix.extra).unwrap_or(u8::MAX) }
}

/// Prefix lengths in use, so that a host finds its prefixes without a search.
#[derive(Debug, Default)]
pub struct Lengths(BTreeSet<u8>);

impl Lengths {
    /// Notes the length of a prefix entity.
    pub fn note(&mut self, prefix: &EntityKey) {
        self.0.insert(network(prefix).len);
    }

    /// The prefixes, longest first, that `host` could lie in and that `tracks` knows.
    pub fn parents<'a>(
        &'a self,
        host: Addr,
        tracks: &'a BTreeMap<EntityKey, Track>,
    ) -> impl Iterator<Item = EntityKey> + 'a {
        self.0.iter().rev().filter_map(move |&len| {
            let network = host.prefix(len, len);
            let key = EntityKey { kind: KeyKind::DstPrefix, addr: network.addr, extra: u32::from(len) };
            tracks.contains_key(&key).then_some(key)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(packets: f64) -> Volume {
        Volume { packets, bytes: packets * 100.0 }
    }

    fn hosts(packets: &[f64]) -> Vec<Host> {
        packets.iter().map(|p| Host { addr: Addr::UNSPECIFIED, volume: volume(*p) }).collect()
    }

    #[test]
    fn few_hosts_that_make_the_traffic_explain_it_many_do_not() {
        let p = volume(1000.0);
        assert_eq!(judge(p, &hosts(&[900.0]), 0, false, 0.8, 8), Verdict::Explained);
        assert_eq!(judge(p, &hosts(&[450.0, 400.0]), 2, false, 0.8, 8), Verdict::Explained);
        assert_eq!(judge(p, &hosts(&[300.0, 200.0]), 2, false, 0.8, 8), Verdict::Spread);
        assert_eq!(judge(p, &hosts(&[100.0; 10]), 10, false, 0.8, 8), Verdict::Spread);
        assert_eq!(judge(p, &[], 0, false, 0.8, 8), Verdict::Spread);
        assert_eq!(judge(p, &[], 0, true, 0.8, 8), Verdict::Explained);
        // Both at once: the flooded host does not hide the carpet.
        assert_eq!(judge(p, &hosts(&[900.0]), 8, true, 0.8, 8), Verdict::Spread);
    }

    #[test]
    fn bytes_alone_can_dominate_and_nothing_dominates_an_empty_prefix() {
        let big = Volume { packets: 1.0, bytes: 900.0 };
        assert!(dominates(big, Volume { packets: 100.0, bytes: 1000.0 }, 0.8));
        assert!(!dominates(big, Volume::default(), 0.8));
    }

    #[test]
    fn hosts_of_a_prefix_are_one_range_of_keys() {
        for (net, len, inside, outside) in [
            ("192.0.2.0", 24, "192.0.2.255", "192.0.3.0"),
            ("192.0.2.0", 25, "192.0.2.127", "192.0.2.128"),
            ("0.0.0.0", 0, "255.255.255.255", "2001:db8::"),
            ("2001:db8::", 64, "2001:db8::ffff:0:0:1", "2001:db8:0:1::"),
        ] {
            let key = EntityKey { kind: KeyKind::DstPrefix, addr: net.parse().unwrap(), extra: len };
            let host = |a: &str| EntityKey { kind: KeyKind::DstAddr, addr: a.parse().unwrap(), extra: 0 };
            assert!(hosts_of(&key).contains(&host(inside)), "{key}: {inside}");
            assert!(!hosts_of(&key).contains(&host(outside)), "{key}: {outside}");
            assert!(network(&key).contains(host(inside).addr));
        }
    }
}
