//! What really happened, and which scored rows that makes an attack. Comes in: one of three forms of labels, told apart
//! by their first line: a list of events (`event,start,end,...,dst`, if wanted with the labelled flows themselves), the
//! truth of `kaminari generate`, or a table with a label per time (and entity). Goes out: labels on the rows, and the
//! events there are to find. Refused: other files, missing columns, cells that are no number.

mod events;
mod table;

use super::input::{InputError, Table, TimeUnit, open};
use super::metrics::{Event, Label, Row, span};
use super::scores::Series;
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// How labels are to be read.
#[derive(Clone, Debug)]
pub struct LabelOptions {
    /// Unit of times given as numbers.
    pub time_unit: TimeUnit,
    /// Labelled flows (columns `ts`, `dst`, `event`): a window is positive when it holds a flow of an attack.
    pub flows: Option<PathBuf>,
    /// Which window a flow falls into.
    pub flow_time: FlowTime,
    /// The columns, when the labels are a table.
    pub table: Option<TableOptions>,
}

/// By which of its times a flow belongs to a window: as the pipeline's `event_time` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowTime {
    /// Column `ts`.
    Start,
    /// Column `ts` and `dur` (seconds) later.
    End,
}

/// Columns of a table of labels and what they mean.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// Column of the time: any within the window.
    pub time: String,
    /// Column of the entity; without one a label holds for everybody.
    pub entity: Option<String>,
    /// Column of the label, a number.
    pub label: String,
    /// An attack is above this.
    pub attack_above: f64,
    /// What is above this and no attack is neither attack nor benign.
    pub ignore_above: Option<f64>,
    /// Column of the event an attack belongs to. Without one, events are runs of attacks.
    pub event: Option<String>,
    /// Longest pause within a run.
    pub pause_ns: u64,
}

/// Labels of either form.
#[derive(Debug)]
pub enum Labels {
    /// Events, with or without flows.
    Events(events::EventLabels),
    /// A label per time.
    Table(table::TableLabels),
}

/// What labels made of a series.
#[derive(Debug, Default)]
pub struct Labelled {
    /// Events within the scored time.
    pub events: Vec<Event>,
    /// Events outside of it, left out.
    pub outside: usize,
    /// Oddities.
    pub warnings: Vec<String>,
}

impl Labels {
    /// Reads the file.
    pub fn read(path: &Path, options: &LabelOptions) -> Result<Self, InputError> {
        if let Some(table) = &options.table {
            return Ok(Labels::Table(table::TableLabels::read(path, table, options.time_unit)?));
        }
        let mut first = open(path)?;
        let io = |cause| InputError::Io { path: path.into(), cause };
        if first.fill_buf().map_err(io)?.trim_ascii_start().starts_with(b"{") {
            return Ok(Labels::Events(events::EventLabels::read_truth(path, options)?));
        }
        let csv = Table::open(path)?;
        if ["event", "start", "end"].iter().all(|c| csv.has(c)) {
            return Ok(Labels::Events(events::EventLabels::read_csv(csv, path, options)?));
        }
        // The error names the columns there are.
        Err(match csv.column("event") {
            Err(InputError::Column { path, known, .. }) => InputError::Empty {
                path,
                what: format!(
                    "neither a list of events (event, start, end, dst) nor, without --label-column, a table of labels; \
                     its columns are: {known}"
                ),
            },
            _ => InputError::empty(path, "a list of events has the columns event, start, end and dst"),
        })
    }

    /// Puts labels on the rows of a series; attacks that were never scored become rows too.
    pub fn apply(&self, series: &mut Series) -> Labelled {
        let Some(span) = span(&series.rows) else { return Labelled::default() };
        match self {
            Labels::Events(labels) => labels.apply(series, span),
            Labels::Table(labels) => labels.apply(series, span),
        }
    }

    /// The events of a time, and the times (of an entity) that are neither attack nor benign.
    pub fn within(&self, span: (u64, u64)) -> (Vec<Event>, Vec<Event>) {
        let inside = |e: &&Event| overlap((e.start_ns, e.end_ns), span);
        match self {
            Labels::Events(labels) => (labels.events().filter(inside).cloned().collect(), Vec::new()),
            Labels::Table(labels) => (labels.events.iter().filter(inside).cloned().collect(), labels.ignored(span)),
        }
    }

    /// Levels of entities that the labels speak of.
    pub fn knows(&self, entity_kind: &str) -> bool {
        match self {
            Labels::Events(_) => entity_kind.starts_with("dst_"),
            Labels::Table(_) => true,
        }
    }
}

/// Labels a series.
pub fn label(series: &mut Series, labels: &Labels) -> Labelled {
    labels.apply(series)
}

/// True when two times share something; ends are exclusive, but what has no length is where it is.
pub(super) fn overlap(a: (u64, u64), b: (u64, u64)) -> bool {
    a.0 < b.1.max(b.0 + 1) && b.0 < a.1.max(a.0 + 1)
}

/// An attack that no row was scored for.
fn unscored(entity: &str, window: (u64, u64), events: Vec<usize>) -> Row {
    Row {
        entity: entity.into(),
        start_ns: window.0,
        end_ns: window.1,
        score: None,
        alert: false,
        label: Label::Attack,
        events,
        scored: false,
    }
}

/// A few names, and how many more.
fn some(names: impl IntoIterator<Item = String>) -> String {
    let names: Vec<String> = names.into_iter().collect();
    match names.len() {
        0..=4 => names.join(", "),
        n => format!("{} and {} more", names[..3].join(", "), n - 3),
    }
}

#[cfg(test)]
mod tests;
