//! What holds for every stream of detections.

use super::tests::{at, detection, host, names, plan, prefix, tracker, window};
use super::*;
use crate::model::{Addr, Severity};
use proptest::prelude::*;
use std::collections::HashMap;

/// A few entities of all levels, in windows with gaps and re-firings.
pub(super) fn stream() -> impl Strategy<Value = Vec<(u64, Vec<Detection>)>> {
    let one = (0u8..14, 0.0..5000.0f64, 0u8..3, 0u8..2).prop_map(|(who, packets, severity, detector)| {
        let key = match who {
            0..=1 => prefix(),
            2 => EntityKey { kind: KeyKind::Interface, addr: Addr::from_v4_bytes([10, 0, 0, 1]), extra: 3 },
            3 => EntityKey { kind: KeyKind::SrcAddr, addr: Addr::from_v4_bytes([192, 0, 2, 9]), extra: 0 },
            i => host(i),
        };
        let mut d = detection(key, packets);
        d.detector = ["a", "b"][usize::from(detector)].into();
        d.alert.severity = [Severity::Low, Severity::High, Severity::Critical][usize::from(severity)];
        d
    });
    let step = (prop_oneof![9 => Just(1i64), 1 => -4i64..1], prop::collection::vec(one, 0..12));
    prop::collection::vec(step, 1..60).prop_map(|steps| {
        let (mut newest, mut out) = (10i64, Vec::new());
        for (step, detections) in steps {
            let i = newest + step;
            newest = newest.max(i);
            out.push((i as u64, at(i as u64, &detections)));
        }
        out
    })
}

fn run(plan: &IncidentPlan, stream: &[(u64, Vec<Detection>)]) -> Vec<IncidentEvent> {
    let mut t = tracker(plan.clone());
    let mut events: Vec<_> = stream.iter().flat_map(|(i, d)| t.observe(&window(*i), d.clone())).collect();
    let last = stream.iter().map(|(i, _)| *i).max().unwrap_or(0);
    events.extend(t.close_all(window(last).end_ns, "end_of_input"));
    assert_eq!(t.open_count(), 0);
    events
}

pub(super) fn plans() -> impl Strategy<Value = IncidentPlan> {
    (1u32..4, 1u32..5, 1u32..5, 1u32..6, 0.2..1.0f64, prop_oneof![Just(1000u32), 1u32..4], 1u64..30).prop_map(
        |(open_m, open_n, close_after_windows, cover_min_hosts, dominant_share, max_open_per_minute, interval)| {
            IncidentPlan {
                open_m: open_m.min(open_n),
                open_n,
                close_after_windows,
                update_interval_secs: interval,
                cover_min_hosts,
                dominant_share,
                max_open_per_minute,
                suppress: vec!["192.0.2.12/32".parse().unwrap()],
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_incident_opens_once_and_closes_once(plan in plans(), stream in stream()) {
        let mut open: HashMap<String, String> = HashMap::new();
        let mut ids = BTreeSet::new();
        for e in run(&plan, &stream) {
            let entity = format!("{} {}", e.entity.kind, e.entity.value);
            prop_assert!(entity != "dst_addr 192.0.2.12", "suppressed");
            match e.event {
                IncidentEventKind::Open => {
                    prop_assert!(ids.insert(e.incident_id.clone()), "an id opens once");
                    prop_assert_eq!(open.insert(entity, e.incident_id), None, "one open incident per entity");
                }
                IncidentEventKind::Update => prop_assert_eq!(open.get(&entity), Some(&e.incident_id)),
                IncidentEventKind::Close => {
                    prop_assert_eq!(open.remove(&entity), Some(e.incident_id));
                    prop_assert!(e.close_reason.is_some() && e.closed_at.is_some());
                }
                IncidentEventKind::Notice => prop_assert_eq!(e.kind, "rate-limited"),
            }
        }
        prop_assert!(open.is_empty(), "everything closes");
    }

    #[test]
    fn the_order_of_detections_does_not_matter(plan in plans(), stream in stream(), seed in any::<u64>()) {
        use rand::{SeedableRng, seq::SliceRandom};
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        let mut shuffled = stream.clone();
        for (_, detections) in &mut shuffled {
            detections.shuffle(&mut rng);
        }
        prop_assert_eq!(run(&plan, &stream), run(&plan, &shuffled));
    }

    #[test]
    fn firing_a_window_again_with_the_same_detections_opens_nothing(plan in plans(), stream in stream()) {
        let plan = IncidentPlan { max_open_per_minute: 1000, update_interval_secs: 3600, ..plan };
        let mut t = tracker(plan);
        for (i, detections) in stream {
            t.observe(&window(i), detections.clone());
            let again = t.observe(&WindowInfo { revision: 1, ..window(i) }, detections);
            prop_assert!(again.is_empty(), "{:?}", names(&again));
        }
    }

    /// Hosts come and go one by one around the time in which the prefix is over its limit.
    #[test]
    fn a_ragged_carpet_is_one_incident(
        hosts in prop::collection::vec((0u64..20, 1u64..30, 100.0..300.0f64), 8..250),
        prefix_windows in 15u64..25,
        open_m in 1u32..4,
    ) {
        let plan = IncidentPlan { open_m, open_n: 3, cover_min_hosts: 8, ..plan() };
        let last = prefix_windows + 2 * u64::from(plan.close_after_windows) - 1;
        let whole: f64 = hosts.iter().map(|h| h.2).sum();
        let mut t = tracker(plan);
        let mut events = Vec::new();
        for i in 0..last + 20 {
            let on = |(from, len, _): &(u64, u64, f64)| (*from..(from + len).min(last)).contains(&i);
            let alerted = hosts.iter().enumerate().filter(|(_, h)| on(h));
            let mut now: Vec<_> = alerted.map(|(k, h)| detection(host(k as u8), h.2)).collect();
            if i < prefix_windows {
                now.push(detection(prefix(), whole));
            }
            events.extend(t.observe(&window(i), at(i, &now)));
        }
        // Before the prefix has its m of n, a host may have had its own; such an incident is taken over.
        let of = |kind: IncidentEventKind| events.iter().filter(move |e| e.event == kind);
        prop_assert_eq!(of(IncidentEventKind::Open).filter(|e| e.entity.kind == "dst_prefix").count(), 1);
        let hosts_opened = of(IncidentEventKind::Open).filter(|e| e.entity.kind == "dst_addr").count();
        prop_assert_eq!(hosts_opened, 0, "{:?}", names(&events));
        prop_assert_eq!(t.open_count(), 0);
    }

    /// One host is flooded, with benign neighbours; the prefix is over its limit sooner or later, longer or shorter.
    #[test]
    fn a_ragged_flood_is_one_host_incident(
        host_windows in 1u64..20, prefix_from in 0u64..5, prefix_extra in 0u64..4, rest in 0.0..0.24f64, k in 1u32..6,
    ) {
        let mut t = tracker(IncidentPlan { close_after_windows: k, ..plan() });
        let mut events = Vec::new();
        let until = host_windows + prefix_extra.min(u64::from(k));
        for i in 0..60 {
            let mut now = Vec::new();
            if i < host_windows {
                now.push(detection(host(1), 9000.0));
            }
            if (prefix_from.min(host_windows - 1)..until).contains(&i) {
                now.push(detection(prefix(), 9000.0 * (1.0 + rest)));
            }
            events.extend(t.observe(&window(i), at(i, &now)));
        }
        prop_assert_eq!(names(&events), ["open 192.0.2.1", "close 192.0.2.1"]);
    }
}
