//! Reads the file of `--summary`.

use serde_json::Value;
use std::path::Path;

pub struct Summary(pub Value);

impl Summary {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("no summary {}: {e}", path.display()));
        Self(serde_json::from_str(&text).unwrap())
    }

    pub fn counters(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0["counters"].as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value.as_f64().unwrap()))
    }

    /// The sample with exactly this name and these labels.
    pub fn value(&self, series: &str) -> f64 {
        self.0["counters"][series].as_f64().unwrap_or_else(|| panic!("no {series} in {:#}", self.0["counters"]))
    }

    /// Sum over all labels; 0 when there is no such sample.
    pub fn total(&self, metric: &str) -> f64 {
        let of =
            |series: &str| series.strip_prefix(metric).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        self.counters().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }
}
