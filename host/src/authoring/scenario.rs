//! Scenario folders of a plugin: `tests/NAME/{config.toml or config.json, input.*, expected.jsonl}`. Comes in: a loaded
//! plugin; goes out: what differs. A fresh instance per scenario, in the real sandbox. What the input is tells the role:
//! frames are for a source, rows for a detector or, where the plugin is none, an extractor.

use super::error::{AuthoringError, read, write};
use super::expected::{Difference, Line, Tolerance, compare};
use super::input::{Batch, Input};
use crate::plugin::{CallError, LoadedPlugin, PluginError, PluginInstance, Role};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXPECTED: &str = "expected.jsonl";

/// One folder, read.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Of the folder.
    pub name: String,
    /// The folder.
    pub dir: PathBuf,
    /// The plugin's own table.
    pub config: Value,
    /// What it sees.
    pub input: Input,
}

/// How one scenario went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the plugin said.
    pub said: Vec<Line>,
    /// What is not as expected; `None`: nothing is expected yet.
    pub differences: Option<Vec<Difference>>,
}

impl Scenario {
    /// All scenarios of a plugin's folder, by name.
    pub fn all(project: &Path) -> Result<Vec<Self>, AuthoringError> {
        let tests = project.join("tests");
        if !tests.is_dir() {
            return Ok(Vec::new());
        }
        let mut dirs = Vec::new();
        for entry in std::fs::read_dir(&tests).map_err(AuthoringError::io("list", &tests))? {
            let dir = entry.map_err(AuthoringError::io("list", &tests))?.path();
            // Other tests may stand beside them: cargo's own, for one.
            if dir.is_dir() && Input::NAMES.iter().any(|name| dir.join(name).is_file()) {
                dirs.push(dir);
            }
        }
        dirs.sort();
        dirs.iter().map(|dir| Self::read(dir)).collect()
    }

    /// One folder.
    pub fn read(dir: &Path) -> Result<Self, AuthoringError> {
        let input = Input::NAMES.iter().map(|name| dir.join(name)).find(|path| path.is_file());
        let path =
            input.ok_or_else(|| AuthoringError::file(dir, "has no input.csv, input.jsonl, input.txt or input.hex"))?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let input = Input { text: read(&path)?, path };
        Ok(Self { name, dir: dir.to_owned(), config: config(dir)?, input })
    }

    /// Shows the plugin the input and compares what it says.
    pub fn run(&self, plugin: &Arc<LoadedPlugin>, tolerance: Tolerance) -> Result<Outcome, AuthoringError> {
        let said = self.play(plugin)?;
        let path = self.dir.join(EXPECTED);
        if !path.is_file() {
            return Ok(Outcome { said, differences: None });
        }
        let mut expected = Vec::new();
        for (n, line) in read(&path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let line = serde_json::from_str(line)
                .map_err(|e| AuthoringError::file(&path, format!("line {}: not a JSON object: {e}", n + 1)))?;
            expected.push(Line(line));
        }
        let differences = compare(&expected, &said, tolerance);
        Ok(Outcome { said, differences: Some(differences) })
    }

    /// The role that it is for.
    fn role(&self, plugin: &LoadedPlugin) -> Role {
        match &plugin.info().roles {
            _ if self.input.is_frames() => Role::SourceDecoder,
            roles if roles.contains(&Role::Detector) => Role::Detector,
            _ => Role::FeatureExtractor,
        }
    }

    /// What the plugin says to the input.
    pub fn play(&self, plugin: &Arc<LoadedPlugin>) -> Result<Vec<Line>, AuthoringError> {
        let role = self.role(plugin);
        if let Err(error) = plugin.require(role) {
            return Err(AuthoringError::file(&self.input.path, error.to_string()));
        }
        let config = self.config.to_string();
        let fresh = || plugin.instantiate(&self.name, &config).map_err(|error| told(&error));
        let said = match role {
            Role::SourceDecoder => self.decode(fresh)?,
            Role::FeatureExtractor => {
                let windows = self.input.records()?;
                let schema = windows.first().map(|first| first.rows.schema());
                each(&windows, fresh, |instance, batch| {
                    // As at plan time: of the rows, before the first window.
                    let schema = schema.as_ref().unwrap_or(batch.rows.schema_ref());
                    let agreed = instance.features_of(schema)?;
                    let features = instance.extract(&batch.window, batch.rows.clone(), &agreed)?;
                    Ok(Line::extracted(batch, &features))
                })
            }
            Role::Detector => {
                let windows = self.input.features()?;
                let schema = windows.first().map(|first| first.rows.schema());
                let checked = || {
                    let mut instance = fresh()?;
                    schema
                        .iter()
                        .try_for_each(|schema| instance.requires(schema))
                        .map_err(|error| told_call(&error))?;
                    Ok(instance)
                };
                each(&windows, checked, |instance, batch| {
                    Ok(Line::rows(batch, &instance.detect(&batch.window, batch.rows.clone())?))
                })
            }
        };
        Ok(said)
    }

    fn decode(&self, fresh: impl Fn() -> Result<PluginInstance, String>) -> Result<Vec<Line>, AuthoringError> {
        let frames = self.input.frames()?;
        let decoded = fresh().and_then(|mut instance| {
            let output = instance.source_output().map_err(|error| told_call(&error))?;
            let said = instance.decode(&frames, &frames.frames, &self.name, &output);
            said.map(|rows| Line::decoded(&rows)).map_err(|error| told_call(&error))
        });
        Ok(decoded.unwrap_or_else(|error| vec![Line::error(None, &error)]))
    }

    /// Takes what was said for right.
    pub fn bless(&self, said: &[Line]) -> Result<(), AuthoringError> {
        let text: String = said.iter().map(|line| format!("{line}\n")).collect();
        write(&self.dir.join(EXPECTED), &text)
    }
}

/// Shows an instance every window. As in the engine: one that has trapped is gone, with all that it knew.
fn each(
    windows: &[Batch],
    fresh: impl Fn() -> Result<PluginInstance, String>,
    call: impl Fn(&mut PluginInstance, &Batch) -> Result<Vec<Line>, CallError>,
) -> Vec<Line> {
    let mut instance = match fresh() {
        Ok(instance) => instance,
        Err(error) => return vec![Line::error(None, &error)],
    };
    let mut said = Vec::new();
    for batch in windows {
        match call(&mut instance, batch) {
            Ok(lines) => said.extend(lines),
            Err(error) => {
                said.push(Line::error(Some(batch), &told_call(&error)));
                match error.kind.is_fatal().then(&fresh) {
                    None => {}
                    Some(Ok(new)) => instance = new,
                    Some(Err(_)) => return said,
                }
            }
        }
    }
    said
}

fn config(dir: &Path) -> Result<Value, AuthoringError> {
    let (toml, json) = (dir.join("config.toml"), dir.join("config.json"));
    if json.is_file() {
        return serde_json::from_str(&read(&json)?).map_err(|e| AuthoringError::file(&json, e.to_string()));
    }
    if !toml.is_file() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    toml::from_str(&read(&toml)?).map_err(|e| AuthoringError::file(&toml, e.to_string()))
}

/// Without name and version: a new version has the same tests.
fn told_call(error: &CallError) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("plugin {}: ", error.plugin)).map_or(text.clone(), str::to_owned)
}

fn told(error: &PluginError) -> String {
    match error {
        PluginError::Call(call) => told_call(call),
        other => other.to_string(),
    }
}
