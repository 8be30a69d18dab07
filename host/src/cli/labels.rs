//! How labels are read: shared by the verbs that take some.

use crate::evaluate::{FlowTime, LabelOptions, TableOptions, TimeUnit};
use clap::ValueEnum;
use std::path::PathBuf;

/// What stands beside the file of labels.
#[derive(Debug, clap::Args)]
pub struct LabelArgs {
    /// Labelled flows (columns ts, dst, event): a window is an attack when it holds a flow of one
    #[arg(long, value_name = "FILE", conflicts_with = "label_column")]
    flows: Option<PathBuf>,
    /// Which time of a labelled flow counts: as event_time of the pipeline's window
    #[arg(long, value_name = "WHICH", default_value = "start", requires = "flows")]
    flow_time: Which,
    /// Unit of times given as numbers in labels
    #[arg(long, value_name = "UNIT", default_value = "seconds")]
    label_time_unit: Unit,
    /// The labels are a table: its column with the label, a number
    #[arg(long, value_name = "COLUMN")]
    label_column: Option<String>,
    /// Column of the time in the table
    #[arg(long, value_name = "COLUMN", default_value = "time", requires = "label_column")]
    label_time: String,
    /// Column of the entity in the table; without it labels hold for everybody
    #[arg(long, value_name = "COLUMN", requires = "label_column")]
    label_entity: Option<String>,
    /// Column of the event in the table; without it events are runs of attacks
    #[arg(long, value_name = "COLUMN", requires = "label_column")]
    label_event: Option<String>,
    /// A label above this is an attack
    #[arg(long, value_name = "NUMBER", default_value = "0", requires = "label_column", allow_negative_numbers = true)]
    positive_above: f64,
    /// A label above this, and no attack, is neither attack nor benign
    #[arg(long, value_name = "NUMBER", requires = "label_column", allow_negative_numbers = true)]
    ignore_above: Option<f64>,
    /// Attacks with no longer pause are one event; at least one window
    #[arg(long, value_name = "SECONDS", default_value = "60", requires = "label_column")]
    event_pause: u32,
}

/// A time of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Which {
    /// Its start
    Start,
    /// Its end (column dur)
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Unit {
    /// s
    Seconds,
    /// ms
    Millis,
    /// us
    Micros,
    /// ns
    Nanos,
}

impl LabelArgs {
    /// For the reader.
    pub fn options(&self) -> LabelOptions {
        let table = self.label_column.clone().map(|label| TableOptions {
            time: self.label_time.clone(),
            entity: self.label_entity.clone(),
            label,
            attack_above: self.positive_above,
            ignore_above: self.ignore_above,
            event: self.label_event.clone(),
            pause_ns: u64::from(self.event_pause) * crate::model::time::SECOND,
        });
        LabelOptions {
            time_unit: match self.label_time_unit {
                Unit::Seconds => TimeUnit::Seconds,
                Unit::Millis => TimeUnit::Millis,
                Unit::Micros => TimeUnit::Micros,
                Unit::Nanos => TimeUnit::Nanos,
            },
            flows: self.flows.clone(),
            flow_time: match self.flow_time {
                Which::Start => FlowTime::Start,
                Which::End => FlowTime::End,
            },
            table,
        }
    }
}
