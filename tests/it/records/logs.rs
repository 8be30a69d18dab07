//! Who guesses passwords over SSH, found in a real log, over every way that syslog comes.

use crate::kafka::engine::{Engine, counted, wait_for};
use crate::sources::tls;
use flate2::read::GzDecoder;
use kaminari_tests::{kaminari, plugin, root, shared};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

fn unpacked(name: &str) -> Option<String> {
    let path = shared(&format!("data/logs/{name}"))?;
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    Some(text)
}

/// Sources with at least ten bad lines, as the labels have them.
fn guessers() -> Option<BTreeSet<String>> {
    let labels = unpacked("OpenSSH_labels.csv.gz")?;
    let mut bad: BTreeMap<String, usize> = BTreeMap::new();
    for line in labels.lines().filter(|l| l.trim_end().ends_with(",1")) {
        let is_address = |word: &&str| word.split('.').count() == 4 && word.parse::<std::net::Ipv4Addr>().is_ok();
        let mut words = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
        if let Some(address) = words.rfind(is_address) {
            *bad.entry(address.to_owned()).or_default() += 1;
        }
    }
    Some(bad.into_iter().filter(|(_, n)| *n >= 10).map(|(address, _)| address).collect())
}

/// The example configuration, with another source.
fn config(source: &str) -> String {
    let text = std::fs::read_to_string(root().join("configs/ssh-bruteforce.toml")).unwrap();
    let (_, rest) = text.split_once("decode = { plugin = \"syslog\" }").expect("the example decodes by the plugin");
    let rest = rest.replace("../target/plugins/", &format!("{}/", plugin("syslog-source").parent().unwrap().display()));
    let rest = rest.replace("type = \"stdout\"", "type = \"file\"\npath = \"incidents.jsonl\"");
    format!("[sources.syslog]\n{source}\ndecode = {{ plugin = \"syslog\" }}\n{rest}")
}

/// Every one opened once, and closed.
fn judged(lines: &str) -> BTreeSet<String> {
    let mut opened = Vec::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["event"] == "open" {
            assert_eq!(event["kind"], "ssh-brute-force");
            opened.push(event["entity"]["value"].as_str().unwrap().to_owned());
        }
    }
    let once: BTreeSet<String> = opened.iter().cloned().collect();
    assert_eq!(once.len(), opened.len(), "one incident for each: {opened:?}");
    once
}

#[test]
fn every_guesser_in_a_file_is_one_incident() {
    let Some(expected) = guessers() else { return };
    assert_eq!(expected.len(), 9);
    let input = shared("data/logs/OpenSSH_2k.log.gz").unwrap();
    let config = root().join("configs/ssh-bruteforce.toml");
    let run = || kaminari().args(["--quiet", "replay", "-c"]).arg(&config).arg("--input").arg(&input).output().unwrap();
    let first = run();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let told = String::from_utf8(first.stdout).unwrap();
    assert_eq!(judged(&told), expected);
    let without = |text: &str| {
        let event = |line: &str| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            event.as_object_mut().unwrap().remove("emitted_at");
            event
        };
        text.lines().map(event).collect::<Vec<_>>()
    };
    let again = String::from_utf8(run().stdout).unwrap();
    assert_eq!(without(&again), without(&told), "a replay repeats exactly");
}

/// Starts an engine with that source; where it listens.
fn start(dir: &Path, source: &str) -> (Engine, SocketAddr) {
    let mut engine = Engine::start(dir, "engine", &config(source));
    engine.says("running after");
    let log = engine.log();
    let rest = log.split_once("listening on ").unwrap_or_else(|| panic!("{log}")).1;
    let address = rest.split_whitespace().nth(1).unwrap().parse().unwrap();
    (engine, address)
}

#[test]
fn the_same_guessers_over_udp_tcp_and_tls() {
    let (Some(expected), Some(log)) = (guessers(), unpacked("OpenSSH_2k.log.gz")) else { return };
    let lines: Vec<String> = log.lines().map(|line| format!("<86>{}", line.trim_end())).collect();
    type Send<'s> = &'s dyn Fn(SocketAddr, &Path);
    let udp: Send = &|to, _| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (i, line) in lines.iter().enumerate() {
            socket.send_to(line.as_bytes(), to).unwrap();
            if i % 50 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    };
    let tcp: Send = &|to, _| {
        // Octet counting and lines on one connection (RFC 6587 tells them apart by the first byte).
        let mut stream = TcpStream::connect(to).unwrap();
        let frame = |(i, line): (usize, &String)| match i % 2 {
            0 => format!("{} {line}", line.len()),
            _ => format!("{line}\n"),
        };
        let all: String = lines.iter().enumerate().map(frame).collect();
        stream.write_all(all.as_bytes()).unwrap();
    };
    let tls: Send = &|to, dir| {
        let all: String = lines.iter().map(|line| format!("{} {line}", line.len())).collect();
        tls::send(dir, to, None, &all).unwrap();
    };
    let listen = "listen = \"127.0.0.1:0\"";
    for (name, source, send) in [
        ("udp", format!("type = \"udp\"\n{listen}\nreceive_buffer_bytes = 4194304"), udp),
        ("tcp", format!("type = \"tcp\"\n{listen}\nframing = {{ type = \"auto\" }}"), tcp),
        (
            "tls",
            format!(
                "type = \"tcp\"\n{listen}\nframing = {{ type = \"octet_counted\" }}\ntls = {{ cert = \"server.pem\", key = \"server.key\" }}"
            ),
            tls,
        ),
    ] {
        let dir = tls::folder();
        let (engine, to) = start(dir.path(), &source);
        send(to, dir.path());
        wait_for("the last guesser", || {
            let told = std::fs::read_to_string(dir.path().join("incidents.jsonl")).unwrap_or_default();
            told.contains("183.62.140.253").then_some(())
        });
        let summary = engine.stop();
        assert_eq!(counted(&summary, "kaminari_window_records_total", ""), 2000.0, "{name}: {summary}");
        assert_eq!(counted(&summary, "kaminari_decode_errors_total", ""), 0.0, "{name}: {summary}");
        let told = std::fs::read_to_string(dir.path().join("incidents.jsonl")).unwrap();
        assert_eq!(judged(&told), expected, "{name}");
    }
}
