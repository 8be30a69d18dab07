use super::*;
use crate::template::{Bounds, Miner};
use flate2::read::GzDecoder;
use proptest::prelude::*;
use std::io::Read;
use std::path::Path;

/// 2024-10-12 00:00:00 UTC.
const RECEIVED: u64 = 1_728_691_200_000_000_000;
/// 2024-10-11 22:14:15 UTC.
const AT: u64 = 1_728_684_855_000_000_000;

fn read(line: &str) -> Message<'_> {
    parse(line, RECEIVED, &Options::default()).unwrap_or_else(|e| panic!("{line}: {e:?}"))
}

/// Host, app, process, type and text of a line.
fn fields(line: &str) -> [&str; 5] {
    let m = read(line);
    [m.host, m.app, m.procid, m.msgid, Some(m.text)].map(Option::unwrap_or_default)
}

#[test]
fn rfc5424_as_in_its_examples() {
    let m = read(
        "<34>1 2024-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed for lonvick on /dev/pts/8",
    );
    assert_eq!((m.facility, m.severity, m.time_ns), (Some(4), Some(2), Some(AT + 3_000_000)));
    assert_eq!((m.host, m.app, m.procid, m.msgid), (Some("mymachine.example.com"), Some("su"), None, Some("ID47")));
    assert_eq!((m.structured_data, m.text), (None, "'su root' failed for lonvick on /dev/pts/8"));

    let m = read(
        "<165>1 2024-10-11T22:14:15+00:00 192.0.2.1 myproc 8710 - [exampleSDID@32473 iut=\"3\" eventSource=\"App\\]l\\\"ic\\\\ation\"][examplePriority@32473 class=\"high\"] it works",
    );
    assert_eq!((m.host, m.app, m.procid, m.text), (Some("192.0.2.1"), Some("myproc"), Some("8710"), "it works"));
    let data = params(m.structured_data.unwrap());
    let data: Vec<(&str, &str, &str)> = data.iter().map(|(id, name, value)| (*id, *name, &**value)).collect();
    assert_eq!(
        data,
        [
            ("exampleSDID@32473", "iut", "3"),
            ("exampleSDID@32473", "eventSource", "App]l\"ic\\ation"),
            ("examplePriority@32473", "class", "high")
        ]
    );
    let m = read("<13>1 - - - - - [a@1]");
    assert_eq!(
        m,
        Message { facility: Some(1), severity: Some(5), structured_data: Some("[a@1]"), ..Message::default() }
    );
    assert_eq!(fields("<13>1 - host app"), ["host", "app", "", "", ""], "broken off");
    assert_eq!(fields("<13>1 - h a p m [open x=\"]\" text")[4], "[open x=\"]\" text", "data without an end is text");
    assert_eq!(read("<134>1 1728684855.5 dc1 events type=flow").time_ns, Some(AT + 500_000_000));
}

#[test]
fn rfc3164_as_in_its_examples() {
    let m = read("<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8");
    assert_eq!((m.facility, m.severity, m.time_ns), (Some(4), Some(2), Some(AT)));
    assert_eq!((m.host, m.app, m.procid), (Some("mymachine"), Some("su"), None));
    assert_eq!(m.text, "'su root' failed for lonvick on /dev/pts/8");
    // No header at all: a relay would add one, the text is all of it.
    assert_eq!(fields("<13>Use the BFG!"), ["", "", "", "", "Use the BFG!"]);
    assert_eq!(read("<13>Use the BFG!").time_ns, None);
}

#[test]
fn what_devices_and_files_do() {
    for (line, expected) in [
        (
            "Oct 11 22:14:15 web1 sshd[24200]: Failed password for root from 198.51.100.7 port 22 ssh2",
            ["web1", "sshd", "24200", "", "Failed password for root from 198.51.100.7 port 22 ssh2"],
        ),
        ("<38>Oct 11 22:14:15 sshd[7]: no host", ["", "sshd", "7", "", "no host"]),
        ("<38>Oct 11 22:14:15 su: no host", ["", "su", "", "", "no host"]),
        ("<38> Oct 11 22:14:15 web1 postfix/smtpd[5]: x", ["web1", "postfix/smtpd", "5", "", "x"]),
        ("2024-10-11T22:14:15.000+00:00 web1 sshd(pam_unix)[24]: x", ["web1", "sshd(pam_unix)", "24", "", "x"]),
        ("<38>2024-10-11T22:14:15Z web1 kernel: [ 12.5] x", ["web1", "kernel", "", "", "[ 12.5] x"]),
        ("<38>Oct 11 2024 22:14:15 web1 cron[1]: x", ["web1", "cron", "1", "", "x"]),
        ("<38>Oct 11 22:14:15 2001:db8::7 cron[1]: x", ["2001:db8::7", "cron", "1", "", "x"]),
        (
            "<38>Oct 11 22:14:15 192.0.2.7 last message repeated 3 times",
            ["192.0.2.7", "", "", "", "last message repeated 3 times"],
        ),
        ("Oct 11 22:14:15 - app: x", ["", "app", "", "", "x"]),
        ("\u{feff}<38>Oct 11 22:14:15 web1 app:\tx\r\n\0", ["web1", "app", "", "", "\tx"]),
        (
            "<189>45: *Oct 11 22:14:15.000: %SYS-5-CONFIG_I: Configured from console",
            ["", "SYS", "", "SYS-5-CONFIG_I", "Configured from console"],
        ),
        (
            "<189>45: 000046: Oct 11 22:14:15 UTC: %LINK-3-UPDOWN: Interface Gi0/1, changed state to up",
            ["", "LINK", "", "LINK-3-UPDOWN", "Interface Gi0/1, changed state to up"],
        ),
        (
            "<189>45: router1: .Oct 11 22:14:15.000 UTC: %SEC_LOGIN-4-LOGIN_FAILED: x",
            ["router1", "SEC_LOGIN", "", "SEC_LOGIN-4-LOGIN_FAILED", "x"],
        ),
        (
            "<166>Oct 11 2024 22:14:15: %ASA-6-302013: Built inbound TCP",
            ["", "ASA", "", "ASA-6-302013", "Built inbound TCP"],
        ),
        (
            "<166>Oct 11 2024 22:14:15 fw1 : %ASA-6-302013: Built inbound TCP",
            ["fw1", "ASA", "", "ASA-6-302013", "Built inbound TCP"],
        ),
    ] {
        assert_eq!(fields(line), expected, "{line}");
        assert_eq!(read(line).time_ns, Some(AT), "{line}");
    }
    let uptime = read("<189>46: 1w2d: %SYS-5-RESTART: System restarted");
    assert_eq!((uptime.time_ns, uptime.host, uptime.msgid), (None, None, Some("SYS-5-RESTART")));
    let bare = read("%LINEPROTO-5-UPDOWN: Line protocol on Interface Gi0/1");
    assert_eq!((bare.facility, bare.severity, bare.msgid), (None, Some(5), Some("LINEPROTO-5-UPDOWN")));
    let east = Options { offset_secs: 7200, year: Some(2024) };
    assert_eq!(parse("Oct 12 00:14:15 h a: x", 0, &east).unwrap().time_ns, Some(AT));
}

#[test]
fn what_is_no_message_is_refused_by_reason() {
    for (line, why) in [
        ("", Refusal::Empty),
        (" \r\n\0", Refusal::Empty),
        ("<192>Oct 11 22:14:15 h a: x", Refusal::BadPriority),
        ("<>x", Refusal::BadPriority),
        ("<+13>x", Refusal::BadPriority),
        ("<13", Refusal::BadPriority),
        ("<html>", Refusal::BadPriority),
        ("GET / HTTP/1.0", Refusal::NoHeader),
        ("sshd[1]: no time", Refusal::NoHeader),
        ("Oct 32 22:14:15 h a: x", Refusal::NoHeader),
    ] {
        assert_eq!(parse(line, RECEIVED, &Options::default()), Err(why), "{line}");
    }
    let names: std::collections::BTreeSet<_> = Refusal::ALL.map(Refusal::name).into();
    assert_eq!(names.len(), Refusal::ALL.len());
    assert_eq!(text(b"ab\xffc"), ("ab\u{fffd}c".into(), true));
    assert_eq!(text(b"abc"), ("abc".into(), false));
}

proptest! {
    #[test]
    fn no_line_makes_it_panic(line in "\\PC{0,60}", begin in 0usize..6) {
        let begin = ["", "<13>", "<13>1 - h a p m [", "<13>Oct 11 22:14:15 ", "<13>45: ", "- 1118536327 2005.06.11 "][begin];
        let line = format!("{begin}{line}");
        if let Ok(message) = parse(&line, RECEIVED, &Options::default()) {
            prop_assert!(line.contains(message.text));
            params(message.structured_data.unwrap_or(message.text));
        }
    }

    /// What is well formed is read as somebody else reads it.
    #[test]
    fn well_formed_messages_have_a_second_opinion(
        priority in 0u8..192, host in "[a-z][a-z0-9.-]{0,20}", app in "[a-z][a-z0-9_-]{0,20}", procid in "[1-9][0-9]{0,5}", msgid in "[A-Z0-9]{1,8}",
        value in "[ -~&&[^\"\\\\\\]]]{0,20}", text in "[a-z][ -~]{0,40}[a-z]", micros in 0u32..1_000_000,
    ) {
        let line = format!("<{priority}>1 2024-10-11T22:14:15.{micros:06}Z {host} {app} {procid} {msgid} [x@1 k=\"{value}\"] {text}");
        let (ours, theirs) = (read(&line), syslog_loose::parse_message(&line, syslog_loose::Variant::RFC5424));
        prop_assert_eq!(ours.time_ns.map(|ns| ns as i64), theirs.timestamp.and_then(|t| t.timestamp_nanos_opt()));
        prop_assert_eq!(ours.facility, theirs.facility.map(|f| f as u8));
        prop_assert_eq!(ours.severity, theirs.severity.map(|s| s as u8));
        prop_assert_eq!((ours.host, ours.app, ours.msgid, ours.text), (theirs.hostname, theirs.appname, theirs.msgid, theirs.msg));
        prop_assert_eq!(ours.procid.map(str::to_owned), theirs.procid.map(|p| p.to_string()));
        let data = params(ours.structured_data.unwrap());
        let other: Vec<(&str, &str)> = theirs.structured_data.iter().flat_map(|e| e.params.iter().map(|(k, v)| (*k, *v))).collect();
        prop_assert_eq!(data.iter().map(|(_, k, v)| (*k, &**v)).collect::<Vec<_>>(), other);

        let line = format!("<{priority}>Oct 11 22:14:15 {host} {app}[{procid}]: {text}");
        let (ours, theirs) = (read(&line), syslog_loose::parse_message(&line, syslog_loose::Variant::RFC3164));
        prop_assert_eq!((ours.host, ours.app, ours.text), (theirs.hostname, theirs.appname, theirs.msg));
        prop_assert_eq!(ours.procid.map(str::to_owned), theirs.procid.map(|p| p.to_string()));
    }
}

/// Real logs: every line is a message, and messages are of few kinds.
#[test]
fn real_logs_are_read_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/logs");
    for (name, templates) in [("OpenSSH_2k.log.gz", 20..80), ("BGL_2k.log.gz", 60..320)] {
        let Ok(file) = std::fs::File::open(folder.join(name)) else {
            println!("SKIPPED: {name}: no ../shared beside the repository");
            continue;
        };
        let mut log = String::new();
        GzDecoder::new(file).read_to_string(&mut log).unwrap();
        let options = Options { year: Some(2016), ..Options::default() };
        let (mut miner, mut lines, mut last) = (Miner::new(Bounds::default()), 0, 0);
        let mut ids = std::collections::BTreeSet::new();
        for line in log.lines() {
            let message = parse(line, 0, &options).unwrap_or_else(|e| panic!("{name}: {line}: {e:?}"));
            let at = message.time_ns.unwrap();
            assert!(at >= last && message.host.is_some() && message.app.is_some(), "{name}: {line}");
            last = at;
            lines += 1;
            ids.insert(miner.add(message.text).id);
        }
        println!("{name}: {lines} lines, {} templates", ids.len());
        assert_eq!(lines, 2000, "{name}");
        assert!(templates.contains(&ids.len()), "{name}: {} templates", ids.len());
    }
}
