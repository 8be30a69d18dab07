//! What `kaminari run --summary FILE` leaves: counters, CPU seconds, peak memory; and which counters mean a loss.

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Where something can get lost, and the counters that tell: place, metric, label.
const LOSSES: [(&str, &str, &str); 11] = [
    ("exporter sequence gaps", "kaminari_decode_sequence_gap_total", ""),
    ("kernel drops", "kaminari_source_socket_dropped_total", ""),
    ("datagrams shed", "kaminari_source_shed_datagrams_total", ""),
    ("datagrams refused", "kaminari_source_refused_total", ""),
    ("decode errors", "kaminari_decode_errors_total", ""),
    ("bytes undecoded", "kaminari_decode_undecoded_bytes_total", ""),
    ("late records dropped", "kaminari_window_late_records_total", "disposition=\"dropped\""),
    ("keys refused", "kaminari_window_evicted_entities_total", ""),
    ("rows unjudged", "kaminari_plugin_dead_lettered_rows_total", ""),
    ("alerts refused", "kaminari_plugin_alerts_refused_total", ""),
    ("events undelivered", "kaminari_sink_failed_total", ""),
];

/// The summary of a run.
pub struct Summary {
    counters: Map<String, Value>,
    /// User and system CPU seconds of the engine.
    pub cpu_seconds: f64,
    /// Its largest resident set.
    pub peak_rss_bytes: f64,
}

impl Summary {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("the engine left no {}", path.display()))?;
        Self::parse(&serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))?)
    }

    /// Reads the document.
    pub fn parse(summary: &Value) -> Result<Self> {
        let value = |name: &str| {
            summary.get(name).and_then(Value::as_f64).with_context(|| format!("the summary has no {name}"))
        };
        let counters = summary.get("counters").and_then(Value::as_object).context("the summary has no counters")?;
        Ok(Self {
            counters: counters.clone(),
            cpu_seconds: value("cpu_seconds")?,
            peak_rss_bytes: value("peak_rss_bytes")?,
        })
    }

    /// Sum of a metric's samples that carry the label.
    pub fn total(&self, metric: &str, label: &str) -> f64 {
        let mine = self.counters.iter().filter(|(k, _)| k.split('{').next() == Some(metric) && k.contains(label));
        mine.filter_map(|(_, v)| v.as_f64()).fold(0.0, |sum, v| sum + v)
    }

    /// Flow records decoded.
    pub fn received(&self) -> u64 {
        self.total("kaminari_decode_flows_total", "") as u64
    }

    /// Flow records that reached a pipeline.
    pub fn windowed(&self) -> u64 {
        self.total("kaminari_window_records_total", "") as u64
    }

    /// Every place, and how much was lost there.
    pub fn losses(&self) -> Vec<(&'static str, f64)> {
        LOSSES.iter().map(|(place, metric, label)| (*place, self.total(metric, label))).collect()
    }
}
