//! What leaves the engine, besides metrics and logs: what a sink is given.

use super::incident::IncidentEvent;
use super::window::FeatureFrame;
use arrow_array::RecordBatch;
use std::sync::Arc;

/// Which of what leaves a sink is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Incident events.
    #[default]
    Incidents,
    /// Every row that a detector scored.
    Scores,
    /// Rows of features, as detectors see them.
    Features,
    /// Decoded flow records.
    Flows,
}

impl Content {
    /// Name in configs, headers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Content::Incidents => "incidents",
            Content::Scores => "scores",
            Content::Features => "features",
            Content::Flows => "flows",
        }
    }
}

/// A frame with the scores of one detector.
#[derive(Clone, Debug)]
pub struct ScoredFrame {
    /// Whose rows.
    pub pipeline: Arc<str>,
    /// Who scored.
    pub detector: Arc<str>,
    /// The rows.
    pub frame: FeatureFrame,
    /// One per row; NaN: no opinion.
    pub scores: Vec<f64>,
    /// Empty, or one per row: -log10 of how rare the score is.
    pub tails: Vec<f64>,
    /// Rows that were alerted, ascending.
    pub alerted: Vec<u32>,
}

/// One delivery to a sink.
#[derive(Clone, Debug)]
pub enum Output {
    /// Incident events, in order.
    Incidents(Vec<IncidentEvent>),
    /// Scored rows of one close order.
    Scores(Arc<Vec<ScoredFrame>>),
    /// Frames of one close order, each with its pipeline.
    Features(Arc<Vec<(Arc<str>, FeatureFrame)>>),
    /// Flow records with [`flow_schema`](super::schema::flow_schema).
    Flows(RecordBatch),
}

impl Output {
    /// What it is.
    pub fn content(&self) -> Content {
        match self {
            Output::Incidents(_) => Content::Incidents,
            Output::Scores(_) => Content::Scores,
            Output::Features(_) => Content::Features,
            Output::Flows(_) => Content::Flows,
        }
    }

    /// Events or rows in it.
    pub fn len(&self) -> usize {
        match self {
            Output::Incidents(events) => events.len(),
            Output::Scores(frames) => frames.iter().map(|s| s.frame.keys.len()).sum(),
            Output::Features(frames) => frames.iter().map(|(_, f)| f.keys.len()).sum(),
            Output::Flows(batch) => batch.num_rows(),
        }
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
