//! What the stages offer, as plain lists: `config` owns the types and is handed the lists, so that it checks text
//! against every component without importing a stage.

use super::plan::Component;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

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
    /// A body that passed `check` with all its defaults filled in, as JSON. What cannot be told stays as it is written.
    pub fill: fn(&toml::Table) -> serde_json::Value,
    /// Keys of the body (dotted) that hold a path or a list of paths: made relative to the config file's folder at load.
    pub paths: &'static [&'static str],
    /// Those of them that name files which are read when the component is made, and only then: another content makes another
    /// component.
    pub contents: &'static [&'static str],
}

impl ComponentDef {
    /// The definition of a component whose body is a `T` (with `#[serde(deny_unknown_fields)]`).
    pub const fn new<T: DeserializeOwned + Serialize>(
        kind: &'static str,
        summary: &'static str,
        example: &'static str,
    ) -> Self {
        Self { kind, summary, example, check: check::<T>, fill: fill::<T>, paths: &[], contents: &[] }
    }

    /// Says which keys of the body hold paths.
    pub const fn with_paths(mut self, paths: &'static [&'static str]) -> Self {
        self.paths = paths;
        self
    }

    /// Says which keys of the body hold paths of files that are read when the component is made.
    pub const fn with_contents(mut self, contents: &'static [&'static str]) -> Self {
        self.contents = contents;
        self
    }
}

fn check<T: DeserializeOwned>(body: toml::de::ValueDeserializer<'_>) -> Result<(), toml::de::Error> {
    T::deserialize(body).map(|_| ())
}

fn fill<T: DeserializeOwned + Serialize>(body: &toml::Table) -> serde_json::Value {
    let full = T::deserialize(body.clone()).ok().and_then(|full| serde_json::to_value(full).ok());
    full.unwrap_or_else(|| serde_json::to_value(body).unwrap_or_default())
}

/// A body that its own component cannot read: only possible for a plan that was not made by `config::load`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{id} ({kind}): {message}")]
pub struct ConfigError {
    /// Name chosen by the operator.
    pub id: Arc<str>,
    /// Component type.
    pub kind: &'static str,
    /// What the body's struct says.
    pub message: String,
}

impl Component {
    /// The body as the component's own struct.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        T::deserialize(self.body.clone()).map_err(|error| ConfigError {
            id: self.id.clone(),
            kind: self.kind,
            message: error.message().to_owned(),
        })
    }
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
