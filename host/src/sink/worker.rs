//! A thread per sink: a bounded queue, retries with backoff, and a count and a log line for whatever was not delivered.

use super::Sink;
use crate::model::incident::IncidentEvent;
use crate::telemetry::{SINK_DELIVERED, SINK_FAILED};
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long the stages before wait for room in the queue.
const SEND_WAIT: Duration = Duration::from_millis(100);
/// Incident ids named in one log line.
const IDS_LOGGED: usize = 50;

/// When to try again, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// First pause; doubles.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
    /// Time spent on one delivery while running.
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

/// The thread's side.
pub struct SinkWorker {
    id: Arc<str>,
    sink: Box<dyn Sink>,
    retry: Retry,
    pending: Arc<AtomicUsize>,
    /// Nothing is ever sent on it: it disconnects when finishing begins.
    stop: Receiver<()>,
    finish_by: Option<Instant>,
    /// It cannot come back, and that was said: what follows is counted.
    closed: bool,
}

/// The pipeline's side.
pub struct SinkHandle {
    id: Arc<str>,
    queue: Sender<Vec<IncidentEvent>>,
    pending: Arc<AtomicUsize>,
    stop: Sender<()>,
    done: Receiver<()>,
    retry: Retry,
}

impl SinkWorker {
    /// Starts the thread of a sink; `capacity` deliveries wait in its queue.
    pub fn spawn(id: Arc<str>, sink: Box<dyn Sink>, capacity: usize) -> SinkHandle {
        Self::spawn_with(id, sink, capacity, Retry::default())
    }

    /// The same with other times.
    pub fn spawn_with(id: Arc<str>, sink: Box<dyn Sink>, capacity: usize, retry: Retry) -> SinkHandle {
        let (queue, incoming) = bounded::<Vec<IncidentEvent>>(capacity.max(1));
        let (stop, stopped) = bounded(0);
        let (finished, done) = bounded(1);
        let pending = Arc::new(AtomicUsize::new(0));
        let mut worker = SinkWorker {
            id: id.clone(),
            sink,
            retry,
            pending: pending.clone(),
            stop: stopped,
            finish_by: None,
            closed: false,
        };
        thread::Builder::new()
            .name(format!("sink-{id}"))
            .spawn(move || {
                for events in incoming {
                    worker.deliver(&events);
                    worker.pending.fetch_sub(events.len(), Ordering::Relaxed);
                }
                if let Err(e) = worker.sink.flush() {
                    tracing::error!(component_id = &*worker.id, error_type = e.reason, "cannot flush the sink: {e}");
                }
                // The handle may have stopped waiting.
                let _ = finished.send(());
            })
            .expect("the system starts threads");
        SinkHandle { id, queue, pending, stop, done, retry }
    }

    fn deliver(&mut self, events: &[IncidentEvent]) {
        let begun = Instant::now();
        let mut pause = self.retry.first;
        loop {
            let error = match self.sink.deliver(events) {
                Ok(()) => {
                    metrics::counter!(SINK_DELIVERED, "component_id" => self.id.clone()).increment(events.len() as u64);
                    return;
                }
                Err(e) => e,
            };
            let give_up_at = self.finish_by.map_or(begun + self.retry.running, |by| by.min(begun + self.retry.running));
            if !error.retry {
                if self.closed {
                    return count_failed(&self.id, error.reason, events.len());
                }
                self.closed = true;
                let why = format!("{error}; what follows is only counted");
                return confess(&self.id, events, error.reason, &why);
            }
            if Instant::now() + pause > give_up_at {
                return confess(&self.id, events, error.reason, &error.to_string());
            }
            // One line when trouble begins; the end of it is a delivery or an ERROR.
            if pause == self.retry.first {
                tracing::warn!(
                    component_id = &*self.id,
                    error_type = error.reason,
                    "delivery failed, trying again: {error}"
                );
            }
            self.pause(pause);
            pause = (pause * 2).min(self.retry.longest);
        }
    }

    /// Sleeps; wakes when finishing begins, from when on time is short.
    fn pause(&mut self, pause: Duration) {
        if self.finish_by.is_some() {
            thread::sleep(pause);
        } else if let Err(RecvTimeoutError::Disconnected) = self.stop.recv_timeout(pause) {
            self.finish_by = Some(Instant::now() + self.retry.finishing);
        }
    }
}

impl SinkHandle {
    /// Hands events over. Waits at most a moment for room; events that find none are counted and logged.
    pub fn send(&self, events: Vec<IncidentEvent>) {
        if events.is_empty() {
            return;
        }
        let n = events.len();
        self.pending.fetch_add(n, Ordering::Relaxed);
        if let Err(e) = self.queue.send_timeout(events, SEND_WAIT) {
            self.pending.fetch_sub(n, Ordering::Relaxed);
            let (reason, why) = match e {
                SendTimeoutError::Timeout(_) => ("queue_full", "the queue is full: the sink does not keep up"),
                SendTimeoutError::Disconnected(_) => ("stopped", "the sink's thread has ended"),
            };
            confess(&self.id, &e.into_inner(), reason, why);
        }
    }

    /// Delivers what is queued, flushes and ends the thread; gives up on a sink that is stuck.
    pub fn finish(self) {
        let Self { id, queue, pending, stop, done, retry } = self;
        drop((queue, stop));
        // A little more than the worker's own limit, so that it is the worker who names what was lost.
        if let Err(RecvTimeoutError::Timeout) = done.recv_timeout(retry.finishing + Duration::from_secs(2)) {
            let left = pending.load(Ordering::Relaxed);
            count_failed(&id, "stuck", left);
            tracing::error!(
                component_id = &*id,
                error_type = "stuck",
                events = left,
                "the sink does not finish, leaving it"
            );
        }
    }
}

fn count_failed(id: &Arc<str>, reason: &'static str, events: usize) {
    metrics::counter!(SINK_FAILED, "component_id" => id.clone(), "reason" => reason).increment(events as u64);
}

/// Events were lost: counts them and names their incidents.
fn confess(id: &Arc<str>, events: &[IncidentEvent], reason: &'static str, why: &str) {
    count_failed(id, reason, events.len());
    let incidents: Vec<&str> = events.iter().take(IDS_LOGGED).map(|e| e.incident_id.as_str()).collect();
    tracing::error!(
        component_id = &**id,
        error_type = reason,
        events = events.len(),
        incidents = incidents.join(","),
        "incident events not delivered: {why}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::SinkError;
    use crate::sink::fixtures::event;
    use std::sync::Mutex;

    /// Fails so many times before it takes anything; `None` in `fails` is for ever.
    #[derive(Clone, Default)]
    struct Flaky {
        fails: Option<usize>,
        tries: Arc<AtomicUsize>,
        taken: Arc<Mutex<Vec<u32>>>,
        flushed: Arc<AtomicUsize>,
        retry: bool,
    }

    impl Sink for Flaky {
        fn deliver(&mut self, events: &[IncidentEvent]) -> Result<(), SinkError> {
            let n = self.tries.fetch_add(1, Ordering::SeqCst);
            if self.fails.is_none_or(|fails| n < fails) {
                let mut e = SinkError::closed("test");
                e.retry = self.retry;
                return Err(e);
            }
            self.taken.lock().unwrap().extend(events.iter().map(|e| e.windows_alerted));
            Ok(())
        }
        fn flush(&mut self) -> Result<(), SinkError> {
            self.flushed.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    const FAST: Retry = Retry {
        first: Duration::from_millis(1),
        longest: Duration::from_millis(5),
        running: Duration::from_secs(20),
        finishing: Duration::from_millis(50),
    };

    fn batch(n: u32) -> Vec<IncidentEvent> {
        vec![IncidentEvent { windows_alerted: n, ..event() }]
    }

    #[test]
    fn tries_again_and_keeps_the_order() {
        let sink = Flaky { fails: Some(3), retry: true, ..Flaky::default() };
        let patient = Retry { finishing: Duration::from_secs(20), ..FAST };
        let handle = SinkWorker::spawn_with("x".into(), Box::new(sink.clone()), 8, patient);
        (0..5).for_each(|n| handle.send(batch(n)));
        handle.finish();
        assert_eq!(*sink.taken.lock().unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(sink.tries.load(Ordering::SeqCst), 8);
        assert_eq!(sink.flushed.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_dead_sink_does_not_hold_up_the_end() {
        let sink = Flaky { retry: true, ..Flaky::default() };
        let handle = SinkWorker::spawn_with("x".into(), Box::new(sink.clone()), 8, FAST);
        (0..5).for_each(|n| handle.send(batch(n)));
        let begun = Instant::now();
        handle.finish();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(sink.tries.load(Ordering::SeqCst) >= 5, "each delivery was tried at least once");
        assert!(sink.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn an_error_that_stays_is_not_tried_again() {
        let sink = Flaky { retry: false, ..Flaky::default() };
        let handle = SinkWorker::spawn_with("x".into(), Box::new(sink.clone()), 8, FAST);
        handle.send(batch(0));
        handle.finish();
        assert_eq!(sink.tries.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_full_queue_does_not_block_for_long_and_is_counted() {
        let sink = Flaky { retry: true, ..Flaky::default() };
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = SinkWorker::spawn_with("x".into(), Box::new(sink), 1, FAST);
        let begun = Instant::now();
        metrics::with_local_recorder(&recorder, || (0..6).for_each(|n| handle.send(batch(n))));
        assert!(begun.elapsed() < Duration::from_secs(5));
        let text = recorder.handle().render();
        // One is in the worker's hands, one in the queue.
        assert!(text.contains("kaminari_sink_failed_total{component_id=\"x\",reason=\"queue_full\"} 4"), "{text}");
        handle.finish();
    }
}
