//! Fast, slow, flaky, dead and stuck sinks.

use super::*;
use crate::model::incident::IncidentEvent;
use crate::sink::SinkError;
use crate::sink::fixtures::event;
use std::sync::Mutex;
use std::sync::atomic::AtomicI32;

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
    fn deliver(&mut self, output: &Output) -> Result<(), SinkError> {
        let events = crate::sink::incidents(output)?;
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

fn batch(n: u32) -> Output {
    Output::Incidents(vec![IncidentEvent { windows_alerted: n, ..event() }])
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

fn never() -> bool {
    false
}

/// Takes something only while it is open; flushes so many times in vain.
#[derive(Clone, Default)]
struct Gate {
    open: Arc<AtomicBool>,
    not_yet: Arc<AtomicI32>,
    taken: Arc<Mutex<Vec<u32>>>,
}

impl Sink for Gate {
    fn deliver(&mut self, output: &Output) -> Result<(), SinkError> {
        if !self.open.load(Ordering::SeqCst) {
            return Err(SinkError::broker("unreachable", "nobody there"));
        }
        let events = crate::sink::incidents(output)?;
        self.taken.lock().unwrap().extend(events.iter().map(|e| e.windows_alerted));
        Ok(())
    }
    fn flush(&mut self) -> Result<(), SinkError> {
        match self.not_yet.fetch_sub(1, Ordering::SeqCst) > 0 {
            true => Err(SinkError::broker("unacknowledged", "not yet")),
            false => Ok(()),
        }
    }
}

/// A thread that hands over to a sink that is shut, with a small queue and no time for what is not patient.
fn gated(gate: &Gate) -> SinkHandle {
    let hasty = Retry { running: Duration::from_millis(1), ..FAST };
    SinkWorker::spawn_with("x".into(), Box::new(gate.clone()), 2, hasty)
}

#[test]
fn a_barrier_is_answered_when_all_before_it_is_safe() {
    let gate = Gate::default();
    gate.not_yet.store(5, Ordering::SeqCst);
    let handle = gated(&gate);
    assert!(handle.send_patiently(batch(0), &never));
    let answered = handle.barrier();
    assert_eq!(answered.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
    gate.open.store(true, Ordering::SeqCst);
    assert_eq!(answered.recv_timeout(Duration::from_secs(10)), Ok(()));
    assert!(gate.not_yet.load(Ordering::SeqCst) < 0, "it asked until all was flushed");
    assert_eq!(*gate.taken.lock().unwrap(), [0]);
    handle.finish();
}

#[test]
fn patience_outlasts_the_time_of_a_delivery_and_waits_for_room() {
    let gate = Gate::default();
    let handle = Arc::new(gated(&gate));
    let sender = handle.clone();
    // One in the worker's hands, two in the queue: the rest waits.
    let sending = thread::spawn(move || (0..6).all(|n| sender.send_patiently(batch(n), &never)));
    thread::sleep(Duration::from_millis(250));
    assert!(!sending.is_finished());
    gate.open.store(true, Ordering::SeqCst);
    assert!(sending.join().unwrap());
    assert_eq!(handle.barrier().recv_timeout(Duration::from_secs(10)), Ok(()));
    assert_eq!(*gate.taken.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
    Arc::into_inner(handle).unwrap().finish();
}

#[test]
fn what_was_given_up_leaves_barriers_unanswered() {
    let gate = Gate::default();
    let handle = gated(&gate);
    (0..3).for_each(|n| assert!(handle.send_patiently(batch(n), &never)));
    assert!(!handle.send_patiently(batch(3), &|| true));
    let answered = handle.barrier();
    gate.open.store(true, Ordering::SeqCst);
    assert_eq!(answered.recv_timeout(Duration::from_secs(10)), Err(RecvTimeoutError::Disconnected));
    handle.finish();
    assert_eq!(*gate.taken.lock().unwrap(), [0, 1, 2]);
}

#[test]
fn what_is_not_delivered_at_the_end_leaves_its_barrier_unanswered_and_is_no_loss() {
    let gate = Gate::default();
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = gated(&gate);
    assert!(handle.send_patiently(batch(0), &never));
    let answered = handle.barrier();
    metrics::with_local_recorder(&recorder, || handle.finish());
    assert_eq!(answered.recv_timeout(Duration::from_secs(10)), Err(RecvTimeoutError::Disconnected));
    assert!(!recorder.handle().render().contains("kaminari_sink_failed_total"));
}

#[test]
fn an_impatient_loss_does_not_hold_up_barriers() {
    let gate = Gate::default();
    let handle = gated(&gate);
    handle.send(batch(0));
    thread::sleep(Duration::from_millis(100));
    gate.open.store(true, Ordering::SeqCst);
    assert!(handle.send_patiently(batch(1), &never));
    assert_eq!(handle.barrier().recv_timeout(Duration::from_secs(10)), Ok(()));
    assert_eq!(*gate.taken.lock().unwrap(), [1]);
    handle.finish();
}

#[test]
fn an_offer_never_waits_and_is_counted_when_shed() {
    let gate = Gate::default();
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let patient = Retry { running: Duration::from_secs(20), ..FAST };
    let handle = SinkWorker::spawn_with("x".into(), Box::new(gate.clone()), 2, patient);
    handle.send(batch(0));
    thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    let taken = metrics::with_local_recorder(&recorder, || (1..6).filter(|n| handle.offer(batch(*n))).count());
    assert!(begun.elapsed() < Duration::from_millis(90), "{:?}", begun.elapsed());
    assert_eq!(taken, 2);
    let text = recorder.handle().render();
    assert!(text.contains("kaminari_sink_shed_total{component_id=\"x\",reason=\"queue_full\"} 3"), "{text}");
    gate.open.store(true, Ordering::SeqCst);
    handle.finish();
    assert_eq!(*gate.taken.lock().unwrap(), [0, 1, 2]);
}

#[test]
fn a_sink_is_given_what_it_takes() {
    let handle = gated(&Gate::default());
    assert_eq!(handle.content(), Content::Incidents);
    handle.finish();
    let mut sink = crate::sink::stdout::StdoutSink::new(crate::sink::stdout::StdoutConfig::default());
    let flows = Output::Flows(crate::model::flow_rows::fixtures::batch(1));
    let error = sink.deliver(&flows).unwrap_err();
    assert_eq!((error.reason, error.retry), ("config", false));
}
