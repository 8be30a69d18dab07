//! Builds every plugin of the repository to a component in target/plugins/.

use crate::shell::{cargo, must, root, say, target};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders whose subfolders are plugin crates.
const HOMES: [&str; 2] = ["plugins", "tests/plugins"];
const GUEST: &str = "wasm32-wasip2";
/// Small and fast rather than debuggable; defined in the workspace's Cargo.toml.
const PROFILE: &str = "plugin";

/// A plugin crate.
#[derive(Debug, PartialEq)]
struct Plugin {
    /// Package name.
    package: String,
    /// File name of the artefact cargo makes, without `.wasm`.
    artefact: String,
}

/// Runs the verb.
pub fn run() -> Result<()> {
    let plugins = discover(root())?;
    if plugins.is_empty() {
        say("no plugins in plugins/ or tests/plugins/");
        return Ok(());
    }
    provide_target()?;
    let mut build = cargo();
    build.args(["build", "--target", GUEST, "--profile", PROFILE]);
    for plugin in &plugins {
        build.args(["-p", &plugin.package]);
    }
    must(&mut build)?;
    let out = target().join("plugins");
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    for plugin in &plugins {
        let from = target().join(GUEST).join(PROFILE).join(format!("{}.wasm", plugin.artefact));
        let to = out.join(format!("{}.wasm", plugin.artefact.replace('_', "-")));
        std::fs::copy(&from, &to).with_context(|| {
            format!("cannot copy {}: is `crate-type = [\"cdylib\"]` in its Cargo.toml?", from.display())
        })?;
    }
    say(&format!("{} plugins in {}", plugins.len(), out.display()));
    Ok(())
}

/// Plugin crates below `root`, by name.
fn discover(root: &Path) -> Result<Vec<Plugin>> {
    let mut found = Vec::new();
    for home in HOMES {
        let Ok(entries) = std::fs::read_dir(root.join(home)) else { continue };
        for entry in entries {
            let manifest = entry?.path().join("Cargo.toml");
            if manifest.is_file() {
                found.push(read(&manifest)?);
            }
        }
    }
    found.sort_by(|a, b| a.package.cmp(&b.package));
    Ok(found)
}

fn read(manifest: &PathBuf) -> Result<Plugin> {
    let text = std::fs::read_to_string(manifest)?;
    let toml: toml::Table = text.parse().with_context(|| format!("in {}", manifest.display()))?;
    let name = |table: &str| toml.get(table)?.get("name")?.as_str().map(str::to_owned);
    let Some(package) = name("package") else { bail!("{} has no package.name", manifest.display()) };
    let artefact = name("lib").unwrap_or_else(|| package.replace('-', "_"));
    Ok(Plugin { package, artefact })
}

/// Adds the guest target to the toolchain when it is missing.
fn provide_target() -> Result<()> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().context("cannot start rustc")?;
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    if Path::new(&sysroot).join("lib/rustlib").join(GUEST).is_dir() {
        return Ok(());
    }
    say(&format!("the Rust target {GUEST} is missing: fetching it with rustup (about 20 MB)"));
    must(Command::new("rustup").args(["target", "add", GUEST]).current_dir(root()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_found_by_folder() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(discover(dir.path()).unwrap(), []);
        write("plugins/threshold/Cargo.toml", "[package]\nname = \"threshold\"");
        write("plugins/README.md", "");
        write("tests/plugins/bad/Cargo.toml", "[package]\nname = \"bad-version\"\n[lib]\nname = \"bad\"");
        write("tests/plugins/spin/Cargo.toml", "[package]\nname = \"fixture-spin\"");
        let found: Vec<_> = discover(dir.path()).unwrap().into_iter().map(|p| (p.package, p.artefact)).collect();
        let expect = [("bad-version", "bad"), ("fixture-spin", "fixture_spin"), ("threshold", "threshold")];
        assert_eq!(found, expect.map(|(p, a)| (p.to_owned(), a.to_owned())));
    }
}
