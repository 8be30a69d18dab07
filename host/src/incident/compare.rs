//! How a shadow compares with what is live. Comes in: for each window, of both sides, which entities were alerted and which
//! incident events came of it; goes out: how often they agree, and the last incidents that only one of them told. Counts
//! entities, not kinds: a host and its prefix are two. Of more than [`INCIDENTS_MAX`] incidents of one side that are open or
//! lately were, the rest is not compared, and counted.
//!
//! Two incidents match when they are about the same entity and open at the same time, or no more than `near` windows apart. One
//! that has found none `near` windows after its opening counts as unmatched; when one comes while it is still open, or soon
//! after, it is matched all the same.

use crate::model::incident::{EntityRef, IncidentEvent, IncidentEventKind};
use crate::model::{Detection, EntityKey, Severity, WindowInfo, time::rfc3339};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Incidents remembered of each side.
pub const INCIDENTS_MAX: usize = 10_000;
/// Unmatched incidents of each side that are named.
const NAMED: usize = 50;

/// What one side made of a window.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// Entities with an alert: see [`alerted`].
    pub alerted: &'a BTreeSet<EntityKey>,
    /// What came of it.
    pub events: &'a [IncidentEvent],
}

/// The entities that detections are about.
pub fn alerted(detections: &[Detection]) -> BTreeSet<EntityKey> {
    detections.iter().map(|d| d.key).collect()
}

/// Incidents of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Opened since the comparison began: the sum of the others.
    pub opened: u64,
    /// The other side told them, too.
    pub matched: u64,
    /// The other side did not: of the shadow they are extra, of the live side the shadow misses them.
    pub unmatched: u64,
    /// Too new to say.
    pub undecided: u64,
    /// Beyond what is remembered.
    pub uncompared: u64,
}

/// Rows or windows by who alerted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Alerted {
    /// Both sides.
    pub both: u64,
    /// The live side alone.
    pub live_only: u64,
    /// The shadow alone.
    pub shadow_only: u64,
}

/// An incident that only one side told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unmatched {
    /// Its id.
    pub incident_id: String,
    /// Who.
    pub entity: EntityRef,
    /// What was seen.
    pub kind: String,
    /// How bad at most.
    pub severity: Severity,
    /// Score of the leading detection.
    pub score: f64,
    /// Score above which it alerts.
    pub threshold: f64,
    /// RFC 3339.
    pub opened_at: String,
    /// RFC 3339; none: it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<String>,
}

/// How a shadow compares so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Pipeline id.
    pub pipeline: String,
    /// Start of the first window that was compared, RFC 3339; none: there was no window yet.
    pub since: Option<String>,
    /// Whole windows that were compared.
    pub windows: u64,
    /// See the module.
    pub near_windows: u64,
    /// Incidents of the live side.
    pub live: Count,
    /// Incidents of the shadow.
    pub shadow: Count,
    /// Share of the decided incidents of both sides that match; none: nothing is decided.
    pub agreement: Option<f64>,
    /// Rows (an entity in a whole window) by who alerted them.
    pub rows: Alerted,
    /// Whole windows by who alerted some row.
    pub windows_alerted: Alerted,
    /// The last incidents that the shadow told alone, the newest first.
    pub extra: Vec<Unmatched>,
    /// The last incidents that the live side told alone, the newest first.
    pub missing: Vec<Unmatched>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Was open before the comparison began: others match it, it does not count.
    Before,
    Undecided,
    Matched,
    Unmatched,
}

/// A remembered incident.
#[derive(Debug)]
struct Mark {
    opened: u64,
    closed: Option<u64>,
    state: State,
    shown: Unmatched,
}

impl Mark {
    /// It is open in that window, or was `near` windows before.
    fn reaches(&self, number: u64, near: u64) -> bool {
        self.closed.is_none_or(|closed| closed.saturating_add(near) >= number)
    }
}

/// One side's incidents.
#[derive(Debug, Default)]
struct Side {
    count: Count,
    /// By id.
    marks: HashMap<String, Mark>,
    /// Their ids by level and name of the entity.
    by_entity: BTreeMap<(String, String), Vec<String>>,
    /// Those of the last unmatched that were not forgotten for newer ones.
    named: VecDeque<Unmatched>,
}

/// Compares the incidents of a pipeline and of its shadow.
#[derive(Debug)]
pub struct Comparison {
    pipeline: Arc<str>,
    near: u64,
    since_ns: Option<u64>,
    windows: u64,
    /// Windows so far, by their ends.
    number: u64,
    newest_end_ns: u64,
    rows: Alerted,
    windows_alerted: Alerted,
    live: Side,
    shadow: Side,
}

impl Comparison {
    /// Begins now. `open`: entities and ids of the live side's incidents that are open already.
    pub fn new(pipeline: Arc<str>, near: u64, open: impl IntoIterator<Item = (EntityRef, String)>) -> Self {
        let mut live = Side::default();
        for (entity, incident_id) in open.into_iter().take(INCIDENTS_MAX) {
            let shown = Unmatched {
                incident_id,
                entity,
                kind: String::new(),
                severity: Severity::Info,
                score: 0.0,
                threshold: 0.0,
                opened_at: String::new(),
                closed_at: None,
            };
            live.add(Mark { opened: 0, closed: None, state: State::Before, shown });
        }
        Self {
            pipeline,
            near,
            since_ns: None,
            windows: 0,
            number: 0,
            newest_end_ns: 0,
            rows: Alerted::default(),
            windows_alerted: Alerted::default(),
            live,
            shadow: Side::default(),
        }
    }

    /// To be called for each window that both sides have judged, in the order in which they did; again when it fired again.
    /// Rows are counted when a window fires whole, for the first time.
    pub fn observe(&mut self, window: &WindowInfo, live: Judged<'_>, shadow: Judged<'_>) {
        if window.end_ns > self.newest_end_ns {
            self.newest_end_ns = window.end_ns;
            self.number += 1;
        }
        self.since_ns.get_or_insert(window.start_ns);
        if !window.partial && window.revision == 0 {
            self.count(live.alerted, shadow.alerted);
        }
        for event in live.events {
            take(event, self.number, self.near, &mut self.live, &mut self.shadow);
        }
        for event in shadow.events {
            take(event, self.number, self.near, &mut self.shadow, &mut self.live);
        }
        self.live.settle(self.number, self.near);
        self.shadow.settle(self.number, self.near);
    }

    /// Incidents that ended otherwise than by a window (a shutdown, the end of the input).
    pub fn closed(&mut self, live: &[IncidentEvent], shadow: &[IncidentEvent]) {
        live.iter().for_each(|event| self.live.goes_on(event, self.number));
        shadow.iter().for_each(|event| self.shadow.goes_on(event, self.number));
    }

    /// How it stands.
    pub fn report(&self) -> Report {
        let (live, shadow) = (self.live.count, self.shadow.count);
        let agree = live.matched + shadow.matched;
        let decided = agree + live.unmatched + shadow.unmatched;
        Report {
            pipeline: self.pipeline.to_string(),
            since: self.since_ns.map(rfc3339),
            windows: self.windows,
            near_windows: self.near,
            live,
            shadow,
            agreement: (decided > 0).then(|| agree as f64 / decided as f64),
            rows: self.rows,
            windows_alerted: self.windows_alerted,
            extra: self.shadow.named.iter().rev().cloned().collect(),
            missing: self.live.named.iter().rev().cloned().collect(),
        }
    }

    fn count(&mut self, live: &BTreeSet<EntityKey>, shadow: &BTreeSet<EntityKey>) {
        self.windows += 1;
        let both = live.intersection(shadow).count() as u64;
        self.rows.both += both;
        self.rows.live_only += live.len() as u64 - both;
        self.rows.shadow_only += shadow.len() as u64 - both;
        match (live.is_empty(), shadow.is_empty()) {
            (false, false) => self.windows_alerted.both += 1,
            (false, true) => self.windows_alerted.live_only += 1,
            (true, false) => self.windows_alerted.shadow_only += 1,
            (true, true) => {}
        }
    }
}

/// An event of one side in window `number`.
fn take(event: &IncidentEvent, number: u64, near: u64, own: &mut Side, other: &mut Side) {
    if event.event != IncidentEventKind::Open {
        own.goes_on(event, number);
        return;
    }
    // An id that is known is the same incident, told again.
    if own.marks.contains_key(&event.incident_id) {
        return;
    }
    own.count.opened += 1;
    if own.marks.len() >= INCIDENTS_MAX {
        own.count.uncompared += 1;
        return;
    }
    let matched = other.meet(&event.entity, number, near);
    let (state, counter) = match matched {
        true => (State::Matched, &mut own.count.matched),
        false => (State::Undecided, &mut own.count.undecided),
    };
    *counter += 1;
    own.add(Mark { opened: number, closed: None, state, shown: shown(event) });
}

fn shown(event: &IncidentEvent) -> Unmatched {
    Unmatched {
        incident_id: event.incident_id.clone(),
        entity: event.entity.clone(),
        kind: event.kind.clone(),
        severity: event.severity,
        score: event.score,
        threshold: event.threshold,
        opened_at: event.opened_at.clone(),
        closed_at: event.closed_at.clone(),
    }
}

impl Side {
    fn add(&mut self, mark: Mark) {
        let (entity, id) = (&mark.shown.entity, mark.shown.incident_id.clone());
        self.by_entity.entry((entity.kind.clone(), entity.value.clone())).or_default().push(id.clone());
        self.marks.insert(id, mark);
    }

    /// An incident that is known got worse, or is over.
    fn goes_on(&mut self, event: &IncidentEvent, number: u64) {
        if !matches!(event.event, IncidentEventKind::Update | IncidentEventKind::Close) {
            return;
        }
        if let Some(mark) = self.marks.get_mut(&event.incident_id) {
            mark.shown = shown(event);
            if event.event == IncidentEventKind::Close {
                mark.closed = Some(number);
            }
        }
        if let Some(named) = self.named.iter_mut().find(|n| n.incident_id == event.incident_id) {
            *named = shown(event);
        }
    }

    /// The other side opens an incident about that entity: true when one here matches it.
    fn meet(&mut self, entity: &EntityRef, number: u64, near: u64) -> bool {
        let Some(ids) = self.by_entity.get(&(entity.kind.clone(), entity.value.clone())) else { return false };
        let mut met = false;
        for id in ids {
            let Some(mark) = self.marks.get_mut(id).filter(|mark| mark.reaches(number, near)) else { continue };
            met = true;
            match mark.state {
                State::Before | State::Matched => continue,
                State::Undecided => self.count.undecided -= 1,
                State::Unmatched => {
                    self.count.unmatched -= 1;
                    self.named.retain(|named| named.incident_id != *id);
                }
            }
            mark.state = State::Matched;
            self.count.matched += 1;
        }
        met
    }

    /// The end of window `number`: decides what has waited long enough, forgets what nothing can match any more.
    fn settle(&mut self, number: u64, near: u64) {
        let mut decided: Vec<&mut Mark> = self
            .marks
            .values_mut()
            .filter(|mark| mark.state == State::Undecided && mark.opened.saturating_add(near) <= number)
            .collect();
        // A map has no order of its own.
        decided.sort_by(|a, b| (a.opened, &a.shown.incident_id).cmp(&(b.opened, &b.shown.incident_id)));
        for mark in decided {
            mark.state = State::Unmatched;
            self.count.undecided -= 1;
            self.count.unmatched += 1;
            if self.named.len() == NAMED {
                self.named.pop_front();
            }
            self.named.push_back(mark.shown.clone());
        }
        let (marks, by_entity) = (&mut self.marks, &mut self.by_entity);
        marks.retain(|id, mark| {
            // What can no longer match is decided: it opened before it closed.
            let kept = mark.reaches(number + 1, near);
            if !kept {
                let entity = (mark.shown.entity.kind.clone(), mark.shown.entity.value.clone());
                if let Some(ids) = by_entity.get_mut(&entity) {
                    ids.retain(|other| other != id);
                    if ids.is_empty() {
                        by_entity.remove(&entity);
                    }
                }
            }
            kept
        });
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
