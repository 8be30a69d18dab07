//! A tracker that was saved and restored tells what one tells that was never disturbed.

use super::properties::{plans, stream};
use super::tests::{at, detection, host, plan, prefix, tracker, window};
use super::*;
use metrics_exporter_prometheus::PrometheusBuilder;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restored_tracker_goes_on_as_if_nothing_had_happened(
        plan in plans(), stream in stream(), cut in any::<prop::sample::Index>(),
    ) {
        let (before, after) = stream.split_at(cut.index(stream.len() + 1));
        let (mut whole, mut restored) = (tracker(plan.clone()), tracker(plan));
        for (i, detections) in before {
            whole.observe(&window(*i), detections.clone());
        }
        let saved = whole.save();
        restored.restore(&saved).unwrap();
        prop_assert_eq!(restored.save(), saved);
        prop_assert_eq!(restored.open_count(), whole.open_count());
        for (i, detections) in after {
            let expected = whole.observe(&window(*i), detections.clone());
            prop_assert_eq!(restored.observe(&window(*i), detections.clone()), expected);
        }
        prop_assert_eq!(restored.save(), whole.save());
        let expected = whole.close_all(window(100).end_ns, "shutdown");
        prop_assert_eq!(restored.close_all(window(100).end_ns, "shutdown"), expected);
    }

    /// Changed and cut bytes are refused or taken, and a tracker that took them goes on.
    #[test]
    fn no_bytes_make_it_panic(
        plan in plans(), stream in stream(), cut in any::<prop::sample::Index>(), end in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), whole in any::<bool>(),
    ) {
        let (before, after) = stream.split_at(cut.index(stream.len() + 1));
        let mut t = tracker(plan.clone());
        for (i, detections) in before {
            t.observe(&window(*i), detections.clone());
        }
        let mut bytes = t.save();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if !whole {
            bytes.truncate(end.index(bytes.len()));
        }
        let mut other = tracker(plan);
        if other.restore(&bytes).is_err() {
            prop_assert_eq!((other.tracks.len(), other.open, other.covered, other.windows.last()), (0, 0, 0, 0));
        }
        for (i, detections) in after {
            other.observe(&window(*i), detections.clone());
        }
        other.close_all(0, "shutdown");
    }
}

#[test]
fn numbers_that_json_has_not_survive_and_the_gauge_is_set() {
    let mut t = tracker(plan());
    let mut d = detection(host(1), f64::INFINITY);
    d.alert.contributions[0].observed = f64::NEG_INFINITY;
    d.model_digest = Some("sha256:01".into());
    t.observe(&window(0), vec![d]);
    let mut other = tracker(plan());
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || other.restore(&t.save()).unwrap());
    assert!(recorder.handle().render().contains("kaminari_incidents_open{pipeline=\"ddos\"} 1"));
    let lead = |t: &IncidentTracker| format!("{:?}", t.tracks[&host(1)].open.as_ref().unwrap().lead);
    assert!(
        lead(&t).contains("expected: NaN") && lead(&t).contains("observed: -inf") && lead(&t).contains("score: inf")
    );
    assert_eq!(lead(&other), lead(&t));
}

#[test]
fn other_versions_and_pipelines_are_refused() {
    let mut t = tracker(plan());
    t.observe(&window(0), vec![detection(host(1), 200.0)]);
    let saved = t.save();
    let mut newer = saved.clone();
    newer["incidents".len() + 4] = 2;
    let told = t.restore(&newer).unwrap_err();
    assert_eq!(told, "version 2 of the state of incidents is not 1, which this engine reads");
    assert_eq!(t.restore(b"{}").unwrap_err(), "not a state of incidents");
    assert_eq!(t.open_count(), 1, "as it was");
    let mut other = tracker(plan());
    other.context.pipeline = "exfil".into();
    assert!(other.restore(&saved).unwrap_err().contains("another pipeline"));
}

#[test]
fn a_shorter_memory_keeps_the_newest_alerts() {
    let long = IncidentPlan { open_m: 5, open_n: 9, ..plan() };
    let mut t = tracker(long.clone());
    for i in 0..4 {
        t.observe(&window(i), at(i, &[detection(prefix(), 200.0)]));
    }
    let mut other = tracker(IncidentPlan { open_m: 2, open_n: 2, ..long });
    other.restore(&t.save()).unwrap();
    assert_eq!(other.tracks[&prefix()].alerts.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [3, 4]);
}

/// How long and how large: `cargo test --release -- --ignored --nocapture how_large_a_tracker`.
#[test]
#[ignore = "measures"]
fn how_large_a_tracker() {
    let mut t = tracker(IncidentPlan { max_open_per_minute: u32::MAX, ..plan() });
    let key = |i: u32| EntityKey {
        kind: KeyKind::SrcAddr,
        addr: crate::model::Addr::from_v4_bytes(i.to_be_bytes()),
        extra: 0,
    };
    let mut one = detection(host(1), 200.0);
    one.observed = (0..60).map(|i| (format!("feature_number_{i}").into(), f64::from(i))).collect();
    t.observe(&window(0), (0..10_000).map(|i| Detection { key: key(i), ..one.clone() }).collect());
    let began = std::time::Instant::now();
    let saved = t.save();
    let saved_in = began.elapsed();
    let began = std::time::Instant::now();
    tracker(plan()).restore(&saved).unwrap();
    println!(
        "10000 open incidents of 60 features: {} bytes, saved in {saved_in:?}, restored in {:?}",
        saved.len(),
        began.elapsed()
    );
}
