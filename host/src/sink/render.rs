//! An event as one line for a person. Text of plugins is shown without its control characters.

use crate::model::Severity;
use crate::model::incident::{Evidence, IncidentEvent, IncidentEventKind};
use std::fmt::Write;

/// Features shown per line.
const TOP: usize = 3;

/// Time, what happened, how bad, who, what; then the features that made the detector speak. No newline at the end.
pub fn line(e: &IncidentEvent, colour: bool) -> String {
    let mut out = String::new();
    let (name, code) = match e.event {
        IncidentEventKind::Open => ("OPEN  ", "31;1"),
        IncidentEventKind::Update => ("UPDATE", "33"),
        IncidentEventKind::Close => ("CLOSE ", "32"),
        IncidentEventKind::Notice => ("NOTICE", "36"),
    };
    let severity = format!("{:<8}", e.severity.name());
    let mut put = |text: &str| out.push_str(text);
    put(&e.emitted_at);
    put(" ");
    put(&paint(name, code, colour));
    put(" ");
    put(&paint(&severity, if e.severity >= Severity::High { "1" } else { "0" }, colour));
    put(&format!(" {} {}  {}: {}", e.entity.kind, e.entity.value, plain(&e.kind), plain(&e.message)));
    if e.covered > 0 {
        put(&format!("; covers {} {}", e.covered, plural(e.covered, "host")));
    }
    if let Some(reason) = &e.close_reason {
        put(&format!(
            "; closed ({}) after {} {}",
            plain(reason),
            e.windows_alerted,
            plural(e.windows_alerted, "window")
        ));
    }
    if !e.evidence.is_empty() {
        let features: Vec<String> = e.evidence.iter().take(TOP).map(feature).collect();
        put(&paint(&format!(" [{}]", features.join(", ")), "2", colour));
    }
    out
}

fn feature(e: &Evidence) -> String {
    let mut out = format!("{} {}", plain(&e.feature), humanise(&e.feature, e.value));
    if let Some(expected) = e.expected {
        let _ = write!(out, " vs {}", humanise(&e.feature, expected));
    }
    out
}

/// A feature's value with its unit, which its name tells.
pub fn humanise(feature: &str, value: f64) -> String {
    let is = |words: &[&str]| words.iter().any(|w| feature.contains(w));
    if feature.ends_with("_share") {
        return format!("{:.1} %", value * 100.0);
    }
    if is(&["bits_per_s", "bps"]) {
        return scaled(value, " ", "bit/s");
    }
    if is(&["packets_per_s", "pps"]) {
        return scaled(value, " ", "pps");
    }
    if is(&["flows_per_s", "fps"]) {
        return scaled(value, " ", "flows/s");
    }
    if feature == "bytes" {
        return scaled(value, " ", "B");
    }
    scaled(value, "", "")
}

/// Three digits and an SI prefix: 2.2 G, 201 k, 0.05.
fn scaled(value: f64, space: &str, unit: &str) -> String {
    const PREFIXES: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    let (mut v, mut i) = (value, 0);
    // 999.5 and more would be rounded to four digits.
    while v.abs() >= 999.5 && i + 1 < PREFIXES.len() {
        v /= 1000.0;
        i += 1;
    }
    let digits = match v.abs() {
        a if a >= 99.95 => 0,
        a if a >= 9.995 => 1,
        _ => 2,
    };
    let mut text = format!("{v:.digits$}");
    if digits > 0 {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    format!("{text}{space}{}{unit}", PREFIXES[i])
}

fn plural(n: u32, word: &str) -> String {
    if n == 1 { word.into() } else { format!("{word}s") }
}

fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
}

/// Plugins write messages and names: a terminal must not obey them, and one event stays one line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::fixtures::event;

    #[test]
    fn lines_for_people() {
        let close = event();
        let open = IncidentEvent {
            event: IncidentEventKind::Open,
            covered: 0,
            closed_at: None,
            close_reason: None,
            ..close.clone()
        };
        let notice = IncidentEvent {
            event: IncidentEventKind::Notice,
            severity: Severity::Low,
            message: "4 incidents\nwithheld\x1b[2J".into(),
            evidence: vec![],
            ..open.clone()
        };
        insta::assert_snapshot!(line(&open, false), @"2026-11-23T06:41:01Z OPEN   high     dst_prefix 192.0.2.0/24  udp-amplification: bits_per_s 4.4 times its limit [bits_per_s 2.2 Gbit/s vs 500 Mbit/s, packets_per_s 201 kpps vs 52.3 kpps, amp_port_share 97.3 %]");
        insta::assert_snapshot!(line(&close, false), @"2026-11-23T06:41:01Z CLOSE  high     dst_prefix 192.0.2.0/24  udp-amplification: bits_per_s 4.4 times its limit; covers 250 hosts; closed (quiet) after 55 windows [bits_per_s 2.2 Gbit/s vs 500 Mbit/s, packets_per_s 201 kpps vs 52.3 kpps, amp_port_share 97.3 %]");
        insta::assert_snapshot!(line(&notice, false), @"2026-11-23T06:41:01Z NOTICE low      dst_prefix 192.0.2.0/24  udp-amplification: 4 incidents withheld [2J");
        insta::assert_snapshot!(line(&open, true).replace('\x1b', "ESC"), @"2026-11-23T06:41:01Z ESC[31;1mOPEN  ESC[0m ESC[1mhigh    ESC[0m dst_prefix 192.0.2.0/24  udp-amplification: bits_per_s 4.4 times its limitESC[2m [bits_per_s 2.2 Gbit/s vs 500 Mbit/s, packets_per_s 201 kpps vs 52.3 kpps, amp_port_share 97.3 %]ESC[0m");
    }

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        let cases = [
            ("bits_per_s", 2.2e9, "2.2 Gbit/s"),
            ("packets_per_s", 201_000.0, "201 kpps"),
            ("packets_per_s", 999_600.0, "1 Mpps"),
            ("bits_per_s", 12_340.0, "12.3 kbit/s"),
            ("bytes", 100.0, "100 B"),
            ("syn_share", 0.973, "97.3 %"),
            ("entropy_src", 7.126, "7.13"),
            ("uniq_src", 18_233.0, "18.2k"),
            ("flows", 0.0, "0"),
            ("flows", -1500.0, "-1.5k"),
            ("bits_per_s", 3e18, "3000 Pbit/s"),
        ];
        for (name, value, text) in cases {
            assert_eq!(humanise(name, value), text, "{name} {value}");
        }
    }
}
