//! Where a pipeline's outputs go: the queue of a sink or, with exactly-once delivery, the transaction of a partition.

use crate::model::{Content, Output};
use crate::sink::worker::SinkHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Takes outputs of one kind.
pub(super) trait Outlet: Send {
    /// Of which.
    fn content(&self) -> Content;
    /// Hands one over.
    fn put(&mut self, output: Output);
}

/// A sink's queue, for sources that cannot be asked again: what finds no room in time is counted and said.
impl Outlet for Arc<SinkHandle> {
    fn content(&self) -> Content {
        SinkHandle::content(self)
    }

    fn put(&mut self, output: Output) {
        self.send(output);
    }
}

/// A sink's queue, for sources that can be read again: waits for room, so that reading pauses instead.
pub(super) struct Patient {
    pub(super) sink: Arc<SinkHandle>,
    /// The engine stops: what is not delivered is not committed either.
    pub(super) stop: Arc<AtomicBool>,
}

impl Outlet for Patient {
    fn content(&self) -> Content {
        self.sink.content()
    }

    fn put(&mut self, output: Output) {
        let stop = self.stop.clone();
        self.sink.send_patiently(output, &move || stop.load(Ordering::Relaxed));
    }
}
