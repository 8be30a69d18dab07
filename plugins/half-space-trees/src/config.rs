//! What the operator sets, checked.

use kaminari_plugin_sdk::prelude::*;
use std::collections::BTreeMap;

kaminari_plugin_sdk::config! {
    /// Alerts on rows in regions where few rows were of late.
    pub struct Config {
        /// Features, judged together.
        pub features: Vec<String>,
        /// Trees.
        #[serde(default = "trees")]
        pub trees: usize,
        /// Splits from root to leaf.
        #[serde(default = "depth")]
        pub depth: u32,
        /// Rows of a turn: those of the last one say where rows usually are. Nothing is judged before the first is full.
        #[serde(default = "turn")]
        pub turn_rows: usize,
        /// Where the splits lie. The same seed, the same scores.
        #[serde(default = "seed")]
        pub seed: u64,
        /// Feature -> least and most usual value. Learned in the first turn where not given.
        #[serde(default)]
        pub ranges: BTreeMap<String, [f64; 2]>,
        /// Whose rows are compared.
        #[serde(default = "scope")]
        pub scope: Scope,
        /// Alerts above this score: how often the density halves from usual to this row's.
        #[serde(default = "limit")]
        pub limit: f64,
        /// Whether a row that alerts counts as one that was seen.
        #[serde(default)]
        pub learn_from_alerts: bool,
        /// Entities that are remembered, with `scope = "entity"`: 4 bytes each, node and tree.
        #[serde(default = "max_entities")]
        pub max_entities: usize,
        /// Severity of the alerts.
        #[serde(default = "severity")]
        pub severity: Severity,
    }

    /// Whose rows are compared with each other.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[serde(rename_all = "snake_case")]
    pub enum Scope {
        /// Each entity's with its own.
        Entity,
        /// All with all: which entity is unlike the others?
        All,
    }
}

fn trees() -> usize {
    25
}

fn depth() -> u32 {
    8
}

fn turn() -> usize {
    250
}

fn seed() -> u64 {
    1
}

fn scope() -> Scope {
    Scope::Entity
}

fn limit() -> f64 {
    6.0
}

fn max_entities() -> usize {
    256
}

fn severity() -> Severity {
    Severity::Medium
}

impl Config {
    /// What serde cannot see.
    pub fn check(&self) -> Result<()> {
        if !(1..=64).contains(&self.features.len()) {
            return Err(error::config("features", "name from 1 to 64 features"));
        }
        for (key, value, most) in [("trees", self.trees, 200), ("depth", self.depth as usize, 12)] {
            if !(1..=most).contains(&value) {
                return Err(error::config(key, format!("must be from 1 to {most}")));
            }
        }
        if !(20..=60_000).contains(&self.turn_rows) {
            return Err(error::config("turn_rows", "must be from 20 to 60000"));
        }
        if !(self.limit > 0.0 && self.limit.is_finite()) {
            return Err(error::config("limit", format!("must be positive, not {}", self.limit)));
        }
        for (name, [low, high]) in &self.ranges {
            if !self.features.contains(name) {
                return Err(error::config(format!("ranges.{name}"), "is none of `features`"));
            }
            if !(low < high && low.is_finite() && high.is_finite()) {
                return Err(error::config(format!("ranges.{name}"), "must be [least, most]"));
            }
        }
        if self.max_entities == 0 {
            return Err(error::config("max_entities", "must be at least 1"));
        }
        Ok(())
    }
}
