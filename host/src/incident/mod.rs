//! What a person is told. Comes in: every window end of a pipeline with all its detections, and revisions of windows.
//! Goes out: incident events, few and in a fixed order, the same in every replay. Refused: entities beyond
//! [`ENTITIES_MAX`] and alerts of windows too old to remember (both counted by reason). Moves
//! `kaminari_detections_total`, `kaminari_incidents_open`, `_opened_total` and `_suppressed_total`.
//!
//! One incident per entity and pipeline, whichever detectors see it. It opens after m alerted windows of n, is updated
//! when it gets worse or from time to time, and closes after k quiet windows. Scores nothing: hysteresis is the
//! detector's matter.

pub mod compare;
mod cover;
mod event;
mod id;
mod limit;
mod merge;
mod prefixes;
#[cfg(test)]
mod properties;
mod reconfigure;
mod save;
#[cfg(test)]
mod save_tests;
#[cfg(test)]
mod tests;
mod track;
mod windows;

use crate::config::IncidentPlan;
use crate::model::incident::{EntityRef, IncidentEvent, IncidentEventKind};
use crate::model::{Detection, EntityKey, KeyKind, PlanDigest, WindowInfo, time::SECOND};
use crate::telemetry::{DETECTIONS, INCIDENTS_OPEN, INCIDENTS_OPENED, INCIDENTS_SUPPRESSED};
use cover::{Lengths, Verdict};
use event::Closing;
use ipnet::IpNet;
use limit::RateLimit;
use merge::Seen;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use track::{Incident, Track};
use windows::{Place, Windows};

pub use event::reload_notice;
pub use reconfigure::NextWindows;

/// Tracked entities and covered hosts of one pipeline; more are refused and counted (`table_full`).
pub const ENTITIES_MAX: usize = 100_000;

/// An update is due when the strength exceeds this many times what was last told.
const WORSE: f64 = 1.5;

/// What stands in every event of the pipeline.
#[derive(Clone, Debug)]
pub struct Context {
    /// Pipeline id.
    pub pipeline: Arc<str>,
    /// `tumbling` or `sliding`.
    pub window_kind: &'static str,
    /// Digest of the plan.
    pub plan_digest: PlanDigest,
    /// Judge and count, tell nothing.
    pub shadow: bool,
}

/// The incidents of one pipeline.
#[derive(Debug)]
pub struct IncidentTracker {
    context: Context,
    plan: IncidentPlan,
    windows: Windows,
    newest: Option<WindowInfo>,
    tracks: BTreeMap<EntityKey, Track>,
    lengths: Lengths,
    limit: RateLimit,
    /// Hosts in all covers.
    covered: usize,
    open: usize,
    /// Of these, shown in the gauge.
    shown: usize,
}

impl Drop for IncidentTracker {
    fn drop(&mut self) {
        self.show(0);
    }
}

/// The window being observed.
#[derive(Clone, Copy)]
struct Now {
    number: u64,
    window: WindowInfo,
}

impl IncidentTracker {
    /// A tracker that has seen nothing yet.
    pub fn new(context: Context, plan: IncidentPlan) -> Self {
        let limit = RateLimit::new(plan.max_open_per_minute);
        Self {
            context,
            plan,
            windows: Windows::default(),
            newest: None,
            tracks: BTreeMap::new(),
            lengths: Lengths::default(),
            limit,
            covered: 0,
            open: 0,
            shown: 0,
        }
    }

    /// What stands in its events.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// By what it opens and closes.
    pub fn plan(&self) -> &IncidentPlan {
        &self.plan
    }

    /// Incidents open now.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// Entities and ids of the incidents open now.
    pub fn open_incidents(&self) -> impl Iterator<Item = (EntityRef, String)> {
        let open = self.tracks.iter().filter_map(|(key, track)| Some((key, track.open.as_ref()?)));
        open.map(|(key, incident)| {
            let entity = EntityRef { kind: key.kind.name().into(), value: key.to_string() };
            (entity, incident.id.clone())
        })
    }

    /// Called once for every window in order, also when nothing was detected; and again when late data or early
    /// firing fired a window again, which does not count as another window. The result does not depend on the order of
    /// `detections`. In silence (`shadow`) nothing is told.
    pub fn observe(&mut self, window: &WindowInfo, detections: Vec<Detection>) -> Vec<IncidentEvent> {
        let events = self.observe_all(window, detections);
        if self.context.shadow { Vec::new() } else { events }
    }

    /// The same, whether or not it is to be told: for those who compare.
    pub fn observe_all(&mut self, window: &WindowInfo, detections: Vec<Detection>) -> Vec<IncidentEvent> {
        self.count_detections(&detections);
        let seen = merge::by_entity(detections);
        let mut out = Vec::new();
        let (number, advanced) = match self.windows.place(window) {
            Place::New(number) => (number, true),
            Place::Again(number) => (number, false),
            Place::Forgotten => {
                self.suppressed("late", seen.len());
                return out;
            }
        };
        let now = Now { number, window: *window };
        let newest = number == self.windows.last();
        if newest {
            self.newest = Some(*window);
            if let Some(withheld) = self.limit.advance(window.end_ns) {
                out.push(self.context.rate_limited(&withheld, self.plan.max_open_per_minute, window.watermark_ns));
            }
        }
        let candidates = self.judge(&now, seen);
        if newest {
            self.close_quiet(&now, &mut out);
        }
        self.update(&now, &mut out);
        for (key, seen) in candidates {
            self.open(key, seen, &now, &mut out);
        }
        if advanced {
            self.forget(number);
        }
        self.show(self.open);
        out
    }

    /// True when nothing is to be told.
    pub fn is_silent(&self) -> bool {
        self.context.shadow
    }

    /// Ends all: `shutdown`, `removed` or `end_of_input`.
    pub fn close_all(&mut self, now_ns: u64, reason: &str) -> Vec<IncidentEvent> {
        let mut out = Vec::new();
        if let Some(withheld) = self.limit.take() {
            out.push(self.context.rate_limited(&withheld, self.plan.max_open_per_minute, now_ns));
        }
        if let Some(window) = self.newest {
            let open: Vec<EntityKey> = self.tracks.iter().filter(|(_, t)| t.open.is_some()).map(|(k, _)| *k).collect();
            let closing = Closing { window: &window, reason, prefix_incident: None };
            for key in open {
                out.extend(self.close(&key, self.windows.last(), now_ns, &closing));
            }
        }
        self.show(self.open);
        if self.context.shadow { Vec::new() } else { out }
    }

    /// One window's detections, merged: notes who is alerted, what is explained or covered; returns what may open, in
    /// the order in which the rate limit lets it through: prefixes (which speak for many), then the worst.
    fn judge(&mut self, now: &Now, mut seen: BTreeMap<EntityKey, Seen>) -> Vec<(EntityKey, Seen)> {
        seen.retain(|key, _| self.admit(key));
        // Hosts are noted before their prefix is judged; a prefix is noted only when no host explains it.
        for key in seen.keys().filter(|k| k.kind != KeyKind::DstPrefix) {
            self.note(key, now);
        }
        let mut opening = BTreeSet::new();
        let prefixes: Vec<EntityKey> = seen.keys().filter(|k| k.kind == KeyKind::DstPrefix).copied().collect();
        for prefix in prefixes {
            match self.judge_prefix(&prefix, now, &seen) {
                Verdict::Explained => {
                    seen.remove(&prefix);
                }
                Verdict::Spread => {
                    self.note(&prefix, now);
                    if self.prefix_opens(&prefix, now, &seen) {
                        opening.insert(prefix);
                    }
                }
            }
        }
        let folded = self.fold_hosts(now, &seen, &opening);

        let mut candidates = Vec::new();
        for (key, seen) in seen {
            let (m, n) = (self.m(), self.n());
            let track = self.tracks.get_mut(&key).expect("admitted entities are tracked");
            if let Some(incident) = &mut track.open {
                incident.absorb(seen, now.number);
            } else if folded.contains(&key) {
                // Counted when it was folded in.
            } else if now.number <= track.told_until {
                self.suppressed("late", 1);
            } else if opening.contains(&key) || track.qualifies(now.number, m, n).is_some() {
                candidates.push((key, seen));
            }
        }
        candidates.sort_by(|(ka, a), (kb, b)| {
            let rank = |k: &EntityKey, s: &Seen| (k.kind != KeyKind::DstPrefix, Reverse(s.lead.alert.severity));
            rank(ka, a).cmp(&rank(kb, b)).then(b.strength().total_cmp(&a.strength())).then(ka.cmp(kb))
        });
        candidates
    }

    /// Makes room for an entity, or refuses it.
    fn admit(&mut self, key: &EntityKey) -> bool {
        if self.tracks.contains_key(key) {
            return true;
        }
        if self.is_full() {
            self.suppressed("table_full", 1);
            return false;
        }
        if key.kind == KeyKind::DstPrefix {
            self.lengths.note(key);
        }
        self.tracks.insert(*key, Track::default());
        true
    }

    fn note(&mut self, key: &EntityKey, now: &Now) {
        let n = self.n() as usize;
        let track = self.tracks.get_mut(key).expect("admitted entities are tracked");
        if now.number > track.told_until {
            track.note(now.number, now.window.start_ns, n);
        }
    }

    /// Opens an incident, unless it is on the suppress list or over the rate limit.
    fn open(&mut self, key: EntityKey, seen: Seen, now: &Now, out: &mut Vec<IncidentEvent>) {
        let severity = seen.lead.alert.severity;
        if self.is_suppressed(&key) {
            let track = self.tracks.get_mut(&key).expect("candidates are tracked");
            if !std::mem::replace(&mut track.counted, true) {
                self.suppressed("suppress_list", 1);
            }
            return;
        }
        if !self.limit.admit() {
            // It may open in the next minute, if it still goes on.
            if self.limit.withhold(key, severity) {
                self.suppressed("rate_limit", 1);
            }
            return;
        }
        let covered_now = if key.kind == KeyKind::DstPrefix { self.take_over(&key, now) } else { Vec::new() };
        let (m, n, at) = (self.m(), self.n(), now.window.watermark_ns);
        let track = self.tracks.get_mut(&key).expect("candidates are tracked");
        let (windows_alerted, first_start) = track.opened_by(now.number, m, n);
        let fingerprint = id::fingerprint(&self.context.pipeline, &key);
        let strength = seen.strength();
        let incident = track.open.insert(Box::new(Incident {
            id: id::incident_id(&fingerprint, first_start),
            fingerprint,
            opened_at_ns: at,
            opened_window: now.number,
            peak: (strength, seen.lead.alert.score),
            told: (severity, strength, now.window.end_ns),
            lead: seen.lead,
            kinds: seen.kinds,
            severity,
            last_alert: now.number,
            windows_alerted,
        }));
        out.push(self.context.event(IncidentEventKind::Open, incident, track.cover.as_deref(), at, None));
        let id = incident.id.clone();
        self.open += 1;
        metrics::counter!(INCIDENTS_OPENED, "pipeline" => self.context.pipeline.clone(), "severity" => severity.name())
            .increment(1);
        if self.context.shadow {
            self.suppressed("shadow", 1);
        }
        let closing = Closing { window: &now.window, reason: "covered", prefix_incident: Some(&id) };
        for host in covered_now {
            out.extend(self.close(&host, now.number, at, &closing));
        }
    }

    /// Tells what got worse, and from time to time what is still there.
    fn update(&mut self, now: &Now, out: &mut Vec<IncidentEvent>) {
        let interval = self.plan.update_interval_secs.saturating_mul(SECOND);
        for track in self.tracks.values_mut() {
            let Some(incident) = &mut track.open else { continue };
            let (severity, strength, told_ns) = incident.told;
            let worse = incident.severity > severity
                || (incident.peak.0 > strength && incident.peak.0 > WORSE * strength)
                || now.window.end_ns >= told_ns.saturating_add(interval);
            if worse {
                incident.told = (incident.severity, incident.peak.0, now.window.end_ns.max(told_ns));
                let at = now.window.watermark_ns;
                out.push(self.context.event(IncidentEventKind::Update, incident, track.cover.as_deref(), at, None));
            }
        }
    }

    /// Closes what was quiet for k windows. A window that fired early is not over, so it is not quiet yet.
    fn close_quiet(&mut self, now: &Now, out: &mut Vec<IncidentEvent>) {
        let over = now.number - u64::from(now.window.partial);
        let quiet = self.quiet_windows();
        let due = |t: &Track| t.open.as_ref().is_some_and(|i| over >= i.last_alert + quiet);
        let keys: Vec<EntityKey> = self.tracks.iter().filter(|(_, t)| due(t)).map(|(k, _)| *k).collect();
        let closing = Closing { window: &now.window, reason: "quiet", prefix_incident: None };
        for key in keys {
            out.extend(self.close(&key, over, now.window.watermark_ns, &closing));
        }
    }

    /// Closes an open incident; alerts of windows up to `until` belong to it, and all that it has had: a late window may
    /// close an incident that newer windows have opened.
    fn close(&mut self, key: &EntityKey, until: u64, at_ns: u64, closing: &Closing<'_>) -> Option<IncidentEvent> {
        let quiet = self.quiet_windows();
        let track = self.tracks.get_mut(key)?;
        let incident = track.open.take()?;
        let until = until.max(incident.last_alert);
        let cover = track.cover.as_deref();
        let event = self.context.event(IncidentEventKind::Close, &incident, cover, at_ns, Some(closing));
        track.told_until = until;
        track.alerts.retain(|(window, _)| *window > until);
        (track.counted, track.stands_alone) = (false, false);
        if let Some(cover) = &mut track.cover {
            cover.covers_until = until + quiet;
            self.covered -= cover.hosts.len();
            cover.hosts.clear();
        }
        self.open -= 1;
        Some(event)
    }

    /// Drops what no window to come can need.
    fn forget(&mut self, number: u64) {
        let lately = self.lately();
        for track in self.tracks.values_mut().filter(|t| t.open.is_none() && !t.alerted_within(number, lately)) {
            (track.counted, track.stands_alone) = (false, false);
            if let Some(cover) = track.cover.as_mut().filter(|c| c.covers_until < number) {
                self.covered -= cover.hosts.len();
                cover.hosts.clear();
            }
        }
        self.tracks.retain(|_, track| !track.is_idle(number));
    }

    /// Several trackers of a pipeline (one per partition of a topic) share the gauge.
    fn show(&mut self, open: usize) {
        let before = std::mem::replace(&mut self.shown, open);
        metrics::gauge!(INCIDENTS_OPEN, "pipeline" => self.context.pipeline.clone())
            .increment(open as f64 - before as f64);
    }

    fn count_detections(&self, detections: &[Detection]) {
        for d in detections {
            metrics::counter!(
                DETECTIONS,
                "pipeline" => self.context.pipeline.clone(),
                "detector" => d.detector.clone(),
                "severity" => d.alert.severity.name()
            )
            .increment(1);
        }
    }

    fn suppressed(&self, reason: &'static str, by: usize) {
        metrics::counter!(INCIDENTS_SUPPRESSED, "pipeline" => self.context.pipeline.clone(), "reason" => reason)
            .increment(by as u64);
    }

    /// An interface is no address of the network that it serves, so its exporter's address does not suppress it.
    fn is_suppressed(&self, key: &EntityKey) -> bool {
        let ip = key.addr.to_ip();
        match key.kind {
            KeyKind::DstAddr | KeyKind::SrcAddr => self.plan.suppress.iter().any(|net| net.contains(&ip)),
            KeyKind::DstPrefix => IpNet::new(ip, cover::network(key).len)
                .is_ok_and(|prefix| self.plan.suppress.iter().any(|net| net.contains(&prefix))),
            KeyKind::Interface | KeyKind::Network | KeyKind::Name => false,
        }
    }

    fn is_full(&self) -> bool {
        self.tracks.len() + self.covered >= ENTITIES_MAX
    }

    fn n(&self) -> u64 {
        u64::from(self.plan.open_n.max(1))
    }

    fn m(&self) -> usize {
        self.plan.open_m.clamp(1, self.plan.open_n.max(1)) as usize
    }

    fn quiet_windows(&self) -> u64 {
        u64::from(self.plan.close_after_windows.max(1))
    }

    /// How many windows an alert counts as part of the same attack.
    fn lately(&self) -> u64 {
        self.n().max(self.quiet_windows())
    }
}
