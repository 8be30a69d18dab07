//! Batches for a device that many threads feed. Comes in: rows of a group of models, written by the threads that have
//! them straight into memory the device reads fast; goes out: their losses. A batch leaves when all that use its group
//! have written to it, when it is full, or when its first rows have waited long enough. Bounded: who finds all buffers
//! taken waits for one, nothing is dropped. One thread runs the device. Moves `kaminari_inference_device_*`.

use super::error::TorchError;
use super::handles::{Buffer, Group};
use super::library::Library;
use super::matrix::Matrix;
use crate::inference::scorer::Reason;
use crate::model::Device;
use crate::telemetry;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One is written, one is computed, one is on the way.
const BUFFERS: usize = 3;

/// What all that feed a device share.
pub(super) struct Queue {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    library: Arc<Library>,
    device: Device,
    max_rows: usize,
    max_wait: Duration,
    state: Mutex<State>,
    /// A batch may be ready.
    ready: Condvar,
    /// A buffer may be free.
    free: Condvar,
}

#[derive(Default)]
struct State {
    open: Vec<Batch>,
    spare: Vec<Buffer>,
    /// Buffers in batches that are open or computed.
    taken: usize,
    next: u64,
    stop: bool,
}

/// A group and who uses it.
pub(super) struct Shareable {
    group: Mutex<Group>,
    width: usize,
    users: AtomicUsize,
}

struct Batch {
    id: u64,
    group: Arc<Shareable>,
    buffer: Buffer,
    parts: Vec<usize>,
    rows: usize,
    /// Threads that are still writing.
    writing: usize,
    since: Instant,
    answers: Vec<Sender<Result<Arc<Scored>, TorchError>>>,
}

/// Losses of a batch.
pub(super) struct Scored {
    losses: Vec<f32>,
    rows: usize,
}

/// Rows on their way.
pub(super) struct Ticket {
    answer: Receiver<Result<Arc<Scored>, TorchError>>,
    from: usize,
    rows: usize,
}

impl Shareable {
    pub fn new(group: Group, width: usize) -> Self {
        Self { group: Mutex::new(group), width, users: AtomicUsize::new(0) }
    }

    pub fn join(&self) {
        self.users.fetch_add(1, Ordering::Relaxed);
    }

    pub fn leave(&self) {
        self.users.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queue {
    pub fn start(
        library: &Arc<Library>,
        device: Device,
        max_rows: usize,
        max_wait: Duration,
    ) -> Result<Self, TorchError> {
        let (state, ready, free) = (Mutex::default(), Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { library: library.clone(), device, max_rows, max_wait, state, ready, free });
        let (mine, name) = (shared.clone(), format!("inference {device}"));
        let thread = std::thread::Builder::new().name(name).spawn(move || mine.run());
        let thread = thread.map_err(|e| TorchError::Call { reason: Reason::Refused, message: e.to_string() })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Most rows of one batch.
    pub fn max_rows(&self) -> usize {
        self.shared.max_rows
    }

    /// Sends rows on their way: at most as many as a batch takes.
    pub fn send(
        &self,
        group: &Arc<Shareable>,
        matrix: &Matrix,
        columns: &[&[f64]],
        from: usize,
        rows: usize,
    ) -> Result<Ticket, TorchError> {
        let (sender, answer) = bounded(1);
        let (id, place, before) = self.shared.reserve(group, rows, sender)?;
        let writing = Writing { shared: &self.shared, id };
        // SAFETY: this part of the buffer was reserved for this thread; the batch does not leave before it is written.
        let to = unsafe { std::slice::from_raw_parts_mut(place, rows * group.width) };
        matrix.write(columns, from, rows, to);
        drop(writing);
        Ok(Ticket { answer, from: before, rows })
    }
}

/// A thread writes to a batch. However that ends, the others' rows are not held up.
struct Writing<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if let Some(batch) = self.shared.lock().open.iter_mut().find(|b| b.id == self.id) {
            batch.writing -= 1;
        }
        self.shared.ready.notify_one();
    }
}

impl Ticket {
    /// Waits, and gives the losses of the rows: per model the mean squared and the mean log1p errors.
    pub fn wait(self, models: usize, mut each: impl FnMut(usize, &[f32], &[f32])) -> Result<(), TorchError> {
        let gone = |_| TorchError::Call { reason: Reason::DeviceLost, message: "the device's thread has ended".into() };
        let scored = self.answer.recv().map_err(gone)??;
        for model in 0..models {
            let at = |loss: usize| {
                let start = (2 * model + loss) * scored.rows + self.from;
                &scored.losses[start..start + self.rows]
            };
            each(model, at(0), at(1));
        }
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for rows in a batch of the group: the batch, where they go, how many rows are before them.
    fn reserve(
        &self,
        group: &Arc<Shareable>,
        rows: usize,
        answer: Sender<Result<Arc<Scored>, TorchError>>,
    ) -> Result<(u64, *mut f32, usize), TorchError> {
        let mut state = self.lock();
        loop {
            let fits = |b: &&mut Batch| Arc::ptr_eq(&b.group, group) && b.rows + rows <= self.max_rows;
            if let Some(batch) = state.open.iter_mut().find(fits) {
                return Ok(batch.take(rows, answer));
            }
            if state.taken < BUFFERS {
                break;
            }
            state = self.free.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.taken += 1;
        let floats = self.max_rows * group.width;
        let buffer = match state.spare.iter().position(|b| b.capacity() >= floats) {
            Some(at) => Ok(state.spare.swap_remove(at)),
            None => {
                // Too small for what is scored now.
                state.spare.pop();
                Buffer::new(&self.library, self.device, floats)
            }
        };
        let buffer = buffer.inspect_err(|_| state.taken -= 1)?;
        state.next += 1;
        let mut batch = Batch {
            id: state.next,
            group: group.clone(),
            buffer,
            parts: Vec::new(),
            rows: 0,
            writing: 0,
            since: Instant::now(),
            answers: Vec::new(),
        };
        let reserved = batch.take(rows, answer);
        state.open.push(batch);
        Ok(reserved)
    }

    /// Runs the device until there is nobody left.
    fn run(&self) {
        let label = || [("device", self.device.to_string())];
        let batches = metrics::counter!(telemetry::INFERENCE_DEVICE_BATCHES, &label());
        let rows_sent = metrics::counter!(telemetry::INFERENCE_DEVICE_ROWS, &label());
        let waited = metrics::histogram!(telemetry::INFERENCE_DEVICE_WAIT, &label());
        let seconds = metrics::histogram!(telemetry::INFERENCE_DEVICE_DURATION, &label());
        let mut losses = Vec::new();
        while let Some(mut batch) = self.next() {
            let began = Instant::now();
            waited.record(began.duration_since(batch.since).as_secs_f64());
            let mut group = batch.group.group.lock().unwrap_or_else(PoisonError::into_inner);
            let scored = group.score(&mut batch.buffer, &batch.parts, &mut losses);
            drop(group);
            batches.increment(1);
            rows_sent.increment(batch.rows as u64);
            seconds.record(began.elapsed().as_secs_f64());
            let rows = batch.rows;
            let scored = scored.map(|()| Arc::new(Scored { losses: std::mem::take(&mut losses), rows }));
            let mut state = self.lock();
            state.taken -= 1;
            state.spare.push(batch.buffer);
            drop(state);
            self.free.notify_all();
            for answer in batch.answers {
                // Who has gone needs none.
                let _ = answer.send(scored.clone());
            }
        }
    }

    /// The next batch that is to leave.
    fn next(&self) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Some(at) = state.open.iter().position(|b| b.leaves(now, self)) {
                return Some(state.open.swap_remove(at));
            }
            if state.stop && state.open.is_empty() {
                return None;
            }
            let first = state.open.iter().filter(|b| b.writing == 0).map(|b| b.since + self.max_wait).min();
            state = match first {
                Some(at) => {
                    let wait = at.saturating_duration_since(now);
                    self.ready.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Batch {
    fn take(&mut self, rows: usize, answer: Sender<Result<Arc<Scored>, TorchError>>) -> (u64, *mut f32, usize) {
        let before = self.rows;
        // SAFETY: the batch has room for the rows; the pointer is used while they are marked as being written.
        let place = unsafe { self.buffer.pointer().add(before * self.group.width) };
        self.rows += rows;
        self.parts.push(rows);
        self.writing += 1;
        self.answers.push(answer);
        (self.id, place, before)
    }

    fn leaves(&self, now: Instant, shared: &Shared) -> bool {
        self.writing == 0
            && (self.parts.len() >= self.group.users.load(Ordering::Relaxed)
                || self.rows >= shared.max_rows
                || now >= self.since + shared.max_wait)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.ready.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
