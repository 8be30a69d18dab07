//! Metrics of a plugin's own, under `kaminari_plugin_custom_`. Comes in: names, labels and values of a guest; goes out:
//! series beside the engine's. Refused: a plugin without the grant, names that are none, series over the quota (counted in
//! `kaminari_plugin_series_refused_total`; a series that is there goes on).

use super::bindings::kaminari::plugin::{common::Error, metrics as wit};
use super::instance::State;
use super::services::cut;
use crate::telemetry;
use metrics::{Counter, Gauge, Histogram, Label};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

const PREFIX: &str = "kaminari_plugin_custom_";
/// Labels of one series, besides `plugin` and `pipeline`.
const LABELS: usize = 8;
/// Bytes of a name.
const NAME_BYTES: usize = 64;
/// Bytes of a label's value.
const VALUE_BYTES: usize = 128;

#[derive(Clone)]
enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

/// Pipeline, name and labels.
type SeriesKey = (Arc<str>, String, Vec<(String, String)>);

/// The series of all instances of a plugin: they outlive every one of them.
pub struct OwnMetrics {
    quota: usize,
    series: Mutex<HashMap<SeriesKey, Series>>,
}

impl OwnMetrics {
    pub fn new(quota: usize) -> Self {
        Self { quota, series: Mutex::default() }
    }

    fn series(
        &self,
        (plugin, pipeline): (&Arc<str>, &Arc<str>),
        name: String,
        mut labels: Vec<(String, String)>,
        make: impl FnOnce(String, Vec<Label>) -> Series,
    ) -> Result<Series, Error> {
        if self.quota == 0 {
            return Err(Error::Denied(format!(
                "metrics: set `plugins.{plugin}.metrics_series` to as many as it may have"
            )));
        }
        if labels.len() > LABELS {
            return Err(Error::Other(format!("more than {LABELS} labels")));
        }
        labels.sort();
        let key = (pipeline.clone(), name, labels);
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = all.get(&key) {
            return Ok(series.clone());
        }
        let (_, name, labels) = &key;
        named(name)?;
        for (i, (label, value)) in labels.iter().enumerate() {
            named(label)?;
            if label == "plugin" || label == "pipeline" || labels[..i].iter().any(|(l, _)| l == label) {
                return Err(Error::Other(format!("the label `{label}` is there already")));
            }
            if value.len() > VALUE_BYTES {
                return Err(Error::Other(format!("the value of label `{label}` is longer than {VALUE_BYTES} bytes")));
            }
        }
        if all.len() >= self.quota {
            metrics::counter!(telemetry::PLUGIN_SERIES_REFUSED, "plugin" => plugin.to_string()).increment(1);
            return Err(Error::Quota(format!(
                "`{name}` would be one series more than the {} of `plugins.{plugin}.metrics_series`",
                self.quota
            )));
        }
        let mut told = vec![Label::new("plugin", plugin.to_string()), Label::new("pipeline", pipeline.to_string())];
        told.extend(labels.iter().map(|(k, v)| Label::new(k.clone(), v.clone())));
        let series = make(format!("{PREFIX}{name}"), told);
        all.insert(key, series.clone());
        Ok(series)
    }
}

/// Refused: what Prometheus would not take.
fn named(name: &str) -> Result<(), Error> {
    let good = !name.is_empty()
        && name.len() <= NAME_BYTES
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let bad =
        || Error::Other(format!("{:?} is no name: letters, digits and _, at most {NAME_BYTES}", cut(name, NAME_BYTES)));
    if good { Ok(()) } else { Err(bad()) }
}

fn another_kind() -> Error {
    Error::Other("a series of this name is of another kind".into())
}

impl wit::Host for State {
    fn add(&mut self, name: String, labels: Vec<(String, String)>, delta: u64) -> Result<(), Error> {
        let make = |name: String, labels: Vec<Label>| Series::Counter(metrics::counter!(name, labels));
        match self.metrics.series((&self.id, &self.pipeline), name, labels, make)? {
            Series::Counter(counter) => counter.increment(delta),
            _ => return Err(another_kind()),
        }
        Ok(())
    }

    fn set(&mut self, name: String, labels: Vec<(String, String)>, value: f64) -> Result<(), Error> {
        let make = |name: String, labels: Vec<Label>| Series::Gauge(metrics::gauge!(name, labels));
        match self.metrics.series((&self.id, &self.pipeline), name, labels, make)? {
            Series::Gauge(gauge) => gauge.set(value),
            _ => return Err(another_kind()),
        }
        Ok(())
    }

    fn observe(&mut self, name: String, labels: Vec<(String, String)>, value: f64) -> Result<(), Error> {
        if !value.is_finite() {
            return Err(Error::Other(format!("{value} is no value of a distribution")));
        }
        let make = |name: String, labels: Vec<Label>| Series::Histogram(metrics::histogram!(name, labels));
        match self.metrics.series((&self.id, &self.pipeline), name, labels, make)? {
            Series::Histogram(histogram) => histogram.record(value),
            _ => return Err(another_kind()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(metrics: &OwnMetrics, name: &str, labels: &[(&str, &str)]) -> Result<(), Error> {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let make = |name: String, labels: Vec<Label>| Series::Counter(metrics::counter!(name, labels));
        metrics.series((&"p".into(), &"pipe".into()), name.into(), labels, make).map(drop)
    }

    #[test]
    fn a_plugin_without_the_grant_is_told_which_line_gives_it() {
        let Err(Error::Denied(text)) = add(&OwnMetrics::new(0), "seen", &[]) else { panic!("refused") };
        assert_eq!(text, "metrics: set `plugins.p.metrics_series` to as many as it may have");
    }

    #[test]
    fn series_are_counted_and_those_that_are_there_go_on() {
        let metrics = OwnMetrics::new(2);
        add(&metrics, "seen", &[("kind", "a")]).unwrap();
        add(&metrics, "seen", &[("kind", "b")]).unwrap();
        let Err(Error::Quota(text)) = add(&metrics, "seen", &[("kind", "c")]) else { panic!("refused") };
        assert!(text.contains("the 2 of `plugins.p.metrics_series`"), "{text}");
        add(&metrics, "seen", &[("kind", "a")]).unwrap();
    }

    #[test]
    fn names_are_names() {
        let metrics = OwnMetrics::new(100);
        for name in ["", "1x", "a-b", "ü", &"x".repeat(65)] {
            assert!(matches!(add(&metrics, name, &[]), Err(Error::Other(_))), "{name}");
            assert!(matches!(add(&metrics, "fine", &[(name, "v")]), Err(Error::Other(_))), "{name}");
        }
        for labels in [[("plugin", "x"), ("a", "b")], [("a", "x"), ("a", "y")]] {
            assert!(add(&metrics, "fine", &labels).is_err(), "{labels:?}");
        }
        let many: Vec<(String, String)> = (0..9).map(|i| (format!("l{i}"), String::new())).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert!(add(&metrics, "fine", &many).is_err());
    }
}
