//! Each rule of matching, and for any history: nothing is counted twice or lost, and the counts are those of the definition.

use super::*;
use crate::incident::tests::host;
use crate::model::incident::WindowRef;
use crate::model::time::SECOND;
use proptest::prelude::*;
use serde_json::Map;

fn window(number: u64) -> WindowInfo {
    let (start_ns, end_ns) = (number * SECOND, (number + 1) * SECOND);
    WindowInfo { start_ns, end_ns, revision: 0, watermark_ns: end_ns, partial: false }
}

fn event(kind: IncidentEventKind, entity: u8, id: &str, at: u64) -> IncidentEvent {
    let time = rfc3339(at * SECOND);
    IncidentEvent {
        schema_version: 1,
        event: kind,
        incident_id: id.into(),
        fingerprint: "f".into(),
        pipeline: "p".into(),
        detector: "d@1".into(),
        kind: "flood".into(),
        severity: Severity::High,
        score: 4.0,
        threshold: 1.0,
        message: "m".into(),
        entity: EntityRef { kind: "dst_addr".into(), value: format!("192.0.2.{entity}") },
        window: WindowRef {
            start: time.clone(),
            end: time.clone(),
            kind: "sliding".into(),
            partial: false,
            revision: 0,
        },
        observed: Map::new(),
        baseline: Map::new(),
        evidence: Vec::new(),
        covered: 0,
        covered_entities: Vec::new(),
        attributes: Map::new(),
        opened_at: time.clone(),
        updated_at: time.clone(),
        closed_at: (kind == IncidentEventKind::Close).then(|| time.clone()),
        close_reason: None,
        windows_alerted: 1,
        peak_score: 4.0,
        plan_digest: "sha256:0".into(),
        model_digest: None,
        emitted_at: time,
    }
}

fn open(entity: u8, id: &str) -> IncidentEvent {
    event(IncidentEventKind::Open, entity, id, 0)
}

fn close(entity: u8, id: &str) -> IncidentEvent {
    event(IncidentEventKind::Close, entity, id, 9)
}

fn begun(near: u64) -> Comparison {
    Comparison::new("p".into(), near, [])
}

fn step(comparison: &mut Comparison, number: u64, live: &[IncidentEvent], shadow: &[IncidentEvent]) {
    let none = BTreeSet::new();
    let side = |events| Judged { alerted: &none, events };
    comparison.observe(&window(number), side(live), side(shadow));
}

fn counts(count: Count) -> (u64, u64, u64, u64) {
    (count.opened, count.matched, count.unmatched, count.undecided)
}

#[test]
fn the_same_entity_at_the_same_time_matches() {
    let mut c = begun(3);
    assert_eq!((c.report().since, c.report().agreement), (None, None));
    step(&mut c, 10, &[open(1, "a")], &[open(1, "b")]);
    let report = c.report();
    assert_eq!((counts(report.live), counts(report.shadow)), ((1, 1, 0, 0), (1, 1, 0, 0)));
    assert_eq!((report.agreement, report.windows), (Some(1.0), 1));
    assert_eq!(report.since.as_deref(), Some("1970-01-01T00:00:10Z"));
}

#[test]
fn one_that_stays_alone_is_named_after_a_while() {
    let mut c = begun(3);
    step(&mut c, 0, &[open(1, "a")], &[open(2, "b")]);
    step(&mut c, 1, &[], &[close(2, "b")]);
    step(&mut c, 2, &[], &[]);
    assert_eq!(counts(c.report().shadow), (1, 0, 0, 1), "too new to say");
    step(&mut c, 3, &[], &[]);
    let report = c.report();
    assert_eq!((counts(report.live), counts(report.shadow)), ((1, 0, 1, 0), (1, 0, 1, 0)));
    assert_eq!(report.agreement, Some(0.0));
    assert_eq!((report.extra[0].entity.value.as_str(), report.extra[0].closed_at.is_some()), ("192.0.2.2", true));
    assert_eq!((report.missing[0].incident_id.as_str(), &report.missing[0].closed_at), ("a", &None));
    step(&mut c, 4, &[close(1, "a")], &[]);
    assert!(c.report().missing[0].closed_at.is_some(), "goes on being told");
    let json = serde_json::to_value(c.report()).unwrap();
    assert_eq!((&json["extra"][0]["severity"], &json["live"]["unmatched"]), (&"high".into(), &1.into()));
}

#[test]
fn near_is_near_enough_and_further_is_not() {
    for (gap, matches) in [(1, true), (3, true), (4, false)] {
        let mut c = begun(3);
        step(&mut c, 0, &[open(1, "a")], &[]);
        step(&mut c, 1, &[close(1, "a")], &[]);
        for number in 2..1 + gap {
            step(&mut c, number, &[], &[]);
        }
        step(&mut c, 1 + gap, &[], &[open(1, "b")]);
        assert_eq!(c.report().shadow.matched == 1, matches, "{gap}");
        assert_eq!(c.report().live.matched == 1, matches, "{gap}");
    }
}

#[test]
fn a_late_partner_of_an_open_incident_matches_it_all_the_same() {
    let mut c = begun(2);
    step(&mut c, 0, &[], &[open(1, "b")]);
    for number in 1..20 {
        step(&mut c, number, &[], &[]);
    }
    assert_eq!((c.report().shadow.unmatched, c.report().extra.len()), (1, 1));
    step(&mut c, 20, &[open(1, "a")], &[]);
    assert_eq!((c.report().shadow.unmatched, c.report().extra.len(), c.report().agreement), (0, 0, Some(1.0)));
}

#[test]
fn one_long_incident_matches_two_short_ones() {
    let mut c = begun(0);
    step(&mut c, 0, &[open(1, "a")], &[open(1, "x")]);
    step(&mut c, 1, &[], &[close(1, "x")]);
    step(&mut c, 2, &[], &[open(1, "y")]);
    let report = c.report();
    assert_eq!((counts(report.live), counts(report.shadow)), ((1, 1, 0, 0), (2, 2, 0, 0)));
}

#[test]
fn what_was_open_before_matches_and_does_not_count() {
    let entity = EntityRef { kind: "dst_addr".into(), value: "192.0.2.1".into() };
    let mut c = Comparison::new("p".into(), 2, [(entity, "before".to_owned())]);
    step(&mut c, 0, &[], &[open(1, "b")]);
    assert_eq!((c.report().live.opened, counts(c.report().shadow)), (0, (1, 1, 0, 0)));
    step(&mut c, 1, &[close(1, "before")], &[close(1, "b")]);
    for number in 2..6 {
        step(&mut c, number, &[], &[]);
    }
    step(&mut c, 6, &[], &[open(1, "c")]);
    assert_eq!(c.report().shadow.undecided, 1, "it is forgotten");
    assert!(c.live.marks.is_empty() && c.live.by_entity.is_empty());
}

#[test]
fn rows_count_once_when_their_window_is_whole() {
    let keys = |hosts: &[u8]| -> BTreeSet<EntityKey> { hosts.iter().map(|h| host(*h)).collect() };
    let mut c = begun(1);
    let mut judge = |window: WindowInfo, live: &[u8], shadow: &[u8]| {
        let (live, shadow) = (keys(live), keys(shadow));
        let side = |alerted| Judged { alerted, events: &[] };
        c.observe(&window, side(&live), side(&shadow));
        c.report()
    };
    judge(WindowInfo { partial: true, ..window(0) }, &[1], &[]);
    judge(window(0), &[1, 2], &[2, 3, 4]);
    judge(WindowInfo { revision: 1, ..window(0) }, &[1], &[]);
    judge(window(1), &[], &[9]);
    let report = judge(window(2), &[], &[]);
    assert_eq!(report.rows, Alerted { both: 1, live_only: 1, shadow_only: 3 });
    assert_eq!(report.windows_alerted, Alerted { both: 1, live_only: 0, shadow_only: 1 });
    assert_eq!(report.windows, 3);
}

#[test]
fn notices_and_repetitions_are_no_incidents() {
    let mut c = begun(1);
    step(&mut c, 0, &[open(1, "a"), open(1, "a"), event(IncidentEventKind::Notice, 1, "n", 0)], &[close(5, "never")]);
    assert_eq!((c.report().live.opened, c.report().shadow.opened), (1, 0));
}

#[test]
fn memory_is_bounded_and_what_is_beyond_is_counted() {
    let mut c = begun(5);
    let many: Vec<_> = (0..INCIDENTS_MAX + 7).map(|i| open(1, &i.to_string())).collect();
    step(&mut c, 0, &many, &[]);
    let count = c.report().live;
    assert_eq!((count.opened, count.uncompared), ((INCIDENTS_MAX + 7) as u64, 7));
    for number in 1..7 {
        step(&mut c, number, &[], &[]);
    }
    assert_eq!(c.report().missing.len(), NAMED);
    assert_eq!(c.report().live.unmatched, INCIDENTS_MAX as u64);
}

/// An incident of a generated history: entity, first and last window.
#[derive(Clone, Debug, PartialEq)]
struct Span(u8, u64, u64);

/// At most one incident of an entity is open at a time, as in the tracker.
fn history(toggles: &[(u8, bool)]) -> (Vec<Vec<IncidentEvent>>, Vec<Span>) {
    let (mut events, mut spans, mut open_at) = (Vec::new(), Vec::new(), BTreeMap::new());
    let last = toggles.len() as u64;
    for (number, (entity, toggle)) in (0..).zip(toggles) {
        let mut now = Vec::new();
        if *toggle {
            match open_at.remove(entity) {
                Some(since) => {
                    now.push(close(*entity, &format!("{entity}-{since}")));
                    spans.push(Span(*entity, since, number));
                }
                None => {
                    now.push(open(*entity, &format!("{entity}-{number}")));
                    open_at.insert(*entity, number);
                }
            }
        }
        events.push(now);
    }
    spans.extend(open_at.iter().map(|(entity, since)| Span(*entity, *since, last)));
    events.push(open_at.iter().map(|(entity, since)| close(*entity, &format!("{entity}-{since}"))).collect());
    (events, spans)
}

proptest! {
    #[test]
    fn counts_add_up_and_are_those_of_the_definition(
        toggles in proptest::collection::vec(((0u8..3, any::<bool>()), (0u8..3, any::<bool>())), 1..60),
        near in 0u64..5,
    ) {
        let (live, shadow): (Vec<_>, Vec<_>) = toggles.into_iter().unzip();
        let ((live, live_spans), (shadow, shadow_spans)) = (history(&live), history(&shadow));
        let mut c = begun(near);
        let quiet = vec![Vec::new(); near as usize + 2];
        for (number, (a, b)) in (0..).zip(live.iter().chain(&quiet).zip(shadow.iter().chain(&quiet))) {
            step(&mut c, number, a, b);
            for count in [c.report().live, c.report().shadow] {
                prop_assert_eq!(count.matched + count.unmatched + count.undecided + count.uncompared, count.opened);
            }
        }
        let met = |own: &[Span], other: &[Span]| -> u64 {
            let near = |a: &Span, b: &Span| a.0 == b.0 && a.1 <= b.2 + near && b.1 <= a.2 + near;
            own.iter().filter(|a| other.iter().any(|b| near(a, b))).count() as u64
        };
        let report = c.report();
        prop_assert_eq!(report.live.opened, live_spans.len() as u64);
        prop_assert_eq!(report.live.matched, met(&live_spans, &shadow_spans));
        prop_assert_eq!(report.shadow.matched, met(&shadow_spans, &live_spans));
        prop_assert_eq!((report.live.undecided, report.shadow.undecided), (0, 0));
        prop_assert_eq!(report.extra.len() as u64, report.shadow.unmatched.min(NAMED as u64));
        prop_assert!(c.live.marks.is_empty() && c.shadow.marks.is_empty() && c.shadow.by_entity.is_empty());
    }
}
