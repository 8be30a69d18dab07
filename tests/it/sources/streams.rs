//! TCP and unix sockets.

use super::{config, connections, flows, line, lines, listening, refused, told};
use crate::kafka::engine::{Engine, wait_for};
use kaminari_tests::run;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

const LINES: &str = "type = \"tcp\"\nlisten = \"127.0.0.1:0\"\ndecode = { format = \"jsonl\" }\n";

/// Waits until the other side has closed the connection.
fn closed(mut stream: &TcpStream) {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    match stream.read(&mut [0; 1]) {
        Ok(0) => {}
        Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("not closed: {other:?}"),
    }
}

#[test]
fn a_flood_in_lines_over_tcp_is_told_from_five_hundred_connections() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, at) = listening(dir.path(), LINES);
    let mut senders: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(at).unwrap()).collect();
    // Each a few whole lines and the begin of one, in two pieces; the last line has no end.
    for (n, sender) in senders.iter_mut().enumerate() {
        let text = lines(n * 10..n * 10 + 9) + &line(n * 10 + 9, 1_000);
        let (first, _) = text.split_at(text.len() / 2);
        sender.write_all(first.as_bytes()).unwrap();
    }
    for (n, sender) in senders.iter_mut().enumerate() {
        let text = lines(n * 10..n * 10 + 9) + &line(n * 10 + 9, 1_000);
        let (_, second) = text.split_at(text.len() / 2);
        sender.write_all(second.as_bytes()).unwrap();
    }
    drop(senders);
    told(dir.path());
    let summary = engine.stop();
    assert_eq!(flows(&summary), 5_000);
    assert_eq!(connections(&summary, "closed", "peer"), 500);
    assert_eq!(connections(&summary, "refused", ""), 0);
}

/// Bytes that a socket of this port has to send, or that are not acknowledged yet.
fn unacknowledged(port: u16) -> u64 {
    let local = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let queues = rows.filter(|row| row.get(1).is_some_and(|at| at.ends_with(&local)));
    queues.map(|row| u64::from_str_radix(row[4].split(':').next().unwrap(), 16).unwrap()).sum()
}

#[test]
fn an_engine_that_does_not_keep_up_makes_the_sender_wait_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, at) = listening(dir.path(), &format!("{LINES}queue_bytes = 1"));
    let mut sender = TcpStream::connect(at).unwrap();
    sender.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let text = lines(0..300_000);
    engine.hang();
    let (mut sent, mut waited) = (0, false);
    while sent < text.len() {
        match sender.write(&text.as_bytes()[sent..]) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock && !waited => {
                waited = true;
                engine.go_on();
                sender.set_write_timeout(None).unwrap();
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert!(waited, "the engine hung, and all went out");
    let from = sender.local_addr().unwrap().port();
    drop(sender);
    // A stop reads what the kernel has acknowledged: what the sender's own kernel still holds is not.
    wait_for("the acknowledgement", || (unacknowledged(from) == 0).then_some(()));
    let summary = engine.stop();
    assert_eq!(flows(&summary), 300_000);
}

#[test]
fn what_is_refused_is_counted_by_reason() {
    let dir = tempfile::tempdir().unwrap();
    let source = format!(
        "{LINES}framing = {{ type = \"auto\", max_frame_bytes = 200 }}\nframe_timeout_secs = 1\nmax_connections = 3"
    );
    let (engine, at) = listening(dir.path(), &source);
    let mut good = TcpStream::connect(at).unwrap();
    let text = line(1, 1);
    // A line, a frame with its count, one that is too long, and one more.
    let frames = format!("{text}\n{} {text}{}\n{text}\n", text.len(), "x".repeat(300));
    good.write_all(frames.as_bytes()).unwrap();
    // Slow: a frame that trickles in, a byte now and then.
    let slow = TcpStream::connect(at).unwrap();
    let mut trickle = slow.try_clone().unwrap();
    let trickling = std::thread::spawn(move || {
        for _ in 0..600 {
            if trickle.write_all(b"9").is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    closed(&slow);
    trickling.join().unwrap();
    // A length that cannot be.
    let mut wrong = TcpStream::connect(at).unwrap();
    wrong.write_all(b"9999999999 x").unwrap();
    closed(&wrong);
    // Broken off within a frame whose length was said.
    let mut broken = TcpStream::connect(at).unwrap();
    broken.write_all(b"100 abc").unwrap();
    broken.shutdown(Shutdown::Write).unwrap();
    closed(&broken);
    let others: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(at).unwrap()).collect();
    closed(&TcpStream::connect(at).unwrap());
    drop(others);
    let summary = engine.stop();
    assert_eq!(flows(&summary), 3);
    assert_eq!((refused(&summary, "oversized"), refused(&summary, "incomplete")), (2, 1));
    for (what, reason) in [("closed", "slow"), ("closed", "framing"), ("closed", "stop"), ("refused", "limit")] {
        assert_eq!(connections(&summary, what, reason), 1, "{what} {reason}: {summary:#}");
    }
}

#[test]
fn netflow_behind_lengths() {
    let dir = tempfile::tempdir().unwrap();
    let source = "type = \"tcp\"\nlisten = \"127.0.0.1:0\"\nframing = { type = \"length_prefixed\", length_bytes = 2 }";
    let (engine, at) = listening(dir.path(), source);
    let mut sender = TcpStream::connect(at).unwrap();
    // Version 5, one record, all zero.
    let datagram: Vec<u8> = [0, 5, 0, 1].into_iter().chain([0; 20 + 48]).collect();
    for _ in 0..100 {
        sender.write_all(&(datagram.len() as u16).to_be_bytes()).unwrap();
        sender.write_all(&datagram).unwrap();
    }
    drop(sender);
    assert_eq!(flows(&engine.stop()), 100);
}

#[test]
fn unix_sockets_of_both_kinds() {
    for kind in ["stream", "datagram"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.sock");
        let source = format!("type = \"unix\"\npath = \"in.sock\"\nkind = {kind:?}\ndecode = {{ format = \"jsonl\" }}");
        // As a process that was killed leaves it.
        drop(UnixDatagram::bind(&path).unwrap());
        let mut engine = Engine::start(dir.path(), "engine", &config(&source));
        engine.says("running after");
        // A second engine must not take it away.
        let second = dir.path().join("engine.toml");
        let output = run(["run".as_ref(), "-c".as_ref(), second.as_os_str()]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{stderr}");
        assert!(stderr.contains("source_unusable") && stderr.contains("another process listens there"), "{stderr}");
        if kind == "stream" {
            UnixStream::connect(&path).unwrap().write_all(lines(0..20_000).as_bytes()).unwrap();
        } else {
            let sender = UnixDatagram::unbound().unwrap();
            for n in 0..20_000 {
                sender.send_to(line(n, 1).as_bytes(), &path).unwrap();
            }
        }
        assert_eq!(flows(&engine.stop()), 20_000, "{kind}");
        assert!(!path.exists());
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let keep = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = keep.local_addr().unwrap().to_string();
    let path = dir.path().join("kaminari.toml");
    std::fs::write(&path, config(&LINES.replace("127.0.0.1:0", &taken))).unwrap();
    let output = run(["run".as_ref(), "-c".as_ref(), path.as_os_str()]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&taken) && stderr.contains("[sources.in]"), "{stderr}");
}
