//! `kaminari plugin new`: the files of `host/templates/plugin/`, with the names filled in. Overwrites nothing.

use super::WIT;
use super::error::{AuthoringError, make, read, write};
use super::project::Language;
use crate::plugin::Role;
use std::path::{Path, PathBuf};

/// A template's files: where each goes, and its text.
type Files = &'static [(&'static str, &'static str)];

macro_rules! files {
    ($($to:literal = $from:literal),* $(,)?) => {
        &[$(($to, include_str!(concat!("../../templates/plugin/", $from)))),*]
    };
}

const RUST: Files = files! {
    "Cargo.toml" = "rust/Cargo.toml.in",
    "README.md" = "rust/README.md",
    ".gitignore" = "rust/gitignore",
};
const PYTHON: Files = files! {
    "app.py" = "python/app.py",
    "requirements.txt" = "python/requirements.txt",
    "plugin.toml" = "python/plugin.toml",
    "README.md" = "python/README.md",
    ".gitignore" = "python/gitignore",
};
const JAVASCRIPT: Files = files! {
    "app.js" = "javascript/app.js",
    "package.json" = "javascript/package.json",
    "plugin.toml" = "javascript/plugin.toml",
    "README.md" = "javascript/README.md",
    ".gitignore" = "javascript/gitignore",
};
const RUST_SOURCE: Files = files! { "src/lib.rs" = "rust/source.rs" };
const RUST_EXTRACTOR: Files = files! { "src/lib.rs" = "rust/extractor.rs" };
const RUST_DETECTOR: Files = files! { "src/lib.rs" = "rust/detector.rs" };
const SOURCE_SCENARIO: Files = files! {
    "tests/lines/input.txt" = "scenarios/lines/input.txt",
    "tests/lines/expected.jsonl" = "scenarios/lines/expected.jsonl",
};
const EXTRACTOR_SCENARIO: Files = files! {
    "tests/sums/input.csv" = "scenarios/sums/input.csv",
    "tests/sums/expected.jsonl" = "scenarios/sums/expected.jsonl",
};
/// The same detector in all languages, so the same scenario.
const DETECTOR_SCENARIO: Files = files! {
    "tests/jump/config.toml" = "scenarios/jump/config.toml",
    "tests/jump/input.csv" = "scenarios/jump/input.csv",
    "tests/jump/expected.jsonl" = "scenarios/jump/expected.jsonl",
};

/// What is filled in besides: the scenario's name, one line about it, and whether there is such a template at all.
fn template(role: Role, language: Language) -> Option<(Vec<Files>, &'static str, &'static str)> {
    let jump = ("jump", "Alerts when a feature of an entity jumps above its own level");
    let (files, (scenario, about)) = match (role, language) {
        (Role::SourceDecoder, Language::Rust) => {
            (vec![RUST, RUST_SOURCE, SOURCE_SCENARIO], ("lines", "Lines of `SECONDS ADDRESS BYTES` as rows"))
        }
        (Role::FeatureExtractor, Language::Rust) => {
            (vec![RUST, RUST_EXTRACTOR, EXTRACTOR_SCENARIO], ("sums", "Bytes and rows of each address in a window"))
        }
        (Role::Detector, Language::Rust) => (vec![RUST, RUST_DETECTOR, DETECTOR_SCENARIO], jump),
        (Role::Detector, Language::Python) => (vec![PYTHON, DETECTOR_SCENARIO], jump),
        (Role::Detector, Language::Javascript) => (vec![JAVASCRIPT, DETECTOR_SCENARIO], jump),
        (Role::SourceDecoder | Role::FeatureExtractor, Language::Python | Language::Javascript) => return None,
    };
    Some((files, scenario, about))
}

/// What is to be made.
#[derive(Clone, Debug)]
pub struct New<'a> {
    /// Of the plugin.
    pub name: &'a str,
    /// Role.
    pub role: Role,
    /// Language.
    pub language: Language,
    /// The folder, which must not exist.
    pub dir: &'a Path,
    /// For Rust.
    pub sdk: &'a Sdk,
}

/// Where a Rust plugin has its SDK from.
#[derive(Clone, Debug, PartialEq)]
pub enum Sdk {
    /// A folder, absolute.
    Path(PathBuf),
    /// The release of this kaminari.
    Version(&'static str),
}

impl Sdk {
    /// The folder that was named.
    pub fn at(dir: &Path) -> Result<Self, AuthoringError> {
        let found = dir.canonicalize().map_err(AuthoringError::io("open", dir))?;
        // A checkout's root serves as well.
        let mut places = [found.clone(), found.join("plugin-sdk")].into_iter();
        match places.find(|place| is_sdk(place)) {
            Some(place) => Ok(Self::Path(place)),
            None => Err(AuthoringError::file(&found, "is not kaminari-plugin-sdk, nor a checkout that has it")),
        }
    }

    /// From the checkout that one of these lies in, else by version.
    pub fn find<'a>(places: impl IntoIterator<Item = &'a Path>) -> Self {
        let mut above = places.into_iter().flat_map(Path::ancestors).map(|dir| dir.join("plugin-sdk"));
        above.find(|dir| is_sdk(dir)).map_or(Self::Version(env!("CARGO_PKG_VERSION")), Self::Path)
    }

    /// As a dependency in Cargo.toml.
    fn requirement(&self) -> String {
        match self {
            Sdk::Path(path) => format!("{{ path = {} }}", toml::Value::from(path.to_string_lossy().into_owned())),
            Sdk::Version(version) => format!("\"{version}\""),
        }
    }

    /// Versions of crates that the checkout was tested with.
    fn lock(&self) -> Option<PathBuf> {
        let Sdk::Path(path) = self else { return None };
        Some(path.parent()?.join("Cargo.lock")).filter(|lock| lock.is_file())
    }
}

fn is_sdk(dir: &Path) -> bool {
    let manifest = read(&dir.join("Cargo.toml")).ok().and_then(|text| text.parse::<toml::Table>().ok());
    manifest.is_some_and(|m| m.get("package").and_then(|p| p.get("name")?.as_str()) == Some("kaminari-plugin-sdk"))
}

/// Makes the folder; returns the files in it.
pub fn create(new: &New) -> Result<Vec<PathBuf>, AuthoringError> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let starts = new.name.starts_with(|c: char| c.is_ascii_lowercase());
    if !starts || !new.name.chars().all(good) || new.name.len() > 64 || new.name.ends_with('-') {
        return Err(AuthoringError::Name(new.name.to_owned()));
    }
    if new.dir.exists() {
        return Err(AuthoringError::Exists(new.dir.to_owned()));
    }
    let Some((files, scenario, about)) = template(new.role, new.language) else {
        return Err(AuthoringError::NoTemplate { role: new.role, language: new.language.name() });
    };
    let filled = |text: &str| {
        let text = text.replace("{{name}}", new.name).replace("{{sdk}}", &new.sdk.requirement());
        text.replace("{{role}}", new.role.name()).replace("{{scenario}}", scenario).replace("{{about}}", about)
    };
    let mut made = Vec::new();
    let mut put = |to: &str, text: &str| {
        let path = new.dir.join(to);
        make(path.parent().unwrap_or(new.dir))?;
        write(&path, text)?;
        made.push(to.into());
        Ok(())
    };
    for (to, text) in files.into_iter().flatten() {
        put(to, &filled(text))?;
    }
    match (new.language, new.sdk.lock()) {
        (Language::Rust, Some(lock)) => put("Cargo.lock", &read(&lock)?)?,
        (Language::Rust, None) => {}
        // Others make their bindings of the contract itself.
        (Language::Python | Language::Javascript, _) => put("wit/kaminari.wit", WIT)?,
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_filled_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let sdk = Sdk::find([Path::new(env!("CARGO_MANIFEST_DIR"))]);
        let all = Role::ALL.into_iter().flat_map(|role| Language::ALL.map(|language| (role, language)));
        let mut made = 0;
        for (role, language) in all {
            let at = dir.path().join(format!("{role}-{}", language.name()));
            let new = New { name: "crowd-2", role, language, dir: &at, sdk: &sdk };
            let files = match create(&new) {
                Ok(files) => files,
                Err(AuthoringError::NoTemplate { .. }) if language != Language::Rust => continue,
                Err(error) => panic!("{role} {language:?}: {error}"),
            };
            made += 1;
            for file in files {
                let text = std::fs::read_to_string(at.join(&file)).unwrap();
                assert!(!text.contains("{{"), "{language:?}: {}", file.display());
            }
            assert!(at.join(language.entry()).is_file());
            assert!(matches!(create(&new), Err(AuthoringError::Exists(_))));
        }
        assert_eq!(made, 5);
        for name in ["Crowd", "", "-x", "a b", "a/b", "1a", "a-"] {
            let new =
                New { name, role: Role::Detector, language: Language::Rust, dir: Path::new("nowhere"), sdk: &sdk };
            assert!(matches!(create(&new), Err(AuthoringError::Name(_))), "{name}");
        }
    }

    #[test]
    fn the_sdk_comes_from_a_checkout_or_by_version() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let found = Sdk::find([Path::new("/nowhere/at/all"), &root.join("host/src")]);
        assert_eq!(found, Sdk::Path(root.join("plugin-sdk")));
        assert_eq!(Sdk::at(root).unwrap(), Sdk::at(&root.join("plugin-sdk")).unwrap());
        assert!(Sdk::at(&root.join("host")).unwrap_err().to_string().contains("kaminari-plugin-sdk"));
        let version = Sdk::find([Path::new("/nowhere")]);
        assert_eq!(version.requirement(), format!("\"{}\"", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn the_detector_of_the_rust_template_is_short() {
        let (_, text) = RUST_DETECTOR[0];
        let body = text.split_once("impl Detector").unwrap().1.split_once("\n}\n").unwrap().0;
        assert!(body.lines().count() <= 25, "{}", body.lines().count());
    }
}
