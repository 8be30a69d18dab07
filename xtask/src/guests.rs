//! What makes components of Python and JavaScript: componentize-py by pip, componentize-js by npm, both into target/tools/,
//! in the versions that `kaminari plugin new` asks for. Out come environment variables for the builds; what cannot be had is
//! said, and the tests skip it by name.

use crate::shell::{root, say, target, works};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// As `kaminari plugin build` reads them.
pub const PYTHON: &str = "KAMINARI_COMPONENTIZE_PY";
/// The same for JavaScript.
pub const JAVASCRIPT: &str = "KAMINARI_COMPONENTIZE_JS";

/// Where the tools are.
pub fn tools() -> Vec<(&'static str, OsString)> {
    [(PYTHON, python as fn() -> Option<PathBuf>), (JAVASCRIPT, javascript)]
        .into_iter()
        .filter(|(var, _)| std::env::var_os(var).is_none_or(|own| own.is_empty()))
        .filter_map(|(var, find)| Some((var, find()?.into_os_string())))
        .collect()
}

fn python() -> Option<PathBuf> {
    let wanted = root().join("host/templates/plugin/python/requirements.txt");
    let home = target().join("tools/componentize-py");
    let tool = home.join("bin/componentize-py");
    if tool.is_file() && same(&wanted, &home.join("requirements.txt")) {
        return Some(tool);
    }
    say("fetching componentize-py by pip, into target/tools/");
    let made = works(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))
        && works(
            Command::new(home.join("bin/pip")).args(["install", "--disable-pip-version-check", "-r"]).arg(&wanted),
        )
        && std::fs::copy(&wanted, home.join("requirements.txt")).is_ok();
    if !made {
        say(
            "componentize-py cannot be installed (python3 with venv, pip and the network): plugins in Python are skipped",
        );
    }
    made.then_some(tool)
}

fn javascript() -> Option<PathBuf> {
    let wanted = root().join("examples/plugins/javascript-zmax/package.json");
    let home = target().join("tools/componentize-js");
    let installed = home.join("package.json");
    let there = home.join("node_modules/@bytecodealliance/componentize-js").is_dir();
    if there && same(&wanted, &installed) {
        return Some(home);
    }
    say("fetching componentize-js by npm, into target/tools/");
    let made = std::fs::create_dir_all(&home).is_ok()
        && std::fs::copy(&wanted, &installed).is_ok()
        && works(Command::new("npm").args(["install", "--no-audit", "--no-fund"]).current_dir(&home));
    if !made {
        // Asked for again by the next run.
        let _ = std::fs::remove_file(installed);
        say("componentize-js cannot be installed (node, npm and the network): plugins in JavaScript are skipped");
    }
    made.then_some(home)
}

fn same(a: &std::path::Path, b: &std::path::Path) -> bool {
    let read = |path| std::fs::read(path).ok();
    read(a).is_some() && read(a) == read(b)
}
