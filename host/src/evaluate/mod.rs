//! Scores and incidents against labels. Comes in: the scored rows of a replay, labels (events, a truth file or a table
//! of labelled windows) and, if wanted, its incidents; goes out: how good they are, as figures, text, JSON and a plot.
//! Refused: files that hold no scores or no labels, lines that are neither, columns that do not exist. What is merely
//! odd (labels of nobody that was scored, another time base) is told as a warning beside the figures.
//!
//! [`evaluate`] is the numeric core and knows no file: rows with a score, an alert and a label go in.

mod incidents;
mod input;
mod labels;
mod metrics;
mod net;
mod plot;
mod rank;
mod report;
mod scores;

pub use incidents::{Incident, IncidentMetrics, evaluate_incidents, read_incidents};
pub use input::{InputError, TimeUnit};
pub use labels::{FlowTime, LabelOptions, Labels, TableOptions, label};
pub use metrics::{Event, Label, Metrics, MissedEvent, Outcome, Row, evaluate, outcomes};
pub use plot::page;
pub use rank::{Curve, Point};
pub use report::{Evaluation, Report};
pub use scores::{ScoreOptions, Scores, Series, read_scores};
