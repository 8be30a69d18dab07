//! Frames of all connections of a source on their way to the decoder. When its queue is full, whoever reads waits.

use super::lock;
use crate::model::{Delivery, FrameBatch};
use crate::source::clock::IngestClock;
use crate::telemetry::{SOURCE_DATAGRAMS, SOURCE_RECEIVED_BYTES, SOURCE_WAITS};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use metrics::{Counter, counter};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// A batch is handed over when it holds this much.
const BATCH_BYTES: usize = 256 << 10;
/// Time without a frame after which a tick goes out.
const TICK: Duration = Duration::from_millis(50);
/// A batch that is not full waits so long for more.
const GATHER: Duration = Duration::from_millis(4);
/// How often a full queue is looked at.
const FULL_EVERY: Duration = Duration::from_millis(2);

/// Batches that may wait before the decoder.
pub(in crate::source) fn queue_len(queue_bytes: usize) -> usize {
    (queue_bytes / BATCH_BYTES).max(2)
}

pub(super) struct Outbox {
    /// One thread at a time has the source: nobody waits for it.
    desk: Mutex<Desk>,
    more: Notify,
    frames: Counter,
    bytes: Counter,
    waits: Counter,
}

#[derive(Default)]
struct Desk {
    batch: FrameBatch,
    clock: IngestClock,
    /// The decoder; none while another is about to take over.
    to: Option<(Sender<Delivery>, Receiver<FrameBatch>)>,
    gone: bool,
    waiting: bool,
}

impl Desk {
    /// Hands over what is there, if there is room. True: nothing is left.
    fn flush(&mut self, meters: &Outbox) -> bool {
        if self.batch.frames.is_empty() {
            return true;
        }
        let Some((out, recycled)) = &self.to else { return false };
        let (frames, bytes) = (self.batch.frames.len(), self.batch.data.len());
        match out.try_send(Delivery::Frames(std::mem::take(&mut self.batch))) {
            Ok(()) => {
                meters.frames.increment(frames as u64);
                meters.bytes.increment(bytes as u64);
                self.batch = recycled.try_recv().unwrap_or_default();
                self.batch.clear();
                true
            }
            Err(TrySendError::Full(Delivery::Frames(back))) => {
                self.batch = back;
                false
            }
            Err(_) => {
                self.gone = true;
                true
            }
        }
    }
}

impl Outbox {
    pub(super) fn new(id: &Arc<str>) -> Self {
        Self {
            desk: Mutex::default(),
            more: Notify::new(),
            frames: counter!(SOURCE_DATAGRAMS, "component_id" => id.clone()),
            bytes: counter!(SOURCE_RECEIVED_BYTES, "component_id" => id.clone()),
            waits: counter!(SOURCE_WAITS, "component_id" => id.clone()),
        }
    }

    /// From now on frames go there, and used batches come back.
    pub(super) fn connect(&self, out: Sender<Delivery>, recycled: Receiver<FrameBatch>) {
        let mut desk = lock(&self.desk);
        (desk.to, desk.gone) = (Some((out, recycled)), false);
    }

    /// Whoever took frames gets no more.
    pub(super) fn disconnect(&self) {
        lock(&self.desk).to = None;
    }

    /// Takes what one read brought: `fill` is given who takes each frame.
    pub(super) fn add<T>(&self, peer: SocketAddr, fill: impl FnOnce(&mut dyn FnMut(&[u8])) -> T) -> T {
        let mut desk = lock(&self.desk);
        let (now, before) = (desk.clock.now(), desk.batch.data.len());
        let result = fill(&mut |frame| desk.batch.push(frame, peer, now));
        if desk.batch.data.len() > before {
            self.more.notify_one();
        }
        result
    }

    /// True while nothing more is taken.
    pub(super) fn is_full(&self) -> bool {
        let mut desk = lock(&self.desk);
        let full = desk.batch.data.len() >= BATCH_BYTES && !desk.flush(self);
        if full && !desk.waiting {
            self.waits.increment(1);
        }
        desk.waiting = full;
        full
    }

    /// Waits while it is full.
    pub(super) async fn room(&self) {
        while self.is_full() {
            tokio::time::sleep(FULL_EVERY).await;
        }
    }

    /// Nobody takes anything any more.
    pub(super) fn is_gone(&self) -> bool {
        lock(&self.desk).gone
    }

    /// Hands over what does not fill a batch, and tells the time when nothing comes.
    pub(super) async fn run(&self) {
        loop {
            if tokio::time::timeout(TICK, self.more.notified()).await.is_ok() {
                tokio::time::sleep(GATHER).await;
            }
            let mut desk = lock(&self.desk);
            if desk.batch.frames.is_empty() {
                let now = desk.clock.now();
                let told = desk.to.as_ref().map(|(out, _)| out.try_send(Delivery::Tick(now)));
                desk.gone |= told.is_some_and(|told| told.is_err_and(|e| e.is_disconnected()));
            } else {
                desk.flush(self);
            }
        }
    }

    /// Hands over the rest, however long that takes.
    pub(super) async fn finish(&self) {
        while !lock(&self.desk).flush(self) {
            tokio::time::sleep(FULL_EVERY).await;
        }
    }
}
