//! A thread per sink: a bounded queue, retries with backoff, and a count and a log line for whatever was not delivered.
//! Who hands over chooses how long to wait for a sink that does not keep up: a moment, never, or as long as it takes.

use super::confess::{Confessor, Loss};
use super::{Sink, SinkError};
use crate::model::{Content, Output};
use crate::telemetry::SINK_DELIVERED;
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, bounded, unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long the stages before wait for room in the queue.
const SEND_WAIT: Duration = Duration::from_millis(100);
/// How often an idle sink may look after itself.
const TICK: Duration = Duration::from_millis(200);
/// Most deliveries of flow records that wait: each is up to 1.5 MB.
const FLOW_QUEUE: usize = 32;
/// A sink that takes another's place and cannot be made is tried again so often.
const MAKE_AGAIN: Duration = Duration::from_secs(1);
/// A sink that is to go has so much time for what it has.
const RETIRE: Duration = Duration::from_secs(30);
/// A line in the log so often while one delivery is tried without end.
const REMIND: Duration = Duration::from_secs(60);

/// When to try again, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// First pause; doubles.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
    /// Time spent on one delivery while running; not on those that were sent patiently.
    pub running: Duration,
    /// Time spent on everything that is left when finishing.
    pub finishing: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(5),
            running: Duration::from_secs(30),
            finishing: Duration::from_secs(3),
        }
    }
}

/// How long one delivery is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// [`Retry::running`]; then it is lost.
    Some,
    /// Until it is delivered or the program ends; then it is lost.
    Lasting,
    /// The same, and nothing is lost: its source can be read again.
    Again,
}

/// What stands in the queue.
enum Item {
    Output {
        output: Output,
        patience: Patience,
    },
    /// Answered when all before it is safe.
    Barrier(Sender<()>),
}

/// What both sides see.
#[derive(Default)]
struct Shared {
    /// Events and rows in the queue and in the worker's hands.
    pending: AtomicUsize,
    /// Something that was sent patiently has not been delivered: no barrier is answered from then on.
    gap: AtomicBool,
    /// It is to go: nobody shall wait for it.
    leaving: AtomicBool,
}

/// Makes a sink, as often as it takes.
pub type MakeSink = Box<dyn FnMut() -> Result<Box<dyn Sink>, SinkError> + Send>;

/// Tells a sink that takes another's place to begin, with the one that was there before.
pub struct Begin(Sender<Option<Arc<SinkHandle>>>);

impl Begin {
    /// Returns at once.
    pub fn begin(self, before: Option<Arc<SinkHandle>>) {
        // A thread that is gone was told why.
        let _ = self.0.send(before);
    }
}

/// The thread's side.
pub struct SinkWorker {
    sink: Box<dyn Sink>,
    retry: Retry,
    shared: Arc<Shared>,
    confessor: Arc<Confessor>,
    /// Nothing is ever sent on it: it disconnects when finishing begins.
    stop: Receiver<()>,
    finish_by: Option<Instant>,
    /// It cannot come back, and that was said: what follows is counted.
    closed: bool,
}

/// The pipeline's side.
pub struct SinkHandle {
    content: Content,
    queue: Sender<Item>,
    /// A slot per output in the queue; barriers need none, so that asking for one never waits.
    slots: Sender<()>,
    shared: Arc<Shared>,
    confessor: Arc<Confessor>,
    stop: Sender<()>,
    done: Receiver<()>,
    retry: Retry,
}

impl SinkWorker {
    /// Starts the thread of a sink; `capacity` deliveries wait in its queue (of flow records, 32 at most).
    pub fn spawn(id: Arc<str>, sink: Box<dyn Sink>, capacity: usize) -> SinkHandle {
        Self::spawn_with(id, sink, capacity, Retry::default())
    }

    /// The same with other times.
    pub fn spawn_with(id: Arc<str>, sink: Box<dyn Sink>, capacity: usize, retry: Retry) -> SinkHandle {
        let content = sink.content();
        Self::start(id, content, capacity, retry, move |_| Some(sink))
    }

    /// A sink that takes the place of another: what is handed over waits in its queue until the one before has delivered what
    /// it has, or gives up; only then it is made, because two may not share a file. It begins when told; never told, it was not
    /// there.
    pub fn spawn_after(id: Arc<str>, content: Content, capacity: usize, mut make: MakeSink) -> (SinkHandle, Begin) {
        let (begin, begun) = bounded::<Option<Arc<SinkHandle>>>(1);
        let name = id.clone();
        let handle = Self::start(id, content, capacity, Retry::default(), move |stop| {
            let before = begun.recv().ok()?;
            before.into_iter().for_each(SinkHandle::retire);
            loop {
                let error = match make() {
                    Ok(sink) => return Some(sink),
                    Err(error) => error,
                };
                tracing::error!(component_id = &*name, "cannot begin, trying again: {error}");
                if let Err(RecvTimeoutError::Disconnected) = stop.recv_timeout(MAKE_AGAIN) {
                    return None;
                }
            }
        });
        (handle, Begin(begin))
    }

    fn start(
        id: Arc<str>,
        content: Content,
        capacity: usize,
        retry: Retry,
        make: impl FnOnce(&Receiver<()>) -> Option<Box<dyn Sink>> + Send + 'static,
    ) -> SinkHandle {
        let most = if content == Content::Flows { FLOW_QUEUE } else { usize::MAX };
        let (slots, taken) = bounded(capacity.clamp(1, most));
        let (queue, incoming) = unbounded();
        let (stop, stopped) = bounded(0);
        let (finished, done) = bounded(1);
        let shared = Arc::new(Shared::default());
        let confessor = Arc::new(Confessor::new(id.clone()));
        let (theirs, ours) = (shared.clone(), confessor.clone());
        thread::Builder::new()
            .name(format!("sink-{id}"))
            .spawn(move || {
                let (shared, confessor, stop) = (theirs, ours, stopped);
                match make(&stop) {
                    Some(sink) => {
                        let worker =
                            SinkWorker { sink, retry, shared, confessor, stop, finish_by: None, closed: false };
                        worker.run(&incoming, &taken);
                    }
                    // It never came to be: what waits is lost, and nobody asks for a barrier any more.
                    None => incoming.try_iter().for_each(|item| {
                        if let Item::Output { output, .. } = item {
                            confessor.confess(&Loss { output: &output, reason: STOPPED.0, why: STOPPED.1 });
                        }
                    }),
                }
                // The handle may have stopped waiting.
                let _ = finished.send(());
            })
            .expect("the system starts threads");
        SinkHandle { content, queue, slots, shared, confessor, stop, done, retry }
    }

    fn run(mut self, incoming: &Receiver<Item>, slots: &Receiver<()>) {
        loop {
            match incoming.recv_timeout(TICK) {
                Ok(Item::Output { output, patience }) => {
                    // Its slot was taken before it was sent.
                    let _ = slots.recv();
                    self.deliver(&output, patience);
                    self.shared.pending.fetch_sub(output.len(), Ordering::Relaxed);
                }
                Ok(Item::Barrier(answer)) => {
                    if !self.shared.gap.load(Ordering::SeqCst) && self.flush() {
                        // Who asked may have gone.
                        let _ = answer.send(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.sink.tick(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.finish_by.get_or_insert_with(|| Instant::now() + self.retry.finishing);
        self.flush();
        self.sink.close();
    }

    fn deliver(&mut self, output: &Output, patience: Patience) {
        let begun = Instant::now();
        let mut pause = self.retry.first;
        let mut remind_at = begun;
        loop {
            let error = match self.sink.deliver(output) {
                Ok(()) => {
                    if !self.sink.counts_deliveries() {
                        metrics::counter!(SINK_DELIVERED, "component_id" => self.confessor.id().clone())
                            .increment(output.len() as u64);
                    }
                    return;
                }
                Err(e) => e,
            };
            self.look();
            if !error.retry {
                self.gap(patience);
                let said = std::mem::replace(&mut self.closed, true);
                let why = format!("{error}; what follows is only counted");
                let loss = Loss { output, reason: error.reason, why: &why };
                return if said { self.confessor.count(&loss) } else { self.confessor.confess(&loss) };
            }
            let give_up_at = match (patience, self.finish_by) {
                (Patience::Some, None) => Some(begun + self.retry.running),
                (Patience::Some, Some(by)) => Some(by.min(begun + self.retry.running)),
                (_, by) => by,
            };
            if give_up_at.is_some_and(|at| Instant::now() + pause > at) {
                self.gap(patience);
                return match patience {
                    Patience::Again => self.confessor.left(output, &error),
                    _ => self.confessor.confess(&Loss { output, reason: error.reason, why: &error.to_string() }),
                };
            }
            // One line when trouble begins, and now and then; the end of it is a delivery or an ERROR.
            // A source that waits for a full sink is how it should be, for a while.
            let waits = patience != Patience::Some && error.reason == "queue_full" && begun.elapsed() < REMIND;
            if Instant::now() >= remind_at && !waits {
                remind_at = Instant::now() + REMIND;
                self.confessor.trouble("delivery failed, trying again", &error);
            }
            self.pause(pause);
            pause = (pause * 2).min(self.retry.longest);
        }
    }

    /// True when all that was delivered is safe. Asks until it is, it cannot be, or the program ends.
    fn flush(&mut self) -> bool {
        let mut remind_at = Instant::now() + REMIND;
        loop {
            let error = match self.sink.flush() {
                Ok(()) => return true,
                Err(e) => e,
            };
            self.look();
            if !error.retry || self.finish_by.is_some_and(|by| Instant::now() + self.retry.first > by) {
                self.confessor.cannot_flush(&error);
                return false;
            }
            if Instant::now() >= remind_at {
                remind_at = Instant::now() + REMIND;
                self.confessor.trouble("not safe yet, waiting", &error);
            }
            self.pause(self.retry.first);
        }
    }

    fn gap(&self, patience: Patience) {
        if patience == Patience::Again {
            self.shared.gap.store(true, Ordering::SeqCst);
        }
    }

    /// From when finishing begins on, time is short.
    fn look(&mut self) {
        if self.finish_by.is_none() && self.stop.try_recv() == Err(TryRecvError::Disconnected) {
            self.finish_by = Some(Instant::now() + self.retry.finishing);
        }
    }

    /// Sleeps; wakes when finishing begins.
    fn pause(&mut self, pause: Duration) {
        if self.finish_by.is_some() {
            thread::sleep(pause);
        } else if let Err(RecvTimeoutError::Disconnected) = self.stop.recv_timeout(pause) {
            self.finish_by = Some(Instant::now() + self.retry.finishing);
        }
    }
}

impl SinkHandle {
    /// What the sink takes.
    pub fn content(&self) -> Content {
        self.content
    }

    /// Hands output over. Waits at most a moment for room; what finds none is lost: counted and logged.
    pub fn send(&self, output: Output) {
        if output.is_empty() {
            return;
        }
        let (reason, why) = match self.slots.send_timeout((), SEND_WAIT) {
            Ok(()) => match self.enqueue(output, Patience::Some) {
                None => return,
                Some(output) => return self.confess(&output, STOPPED),
            },
            Err(SendTimeoutError::Timeout(())) => ("queue_full", "the queue is full: the sink does not keep up"),
            Err(SendTimeoutError::Disconnected(())) => STOPPED,
        };
        self.confess(&output, (reason, why));
    }

    /// Hands output over if there is room this instant, else sheds and counts it. For what comes by UDP: a socket must
    /// not wait for a broker. True when it was taken.
    pub fn offer(&self, output: Output) -> bool {
        if output.is_empty() {
            return true;
        }
        let refused = match self.slots.try_send(()) {
            Ok(()) => self.enqueue(output, Patience::Some).map(|output| (output, "stopped")),
            Err(e) => Some((output, if e.is_full() { "queue_full" } else { "stopped" })),
        };
        if let Some((output, reason)) = &refused {
            self.confessor.shed(output.len(), reason);
        }
        refused.is_none()
    }

    /// Hands output over that can be read again: waits for room as long as it takes, or until `give_up` says so. The
    /// worker then tries without a limit until the program ends. What is given up is not lost, but no [barrier] is
    /// answered any more, so that its position is not committed. True when it was taken.
    ///
    /// [barrier]: Self::barrier
    pub fn send_patiently(&self, output: Output, give_up: &dyn Fn() -> bool) -> bool {
        if output.is_empty() {
            return true;
        }
        let taken = self.wait_for_room(give_up).is_ok() && self.enqueue(output, Patience::Again).is_none();
        if !taken {
            self.shared.gap.store(true, Ordering::SeqCst);
        }
        taken
    }

    /// Hands output over that waits with whoever sent it, and cannot be read again: waits and tries as
    /// [`send_patiently`](Self::send_patiently) does. What is given up is lost: counted and logged.
    pub fn send_waiting(&self, output: Output, give_up: &dyn Fn() -> bool) {
        if output.is_empty() {
            return;
        }
        let lost = match self.wait_for_room(give_up) {
            Ok(()) => self.enqueue(output, Patience::Lasting).map(|output| (output, STOPPED)),
            Err(SendTimeoutError::Timeout(())) => {
                Some((output, ("queue_full", "the queue is full: the sink does not keep up, and the program ends")))
            }
            Err(SendTimeoutError::Disconnected(())) => Some((output, STOPPED)),
        };
        if let Some((output, why)) = lost {
            self.confess(&output, why);
        }
    }

    /// A slot in the queue, however long it takes, unless `give_up` says that it is enough.
    fn wait_for_room(&self, give_up: &dyn Fn() -> bool) -> Result<(), SendTimeoutError<()>> {
        loop {
            match self.slots.send_timeout((), SEND_WAIT) {
                Err(SendTimeoutError::Timeout(())) if !give_up() && !self.shared.leaving.load(Ordering::SeqCst) => {}
                result => return result,
            }
        }
    }

    /// Answered once everything sent before it has been delivered and is safe; hangs up unanswered when that cannot be
    /// said. Losses of what was not sent patiently were counted and do not count here. Never waits itself.
    pub fn barrier(&self) -> Receiver<()> {
        let (answer, answered) = bounded(1);
        // A worker that has ended drops it unanswered.
        let _ = self.queue.send(Item::Barrier(answer));
        answered
    }

    /// The configuration has it no more: whoever waits for room gives up, what it has is delivered with some patience, and the
    /// thread ends. Waits for it.
    pub fn retire(self: Arc<Self>) {
        self.shared.leaving.store(true, Ordering::SeqCst);
        let until = Instant::now() + RETIRE;
        let mut last = self;
        let handle = loop {
            last = match Arc::try_unwrap(last) {
                Ok(handle) => break Some(handle),
                Err(shared) if Instant::now() >= until => {
                    // Somebody is stuck with it; its thread ends when they let go.
                    drop(shared);
                    break None;
                }
                Err(shared) => shared,
            };
            thread::sleep(Duration::from_millis(20));
        };
        let Some(handle) = handle else { return };
        while handle.shared.pending.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        handle.finish();
    }

    /// Delivers what is queued, flushes and ends the thread; gives up on a sink that is stuck.
    pub fn finish(self) {
        let Self { queue, slots, shared, confessor, stop, done, retry, .. } = self;
        drop((queue, slots, stop));
        // A little more than the worker's own limit, so that it is the worker who names what was lost.
        if let Err(RecvTimeoutError::Timeout) = done.recv_timeout(retry.finishing + Duration::from_secs(2)) {
            confessor.stuck(shared.pending.load(Ordering::Relaxed));
        }
    }

    /// Puts it into the queue, for which a slot was taken. Gives it back when the worker has ended.
    fn enqueue(&self, output: Output, patience: Patience) -> Option<Output> {
        let n = output.len();
        self.shared.pending.fetch_add(n, Ordering::Relaxed);
        let refused = self.queue.send(Item::Output { output, patience }).err()?;
        self.shared.pending.fetch_sub(n, Ordering::Relaxed);
        match refused.into_inner() {
            Item::Output { output, .. } => Some(output),
            Item::Barrier(_) => None,
        }
    }

    fn confess(&self, output: &Output, (reason, why): (&'static str, &str)) {
        self.confessor.confess(&Loss { output, reason, why });
    }
}

/// Looks which [barriers](SinkHandle::barrier) have been answered, and keeps the others. True: one never will be.
pub fn is_lost(barriers: &mut Vec<Receiver<()>>) -> bool {
    let mut lost = false;
    barriers.retain(|barrier| match barrier.try_recv() {
        Ok(()) => false,
        Err(TryRecvError::Empty) => true,
        Err(TryRecvError::Disconnected) => {
            lost = true;
            false
        }
    });
    lost
}

const STOPPED: (&str, &str) = ("stopped", "the sink's thread has ended");

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
