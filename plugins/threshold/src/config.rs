//! The operator's rules, checked.

use kaminari_plugin_sdk::prelude::*;

kaminari_plugin_sdk::config! {
    /// Static limits, and limits that follow each entity's own level. At least one of either.
    pub struct Config {
        /// The first of the most severe broken rules names the alert.
        #[serde(default)]
        pub limits: Vec<Limit>,
        /// As `limits`, with a limit that each entity's own past sets.
        #[serde(default)]
        pub adaptive: Vec<Adaptive>,
        /// An alerted entity stays alerted until it falls below this share of the limit.
        #[serde(default = "hysteresis")]
        pub hysteresis: f64,
        /// Entities whose level is remembered; about 100 bytes each and adaptive rule.
        #[serde(default = "max_entities")]
        pub max_entities: usize,
    }

    /// A limit that is the same for every entity.
    pub struct Limit {
        /// Kind of the alerts, e.g. `udp-amplification`.
        pub name: String,
        /// Feature that is limited.
        pub feature: String,
        /// The limit; alerts above it.
        pub above: f64,
        /// Further conditions; all must hold.
        #[serde(default)]
        pub when: Vec<Condition>,
        /// Severity of the alerts.
        #[serde(default = "severity")]
        pub severity: Severity,
    }

    /// A limit of so many deviations above the entity's own level.
    pub struct Adaptive {
        /// Kind of the alerts, e.g. `traffic-surge`.
        pub name: String,
        /// Feature that is limited.
        pub feature: String,
        /// Deviations above the level that are still normal.
        #[serde(default = "sigma")]
        pub sigma: f64,
        /// Windows after which the past has lost half of its weight.
        #[serde(default = "half_life")]
        pub half_life_windows: f64,
        /// Windows of an entity before it is judged.
        #[serde(default = "warm_up")]
        pub warm_up_windows: u32,
        /// Never alerts at or below this value: small entities vary a lot.
        #[serde(default)]
        pub min: f64,
        /// Further conditions; all must hold.
        #[serde(default)]
        pub when: Vec<Condition>,
        /// Severity of the alerts.
        #[serde(default = "severity")]
        pub severity: Severity,
    }

    /// A feature that must lie above or below a value (or between).
    pub struct Condition {
        /// Feature.
        pub feature: String,
        /// Must be above this.
        pub above: Option<f64>,
        /// Must be below this.
        pub below: Option<f64>,
    }
}

fn hysteresis() -> f64 {
    0.8
}

fn max_entities() -> usize {
    100_000
}

fn severity() -> Severity {
    Severity::Medium
}

fn sigma() -> f64 {
    6.0
}

fn half_life() -> f64 {
    60.0
}

fn warm_up() -> u32 {
    30
}

impl Condition {
    /// Both bounds; infinite where there is none.
    pub fn bounds(&self) -> (f64, f64) {
        (self.above.unwrap_or(f64::NEG_INFINITY), self.below.unwrap_or(f64::INFINITY))
    }

    /// Whether a value meets it.
    #[inline]
    pub fn holds(&self, x: f64) -> bool {
        let (above, below) = self.bounds();
        x > above && x < below
    }
}

impl Config {
    /// What serde cannot see.
    pub fn check(&self) -> Result<()> {
        if self.limits.is_empty() && self.adaptive.is_empty() {
            return Err(error::config("", "no rules: give `limits` or `adaptive`"));
        }
        if !(self.hysteresis > 0.0 && self.hysteresis <= 1.0) {
            return Err(error::config("hysteresis", "must be above 0 and at most 1"));
        }
        if self.max_entities == 0 {
            return Err(error::config("max_entities", "must be at least 1"));
        }
        for (i, rule) in self.limits.iter().enumerate() {
            let path = format!("limits[{i}]");
            positive(&path, "above", rule.above)?;
            named(&path, &rule.name)?;
            conditions(&path, &rule.when)?;
        }
        for (i, rule) in self.adaptive.iter().enumerate() {
            let path = format!("adaptive[{i}]");
            positive(&path, "sigma", rule.sigma)?;
            positive(&path, "half_life_windows", rule.half_life_windows)?;
            if !(rule.min >= 0.0 && rule.min.is_finite()) {
                return Err(error::config(format!("{path}.min"), "must not be negative"));
            }
            if rule.warm_up_windows < 2 {
                let message = "must be at least 2: one window has no deviation";
                return Err(error::config(format!("{path}.warm_up_windows"), message));
            }
            named(&path, &rule.name)?;
            conditions(&path, &rule.when)?;
        }
        Ok(())
    }

    /// Does the input have every feature that a rule names?
    pub fn features_exist(&self, schema: &Schema) -> Result<()> {
        let limits = self.limits.iter().enumerate().map(|(i, r)| (format!("limits[{i}]"), &r.feature, &r.when));
        let adaptive = self.adaptive.iter().enumerate().map(|(i, r)| (format!("adaptive[{i}]"), &r.feature, &r.when));
        for (path, feature, when) in limits.chain(adaptive) {
            schema.require(format!("{path}.feature"), feature)?;
            for (j, condition) in when.iter().enumerate() {
                schema.require(format!("{path}.when[{j}].feature"), &condition.feature)?;
            }
        }
        Ok(())
    }
}

fn positive(path: &str, key: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(error::config(format!("{path}.{key}"), format!("must be positive, not {value}")))
}

fn named(path: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(error::config(format!("{path}.name"), "must not be empty: it is the kind of the alerts"));
    }
    Ok(())
}

fn conditions(path: &str, when: &[Condition]) -> Result<()> {
    match when.iter().position(|c| c.above.is_none() && c.below.is_none()) {
        Some(j) => Err(error::config(format!("{path}.when[{j}]"), "needs `above` or `below`")),
        None => Ok(()),
    }
}
