//! `kaminari plugin build`: a folder to a component in its `dist/`, by the tools of the language. What they say goes to
//! stderr. What is missing is named with the command that brings it; only Rust's guest target is fetched here.

use super::WIT;
use super::error::{AuthoringError, make, write};
use super::project::{Language, Project};
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const GUEST: &str = "wasm32-wasip2";
/// Code over columns runs twice as fast with it.
const SIMD: &str = "target.wasm32-wasip2.rustflags=[\"-Ctarget-feature=+simd128\"]";
/// Names where componentize-py is, and a folder whose node_modules has componentize-js.
const PYTHON_TOOL: &str = "KAMINARI_COMPONENTIZE_PY";
const JAVASCRIPT_TOOL: &str = "KAMINARI_COMPONENTIZE_JS";
const JAVASCRIPT_PACKAGE: &str = "node_modules/@bytecodealliance/componentize-js";
const JAVASCRIPT_BUILD: &str = include_str!("../../templates/plugin/componentize.mjs");

/// What was made.
#[derive(Clone, Debug)]
pub struct Built {
    /// The component.
    pub wasm: PathBuf,
}

/// Builds; `say` hears what is done besides.
pub fn build(project: &Project, say: &mut dyn FnMut(&str)) -> Result<Built, AuthoringError> {
    let wasm = project.wasm();
    make(&project.dir.join("dist"))?;
    match project.language {
        Language::Rust => {
            provide_target(project, say)?;
            let made = cargo(project)?;
            std::fs::copy(&made, &wasm).map_err(AuthoringError::io("copy", &made))?;
        }
        Language::Python => python(project, &wasm)?,
        Language::Javascript => javascript(project, &wasm)?,
    }
    Ok(Built { wasm })
}

/// Adds the guest target to the toolchain when it is missing.
fn provide_target(project: &Project, say: &mut dyn FnMut(&str)) -> Result<(), AuthoringError> {
    let missing = |install: &str| AuthoringError::Tool { tool: "Rust", install: install.to_owned() };
    let mut rustc = Command::new("rustc");
    let asked = rustc.args(["--print", "sysroot"]).current_dir(&project.dir).output();
    let asked = asked.map_err(|_| missing("install it with rustup"))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    if sysroot.join("lib/rustlib").join(GUEST).is_dir() {
        return Ok(());
    }
    say(&format!("the Rust target {GUEST} is missing: rustup target add {GUEST}"));
    let added = Command::new("rustup").args(["target", "add", GUEST]).current_dir(&project.dir).status();
    if added.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(AuthoringError::Tool {
        tool: "the Rust target wasm32-wasip2",
        install:
            "rustup could not add it; without rustup it is a package of your system, such as rust-std-wasm32-wasip2"
                .into(),
    })
}

/// The component as cargo has made it.
fn cargo(project: &Project) -> Result<PathBuf, AuthoringError> {
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "--lib", "--target", GUEST, "--config", SIMD]);
    command.args(["--message-format", "json-render-diagnostics"]).current_dir(&project.dir);
    let out = command.stderr(Stdio::inherit()).output();
    let out = out.map_err(|_| AuthoringError::Tool { tool: "cargo", install: "it comes with Rust".into() })?;
    if !out.status.success() {
        return Err(failed(&command, &out.status.to_string(), ""));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let wasm = artefacts(&text).filter(|(_, file)| file.extension() == Some(OsStr::new("wasm")));
    // Of this folder: dependencies come before, and may be libraries of C as well.
    let manifest = project.dir.join("Cargo.toml");
    let mut own = wasm.filter(|(of, _)| *of == manifest).map(|(_, file)| file);
    own.next_back().ok_or_else(|| {
        AuthoringError::file(&manifest, "makes no component: write `crate-type = [\"cdylib\", \"rlib\"]` under [lib]")
    })
}

/// Manifest and file of what cargo reports to have built.
fn artefacts(messages: &str) -> impl DoubleEndedIterator<Item = (PathBuf, PathBuf)> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let of_one = |message: serde_json::Value| -> Vec<(PathBuf, PathBuf)> {
        let manifest = message["manifest_path"].as_str().unwrap_or_default().to_owned();
        let files = message["filenames"].as_array().into_iter().flatten().filter_map(|file| file.as_str());
        files.map(|file| (PathBuf::from(&manifest), PathBuf::from(file))).collect()
    };
    messages.flat_map(of_one).collect::<Vec<_>>().into_iter()
}

fn python(project: &Project, wasm: &Path) -> Result<(), AuthoringError> {
    let dir = &project.dir;
    let tool = named(PYTHON_TOOL)
        .or_else(|| Some(dir.join(".venv/bin/componentize-py")).filter(|tool| tool.is_file()))
        .unwrap_or_else(|| "componentize-py".into());
    let mut command = Command::new(&tool);
    command.arg("-d").arg(contract(project)?).args(["-w", &project.world, "componentize", "app", "-p", ".", "-o"]);
    command.arg(wasm);
    run(command.current_dir(dir), None, || AuthoringError::Tool {
        tool: "componentize-py",
        install: format!(
            "in {}, run `python3 -m venv .venv && .venv/bin/pip install -r requirements.txt`",
            dir.display()
        ),
    })
}

fn javascript(project: &Project, wasm: &Path) -> Result<(), AuthoringError> {
    let dir = &project.dir;
    let home = named(JAVASCRIPT_TOOL).unwrap_or_else(|| dir.clone());
    if !home.ancestors().any(|dir| dir.join(JAVASCRIPT_PACKAGE).is_dir()) {
        let install = format!("in {}, run `npm install` (package.json names it)", dir.display());
        return Err(AuthoringError::Tool { tool: "componentize-js", install });
    }
    let mut command = Command::new("node");
    command
        .args(["--input-type=module", "-"])
        .arg(dir.join("app.js"))
        .arg(contract(project)?)
        .arg(&project.world)
        .arg(wasm);
    // From stdin: what it imports is looked for from the folder it runs in.
    run(command.current_dir(home), Some(JAVASCRIPT_BUILD), || AuthoringError::Tool {
        tool: "node",
        install: "install Node.js 20 or later, then run `npm install` in the plugin's folder".into(),
    })
}

/// The contract that the author has, else that of this program.
fn contract(project: &Project) -> Result<PathBuf, AuthoringError> {
    let own = project.dir.join("wit");
    if own.is_dir() {
        return Ok(own);
    }
    let ours = project.dir.join("dist/wit");
    make(&ours)?;
    write(&ours.join("kaminari.wit"), WIT)?;
    Ok(ours)
}

/// A file or folder that the environment names.
fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Runs a tool; what it says is shown only where it fails.
fn run(command: &mut Command, stdin: Option<&str>, missing: impl Fn() -> AuthoringError) -> Result<(), AuthoringError> {
    let given = if stdin.is_some() { Stdio::piped() } else { Stdio::null() };
    let spawned = command.stdin(given).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|_| missing())?;
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        // A tool that does not read it says why when it ends.
        let _ = pipe.write_all(text.as_bytes());
    }
    let out = child.wait_with_output().map_err(AuthoringError::io("run", Path::new(command.get_program())))?;
    if out.status.success() {
        return Ok(());
    }
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()).join("\n");
    Err(failed(command, &out.status.to_string(), said.trim()))
}

fn failed(command: &Command, status: &str, said: &str) -> AuthoringError {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let command = words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    let said = if said.is_empty() { String::new() } else { format!(":\n{said}") };
    AuthoringError::Command { command, status: status.to_owned(), said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_among_what_cargo_reports() {
        let text = r#"{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml","filenames":["/t/a.wasm","/t/liba.rlib"]}
{"reason":"build-finished","success":true}
not json"#;
        let found: Vec<_> = artefacts(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], ("/a/Cargo.toml".into(), "/t/a.wasm".into()));
    }

    #[test]
    fn a_missing_tool_comes_with_what_brings_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("app.js"), "").unwrap();
        let project = Project::open(dir.path()).unwrap();
        let error = build(&project, &mut |_| ()).unwrap_err().to_string();
        // Where the tool is there, it says itself what an empty file lacks.
        let there = error.contains("missing JS code");
        assert!(there || (error.contains("componentize-js is missing") && error.contains("npm install")), "{error}");
        let mut command = Command::new("/nowhere/componentize-py");
        let missing = || AuthoringError::Tool { tool: "componentize-py", install: "pip".into() };
        assert!(matches!(run(&mut command, None, missing), Err(AuthoringError::Tool { .. })));
        let error =
            run(Command::new("sh").args(["-c", "echo why >&2; exit 3"]), None, missing).unwrap_err().to_string();
        assert!(error.contains("why") && error.contains('3'), "{error}");
    }
}
