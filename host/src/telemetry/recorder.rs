//! The metrics recorder: set up once per process, rendered as Prometheus text.

use super::catalogue::{BUILD_INFO, CATALOGUE, MetricKind};
use metrics::{describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Bounds of every histogram here, seconds: plugin calls take microseconds, deliveries seconds.
const BUCKETS: [f64; 14] = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 5.0, 30.0];

/// Installs the recorder (the first call does) and returns the handle that renders it.
///
/// # Panics
/// When somebody else has installed another recorder.
pub fn install() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new().set_buckets(&BUCKETS).expect("the buckets are not empty");
            let handle = builder.install_recorder().expect("no other recorder is installed in this process");
            for metric in CATALOGUE {
                match metric.kind {
                    MetricKind::Counter => describe_counter!(metric.name, metric.help.trim()),
                    MetricKind::Gauge => describe_gauge!(metric.name, metric.help.trim()),
                    MetricKind::Histogram => describe_histogram!(metric.name, metric.help.trim()),
                }
            }
            gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            handle
        })
        .clone()
}

/// Samples of histograms are put into their buckets so often.
const UPKEEP: Duration = Duration::from_secs(1);

/// Keeps the recorder small. It holds every sample of a histogram until somebody asks for its metrics, and nobody may ever ask.
pub struct Upkeep {
    recorder: PrometheusHandle,
    last: Cell<Instant>,
}

impl Upkeep {
    /// Of what [`install`] gave.
    pub fn new(recorder: PrometheusHandle) -> Self {
        Self { recorder, last: Cell::new(Instant::now()) }
    }

    /// To be called often; does something once a second.
    pub fn tend(&self) {
        if self.last.get().elapsed() >= UPKEEP {
            self.recorder.run_upkeep();
            self.last.set(Instant::now());
        }
    }
}
