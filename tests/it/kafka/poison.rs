//! Messages that no decoder can read, among good ones, in every format: each goes to the dead-letter topic as it came, with
//! its key, the reason and its place; all others are counted; the group's position goes past them. And what a decoder has
//! to remember from message to message outlives a crash.

use super::engine::{Engine, counted, wait_for};
use super::rows;
use kaminari_tests::kafka::{self, Record};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The same flows in every format.
struct Good {
    /// Datagrams of three exporters, keyed by them.
    netflow: Vec<Record>,
    arrow: Vec<Record>,
    goflow2: Vec<Record>,
    json: Vec<Record>,
    flows: u64,
}

const START: &str = "2026-01-01T00:00:00Z";

fn good(brokers: &str) -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let pcap = dir.path().join("flows.pcap");
        let topics: BTreeMap<&str, String> =
            ["raw", "arrow", "goflow2", "json"].map(|name| (name, kafka::unique(name))).into();
        topics.values().for_each(|topic| kafka::create_topic(brokers, topic, 1));
        let stream = ["--seconds", "2", "--rate", "200", "--hosts", "40", "--start", START];
        rows::generate(&[&stream[..], &["--pcap", pcap.to_str().unwrap()]].concat());
        rows::generate(&[&stream[..], &["--kafka", brokers, "--topic", &topics["raw"], "--speed", "max"]].concat());
        let mut config = format!("[sources.capture]\ntype = \"file\"\npaths = [{pcap:?}]\n");
        config += "[pipelines.all]\nsources = [\"capture\"]\nsinks = [\"arrow\", \"goflow2\", \"json\"]\n";
        for format in ["arrow", "goflow2", "json"] {
            let topic = &topics[format];
            config += &format!("[sinks.{format}]\ntype = \"kafka\"\nbrokers = [{brokers:?}]\ntopic = {topic:?}\n");
            config += &format!("content = \"flows\"\nformat = {format:?}\n");
        }
        let summary = Engine::start(dir.path(), "collector", &config).ended();
        let read = |name: &str| -> Vec<Record> {
            let messages = kafka::consume_all(brokers, &topics[name], true);
            messages.into_iter().map(|m| Record { key: m.key, payload: m.payload, headers: Vec::new() }).collect()
        };
        let flows = counted(&summary, "kaminari_decode_flows_total", "") as u64;
        let good =
            Good { netflow: read("raw"), arrow: read("arrow"), goflow2: read("goflow2"), json: read("json"), flows };
        assert!(flows > 300 && good.json.len() as u64 == flows && good.goflow2.len() as u64 == flows, "{flows}");
        good
    })
}

/// Bytes that are nothing.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    // Without line breaks: of text it is one line.
    (0..200).map(|_| next()).filter(|byte| *byte != b'\n').collect()
}

fn cut(payload: &[u8]) -> Vec<u8> {
    payload[..payload.len() * 2 / 3].to_vec()
}

/// Akvorado's message around a datagram.
fn rawflow(datagram: &[u8], exporter: &[u8]) -> Vec<u8> {
    fn varint(mut n: usize, out: &mut Vec<u8>) {
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }
    let mut out = vec![1 << 3];
    varint(1_767_225_600, &mut out);
    for (tag, bytes) in [(2 << 3 | 2, datagram), (3 << 3 | 2, exporter)] {
        out.push(tag);
        varint(bytes.len(), &mut out);
        out.extend(bytes);
    }
    // use_source_address, decoder: NetFlow.
    out.extend([4 << 3, 1, 5 << 3, 1]);
    out
}

/// A record as nfacctd would have written it.
fn pmacct(flow: &[u8]) -> Vec<u8> {
    let flow: Value = serde_json::from_slice(flow).unwrap();
    let time = |name: &str| {
        let ns = flow[name].as_u64().unwrap();
        format!("{}.{:06}", ns / 1_000_000_000, ns / 1000 % 1_000_000)
    };
    let record = json!({
        "event_type": "purge", "peer_ip_src": flow["sampler_address"], "ip_src": flow["src_addr"],
        "ip_dst": flow["dst_addr"], "port_src": flow["src_port"], "port_dst": flow["dst_port"],
        "ip_proto": flow["proto"].to_string().trim_matches('"').to_lowercase(), "tcp_flags": flow["tcp_flags"].to_string(),
        "sampling_rate": flow["sampling_rate"], "packets": flow["packets"], "bytes": flow["bytes"],
        "timestamp_start": time("time_flow_start_ns"), "timestamp_end": time("time_flow_end_ns"),
        "timestamp_arrival": time("time_received_ns"), "writer_id": "default_kafka/1",
    });
    record.to_string().into_bytes()
}

/// Good messages of a format, and bad ones with the reason for which each is refused.
fn messages(format: &str, good: &Good) -> (Vec<Record>, Vec<(Vec<u8>, &'static str)>) {
    let all = |records: &[Record], to: &dyn Fn(&Record) -> Vec<u8>| -> Vec<Record> {
        records.iter().map(|r| Record { payload: to(r), ..r.clone() }).collect()
    };
    // v5 has no sets: what is cut is refused whole, and counts nothing.
    let v5 = &good.netflow.iter().find(|r| r.payload.starts_with(&[0, 5])).unwrap().payload;
    let both = |line: &[u8]| [line, b"\n", &cut(line)[..]].concat();
    let first = |records: &[Record]| records[0].payload.clone();
    match format {
        "netflow" => {
            let bad = vec![
                (cut(v5), "bad_count"),
                (v5[..15].to_vec(), "short_header"),
                (noise(), "unsupported_version"),
                (Vec::new(), "short_header"),
            ];
            (good.netflow.clone(), bad)
        }
        "rawflow" => {
            let wrapped = all(&good.netflow, &|r| {
                let exporter: std::net::IpAddr =
                    std::str::from_utf8(r.key.as_deref().unwrap()).unwrap().parse().unwrap();
                match exporter {
                    std::net::IpAddr::V4(v4) => rawflow(&r.payload, &v4.to_ipv6_mapped().octets()),
                    std::net::IpAddr::V6(v6) => rawflow(&r.payload, &v6.octets()),
                }
            });
            let bad = vec![
                (cut(&first(&wrapped)), "bad_message"),
                (rawflow(&cut(v5), &[192, 0, 2, 1]), "bad_count"),
                (rawflow(v5, &[192, 0, 2]), "bad_field"),
                (noise(), "bad_message"),
                (Vec::new(), "bad_message"),
            ];
            (wrapped, bad)
        }
        "goflow2" => {
            let bad =
                vec![(cut(&first(&good.goflow2)), "bad_message"), (noise(), "bad_message"), (Vec::new(), "no_address")];
            (good.goflow2.clone(), bad)
        }
        "arrow" => {
            let bad =
                vec![(cut(&first(&good.arrow)), "bad_message"), (noise(), "bad_message"), (Vec::new(), "bad_message")];
            (good.arrow.clone(), bad)
        }
        _ => {
            let lines = if format == "pmacct" { all(&good.json, &|r| pmacct(&r.payload)) } else { good.json.clone() };
            let (line, rest) = lines.split_first().unwrap();
            // No lines are no fault.
            let rest = [&[Record::from(""), Record::from("\n \n")], rest].concat();
            let other =
                if format == "pmacct" { r#"{"ip_src":"192.0.2.1.7"}"# } else { r#"{"src_addr":"192.0.2.1.7"}"# };
            // The first of them is whole, and counts.
            let bad = vec![
                (both(&line.payload), "bad_line"),
                (cut(&line.payload), "bad_line"),
                (other.into(), "bad_field"),
                (b"{}".to_vec(), "no_address"),
                (noise(), "bad_line"),
            ];
            (rest, bad)
        }
    }
}

const PARTITIONS: i32 = 2;
const WINDOW: &str = "type = \"tumbling\", size_secs = 1, event_time = \"end\", idle_timeout_secs = 1";

/// What a dead letter has: key, value, headers.
type Letter = (Option<Vec<u8>>, Vec<u8>, Vec<(String, Vec<u8>)>);

fn poisoned(format: &str, more: &str) {
    let Some(brokers) = kafka::brokers(&format!("bad messages of format {format}")) else { return };
    let good = good(&brokers);
    let (mut records, bad) = messages(format, good);
    let [topic, dead, to, group] = ["poison", "dead", "rows", "group"].map(kafka::unique);
    kafka::create_topic(&brokers, &topic, PARTITIONS);
    kafka::create_topic(&brokers, &dead, 3);
    kafka::create_topic(&brokers, &to, 1);

    // An exporter's datagrams stay together: its templates.
    let place = |at: usize, r: &Record| match &r.key {
        Some(key) => key.iter().map(|b| i32::from(*b)).sum::<i32>() % PARTITIONS,
        None => at as i32 % PARTITIONS,
    };
    let last = records.pop().unwrap();
    let mut partitions = vec![Vec::<Record>::new(); PARTITIONS as usize];
    let mut letters: Vec<Letter> = Vec::new();
    let mut poison = |partitions: &mut Vec<Vec<Record>>, p: usize, n: usize| {
        let (payload, reason) = &bad[n];
        let key = format!("bad-{n}").into_bytes();
        let origin = format!("{topic}/{p}/{}", partitions[p].len());
        let header = |name: &str, value: &str| (format!("kaminari.{name}"), value.as_bytes().to_vec());
        let headers = vec![header("reason", reason), header("source", "in"), header("origin", &origin)];
        letters.push((Some(key.clone()), payload.clone(), headers));
        partitions[p].push(Record { key: Some(key), payload: payload.clone(), headers: vec![] });
    };
    // At the begin, in the middle, at the end, one after the other; each once.
    let every = records.len().div_ceil(bad.len()).max(1);
    let mut next = 0;
    for (at, record) in records.iter().enumerate() {
        if at % every == 0 && next < bad.len() {
            poison(&mut partitions, place(at, record) as usize, next);
            next += 1;
        }
        partitions[place(at, record) as usize].push(record.clone());
    }
    for n in next..bad.len() {
        poison(&mut partitions, n % PARTITIONS as usize, n);
    }
    for (p, records) in (0..).zip(&partitions) {
        kafka::produce(&brokers, &topic, p, records.clone());
    }

    let dir = tempfile::tempdir().unwrap();
    // Datagrams lie by exporter: a host is in both partitions.
    let keyed = !matches!(format, "netflow" | "rawflow");
    let more = format!("keyed = {keyed}\ndead_letter_topic = {dead:?}\n{more}");
    let source = rows::source(&brokers, &topic, &group, format, &more);
    let config = rows::config(&brokers, &source, WINDOW, &to);
    let mut engine = Engine::start(dir.path(), "engine", &config);
    engine.says("reads ");
    let read = || -> Vec<Letter> {
        let found = kafka::consume_all(&brokers, &dead, true);
        let mut found: Vec<Letter> = found.into_iter().map(|m| (m.key, m.payload, m.headers)).collect();
        found.sort();
        found
    };
    wait_for("the dead letters", || (read().len() >= letters.len()).then_some(()));
    // It goes on.
    kafka::produce(&brokers, &topic, place(records.len(), &last), [last.clone()]);
    at_the_end(&brokers, &group, &topic);
    let summary = engine.stop();
    letters.sort();
    assert_eq!(read(), letters);
    let count = |name: &str, label: &str| counted(&summary, name, label) as u64;
    assert_eq!(count("kaminari_decode_flows_total", ""), good.flows, "{summary}");
    assert_eq!(count("kaminari_window_records_total", ""), good.flows, "{summary}");
    assert_eq!(count("kaminari_window_late_records_total", "dropped"), 0, "{summary}");
    assert_eq!(count("kaminari_source_dead_lettered_total", ""), bad.len() as u64, "{summary}");
    for reason in bad.iter().map(|(_, reason)| reason) {
        let of = bad.iter().filter(|(_, r)| r == reason).count() as u64;
        assert_eq!(count("kaminari_decode_errors_total", reason), of, "{reason}: {summary}");
    }
    assert_eq!(rows::sum(&rows::rows(&brokers, &to), "flows"), good.flows as f64);
}

/// Waits until the group has committed all that there is.
fn at_the_end(brokers: &str, group: &str, topic: &str) {
    wait_for("positions at the end", || {
        let committed = kafka::committed(brokers, group, topic);
        let at = committed.iter().map(|(p, next, _)| (*p, *next));
        at.eq(kafka::end_offsets(brokers, topic)).then_some(())
    });
}

/// Exporters tell their templates once in a while: a process that takes over has those of the one that died.
fn templates_outlive_a_crash(format: &str) {
    let Some(brokers) = kafka::brokers(&format!("templates of format {format}")) else { return };
    let good = good(&brokers);
    let (records, _) = messages(format, good);
    let [topic, to, group] = ["templates", "rows", "group"].map(kafka::unique);
    kafka::create_topic(&brokers, &topic, 1);
    kafka::create_topic(&brokers, &to, 1);
    let (first, second) = records.split_at(records.len() / 2);
    kafka::produce(&brokers, &topic, 0, first.to_vec());
    let dir = tempfile::tempdir().unwrap();
    let source = rows::source(&brokers, &topic, &group, format, "");
    let engine = format!("[engine]\nstate_dir = {:?}\n", dir.path().join("state"));
    let config = engine + &rows::config(&brokers, &source, WINDOW, &to);
    let before = Engine::start(dir.path(), "before", &config);
    at_the_end(&brokers, &group, &topic);
    before.kill();
    let told = rows::sum(&rows::rows(&brokers, &to), "flows") as u64;
    kafka::produce(&brokers, &topic, 0, second.to_vec());
    let after = Engine::start(dir.path(), "after", &config);
    at_the_end(&brokers, &group, &topic);
    let summary = after.stop();
    let count = |name: &str| counted(&summary, name, "") as u64;
    assert_eq!(count("kaminari_decode_missing_template_total"), 0, "{summary}");
    assert_eq!(told + count("kaminari_decode_flows_total"), good.flows, "{summary}");
    assert!(told > 0 && told < good.flows, "{told} of {}", good.flows);
}

#[test]
fn templates_of_netflow_outlive_a_crash() {
    templates_outlive_a_crash("netflow");
}

#[test]
fn templates_of_rawflow_outlive_a_crash() {
    templates_outlive_a_crash("rawflow");
}

/// An IPFIX message of one set.
fn ipfix(set: u16, body: &[u8]) -> Vec<u8> {
    let len = 20 + body.len() as u16;
    let mut out = [10u16.to_be_bytes(), len.to_be_bytes()].concat();
    out.extend(1_767_225_600u32.to_be_bytes());
    out.extend([0; 8]);
    out.extend([set.to_be_bytes(), (len - 16).to_be_bytes()].concat());
    out.extend(body);
    out
}

#[test]
fn a_template_is_not_blamed_for_the_data_that_waited() {
    let Some(brokers) = kafka::brokers("whose fault it is") else { return };
    let [topic, dead, to, group] = ["late", "dead", "rows", "group"].map(kafka::unique);
    [&topic, &dead, &to].iter().for_each(|topic| kafka::create_topic(&brokers, topic.as_str(), 1));
    // Source, destination, bytes; a record, and what is none.
    let template = [300u16, 3, 8, 4, 12, 4, 1, 4].map(u16::to_be_bytes).concat();
    let record = [192, 0, 2, 1, 198, 51, 100, 7, 0, 0, 0, 9];
    let torn = [&record[..], &[1; 9]].concat();
    let payloads = [ipfix(300, &torn), ipfix(2, &template), ipfix(300, &record), ipfix(300, &torn)];
    let message =
        |payload: &Vec<u8>| Record { key: Some(b"192.0.2.9".to_vec()), payload: payload.clone(), headers: vec![] };
    kafka::produce(&brokers, &topic, 0, payloads.iter().map(message));
    let dir = tempfile::tempdir().unwrap();
    let source = rows::source(&brokers, &topic, &group, "netflow", &format!("dead_letter_topic = {dead:?}"));
    let window = WINDOW.replace("end", "received");
    let engine = Engine::start(dir.path(), "engine", &rows::config(&brokers, &source, &window, &to));
    at_the_end(&brokers, &group, &topic);
    let summary = engine.stop();
    assert_eq!(counted(&summary, "kaminari_decode_flows_total", ""), 3.0, "{summary}");
    assert_eq!(counted(&summary, "kaminari_decode_errors_total", "truncated_record"), 2.0, "{summary}");
    let letters = kafka::consume_all(&brokers, &dead, true);
    let origins: Vec<_> = letters.iter().map(|m| String::from_utf8_lossy(&m.headers[2].1).into_owned()).collect();
    assert_eq!(origins, [format!("{topic}/0/3")]);
    assert_eq!(letters[0].payload, payloads[3]);
}

#[test]
fn netflow() {
    poisoned("netflow", "");
}

#[test]
fn netflow_exactly_once() {
    poisoned("netflow", "exactly_once = true");
}

#[test]
fn rawflow_messages() {
    poisoned("rawflow", "");
}

#[test]
fn goflow2() {
    poisoned("goflow2", "");
}

#[test]
fn goflow2_json() {
    poisoned("goflow2_json", "");
}

#[test]
fn pmacct_exactly_once() {
    poisoned("pmacct", "exactly_once = true");
}

#[test]
fn arrow() {
    poisoned("arrow", "");
}

#[test]
fn jsonl() {
    poisoned("jsonl", "");
}
