//! Promise: real exporters' packets become the records that other collectors read out of them. Runs the library's
//! decoder over every NetFlow and IPFIX case of the shared corpus and compares each expected record with what came out.
//!
//! An expected record is right when a decoded record agrees with it in every field that it states and that is claimed.
//! Cases of pmacct state the result of an aggregation: there the sums per key are compared. Every decoded record
//! answers for one expected record only. Misses are listed with their cause in `tests/known-gaps.txt`; the list may only
//! shrink: a new miss fails the test, and so does a listed one that is right now.
//!
//! Not claimed of the cases of pmacct that say "enrichment": masks (it overwrites them from BGP or BMP) and the exact
//! start (it takes the export time where the exporter's start comes in options data; ours must lie before it, within
//! the inactive timeout). Not claimed at all: `vrf_name` (a join with options data of names), `other` (fields without a place in a flow record), and
//! `dst_as_path`, `dst_communities` (no export carries them here). Not flow records, so not among the stated: options
//! data (`OPTIONS` below). Rows that state nothing that is claimed are not counted either.

use kaminari::config::decode_options::DecodeOptions;
use kaminari::decode::{self, DecodeStats};
use kaminari::model::{Addr, FlowRecord, FlowType, FrameBatch};
use kaminari::source::file::FileReader;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Expected records of the corpus that are options data: case and line.
const OPTIONS: &[(&str, usize)] = &[
    ("ipfix-juniper-mx240-options", 0),
    ("ipfix-yaf-applabel", 2),
    ("ipfix-yaf-like-basic", 0),
    ("nf9-asr9k-opts256", 0),
    ("nf9-cisco-nbar-opts", 0),
    ("nf9-juniper-srx-0scope", 0),
    ("nf9-options-scope", 0),
];

type Row = Map<String, Value>;

struct Case {
    name: String,
    meta: Value,
    expected: Vec<Row>,
    decoded: Vec<FlowRecord>,
    stats: DecodeStats,
}

fn load(dir: &Path) -> Case {
    let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
    let meta = serde_json::from_str(&fs::read_to_string(dir.join("meta.json")).unwrap()).unwrap();
    let lines = fs::read_to_string(dir.join("expected.jsonl")).unwrap_or_default();
    let expected = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let options = DecodeOptions { template_ttl_secs: 0, ..Default::default() };
    let mut decoder = decode::build(&options, true).unwrap();
    let mut reader = FileReader::open(&dir.join("packets.pcap"), &options).unwrap();
    let mut decoded = Vec::new();
    let mut batch = FrameBatch::default();
    loop {
        batch.clear();
        let more = reader.read(&mut batch, 64).unwrap();
        decoder.decode(&batch, &mut decoded);
        if !more {
            break;
        }
    }
    assert_eq!(reader.skipped().total(), 0, "{name}: every packet of the corpus is UDP");
    Case { name, meta, expected, decoded, stats: decoder.stats().clone() }
}

fn mac_of(bytes: Option<[u8; 6]>) -> u64 {
    bytes.unwrap_or_default().iter().fold(0, |n, b| (n << 8) | u64::from(*b))
}

/// MAC addresses are integers or texts.
fn mac_value(v: &Value) -> u64 {
    match v.as_str() {
        Some(text) => text.split(':').fold(0, |n, b| (n << 8) | u64::from_str_radix(b, 16).unwrap()),
        None => v.as_u64().unwrap(),
    }
}

fn addr_value(v: &Value) -> Option<Addr> {
    v.as_str()?.parse().ok()
}

fn labels_value(v: &Value) -> Vec<u64> {
    // pmacct writes "n-label".
    let label = |l: &Value| match l.as_str() {
        Some(text) => text.rsplit('-').next().unwrap().parse().unwrap(),
        None => l.as_u64().unwrap(),
    };
    v.as_array().map(|a| a.iter().map(label).collect()).unwrap_or_default()
}

/// Whether the record has the stated value; `None`: the field is not claimed.
fn agrees(r: &FlowRecord, row: &Row, field: &str, v: &Value) -> Option<bool> {
    let x = r.extra.as_deref().expect("the decoder was asked for everything");
    let number = |n: u64| Some(v.as_u64() == Some(n));
    let option = |n: Option<u64>| number(n.unwrap_or(0));
    let address = |a: Addr| Some(addr_value(v).is_some_and(|b| a == b || (a.is_unspecified() && b.is_unspecified())));
    match field {
        "exporter" => address(r.sampler_address),
        "src_addr" => address(r.src_addr),
        "dst_addr" => address(r.dst_addr),
        "next_hop" => address(r.next_hop),
        "nat_src_addr" => address(x.nat_src_addr.unwrap_or_default()),
        "nat_dst_addr" => address(x.nat_dst_addr.unwrap_or_default()),
        "src_port" => number(r.src_port.into()),
        "dst_port" => number(r.dst_port.into()),
        "proto" => number(r.proto.into()),
        "bytes" => number(r.bytes),
        "packets" => number(r.packets),
        // The total counts where there is no delta.
        "bytes_total" if !row.contains_key("bytes") => number(r.bytes),
        "packets_total" if !row.contains_key("packets") => number(r.packets),
        "out_bytes" => option(x.post_bytes),
        "out_packets" => option(x.post_packets),
        "in_if" => number(r.in_if.into()),
        "out_if" => number(r.out_if.into()),
        "src_as" => number(r.src_as.into()),
        "dst_as" => number(r.dst_as.into()),
        "src_mask" => number(r.src_net.into()),
        "dst_mask" => number(r.dst_net.into()),
        "tos" => number(r.ip_tos.into()),
        "tcp_flags" => number(r.tcp_flags.into()),
        "sampling_rate" => number(r.sampling_rate),
        "start_ms" => Some(time_agrees(r, v, r.time_flow_start_ns)),
        "end_ms" => Some(time_agrees(r, v, r.time_flow_end_ns)),
        "ip_version" => number(if r.dst_addr.is_v4() { 4 } else { 6 }),
        "src_mac" => Some(mac_of(x.src_mac) == mac_value(v)),
        "dst_mac" => Some(mac_of(x.dst_mac) == mac_value(v)),
        "src_vlan" => option(x.src_vlan.map(u64::from)),
        "dst_vlan" => option(x.dst_vlan.map(u64::from)),
        "direction" => option(x.flow_direction.map(u64::from)),
        "ttl" => option(x.ip_ttl.map(u64::from)),
        "ether_type" => option(x.etype.map(u64::from)),
        "ipv6_flow_label" => option(x.ipv6_flow_label.map(u64::from)),
        "fragment_id" => option(x.fragment_id.map(u64::from)),
        "fragment_offset" => option(x.fragment_offset.map(u64::from)),
        "forwarding_status" => option(x.forwarding_status.map(u64::from)),
        "ingress_vrf_id" => option(x.ingress_vrf_id.map(u64::from)),
        "egress_vrf_id" => option(x.egress_vrf_id.map(u64::from)),
        "mpls_labels" | "mpls_label_stack" => {
            Some(x.mpls_label.iter().copied().map(u64::from).collect::<Vec<_>>() == labels_value(v))
        }
        "nat_src_port" => option(x.nat_src_port.map(u64::from)),
        "nat_dst_port" => option(x.nat_dst_port.map(u64::from)),
        "nat_event" => option(x.nat_event.map(u64::from)),
        "icmp_type" => option(x.icmp_type.map(u64::from)),
        "icmp_code" => option(x.icmp_code.map(u64::from)),
        _ => None,
    }
}

/// The corpus' `time_rule`: golden or golden - 1000 ms, either modulo 2^32 ms, all within 1 ms; IPFIX times are exact.
fn time_agrees(r: &FlowRecord, v: &Value, ns: u64) -> bool {
    let (golden, ours) = (v.as_i64().unwrap(), (ns / 1_000_000) as i64);
    if r.flow_type == FlowType::Ipfix {
        return ours == golden;
    }
    [0, 1000].iter().any(|late| {
        let off = (ours - (golden - late)).rem_euclid(1 << 32);
        off <= 1 || off >= (1 << 32) - 1
    })
}

/// True for a row that states nothing that is claimed.
fn says_nothing(row: &Row) -> bool {
    let any = FlowRecord { extra: Some(Box::default()), ..FlowRecord::default() };
    row.iter().all(|(k, v)| agrees(&any, row, k, v).is_none())
}

/// True for a row that is none of the stated flow records.
fn left_out(case: &Case, line: usize) -> bool {
    OPTIONS.contains(&(case.name.as_str(), line)) || says_nothing(&case.expected[line])
}

/// The line of each expected record that is missed, with the fields that differ in the nearest record.
fn misses_plain(case: &Case) -> BTreeMap<usize, String> {
    let mut free: Vec<bool> = vec![true; case.decoded.len()];
    let mut misses = BTreeMap::new();
    for (line, row) in case.expected.iter().enumerate() {
        if left_out(case, line) {
            continue;
        }
        let differing = |r: &FlowRecord| -> Vec<&str> {
            row.iter().filter(|(k, v)| agrees(r, row, k, v) == Some(false)).map(|(k, _)| k.as_str()).collect()
        };
        match case.decoded.iter().enumerate().position(|(i, r)| free[i] && differing(r).is_empty()) {
            Some(i) => free[i] = false,
            None => {
                let nearest = case.decoded.iter().map(differing).min_by_key(Vec::len);
                misses.insert(line, nearest.map_or("no record at all".to_owned(), |d| format!("differs in {d:?}")));
            }
        }
    }
    misses
}

/// Fields that make the key of an aggregated record.
const KEYS: &[&str] = &[
    "src_addr",
    "dst_addr",
    "src_port",
    "dst_port",
    "proto",
    "in_if",
    "out_if",
    "src_mask",
    "dst_mask",
    "tos",
    "mpls_label_stack",
    "src_mac",
    "dst_mac",
    "src_vlan",
];

fn misses_aggregated(case: &Case) -> BTreeMap<usize, String> {
    let scale = case.meta["renormalized"] == true;
    let enriched = case.meta["note"].as_str().unwrap().contains("enrichment");
    let mut misses = BTreeMap::new();
    for (line, row) in case.expected.iter().enumerate() {
        let claimed = |k: &&&str| !(enriched && k.ends_with("_mask"));
        // Primitives that are not claimed (VRF names and such) may split one key of ours into several rows.
        let same_key = |other: &Row| KEYS.iter().filter(claimed).all(|k| other.get(*k) == row.get(*k));
        let sum = |field: &str| -> u64 {
            case.expected.iter().filter(|o| same_key(o)).map(|o| o[field].as_u64().unwrap()).sum()
        };
        let differing = |r: &FlowRecord| -> Vec<&str> {
            let stated = KEYS.iter().filter(claimed).filter_map(|k| row.get(*k).map(|v| (*k, v)));
            stated.filter(|(k, v)| agrees(r, row, k, v) == Some(false)).map(|(k, _)| k).collect()
        };
        let ours: Vec<&FlowRecord> = case.decoded.iter().filter(|r| differing(r).is_empty()).collect();
        let total = |f: fn(&FlowRecord) -> u64| -> u64 {
            ours.iter().map(|r| f(r) * if scale { r.sampling_rate } else { 1 }).sum()
        };
        let mut wrong = Vec::new();
        if ours.is_empty() {
            let nearest = case.decoded.iter().map(differing).min_by_key(Vec::len);
            wrong.push(format!("no such key, nearest differs in {:?}", nearest.unwrap_or_default()));
        }
        for (field, ours) in [("bytes", total(|r| r.bytes)), ("packets", total(|r| r.packets))] {
            let golden = sum(field);
            if golden != ours {
                wrong.push(format!("{field} {ours}, golden {golden}"));
            }
        }
        // Or-ed by pmacct, too.
        let flags = |rows: &mut dyn Iterator<Item = u64>| rows.fold(0, |a, b| a | b);
        let golden =
            flags(&mut case.expected.iter().filter(|o| same_key(o)).filter_map(|o| o.get("tcp_flags")?.as_u64()));
        if row.contains_key("tcp_flags") && golden != flags(&mut ours.iter().map(|r| r.tcp_flags.into())) {
            wrong.push("tcp_flags".to_owned());
        }
        // Rounded to seconds.
        let near = |v: &Value, ns: u64| {
            let before = v.as_i64().unwrap() - (ns / 1_000_000) as i64;
            before >= -1000 && before <= if enriched { 61_000 } else { 1000 }
        };
        for (field, time) in
            [("start_ms", (|r| r.time_flow_start_ns) as fn(&FlowRecord) -> u64), ("end_ms", |r| r.time_flow_end_ns)]
        {
            if let Some(v) = row.get(field)
                && !ours.iter().any(|r| near(v, time(r)))
            {
                wrong.push(field.to_owned());
            }
        }
        if !wrong.is_empty() {
            misses.insert(line, wrong.join(", "));
        }
    }
    misses
}

fn known_gaps() -> BTreeSet<(String, usize)> {
    let text = fs::read_to_string(kaminari_tests::root().join("tests/known-gaps.txt")).unwrap();
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|l| {
            let mut parts = l.splitn(3, '\t');
            let (case, line) = (parts.next().unwrap(), parts.next().unwrap());
            assert!(parts.next().is_some_and(|cause| !cause.is_empty()), "no cause: {l}");
            (case.to_owned(), line.parse().unwrap())
        })
        .collect()
}

fn cases() -> Option<Vec<Case>> {
    let root = kaminari_tests::shared("corpus/flow")?;
    let mut dirs: Vec<_> = fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    dirs.retain(|p| !p.file_name().unwrap().to_str().unwrap().starts_with("sflow"));
    dirs.sort();
    Some(dirs.iter().map(|d| load(d)).collect())
}

#[test]
fn other_collectors_records_come_out() {
    let Some(cases) = cases() else { return };
    let mut stated = 0;
    let mut missed = BTreeMap::new();
    for case in &cases {
        let aggregated = case.meta["aggregated"] == true;
        stated += (0..case.expected.len()).filter(|line| !left_out(case, *line)).count();
        let has_options = OPTIONS.iter().any(|(name, _)| *name == case.name);
        assert!(!has_options || case.stats.options_records > 0, "{}: no options data in it", case.name);
        let misses = if aggregated { misses_aggregated(case) } else { misses_plain(case) };
        missed.extend(misses.into_iter().map(|(line, why)| ((case.name.clone(), line), why)));
    }
    let right = stated - missed.len();
    println!("corpus: {right} of {stated} stated flow records right, in {} cases", cases.len());
    let known = known_gaps();
    let new: Vec<_> = missed.iter().filter(|(k, _)| !known.contains(*k)).collect();
    for ((case, line), why) in &new {
        println!("{case}\t{line}\t{why}");
    }
    assert!(new.is_empty(), "{} new misses (printed above)", new.len());
    let found: Vec<_> = known.iter().filter(|k| !missed.contains_key(*k)).collect();
    assert!(found.is_empty(), "no longer missed, take them off tests/known-gaps.txt: {found:?}");
    assert!(right * 100 >= stated * 95, "{right} of {stated}");
}

#[test]
fn record_counts_are_those_of_the_peers() {
    let Some(cases) = cases() else { return };
    let mut checked = 0;
    for case in &cases {
        let Some(total) = case.meta["records_total"].as_u64() else { continue };
        let reversed = case.decoded.iter().filter(|r| r.extra.as_ref().is_some_and(|x| x.biflow_reverse)).count();
        let flows = case.decoded.len() as u64;
        let counts = case.meta["records_total_counts"].as_str().unwrap();
        // logstash counts options data too, and a biflow once.
        let ours = if counts.starts_with("data records and options data records") {
            flows - reversed as u64 + case.stats.options_records
        } else {
            flows
        };
        assert_eq!(ours, total, "{}: {}", case.name, case.stats);
        checked += 1;
    }
    println!("corpus: {checked} stated record counts agree");
    assert!(checked > 25);
}

#[test]
fn nothing_is_lost_without_a_reason() {
    let Some(cases) = cases() else { return };
    for case in &cases {
        let s = &case.stats;
        let accounted = s.framing_bytes + s.decoded_bytes + s.padding_bytes + s.undecoded_total() + s.pending_bytes;
        assert_eq!(accounted, s.bytes, "{}: {s:?}", case.name);
        let expected_errors = match case.name.as_str() {
            "nf5-invalid-count" => &["bad_count"][..],
            _ => &[],
        };
        let errors: Vec<_> =
            decode::Refusal::ALL.iter().filter(|r| s.errors[**r as usize] > 0).map(|r| r.name()).collect();
        println!("{}: {s}", case.name);
        assert_eq!(errors, expected_errors, "{}", case.name);
    }
    let no_template = cases.iter().find(|c| c.name == "ipfix-no-template").unwrap();
    assert_eq!(no_template.decoded.len(), 0);
    assert!(no_template.stats.missing_template > 0);
}
