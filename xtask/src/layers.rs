//! Rooms of host/src and what each may import. Stages meet only as types of `model` on channels; this check keeps it
//! so. The same table stands in ARCHITECTURE.md, between `<!-- layers -->` and `<!-- /layers -->`.
//!
//! Test code (`tests.rs`, `#[cfg(test)]` modules) may import what it likes.

use crate::markers::between;
use crate::shell::{root, say};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::path::Path;

/// May import every room.
const ANY: &[&str] = &["*"];

/// Room, what it may import, and what else there is to know.
const TABLE: &[(&str, &[&str], &str)] = &[
    ("model", &[], "the words of the field; no I/O"),
    ("config", &["model"], "text to plan"),
    ("telemetry", &["model", "config"], "service: metric catalogue, logging"),
    ("calibration", &["model"], "service: what a score means"),
    ("inference", &["model", "calibration", "telemetry"], "service: models that score rows"),
    ("plugin", &["model", "config", "telemetry", "inference", "calibration"], "service: the sandbox"),
    ("kafka", &["model", "config", "telemetry"], "service: client settings, records, what refusals mean"),
    ("checkpoint", &["model", "telemetry"], "service: saved state on disk, whole or not at all"),
    ("source", SPEAKS_KAFKA, "stage"),
    ("decode", STAGE, "stage"),
    ("window", STAGE, "stage"),
    ("features", STAGE, "stage"),
    ("detect", &["model", "config", "telemetry", "calibration"], "stage"),
    ("incident", STAGE, "stage"),
    ("sink", SPEAKS_KAFKA, "stage"),
    ("generate", &["model", "config", "kafka"], "test traffic; no part of the engine"),
    ("train", &["model", "calibration", "inference"], "rows to a model; no part of the running engine"),
    ("evaluate", &["model"], "scores against labels; no part of the running engine"),
    ("authoring", &["model", "config", "plugin"], "folders of plugins, their scenarios; no part of the running engine"),
    ("pipeline", ANY, "the only room that knows all stages"),
    ("reload", ANY, "a running engine and its next plan: triggers, the steps of a change, what came of it"),
    ("api", ANY, "on top"),
    ("cli", ANY, "on top"),
];
const STAGE: &[&str] = &["model", "config", "telemetry"];
const SPEAKS_KAFKA: &[&str] = &["model", "config", "telemetry", "kafka"];

/// The only files of stages that may import `plugin`.
const ADAPTERS: [&str; 3] = ["decode/plugin.rs", "features/plugin.rs", "detect/plugin.rs"];

/// Runs the verb.
pub fn run(print: bool) -> Result<()> {
    if print {
        print!("{}", table());
        return Ok(());
    }
    let complaints = check(&root().join("host/src"))?;
    if !complaints.is_empty() {
        bail!("forbidden imports:\n  {}", complaints.join("\n  "));
    }
    let path = root().join("ARCHITECTURE.md");
    if path.exists() {
        let text = std::fs::read_to_string(&path)?;
        if between(&text, "layers", "ARCHITECTURE.md")?.trim() != table().trim() {
            bail!(
                "the table between the layers markers in ARCHITECTURE.md is not that of `cargo xtask layers --print`"
            );
        }
    } else {
        say("layers: no ARCHITECTURE.md yet, its table is not compared");
    }
    say("layers: every import is allowed");
    Ok(())
}

/// The table as Markdown.
fn table() -> String {
    let mut out = String::from("| room | may import | |\n| --- | --- | --- |\n");
    for (room, allowed, note) in TABLE {
        let allowed = match *allowed {
            [] => "nothing".to_owned(),
            ["*"] => "every room".to_owned(),
            rooms => rooms.iter().map(|r| format!("`{r}`")).collect::<Vec<_>>().join(", "),
        };
        let adapter = ADAPTERS.iter().find(|a| a.split('/').next() == Some(room));
        let allowed = adapter.map_or(allowed.clone(), |a| format!("{allowed}; `{a}` also `plugin`"));
        writeln!(out, "| `{room}` | {allowed} | {note} |").expect("a string takes everything");
    }
    out
}

/// Every forbidden edge below `src`, as `file:line: text`.
fn check(src: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    collect(src, &mut files)?;
    files.sort();
    let mut complaints = Vec::new();
    for file in files {
        let path = file.strip_prefix(src)?.to_string_lossy().replace('\\', "/");
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        complaints.extend(check_file(&path, &text));
    }
    Ok(complaints)
}

fn collect(dir: &Path, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// `path` is relative to host/src.
fn check_file(path: &str, text: &str) -> Vec<String> {
    let Some((room, _)) = path.split_once('/') else { return Vec::new() }; // lib.rs, main.rs
    let Some((_, allowed, _)) = TABLE.iter().find(|(name, ..)| *name == room) else {
        return vec![format!("{path}:1: room `{room}` is not in the table of xtask/src/layers.rs: add it")];
    };
    if path.ends_with("/tests.rs") || path.contains("/tests/") || *allowed == ANY {
        return Vec::new();
    }
    let depth = path.trim_end_matches("/mod.rs").trim_end_matches(".rs").split('/').count();
    let mut complaints = Vec::new();
    for (number, line) in code(text) {
        for import in imports(line, depth) {
            let known = TABLE.iter().any(|(name, ..)| *name == import);
            let adapter = import == "plugin" && ADAPTERS.contains(&path);
            if known && import != room && !allowed.contains(&import) && !adapter {
                complaints.push(format!("{path}:{number}: `{room}` must not import `{import}`"));
            }
        }
    }
    complaints
}

/// Lines with their numbers, without comments and test modules.
fn code(text: &str) -> Vec<(usize, &str)> {
    let mut out = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((i, line)) = lines.next() {
        if line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(|(_, next)| next.ends_with('{')) {
            // rustfmt puts the closing brace under the first letter.
            let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            while lines.next_if(|(_, l)| *l != end).is_some() {}
            continue;
        }
        out.push((i + 1, line.split("//").next().unwrap_or_default()));
    }
    out
}

/// Rooms named in a line: `crate::room`, `crate::{room::..., room}`, or as many `super::` as lead to the root.
fn imports(line: &str, depth: usize) -> Vec<&str> {
    let supers = "super::".repeat(depth);
    let mut out = Vec::new();
    for root in ["crate::", &supers] {
        for (at, _) in line.match_indices(root) {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let rest = &line[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(group) => out.extend(heads(group)),
                None => out.extend(ident(rest)),
            }
        }
    }
    out
}

/// First names of the items of a brace group.
fn heads(group: &str) -> Vec<&str> {
    let mut level = 0usize;
    let mut start = true;
    let mut out = Vec::new();
    for (i, c) in group.char_indices() {
        match c {
            '{' => level += 1,
            '}' if level == 0 => break,
            '}' => level -= 1,
            ',' if level == 0 => start = true,
            c if start && !c.is_whitespace() => {
                out.extend(ident(&group[i..]));
                start = false;
            }
            _ => {}
        }
    }
    out
}

fn ident(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_imports_another_is_told() {
        let told = check_file("window/mod.rs", "use crate::model::Addr;\nuse crate::decode::Decoder;\n");
        assert_eq!(told, ["window/mod.rs:2: `window` must not import `decode`"]);
        for text in [
            "use crate::{model::{Addr, Prefix}, sink};",
            "let x = crate::sink::open();",
            "use super::sink::open;",
            "pub(in crate::sink) fn f() {}",
        ] {
            assert_eq!(check_file("window/mod.rs", text).len(), 1, "{text}");
        }
        assert_eq!(check_file("window/pane/deep.rs", "use super::super::super::sink;").len(), 1);
        assert_eq!(check_file("generate/mod.rs", "use crate::window::Ingest;").len(), 1);
        assert_eq!(check_file("model/key.rs", "use crate::config::Plan;").len(), 1);
    }

    #[test]
    fn allowed_imports_pass() {
        for text in [
            "use crate::model::{Addr, sink};",
            "use crate::{config::Plan, telemetry as t};",
            "// use crate::sink;",
            "//! [`crate::sink`]",
            "use super::sink;", // a sibling inside the room
            "use crate::window::pane;",
            "#[cfg(test)]\nmod tests {\n    use crate::sink;\n}\n",
        ] {
            assert_eq!(check_file("window/tumbling.rs", text), [""; 0], "{text}");
        }
        assert_eq!(check_file("window/tests.rs", "use crate::generate::Encoder;"), [""; 0]);
        assert_eq!(check_file("pipeline/mod.rs", "use crate::decode::D; use crate::sink::S;"), [""; 0]);
        assert_eq!(check_file("lib.rs", "pub use crate::sink;"), [""; 0]);
    }

    #[test]
    fn only_adapters_see_plugins_and_test_modules_end() {
        assert_eq!(check_file("detect/plugin.rs", "use crate::plugin::Engine;"), [""; 0]);
        assert_eq!(check_file("detect/mod.rs", "use crate::plugin::Engine;").len(), 1);
        let told = check_file("decode/mod.rs", "#[cfg(test)]\nmod tests {\n    x\n}\nuse crate::sink;\n");
        assert_eq!(told, ["decode/mod.rs:5: `decode` must not import `sink`"]);
        assert_eq!(check_file("decode/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::sink;\n").len(), 1);
        assert!(check_file("cellar/mod.rs", "")[0].contains("not in the table"));
    }
}
