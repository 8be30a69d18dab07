//! `kaminari diff`: what a person and a program are told about a change, and the exit codes.

use kaminari_tests::{kaminari, root};
use std::path::Path;

struct Case(tempfile::TempDir);

impl Case {
    fn new() -> Self {
        let case = Self(tempfile::tempdir().unwrap());
        let text = std::fs::read_to_string(root().join("configs/minimal.toml")).unwrap();
        case.write("threshold.wasm", "one");
        case.write("old.toml", &case.own(&text));
        case
    }

    /// The plugin lies beside the configuration.
    fn own(&self, text: &str) -> String {
        let at = text.find("path = \"").unwrap();
        let end = at + text[at..].find('\n').unwrap();
        format!("{}path = \"threshold.wasm\"{}", &text[..at], &text[end..])
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn old(&self) -> String {
        std::fs::read_to_string(self.path().join("old.toml")).unwrap()
    }

    /// Writes `new.toml`: the old one with replacements.
    fn changed(&self, replacements: &[(&str, &str)]) {
        let text = replacements.iter().fold(self.old(), |text, (old, new)| {
            assert!(text.contains(old), "{old} is not in {text}");
            text.replacen(old, new, 1)
        });
        self.write("new.toml", &text);
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let output = kaminari().current_dir(self.path()).arg("diff").args(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn nothing_differs() {
    let case = Case::new();
    case.write("new.toml", &format!("# the same\n{}\n[reload]\nprobation_windows = 5\n", case.old()));
    let same = (Some(0), "nothing differs\n".to_owned(), String::new());
    assert_eq!(case.run(&["old.toml", "./new.toml"]), same);
}

#[test]
fn what_can_be_reloaded_is_told_with_its_effect() {
    let case = Case::new();
    case.changed(&[("size_secs = 10", "size_secs = 20"), ("above = 20000.0", "above = 30000.0")]);
    let (code, stdout, stderr) = case.run(&["old.toml", "new.toml"]);
    assert_eq!((code, stderr.as_str()), (Some(2), ""), "{stdout}");
    let expected = "~ detectors.host-limits (hot)\n    \
        keys    detectors.host-limits.config.limits[0].above\n    \
        effect  what it knows is handed over, and when it cannot be read the change is refused\n\
        ~ pipelines.ddos (window-restart)\n    \
        keys    pipelines.ddos.window.size_secs\n    \
        effect  open windows are closed early and marked partial\n\
        can be reloaded: 2 changes\n";
    assert_eq!(stdout, expected);
    let guide = std::fs::read_to_string(root().join("docs/reload.md")).unwrap();
    assert!(guide.contains(expected), "docs/reload.md shows another output");
}

#[test]
fn what_takes_a_new_process_is_named() {
    let case = Case::new();
    case.write("more.toml", "[engine]\nwindow_workers = 37\n");
    let (code, stdout, _) = case.run(&["old.toml", "old.toml,more.toml"]);
    assert_eq!(code, Some(2));
    assert!(stdout.ends_with("needs a new process: engine.window_workers\n"), "{stdout}");
    let (code, stdout, _) = case.run(&["--format", "json", "old.toml", "old.toml,more.toml"]);
    let told: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &told["verdict"]), (Some(2), &"new_process".into()));
    assert_eq!(told["process_keys"], serde_json::json!(["engine.window_workers"]));
    assert_eq!(told["changes"][0]["class"], "process-restart");
    assert_eq!(told["changes"][0]["what"], "changed");
    assert_ne!(told["old_digest"], told["new_digest"]);
}

#[test]
fn files_are_compared_by_content() {
    let case = Case::new();
    case.write("two.wasm", "two");
    case.changed(&[("threshold.wasm", "two.wasm")]);
    let (code, stdout, _) = case.run(&["old.toml", "new.toml"]);
    assert_eq!(code, Some(2));
    assert!(stdout.contains("keys    plugins.threshold.path, (file)\n"), "{stdout}");
    case.write("two.wasm", "one");
    let (_, stdout, _) = case.run(&["old.toml", "new.toml"]);
    assert!(stdout.contains("effect  is the same plugin as before\n"), "{stdout}");
    std::fs::remove_file(case.path().join("two.wasm")).unwrap();
    let (_, _, stderr) = case.run(&["old.toml", "new.toml"]);
    assert!(stderr.starts_with("note: ") && stderr.contains("two.wasm cannot be read"), "{stderr}");
}

#[test]
fn a_bad_configuration_is_told_as_validate_does() {
    let case = Case::new();
    case.changed(&[("size_secs", "sise_secs")]);
    let (code, stdout, stderr) = case.run(&["old.toml", "new.toml"]);
    assert_eq!((code, stdout.as_str()), (Some(78), ""));
    assert!(stderr.contains("kaminari::config::unknown_key") && stderr.contains("new.toml"), "{stderr}");
    assert_eq!(case.run(&["old.toml"]).0, Some(2), "usage");
}
