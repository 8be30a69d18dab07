//! Test: the limits of configs/demo.toml against the traffic that the demo sends, with plain arithmetic over 10 s
//! windows: benign hosts and prefixes stay well below, every attack is above within two seconds.

use super::{AttackSpec, Generator, Options, attacks::AMPLIFIER_PORTS, reference::Reference, traffic::SYN};
use crate::model::time::SECOND;
use crate::model::{Addr, FrameBatch, Prefix};
use std::collections::{HashMap, HashSet};

const START_NS: u64 = 1_767_225_600 * SECOND;
const WINDOW: u64 = 10;
/// Benign traffic must stay this far below a limit.
const MARGIN: f64 = 1.5;

#[derive(Default, Clone)]
struct Sums {
    flows: f64,
    packets: f64,
    bytes: f64,
    udp: f64,
    syn: f64,
    amplifier: f64,
    hosts: HashSet<Addr>,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.flows += other.flows;
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.udp += other.udp;
        self.syn += other.syn;
        self.amplifier += other.amplifier;
        self.hosts.extend(&other.hosts);
    }

    fn feature(&self, name: &str) -> f64 {
        let seconds = WINDOW as f64;
        match name {
            "packets_per_s" => self.packets / seconds,
            "bits_per_s" => self.bytes * 8.0 / seconds,
            "flows_per_s" => self.flows / seconds,
            "uniq_dst" => self.hosts.len() as f64,
            "udp_share" => self.udp / self.flows,
            "syn_share" => self.syn / self.flows,
            "amp_port_share" => self.amplifier / self.flows,
            other => panic!("the demo's limits use {other}: teach it to this test"),
        }
    }
}

struct Limit {
    name: String,
    feature: String,
    above: f64,
    when: Vec<(String, f64)>,
}

impl Limit {
    /// True when the window crosses `1 / margin` of the limit and fulfils the conditions.
    fn crossed(&self, window: &Sums, margin: f64) -> bool {
        window.feature(&self.feature) > self.above / margin && self.when.iter().all(|(f, n)| window.feature(f) > *n)
    }
}

fn limits(detector: &str) -> Vec<Limit> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/demo.toml");
    let config: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let number = |v: &toml::Value| v.as_float().or(v.as_integer().map(|n| n as f64)).unwrap();
    let text = |v: &toml::Value| v.as_str().unwrap().to_owned();
    let limits = config["detectors"][detector]["config"]["limits"].as_array().unwrap();
    limits
        .iter()
        .map(|l| Limit {
            name: text(&l["name"]),
            feature: text(&l["feature"]),
            above: number(&l["above"]),
            when: l["when"].as_array().unwrap().iter().map(|w| (text(&w["feature"]), number(&w["above"]))).collect(),
        })
        .collect()
}

/// Second by second (of export), per host and per /24.
type Seconds<K> = HashMap<K, HashMap<u64, Sums>>;

fn windows<K: std::hash::Hash + Eq + Copy>(seconds: &Seconds<K>, length: u64) -> Vec<(K, u64, Sums)> {
    let mut out = Vec::new();
    for (key, of_key) in seconds {
        for end in 1..=length {
            let mut sum = Sums::default();
            for second in end.saturating_sub(WINDOW)..end {
                if let Some(s) = of_key.get(&second) {
                    sum.add(s);
                }
            }
            if sum.flows > 0.0 {
                out.push((*key, end, sum));
            }
        }
    }
    out
}

#[test]
fn the_demos_limits_find_the_attacks_and_spare_the_others() {
    let options =
        Options { seconds: 52.0, seed: 1, start_ns: START_NS, attacks: AttackSpec::demo(), ..Options::default() };
    let mut generator = Generator::new(&options).unwrap();
    let (mut frames, mut reference) = (FrameBatch::default(), Reference::default());
    let (mut hosts, mut prefixes): (Seconds<Addr>, Seconds<Prefix>) = Default::default();
    while generator.tick(&mut frames) {
        for frame in &frames.frames {
            reference.datagram(frame.peer.ip(), frame.received_ns, frames.bytes(frame));
        }
        frames.clear();
        for r in reference.records.drain(..) {
            let one = Sums {
                flows: 1.0,
                packets: r.packets as f64,
                bytes: r.bytes as f64,
                udp: f64::from(u8::from(r.proto == 17)),
                syn: f64::from(u8::from(r.proto == 6 && r.tcp_flags == SYN)),
                amplifier: f64::from(u8::from(r.proto == 17 && AMPLIFIER_PORTS.contains(&r.src_port))),
                hosts: HashSet::from([r.dst_addr]),
            };
            let second = (r.time_received_ns - START_NS) / SECOND;
            hosts.entry(r.dst_addr).or_default().entry(second).or_default().add(&one);
            prefixes.entry(r.dst_addr.prefix(24, 64)).or_default().entry(second).or_default().add(&one);
        }
    }
    let attacked: Vec<(String, String, u64)> = generator
        .truth()
        .attacks
        .iter()
        .map(|a| (a.kind.to_owned(), a.target.clone(), (a.start_ns - START_NS) / SECOND))
        .collect();
    let carpet = attacked.iter().find(|a| a.0 == "carpet-bombing").unwrap().1.clone();
    let mut found: HashMap<String, u64> = HashMap::new();
    let mut judge = |limits: &[Limit], name: String, end: u64, window: &Sums, aside: bool| {
        for limit in limits {
            match attacked.iter().find(|(kind, target, _)| *kind == limit.name && *target == name) {
                Some((kind, _, start)) if end > *start => {
                    if limit.crossed(window, 1.0) {
                        let first = found.entry(kind.clone()).or_insert(end - start);
                        *first = (*first).min(end - start);
                    }
                }
                _ => assert!(aside || !limit.crossed(window, MARGIN), "{} on {name}, second {end}", limit.name),
            }
        }
    };
    let of_hosts = limits("host-limits");
    for (host, end, window) in windows(&hosts, 52) {
        judge(&of_hosts, host.to_string(), end, &window, false);
    }
    let of_prefixes = limits("prefix-limits");
    for (prefix, end, window) in windows(&prefixes, 52) {
        judge(&of_prefixes, prefix.to_string(), end, &window, prefix.to_string() == carpet);
    }
    assert_eq!(found.len(), attacked.len(), "{found:?}");
    assert!(found.values().all(|seconds| *seconds <= 2), "seconds until found: {found:?}");
}
