//! NetFlow and IPFIX datagrams from UDP sockets.
//!
//! In: datagrams on N sockets of one port (`SO_REUSEPORT`: the kernel spreads exporters by address and port), taken
//! with `recvmmsg`. Out: batches of frames on a bounded queue per socket. A socket thread never waits for anything
//! downstream: when its queue is full the batch is shed and counted. Kernel drops are read from `SO_RXQ_OVFL` and, for
//! drops that no datagram followed, from `SO_MEMINFO`.
//!
//! A successor in the same process goes on with the sockets themselves ([`take_over`]): nothing that is sent meanwhile is lost.
//!
//! Metrics: `kaminari_source_{received_bytes,datagrams,socket_dropped,shed_datagrams,refused}_total`.

mod takeover;

pub use takeover::{Sockets, Takeover, take_over};

use super::clock::IngestClock;
use super::{Receive, SourceError};
use crate::config::decode_options::DecodeOptions;
use crate::config::registry::ComponentDef;
use crate::model::{Delivery, FrameBatch};
use crate::telemetry::{SOURCE_DATAGRAMS, SOURCE_RECEIVED_BYTES, SOURCE_REFUSED, SOURCE_SHED, SOURCE_SOCKET_DROPPED};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use metrics::{Counter, counter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// `type = "udp"`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UdpConfig {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Sockets on that port, each with a receiving and a decoding thread. One exporter (address and port) stays on one.
    #[serde(default = "one")]
    pub sockets: u32,
    /// Receive buffer asked of the kernel per socket, bytes. Needs CAP_NET_ADMIN or net.core.rmem_max to be granted.
    #[serde(default = "default_receive_buffer")]
    pub receive_buffer_bytes: usize,
    /// Most bytes that wait for decoding per socket before datagrams are shed.
    #[serde(default = "default_queue")]
    pub queue_bytes: usize,
    /// What the datagrams are and whom to believe.
    #[serde(default)]
    pub decode: DecodeOptions,
}

fn one() -> u32 {
    1
}
fn default_receive_buffer() -> usize {
    32 << 20
}
fn default_queue() -> usize {
    64 << 20
}

/// The component.
pub const DEF: ComponentDef = ComponentDef::new::<UdpConfig>(
    "udp",
    "NetFlow v5, v7, v9 and IPFIX datagrams on one UDP port",
    "listen = \"0.0.0.0:2055\"\nreceive_buffer_bytes = 33554432\ndecode = { allow = [\"192.0.2.0/24\"] }\n",
);

/// Datagrams asked of one `recvmmsg`.
const SLOTS: usize = 64;
/// Largest datagram taken: jumbo frames fit; IPFIX allows 65535 but says to stay below the path MTU (RFC 7011 10.3.3).
const SLOT_BYTES: usize = 9216;
/// A batch is handed over when it holds this much.
const BATCH_BYTES: usize = 256 << 10;
/// Time without a datagram after which a tick goes out.
const TICK: Duration = Duration::from_millis(50);
/// Pause after the socket was emptied, so that a few datagrams share one system call and one wake-up.
const GATHER: Duration = Duration::from_millis(4);
/// Below this buffer a pause could overflow it: in 4 ms, 1 Gbit/s of NetFlow is half a megabyte, twice that as the
/// kernel counts it.
const GATHER_MIN_BUFFER: usize = 4 << 20;

/// A socket, which may outlive its receiver: a successor reads on where that one stopped.
#[derive(Debug)]
struct Shared {
    socket: Socket,
    /// Kernel drop count as last seen; it wraps at 2^32.
    drops: AtomicU32,
    /// Which of its receivers, one after the other, reads it on. Those before it leave what is in it.
    reader: AtomicU32,
    /// Nothing comes in any more, but for what was on its way.
    retired: AtomicBool,
}

impl Shared {
    fn new(socket: Socket) -> Arc<Self> {
        Arc::new(Self { socket, drops: 0.into(), reader: 0.into(), retired: false.into() })
    }

    /// Drops that nobody has counted yet. Two receivers may ask at once, and one of them with an older total.
    fn more_drops(&self, total: u32) -> u64 {
        let newer = |last: u32| (total.wrapping_sub(last).cast_signed() > 0).then_some(total);
        let before = self.drops.fetch_update(Ordering::Relaxed, Ordering::Relaxed, newer);
        before.map_or(0, |last| u64::from(total.wrapping_sub(last)))
    }

    fn receive_buffer(&self) -> usize {
        self.socket.recv_buffer_size().unwrap_or(0)
    }
}

/// The receiver of one socket.
#[derive(Debug)]
pub struct UdpReceiver {
    shared: Arc<Shared>,
    /// Which of the socket's receivers it is.
    number: u32,
    meters: Meters,
}

#[derive(Debug)]
struct Meters {
    bytes: Counter,
    datagrams: Counter,
    dropped: Counter,
    shed: Counter,
    truncated: Counter,
}

impl UdpReceiver {
    fn new(id: &str, shared: Arc<Shared>, number: u32) -> Self {
        let meters = Meters {
            bytes: counter!(SOURCE_RECEIVED_BYTES, "component_id" => id.to_string()),
            datagrams: counter!(SOURCE_DATAGRAMS, "component_id" => id.to_string()),
            dropped: counter!(SOURCE_SOCKET_DROPPED, "component_id" => id.to_string()),
            shed: counter!(SOURCE_SHED, "component_id" => id.to_string()),
            truncated: counter!(SOURCE_REFUSED, "component_id" => id.to_string(), "reason" => "truncated"),
        };
        Self { shared, number, meters }
    }

    fn kernel_drops(&self, total: u32) {
        self.meters.dropped.increment(self.shared.more_drops(total));
    }

    /// A successor reads the socket on.
    fn is_succeeded(&self) -> bool {
        self.shared.reader.load(Ordering::Acquire) > self.number
    }
}

/// Binds all sockets of a source; nothing is received yet. The second value is the address bound (port 0 resolved).
pub fn bind(id: &str, config: &UdpConfig) -> Result<(Vec<UdpReceiver>, SocketAddr), SourceError> {
    let mut listen = config.listen;
    let mut receivers = Vec::new();
    for number in 0..config.sockets.max(1) {
        let socket = open(listen, config.receive_buffer_bytes, number == 0).map_err(|source| SourceError::Bind {
            id: id.to_string(),
            listen,
            source,
        })?;
        if let Some(bound) = address(&socket) {
            listen = bound;
        }
        told_of_buffer(id, &socket, config.receive_buffer_bytes);
        receivers.push(UdpReceiver::new(id, Shared::new(socket), 0));
    }
    Ok((receivers, listen))
}

fn address(socket: &Socket) -> Option<SocketAddr> {
    socket.local_addr().ok().and_then(|a| a.as_socket())
}

fn told_of_buffer(id: &str, socket: &Socket, wanted: usize) {
    // Linux reports twice what it grants.
    let granted = socket.recv_buffer_size().unwrap_or(0) / 2;
    if granted < wanted {
        tracing::warn!(
            component_id = id,
            "receive buffer is {granted} bytes, {wanted} were asked for: raise net.core.rmem_max or grant CAP_NET_ADMIN"
        );
    }
}

/// Batches that may wait between a receiver and its decoder.
pub fn queue_len(config: &UdpConfig) -> usize {
    (config.queue_bytes / BATCH_BYTES).max(4)
}

/// The first socket binds alone and shares the port only then: when another process (a second start of this one, too)
/// has the port, it must fail rather than take half of its datagrams.
fn open(listen: SocketAddr, receive_buffer: usize, first: bool) -> std::io::Result<Socket> {
    let socket = unbound(listen, receive_buffer)?;
    socket.set_reuse_port(!first)?;
    socket.bind(&listen.into())?;
    socket.set_reuse_port(true)?;
    Ok(socket)
}

/// Until it is bound nothing comes in.
fn unbound(listen: SocketAddr, receive_buffer: usize) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    set_buffer(&socket, receive_buffer)?;
    set_option(&socket, libc::SO_RXQ_OVFL, 1)?;
    socket.set_read_timeout(Some(TICK))?;
    Ok(socket)
}

/// FORCE goes past rmem_max but needs CAP_NET_ADMIN.
fn set_buffer(socket: &Socket, bytes: usize) -> std::io::Result<()> {
    let forced = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set_option(socket, libc::SO_RCVBUFFORCE, forced).or_else(|_| socket.set_recv_buffer_size(bytes))
}

#[allow(unsafe_code)]
fn set_option(socket: &Socket, option: libc::c_int, value: libc::c_int) -> std::io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if rc == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

impl Receive for UdpReceiver {
    /// A stop empties the socket first, unless a successor reads it on.
    fn run(self: Box<Self>, out: &Sender<Delivery>, recycled: &Receiver<FrameBatch>, stop: &Arc<AtomicBool>) {
        let mut slots = Slots::new();
        let mut clock = IngestClock::default();
        let socket = &self.shared.socket;
        let gather = self.shared.receive_buffer() >= GATHER_MIN_BUFFER;
        loop {
            let stopping = stop.load(Ordering::Relaxed);
            if stopping && self.is_succeeded() {
                return;
            }
            let mut batch = recycled.try_recv().unwrap_or_default();
            batch.clear();
            let mut wait = !stopping || self.shared.retired.load(Ordering::Acquire);
            let mut now;
            let drained = loop {
                let n = slots.receive(socket, wait);
                wait = false;
                now = clock.now();
                if let Some(total) = slots.append(n, now, &mut batch, &self.meters) {
                    self.kernel_drops(total);
                }
                if n < SLOTS {
                    break true;
                }
                if batch.data.len() >= BATCH_BYTES {
                    break false;
                }
            };
            if batch.frames.is_empty() {
                if let Some(total) = drops_now(socket) {
                    self.kernel_drops(total);
                }
                if stopping && drained {
                    return;
                }
                if out.try_send(Delivery::Tick(now)).is_err_and(|e| e.is_disconnected()) {
                    return;
                }
                continue;
            }
            self.meters.datagrams.increment(batch.frames.len() as u64);
            self.meters.bytes.increment(batch.data.len() as u64);
            match out.try_send(Delivery::Frames(batch)) {
                Ok(()) => {}
                Err(TrySendError::Full(Delivery::Frames(batch))) => {
                    self.meters.shed.increment(batch.frames.len() as u64)
                }
                Err(TrySendError::Full(Delivery::Tick(_))) => {}
                Err(TrySendError::Disconnected(_)) => return,
            }
            if drained && gather && !stopping {
                std::thread::sleep(GATHER);
            }
        }
    }
}

/// Kernel drop count of the socket (SK_MEMINFO_DROPS).
#[allow(unsafe_code)]
fn drops_now(socket: &Socket) -> Option<u32> {
    const SK_MEMINFO_DROPS: usize = 8;
    let mut info = [0u32; 9];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: pointer and length describe `info`; the kernel writes at most `len` bytes.
    let rc = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, info.as_mut_ptr().cast(), &raw mut len)
    };
    (rc == 0 && len as usize == size_of_val(&info)).then_some(info[SK_MEMINFO_DROPS])
}

/// Buffers for one `recvmmsg`. The vectors never grow or move after `new`: the message headers point into them.
struct Slots {
    data: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    control: Vec<[u64; 4]>,
    iovs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

#[allow(unsafe_code)]
impl Slots {
    fn new() -> Box<Self> {
        // SAFETY: all-zero bytes are valid values of these C structs.
        let (name, header) = unsafe { (std::mem::zeroed(), std::mem::zeroed::<libc::mmsghdr>()) };
        let mut slots = Box::new(Slots {
            data: vec![0; SLOTS * SLOT_BYTES],
            names: vec![name; SLOTS],
            control: vec![[0; 4]; SLOTS],
            iovs: Vec::with_capacity(SLOTS),
            headers: vec![header; SLOTS],
        });
        for i in 0..SLOTS {
            let base = slots.data[i * SLOT_BYTES..].as_mut_ptr().cast();
            slots.iovs.push(libc::iovec { iov_base: base, iov_len: SLOT_BYTES });
        }
        for i in 0..SLOTS {
            slots.headers[i].msg_hdr.msg_iov = &raw mut slots.iovs[i];
            slots.headers[i].msg_hdr.msg_iovlen = 1;
            slots.headers[i].msg_hdr.msg_name = (&raw mut slots.names[i]).cast();
            slots.headers[i].msg_hdr.msg_control = slots.control[i].as_mut_ptr().cast();
        }
        slots
    }

    /// Datagrams received; 0 after the time-out, an interruption or an error of an earlier send (ICMP).
    fn receive(&mut self, socket: &Socket, wait: bool) -> usize {
        for header in &mut self.headers {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = size_of::<[u64; 4]>();
            header.msg_hdr.msg_flags = 0;
        }
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: every header points to an iovec, name and control buffer of `self`, which live through the call.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                SLOTS as libc::c_uint,
                flags,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(n).unwrap_or(0)
    }

    /// The first `n`, into the batch. What comes back is the kernel's drop count, where one came with the last of them.
    fn append(&self, n: usize, now: u64, batch: &mut FrameBatch, meters: &Meters) -> Option<u32> {
        for i in 0..n {
            let header = &self.headers[i];
            if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                meters.truncated.increment(1);
                continue;
            }
            let bytes = &self.data[i * SLOT_BYTES..i * SLOT_BYTES + header.msg_len as usize];
            batch.push(bytes, peer(&self.names[i]), now);
        }
        overflow(&self.headers[n.checked_sub(1)?].msg_hdr)
    }
}

#[allow(unsafe_code)]
fn peer(name: &libc::sockaddr_storage) -> SocketAddr {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage holds a sockaddr_in.
            let v4 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            SocketAddr::new(IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr))), u16::from_be(v4.sin_port))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that the storage holds a sockaddr_in6.
            let v6 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            // A dual-stack socket reports IPv4 exporters as mapped; templates and allow-lists know them as IPv4.
            SocketAddr::new(ip.to_canonical(), u16::from_be(v6.sin6_port))
        }
        _ => crate::model::frames::NO_PEER,
    }
}

/// The `SO_RXQ_OVFL` count that came with a datagram.
#[allow(unsafe_code)]
fn overflow(header: &libc::msghdr) -> Option<u32> {
    // SAFETY: the kernel filled `msg_control` and set `msg_controllen`; the CMSG macros walk within it.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_SOCKET && (*message).cmsg_type == libc::SO_RXQ_OVFL {
                return Some(libc::CMSG_DATA(message).cast::<u32>().read_unaligned());
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn config(receive_buffer_bytes: usize) -> UdpConfig {
        UdpConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            sockets: 1,
            receive_buffer_bytes,
            queue_bytes: 1 << 20,
            decode: DecodeOptions::default(),
        }
    }

    #[test]
    fn datagrams_arrive_with_their_exporter_and_a_stop_empties_the_socket() {
        let (mut receivers, listen) = bind("t", &config(1 << 20)).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for i in 0..300u32 {
            sender.send_to(&i.to_be_bytes(), listen).unwrap();
        }
        let (out, deliveries) = crossbeam_channel::bounded(1000);
        let (_used, recycled) = crossbeam_channel::bounded(1);
        let stop = Arc::new(AtomicBool::new(true));
        Box::new(receivers.pop().unwrap()).run(&out, &recycled, &stop);
        drop(out);
        let mut seen = Vec::new();
        for delivery in deliveries {
            if let Delivery::Frames(batch) = delivery {
                for frame in &batch.frames {
                    assert_eq!(frame.peer, sender.local_addr().unwrap());
                    seen.push(u32::from_be_bytes(batch.bytes(frame).try_into().unwrap()));
                }
            }
        }
        assert_eq!(seen, (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn kernel_drops_are_seen_without_a_later_datagram() {
        let (mut receivers, listen) = bind("t", &config(4096)).unwrap();
        let receiver = receivers.pop().unwrap();
        // As root the buffer may have been forced; make it small for sure.
        receiver.shared.socket.set_recv_buffer_size(2048).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..500 {
            sender.send_to(&[0; 1000], listen).unwrap();
        }
        let total = drops_now(&receiver.shared.socket).unwrap();
        assert!(total > 100, "{total}");
        let counted = [total, total, total - 1, total + 2].map(|total| receiver.shared.more_drops(total));
        assert_eq!(counted, [u64::from(total), 0, 0, 2], "each once, by whomever");
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let busy = UdpConfig { listen: taken.local_addr().unwrap(), ..config(4096) };
        let error = bind("edge", &busy).unwrap_err().to_string();
        assert!(error.contains("edge") && error.contains(&taken.local_addr().unwrap().to_string()), "{error}");
    }

    #[test]
    fn a_port_is_shared_by_the_sockets_of_one_source_only() {
        let several = UdpConfig { sockets: 3, ..config(1 << 16) };
        let (receivers, listen) = bind("first", &several).unwrap();
        assert_eq!(receivers.len(), 3);
        assert!(bind("second", &UdpConfig { listen, ..several }).is_err());
        // All three get their share.
        let senders: Vec<UdpSocket> = (0..64).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for sender in &senders {
            sender.send_to(b"x", listen).unwrap();
        }
        let mut slots = Slots::new();
        let counts: Vec<usize> = receivers.iter().map(|r| slots.receive(&r.shared.socket, false)).collect();
        assert_eq!(counts.iter().sum::<usize>(), 64);
        assert!(counts.iter().all(|n| *n > 0), "{counts:?}");
    }
}
