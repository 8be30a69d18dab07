//! What the stages offer, as plain lists: `config` owns the types and is handed the lists, so that it checks text
//! against every component without importing a stage.

use serde::de::DeserializeOwned;

/// A source or sink type.
#[derive(Clone, Copy)]
pub struct ComponentDef {
    /// `type = "..."` in the config; also the metric label `component_type`.
    pub kind: &'static str,
    /// One line for `kaminari list`.
    pub summary: &'static str,
    /// A body (without `type`) that validates; shown by `kaminari list` and `generate config`.
    pub example: &'static str,
    /// Deserialises a body into the component's own struct and throws the result away. `Err` keeps the span.
    pub check: fn(toml::de::ValueDeserializer<'_>) -> Result<(), toml::de::Error>,
}

impl ComponentDef {
    /// The definition of a component whose body is a `T` (with `#[serde(deny_unknown_fields)]`).
    pub const fn new<T: DeserializeOwned>(kind: &'static str, summary: &'static str, example: &'static str) -> Self {
        Self { kind, summary, example, check: check::<T> }
    }
}

fn check<T: DeserializeOwned>(body: toml::de::ValueDeserializer<'_>) -> Result<(), toml::de::Error> {
    T::deserialize(body).map(|_| ())
}

/// A feature of the built-in catalogue.
#[derive(Clone, Copy, Debug)]
pub struct FeatureDef {
    /// Name in configs, frames and incidents.
    pub name: &'static str,
    /// Unit, e.g. `bit/s`, `1` for shares.
    pub unit: &'static str,
    /// One sentence.
    pub description: &'static str,
}

/// All lists.
#[derive(Clone, Copy)]
pub struct Registry {
    /// Source types.
    pub sources: &'static [ComponentDef],
    /// Sink types.
    pub sinks: &'static [ComponentDef],
    /// Built-in features.
    pub features: &'static [FeatureDef],
}
