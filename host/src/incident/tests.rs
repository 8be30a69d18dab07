use super::*;
use crate::model::{Addr, Alert, Contribution, Severity};
use metrics_exporter_prometheus::PrometheusBuilder;

const START: u64 = 1_800_000_000 * SECOND;

pub(super) fn plan() -> IncidentPlan {
    IncidentPlan {
        open_m: 1,
        open_n: 1,
        close_after_windows: 3,
        update_interval_secs: 3600,
        cover_min_hosts: 8,
        dominant_share: 0.8,
        max_open_per_minute: 1000,
        suppress: Vec::new(),
    }
}

pub(super) fn tracker(plan: IncidentPlan) -> IncidentTracker {
    let context =
        Context { pipeline: "ddos".into(), window_kind: "tumbling", plan_digest: "sha256:00".into(), shadow: false };
    IncidentTracker::new(context, plan)
}

/// The i-th window of one second.
pub(super) fn window(i: u64) -> WindowInfo {
    let start_ns = START + i * SECOND;
    WindowInfo { start_ns, end_ns: start_ns + SECOND, revision: 0, watermark_ns: start_ns + SECOND, partial: false }
}

pub(super) fn host(i: u8) -> EntityKey {
    EntityKey { kind: KeyKind::DstAddr, addr: Addr::from_v4_bytes([192, 0, 2, i]), extra: 0 }
}

pub(super) fn prefix() -> EntityKey {
    EntityKey { kind: KeyKind::DstPrefix, addr: Addr::from_v4_bytes([192, 0, 2, 0]), extra: 24 }
}

pub(super) fn detection(key: EntityKey, packets: f64) -> Detection {
    Detection {
        model_digest: None,
        detector: "limits".into(),
        plugin: "threshold@0.1.0".into(),
        key,
        window: window(0),
        alert: Alert {
            row: 0,
            kind: "flood".into(),
            severity: Severity::High,
            score: packets,
            threshold: 100.0,
            message: "packets over the limit".into(),
            contributions: vec![
                Contribution { column: "packets".into(), weight: 0.9, observed: packets, expected: 100.0 },
                Contribution { column: "entropy_src".into(), weight: 0.1, observed: 7.0, expected: f64::NAN },
            ],
            attributes: vec![("direction".into(), "in".into())],
        },
        observed: vec![("packets".into(), packets), ("bytes".into(), packets * 60.0)],
    }
}

/// The same in window `i`.
pub(super) fn at(i: u64, detections: &[Detection]) -> Vec<Detection> {
    detections.iter().map(|d| Detection { window: window(i), ..d.clone() }).collect()
}

fn carpet(hosts: u8) -> Vec<Detection> {
    let mut all: Vec<_> = (1..=hosts).map(|i| detection(host(i), 200.0 + f64::from(i))).collect();
    all.push(detection(prefix(), 220.0 * f64::from(hosts)));
    all
}

pub(super) fn names(events: &[IncidentEvent]) -> Vec<String> {
    events.iter().map(|e| format!("{:?} {}", e.event, e.entity.value).to_lowercase()).collect()
}

/// Runs `f` and returns the value of a counter for pipeline `ddos` by its other label.
fn counted(f: impl FnOnce(), name: &str, label: &str) -> u64 {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, f);
    let text = recorder.handle().render();
    let line = text.lines().find(|l| l.starts_with(&format!("{name}{{")) && l.contains(&format!("\"{label}\"")));
    line.map_or(0, |l| l.rsplit(' ').next().and_then(|v| v.parse().ok()).expect("a counter has a value"))
}

fn suppressed(reason: &str, f: impl FnOnce()) -> u64 {
    counted(f, INCIDENTS_SUPPRESSED, reason)
}

#[test]
fn opens_after_m_of_n_and_closes_after_k_quiet_windows() {
    let mut t = tracker(IncidentPlan { open_m: 2, open_n: 3, ..plan() });
    let alert = [detection(host(1), 200.0)];
    assert!(t.observe(&window(0), at(0, &alert)).is_empty());
    assert!(t.observe(&window(1), vec![]).is_empty());
    let opened = t.observe(&window(2), at(2, &alert));
    assert_eq!(names(&opened), ["open 192.0.2.1"]);
    assert_eq!(opened[0].windows_alerted, 2);
    assert_eq!(opened[0].emitted_at, crate::model::time::rfc3339(window(2).watermark_ns));
    assert_eq!(t.open_count(), 1);
    let open: Vec<_> = t.open_incidents().collect();
    assert_eq!(open, [(opened[0].entity.clone(), opened[0].incident_id.clone())]);
    assert!(t.observe(&window(3), vec![]).is_empty());
    assert!(t.observe(&window(4), vec![]).is_empty());
    let closed = t.observe(&window(5), vec![]);
    assert_eq!(names(&closed), ["close 192.0.2.1"]);
    assert_eq!(closed[0].close_reason.as_deref(), Some("quiet"));
    assert_eq!(closed[0].incident_id, opened[0].incident_id);
    assert_eq!((t.open_count(), t.open_incidents().count()), (0, 0));
}

#[test]
fn alerts_further_apart_than_n_windows_do_not_open() {
    let mut t = tracker(IncidentPlan { open_m: 2, open_n: 3, ..plan() });
    let alert = [detection(host(1), 200.0)];
    for i in 0..20 {
        let now = if i % 3 == 0 { at(i, &alert) } else { vec![] };
        assert!(t.observe(&window(i), now).is_empty(), "window {i}");
    }
}

#[test]
fn the_id_is_of_the_first_window_that_counted_and_the_fingerprint_recurs() {
    let alert = [detection(host(1), 200.0)];
    let run = |offset: u64| {
        let mut t = tracker(plan());
        let mut ids = Vec::new();
        for i in offset..offset + 20 {
            let on = (5..8).contains(&i) || (15..17).contains(&i);
            ids.extend(t.observe(&window(i), if on { at(i, &alert) } else { vec![] }));
        }
        ids.into_iter().filter(|e| e.event == IncidentEventKind::Open).collect::<Vec<_>>()
    };
    let (a, b) = (run(0), run(3));
    assert_eq!(a.len(), 2);
    assert_eq!(a, b, "where the stream begins does not matter");
    assert_eq!(a[0].fingerprint, a[1].fingerprint);
    assert_ne!(a[0].incident_id, a[1].incident_id);
    assert_eq!(a[0].incident_id.len(), 16);
}

#[test]
fn all_detectors_make_one_incident_and_the_worst_leads() {
    let mut t = tracker(plan());
    let mild = Detection { detector: "ae".into(), ..detection(host(1), 200.0) };
    let mut worst = detection(host(1), 150.0);
    worst.alert.kind = "syn-flood".into();
    worst.alert.severity = Severity::Critical;
    let events = t.observe(&window(0), vec![mild, worst]);
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].kind.as_str(), events[0].severity), ("syn-flood", Severity::Critical));
    assert_eq!(events[0].attributes["other_kinds"], serde_json::json!(["flood"]));
    assert_eq!(events[0].attributes["direction"], "in");
    assert_eq!(events[0].baseline, serde_json::json!({"packets": 100.0}).as_object().cloned().unwrap());
    assert_eq!(events[0].evidence[1].expected, None);
}

#[test]
fn updates_when_worse_or_due() {
    let mut t = tracker(IncidentPlan { update_interval_secs: 10, ..plan() });
    assert_eq!(t.observe(&window(0), vec![detection(host(1), 200.0)]).len(), 1);
    assert!(t.observe(&window(1), at(1, &[detection(host(1), 290.0)])).is_empty(), "not 1.5 times worse");
    let worse = t.observe(&window(2), at(2, &[detection(host(1), 310.0)]));
    assert_eq!(names(&worse), ["update 192.0.2.1"]);
    assert_eq!((worse[0].score, worse[0].peak_score, worse[0].windows_alerted), (310.0, 310.0, 3));
    let mut severe = detection(host(1), 120.0);
    severe.alert.severity = Severity::Critical;
    let update = t.observe(&window(3), at(3, &[severe]));
    assert_eq!((update[0].severity, update[0].score, update[0].peak_score), (Severity::Critical, 120.0, 310.0));
    for i in 4..13 {
        assert!(t.observe(&window(i), at(i, &[detection(host(1), 120.0)])).is_empty(), "window {i}");
    }
    assert_eq!(names(&t.observe(&window(13), at(13, &[detection(host(1), 120.0)]))), ["update 192.0.2.1"]);
}

#[test]
fn a_refired_window_counts_once_but_may_open_late() {
    let mut t = tracker(IncidentPlan { open_m: 2, open_n: 2, ..plan() });
    let alert = [detection(host(1), 200.0)];
    for revision in 0..4 {
        let again = WindowInfo { revision, ..window(0) };
        assert!(t.observe(&again, alert.to_vec()).is_empty(), "one window is one window");
    }
    assert!(t.observe(&window(1), vec![]).is_empty());
    let late = t.observe(&WindowInfo { revision: 1, ..window(1) }, at(1, &alert));
    assert_eq!(names(&late), ["open 192.0.2.1"]);
    // Firing again does not bring the end nearer.
    assert!(t.observe(&window(2), vec![]).is_empty());
    for revision in 1..9 {
        assert!(t.observe(&WindowInfo { revision, ..window(2) }, vec![]).is_empty());
    }
    assert!(t.observe(&window(3), vec![]).is_empty());
    assert_eq!(names(&t.observe(&window(4), vec![])), ["close 192.0.2.1"]);
}

#[test]
fn an_early_firing_is_not_a_quiet_window() {
    let mut t = tracker(IncidentPlan { close_after_windows: 1, ..plan() });
    let alert = [detection(host(1), 200.0)];
    assert_eq!(t.observe(&window(0), alert.to_vec()).len(), 1);
    // As far as it has come.
    let early = |i, tenths: u64| {
        let end_ns = window(i).start_ns + tenths * SECOND / 10;
        WindowInfo { end_ns, watermark_ns: end_ns, partial: true, ..window(i) }
    };
    for tenths in [2, 4, 6] {
        assert!(t.observe(&early(1, tenths), vec![]).is_empty(), "the window is not over");
    }
    assert!(t.observe(&window(1), at(1, &alert)).is_empty());
    for tenths in [2, 4, 6] {
        assert!(t.observe(&early(2, tenths), vec![]).is_empty());
    }
    assert_eq!(names(&t.observe(&window(2), vec![])), ["close 192.0.2.1"]);
}

#[test]
fn a_window_too_old_to_remember_is_counted() {
    let run = || {
        let mut t = tracker(plan());
        for i in 10..20 {
            t.observe(&window(i), vec![]);
        }
        assert!(t.observe(&window(3), vec![detection(host(1), 200.0)]).is_empty());
    };
    assert_eq!(suppressed("late", run), 1);
}

#[test]
fn a_carpet_is_one_prefix_incident_from_the_first_window() {
    let run = || {
        let mut t = tracker(plan());
        let opened = t.observe(&window(0), carpet(250));
        assert_eq!(names(&opened), ["open 192.0.2.0/24"]);
        assert_eq!(opened[0].covered, 250);
        assert_eq!(opened[0].covered_entities.len(), 10);
        assert_eq!(opened[0].covered_entities[0], "192.0.2.250");
        // The prefix falls under its limit first; then the hosts, a few at a time.
        let hosts = |n: u8| (1..=n).map(|i| detection(host(i), 120.0)).collect::<Vec<_>>();
        let mut events = Vec::new();
        for (i, n) in [250, 100, 20, 7, 5, 2, 1, 0, 0, 0].into_iter().enumerate() {
            let i = 1 + i as u64;
            events.extend(t.observe(&window(i), at(i, &hosts(n))));
        }
        assert_eq!(names(&events), ["close 192.0.2.0/24"]);
        assert_eq!(events[0].covered, 250);
        assert_eq!(t.open_count(), 0);
    };
    assert!(suppressed("covered", run) >= 250);
}

#[test]
fn one_flooded_host_is_one_host_incident() {
    let run = || {
        let mut t = tracker(plan());
        let flood = [detection(host(7), 9000.0), detection(prefix(), 9500.0)];
        let mut events = Vec::new();
        for i in 0..5 {
            events.extend(t.observe(&window(i), at(i, &flood)));
        }
        // At its end the prefix is over its limit a little longer than the host.
        events.extend(t.observe(&window(5), at(5, &flood[1..])));
        for i in 6..12 {
            events.extend(t.observe(&window(i), vec![]));
        }
        assert_eq!(names(&events), ["open 192.0.2.7", "close 192.0.2.7"]);
    };
    assert_eq!(suppressed("explained", run), 1);
}

#[test]
fn a_flood_and_a_carpet_in_one_prefix_are_two_incidents() {
    let mut t = tracker(plan());
    let mut both = carpet(100);
    both.retain(|d| d.key != prefix() && d.key != host(7));
    both.push(detection(host(7), 900_000.0));
    both.push(detection(prefix(), 925_000.0));
    let events = t.observe(&window(0), both);
    assert_eq!(names(&events), ["open 192.0.2.0/24", "open 192.0.2.7"]);
    assert_eq!(events[0].covered, 99);
}

#[test]
fn a_prefix_alone_opens_and_a_flood_inside_gets_its_own() {
    let mut t = tracker(plan());
    let below = [detection(prefix(), 1000.0)];
    let events = t.observe(&window(0), below.to_vec());
    assert_eq!((names(&events), events[0].covered), (vec!["open 192.0.2.0/24".to_string()], 0));
    let mut two = at(1, &[detection(prefix(), 1000.0), detection(host(3), 150.0), detection(host(4), 150.0)]);
    assert!(t.observe(&window(1), two.clone()).is_empty(), "covered");
    two.push(detection(host(5), 90_000.0));
    two[0] = detection(prefix(), 91_000.0);
    let events = t.observe(&window(2), at(2, &two));
    assert_eq!(names(&events), ["open 192.0.2.5"]);
}

#[test]
fn hosts_opened_just_before_their_prefix_are_closed_as_covered() {
    let mut t = tracker(plan());
    let hosts: Vec<_> = (1..=3).map(|i| detection(host(i), 150.0)).collect();
    assert_eq!(t.observe(&window(0), hosts.clone()).len(), 3);
    let events = t.observe(&window(1), at(1, &carpet(50)));
    let expected = ["open 192.0.2.0/24", "close 192.0.2.1", "close 192.0.2.2", "close 192.0.2.3"];
    assert_eq!(names(&events), expected);
    assert_eq!(events[0].covered, 50);
    assert_eq!(events[1].close_reason.as_deref(), Some("covered"));
    assert_eq!(events[1].attributes["prefix_incident"], events[0].incident_id.as_str());
    assert!(t.observe(&window(2), at(2, &carpet(50))).is_empty());
}

#[test]
fn a_host_flooded_long_before_keeps_its_incident() {
    let mut t = tracker(plan());
    for i in 0..10 {
        t.observe(&window(i), at(i, &[detection(host(1), 150.0)]));
    }
    let events = t.observe(&window(10), at(10, &carpet(50)));
    assert_eq!((names(&events), events[0].covered), (vec!["open 192.0.2.0/24".to_string()], 49));
    assert_eq!(t.open_count(), 2);
}

#[test]
fn hosts_that_qualify_take_a_lagging_prefix_with_them() {
    let mut t = tracker(IncidentPlan { open_m: 2, open_n: 3, ..plan() });
    let hosts: Vec<_> = carpet(50).into_iter().filter(|d| d.key != prefix()).collect();
    assert!(t.observe(&window(0), hosts).is_empty());
    let events = t.observe(&window(1), at(1, &carpet(50)));
    assert_eq!((names(&events), events[0].covered), (vec!["open 192.0.2.0/24".to_string()], 50));
}

#[test]
fn suppressed_entities_are_counted_not_told() {
    let run = || {
        let mut t = tracker(IncidentPlan { suppress: vec!["192.0.2.0/25".parse().unwrap()], ..plan() });
        for i in 0..5 {
            let events = t.observe(&window(i), at(i, &[detection(host(1), 200.0), detection(host(200), 200.0)]));
            assert_eq!(events.len(), usize::from(i == 0));
        }
        assert_eq!(t.open_count(), 1);
    };
    assert_eq!(suppressed("suppress_list", run), 1);
    let whole = IncidentPlan { suppress: vec!["192.0.2.0/23".parse().unwrap()], ..plan() };
    let run = || assert!(tracker(whole).observe(&window(0), carpet(20)).is_empty());
    assert_eq!(suppressed("suppress_list", run), 21);
}

#[test]
fn the_rate_limit_tells_the_worst_and_how_many_it_withheld() {
    let run = || {
        let mut t = tracker(IncidentPlan { max_open_per_minute: 3, close_after_windows: 200, ..plan() });
        let many: Vec<_> = (1..=7).map(|i| detection(host(i), 100.0 + f64::from(i))).collect();
        let opened = t.observe(&window(0), many.clone());
        assert_eq!(names(&opened), ["open 192.0.2.7", "open 192.0.2.6", "open 192.0.2.5"]);
        for i in 1..59 {
            assert!(t.observe(&window(i), at(i, &many)).is_empty());
        }
        let next = t.observe(&window(59), at(59, &many));
        let expected = ["notice ddos", "open 192.0.2.4", "open 192.0.2.3", "open 192.0.2.2"];
        assert_eq!(names(&next), expected, "the next minute lets what still goes on through");
        assert_eq!((next[0].kind.as_str(), next[0].entity.kind.as_str()), ("rate-limited", "pipeline"));
        assert_eq!(next[0].message, "4 incidents withheld in this minute: the limit is 3 new ones a minute");
        let end = t.close_all(window(59).end_ns, "end_of_input");
        assert_eq!(names(&end)[0], "notice ddos");
        assert_eq!(end.len(), 7);
    };
    assert_eq!(suppressed("rate_limit", run), 5);
}

#[test]
fn shadow_counts_and_says_nothing() {
    let run = || {
        let mut t = tracker(plan());
        t.context.shadow = true;
        assert!(t.observe(&window(0), vec![detection(host(1), 200.0)]).is_empty());
        assert_eq!(t.open_count(), 1);
        assert!(t.close_all(0, "shutdown").is_empty());
    };
    assert_eq!(suppressed("shadow", run), 1);
}

#[test]
fn entities_are_bounded_and_forgotten() {
    let crowd = |from: u32, n: u32| -> Vec<Detection> {
        let key = |i: u32| EntityKey { kind: KeyKind::SrcAddr, addr: Addr::from_v4_bytes(i.to_be_bytes()), extra: 0 };
        (from..from + n).map(|i| detection(key(i), 200.0)).collect()
    };
    let run = || {
        let mut t = tracker(IncidentPlan { open_m: 2, open_n: 2, ..plan() });
        t.observe(&window(0), crowd(1, ENTITIES_MAX as u32 + 5));
        assert_eq!(t.tracks.len(), ENTITIES_MAX);
        for i in 1..=300 {
            t.observe(&window(i), vec![]);
        }
        assert_eq!(t.tracks.len(), 0);
    };
    assert_eq!(suppressed("table_full", run), 5);
}

#[test]
fn close_all_ends_everything_with_the_reason() {
    let mut t = tracker(plan());
    t.observe(&window(0), vec![detection(host(1), 200.0), detection(host(2), 200.0)]);
    let events = t.close_all(START + 5 * SECOND, "shutdown");
    assert_eq!(names(&events), ["close 192.0.2.1", "close 192.0.2.2"]);
    assert!(events.iter().all(|e| e.close_reason.as_deref() == Some("shutdown")));
    assert_eq!(events[0].closed_at.as_deref(), Some(events[0].emitted_at.as_str()));
    assert!(t.close_all(START + 5 * SECOND, "shutdown").is_empty());
}

#[test]
fn detections_are_counted_by_detector() {
    let run = || {
        tracker(plan()).observe(&window(0), carpet(9));
    };
    assert_eq!(counted(run, DETECTIONS, "limits"), 10);
}

/// Eight hosts made a carpet; one ends, and the seven that are left make most of the prefix. It is the same attack.
#[test]
fn a_carpet_that_loses_a_host_stays_one_incident() {
    let mut t = tracker(plan());
    let mut events = Vec::new();
    for i in 0..30 {
        let hosts = match i {
            0..5 => 8u8,
            5..15 => 7,
            _ => 0,
        };
        let mut now: Vec<_> = (1..=hosts).map(|h| detection(host(h), 200.0)).collect();
        if hosts > 0 {
            now.push(detection(prefix(), 1500.0));
        }
        events.extend(t.observe(&window(i), at(i, &now)));
    }
    assert_eq!(names(&events), ["open 192.0.2.0/24", "close 192.0.2.0/24"]);
}

/// A late window lets the prefix take over a host that a newer window has opened; that newer window fires once more.
#[test]
fn a_host_taken_over_by_a_late_window_does_not_open_twice() {
    let plan = IncidentPlan { close_after_windows: 1, cover_min_hosts: 1, ..plan() };
    let mut t = tracker(plan);
    let mut events = Vec::new();
    for (i, detections) in [
        (11, vec![]),
        (12, vec![detection(host(13), 100.0)]),
        (11, vec![detection(prefix(), 0.0)]),
        (13, vec![]),
        (14, vec![detection(prefix(), 177.0)]),
        (12, vec![detection(host(13), 4370.0)]),
    ] {
        events.extend(t.observe(&window(i), at(i, &detections)));
    }
    let opened: Vec<_> = events.iter().filter(|e| e.event == IncidentEventKind::Open).map(|e| &e.incident_id).collect();
    let distinct: std::collections::BTreeSet<_> = opened.iter().collect();
    assert_eq!(opened.len(), distinct.len(), "{:?}", names(&events));
}
