//! Connections while their source changes: over TCP, TLS and unix sockets.

use super::{Config, Engine, counted, wait_for};
use crate::sources::tls::{self, Authority};
use crate::sources::{line, lines};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Records that wait so long for one another.
const PAUSE: Duration = Duration::from_millis(1);

/// A sender on a thread of its own, until it is told to stop; records that it has sent.
struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Sender {
    fn start(run: impl FnOnce(&AtomicBool) -> u64 + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        Self { stop, thread: std::thread::spawn(move || run(&until)) }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// As real senders do: before each record it looks whether the other side has ended, and would then connect again; here nobody
/// ends it.
fn on_one_connection<S: Read + Write>(
    mut stream: S,
    nonblocking: fn(&S, bool) -> io::Result<()>,
    stop: &AtomicBool,
) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        nonblocking(&stream, true).unwrap();
        let end = stream.read(&mut [0; 1]);
        assert!(end.as_ref().is_err_and(|e| e.kind() == ErrorKind::WouldBlock), "the connection was ended: {end:?}");
        nonblocking(&stream, false).unwrap();
        // Whatever happens, happens within a record too.
        let text = line(sent, 1) + "\n";
        let (first, rest) = text.split_at(text.len() / 2);
        stream.write_all(first.as_bytes()).unwrap();
        std::thread::sleep(PAUSE);
        stream.write_all(rest.as_bytes()).unwrap();
        sent += 1;
    }
    sent as u64
}

/// A connection for each three records; none is refused.
fn on_many_connections(to: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(lines(sent..sent + 3).as_bytes()).unwrap();
        sent += 3;
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "it is read to its end, and then closed");
    }
    sent as u64
}

/// A configuration whose source is of this type.
fn with(kind: &str, source: &str) -> String {
    let config = Config { source: format!("{source}\ndecode = {{ format = \"jsonl\" }}"), ..Config::limit(50_000.0) };
    config.text().replace("type = \"udp\"", &format!("type = {kind:?}"))
}

fn windows(engine: &Engine) -> f64 {
    engine.metric("kaminari_window_fired_total", &["ddos"])
}

/// Changes the source to each of these in turn, with windows between.
fn goes_through(engine: &Engine, kind: &str, at: &str, tables: &[&str]) {
    for table in tables {
        let report = engine.becomes(&with(kind, &format!("{at}\n{table}")));
        let change = &report["diff"]["changes"][0];
        assert_eq!((&change["component"], &change["class"]), (&"sources.edge".into(), &"source-restart".into()));
        let before = windows(engine);
        wait_for("windows after it", || (windows(engine) > before).then_some(()));
    }
}

/// All that was sent was judged, in time.
fn nothing_is_lost(engine: Engine, sent: u64) {
    let summary = engine.stop();
    assert!(sent > 0);
    assert_eq!(counted(&summary, "kaminari_window_records_total", "ddos"), sent as f64, "{summary:#}");
    assert_eq!(counted(&summary, "kaminari_window_late_records_total", "dropped"), 0.0, "{summary:#}");
    assert_eq!(counted(&summary, "kaminari_source_refused_total", ""), 0.0, "{summary:#}");
    assert_eq!(counted(&summary, "kaminari_source_connections_refused_total", ""), 0.0, "{summary:#}");
}

#[test]
fn senders_over_tcp_do_not_notice_that_their_source_changes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(dir.path(), &with("tcp", "listen = \"127.0.0.1:0\""), &[]);
    let to = engine.listens("edge");
    let mut senders = vec![Sender::start(move |stop| on_many_connections(to, stop))];
    for _ in 0..3 {
        let stream = TcpStream::connect(to).unwrap();
        senders.push(Sender::start(move |stop| on_one_connection(stream, TcpStream::set_nonblocking, stop)));
    }
    wait_for("windows", || (windows(&engine) >= 2.0).then_some(()));
    let tables = [
        "max_connections = 100",
        "queue_bytes = 1048576",
        "frame_timeout_secs = 5",
        "framing = { max_frame_bytes = 9000 }",
        "",
    ];
    goes_through(&engine, "tcp", &format!("listen = \"{to}\""), &tables);
    let sent = senders.into_iter().map(Sender::stop).sum();
    nothing_is_lost(engine, sent);
}

#[test]
fn senders_over_unix_sockets_do_not_notice_either() {
    for kind in ["stream", "datagram"] {
        let dir = tempfile::tempdir().unwrap();
        let at = format!("path = \"s\"\nkind = {kind:?}");
        let engine = Engine::start(dir.path(), &with("unix", &at), &[]);
        let path = dir.path().join("s");
        let inode = path.metadata().unwrap().ino();
        let sender = match kind {
            "stream" => {
                let stream = UnixStream::connect(&path).unwrap();
                Sender::start(move |stop| on_one_connection(stream, UnixStream::set_nonblocking, stop))
            }
            _ => {
                let (socket, to) = (UnixDatagram::unbound().unwrap(), path.clone());
                Sender::start(move |stop| {
                    let mut sent = 0;
                    while !stop.load(Ordering::Relaxed) {
                        socket.send_to(line(sent, 1).as_bytes(), &to).unwrap();
                        sent += 1;
                        std::thread::sleep(PAUSE);
                    }
                    sent as u64
                })
            }
        };
        goes_through(&engine, "unix", &at, &["mode = \"0600\"", "queue_bytes = 1048576"]);
        let now = path.metadata().unwrap();
        assert_eq!((now.ino(), now.mode() & 0o777), (inode, 0o600 | 0o060), "the last table says nothing of it");
        let sent = sender.stop();
        nothing_is_lost(engine, sent);
        assert!(!path.exists());
    }
}

/// Waits until so many records have been judged.
fn judged(engine: &Engine, records: f64) {
    wait_for("records", || (engine.metric("kaminari_window_records_total", &["ddos"]) == records).then_some(()));
}

const TLS: &str = "tls = { cert = \"server.pem\", key = \"server.key\" }";

#[test]
fn a_renewed_certificate_is_taken_up_and_open_connections_go_on() {
    let dir = tls::folder();
    let dir = dir.path();
    let engine = Engine::start(dir, &with("tcp", &format!("listen = \"127.0.0.1:0\"\n{TLS}")), &[]);
    let to = engine.listens("edge");
    let text = with("tcp", &format!("listen = \"{to}\"\n{TLS}"));
    engine.becomes(&text);
    let mut old = tls::connect(dir, to, "ca", None).unwrap();
    old.write_all(lines(0..10).as_bytes()).unwrap();
    judged(&engine, 10.0);

    let next = Authority::new(dir, "next-ca");
    next.sign(dir, "server");
    assert!(tls::connect(dir, to, "next-ca", None).is_err(), "nobody has said so yet");
    let report = engine.becomes(&text);
    let change = &report["diff"]["changes"][0];
    assert_eq!(change["keys"], serde_json::json!(["sources.edge.tls.cert", "sources.edge.tls.key"]), "{report:#}");
    assert_eq!(change["class"], "source-restart");
    let mut new = tls::connect(dir, to, "next-ca", None).unwrap();
    assert!(tls::connect(dir, to, "ca", None).is_err());
    old.write_all(lines(0..10).as_bytes()).unwrap();
    new.write_all(lines(0..10).as_bytes()).unwrap();
    judged(&engine, 30.0);
    assert_eq!(engine.reload(&text).1["outcome"], "unchanged");

    // One that does not fit, and one that is none.
    std::fs::copy(dir.join("client.key"), dir.join("server.key")).unwrap();
    for broken in ["server.key", "server.pem"] {
        let (_, report) = engine.reload(&text);
        assert_eq!((&report["outcome"], &report["step"]), (&"refused".into(), &"build".into()), "{report:#}");
        assert!(report["errors"][0].as_str().unwrap().contains(broken), "{report:#}");
        std::fs::write(dir.join("server.pem"), "no certificate").unwrap();
    }
    tls::connect(dir, to, "next-ca", None).unwrap().write_all(lines(0..10).as_bytes()).unwrap();
    old.write_all(lines(0..10).as_bytes()).unwrap();
    judged(&engine, 50.0);
    next.sign(dir, "server");
    engine.becomes(&text);
    old.write_all(lines(0..10).as_bytes()).unwrap();
    judged(&engine, 60.0);
}

#[test]
fn the_watch_sees_a_renewed_certificate() {
    let dir = tls::folder();
    let dir = dir.path();
    let engine = Engine::start(dir, &with("tcp", &format!("listen = \"127.0.0.1:0\"\n{TLS}")), &["--watch"]);
    let to = engine.listens("edge");
    let mut old = tls::connect(dir, to, "ca", None).unwrap();
    Authority::new(dir, "next-ca").sign(dir, "server");
    let mut new = wait_for("the new certificate", || tls::connect(dir, to, "next-ca", None).ok());
    old.write_all(lines(0..10).as_bytes()).unwrap();
    new.write_all(lines(0..10).as_bytes()).unwrap();
    judged(&engine, 20.0);
    assert_eq!(engine.reported("applied", 1)["trigger"], "watch");
}

/// Writes, and goes on reading until the other side has ended.
fn until_its_end(stream: &mut (impl Read + Write)) {
    stream.write_all(lines(0..10).as_bytes()).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "told the end, not broken off");
}

#[test]
fn who_would_not_be_let_in_any_more_is_told_the_end_and_heard_out() {
    let dir = tls::folder();
    let dir: &Path = dir.path();
    let engine = Engine::start(dir, &with("tcp", "listen = \"127.0.0.1:0\""), &[]);
    let to = engine.listens("edge");
    let mut plain = TcpStream::connect(to).unwrap();
    plain.write_all(lines(0..10).as_bytes()).unwrap();
    judged(&engine, 10.0);
    engine.becomes(&with("tcp", &format!("listen = \"{to}\"\n{TLS}")));
    until_its_end(&mut plain);
    // It has been told, and what it has in hand still counts.
    plain.write_all(lines(0..10).as_bytes()).unwrap();
    drop(plain);
    judged(&engine, 30.0);

    let mut stranger = tls::connect(dir, to, "ca", None).unwrap();
    let mut client = tls::connect(dir, to, "ca", Some("client")).unwrap();
    let asks = TLS.replace(" }", ", client_ca = \"ca.pem\" }");
    engine.becomes(&with("tcp", &format!("listen = \"{to}\"\n{asks}")));
    until_its_end(&mut stranger);
    until_its_end(&mut client);
    drop((stranger, client));
    let mut client = tls::connect(dir, to, "ca", Some("client")).unwrap();
    client.write_all(lines(0..10).as_bytes()).unwrap();
    judged(&engine, 60.0);
    // One authority more: nobody is shut out by that.
    let text = ["ca.pem", "other-ca.pem"].map(|name| std::fs::read_to_string(dir.join(name)).unwrap()).concat();
    std::fs::write(dir.join("ca.pem"), text).unwrap();
    let report = engine.becomes(&with("tcp", &format!("listen = \"{to}\"\n{asks}")));
    assert_eq!(report["diff"]["changes"][0]["keys"], serde_json::json!(["sources.edge.tls.client_ca"]), "{report:#}");
    client.write_all(lines(0..10).as_bytes()).unwrap();
    judged(&engine, 70.0);
}
