//! What the operator sets, checked.

use kaminari_plugin_sdk::prelude::*;

kaminari_plugin_sdk::config! {
    /// Alerts on values of a metric that are unlikely after all that was seen of it.
    pub struct Config {
        /// Metrics, each watched by itself; the least likely one speaks for the row.
        pub features: Vec<String>,
        /// Alerts above this score: -log10 of the tail probability.
        #[serde(default = "limit")]
        pub limit: f64,
        /// Half-life of the level that predicts the next value.
        #[serde(default = "forecast_half_life")]
        pub forecast_half_life_windows: f64,
        /// Half-life of the spread that is watched beside value and error.
        #[serde(default = "spread_half_life")]
        pub spread_half_life_windows: f64,
        /// After an alert only what is less likely alerts; what was told counts half after so many windows.
        /// 0: every unlikely window alerts.
        #[serde(default = "quiet_half_life")]
        pub quiet_half_life_windows: f64,
        /// Windows of an entity before it is judged.
        #[serde(default = "warm_up")]
        pub warm_up_windows: u32,
        /// Values remembered per metric and view.
        #[serde(default = "memory")]
        pub memory: usize,
        /// Whether a window that alerts becomes part of what is usual: a new level is then told once. The forecast
        /// follows the metric either way.
        #[serde(default)]
        pub learn_from_alerts: bool,
        /// Entities that are remembered; about 12 KB each and metric.
        #[serde(default = "max_entities")]
        pub max_entities: usize,
        /// Severity of the alerts.
        #[serde(default = "severity")]
        pub severity: Severity,
    }
}

fn limit() -> f64 {
    2.6
}

fn forecast_half_life() -> f64 {
    6.0
}

fn spread_half_life() -> f64 {
    72.0
}

fn quiet_half_life() -> f64 {
    70.0
}

fn warm_up() -> u32 {
    70
}

fn memory() -> usize {
    256
}

fn max_entities() -> usize {
    2_000
}

fn severity() -> Severity {
    Severity::Medium
}

impl Config {
    /// What serde cannot see.
    pub fn check(&self) -> Result<()> {
        if self.features.is_empty() {
            return Err(error::config("features", "name at least one feature"));
        }
        positive("limit", self.limit)?;
        positive("forecast_half_life_windows", self.forecast_half_life_windows)?;
        positive("spread_half_life_windows", self.spread_half_life_windows)?;
        if !(self.quiet_half_life_windows >= 0.0 && self.quiet_half_life_windows.is_finite()) {
            return Err(error::config("quiet_half_life_windows", "must not be negative"));
        }
        if self.warm_up_windows < 2 * super::UNSETTLED {
            let message = format!("must be at least {}: the first windows say little", 2 * super::UNSETTLED);
            return Err(error::config("warm_up_windows", message));
        }
        if !(8..=4096).contains(&self.memory) {
            return Err(error::config("memory", "must be from 8 to 4096"));
        }
        if self.max_entities == 0 {
            return Err(error::config("max_entities", "must be at least 1"));
        }
        Ok(())
    }
}

fn positive(key: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(error::config(key, format!("must be positive, not {value}")))
}
