//! What a run came to: counters, CPU seconds, peak memory. Printed at the end of `run` and `replay`, and written as
//! JSON for machines (`--summary FILE`).

use crate::telemetry::{PROCESS_CPU_SECONDS, PROCESS_RESIDENT_BYTES};
use metrics::gauge;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;

/// See the module. `counters` holds every exported sample under its Prometheus name and labels.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Wall seconds since the start of the run.
    pub uptime_seconds: f64,
    /// User and system CPU seconds of the process.
    pub cpu_seconds: f64,
    /// Largest resident set, bytes.
    pub peak_rss_bytes: u64,
    /// Samples.
    pub counters: BTreeMap<String, f64>,
}

impl Summary {
    /// Sum of all samples of a metric, whatever their labels.
    pub fn total(&self, metric: &str) -> f64 {
        self.counters
            .iter()
            .filter(|(name, _)| name.strip_prefix(metric).is_some_and(|rest| rest.is_empty() || rest.starts_with('{')))
            .map(|(_, v)| *v)
            .fold(0.0, |sum, v| sum + v)
    }
}

/// Reads the exporter's text and the process's usage.
pub fn summarise(rendered: &str, started: Instant) -> Summary {
    let counters = rendered
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_string(), value.parse().ok()?))
        })
        .collect();
    let (cpu_seconds, peak_rss_bytes) = usage();
    Summary { uptime_seconds: started.elapsed().as_secs_f64(), cpu_seconds, peak_rss_bytes, counters }
}

/// Sets the process gauges; called before each rendering.
pub fn publish_process() {
    gauge!(PROCESS_CPU_SECONDS).set(usage().0);
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|s| s.split(' ').nth(1)?.parse::<f64>().ok());
    if let Some(pages) = pages {
        gauge!(PROCESS_RESIDENT_BYTES).set(pages * 4096.0);
    }
}

/// CPU seconds and peak resident bytes of this process.
#[allow(unsafe_code)]
fn usage() -> (f64, u64) {
    // SAFETY: all-zero bytes are a valid rusage, and the pointer is to it.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    (seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_maxrss as u64 * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_under_their_labels() {
        let text = "# TYPE a_total counter\na_total{x=\"1\"} 3\na_total{x=\"2\"} 4\na_total_more 9\n";
        let summary = summarise(text, Instant::now());
        assert_eq!(summary.total("a_total"), 7.0);
        assert_eq!(summary.counters["a_total{x=\"1\"}"], 3.0);
        assert!(summary.peak_rss_bytes > 0);
    }
}
