//! One exporter: samples what passes, gathers flow records until some datagrams are full (or the oldest has waited
//! long enough), and remembers which records belong to which attack.

use super::dist::mix;
use super::encode::{Encoder, Version};
use crate::model::{Addr, FlowRecord, FrameBatch};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A record waits no longer than this for company ...
pub const MAX_WAIT_NS: u64 = 100_000_000;
/// ... or for so many datagrams to fill, the last of them perhaps not quite.
const DATAGRAMS: usize = 8;
/// Mark of a record that belongs to no attack.
pub const BENIGN: u16 = u16::MAX;

/// An encoder with the records it still holds.
#[derive(Debug)]
pub struct Exporter {
    encoder: Encoder,
    pending: Vec<FlowRecord>,
    marks: Vec<u16>,
    oldest_ns: u64,
    observed: u64,
}

impl Exporter {
    /// The `index`-th exporter of a run (127.0.0.11 and up). It started an hour before `start_ns`.
    pub fn new(index: usize, version: Version, sampling: u32, start_ns: u64) -> Self {
        let ip = Ipv4Addr::new(127, 0, 0, 11 + index as u8);
        let peer = SocketAddr::new(IpAddr::V4(ip), 40_000 + index as u16);
        let boot_ns = start_ns.saturating_sub(3_600_000_000_000);
        Self {
            encoder: Encoder::new(version, peer, index as u32 + 1, sampling, boot_ns),
            pending: Vec::new(),
            marks: Vec::new(),
            oldest_ns: 0,
            observed: 0,
        }
    }

    /// What it has written so far.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Takes one flow. Sampling thins its packets; a flow of which no packet was sampled is never reported.
    pub fn observe(&mut self, mut flow: FlowRecord, mark: u16, now_ns: u64) {
        let n = u64::from(self.encoder.sampling());
        if n > 1 {
            self.observed += 1;
            // A fair, repeatable coin for the remainder.
            let sampled = (flow.packets + mix(self.observed ^ n << 40) % n) / n;
            if sampled == 0 {
                return;
            }
            flow.bytes = (flow.bytes as f64 * sampled as f64 / flow.packets as f64) as u64;
            flow.packets = sampled;
        }
        if self.pending.is_empty() {
            self.oldest_ns = now_ns;
        }
        flow.time_received_ns = now_ns;
        flow.sampler_address = Addr::from(self.encoder.peer().ip());
        flow.observation_domain_id = self.encoder.domain();
        flow.sampling_rate = n;
        flow.flow_type = self.encoder.version().flow_type();
        self.pending.push(flow);
        self.marks.push(mark);
    }

    /// Exports everything once it fills several datagrams or has waited long enough (or `all` is asked for), and tells
    /// `sent` every record that left.
    pub fn export(&mut self, now_ns: u64, all: bool, out: &mut FrameBatch, mut sent: impl FnMut(&FlowRecord, u16)) {
        let many = self.pending.len() >= DATAGRAMS * self.encoder.version().records_per_datagram();
        if !(all || many || now_ns.saturating_sub(self.oldest_ns) >= MAX_WAIT_NS) {
            return;
        }
        self.encoder.encode(&self.pending, now_ns, out);
        for (flow, mark) in self.pending.drain(..).zip(self.marks.drain(..)) {
            sent(&flow, mark);
        }
    }
}
