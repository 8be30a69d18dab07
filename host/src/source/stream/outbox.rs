//! Frames of all connections of a source on their way to the decoder. When its queue is full, whoever reads waits.

use crate::model::{Delivery, FrameBatch};
use crate::source::clock::IngestClock;
use crate::telemetry::{SOURCE_DATAGRAMS, SOURCE_RECEIVED_BYTES, SOURCE_WAITS};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use metrics::{Counter, counter};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
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
    batch: RefCell<FrameBatch>,
    clock: RefCell<IngestClock>,
    out: Sender<Delivery>,
    recycled: Receiver<FrameBatch>,
    more: Notify,
    gone: Cell<bool>,
    waiting: Cell<bool>,
    frames: Counter,
    bytes: Counter,
    waits: Counter,
}

impl Outbox {
    pub(super) fn new(id: &Arc<str>, out: Sender<Delivery>, recycled: Receiver<FrameBatch>) -> Self {
        Self {
            batch: RefCell::default(),
            clock: RefCell::default(),
            out,
            recycled,
            more: Notify::new(),
            gone: Cell::new(false),
            waiting: Cell::new(false),
            frames: counter!(SOURCE_DATAGRAMS, "component_id" => id.clone()),
            bytes: counter!(SOURCE_RECEIVED_BYTES, "component_id" => id.clone()),
            waits: counter!(SOURCE_WAITS, "component_id" => id.clone()),
        }
    }

    /// Takes what one read brought: `fill` is given who takes each frame.
    pub(super) fn add<T>(&self, peer: SocketAddr, fill: impl FnOnce(&mut dyn FnMut(&[u8])) -> T) -> T {
        let mut batch = self.batch.borrow_mut();
        let (now, before) = (self.clock.borrow_mut().now(), batch.data.len());
        let result = fill(&mut |frame| batch.push(frame, peer, now));
        if batch.data.len() > before {
            self.more.notify_one();
        }
        result
    }

    /// True while nothing more is taken.
    pub(super) fn is_full(&self) -> bool {
        let full = self.batch.borrow().data.len() >= BATCH_BYTES && !self.flush();
        if full && !self.waiting.replace(full) {
            self.waits.increment(1);
        }
        self.waiting.set(full);
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
        self.gone.get()
    }

    /// Hands over what is there, if there is room. True: nothing is left.
    fn flush(&self) -> bool {
        let mut batch = self.batch.borrow_mut();
        if batch.frames.is_empty() {
            return true;
        }
        let (frames, bytes) = (batch.frames.len(), batch.data.len());
        match self.out.try_send(Delivery::Frames(std::mem::take(&mut batch))) {
            Ok(()) => {
                self.frames.increment(frames as u64);
                self.bytes.increment(bytes as u64);
                *batch = self.recycled.try_recv().unwrap_or_default();
                batch.clear();
                true
            }
            Err(TrySendError::Full(Delivery::Frames(back))) => {
                *batch = back;
                false
            }
            Err(_) => {
                self.gone.set(true);
                true
            }
        }
    }

    /// Hands over what does not fill a batch, and tells the time when nothing comes.
    pub(super) async fn run(&self) {
        while !self.is_gone() {
            if tokio::time::timeout(TICK, self.more.notified()).await.is_ok() {
                tokio::time::sleep(GATHER).await;
            }
            if self.batch.borrow().frames.is_empty() {
                let now = self.clock.borrow_mut().now();
                let told = self.out.try_send(Delivery::Tick(now));
                self.gone.set(told.is_err_and(|e| e.is_disconnected()));
            } else {
                self.flush();
            }
        }
    }

    /// Hands over the rest, however long that takes.
    pub(super) async fn finish(&self) {
        while !self.flush() {
            tokio::time::sleep(FULL_EVERY).await;
        }
    }
}
