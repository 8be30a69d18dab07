//! A model directory, read and checked, or written. Comes in: `model.toml` and the weights file that it names; goes
//! out: a model that has passed its self-test. Refused: everything else, with what is wrong where.

use super::cpu::CpuBackend;
use super::error::ModelError;
use super::manifest::{FORMAT_VERSION, Manifest, hex};
use super::network::{Network, Weights};
use super::scorer::{Backend, InferenceError, Losses};
use super::{check, reference, weights};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the manifest in a model directory.
const MANIFEST: &str = "model.toml";

/// A model that may be scored with: manifest and network fit each other.
#[derive(Clone, Debug)]
pub struct Model {
    /// `model.toml`.
    pub manifest: Manifest,
    /// What it computes with.
    pub weights: Weights,
    /// `sha256:` over manifest and weights: stands in every incident that rests on it.
    pub digest: String,
    /// Where it was read from; empty for one made in memory.
    pub dir: PathBuf,
}

impl Model {
    /// Reads and checks a model. A perceptron proves itself on its golden rows; a TorchScript archive has to, too
    /// ([`Model::prove`]), with a backend that can.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join(MANIFEST);
        let text = read(&path)?;
        let text = String::from_utf8(text).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            toml_error(&path, &String::from_utf8_lossy(&error.as_bytes()[..at]), at, "not UTF-8 from here on".into())
        })?;
        let manifest = parse(&path, &text)?;
        check::manifest(&path, &manifest)?;
        let weights_path = dir.join(&manifest.weights.file);
        let bytes = read(&weights_path)?;
        let weights = weights::parse(&weights_path, &bytes, &manifest.architecture)?;
        let (pinned, found) = (&manifest.weights.sha256, sha256(&[&bytes]));
        if !pinned.is_empty() && *pinned != found {
            let problem = format!(
                "sha256 is {found}, and weights.sha256 in {MANIFEST} says {pinned}: files of two models are mixed, or \
                 a copy is not finished"
            );
            return Err(ModelError::Weights { path: weights_path, problem });
        }
        let model = Self { digest: digest(&text, &bytes), manifest, weights, dir: dir.into() };
        model.self_test()?;
        Ok(model)
    }

    /// The digest of the model in `dir`, without making one of it: [`Model::load`] may still refuse it.
    pub fn digest_of(dir: &Path) -> Result<String, ModelError> {
        let path = dir.join(MANIFEST);
        let text = String::from_utf8_lossy(&read(&path)?).into_owned();
        let manifest = parse(&path, &text)?;
        Ok(digest(&text, &read(&dir.join(&manifest.weights.file))?))
    }

    /// A model made in memory, checked and tested like one that was read. Pins the weights and sets the digest: that
    /// of the files that [`Model::save`] writes.
    pub fn new(mut manifest: Manifest, weights: impl Into<Weights>) -> Result<Self, ModelError> {
        let path = Path::new(MANIFEST);
        let weights = weights.into();
        check::manifest(path, &manifest)?;
        if let Weights::Mlp(network) = &weights {
            check::network(path, &manifest, network)?;
        }
        let bytes = weights::render(&weights, &manifest.architecture.tensor_prefix);
        manifest.weights.sha256 = sha256(&[&bytes]);
        let digest = digest(&render(path, &manifest)?, &bytes);
        let model = Self { manifest, weights, digest, dir: PathBuf::new() };
        model.self_test()?;
        Ok(model)
    }

    /// Tries whether [`Model::save`] may write there, and leaves nothing behind.
    pub fn can_save(dir: &Path) -> Result<(), ModelError> {
        let probe = if dir.exists() { aside(&dir.join(MANIFEST)) } else { aside(dir) };
        let tried = fs::create_dir_all(&probe).and_then(|()| fs::remove_dir(&probe));
        tried.map_err(|source| ModelError::Write { path: dir.into(), source })
    }

    /// Writes both files into `dir`. A reader finds the old model, the new one, or (between two renames, when a model
    /// is replaced) a pair that is refused by its pin; never half a file.
    pub fn save(&self, dir: &Path) -> Result<(), ModelError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| ModelError::Write { path, source }
        };
        let text = render(&dir.join(MANIFEST), &self.manifest)?;
        let bytes = weights::render(&self.weights, &self.manifest.architecture.tensor_prefix);
        let aside = aside(dir);
        fs::create_dir_all(&aside).map_err(failed(&aside))?;
        let written = (|| {
            let files = [(&*self.manifest.weights.file, &*bytes), (MANIFEST, text.as_bytes())];
            for (file, content) in files {
                let path = aside.join(file);
                write_through(&path, content).map_err(failed(&path))?;
            }
            if !dir.exists() {
                return fs::rename(&aside, dir).map_err(failed(dir));
            }
            for (file, _) in files {
                fs::rename(aside.join(file), dir.join(file)).map_err(failed(&dir.join(file)))?;
            }
            Ok(())
        })();
        // Gone when it became the model; what is left of a failure is of no use.
        let _ = fs::remove_dir_all(&aside);
        written
    }

    /// Positions of the model's features among the columns of a frame.
    pub fn check_columns(&self, columns: &[&str]) -> Result<Vec<usize>, ModelError> {
        let mut missing = Vec::new();
        let mut found = Vec::new();
        for feature in &self.manifest.features {
            match columns.iter().position(|column| *column == feature.name) {
                Some(at) => found.push(at),
                None => missing.push(feature.name.clone()),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        Err(ModelError::Features { model: self.manifest.name.clone(), missing })
    }

    /// The perceptron, if it is one.
    pub fn network(&self) -> Option<&Network> {
        match &self.weights {
            Weights::Mlp(network) => Some(network),
            Weights::TorchScript(_) => None,
        }
    }

    fn self_test(&self) -> Result<(), ModelError> {
        match &self.weights {
            Weights::Mlp(_) => self.prove(&CpuBackend::detect(), reference::close),
            Weights::TorchScript(_) => Ok(()),
        }
    }

    /// Scores the golden rows with a backend; `close` says whether a loss is the one expected.
    pub fn prove(&self, backend: &dyn Backend, close: fn(f64, f64) -> bool) -> Result<(), ModelError> {
        let path = self.dir.join(MANIFEST);
        let Some(golden) = self.manifest.golden.as_ref().filter(|golden| !golden.rows.is_empty()) else {
            return Ok(());
        };
        let columns: Vec<Vec<f64>> =
            (0..self.manifest.features.len()).map(|f| golden.rows.iter().map(|row| row[f]).collect()).collect();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let mut losses = Losses::default();
        let scored =
            backend.scorer(&Arc::new(self.clone())).and_then(|mut scorer| scorer.losses(&columns, &mut losses));
        let key = |error: InferenceError| ModelError::Key {
            path: path.clone(),
            key: "golden".into(),
            problem: error.to_string(),
        };
        scored.map_err(key)?;
        for (loss, got, expected) in [("mse", &losses.mse, &golden.mse), ("log1p", &losses.log1p, &golden.log1p)] {
            for (row, (got, expected)) in got.iter().zip(expected).enumerate() {
                let got = f64::from(*got);
                if !close(got, *expected) {
                    return Err(ModelError::SelfTest { path, row, loss, got, expected: *expected });
                }
            }
        }
        Ok(())
    }
}

/// A place beside `path` that nobody reads.
fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    fs::read(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => ModelError::NotFound { path: path.into() },
        _ => ModelError::Read { path: path.into(), source },
    })
}

fn write_through(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// The version first: a manifest of another version may well have keys that are not known here.
fn parse(path: &Path, text: &str) -> Result<Manifest, ModelError> {
    let at = |error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        toml_error(path, text, start, error.message().to_owned())
    };
    let table: toml::Table = toml::from_str(text).map_err(at)?;
    match table.get("format_version").and_then(toml::Value::as_integer) {
        Some(version) if version != i64::from(FORMAT_VERSION) => {
            let (key, problem) = ("format_version".into(), check::unsupported(version));
            Err(ModelError::Key { path: path.into(), key, problem })
        }
        _ => toml::from_str(text).map_err(at),
    }
}

fn toml_error(path: &Path, text: &str, at: usize, message: String) -> ModelError {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    ModelError::Toml { path: path.into(), line, column, message }
}

fn render(path: &Path, manifest: &Manifest) -> Result<String, ModelError> {
    toml::to_string(manifest).map_err(|error| ModelError::Key {
        path: path.into(),
        key: "manifest".into(),
        problem: format!("cannot be written as TOML: {error}"),
    })
}

fn digest(manifest: &str, weights: &[u8]) -> String {
    format!("sha256:{}", sha256(&[manifest.as_bytes(), weights]))
}

fn sha256(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hex(&hash.finalize())
}
