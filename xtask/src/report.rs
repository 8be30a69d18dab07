//! What was sent against what the engine said: the table at the end of the demo. Reads the truth file of
//! `kaminari generate`, the incident events of the file sink and the summary that `kaminari run` leaves.

use crate::summary::Summary;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fmt;
use std::net::IpAddr;

/// What the autoencoder plugin calls everything that it finds.
const LEARNED: &str = "anomaly";
/// A late alert still belongs to its attack: windows hold its traffic for a while.
const AFTERMATH_NS: i128 = 30_000_000_000;

/// The truth file.
pub struct Truth {
    attacks: Vec<Value>,
    exporters: Vec<Value>,
}

impl Truth {
    /// Reads the JSON lines.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().map(|l| serde_json::from_str(l).with_context(|| format!("not a line of truth: {l}")));
        let lines: Vec<Value> = lines.collect::<Result<_>>()?;
        let (attacks, exporters) = lines.into_iter().partition(|l| l.get("attack").is_some());
        Ok(Self { attacks, exporters })
    }

    /// Flow records sent.
    pub fn flows(&self) -> u64 {
        self.exporters.iter().map(|e| number(e, "/flows") as u64).sum()
    }
}

/// One attack and what was made of it.
struct Row {
    kind: String,
    target: String,
    injected: String,
    /// Of the incident that names the target: when, delay in seconds, severity, kind, features.
    found: Option<Found>,
}

struct Found {
    at: String,
    delay: f64,
    severity: String,
    /// Every kind that was said of it over its life.
    said: Vec<String>,
    features: String,
}

/// All of it.
pub struct Report {
    rows: Vec<Row>,
    /// Incidents of entities that nobody attacked.
    false_alarms: Vec<String>,
    sent: u64,
    received: u64,
    judged: u64,
    losses: Vec<(&'static str, f64)>,
    cpu_seconds: f64,
    peak_rss_bytes: f64,
}

impl Report {
    /// Compares. Fails only when a file is not what it should be.
    pub fn new(truth: &Truth, events: &[Value], summary: &Summary) -> Result<Self> {
        let opens: Vec<&Value> = events.iter().filter(|e| text(e, "/event") == "open").collect();
        let rows = truth.attacks.iter().map(|a| row(a, &opens, events)).collect::<Result<_>>()?;
        let mut false_alarms = Vec::new();
        for event in &opens {
            let at = nanoseconds(text(event, "/emitted_at"))?;
            if !truth.attacks.iter().any(|a| during(a, at) && concerns(event, a)) {
                let (who, what) = (text(event, "/entity/value"), text(event, "/kind"));
                false_alarms.push(format!("{who} {what}: {}", text(event, "/message")));
            }
        }
        Ok(Self {
            rows,
            false_alarms,
            sent: truth.flows(),
            received: summary.received(),
            judged: summary.windowed(),
            losses: summary.losses(),
            cpu_seconds: summary.cpu_seconds,
            peak_rss_bytes: summary.peak_rss_bytes,
        })
    }

    /// Every attack found, nothing lost, nobody wrongly alarmed.
    pub fn passed(&self) -> bool {
        self.complaints().is_empty()
    }

    /// Attacks that an autoencoder or a plain limit did not name.
    pub fn one_sided(&self) -> Vec<String> {
        let mut out = Vec::new();
        for row in &self.rows {
            let said = |kind: &str| row.found.as_ref().is_some_and(|f| f.said.iter().any(|k| k == kind));
            out.extend(
                [LEARNED, &*row.kind]
                    .iter()
                    .filter(|kind| !said(kind))
                    .map(|kind| format!("{} on {} was not called {kind}", row.kind, row.target)),
            );
        }
        out
    }

    /// Per attack: kind, and the seconds from its first record sent to its incident; none when it was missed.
    pub fn delays(&self) -> Vec<(&str, Option<f64>)> {
        self.rows.iter().map(|r| (&*r.kind, r.found.as_ref().map(|f| f.delay))).collect()
    }

    /// Incidents of entities that nobody attacked.
    pub fn false_alarms(&self) -> &[String] {
        &self.false_alarms
    }

    fn complaints(&self) -> Vec<String> {
        let mut out = Vec::new();
        for row in self.rows.iter().filter(|r| r.found.is_none()) {
            out.push(format!("{} on {} was missed", row.kind, row.target));
        }
        if self.rows.is_empty() {
            out.push("no attack was sent".into());
        }
        if !self.false_alarms.is_empty() {
            out.push(format!("{} false alarms", self.false_alarms.len()));
        }
        if self.sent != self.received || self.sent != self.judged {
            out.push(format!("{} flows sent, {} received, {} windowed", self.sent, self.received, self.judged));
        }
        out.extend(self.losses.iter().filter(|(_, n)| *n != 0.0).map(|(place, n)| format!("{place}: {n}")));
        out
    }
}

fn row(attack: &Value, opens: &[&Value], events: &[Value]) -> Result<Row> {
    let sent_ns = i128::from(attack.get("first_sent_ns").and_then(Value::as_u64).context("first_sent_ns is missing")?);
    let mut found: Option<(i128, &Value)> = None;
    for event in opens {
        let at = nanoseconds(text(event, "/emitted_at"))?;
        let named = text(event, "/entity/kind") == text(attack, "/entity")
            && text(event, "/entity/value") == text(attack, "/target");
        if named && during(attack, at) && found.is_none_or(|(earliest, _)| at < earliest) {
            found = Some((at, event));
        }
    }
    Ok(Row {
        kind: text(attack, "/kind").into(),
        target: text(attack, "/target").into(),
        injected: clock(sent_ns),
        found: found.map(|(at, event)| Found {
            at: clock(at),
            delay: (at - sent_ns) as f64 / 1e9,
            severity: text(event, "/severity").into(),
            said: said(event, events),
            features: features(event),
        }),
    })
}

/// The kinds of an incident over its life, in the order in which they were said first.
fn said(open: &Value, events: &[Value]) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    for event in events.iter().filter(|e| text(e, "/incident_id") == text(open, "/incident_id")) {
        let others = event.pointer("/attributes/other_kinds").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for kind in std::iter::once(text(event, "/kind")).chain(others.iter().filter_map(Value::as_str)) {
            if said.iter().all(|known| known != kind) {
                said.push(kind.to_owned());
            }
        }
    }
    said
}

/// True when `at` lies between the first record of the attack and the end of its aftermath.
fn during(attack: &Value, at: i128) -> bool {
    let ns = |key| attack.get(key).and_then(Value::as_u64).map_or(0, i128::from);
    ns("first_sent_ns") > 0 && at >= ns("first_sent_ns") && at <= ns("last_sent_ns") + AFTERMATH_NS
}

/// True when the entity of the event is the target, lies in it, or covers it.
fn concerns(event: &Value, attack: &Value) -> bool {
    let kind = text(event, "/entity/kind");
    if kind != "dst_addr" && kind != "dst_prefix" {
        return false;
    }
    match (network(text(event, "/entity/value")), network(text(attack, "/target"))) {
        (Some((a, a_len)), Some((b, b_len))) => {
            let shift = 128 - u32::from(a_len.min(b_len));
            shift == 128 || a >> shift == b >> shift
        }
        _ => false,
    }
}

/// Bits and length of a host or network, IPv4 mapped into IPv6.
fn network(value: &str) -> Option<(u128, u8)> {
    let (ip, len) = value.split_once('/').map_or((value, None), |(ip, len)| (ip, Some(len)));
    let ip: IpAddr = ip.parse().ok()?;
    let (bits, extra) = match ip {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped().to_bits(), 96),
        IpAddr::V6(v6) => (v6.to_bits(), 0),
    };
    let len = match len {
        Some(len) => len.parse::<u8>().ok()?.saturating_add(extra).min(128),
        None => 128,
    };
    Some((bits, len))
}

/// The three features that weigh most.
fn features(event: &Value) -> String {
    let evidence = event.get("evidence").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let one = |e: &Value| {
        let expected = e.get("expected").and_then(Value::as_f64);
        let expected = expected.map_or(String::new(), |x| format!(" (expected {})", short(x)));
        format!("{} {}{expected}", text(e, "/feature"), short(number(e, "/value")))
    };
    evidence.iter().take(3).map(one).collect::<Vec<_>>().join(", ")
}

/// A number as a person says it: 2.24G, 30.1k, 0.97.
pub fn short(n: f64) -> String {
    match n.abs() {
        x if x >= 1e9 => format!("{:.2}G", n / 1e9),
        x if x >= 1e6 => format!("{:.2}M", n / 1e6),
        x if x >= 1e3 => format!("{:.1}k", n / 1e3),
        x if x >= 10.0 => format!("{n:.0}"),
        _ => format!("{n:.2}"),
    }
}

/// A string of a JSON document, empty when it is not there.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// A number of a JSON document, 0 when it is not there.
pub fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0)
}

fn nanoseconds(time: &str) -> Result<i128> {
    let time: jiff::Timestamp = time.parse().with_context(|| format!("not a time: \"{time}\""))?;
    Ok(time.as_nanosecond())
}

/// Time of day, to the millisecond.
fn clock(ns: i128) -> String {
    let millis = ns.div_euclid(1_000_000).rem_euclid(86_400_000);
    let (s, ms) = (millis / 1000, millis % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", s / 3600, s / 60 % 60, s % 60)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["attack", "target", "injected at", "detected at", "delay", "severity", "said by", "top features"];
        let mut table = vec![head.map(String::from)];
        for r in &self.rows {
            let mut line = [&*r.kind, &*r.target, &*r.injected, "MISSED", "", "", "", ""].map(String::from);
            if let Some(found) = &r.found {
                line[3] = found.at.clone();
                line[4] = format!("{:.2} s", found.delay);
                line[5] = found.severity.clone();
                line[6] = found.said.join(", ");
                line[7] = found.features.clone();
            }
            table.push(line);
        }
        let width: Vec<usize> = (0..head.len()).map(|c| table.iter().map(|r| r[c].len()).max().unwrap_or(0)).collect();
        for line in &table {
            let cells: Vec<String> = line.iter().zip(&width).map(|(cell, w)| format!("{cell:<w$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        writeln!(f, "\nfalse alarms         {}", self.false_alarms.len())?;
        for alarm in &self.false_alarms {
            writeln!(f, "  {alarm}")?;
        }
        writeln!(f, "flows sent           {}", self.sent)?;
        writeln!(f, "flows received       {}", self.received)?;
        writeln!(f, "flows windowed       {}", self.judged)?;
        let losses: Vec<String> = self.losses.iter().map(|(place, n)| format!("{place} {n}")).collect();
        writeln!(f, "loss by place        {}", losses.join(", "))?;
        let per_million = self.cpu_seconds / (self.received.max(1) as f64 / 1e6);
        writeln!(f, "CPU                  {per_million:.2} s per million flows ({:.2} s in all)", self.cpu_seconds)?;
        writeln!(f, "peak memory          {:.1} MiB", self.peak_rss_bytes / f64::from(1 << 20))?;
        match &self.complaints()[..] {
            [] => write!(f, "\nPASSED: every attack found, nothing lost, nobody wrongly alarmed"),
            complaints => write!(f, "\nFAILED: {}", complaints.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const T0: u64 = 1_767_225_600_000_000_000; // 2026-01-01T00:00:00Z

    fn truth() -> Truth {
        let line = |n: u64, kind: &str, entity: &str, target: &str| {
            json!({"attack": n, "kind": kind, "entity": entity, "target": target,
                "first_sent_ns": T0 + n * 60_000_000_000, "last_sent_ns": T0 + n * 60_000_000_000 + 9_000_000_000})
        };
        let lines = [
            line(0, "syn-flood", "dst_addr", "198.18.0.9"),
            line(1, "carpet-bombing", "dst_prefix", "198.18.7.0/24"),
            json!({"exporter": "127.0.0.11", "version": "v5", "flows": 600}),
            json!({"exporter": "127.0.0.12", "version": "v9", "flows": 400}),
        ];
        Truth::parse(&lines.map(|l| l.to_string()).join("\n")).unwrap()
    }

    fn open(at: &str, level: &str, entity: &str) -> Value {
        json!({"event": "open", "emitted_at": at, "severity": "high", "kind": "k", "message": "m",
            "entity": {"kind": level, "value": entity},
            "evidence": [{"feature": "packets_per_s", "value": 30_100.0, "expected": 1000.0, "contribution": 1.0}]})
    }

    fn good() -> Vec<Value> {
        vec![
            open("2026-01-01T00:00:02.5Z", "dst_addr", "198.18.0.9"),
            open("2026-01-01T00:00:03Z", "dst_prefix", "198.18.0.0/24"), // covers the first target
            open("2026-01-01T00:01:01.25Z", "dst_prefix", "198.18.7.0/24"),
            open("2026-01-01T00:01:02Z", "dst_addr", "198.18.7.200"), // lies in the second
            json!({"event": "close", "emitted_at": "2026-01-01T00:02:00Z"}),
        ]
    }

    fn summary() -> Value {
        json!({"uptime_seconds": 70.0, "cpu_seconds": 0.002, "peak_rss_bytes": 104_857_600, "counters": {
            "kaminari_decode_flows_total{component_id=\"edge\",version=\"5\"}": 600,
            "kaminari_decode_flows_total{component_id=\"edge\",version=\"9\"}": 400,
            "kaminari_window_records_total{pipeline=\"ddos\"}": 1000,
            "kaminari_window_late_records_total{pipeline=\"ddos\",disposition=\"accepted\"}": 3}})
    }

    #[test]
    fn a_clean_run_passes_with_its_figures() {
        let report = Report::new(&truth(), &good(), &Summary::parse(&summary()).unwrap()).unwrap();
        assert!(report.passed(), "{report}");
        assert_eq!(report.delays(), [("syn-flood", Some(2.5)), ("carpet-bombing", Some(1.25))]);
        let text = report.to_string();
        for part in [
            "2.50 s",
            "1.25 s",
            "00:00:02.500",
            "packets_per_s 30.1k (expected 1.0k)",
            "2.00 s per million",
            "kernel drops 0,",
            "100.0 MiB",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn whatever_goes_wrong_is_said() {
        let fails = |truth: &Truth, events: &[Value], summary: &Value, why: &str| {
            let report = Report::new(truth, events, &Summary::parse(summary).unwrap()).unwrap();
            assert!(!report.passed() && report.to_string().contains(why), "{why} in\n{report}");
        };
        fails(&truth(), &good()[1..], &summary(), "syn-flood on 198.18.0.9 was missed");
        let mut events = good();
        events.push(open("2026-01-01T00:00:05Z", "dst_addr", "198.18.44.1"));
        fails(&truth(), &events, &summary(), "1 false alarms");
        // The right host long before its attack is a false alarm too, and finds nothing.
        let early = open("2025-12-31T23:59:00Z", "dst_addr", "198.18.0.9");
        fails(&truth(), &[early, good()[2].clone()], &summary(), "was missed; 1 false alarms");
        let with = |name: &str, n: u64| {
            let mut s = summary();
            s["counters"][name] = n.into();
            s
        };
        let short = with("kaminari_window_records_total{pipeline=\"ddos\"}", 999);
        fails(&truth(), &good(), &short, "1000 flows sent, 1000 received, 999 windowed");
        let late = with("kaminari_window_late_records_total{pipeline=\"ddos\",disposition=\"dropped\"}", 2);
        fails(&truth(), &good(), &late, "late records dropped: 2");
        let gap = with("kaminari_decode_sequence_gap_total{component_id=\"edge\",version=\"9\"}", 1);
        fails(&truth(), &good(), &gap, "exporter sequence gaps: 1");
        fails(&Truth { attacks: vec![], exporters: truth().exporters }, &[], &summary(), "no attack was sent");
        assert!(Summary::parse(&json!({})).is_err());
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([2.24e9, 1.5e6, 30_100.0, 320.0, 0.97].map(short), ["2.24G", "1.50M", "30.1k", "320", "0.97"]);
        assert_eq!(clock(i128::from(T0) + 3_723_004_000_000), "01:02:03.004");
    }
}
