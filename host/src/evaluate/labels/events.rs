//! Labels as events: who was attacked from when to when. With the labelled flows at hand a window is an attack when it
//! holds a flow of one; without, when it overlaps the event.

use super::super::input::{InputError, Table, TimeUnit, lines};
use super::super::metrics::{Event, Label};
use super::super::net::{Net, Who};
use super::super::scores::Series;
use super::{FlowTime, LabelOptions, Labelled, overlap, some, unscored};
use crate::model::time::rfc3339;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A list of events, and perhaps the flows of their attacks.
#[derive(Debug)]
pub struct EventLabels {
    events: Vec<(Event, Who)>,
    /// False: there are flows, and none of them belongs to the event.
    findable: Vec<bool>,
    flows: Option<Vec<AttackFlow>>,
}

/// One flow of an attack.
#[derive(Clone, Copy, Debug)]
struct AttackFlow {
    at_ns: u64,
    dst: Net,
    event: usize,
}

/// An attack in the truth of `kaminari generate`.
#[derive(Deserialize)]
struct Truth {
    attack: u64,
    kind: String,
    target: String,
    start_ns: u64,
    end_ns: u64,
}

impl EventLabels {
    /// `event,start,end[,kind],dst`.
    pub fn read_csv(mut csv: Table, path: &Path, options: &LabelOptions) -> Result<Self, InputError> {
        let (id, start, end) = (csv.column("event")?, csv.column("start")?, csv.column("end")?);
        let (dst, kind) = (csv.column("dst")?, csv.column("kind").ok());
        let mut events = Vec::new();
        while csv.advance()? {
            let (start_ns, end_ns) = (csv.time(start, options.time_unit)?, csv.time(end, options.time_unit)?);
            if end_ns < start_ns {
                return Err(csv.wrong("the event ends before it begins"));
            }
            let entity = csv.text(dst).to_owned();
            let kind = kind.map_or_else(String::new, |k| csv.text(k).to_owned());
            let who = Who::parse(&entity);
            events.push((Event { id: csv.text(id).into(), kind, entity, start_ns, end_ns }, who));
        }
        Self { findable: vec![true; events.len()], events, flows: None }.with_flows(path, options)
    }

    /// The JSON lines of `kaminari generate --truth`; those of exporters are skipped.
    pub fn read_truth(path: &Path, options: &LabelOptions) -> Result<Self, InputError> {
        let mut events = Vec::new();
        lines(path, |number, text| {
            let wrong = |e: serde_json::Error| {
                InputError::line(path, number, format!("not a line of `kaminari generate --truth`: {e}"))
            };
            let line: serde_json::Value = serde_json::from_str(text).map_err(wrong)?;
            if line.get("exporter").is_some() {
                return Ok(());
            }
            let truth: Truth = serde_json::from_value(line).map_err(wrong)?;
            let (start_ns, end_ns) = (truth.start_ns, truth.end_ns.max(truth.start_ns));
            let who = Who::parse(&truth.target);
            let id = truth.attack.to_string();
            events.push((Event { id, kind: truth.kind, entity: truth.target, start_ns, end_ns }, who));
            Ok(())
        })?;
        Self { findable: vec![true; events.len()], events, flows: None }.with_flows(path, options)
    }

    /// Adds the flows, and makes every event as long as its flows.
    fn with_flows(mut self, labels: &Path, options: &LabelOptions) -> Result<Self, InputError> {
        let Some(path) = &options.flows else { return Ok(self) };
        let mut csv = Table::open(path)?;
        let (ts, dst, event) = (csv.column("ts")?, csv.column("dst")?, csv.column("event")?);
        let duration = match options.flow_time {
            FlowTime::Start => None,
            FlowTime::End => Some(csv.column("dur")?),
        };
        let known: HashMap<String, usize> =
            self.events.iter().enumerate().map(|(i, (e, _))| (e.id.clone(), i)).collect();
        let (mut flows, mut any) = (Vec::new(), false);
        while csv.advance()? {
            any = true;
            if matches!(csv.text(event), "" | "0") {
                continue;
            }
            let number = known.get(csv.text(event)).ok_or_else(|| {
                csv.wrong(format!("event `{}` does not stand in {}", csv.text(event), labels.display()))
            })?;
            let net = Net::parse(csv.text(dst));
            let dst = net.ok_or_else(|| csv.wrong(format!("`dst` is `{}`, no address", csv.text(dst))))?;
            let mut at_ns = csv.time(ts, options.time_unit)?;
            if let Some(duration) = duration {
                at_ns += super::super::input::parse_time(csv.text(duration), TimeUnit::Seconds)
                    .ok_or_else(|| csv.wrong(format!("`dur` is `{}`, no number", csv.text(duration))))?;
            }
            let event = &mut self.events[*number].0;
            event.start_ns = event.start_ns.min(at_ns);
            if at_ns > event.end_ns {
                event.end_ns = at_ns + 1;
            }
            flows.push(AttackFlow { at_ns, dst, event: *number });
        }
        if !any {
            return Err(InputError::empty(path, "no flows"));
        }
        self.findable.fill(false);
        flows.iter().for_each(|f| self.findable[f.event] = true);
        flows.sort_by_key(|f| (f.at_ns, f.event));
        self.flows = Some(flows);
        Ok(self)
    }

    /// Those that there is anything of.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().zip(&self.findable).filter(|(_, findable)| **findable).map(|((e, _), _)| e)
    }

    pub(super) fn apply(&self, series: &mut Series, span: (u64, u64)) -> Labelled {
        let mut out = Labelled::default();
        if !series.entity_kind.starts_with("dst_") {
            series.rows.iter_mut().for_each(|r| r.label = Label::Ignored);
            let (detector, kind) = (&series.detector, &series.entity_kind);
            out.warnings.push(format!("the labels say who was attacked, nothing of {kind}: {detector} has no figures"));
            return out;
        }
        // Places of the events that are left in the list of those that are.
        let mut places = vec![None; self.events.len()];
        let mut silent = Vec::new();
        for (number, (event, _)) in self.events.iter().enumerate() {
            if !overlap((event.start_ns, event.end_ns), span) {
                out.outside += 1;
            } else if !self.findable[number] {
                silent.push(event.id.clone());
            } else {
                places[number] = Some(out.events.len());
                out.events.push(event.clone());
            }
        }
        if !silent.is_empty() {
            out.warnings.push(format!("no flow belongs to event {}: left out", some(silent)));
        }
        if out.events.is_empty() && !self.events.is_empty() {
            let (from, to) = (rfc3339(span.0), rfc3339(span.1));
            out.warnings.push(format!(
                "none of the {} events lies in the scored time, {from} to {to}: right only if nothing happened then; \
                 else the labels have another time base",
                self.events.len()
            ));
        }
        match &self.flows {
            Some(flows) => by_flows(flows, &places, series),
            None => self.by_time(&places, series),
        }
        let mut strangers = BTreeSet::new();
        let scored: BTreeSet<Arc<str>> = series.rows.iter().filter(|r| r.scored).map(|r| r.entity.clone()).collect();
        let scored: Vec<Who> = scored.iter().map(|e| Who::parse(e)).collect();
        for (number, (event, who)) in self.events.iter().enumerate() {
            // A host level knows nothing of a whole prefix, but its hosts are scored.
            if places[number].is_some() && !scored.iter().any(|s| s.holds(who) || who.holds(s)) {
                strangers.insert(event.entity.clone());
            }
        }
        if !strangers.is_empty() {
            out.warnings.push(format!(
                "{} attacked {} no score from {}: {}. Labels of another network, or hosts below what is scored?",
                strangers.len(),
                if strangers.len() == 1 { "entity has" } else { "entities have" },
                series.detector,
                some(strangers),
            ));
        }
        out
    }

    /// A row is an attack when its window overlaps an event of its entity, or of one inside it. A host of an attacked
    /// prefix may or may not be hit: neither.
    fn by_time(&self, places: &[Option<usize>], series: &mut Series) {
        type Concerned = (Vec<usize>, Vec<usize>);
        let mut concerned: HashMap<Arc<str>, Concerned> = HashMap::new();
        for row in &mut series.rows {
            let (mine, maybe) = concerned.entry(row.entity.clone()).or_insert_with(|| {
                let entity = Who::parse(&row.entity);
                let all = || (0..self.events.len()).filter(|e| places[*e].is_some());
                let holds = |e: &usize| entity.holds(&self.events[*e].1);
                let within = |e: &usize| !holds(e) && self.events[*e].1.holds(&entity);
                (all().filter(holds).collect(), all().filter(within).collect())
            });
            let now = |e: &&usize| {
                let event = &self.events[**e].0;
                overlap((event.start_ns, event.end_ns), (row.start_ns, row.end_ns))
            };
            row.events = mine.iter().filter(now).filter_map(|e| places[*e]).collect();
            row.label = match (row.events.is_empty(), maybe.iter().any(|e| now(&e))) {
                (false, _) => Label::Attack,
                (true, true) => Label::Ignored,
                (true, false) => Label::Benign,
            };
        }
    }
}

/// A row is an attack when a flow of one falls into its window. Hosts that were hit in a window without a row become a
/// row that was never scored.
fn by_flows(flows: &[AttackFlow], places: &[Option<usize>], series: &mut Series) {
    let mut by_net: BTreeMap<u8, HashMap<Net, Vec<(u64, usize)>>> = BTreeMap::new();
    let mut seen: HashSet<(Net, u64, u64)> = HashSet::new();
    let mut windows = BTreeSet::new();
    let mut nets: HashMap<Arc<str>, Option<Net>> = HashMap::new();
    for row in &mut series.rows {
        windows.insert((row.start_ns, row.end_ns));
        let net = *nets.entry(row.entity.clone()).or_insert_with(|| Net::parse(&row.entity));
        let Some(net) = net else { continue };
        let inside = by_net.entry(net.bits()).or_insert_with(|| group(flows, net.bits()));
        if net.bits() == 128 {
            seen.insert((net, row.start_ns, row.end_ns));
        }
        let Some(mine) = inside.get(&net) else { continue };
        let from = mine.partition_point(|(at, _)| *at < row.start_ns);
        let now = mine[from..].iter().take_while(|(at, _)| *at < row.end_ns);
        row.events = now.filter_map(|(_, event)| places[*event]).collect::<BTreeSet<_>>().into_iter().collect();
        if !row.events.is_empty() {
            row.label = Label::Attack;
        }
    }
    if series.entity_kind != "dst_addr" {
        return;
    }
    let longest = windows.iter().map(|(start, end)| end - start).max().unwrap_or(0);
    let mut missing: BTreeMap<(Net, u64, u64), BTreeSet<usize>> = BTreeMap::new();
    for flow in flows {
        let Some(place) = places[flow.event] else { continue };
        let first = flow.at_ns.saturating_sub(longest);
        for (start, end) in windows.range((first, 0)..=(flow.at_ns, u64::MAX)) {
            if flow.at_ns < *end && !seen.contains(&(flow.dst, *start, *end)) {
                missing.entry((flow.dst, *start, *end)).or_default().insert(place);
            }
        }
    }
    for ((net, start, end), events) in missing {
        series.rows.push(unscored(&net.to_string(), (start, end), events.into_iter().collect()));
    }
}

/// Flows by the network of that length they went to; times stay in order.
fn group(flows: &[AttackFlow], bits: u8) -> HashMap<Net, Vec<(u64, usize)>> {
    let mut out: HashMap<Net, Vec<(u64, usize)>> = HashMap::new();
    for flow in flows {
        out.entry(flow.dst.widened(bits)).or_default().push((flow.at_ns, flow.event));
    }
    out
}
