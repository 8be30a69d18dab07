//! The traffic of `tests/scenarios/`, one function per folder: small enough to read, exact enough to reckon what the
//! windows hold. Time starts at 2026-01-01T00:00:00Z. Lines stand in the order in which they "arrive".

use std::fmt::Write;

/// 2026-01-01T00:00:00Z in milliseconds.
const START_MS: u64 = 1_767_225_600_000;

/// One record; times in milliseconds from the start.
#[derive(Clone)]
struct Flow {
    start: u64,
    end: u64,
    src: String,
    dst: String,
    sport: u16,
    dport: u16,
    proto: u8,
    flags: u8,
    bytes: u64,
    packets: u64,
    in_if: u32,
}

/// Web traffic of a client: a second long, established TCP, 1000 bytes a packet.
fn benign(end: u64, src: &str, dst: &str, packets: u64) -> Flow {
    Flow {
        start: end.saturating_sub(1000),
        end,
        src: src.into(),
        dst: dst.into(),
        sport: 50_000,
        dport: 443,
        proto: 6,
        flags: 0x1b,
        bytes: packets * 1000,
        packets,
        in_if: 1,
    }
}

/// Reflected DNS: UDP from port 53, 1400 bytes a packet.
fn amplified(end: u64, src: &str, dst: &str, packets: u64) -> Flow {
    Flow { sport: 53, dport: 4444, proto: 17, flags: 0, bytes: packets * 1400, ..benign(end, src, dst, packets) }
}

/// Benign traffic to five hosts, one flow each every `step` ms.
fn background(until: u64, step: u64) -> Vec<Flow> {
    let ends = (1..).map(|i| i * step).take_while(|end| *end <= until);
    ends.flat_map(|end| (1..=5).map(move |h| benign(end - 500, "198.51.100.7", &format!("192.0.2.{h}"), 20))).collect()
}

fn in_order(mut flows: Vec<Flow>) -> Vec<Flow> {
    flows.sort_by_key(|f| f.end);
    flows
}

/// Names and contents of a scenario's input file.
pub fn input(scenario: &str) -> Option<(&'static str, String)> {
    let flows = match scenario {
        "one-flooded-host" => return Some(("input.jsonl", jsonl(&one_flooded_host()))),
        "carpet-bombing" => carpet(100),
        "carpet-covers-hosts" => carpet(400),
        "tumbling-early" => tumbling_early(),
        "active-timeout-end" | "active-timeout-spread" => active_timeout(),
        "late-records" => late_records(),
        "adaptive" => adaptive(),
        "m-of-n" => m_of_n(),
        "ipv6" => ipv6(),
        "interface" => interface(),
        "feature-rows" => return Some(("input.csv", feature_rows())),
        "metric-unlikely" => return Some(("input.csv", metric_unlikely())),
        "metric-deviation" => return Some(("input.csv", metric_deviation())),
        "metric-shift" => return Some(("input.csv", metric_shift())),
        "metrics-odd-together" => return Some(("input.csv", metrics_odd_together())),
        _ => return None,
    };
    Some(("input.csv", csv(&flows)))
}

/// 25 s of background; from 8 s to 13 s ten reflectors send 192.0.2.3 10,000 packets/s.
fn one_flooded_host() -> Vec<Flow> {
    let mut flows = background(25_000, 1000);
    for second in 8..13 {
        flows.extend((1..=10).map(|r| amplified(second * 1000 + 900, &format!("203.0.113.{r}"), "192.0.2.3", 1000)));
    }
    in_order(flows)
}

/// 16 s of background; from 4 s to 9 s each of 30 hosts of 192.0.2.0/24 gets `pps` packets/s.
fn carpet(pps: u64) -> Vec<Flow> {
    let mut flows = background(16_000, 1000);
    for second in 4..9 {
        let flow = |h| amplified(second * 1000 + 900, &format!("203.0.113.{h}"), &format!("192.0.2.{}", 100 + h), pps);
        flows.extend((1..=30).map(flow));
    }
    in_order(flows)
}

/// 300 s of background; from 65 s to 80 s one host gets 10,000 packets/s.
fn tumbling_early() -> Vec<Flow> {
    let mut flows = background(300_000, 10_000);
    for second in 65..80 {
        flows.extend((1..=2).map(|r| amplified(second * 1000 + 900, &format!("203.0.113.{r}"), "192.0.2.3", 5000)));
    }
    in_order(flows)
}

/// 192.0.2.1 has one long transfer at 1,000 packets/s, reported every 60 s (the exporter's active timeout); 192.0.2.3
/// gets 20,000 packets/s from 150 s to 153 s.
fn active_timeout() -> Vec<Flow> {
    let mut flows = background(180_000, 10_000);
    for end in [60_200, 120_200, 180_200] {
        flows.push(Flow { start: end - 60_000, ..benign(end, "198.51.100.9", "192.0.2.1", 60_000) });
    }
    for second in 150..153 {
        flows.push(amplified(second * 1000 + 900, "203.0.113.1", "192.0.2.3", 20_000));
    }
    in_order(flows)
}

/// 51 s of background (255 records), then what an exporter held back: a flood of 192.0.2.3 in [20 s, 30 s) reported in
/// two parts, a record from before everything still kept, and traffic that goes on. A file is read 256 records at a
/// time, and late is what comes after its window was closed by an earlier read.
fn late_records() -> Vec<Flow> {
    let mut flows = background(51_000, 1000);
    flows.push(benign(52_000, "198.51.100.7", "192.0.2.1", 20));
    flows.push(amplified(25_000, "203.0.113.1", "192.0.2.3", 60_000));
    flows.push(amplified(26_000, "203.0.113.2", "192.0.2.3", 60_000));
    flows.push(amplified(5_000, "203.0.113.3", "192.0.2.4", 999_999));
    flows.extend((53..100).map(|second| benign(second * 1000, "198.51.100.7", "192.0.2.1", 20)));
    flows
}

/// Windows of 10 s. 192.0.2.1 has 100 packets/s, a little more or less, and five times that from 300 s to 320 s;
/// 192.0.2.2 always has 2,000 packets/s; 192.0.2.3 has 50, and twenty times that in its third window.
fn adaptive() -> Vec<Flow> {
    let mut flows = Vec::new();
    for window in 0..40u64 {
        let end = window * 10_000 + 5000;
        let wobble = [0, 40, 10, 30, 20][(window % 5) as usize];
        let first = if (30..32).contains(&window) { 5000 } else { 980 + wobble };
        let third = if window == 2 { 10_000 } else { 500 };
        for (host, packets) in [("192.0.2.1", first), ("192.0.2.2", 20_000 + wobble), ("192.0.2.3", third)] {
            flows.push(benign(end, "198.51.100.7", host, packets));
        }
    }
    flows
}

/// Windows of 10 s with a flow each. 192.0.2.1 is flooded in windows 1, 3 and 5; 192.0.2.2 in windows 1 and 2.
fn m_of_n() -> Vec<Flow> {
    let mut flows = Vec::new();
    for window in 0..12u64 {
        for (host, flooded) in [("192.0.2.1", &[1, 3, 5][..]), ("192.0.2.2", &[1, 2][..])] {
            let packets = if flooded.contains(&window) { 50_000 } else { 100 };
            flows.push(benign(window * 10_000 + 5000, "198.51.100.7", host, packets));
        }
    }
    flows
}

/// 20 s; 2001:db8:1::10 is flooded from 5 s to 10 s, its neighbours and 2001:db8:2::1 are not.
fn ipv6() -> Vec<Flow> {
    let mut flows = Vec::new();
    for second in 0..20u64 {
        for host in ["2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::1"] {
            flows.push(benign(second * 1000 + 500, "2001:db8:ffff::7", host, 20));
        }
        if (5..10).contains(&second) {
            for r in 1..=3 {
                flows.push(amplified(second * 1000 + 900, &format!("2001:db8:f::{r}"), "2001:db8:1::10", 3000));
            }
        }
    }
    flows
}

/// 20 s; 100 hosts behind interface 7 get a little each, together 80 Mbit/s from 5 s to 10 s; interface 1 is quiet.
fn interface() -> Vec<Flow> {
    let mut flows = background(20_000, 2000);
    for second in 5..10u64 {
        for host in 1..=20u64 {
            let dst = format!("198.18.{host}.{}", second + 1);
            flows.push(Flow { in_if: 7, ..benign(second * 1000 + 900, "203.0.113.9", &dst, 500) });
        }
    }
    in_order(flows)
}

/// Times in seconds, as many collectors write them.
fn csv(flows: &[Flow]) -> String {
    let mut out = String::from(
        "start,end,src_addr,dst_addr,src_port,dst_port,proto,tcp_flags,bytes,packets,sampler_address,in_if\n",
    );
    let seconds = |ms: u64| format!("{}.{:03}", (START_MS + ms) / 1000, (START_MS + ms) % 1000);
    for f in flows {
        writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{},192.0.2.254,{}",
            seconds(f.start),
            seconds(f.end),
            f.src,
            f.dst,
            f.sport,
            f.dport,
            f.proto,
            f.flags,
            f.bytes,
            f.packets,
            f.in_if
        )
        .unwrap();
    }
    out
}

/// Under the names of `kaminari decode`.
fn jsonl(flows: &[Flow]) -> String {
    let ns = |ms: u64| (START_MS + ms) * 1_000_000;
    let line = |f: &Flow| {
        serde_json::json!({
            "time_flow_start_ns": ns(f.start), "time_flow_end_ns": ns(f.end), "src_addr": f.src, "dst_addr": f.dst,
            "src_port": f.sport, "dst_port": f.dport, "proto": f.proto, "tcp_flags": f.flags,
            "bytes": f.bytes, "packets": f.packets, "sampler_address": "192.0.2.254", "in_if": f.in_if,
        })
    };
    flows.iter().map(|f| format!("{}\n", line(f))).collect()
}

/// Windows of 10 s of a whole network, as another system has counted them; a UDP flood in windows 6 to 8.
fn feature_rows() -> String {
    let mut out = String::from("t,flows,udp,remark\n");
    for window in 0..12 {
        let (flows, udp) = if (6..9).contains(&window) { (4000, 3600) } else { (1000 + 10 * window, 100) };
        writeln!(out, "{},{flows},{udp},\"a, b\"", START_MS / 1000 + window * 10).unwrap();
    }
    out
}

/// A column of a metric, a row every five minutes, times without a zone.
fn metric(header: &str, rows: u64, values: impl Fn(u64) -> String) -> String {
    let mut out = format!("timestamp,{header}\n");
    for row in 0..rows {
        let minutes = row * 5;
        let (day, hour, minute) = (1 + minutes / 1440, minutes / 60 % 24, minutes % 60);
        writeln!(out, "2026-01-{day:02} {hour:02}:{minute:02}:00,{}", values(row)).unwrap();
    }
    out
}

/// From 0 to 12, in no order that is seen.
fn noise(row: u64) -> u64 {
    row * 7919 % 13
}

/// Up and down by 500 within 10 hours; row 540 is beyond all that.
fn metric_unlikely() -> String {
    let wave = |row: u64| (row % 120).min(120 - row % 120) * 500 / 60;
    metric("value", 600, |row| if row == 540 { "900".into() } else { (100 + wave(row) + noise(row)).to_string() })
}

/// About 106, three rows of 300.
fn metric_deviation() -> String {
    metric("value", 200, |row| if (120..123).contains(&row) { "300".into() } else { (100 + noise(row)).to_string() })
}

/// About 106, from row 150 on 5 more: no row by itself is out of the ordinary.
fn metric_shift() -> String {
    metric("value", 250, |row| (100 + noise(row) + if row >= 150 { 5 } else { 0 }).to_string())
}

/// Load and latency rise and fall together; in rows 350 to 352 there is little load and high latency.
fn metrics_odd_together() -> String {
    metric("load,latency_ms", 400, |row| match row {
        350..353 => "50,950".into(),
        _ => {
            let load = row * 7919 % 1000;
            format!("{load},{}", load + noise(row))
        }
    })
}
