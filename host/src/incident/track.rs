//! What is remembered about one entity: in which windows it was alerted, and its incident while one is open.

use super::merge::{Seen, Volume, strength};
use super::windows::MEMORY_WINDOWS;
use crate::model::{Addr, Detection, Severity};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One tracked entity.
#[derive(Debug, Default)]
pub struct Track {
    /// Number and start of the newest windows in which it was alerted, ascending, at most `open_n`.
    pub alerts: VecDeque<(u64, u64)>,
    /// Windows up to this number belong to an incident that is over.
    pub told_until: u64,
    /// Counted as known and not told (suppress list) since it was last quiet.
    pub counted: bool,
    /// Hosts: made most of its prefix's traffic since it was last quiet, so it is an attack of its own.
    pub stands_alone: bool,
    /// The open incident.
    pub open: Option<Box<Incident>>,
    /// Prefixes only.
    pub cover: Option<Box<Cover>>,
}

/// What a prefix knows about its hosts.
#[derive(Debug, Default)]
pub struct Cover {
    /// The prefix's own traffic when it was last alerted.
    pub volume: Volume,
    /// Covered hosts with the most packets seen of each in one window.
    pub hosts: BTreeMap<Addr, f64>,
    /// Hosts stay covered up to this window after the prefix incident has closed.
    pub covers_until: u64,
    /// A few hosts explained the prefix; up to this window they still do.
    pub explained_until: u64,
}

/// An open incident.
#[derive(Debug)]
pub struct Incident {
    /// See `id.rs`.
    pub id: String,
    /// See `id.rs`.
    pub fingerprint: String,
    /// Engine time of the `open` event.
    pub opened_at_ns: u64,
    /// Number of the window that opened it.
    pub opened_window: u64,
    /// The leading detection of the newest window with one.
    pub lead: Detection,
    /// Every kind seen.
    pub kinds: BTreeSet<String>,
    /// Highest severity so far; an incident's severity does not fall.
    pub severity: Severity,
    /// Highest strength so far, and the score that had it.
    pub peak: (f64, f64),
    /// Severity, strength and event time last told.
    pub told: (Severity, f64, u64),
    /// Newest window with an alert.
    pub last_alert: u64,
    /// Windows with an alert.
    pub windows_alerted: u32,
}

/// Kinds remembered per incident.
const KINDS_MAX: usize = 16;

impl Incident {
    /// Takes in what was said in window `number`.
    pub fn absorb(&mut self, seen: Seen, number: u64) {
        let s = strength(&seen.lead);
        if s > self.peak.0 {
            self.peak = (s, seen.lead.alert.score);
        }
        self.severity = self.severity.max(seen.lead.alert.severity);
        for kind in seen.kinds {
            if self.kinds.len() < KINDS_MAX {
                self.kinds.insert(kind);
            }
        }
        // A re-fired older window may raise the peak, but the newest window stays the one that is shown.
        if number >= self.last_alert {
            self.lead = seen.lead;
        }
        self.alive(number);
    }

    /// It was alerted in window `number`; an older or the same window again does not count twice.
    pub fn alive(&mut self, number: u64) {
        if number > self.last_alert {
            self.last_alert = number;
            self.windows_alerted += 1;
        }
    }
}

impl Track {
    /// Notes an alert in window `number`. The order of calls does not matter.
    pub fn note(&mut self, number: u64, start_ns: u64, open_n: usize) {
        if let Err(i) = self.alerts.binary_search_by_key(&number, |(n, _)| *n) {
            self.alerts.insert(i, (number, start_ns));
            if self.alerts.len() > open_n {
                self.alerts.pop_front();
            }
        }
    }

    /// Alerted in m of n windows, window `number` among them: the number of windows that counted and the start of the first.
    pub fn qualifies(&self, number: u64, m: usize, n: u64) -> Option<(u32, u64)> {
        let last = self.alerts.partition_point(|(w, _)| *w <= number);
        let span = |i: usize| self.alerts.get(i).zip(self.alerts.get(i + m - 1));
        // Spans that end before or start after `number` were judged when their own windows fired.
        (last.saturating_sub(m)..last).find_map(|i| {
            let ((first, start), (end, _)) = span(i)?;
            (*first <= number && *end >= number && end - first < n)
                .then(|| (self.alerts.iter().filter(|(w, _)| (*first..first + n).contains(w)).count() as u32, *start))
        })
    }

    /// As [`Self::qualifies`]; for a prefix that its hosts opened, all its alerts of the last n windows.
    pub fn opened_by(&self, number: u64, m: usize, n: u64) -> (u32, u64) {
        self.qualifies(number, m, n).unwrap_or_else(|| {
            let mut recent = self.alerts.iter().filter(|(w, _)| w + n > number && *w <= number).peekable();
            let start = recent.peek().map_or(0, |(_, start)| *start);
            (recent.count() as u32, start)
        })
    }

    /// Was alerted in one of the last `span` windows up to `number`.
    pub fn alerted_within(&self, number: u64, span: u64) -> bool {
        self.alerts.back().is_some_and(|(w, _)| w + span > number)
    }

    /// Nothing left to remember.
    pub fn is_idle(&self, newest: u64) -> bool {
        let old = |window: u64| window + MEMORY_WINDOWS < newest;
        self.open.is_none()
            && self.alerts.back().is_none_or(|(w, _)| old(*w))
            && (self.told_until == 0 || old(self.told_until))
            && self.cover.as_ref().is_none_or(|c| c.covers_until < newest && c.explained_until < newest)
    }
}
