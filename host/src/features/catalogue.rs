//! The built-in features: name, unit, meaning, and how each is worked out. One list; `kaminari list features`, the
//! config check and the frames all come from it.

use crate::config::registry::FeatureDef;
use crate::model::{Aggregate, Needs, WindowInfo};

/// Whether a feature is a number of the row itself or compares it with the entity's own level.
#[derive(Clone, Copy)]
pub(super) enum Formula {
    /// From the aggregate and the window.
    Of(fn(&Aggregate, &WindowInfo) -> f64),
    /// Natural log of the ratio to the entity's own level of this quantity.
    Relative(Quantity),
}

/// A quantity whose level is remembered per entity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Quantity {
    Flows,
    Bytes,
    Packets,
    UniqSrc,
}

const NONE: Needs = Needs { src: false, dst: false, src_port: false, dst_port: false };
const SRC: Needs = Needs { src: true, ..NONE };
const DST: Needs = Needs { dst: true, ..NONE };
const SRC_PORT: Needs = Needs { src_port: true, ..NONE };
const DST_PORT: Needs = Needs { dst_port: true, ..NONE };

macro_rules! features {
    ($($name:literal, $unit:literal, $needs:expr, $formula:expr, $help:literal;)+) => {
        /// Every built-in feature.
        pub const FEATURES: &[FeatureDef] =
            &[$(FeatureDef { name: $name, unit: $unit, description: $help }),+];
        pub(super) const FORMULAS: &[(Needs, Formula)] = &[$(($needs, $formula)),+];
    };
}

use Formula::{Of, Relative};

features! {
    "flows", "flow", NONE, Of(|a, _| a.flows as f64), "flow records in the window";
    "bytes", "byte", NONE, Of(|a, _| a.bytes as f64), "bytes, scaled by the sampling rate";
    "packets", "packet", NONE, Of(|a, _| a.packets as f64), "packets, scaled by the sampling rate";
    "flows_per_s", "flow/s", NONE, Of(|a, w| a.flows as f64 / w.seconds()), "flow records per second of the window";
    "bits_per_s", "bit/s", NONE, Of(|a, w| a.bytes as f64 * 8.0 / w.seconds()), "bits per second of the window, scaled by the sampling rate";
    "packets_per_s", "packet/s", NONE, Of(|a, w| a.packets as f64 / w.seconds()), "packets per second of the window, scaled by the sampling rate";
    "uniq_src", "address", SRC, Of(|a, _| a.src.distinct()), "distinct source addresses (exact to 128, then HyperLogLog, 3.3 % standard error)";
    "uniq_dst", "address", DST, Of(|a, _| a.dst.distinct()), "distinct destination addresses";
    "uniq_src_port", "port", SRC_PORT, Of(|a, _| a.src_port.distinct()), "distinct source ports";
    "uniq_dst_port", "port", DST_PORT, Of(|a, _| a.dst_port.distinct()), "distinct destination ports";
    "entropy_src", "1", SRC, Of(|a, _| a.src.entropy()), "normalised entropy of source addresses over flow records: 0 one source, 1 all alike";
    "entropy_dst", "1", DST, Of(|a, _| a.dst.entropy()), "normalised entropy of destination addresses over flow records";
    "entropy_src_port", "1", SRC_PORT, Of(|a, _| a.src_port.entropy()), "normalised entropy of source ports over flow records";
    "entropy_dst_port", "1", DST_PORT, Of(|a, _| a.dst_port.entropy()), "normalised entropy of destination ports over flow records";
    "mean_packet_size", "byte/packet", NONE, Of(|a, _| ratio(a.bytes, a.packets)), "bytes per packet";
    "bytes_per_flow", "byte/flow", NONE, Of(|a, _| ratio(a.bytes, a.flows)), "bytes per flow record";
    "packets_per_flow", "packet/flow", NONE, Of(|a, _| ratio(a.packets, a.flows)), "packets per flow record";
    "tcp_share", "1", NONE, Of(|a, _| ratio(a.tcp.into(), a.flows)), "share of flow records that are TCP";
    "udp_share", "1", NONE, Of(|a, _| ratio(a.udp.into(), a.flows)), "share of flow records that are UDP";
    "icmp_share", "1", NONE, Of(|a, _| ratio(a.icmp.into(), a.flows)), "share of flow records that are ICMP or ICMPv6";
    "syn_share", "1", NONE, Of(|a, _| ratio(a.syn_only.into(), a.flows)), "share of flow records that are TCP with SYN and no other flag";
    "single_packet_share", "1", NONE, Of(|a, _| ratio(a.single_packet.into(), a.flows)), "share of flow records with one packet (before scaling)";
    "amp_port_share", "1", NONE, Of(|a, _| ratio(a.amp_port.into(), a.flows)), "share of flow records that are UDP from a port of a known amplifier (DNS, NTP, CLDAP, SSDP, memcached, ...)";
    "tcp_flows", "flow", NONE, Of(|a, _| a.tcp.into()), "flow records that are TCP";
    "udp_flows", "flow", NONE, Of(|a, _| a.udp.into()), "flow records that are UDP";
    "icmp_flows", "flow", NONE, Of(|a, _| a.icmp.into()), "flow records that are ICMP or ICMPv6";
    "syn_flows", "flow", NONE, Of(|a, _| a.syn_only.into()), "flow records that are TCP with SYN and no other flag";
    "single_packet_flows", "flow", NONE, Of(|a, _| a.single_packet.into()), "flow records with one packet (before scaling)";
    "amp_port_flows", "flow", NONE, Of(|a, _| a.amp_port.into()), "flow records that are UDP from a port of a known amplifier";
    "rel_flows", "ln", NONE, Relative(Quantity::Flows), "natural log of flows/s over the entity's own level (EWMA over its earlier windows); 0 without history";
    "rel_bytes", "ln", NONE, Relative(Quantity::Bytes), "natural log of bytes/s over the entity's own level";
    "rel_packets", "ln", NONE, Relative(Quantity::Packets), "natural log of packets/s over the entity's own level";
    "rel_uniq_src", "ln", SRC, Relative(Quantity::UniqSrc), "natural log of distinct sources over the entity's own level";
}

#[inline]
fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

/// The counted sets that these features need.
pub fn needs<S: AsRef<str>>(features: &[S]) -> Needs {
    features.iter().filter_map(|f| position(f.as_ref())).fold(NONE, |sum, at| {
        let need = FORMULAS[at].0;
        Needs {
            src: sum.src || need.src,
            dst: sum.dst || need.dst,
            src_port: sum.src_port || need.src_port,
            dst_port: sum.dst_port || need.dst_port,
        }
    })
}

pub(super) fn position(name: &str) -> Option<usize> {
    FEATURES.iter().position(|f| f.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_described() {
        for (i, f) in FEATURES.iter().enumerate() {
            assert_eq!(position(f.name), Some(i), "{} stands twice", f.name);
            assert!(!f.unit.is_empty() && !f.description.is_empty());
        }
    }

    /// `config` tells by the name whether a change forgets levels.
    #[test]
    fn what_compares_with_levels_has_it_in_its_name() {
        for (feature, (needs, formula)) in FEATURES.iter().zip(FORMULAS) {
            let relative = matches!(formula, Relative(_));
            assert_eq!(feature.name.starts_with("rel_"), relative, "{}", feature.name);
            assert!(!relative || !needs.src || feature.name == "rel_uniq_src", "{}", feature.name);
        }
    }

    #[test]
    fn only_what_is_needed_is_kept() {
        assert_eq!(needs(&["flows", "bits_per_s"]), NONE);
        assert_eq!(needs(&["entropy_src", "uniq_dst_port"]), Needs { src: true, dst_port: true, ..NONE });
        assert_eq!(needs(&["rel_uniq_src"]), SRC);
    }
}
