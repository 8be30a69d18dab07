//! Scenario folders of a plugin: `tests/NAME/{config.toml or config.json, input.csv or input.jsonl, expected.jsonl}`.
//! Comes in: a loaded plugin; goes out: what differs. A fresh instance per scenario, in the real sandbox.

use super::error::{AuthoringError, read, write};
use super::expected::{Difference, Line, Tolerance, compare};
use super::input::{self, Batch};
use crate::model::Verdict;
use crate::plugin::{CallError, LoadedPlugin, PluginError};
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
    /// Windows in turn.
    pub batches: Vec<Batch>,
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
            if dir.is_dir() && INPUTS.iter().any(|name| dir.join(name).is_file()) {
                dirs.push(dir);
            }
        }
        dirs.sort();
        dirs.iter().map(|dir| Self::read(dir)).collect()
    }

    /// One folder.
    pub fn read(dir: &Path) -> Result<Self, AuthoringError> {
        let input = INPUTS.iter().map(|name| dir.join(name)).find(|path| path.is_file());
        let input = input.ok_or_else(|| AuthoringError::file(dir, "has no input.csv or input.jsonl"))?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let batches = input::parse(&input, &read(&input)?)?;
        Ok(Self { name, dir: dir.to_owned(), config: config(dir)?, batches })
    }

    /// Shows the plugin every window and compares what it says.
    pub fn run(&self, plugin: &Arc<LoadedPlugin>, tolerance: Tolerance) -> Result<Outcome, AuthoringError> {
        let said = self.play(plugin, |_, _| ());
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

    /// What the plugin says to every window; `heard` sees each verdict as it is.
    pub fn play(&self, plugin: &Arc<LoadedPlugin>, mut heard: impl FnMut(&Batch, &Verdict)) -> Vec<Line> {
        let config = self.config.to_string();
        let mut fresh = || plugin.instantiate(&self.name, &config);
        let mut instance = match fresh() {
            Ok(instance) => instance,
            Err(error) => return vec![Line::error(None, &told(&error))],
        };
        if let Some(first) = self.batches.first()
            && let Err(error) = instance.requires(first.rows.schema_ref())
        {
            return vec![Line::error(None, &told_call(&error))];
        }
        let mut said = Vec::new();
        for batch in &self.batches {
            match instance.detect(&batch.window, batch.rows.clone()) {
                Ok(verdict) => {
                    heard(batch, &verdict);
                    said.extend(Line::rows(batch, &verdict));
                }
                Err(error) => {
                    said.push(Line::error(Some(batch), &told_call(&error)));
                    // As the engine does: what has trapped is gone, with all that it knew.
                    match error.kind.is_fatal().then(&mut fresh) {
                        None => {}
                        Some(Ok(new)) => instance = new,
                        Some(Err(_)) => return said,
                    }
                }
            }
        }
        said
    }

    /// Takes what was said for right.
    pub fn bless(&self, said: &[Line]) -> Result<(), AuthoringError> {
        let text: String = said.iter().map(|line| format!("{line}\n")).collect();
        write(&self.dir.join(EXPECTED), &text)
    }
}

const INPUTS: [&str; 2] = ["input.csv", "input.jsonl"];

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
