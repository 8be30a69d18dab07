//! The figures of one detector from rows that have a score, an alert and a label. Pure: no file, no clock.

use super::rank::Curve;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the labels say of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Label {
    /// Nothing wrong in it.
    Benign,
    /// It holds an attack.
    Attack,
    /// Neither: too little of an attack to ask for, or nobody labelled it.
    Ignored,
}

/// One entity in one window.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// Who.
    pub entity: Arc<str>,
    /// Start of the window.
    pub start_ns: u64,
    /// Its end, exclusive.
    pub end_ns: u64,
    /// `None` (or NaN): no opinion, below every score.
    pub score: Option<f64>,
    /// The detector spoke.
    pub alert: bool,
    /// What it should have done.
    pub label: Label,
    /// Which events an attack belongs to: places in the list of events.
    pub events: Vec<usize>,
    /// False: the labels know of this window, the scores do not. Such a row is a miss and not counted as a row.
    pub scored: bool,
}

/// One attack as a person would count it.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Its number or name in the labels.
    pub id: String,
    /// What kind of attack, where the labels say.
    pub kind: String,
    /// Whom it hit; `*` where the labels do not say.
    pub entity: String,
    /// When it began.
    pub start_ns: u64,
    /// When it ended, exclusive.
    pub end_ns: u64,
}

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Outcome {
    /// Windows that hold it.
    pub windows: usize,
    /// Start of the first of them.
    pub first_ns: Option<u64>,
    /// Start of the first one that was alerted.
    pub alerted_ns: Option<u64>,
}

/// An event that was not found.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct MissedEvent {
    /// Its number or name.
    pub event: String,
    /// Kind, where known.
    pub kind: String,
    /// Whom it hit.
    pub entity: String,
    /// Start, RFC 3339.
    pub start: String,
    /// End, RFC 3339.
    pub end: String,
}

/// How late events were found: over those that were.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Delay {
    /// `None` when none was found, as below.
    pub mean: Option<f64>,
    /// The middle one; of an even number the mean of the two.
    pub median: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
}

/// The figures. A ratio without a denominator is `None`.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Metrics {
    /// Scored rows, the ignored ones too.
    pub rows: usize,
    /// Rows that hold an attack, those that were never scored too.
    pub attacks: usize,
    /// Of these, the ones that were never scored.
    pub unscored_attacks: usize,
    /// Rows that are neither attack nor benign.
    pub ignored: usize,
    /// Scored rows without a score.
    pub no_opinion: usize,
    /// Alerted rows, the ignored ones not counted.
    pub alerts: usize,
    /// Alerted rows that hold an attack.
    pub hits: usize,
    /// hits / alerts.
    pub precision: Option<f64>,
    /// hits / attacks.
    pub recall: Option<f64>,
    /// Harmonic mean of the two.
    pub f1: Option<f64>,
    /// Chance that an attack scores above a benign row.
    pub roc_auc: Option<f64>,
    /// Average precision.
    pub pr_auc: Option<f64>,
    /// The best F1 any threshold could have had. Knows the labels: a bound, not a result.
    pub best_f1: Option<f64>,
    /// That threshold.
    pub best_f1_threshold: Option<f64>,
    /// Events.
    pub events: usize,
    /// Events with at least one alerted row.
    pub events_found: usize,
    /// events_found / events.
    pub event_recall: Option<f64>,
    /// Runs of alerted benign rows of one entity, consecutive windows counted once.
    pub false_alarms: usize,
    /// From the start of the first window to the end of the last.
    pub days: f64,
    /// false_alarms / days, all entities together.
    pub false_alarms_per_day: Option<f64>,
    /// From the first window of an event to its first alerted one.
    pub delay_windows: Delay,
    /// Events without an alerted row.
    pub missed: Vec<MissedEvent>,
}

/// The figures of these rows.
pub fn evaluate(rows: &[Row], events: &[Event]) -> Metrics {
    let counted = || rows.iter().filter(|r| r.label != Label::Ignored);
    let is_attack = |r: &&Row| r.label == Label::Attack;
    let attacks = counted().filter(is_attack).count();
    let alerts = counted().filter(|r| r.alert).count();
    let hits = counted().filter(|r| r.alert).filter(is_attack).count();
    let curve = curve(rows);
    let best = curve.best_f1();
    let outcomes = outcomes(rows, events.len());
    let step = step_ns(rows) as f64;
    let delays = outcomes.iter().filter_map(|o| Some((o.alerted_ns? - o.first_ns?) as f64 / step));
    let found = outcomes.iter().filter(|o| o.alerted_ns.is_some()).count();
    let (days, false_alarms) = (days(rows), false_alarms(rows));
    // Without an attack nothing can be hit: precision would say 0 of whatever was alerted, and nothing of the detector.
    let ratio = |a: usize, b: usize| (b > 0 && attacks > 0).then(|| a as f64 / b as f64);
    Metrics {
        rows: rows.iter().filter(|r| r.scored).count(),
        attacks,
        unscored_attacks: rows.iter().filter(|r| !r.scored).count(),
        ignored: rows.iter().filter(|r| r.label == Label::Ignored).count(),
        no_opinion: rows.iter().filter(|r| r.scored && r.score.is_none_or(f64::is_nan)).count(),
        alerts,
        hits,
        precision: ratio(hits, alerts),
        recall: ratio(hits, attacks),
        f1: ratio(2 * hits, alerts + attacks),
        roc_auc: curve.roc_auc(),
        pr_auc: curve.average_precision(),
        best_f1: best.map(|b| b.0),
        best_f1_threshold: best.map(|b| b.1),
        events: events.len(),
        events_found: found,
        event_recall: (!events.is_empty()).then(|| found as f64 / events.len() as f64),
        false_alarms,
        days,
        false_alarms_per_day: (days > 0.0).then(|| false_alarms as f64 / days),
        delay_windows: Delay::of(delays.collect()),
        missed: outcomes
            .iter()
            .zip(events)
            .filter(|(o, _)| o.alerted_ns.is_none())
            .map(|(_, event)| MissedEvent::new(event))
            .collect(),
    }
}

/// The ranking of the rows that count.
pub fn curve(rows: &[Row]) -> Curve {
    let counted = rows.iter().filter(|r| r.label != Label::Ignored);
    Curve::new(counted.map(|r| (r.score, r.label == Label::Attack)))
}

/// What became of each of so many events.
pub fn outcomes(rows: &[Row], events: usize) -> Vec<Outcome> {
    let mut out = vec![Outcome::default(); events];
    let earlier = |at: Option<u64>, ns: u64| Some(at.map_or(ns, |at| at.min(ns)));
    for row in rows.iter().filter(|r| r.label == Label::Attack) {
        for event in &row.events {
            let outcome = &mut out[*event];
            outcome.windows += 1;
            outcome.first_ns = earlier(outcome.first_ns, row.start_ns);
            if row.alert {
                outcome.alerted_ns = earlier(outcome.alerted_ns, row.start_ns);
            }
        }
    }
    out
}

/// From the start of the first window to the end of the last.
pub fn span(rows: &[Row]) -> Option<(u64, u64)> {
    let start = rows.iter().map(|r| r.start_ns).min()?;
    Some((start, rows.iter().map(|r| r.end_ns).max()?))
}

fn days(rows: &[Row]) -> f64 {
    span(rows).map_or(0.0, |(start, end)| (end - start) as f64 / 86_400e9)
}

/// By how much windows advance: their size, or less when they slide.
fn step_ns(rows: &[Row]) -> u64 {
    let starts: BTreeSet<u64> = rows.iter().map(|r| r.start_ns).collect();
    let size = rows.iter().map(|r| r.end_ns - r.start_ns).min().unwrap_or(1).max(1);
    starts.iter().zip(starts.iter().skip(1)).map(|(a, b)| b - a).min().map_or(size, |step| step.min(size))
}

/// Alerted benign rows; those of one entity whose windows touch or overlap are one alarm.
fn false_alarms(rows: &[Row]) -> usize {
    let mut alerted: Vec<&Row> = rows.iter().filter(|r| r.alert && r.label == Label::Benign).collect();
    alerted.sort_by(|a, b| (&a.entity, a.start_ns).cmp(&(&b.entity, b.start_ns)));
    let goes_on = |pair: &[&Row]| pair[0].entity == pair[1].entity && pair[1].start_ns <= pair[0].end_ns;
    alerted.len() - alerted.windows(2).filter(|pair| goes_on(pair)).count()
}

impl Delay {
    /// Of these, in any order.
    pub fn of(mut delays: Vec<f64>) -> Self {
        delays.sort_by(f64::total_cmp);
        let n = delays.len();
        if n == 0 {
            return Self::default();
        }
        let median = (delays[(n - 1) / 2] + delays[n / 2]) / 2.0;
        Self { mean: Some(delays.iter().sum::<f64>() / n as f64), median: Some(median), max: delays.last().copied() }
    }
}

impl MissedEvent {
    pub(super) fn new(event: &Event) -> Self {
        use crate::model::time::rfc3339;
        let Event { id, kind, entity, start_ns, end_ns } = event.clone();
        Self { event: id, kind, entity, start: rfc3339(start_ns), end: rfc3339(end_ns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    fn row(entity: &str, minute: u64, score: f64, alert: bool, event: Option<usize>) -> Row {
        Row {
            entity: entity.into(),
            start_ns: minute * MINUTE,
            end_ns: (minute + 1) * MINUTE,
            score: Some(score),
            alert,
            label: if event.is_some() { Label::Attack } else { Label::Benign },
            events: event.into_iter().collect(),
            scored: true,
        }
    }

    fn event(id: &str) -> Event {
        Event { id: id.into(), kind: "flood".into(), entity: "a".into(), start_ns: 0, end_ns: 1 }
    }

    fn near(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-12)
    }

    #[test]
    fn figures_by_hand() {
        // a: minutes 0..5, attack (event 0) in 1, 2, 3, alerted in 2, 3. b: alerted in 0, 1 and 3, benign: two alarms.
        // c: attack (event 1) in 2, never alerted; an ignored alert in 3.
        let mut rows = vec![
            row("a", 0, 0.1, false, None),
            row("a", 1, 0.4, false, Some(0)),
            row("a", 2, 0.9, true, Some(0)),
            row("a", 3, 0.8, true, Some(0)),
            row("a", 4, 0.1, false, None),
            row("b", 0, 0.6, true, None),
            row("b", 1, 0.7, true, None),
            row("b", 2, 0.1, false, None),
            row("b", 3, 0.6, true, None),
            row("c", 2, 0.2, false, Some(1)),
            row("c", 3, 0.95, true, None),
        ];
        rows[10].label = Label::Ignored;
        let m = evaluate(&rows, &[event("7"), event("8")]);
        assert_eq!((m.rows, m.attacks, m.ignored, m.alerts, m.hits), (11, 4, 1, 5, 2));
        assert!(near(m.precision, 2.0 / 5.0) && near(m.recall, 2.0 / 4.0));
        // 2PR / (P + R) = 0.4 / 0.9.
        assert!(near(m.f1, 0.4 / 0.9));
        // Benign: 0.7, 0.6, 0.6, 0.1 three times. 0.9 and 0.8 beat 6, 0.4 and 0.2 beat 3: 18 of 24.
        assert!(near(m.roc_auc, 18.0 / 24.0));
        // Precision at 0.9: 1/1, 0.8: 2/2, 0.4: 3/6, 0.2: 4/7.
        assert!(near(m.pr_auc, (1.0 + 1.0 + 0.5 + 4.0 / 7.0) / 4.0));
        // F1 = 2 hits / (alerts + attacks): 4 / 6 at 0.8, 6 / 10 at 0.4, 8 / 11 at 0.2.
        assert!(near(m.best_f1, 8.0 / 11.0) && m.best_f1_threshold == Some(0.2));
        assert_eq!((m.events, m.events_found, m.event_recall), (2, 1, Some(0.5)));
        assert_eq!(m.missed.iter().map(|e| &*e.event).collect::<Vec<_>>(), ["8"]);
        // Minutes 0 to 5 of 1440; b's minutes 0 and 1 are one alarm.
        assert_eq!((m.false_alarms, m.days), (2, 5.0 / 1440.0));
        assert!(near(m.false_alarms_per_day, 2.0 * 1440.0 / 5.0));
        // Event 7 began in minute 1, was alerted in minute 2.
        assert_eq!(m.delay_windows, Delay { mean: Some(1.0), median: Some(1.0), max: Some(1.0) });
    }

    #[test]
    fn without_an_attack_only_false_alarms_count() {
        let rows = [row("a", 0, 1.0, true, None), row("a", 1, 0.0, false, None), row("a", 719, 0.0, false, None)];
        let m = evaluate(&rows, &[]);
        assert_eq!((m.precision, m.recall, m.f1, m.roc_auc, m.pr_auc, m.event_recall), Default::default());
        assert_eq!((m.false_alarms, m.days, m.false_alarms_per_day), (1, 0.5, Some(2.0)));
        assert_eq!(m.delay_windows, Delay::default());
    }

    #[test]
    fn all_attacks_and_no_alert() {
        let m = evaluate(&[row("a", 0, 1.0, false, Some(0)), row("a", 1, 1.0, false, Some(0))], &[event("1")]);
        assert_eq!((m.precision, m.recall, m.f1), (None, Some(0.0), Some(0.0)));
        assert_eq!((m.roc_auc, m.pr_auc, m.event_recall, m.false_alarms), (None, Some(1.0), Some(0.0), 0));
        let m = evaluate(&[row("a", 0, 1.0, true, Some(0))], &[event("1")]);
        assert_eq!((m.precision, m.recall, m.f1, m.event_recall), (Some(1.0), Some(1.0), Some(1.0), Some(1.0)));
    }

    #[test]
    fn no_rows_no_figures() {
        let m = evaluate(&[], &[event("1")]);
        assert_eq!((m.rows, m.days, m.false_alarms_per_day, m.event_recall), (0, 0.0, None, Some(0.0)));
    }

    #[test]
    fn rows_without_opinion_are_counted_and_rank_last() {
        // The attack without opinion ties with nobody and loses to the benign row: 0 of 1.
        let mut rows = vec![row("a", 0, f64::NAN, false, Some(0)), row("b", 0, -3.0, false, None)];
        let m = evaluate(&rows, &[event("1")]);
        assert_eq!((m.no_opinion, m.roc_auc, m.pr_auc), (1, Some(0.0), Some(0.5)));
        rows[0].score = None;
        assert_eq!(evaluate(&rows, &[event("1")]), m);
        // Not scored at all: a miss all the same, but no row.
        rows[0].scored = false;
        let m = evaluate(&rows, &[event("1")]);
        assert_eq!((m.rows, m.no_opinion, m.unscored_attacks, m.recall), (1, 0, 1, Some(0.0)));
    }

    #[test]
    fn alarms_end_where_the_entity_or_the_run_ends() {
        let alarms = |rows: &[(&str, u64)]| {
            let rows: Vec<Row> = rows.iter().map(|(e, m)| row(e, *m, 1.0, true, None)).collect();
            evaluate(&rows, &[]).false_alarms
        };
        assert_eq!(alarms(&[("a", 0), ("a", 1), ("a", 2)]), 1);
        assert_eq!(alarms(&[("a", 2), ("a", 0), ("a", 1)]), 1, "in any order");
        assert_eq!(alarms(&[("a", 0), ("a", 2)]), 2);
        assert_eq!(alarms(&[("a", 0), ("b", 1)]), 2);
        assert_eq!(alarms(&[]), 0);
    }

    #[test]
    fn delays_count_in_steps_of_sliding_windows() {
        // Windows of 10 s every 2 s: first at 0 s, alerted at 6 s: three steps.
        let second = 1_000_000_000;
        let at =
            |s: u64, alert| Row { start_ns: s * second, end_ns: (s + 10) * second, ..row("a", 0, 1.0, alert, Some(0)) };
        let m = evaluate(&[at(0, false), at(2, false), at(4, false), at(6, true)], &[event("1")]);
        assert_eq!(m.delay_windows.max, Some(3.0));
    }

    #[test]
    fn the_median_of_an_even_number_is_between() {
        let d = Delay::of(vec![9.0, 0.0, 1.0, 2.0]);
        assert_eq!((d.mean, d.median, d.max), (Some(3.0), Some(1.5), Some(9.0)));
        assert_eq!(Delay::of(vec![4.0, 0.0, 1.0]).median, Some(1.0));
    }
}
