//! A plugin's folder: which language it is written in, what it is called, what it may use. Told by `plugin.toml` where
//! there is one, else by what lies there.

use super::error::{AuthoringError, read};
use crate::config::PluginLimits;
use crate::plugin::Role;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The world of the contract that plugins of a role are built against.
pub const fn world(role: Role) -> &'static str {
    match role {
        Role::SourceDecoder => "source-plugin",
        Role::FeatureExtractor => "feature-plugin",
        Role::Detector => "detector-plugin",
    }
}

/// What a plugin is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Language {
    /// As fast as the engine, with an SDK
    Rust,
    /// CPython in the sandbox
    Python,
    /// SpiderMonkey in the sandbox
    Javascript,
}

impl Language {
    /// Every language.
    pub const ALL: [Self; 3] = [Self::Rust, Self::Python, Self::Javascript];

    /// Name in `plugin.toml` and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::Python => "python",
            Language::Javascript => "javascript",
        }
    }

    /// The file that tells it.
    pub const fn entry(self) -> &'static str {
        match self {
            Language::Rust => "Cargo.toml",
            Language::Python => "app.py",
            Language::Javascript => "app.js",
        }
    }
}

/// A plugin's folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// Absolute.
    pub dir: PathBuf,
    /// Of the plugin: the file in `dist/`.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// World of the contract; cargo knows it from the SDK.
    pub world: String,
    /// What its tests may use; an operator writes the same.
    pub limits: PluginLimits,
    /// The same of services.
    pub grants: Grants,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Manifest {
    name: Option<String>,
    language: Option<Language>,
    world: Option<String>,
    limits: Limits,
    grants: Grants,
}

/// What its tests grant it: an operator grants the same. Models are nothing that a test has.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Buckets of keyed state.
    pub state: Vec<String>,
    /// Series of its own metrics.
    pub metrics_series: usize,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    memory_bytes: Option<usize>,
    deadline_ms: Option<u64>,
    alerts_per_call: Option<usize>,
    state_bytes: Option<usize>,
}

impl Project {
    /// Looks at a folder.
    pub fn open(dir: &Path) -> Result<Self, AuthoringError> {
        let dir = dir.canonicalize().map_err(AuthoringError::io("open", dir))?;
        let manifest = manifest(&dir)?.unwrap_or_default();
        let language = match manifest.language {
            Some(language) => language,
            None => Language::ALL
                .into_iter()
                .find(|language| dir.join(language.entry()).is_file())
                .ok_or_else(|| AuthoringError::NoProject(dir.clone()))?,
        };
        let name = match manifest.name {
            Some(name) => name,
            None if language == Language::Rust => package_name(&dir.join("Cargo.toml"))?,
            None => dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let world = manifest.world.unwrap_or_else(|| world(Role::Detector).to_owned());
        Ok(Self { limits: manifest.limits.resolve(), grants: manifest.grants, name, language, world, dir })
    }

    /// Where `build` puts the component.
    pub fn wasm(&self) -> PathBuf {
        self.dir.join("dist").join(format!("{}.wasm", self.name))
    }

    /// Why the component should be built (again), if it should.
    pub fn stale(&self) -> Option<String> {
        let wasm = self.wasm();
        let Ok(built) = std::fs::metadata(&wasm).and_then(|meta| meta.modified()) else {
            return Some(format!("{} is not there", wasm.display()));
        };
        let newer = newer(&self.dir, built, true)?;
        Some(format!("{} has changed", newer.strip_prefix(&self.dir).unwrap_or(&newer).display()))
    }

    /// What the author has written for a component, in `plugin.toml` beside it or one folder up.
    pub fn needs_of(wasm: &Path) -> Result<(PluginLimits, Grants), AuthoringError> {
        let wasm = wasm.canonicalize().map_err(AuthoringError::io("open", wasm))?;
        for dir in wasm.ancestors().skip(1).take(2) {
            if let Some(manifest) = manifest(dir)? {
                return Ok((manifest.limits.resolve(), manifest.grants));
            }
        }
        Ok((PluginLimits::default(), Grants::default()))
    }
}

impl Limits {
    fn resolve(&self) -> PluginLimits {
        let default = PluginLimits::default();
        PluginLimits {
            memory_bytes: self.memory_bytes.unwrap_or(default.memory_bytes),
            deadline_ms: self.deadline_ms.unwrap_or(default.deadline_ms),
            alerts_per_call: self.alerts_per_call.unwrap_or(default.alerts_per_call),
            state_bytes: self.state_bytes.unwrap_or(default.state_bytes),
        }
    }
}

/// A source that was written after `then`. At the top, folders that are no sources are left out.
fn newer(dir: &Path, then: SystemTime, top: bool) -> Option<PathBuf> {
    const NO_SOURCES: [&str; 4] = ["dist", "target", "tests", "node_modules"];
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    entries.map(|entry| entry.path()).find_map(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Cargo writes its lock file while it builds.
        let skipped = name.starts_with(['.', '_']) || name == "Cargo.lock" || name.ends_with(".md");
        if skipped || (top && NO_SOURCES.contains(&&*name)) {
            None
        } else if path.is_dir() {
            newer(&path, then, false)
        } else {
            let written = path.metadata().and_then(|meta| meta.modified());
            written.is_ok_and(|written| written > then).then_some(path)
        }
    })
}

fn manifest(dir: &Path) -> Result<Option<Manifest>, AuthoringError> {
    let path = dir.join("plugin.toml");
    if !path.is_file() {
        return Ok(None);
    }
    toml::from_str(&read(&path)?).map(Some).map_err(|e| AuthoringError::file(&path, e.to_string()))
}

fn package_name(path: &Path) -> Result<String, AuthoringError> {
    let table: toml::Table =
        read(path)?.parse().map_err(|e: toml::de::Error| AuthoringError::file(path, e.to_string()))?;
    let name = table.get("package").and_then(|package| package.get("name")?.as_str());
    name.map(str::to_owned).ok_or_else(|| AuthoringError::file(path, "has no `package.name`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_told_by_what_lies_there_or_by_the_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert!(Project::open(dir.path()).unwrap_err().to_string().contains("no plugin's folder"));
        write("app.py", "");
        assert_eq!(Project::open(dir.path()).unwrap().language, Language::Python);
        write("Cargo.toml", "[package]\nname = \"crowd\"");
        let found = Project::open(dir.path()).unwrap();
        assert_eq!((found.language, &*found.name), (Language::Rust, "crowd"));
        assert!(found.wasm().ends_with("dist/crowd.wasm"));
        write("plugin.toml", "language = \"javascript\"\nname = \"x\"\n[limits]\nmemory_bytes = 7");
        let found = Project::open(dir.path()).unwrap();
        assert_eq!((found.language, &*found.name, found.limits.memory_bytes), (Language::Javascript, "x", 7));
        std::fs::create_dir(dir.path().join("dist")).unwrap();
        write("dist/x.wasm", "");
        assert_eq!(Project::needs_of(&found.dir.join("dist/x.wasm")).unwrap().0.memory_bytes, 7);
        write("plugin.toml", "langage = \"javascript\"");
        let error = Project::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("plugin.toml") && error.contains("langage"), "{error}");
    }
}
