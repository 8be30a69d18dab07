//! What the operator sets, checked.

use kaminari_plugin_sdk::prelude::*;

kaminari_plugin_sdk::config! {
    /// Alerts on shifts of the level that stay, however small.
    pub struct Config {
        /// Features, each with sums of its own per entity; the largest speaks for the row.
        pub features: Vec<String>,
        /// Allowance, in deviations: shifts of less than this are no shift. Half of the shift that is to be found.
        #[serde(default = "k")]
        pub k: f64,
        /// Limit of a sum, in deviations.
        #[serde(default = "h")]
        pub h: f64,
        /// Windows that make the level and deviation that values are held against; no verdict before.
        #[serde(default = "warm_up")]
        pub warm_up_windows: u32,
        /// Windows after which the level has forgotten half of what it was. 0: it stays as the warm-up made it.
        #[serde(default = "half_life")]
        pub half_life_windows: f64,
        /// What follows an alarm.
        #[serde(default = "after_alarm")]
        pub after_alarm: AfterAlarm,
        /// One value counts no more than so many deviations: a lone outlier is no shift.
        #[serde(default = "max_z")]
        pub max_z: f64,
        /// A deviation is taken to be at least this share of the level.
        #[serde(default = "min_deviation_share")]
        pub min_deviation_share: f64,
        /// Whether a window that alerts becomes part of the level.
        #[serde(default)]
        pub learn_from_alerts: bool,
        /// Entities that are remembered; about 100 bytes each and feature.
        #[serde(default = "max_entities")]
        pub max_entities: usize,
        /// Severity of the alerts.
        #[serde(default = "severity")]
        pub severity: Severity,
    }

    /// What becomes of sums and level.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[serde(rename_all = "snake_case")]
    pub enum AfterAlarm {
        /// The sums begin anew against the same level: alarms repeat as long as the shift lasts.
        Reset,
        /// The level is learned anew, too: a shift is told once, and then is the new level.
        Relearn,
        /// Nothing: the alarm stands until the sum has come down.
        Hold,
    }
}

fn k() -> f64 {
    0.5
}

fn h() -> f64 {
    8.0
}

fn warm_up() -> u32 {
    60
}

fn half_life() -> f64 {
    500.0
}

fn after_alarm() -> AfterAlarm {
    AfterAlarm::Reset
}

fn max_z() -> f64 {
    4.0
}

fn min_deviation_share() -> f64 {
    0.01
}

fn max_entities() -> usize {
    100_000
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
        for (key, value) in [("h", self.h), ("max_z", self.max_z)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(error::config(key, format!("must be positive, not {value}")));
            }
        }
        let least = [
            ("k", self.k),
            ("half_life_windows", self.half_life_windows),
            ("min_deviation_share", self.min_deviation_share),
        ];
        for (key, value) in least {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(error::config(key, format!("must not be negative, is {value}")));
            }
        }
        if self.k >= self.max_z {
            return Err(error::config("k", "must be below `max_z`: no value could raise a sum"));
        }
        if self.warm_up_windows < 2 {
            return Err(error::config("warm_up_windows", "must be at least 2: one window has no deviation"));
        }
        if self.max_entities == 0 {
            return Err(error::config("max_entities", "must be at least 1"));
        }
        Ok(())
    }
}
