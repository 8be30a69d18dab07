//! What the operator sets, checked.

use kaminari_plugin_sdk::prelude::*;
use std::collections::BTreeMap;

kaminari_plugin_sdk::config! {
    /// Alerts on rows that a model of benign traffic finds rare.
    pub struct Config {
        /// Name of the model in `[models]`; the plugin must be granted it.
        pub model: String,
        /// How many false alarms a day are expected: rows of benign traffic that alert.
        #[serde(default = "false_alarms_per_day")]
        pub false_alarms_per_day: f64,
        /// Feature -> least value: rows below one of them have scores and never alert.
        #[serde(default)]
        pub min_volume: BTreeMap<String, f64>,
        /// When an alert is more than medium.
        #[serde(default)]
        pub severity: Above,
    }

    /// By how much the score is above the limit, in powers of ten: 2 is a hundred times as rare.
    #[derive(Clone, Copy)]
    #[serde(default)]
    pub struct Above {
        /// From here on `high`.
        pub high: f64,
        /// From here on `critical`.
        pub critical: f64,
    }
}

impl Default for Above {
    fn default() -> Self {
        Self { high: 2.0, critical: 4.0 }
    }
}

fn false_alarms_per_day() -> f64 {
    1.0
}

impl Above {
    /// Severity of an alert so far above the limit.
    pub fn severity(&self, above: f64) -> Severity {
        if above >= self.critical {
            Severity::Critical
        } else if above >= self.high {
            Severity::High
        } else {
            Severity::Medium
        }
    }
}

impl Config {
    /// What serde cannot see.
    pub fn check(&self) -> Result<()> {
        let alarms = self.false_alarms_per_day;
        if !(alarms > 0.0 && alarms.is_finite()) {
            return Err(error::config("false_alarms_per_day", format!("must be above 0, not {alarms}")));
        }
        if let Some((feature, least)) = self.min_volume.iter().find(|(_, least)| !least.is_finite()) {
            return Err(error::config(format!("min_volume.{feature}"), format!("must be a number, not {least}")));
        }
        let Above { high, critical } = self.severity;
        if !(high >= 0.0 && critical >= high) {
            let message = format!("`high` must not be negative ({high}), nor `critical` below it ({critical})");
            return Err(error::config("severity", message));
        }
        Ok(())
    }
}
