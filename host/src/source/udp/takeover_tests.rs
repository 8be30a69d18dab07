use super::super::{Slots, UdpConfig, UdpReceiver, bind};
use super::*;
use crate::config::decode_options::DecodeOptions;
use crate::model::Delivery;
use crate::source::Receive;
use crossbeam_channel::Sender;
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

fn config(listen: SocketAddr, sockets: u32) -> UdpConfig {
    let (receive_buffer_bytes, queue_bytes) = (1 << 20, 1 << 20);
    UdpConfig { listen, sockets, receive_buffer_bytes, queue_bytes, decode: DecodeOptions::default() }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn senders(n: usize) -> Vec<UdpSocket> {
    (0..n).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect()
}

/// Reads what waits in each socket.
fn waiting(receivers: &[UdpReceiver]) -> Vec<usize> {
    let mut slots = Slots::new();
    receivers.iter().map(|r| slots.receive(&r.shared.socket, false)).collect()
}

/// Receivers on their threads.
struct Running {
    stop: Arc<AtomicBool>,
    sockets: Sockets,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(receivers: Vec<UdpReceiver>, out: &Sender<Delivery>) -> Self {
        let (stop, sockets) = (Arc::new(AtomicBool::new(false)), Sockets::of(&receivers));
        let run = |receiver: UdpReceiver| {
            let (out, stop) = (out.clone(), stop.clone());
            std::thread::spawn(move || {
                let (_used, recycled) = crossbeam_channel::bounded(1);
                Box::new(receiver).run(&out, &recycled, &stop);
            })
        };
        let threads = receivers.into_iter().map(run).collect();
        Self { stop, sockets, threads }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|t| t.join().unwrap());
    }
}

/// Sent and received so far.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    received: AtomicU64,
    done: AtomicBool,
}

impl Progress {
    /// Until so many more were received. Lost ones hold up the senders, which never have more than a few under way.
    fn more(&self, n: u64) {
        let (until, deadline) = (self.received.load(Ordering::Relaxed) + n, Instant::now() + Duration::from_secs(60));
        while self.received.load(Ordering::Relaxed) < until {
            assert!(Instant::now() < deadline, "datagrams are lost: nothing comes any more");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn send(&self, to: SocketAddr) {
        let senders = senders(96);
        for number in 0u64.. {
            while number - self.received.load(Ordering::Relaxed) >= 64 {
                if self.done.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::yield_now();
            }
            if self.done.load(Ordering::Relaxed) {
                return;
            }
            senders[number as usize % senders.len()].send_to(&number.to_be_bytes(), to).unwrap();
            self.sent.store(number + 1, Ordering::Relaxed);
        }
    }
}

#[test]
fn every_datagram_comes_once_while_the_source_is_set_up_anew_again_and_again() {
    for listen in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"].map(|a| a.parse().unwrap()) {
        match bind("t", &config(listen, 1)) {
            Ok((receivers, listen)) => every_datagram_comes_once(receivers, listen),
            Err(error) if listen.is_ipv6() => eprintln!("skipped, this machine has no IPv6: {error}"),
            Err(error) => panic!("{error}"),
        }
    }
}

fn every_datagram_comes_once(receivers: Vec<UdpReceiver>, listen: SocketAddr) {
    let (out, deliveries) = crossbeam_channel::bounded(100_000);
    let progress = Arc::new(Progress::default());
    let collector = std::thread::spawn({
        let progress = progress.clone();
        move || {
            let mut times = BTreeMap::<u64, u32>::new();
            for delivery in deliveries {
                let Delivery::Frames(batch) = delivery else { continue };
                for frame in &batch.frames {
                    *times.entry(u64::from_be_bytes(batch.bytes(frame).try_into().unwrap())).or_default() += 1;
                }
                progress.received.fetch_add(batch.frames.len() as u64, Ordering::Relaxed);
            }
            times
        }
    });
    let mut running = Running::start(receivers, &out);
    let sender = std::thread::spawn({
        let progress = progress.clone();
        move || progress.send(SocketAddr::from(([127, 0, 0, 1], listen.port())))
    });
    progress.more(500);
    for sockets in [1, 3, 1, 2, 2, 4, 3, 1, 5, 2, 1].into_iter().cycle().take(33) {
        let (receivers, takeover) = take_over("t", &config(listen, sockets), &running.sockets).unwrap();
        assert_eq!(receivers.len(), sockets as usize);
        takeover.begin().unwrap();
        let next = Running::start(receivers, &out);
        progress.more(200);
        running.stop();
        progress.more(200);
        running = next;
    }
    progress.done.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    // The last ones are in the sockets, which a stop empties.
    running.stop();
    drop(out);
    let (times, sent) = (collector.join().unwrap(), progress.sent.load(Ordering::Relaxed));
    let odd: Vec<_> = (0..sent).map(|n| (n, times.get(&n).copied().unwrap_or(0))).filter(|(_, n)| *n != 1).collect();
    assert!(odd.is_empty() && sent > 10_000, "{listen}: of {sent}, (number, times): {odd:?}");
}

#[test]
fn what_waits_is_read_on_and_exporters_stay_where_they_are() {
    let (old, listen) = bind("t", &config(loopback(), 3)).unwrap();
    let senders = senders(64);
    let send = || senders.iter().for_each(|s| assert_eq!(s.send_to(b"x", listen).unwrap(), 1));
    send();
    let (new, takeover) = take_over("t", &config(listen, 3), &Sockets::of(&old)).unwrap();
    takeover.begin().unwrap();
    assert!(old.iter().all(UdpReceiver::is_succeeded) && !new.iter().any(UdpReceiver::is_succeeded));
    // A stop leaves what a successor reads.
    let (out, deliveries) = crossbeam_channel::unbounded();
    let (_used, recycled) = crossbeam_channel::bounded(1);
    old.into_iter().for_each(|r| Box::new(r).run(&out, &recycled, &Arc::new(AtomicBool::new(true))));
    assert!(!deliveries.try_iter().any(|d| matches!(d, Delivery::Frames(_))));
    let before = waiting(&new);
    assert_eq!(before.iter().sum::<usize>(), 64);
    send();
    assert_eq!(waiting(&new), before);
}

#[test]
fn nothing_comes_into_sockets_that_are_to_be_closed() {
    let (mut old, listen) = bind("t", &config(loopback(), 4)).unwrap();
    let senders = senders(64);
    let send = || senders.iter().for_each(|s| assert_eq!(s.send_to(b"x", listen).unwrap(), 1));
    let (new, takeover) = take_over("t", &config(listen, 2), &Sockets::of(&old)).unwrap();
    takeover.begin().unwrap();
    send();
    let before = waiting(&old);
    assert!(before[..2].iter().sum::<usize>() == 64 && before[2..] == [0, 0], "{before:?}");
    // In any order.
    for closed in [3, 2] {
        drop(old.remove(closed));
        send();
        assert_eq!(waiting(&new).iter().sum::<usize>(), 64);
    }
    drop(old);
    send();
    let after = waiting(&new);
    assert!(after.iter().sum::<usize>() == 64 && after.iter().all(|n| *n > 0), "{after:?}");
}

#[test]
fn a_takeover_that_does_not_begin_changes_nothing() {
    let (old, listen) = bind("t", &config(loopback(), 2)).unwrap();
    for sockets in [1, 2, 5] {
        let (new, takeover) = take_over("t", &config(listen, sockets), &Sockets::of(&old)).unwrap();
        senders(64).iter().for_each(|s| assert_eq!(s.send_to(b"x", listen).unwrap(), 1));
        drop((new, takeover));
        assert_eq!(waiting(&old).iter().sum::<usize>(), 64);
        assert!(!old.iter().any(UdpReceiver::is_succeeded));
    }
}

#[test]
fn another_address_and_a_source_that_has_ended_are_refused() {
    let (mut old, listen) = bind("t", &config(loopback(), 2)).unwrap();
    let sockets = Sockets::of(&old);
    assert!(sockets.serve(listen) && sockets.serve(loopback()));
    let other = SocketAddr::new([127, 0, 0, 2].into(), listen.port());
    let error = take_over("t", &config(other, 2), &sockets).unwrap_err().to_string();
    assert!(error.contains("\"t\"") && error.contains("listens elsewhere"), "{error}");
    drop(old.pop());
    let error = take_over("t", &config(listen, 2), &sockets).unwrap_err().to_string();
    assert!(error.contains("has ended"), "{error}");
    // Nor can anybody else have the port.
    assert!(bind("t", &config(listen, 1)).is_err());
}
