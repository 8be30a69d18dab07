//! What a person sees for a bad configuration. One folder of `tests/config-errors/` per case: `kaminari.toml` and the
//! expected stderr; `args` when the command is another than `validate --no-environment -c kaminari.toml`.
//! `KAMINARI_BLESS=1` rewrites the expectations.

use kaminari_tests::{kaminari, root};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const ARGS: &str = "validate --no-environment -c kaminari.toml";

fn cases() -> Vec<PathBuf> {
    let folder = root().join("tests/config-errors");
    let mut cases: Vec<PathBuf> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// Exit code, stdout and stderr of `kaminari ARGS` run in the case's folder, so that file names come out the same.
fn run(case: &Path, args: &str) -> (Option<i32>, String, String) {
    let mut command = kaminari();
    command.current_dir(case).args(["--color", "never"]).args(args.split_whitespace());
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_case_is_told_as_expected() {
    let bless = std::env::var_os("KAMINARI_BLESS").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let args = std::fs::read_to_string(case.join("args")).unwrap_or(ARGS.to_owned());
        let (code, stdout, stderr) = run(&case, &args);
        let expected = case.join("expected.stderr");
        if code != Some(78) || !stdout.is_empty() {
            wrong.push(format!("{name}: exit code {code:?}, stdout {stdout:?}, stderr:\n{stderr}"));
        } else if bless {
            std::fs::write(&expected, &stderr).unwrap();
        } else {
            let expected = std::fs::read_to_string(&expected).unwrap_or_default();
            if stderr != expected {
                wrong.push(format!("{name}: expected\n{expected}\ngot\n{stderr}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A diagnostic that nobody has ever seen rendered may be wrong: every code has a case, and no case shows an unknown one.
#[test]
fn every_code_has_a_case() {
    let mut seen = BTreeSet::new();
    for case in cases() {
        let text = std::fs::read_to_string(case.join("expected.stderr")).unwrap();
        seen.extend(text.split("kaminari::config::").skip(1).map(|rest| {
            rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default().to_owned()
        }));
    }
    let known: BTreeSet<String> = kaminari::config::CODES.iter().map(|(code, _)| (*code).to_owned()).collect();
    assert_eq!(known.difference(&seen).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(seen.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Three mistakes in one file: three diagnostics in one run, in reading order.
#[test]
fn three_mistakes_are_told_at_once() {
    let case = root().join("tests/config-errors/three-mistakes");
    let (_, _, stderr) = run(&case, ARGS);
    let codes: Vec<&str> = stderr.lines().filter(|line| line.starts_with("kaminari::config::")).collect();
    assert_eq!(codes.len(), 3, "{stderr}");
    assert!(stderr.ends_with("error: the configuration has 3 mistakes\n"), "{stderr}");
}

#[test]
fn json_names_the_same_places() {
    let case = root().join("tests/config-errors/three-mistakes");
    let (code, stdout, stderr) = run(&case, "validate --no-environment --format json -c kaminari.toml");
    assert_eq!((code, stderr.as_str()), (Some(78), "error: the configuration has 3 mistakes\n"));
    let result: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(result["ok"], false);
    let first = &result["diagnostics"][0];
    assert_eq!(first["code"], "kaminari::config::unknown_key");
    assert_eq!(
        (&first["file"], &first["line"], &first["text"]),
        (&"kaminari.toml".into(), &3.into(), &"listne".into())
    );
    assert_eq!(result["diagnostics"].as_array().unwrap().len(), 3);
}

/// What we ship is right, without a single warning.
#[test]
fn shipped_configurations_are_valid() {
    let folder = |name: &str| root().join(name).read_dir().unwrap();
    for entry in folder("configs").chain(folder("configs/eval")) {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let name = path.file_name().unwrap().to_str().unwrap();
            let args = format!("validate --no-environment --deny-warnings -c {name}");
            let (code, stdout, stderr) = run(path.parent().unwrap(), &args);
            assert_eq!((code, stderr.as_str()), (Some(0), ""), "{name}");
            assert!(stdout.starts_with("ok: "), "{name}: {stdout}");
        }
    }
}

#[test]
fn exit_codes_tell_usage_from_configuration() {
    let here = root();
    assert_eq!(run(here, "no-such-verb").0, Some(2));
    assert_eq!(run(here, "validate").0, Some(2));
    assert_eq!(run(here, "list keys").0, Some(0));
    assert_eq!(run(here, "completion bash").0, Some(0));
}

#[test]
fn list_prints_tables_and_json() {
    let (_, text, _) = run(root(), "list keys");
    assert!(text.starts_with("NAME        DESCRIPTION\ndst_addr    destination host\n"), "{text}");
    let (_, text, _) = run(root(), "list --format json");
    let lists: serde_json::Value = serde_json::from_str(&text).unwrap();
    for list in ["sources", "sinks", "features", "keys"] {
        assert!(lists[list].is_array(), "{list}");
    }
}
