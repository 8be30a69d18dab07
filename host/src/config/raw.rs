//! What an operator may write, section by section, with the defaults. What it means (units, references, ranges) is
//! decided in `resolve`; keys that must be there are `Option` here, so that all that are missing can be told at once.

use super::decode_options::TimeUnit;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The sections at the top of a file, and whether they hold named tables (`[sources.NAME]`).
pub(super) const SECTIONS: &[(&str, bool)] = &[
    ("engine", false),
    ("api", false),
    ("reload", false),
    ("inference", false),
    ("sources", true),
    ("models", true),
    ("plugins", true),
    ("detectors", true),
    ("pipelines", true),
    ("sinks", true),
];

/// `[engine]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EngineSection {
    pub window_workers: Option<usize>,
    pub plugin_cache_dir: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
}

/// `[api]`. Without the section there is no listener.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ApiSection {
    pub enabled: bool,
    pub listen: SocketAddr,
    pub token_file: Option<PathBuf>,
    pub open_probes: bool,
}

impl Default for ApiSection {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 9977));
        Self { enabled: true, listen, token_file: None, open_probes: false }
    }
}

/// `[reload]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReloadSection {
    pub probation_windows: u32,
    pub probation_faults: u64,
    pub timeout_secs: u64,
}

impl Default for ReloadSection {
    fn default() -> Self {
        let super::ReloadPlan { probation_windows, probation_faults, timeout_secs } = Default::default();
        Self { probation_windows, probation_faults, timeout_secs }
    }
}

/// `[inference]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct InferenceSection {
    pub backend: String,
    pub device: String,
    pub dtype: String,
    pub libtorch: Option<PathBuf>,
    pub library: Option<PathBuf>,
    pub max_batch: usize,
    pub max_wait_us: u64,
}

impl Default for InferenceSection {
    fn default() -> Self {
        let super::InferencePlan { dtype, libtorch, library, max_batch, max_wait_us, .. } = Default::default();
        let (backend, device) = ("auto".into(), "auto".into());
        Self { backend, device, dtype: dtype.name().into(), libtorch, library, max_batch, max_wait_us }
    }
}

/// `[models.NAME]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ModelSection {
    pub path: Option<PathBuf>,
    pub sha256: Option<String>,
    pub train: Option<TrainSection>,
}

/// `[models.NAME.train]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TrainSection {
    pub pipeline: Option<String>,
    pub level: Option<String>,
    pub features: Option<Vec<String>>,
    pub backend: Option<String>,
    pub architecture: Option<String>,
    pub kl_weight: Option<f64>,
    pub hidden: Option<Vec<usize>>,
    pub seeds: Option<u32>,
    pub epochs: Option<u32>,
    pub max_rows: Option<usize>,
}

/// `[plugins.NAME]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PluginSection {
    pub path: Option<PathBuf>,
    pub sha256: Option<String>,
    pub inference: Vec<String>,
    pub state: Vec<String>,
    pub metrics_series: usize,
    pub limits: LimitsSection,
}

/// `limits` of a plugin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsSection {
    pub memory_bytes: usize,
    pub deadline_ms: u64,
    pub alerts_per_call: usize,
    pub state_bytes: usize,
}

impl Default for LimitsSection {
    fn default() -> Self {
        let super::PluginLimits { memory_bytes, deadline_ms, alerts_per_call, state_bytes } = Default::default();
        Self { memory_bytes, deadline_ms, alerts_per_call, state_bytes }
    }
}

/// `[detectors.NAME]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DetectorSection {
    pub plugin: Option<String>,
    pub keys: Option<Vec<String>>,
    pub config: toml::Table,
    pub calibration: CalibrationSection,
    pub on_state_mismatch: Option<String>,
}

/// `[detectors.NAME.calibration]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CalibrationSection {
    pub follow: bool,
    pub max_shift: f64,
    pub warm_up_rows: u64,
}

impl Default for CalibrationSection {
    fn default() -> Self {
        Self { follow: true, max_shift: 1.25, warm_up_rows: 20_000 }
    }
}

/// `[pipelines.NAME]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PipelineSection {
    pub sources: Option<Vec<String>>,
    pub keys: Option<Vec<String>>,
    pub prefix_v4: u8,
    pub prefix_v6: u8,
    pub features: Option<Vec<String>>,
    pub level_half_life_windows: f64,
    pub detectors: Option<Vec<String>>,
    pub sinks: Vec<String>,
    pub mode: String,
    pub window: WindowSection,
    pub rows: Option<RowsSection>,
    pub records: Option<RecordsSection>,
    pub combine: Option<CombineSection>,
    pub incident: IncidentSection,
    pub shadow: Option<ShadowSection>,
}

impl Default for PipelineSection {
    fn default() -> Self {
        Self {
            sources: None,
            keys: None,
            prefix_v4: 24,
            prefix_v6: 64,
            features: None,
            level_half_life_windows: 60.0,
            detectors: None,
            sinks: Vec::new(),
            mode: "alert".into(),
            window: WindowSection::default(),
            rows: None,
            records: None,
            combine: None,
            incident: IncidentSection::default(),
            shadow: None,
        }
    }
}

/// `[pipelines.NAME.window]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WindowSection {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub size_secs: Option<f64>,
    pub slide_secs: Option<f64>,
    pub early_secs: Option<f64>,
    pub event_time: String,
    pub max_spread_secs: f64,
    pub out_of_order_secs: Option<f64>,
    pub allowed_lateness_secs: f64,
    pub idle_timeout_secs: f64,
    pub max_future_secs: f64,
    pub max_keys: usize,
}

impl Default for WindowSection {
    fn default() -> Self {
        Self {
            kind: None,
            size_secs: None,
            slide_secs: None,
            early_secs: None,
            event_time: "received".into(),
            max_spread_secs: 120.0,
            out_of_order_secs: None,
            allowed_lateness_secs: 0.0,
            idle_timeout_secs: 5.0,
            max_future_secs: 10.0,
            max_keys: 1_000_000,
        }
    }
}

/// `[pipelines.NAME.rows]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RowsSection {
    pub time: Option<String>,
    pub time_unit: TimeUnit,
    pub window_secs: Option<f64>,
    pub entity: Option<String>,
}

impl Default for RowsSection {
    fn default() -> Self {
        Self { time: None, time_unit: TimeUnit::Seconds, window_secs: None, entity: None }
    }
}

/// `[pipelines.NAME.records]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RecordsSection {
    pub entity: Option<String>,
    pub level: Option<String>,
    pub max_bytes: usize,
    pub extract: Option<ExtractSection>,
}

impl Default for RecordsSection {
    fn default() -> Self {
        Self { entity: None, level: None, max_bytes: 256 << 20, extract: None }
    }
}

/// `extract` of `[pipelines.NAME.records]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExtractSection {
    pub plugin: Option<String>,
    pub config: toml::Table,
}

/// `[pipelines.NAME.combine]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CombineSection {
    pub rule: Option<String>,
    pub k: Option<usize>,
    pub false_alarms_per_day: f64,
}

impl Default for CombineSection {
    fn default() -> Self {
        Self { rule: None, k: None, false_alarms_per_day: 1.0 }
    }
}

/// `[pipelines.NAME.incident]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IncidentSection {
    pub open_after: String,
    pub close_after_windows: u32,
    pub update_interval_secs: u64,
    pub cover_min_hosts: u32,
    pub dominant_share: f64,
    pub max_open_per_minute: u32,
    pub suppress: Vec<String>,
}

impl Default for IncidentSection {
    fn default() -> Self {
        Self {
            open_after: "2/3".into(),
            close_after_windows: 10,
            update_interval_secs: 60,
            cover_min_hosts: 5,
            dominant_share: 0.5,
            max_open_per_minute: 100,
            suppress: Vec::new(),
        }
    }
}

/// `[pipelines.NAME.shadow]`. What is not written is as in the pipeline itself.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ShadowSection {
    pub detectors: Option<Vec<String>>,
    pub combine: Option<CombineSection>,
    pub incident: IncidentSection,
}

/// Every section's struct with the keys it takes, as serde tells them. For the test of the reference configuration.
#[cfg(test)]
pub(super) fn all_keys() -> Vec<(&'static str, Vec<String>)> {
    fn keys<T: serde::de::DeserializeOwned>() -> Vec<String> {
        let value = toml::de::ValueDeserializer::parse("{ \"no such key\" = 1 }").expect("is TOML");
        let Err(error) = T::deserialize(value) else { panic!("every section refuses unknown keys") };
        error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }
    vec![
        ("engine", keys::<EngineSection>()),
        ("api", keys::<ApiSection>()),
        ("reload", keys::<ReloadSection>()),
        ("inference", keys::<InferenceSection>()),
        ("models", keys::<ModelSection>()),
        ("plugins", keys::<PluginSection>()),
        ("plugins.limits", keys::<LimitsSection>()),
        ("detectors", keys::<DetectorSection>()),
        ("pipelines", keys::<PipelineSection>()),
        ("pipelines.window", keys::<WindowSection>()),
        ("models.train", keys::<TrainSection>()),
        ("detectors.calibration", keys::<CalibrationSection>()),
        ("pipelines.combine", keys::<CombineSection>()),
        ("pipelines.rows", keys::<RowsSection>()),
        ("pipelines.records", keys::<RecordsSection>()),
        ("pipelines.records.extract", keys::<ExtractSection>()),
        ("pipelines.incident", keys::<IncidentSection>()),
        ("pipelines.shadow", keys::<ShadowSection>()),
    ]
}
