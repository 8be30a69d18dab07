//! Labels as a table: a number per time, and per entity where there is a column for it.

use super::super::input::{InputError, Table, TimeUnit};
use super::super::metrics::{Event, Label};
use super::super::scores::Series;
use super::{Labelled, TableOptions, overlap, some, unscored};
use crate::model::time::rfc3339;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What stands for everybody.
const ALL: &str = "*";

/// The table.
#[derive(Debug)]
pub struct TableLabels {
    /// By entity, in the order of time.
    entries: BTreeMap<String, Vec<Entry>>,
    /// Runs of attacks, or what the event column says.
    pub events: Vec<Event>,
    /// Time from one entry to the next.
    step_ns: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    at_ns: u64,
    label: Label,
    /// Attacks: which event.
    event: Option<usize>,
    /// What the event column says.
    id: String,
}

impl TableLabels {
    pub fn read(path: &Path, options: &TableOptions, unit: TimeUnit) -> Result<Self, InputError> {
        let mut csv = Table::open(path)?;
        let (time, label) = (csv.column(&options.time)?, csv.column(&options.label)?);
        let entity = options.entity.as_ref().map(|c| csv.column(c)).transpose()?;
        let id = options.event.as_ref().map(|c| csv.column(c)).transpose()?;
        let mut entries: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        while csv.advance()? {
            let value = csv.number(label)?;
            let label = match options.ignore_above {
                _ if value > options.attack_above => Label::Attack,
                Some(above) if value > above => Label::Ignored,
                _ => Label::Benign,
            };
            let who = entity.map_or(ALL, |e| csv.text(e)).to_owned();
            let id = id.map_or_else(String::new, |c| csv.text(c).to_owned());
            entries.entry(who).or_default().push(Entry { at_ns: csv.time(time, unit)?, label, event: None, id });
        }
        if entries.is_empty() {
            return Err(InputError::empty(path, "no rows"));
        }
        entries.values_mut().for_each(|e| e.sort_by_key(|e| e.at_ns));
        let steps = entries.values().flat_map(|e| e.windows(2).map(|w| w[1].at_ns - w[0].at_ns));
        let step_ns = steps.filter(|s| *s > 0).min().unwrap_or(1);
        let mut labels = Self { entries, events: Vec::new(), step_ns };
        if options.event.is_some() {
            labels.events_by_id()
        } else {
            labels.events_by_run(options.pause_ns.max(step_ns))
        }
        Ok(labels)
    }

    /// Attacks of one entity are one event as long as no pause between them is longer than this.
    fn events_by_run(&mut self, pause_ns: u64) {
        for (entity, entries) in &mut self.entries {
            let mut open: Option<usize> = None;
            for entry in entries.iter_mut().filter(|e| e.label == Label::Attack) {
                let end_ns = entry.at_ns + self.step_ns;
                let goes_on = open.filter(|e| entry.at_ns <= self.events[*e].end_ns + pause_ns);
                let event = goes_on.unwrap_or_else(|| {
                    let id = (self.events.len() + 1).to_string();
                    let (entity, start_ns) = (entity.clone(), entry.at_ns);
                    self.events.push(Event { id, kind: String::new(), entity, start_ns, end_ns });
                    self.events.len() - 1
                });
                self.events[event].end_ns = end_ns;
                entry.event = Some(event);
                open = Some(event);
            }
        }
    }

    fn events_by_id(&mut self) {
        let mut known: BTreeMap<(String, String), usize> = BTreeMap::new();
        for (entity, entries) in &mut self.entries {
            for entry in entries.iter_mut().filter(|e| e.label == Label::Attack) {
                let (id, start_ns, end_ns) = (entry.id.clone(), entry.at_ns, entry.at_ns + self.step_ns);
                let event = *known.entry((entity.clone(), id.clone())).or_insert_with(|| {
                    self.events.push(Event { id, kind: String::new(), entity: entity.clone(), start_ns, end_ns });
                    self.events.len() - 1
                });
                self.events[event].end_ns = end_ns;
                entry.event = Some(event);
            }
        }
    }

    /// Times that are neither attack nor benign, as events without a name.
    pub fn ignored(&self, span: (u64, u64)) -> Vec<Event> {
        let all = self.entries.iter().flat_map(|(entity, entries)| entries.iter().map(move |e| (entity, e)));
        let ignored = all.filter(|(_, e)| e.label == Label::Ignored && e.at_ns >= span.0 && e.at_ns < span.1);
        ignored
            .map(|(entity, e)| Event {
                id: String::new(),
                kind: String::new(),
                entity: entity.clone(),
                start_ns: e.at_ns,
                end_ns: e.at_ns + self.step_ns,
            })
            .collect()
    }

    /// A row is what the worst entry within its window says.
    pub(super) fn apply(&self, series: &mut Series, span: (u64, u64)) -> Labelled {
        let mut out = Labelled::default();
        let inside = |e: &Event| overlap((e.start_ns, e.end_ns), span);
        let mut places = vec![None; self.events.len()];
        for (number, event) in self.events.iter().enumerate() {
            match inside(event) {
                true => {
                    places[number] = Some(out.events.len());
                    out.events.push(event.clone());
                }
                false => out.outside += 1,
            }
        }
        let for_all = self.entries.len() == 1 && self.entries.contains_key(ALL);
        let mut met: BTreeMap<&str, Vec<bool>> =
            self.entries.iter().map(|(entity, e)| (&**entity, vec![false; e.len()])).collect();
        let mut unlabelled = 0;
        for row in &mut series.rows {
            let who = if for_all { ALL } else { &*row.entity };
            let entries = self.entries.get(who).map_or(&[][..], Vec::as_slice);
            let from = entries.partition_point(|e| e.at_ns < row.start_ns);
            let to = entries.partition_point(|e| e.at_ns < row.end_ns);
            if let Some(met) = met.get_mut(who) {
                met[from..to].fill(true);
            }
            let now = &entries[from..to];
            let events: BTreeSet<usize> = now.iter().filter_map(|e| e.event.and_then(|e| places[e])).collect();
            row.events = events.into_iter().collect();
            row.label = match now {
                [] => Label::Ignored,
                _ if now.iter().any(|e| e.label == Label::Attack) => Label::Attack,
                _ if now.iter().any(|e| e.label == Label::Ignored) => Label::Ignored,
                _ => Label::Benign,
            };
            unlabelled += usize::from(now.is_empty());
        }
        self.warn(series, span, unlabelled, for_all, &mut out.warnings);
        // What was never scored is a miss. Nobody knows the windows of an entity without rows: the entry is one.
        for (entity, entries) in &self.entries {
            let missed = entries.iter().zip(&met[&**entity]).filter(|(e, met)| e.label == Label::Attack && !**met);
            for (entry, _) in missed.filter(|(e, _)| e.at_ns >= span.0 && e.at_ns < span.1) {
                let window = (entry.at_ns, entry.at_ns + self.step_ns);
                let events = entry.event.and_then(|e| places[e]).into_iter().collect();
                series.rows.push(unscored(entity, window, events));
            }
        }
        out
    }

    fn warn(&self, series: &Series, span: (u64, u64), unlabelled: usize, for_all: bool, out: &mut Vec<String>) {
        let times = self.entries.values().flatten().map(|e| e.at_ns);
        let (first, last) = (times.clone().min().unwrap_or(0), times.max().unwrap_or(0));
        let entities: BTreeSet<&str> = series.rows.iter().map(|r| &*r.entity).collect();
        if first >= span.1 || last < span.0 {
            out.push(format!(
                "no label lies in the scored time: scores are of {} to {}, labels of {} to {}; another time base or unit?",
                rfc3339(span.0),
                rfc3339(span.1),
                rfc3339(first),
                rfc3339(last)
            ));
        } else if !for_all && !self.entries.keys().any(|e| entities.contains(&**e)) {
            out.push(format!(
                "no label is of an entity that {} scored: labels are of {}, scores of {}; another entity column?",
                series.detector,
                some(self.entries.keys().cloned()),
                some(entities.iter().map(|e| (*e).to_owned()))
            ));
        } else if unlabelled > 0 {
            let (rows, detector) = (series.rows.len(), &series.detector);
            out.push(format!("{unlabelled} of {rows} rows of {detector} have no label: ignored"));
        }
        if for_all && entities.len() > 1 {
            out.push(format!("the labels name no entity: they hold for all {} that were scored", entities.len()));
        }
    }
}
