//! What the operator sets, checked.

use kaminari_plugin_sdk::prelude::*;

kaminari_plugin_sdk::config! {
    /// Alerts on values that lie many deviations off the entity's own level.
    pub struct Config {
        /// Features, each with a level per entity; the farthest off speaks for the row.
        pub features: Vec<String>,
        /// How level and deviation are estimated.
        #[serde(default = "method")]
        pub method: Method,
        /// Windows after which the past has lost half of its weight.
        #[serde(default = "half_life")]
        pub half_life_windows: f64,
        /// Deviations off the level above which it alerts.
        #[serde(default = "z")]
        pub z: f64,
        /// Windows of an entity before it is judged.
        #[serde(default = "warm_up")]
        pub warm_up_windows: u32,
        /// Which side alerts.
        #[serde(default = "direction")]
        pub direction: Direction,
        /// A deviation is taken to be at least this share of the level: a steady entity may still move.
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

    /// An estimator.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[serde(rename_all = "snake_case")]
    pub enum Method {
        /// Exponentially weighted mean and deviation.
        Ewma,
        /// The same behind Huber's function and a bounded scale: outliers hardly move it.
        Robust,
    }

    /// A side of the level.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[serde(rename_all = "snake_case")]
    pub enum Direction {
        /// Above.
        Up,
        /// Below.
        Down,
        /// Either.
        Both,
    }
}

fn method() -> Method {
    Method::Robust
}

fn half_life() -> f64 {
    60.0
}

fn z() -> f64 {
    6.0
}

fn warm_up() -> u32 {
    30
}

fn direction() -> Direction {
    Direction::Both
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

impl Direction {
    /// How far `z` is off on the side that alerts.
    pub fn off(self, z: f64) -> f64 {
        match self {
            Direction::Up => z.max(0.0),
            Direction::Down => (-z).max(0.0),
            Direction::Both => z.abs(),
        }
    }
}

impl Config {
    /// What serde cannot see.
    pub fn check(&self) -> Result<()> {
        if self.features.is_empty() {
            return Err(error::config("features", "name at least one feature"));
        }
        for (key, value) in [("half_life_windows", self.half_life_windows), ("z", self.z)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(error::config(key, format!("must be positive, not {value}")));
            }
        }
        if !(self.min_deviation_share >= 0.0 && self.min_deviation_share.is_finite()) {
            return Err(error::config("min_deviation_share", "must not be negative"));
        }
        if !(2..=1000).contains(&self.warm_up_windows) {
            return Err(error::config("warm_up_windows", "must be from 2 to 1000: one window has no deviation"));
        }
        if self.max_entities == 0 {
            return Err(error::config("max_entities", "must be at least 1"));
        }
        Ok(())
    }
}
