use crate::model::{Delivery, FrameBatch};
use crate::source::Receive;
use crate::source::framing::{Framing, FramingKind};
use crate::source::tcp::{Listening, TcpConfig, bind, take_over};
use crossbeam_channel::{Receiver, bounded};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A source at work.
struct Source {
    listen: SocketAddr,
    listening: Listening,
    deliveries: Receiver<Delivery>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

fn config(text: &str) -> TcpConfig {
    toml::from_str(&format!("listen = \"127.0.0.1:0\"\n{text}")).unwrap()
}

impl Source {
    fn start(text: &str, queue: usize) -> Self {
        let (receiver, listening) = bind("t", &config(text)).unwrap();
        Self::with(receiver, listening, queue)
    }

    fn with(receiver: Box<dyn Receive>, listening: Listening, queue: usize) -> Self {
        let (out, deliveries) = bounded(queue);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (_used, recycled) = bounded::<FrameBatch>(1);
            receiver.run(&out, &recycled, &stopped);
        });
        Self { listen: listening.address, listening, deliveries, stop, thread }
    }

    /// Another table on the same address. Gives the one that goes on, and what the one before still had.
    fn become_with(self, text: &str) -> (Self, Vec<(String, SocketAddr)>) {
        let (receiver, listening, takeover) = take_over("t", &config(text), &self.listening).unwrap();
        takeover.begin().unwrap();
        let next = Self::with(receiver, listening, 100);
        (next, self.end())
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.listen).unwrap()
    }

    /// Frames that came, with who sent them, until there are so many.
    fn frames(&self, n: usize) -> Vec<(String, SocketAddr)> {
        let (mut out, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(30));
        while out.len() < n {
            match self.deliveries.recv_deadline(deadline).expect("frames come in time") {
                Delivery::Frames(batch) => out.extend(texts(&batch)),
                Delivery::Tick(_) => {}
            }
        }
        out
    }

    /// Stops it; what it still had.
    fn end(self) -> Vec<(String, SocketAddr)> {
        self.stop.store(true, Ordering::Relaxed);
        let rest = self.deliveries.iter().filter_map(|d| match d {
            Delivery::Frames(batch) => Some(texts(&batch)),
            Delivery::Tick(_) => None,
        });
        let rest = rest.flatten().collect();
        self.thread.join().unwrap();
        rest
    }
}

fn texts(batch: &FrameBatch) -> Vec<(String, SocketAddr)> {
    batch.frames.iter().map(|f| (String::from_utf8_lossy(batch.bytes(f)).into_owned(), f.peer)).collect()
}

/// True when the other side has closed it.
fn is_closed(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    match stream.read(&mut [0; 1]) {
        Ok(n) => n == 0,
        Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn frames_have_their_sender_and_a_last_line_needs_no_break() {
    let source = Source::start("", 100);
    let (mut a, mut b) = (source.connect(), source.connect());
    a.write_all(b"one\ntw").unwrap();
    assert_eq!(source.frames(1), [("one".to_owned(), a.local_addr().unwrap())]);
    b.write_all(b"three\n").unwrap();
    assert_eq!(source.frames(1), [("three".to_owned(), b.local_addr().unwrap())]);
    a.write_all(b"o").unwrap();
    let sender = a.local_addr().unwrap();
    drop(a);
    assert_eq!(source.frames(1), [("two".to_owned(), sender)]);
    // What the kernel has is read before the end, from who stays connected too.
    b.write_all(b"four\nfi").unwrap();
    let rest: Vec<String> = source.end().into_iter().map(|(text, _)| text).collect();
    assert_eq!(rest, ["four", "fi"]);
    assert!(is_closed(b));
}

#[test]
fn ticks_come_while_nothing_else_does() {
    let source = Source::start("", 100);
    let first = source.deliveries.recv_timeout(Duration::from_secs(30)).unwrap();
    let second = source.deliveries.recv_timeout(Duration::from_secs(30)).unwrap();
    let (Delivery::Tick(first), Delivery::Tick(second)) = (first, second) else { panic!("frames from nowhere") };
    assert!(second > first);
    assert!(source.end().is_empty());
}

#[test]
fn a_full_queue_stops_reading_and_loses_nothing() {
    let source = Source::start("", 2);
    let line = [b'x'; 999];
    let total = 40_000usize;
    let mut sender = source.connect();
    sender.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut bytes = Vec::new();
    for _ in 0..total {
        bytes.extend_from_slice(&line);
        bytes.push(b'\n');
    }
    // 40 MB do not fit into the buffers of the kernel: the sender has to wait.
    let mut sent = 0;
    while sent < bytes.len() {
        match sender.write(&bytes[sent..]) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
    }
    assert!(sent < bytes.len(), "nobody read, and all went out");
    sender.set_write_timeout(None).unwrap();
    let rest = bytes.split_off(sent);
    let writer = std::thread::spawn(move || sender.write_all(&rest).unwrap());
    let frames = source.frames(total);
    assert_eq!(frames.len(), total);
    assert!(frames.iter().all(|(text, _)| text.len() == line.len()));
    writer.join().unwrap();
    assert!(source.end().is_empty());
}

#[test]
fn what_takes_too_long_is_closed() {
    let source = Source::start("frame_timeout_secs = 1\nidle_timeout_secs = 3", 100);
    let (mut slow, idle) = (source.connect(), source.connect());
    let began = Instant::now();
    slow.write_all(b"a").unwrap();
    // Bytes that trickle in do not make a frame.
    let mut trickle = slow.try_clone().unwrap();
    let trickling = std::thread::spawn(move || {
        while trickle.write_all(b"a").is_ok() && began.elapsed().as_secs() < 20 {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert!(is_closed(slow));
    assert!(is_closed(idle));
    trickling.join().unwrap();
    let frames = source.frames(1);
    assert!(frames[0].0.bytes().all(|b| b == b'a'), "what was received is handed over");
    source.end();
}

#[test]
fn streams_without_frames_and_too_many_connections_are_closed() {
    let source =
        Source::start("framing = { type = \"octet_counted\", max_frame_bytes = 10 }\nmax_connections = 2", 100);
    let (mut wrong, mut right) = (source.connect(), source.connect());
    right.write_all(b"11 aaaaaaaaaaa3 abc").unwrap();
    assert_eq!(source.frames(1)[0].0, "abc", "a frame that is too long is passed over");
    // Both are open; a third is one too many.
    assert!(is_closed(source.connect()));
    wrong.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(is_closed(wrong));
    right.write_all(b"3 def").unwrap();
    assert_eq!(source.frames(1)[0].0, "def");
    source.end();
}

#[test]
fn another_table_goes_on_in_the_middle_of_a_frame() {
    let source = Source::start("", 100);
    let (mut a, mut long) = (source.connect(), source.connect());
    a.write_all(b"zero\none\ntw").unwrap();
    long.write_all(b"x").unwrap();
    assert_eq!(source.frames(2)[1].0, "one");
    // Built and not taken up: nothing has happened.
    let address = source.listen;
    let other = format!("listen = \"{address}\"\nmax_connections = 1");
    drop(take_over("t", &toml::from_str(&other).unwrap(), &source.listening).unwrap());
    a.write_all(b"o\nthr").unwrap();
    assert_eq!(source.frames(1)[0].0, "two");
    let mut rest = Vec::new();
    let mut source = source;
    for table in ["framing = { max_frame_bytes = 100000 }", "framing = { type = \"octet_counted\" }", "queue_bytes = 1"]
    {
        let before;
        (source, before) = source.become_with(table);
        assert_eq!(source.listen, address);
        rest.extend(before);
        if table.contains("100000") {
            // What frames may be counts for connections that are open.
            long.write_all(&[b'x'; 79_999]).unwrap();
            long.write_all(b"\n").unwrap();
            assert_eq!(source.frames(1)[0].0.len(), 80_000);
        }
    }
    // How they stand in the stream does not: the sender has not changed.
    a.write_all(b"ee\n").unwrap();
    assert_eq!(source.frames(1), [("three".to_owned(), a.local_addr().unwrap())]);
    assert_eq!(rest, []);
    let mut new = source.connect();
    new.write_all(b"four\n").unwrap();
    assert_eq!(source.frames(1)[0].0, "four");
    assert_eq!(source.end(), []);
    assert!(is_closed(a));
}

#[test]
fn new_limits_count_for_connections_that_are_open() {
    let source = Source::start("", 100);
    let (idle, mut other) = (source.connect(), source.connect());
    other.write_all(b"one\n").unwrap();
    source.frames(1);
    let (source, _) = source.become_with("idle_timeout_secs = 1\nmax_connections = 1");
    // Both are more than there may be now, and stay until they have been quiet for too long; others are not served.
    assert!(is_closed(source.connect()));
    assert!(is_closed(idle));
    assert!(is_closed(other));
    source.end();
}

#[test]
fn a_receiver_that_has_ended_leaves_nothing() {
    let source = Source::start("", 100);
    let listening = source.listening.clone();
    let (_, _, takeover) = take_over("t", &config(""), &listening).unwrap();
    assert!(listening.serves(source.listen));
    source.end();
    assert!(!listening.serves(listening.address));
    assert!(takeover.begin().unwrap_err().to_string().contains("has ended"));
}

#[test]
fn the_example_validates_and_framing_defaults_to_lines() {
    let config: TcpConfig = toml::from_str(crate::source::tcp::DEF.example).unwrap();
    assert_eq!(config.tls.unwrap().client_ca, None);
    let config: TcpConfig = toml::from_str("listen = \"127.0.0.1:0\"").unwrap();
    assert_eq!(config.framing, Framing { kind: FramingKind::Newline, max_frame_bytes: 65_536, length_bytes: 4 });
}
