//! A paced NetFlow v5 exporter on a thread of its own: 30 flows a datagram, so many flows a second; what a pause of ours
//! has left out is sent after it. One host is under attack, as long as it sends.

use anyhow::{Context, Result, anyhow};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Flows of a datagram.
const FLOWS: u8 = 30;
/// Packets of a flow to the attacked host, and to each of the others.
pub const PACKETS: (u32, u32) = (100, 1);
const PACE: Duration = Duration::from_millis(2);

pub struct Exporter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<u64>>>,
}

impl Exporter {
    pub fn start(to: SocketAddr, flows_per_second: f64) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("cannot open a socket to send from")?;
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let thread = std::thread::spawn(move || send(&socket, to, flows_per_second, &until));
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops. Flows that were sent.
    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it was stopped before")?;
        thread.join().map_err(|_| anyhow!("the exporter panicked"))?.context("cannot send")
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, flows_per_second: f64, stop: &AtomicBool) -> std::io::Result<u64> {
    let (begun, mut sent) = (Instant::now(), 0u64);
    while !stop.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * flows_per_second) as u64;
        while sent < due {
            socket.send_to(&datagram(sent as u32), to)?;
            sent += u64::from(FLOWS);
        }
        std::thread::sleep(PACE);
    }
    Ok(sent)
}

/// One flow to each of `198.18.0.0` to `.29`; the first is the attacked one.
fn datagram(sequence: u32) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut out = vec![0, 5, 0, FLOWS];
    out.extend(100_000u32.to_be_bytes()); // the exporter's uptime, ms
    out.extend((now.as_secs() as u32).to_be_bytes());
    out.extend(now.subsec_nanos().to_be_bytes());
    out.extend(sequence.to_be_bytes());
    out.extend([0; 4]);
    for host in 0..FLOWS {
        let packets = if host == 0 { PACKETS.0 } else { PACKETS.1 };
        out.extend([192, 0, 2, host]);
        out.extend([198, 18, 0, host]);
        out.extend([0; 8]); // next hop, interfaces
        out.extend(packets.to_be_bytes());
        out.extend((packets * 100).to_be_bytes());
        out.extend(99_000u32.to_be_bytes());
        out.extend(99_900u32.to_be_bytes());
        out.extend([0x30, 0x39, 0, 80, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{FLOWS, datagram};

    #[test]
    fn a_datagram_is_a_header_and_its_flows() {
        let datagram = datagram(7);
        assert_eq!(datagram.len(), 24 + 48 * usize::from(FLOWS));
        assert_eq!(&datagram[16..20], [0, 0, 0, 7]);
        assert_eq!(&datagram[24 + 16..24 + 20], 100u32.to_be_bytes());
        assert_eq!(&datagram[72 + 16..72 + 20], 1u32.to_be_bytes());
    }
}
