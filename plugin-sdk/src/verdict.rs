/// How bad, for a person.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Look at it today.
    Low,
    /// Look at it now.
    Medium,
    /// Service is likely hurt.
    High,
    /// Service is down or about to be.
    Critical,
}

/// One feature's part in an alert.
#[derive(Clone, PartialEq, Debug)]
pub struct Contribution {
    /// Feature.
    pub column: String,
    /// Share of the score, 0..=1.
    pub weight: f64,
    /// Value in this row.
    pub observed: f64,
    /// What was expected; NaN: no notion of it.
    pub expected: f64,
}

/// An alert on one row.
#[derive(Clone, PartialEq, Debug)]
pub struct Alert {
    /// Row of the batch.
    pub row: u32,
    /// Short kebab-case name of what was seen.
    pub kind: String,
    /// How bad.
    pub severity: Severity,
    /// The detector's number.
    pub score: f64,
    /// The number above which it alerts.
    pub threshold: f64,
    /// One sentence for a person. The host knows the entity and the window and adds them.
    pub message: String,
    /// Why, most important first.
    pub contributions: Vec<Contribution>,
    /// Free-form details.
    pub attributes: Vec<(String, String)>,
}

impl Alert {
    /// An alert of that kind; the message is the kind until [`Alert::message`] says better.
    pub fn new(kind: impl Into<String>, severity: Severity) -> Self {
        let kind = kind.into();
        Self {
            row: 0,
            message: kind.clone(),
            kind,
            severity,
            score: 0.0,
            threshold: 0.0,
            contributions: Vec::new(),
            attributes: Vec::new(),
        }
    }

    /// On that row.
    pub fn row(mut self, row: usize) -> Self {
        self.row = row as u32;
        self
    }

    /// With that score, against that threshold.
    pub fn score(mut self, score: f64, threshold: f64) -> Self {
        (self.score, self.threshold) = (score, threshold);
        self
    }

    /// One sentence for a person.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// One more feature that made it alert.
    pub fn because(mut self, column: impl Into<String>, weight: f64, observed: f64, expected: f64) -> Self {
        self.contributions.push(Contribution { column: column.into(), weight, observed, expected });
        self
    }

    /// One more detail.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), value.into()));
        self
    }
}

/// What a detector says about a batch.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Verdict {
    /// Empty, or one per row (NaN: no opinion).
    pub scores: Vec<f64>,
    /// Alerts.
    pub alerts: Vec<Alert>,
}

impl Verdict {
    /// Scores and no alert yet.
    pub fn scores(scores: Vec<f64>) -> Self {
        Self { scores, alerts: Vec::new() }
    }

    /// An alert for every row whose score is above `threshold`; `alert` says what it is.
    pub fn above(scores: Vec<f64>, threshold: f64, alert: impl Fn(usize) -> Alert) -> Self {
        let hits = scores.iter().enumerate().filter(|(_, s)| **s > threshold);
        let alerts = hits.map(|(row, &score)| alert(row).row(row).score(score, threshold)).collect();
        Self { scores, alerts }
    }

    /// One more alert.
    pub fn push(&mut self, alert: Alert) {
        self.alerts.push(alert);
    }
}
