//! What the authors of plugins are promised: docs/guide/first-plugin.md works as it stands, from an empty folder; the
//! verbs of `kaminari plugin` fail where they should, and say why.

use kaminari_tests::{kaminari, kaminari_path, plugin, root};
use std::path::Path;
use std::process::{Command, Output};

/// A step of the guide.
#[derive(Debug)]
enum Step {
    /// Commands, and whether they are to fail.
    Run(String, bool),
    /// A file and its text.
    Write(String, String),
    /// What the last commands said, among other things.
    Said(String),
}

/// Fenced blocks in turn. `sh setup` is the reader's own; a file's name stands at the end of the text before its block.
fn steps(guide: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut before, mut lines) = (String::new(), guide.lines());
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            if !line.is_empty() {
                line.clone_into(&mut before);
            }
            continue;
        };
        let block: String = lines.by_ref().take_while(|l| *l != "```").flat_map(|l| [l, "\n"]).collect();
        let file = before.strip_suffix("`:").and_then(|text| text.rsplit_once('`')).map(|(_, file)| file.to_owned());
        match (info, file) {
            ("sh", _) => steps.push(Step::Run(block, false)),
            ("sh fails", _) => steps.push(Step::Run(block, true)),
            ("text", _) => steps.push(Step::Said(block)),
            (_, Some(file)) => steps.push(Step::Write(file, block)),
            _ => {}
        }
        before.clear();
    }
    steps
}

/// As in an author's shell, but for a cache and a target folder that further runs find warm, and crates that were fetched
/// with ours.
fn shell(script: &str, dir: &Path) -> Output {
    let path = std::env::var("PATH").unwrap_or_default();
    let bin = kaminari_path().parent().unwrap().display().to_string();
    let mut command = Command::new("sh");
    command.args(["-ec", script]).current_dir(dir);
    command.env("PATH", format!("{bin}:{path}")).env("KAMINARI_SDK", root());
    command.env("XDG_CACHE_HOME", root().join("target/tmp/cache"));
    command.env("CARGO_TARGET_DIR", root().join("target/guests")).env("CARGO_NET_OFFLINE", "true");
    // Cargo tells tests about themselves; an author's shell knows nothing of that.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "KAMINARI_LOG", "KAMINARI_COLOR", "KAMINARI_CONFIG"] {
        command.env_remove(name);
    }
    command.output().expect("sh starts")
}

fn told(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).join("\n")
}

/// Without the times at the end of lines, which differ from run to run.
fn timeless(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_suffix(" ms").and_then(|line| line.rsplit_once(' ')) {
        Some((line, _)) => format!("{line} some ms\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn the_guide_works_as_it_stands() {
    let guide = std::fs::read_to_string(root().join("docs/guide/first-plugin.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (mut here, mut last, mut ran) = (dir.path().to_owned(), String::new(), 0);
    for step in steps(&guide) {
        match step {
            Step::Run(script, fails) => {
                let output = shell(&format!("{script}pwd >&2\n"), &here);
                assert_eq!(output.status.success(), !fails, "{script}\n{}", told(&output));
                last = told(&output);
                ran += 1;
                if script.contains("cd ") {
                    here = last.trim_end().lines().next_back().unwrap().into();
                }
            }
            Step::Write(file, text) => std::fs::write(here.join(&file), text).unwrap_or_else(|e| panic!("{file}: {e}")),
            Step::Said(text) => {
                let said = timeless(&last);
                for line in text.lines() {
                    assert!(said.contains(timeless(line).trim()), "the guide shows:\n{line}\nit was:\n{last}");
                }
            }
        }
    }
    assert!(ran >= 7, "{ran}");
    assert!(here.join("dist/crowd.wasm").is_file());
}

/// The guide has the third role.
#[test]
fn sources_and_extractors_of_the_templates_pass_their_scenarios() {
    let dir = tempfile::tempdir().unwrap();
    for (role, scenario) in [("source-decoder", "lines: ok, 4 lines"), ("feature-extractor", "sums: ok, 3 lines")] {
        let output =
            shell(&format!("kaminari plugin new --role {role} {role}; kaminari plugin test {role}"), dir.path());
        assert!(output.status.success() && told(&output).contains(scenario), "{}", told(&output));
        let wasm = format!("{role}/dist/{role}.wasm");
        let output = run(&["plugin", "inspect", &wasm, "--format", "json"], dir.path());
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["roles"], serde_json::json!([role]));
        // A scenario of another role is refused, not passed.
        let other = dir.path().join(role).join("tests/other");
        std::fs::create_dir(&other).unwrap();
        let (file, text) =
            if role == "source-decoder" { ("input.csv", "key,x\n192.0.2.1,1\n") } else { ("input.txt", "x\n") };
        std::fs::write(other.join(file), text).unwrap();
        let output = run(&["plugin", "test", role, "--bless"], dir.path());
        assert!(!output.status.success() && told(&output).contains("is no "), "{}", told(&output));
    }
}

fn run(args: &[&str], dir: &Path) -> Output {
    kaminari().args(args).current_dir(dir).output().unwrap()
}

#[test]
fn a_component_is_tested_where_its_scenarios_stand_and_a_difference_fails() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("tests/limit");
    std::fs::create_dir_all(&scenario).unwrap();
    std::fs::copy(plugin("threshold"), dir.path().join("threshold.wasm")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(scenario.join(name), text).unwrap();
    write("config.json", r#"{"limits": [{"name": "flood", "feature": "flows", "above": 10.0}]}"#);
    write("input.jsonl", "{\"key\": \"192.0.2.1\", \"flows\": 20}\n{\"key\": \"192.0.2.2\", \"flows\": 2}\n");
    let test = |more: &[&str]| {
        let output = run(&[&["plugin", "test", "threshold.wasm"], more].concat(), dir.path());
        (output.status.code().unwrap(), told(&output))
    };
    let (code, text) = test(&[]);
    assert!(code == 1 && text.contains("there is no expected.jsonl"), "{text}");
    assert_eq!(test(&["--bless"]).0, 0);
    assert_eq!(test(&[]).0, 0);
    let blessed = std::fs::read_to_string(scenario.join("expected.jsonl")).unwrap();
    assert!(blessed.contains("\"kind\":\"flood\""), "{blessed}");
    write("expected.jsonl", &blessed.replace("flood", "drought"));
    let (code, text) = test(&[]);
    assert!(code == 1 && text.contains("drought") && text.contains("1 scenario failed"), "{text}");
    write("input.jsonl", "{\"flows\": 20}\n");
    let (code, text) = test(&[]);
    assert!(code == 1 && text.contains("line 1: no entity"), "{text}");
    let (code, text) = test(&["--scenario", "none"]);
    assert!(code == 1 && text.contains("no scenario `none`"), "{text}");
}

#[test]
fn errors_traps_and_deadlines_are_lines_like_others() {
    let dir = tempfile::tempdir().unwrap();
    for (name, error) in [("trap", "trapped"), ("spin", "missed its deadline"), ("oom", "ran out of memory")] {
        let folder = dir.path().join(name);
        std::fs::create_dir_all(folder.join("tests/a")).unwrap();
        std::fs::copy(plugin(name), folder.join("p.wasm")).unwrap();
        std::fs::write(folder.join("tests/a/input.csv"), "key,f0\n192.0.2.1,1\n").unwrap();
        let output = run(&["plugin", "test", "p.wasm", "--bless", "--deadline-ms", "50"], &folder);
        assert!(output.status.success(), "{}", told(&output));
        let blessed = std::fs::read_to_string(folder.join("tests/a/expected.jsonl")).unwrap();
        assert!(blessed.contains(error), "{name}: {blessed}");
    }
}

#[test]
fn inspect_tells_who_it_is_what_it_asks_for_and_how_to_use_it() {
    let path = plugin("autoencoder");
    let output = run(&["plugin", "inspect", path.to_str().unwrap(), "--format", "json"], root());
    let found: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)));
    assert_eq!(
        (&found["roles"], &found["grants"]),
        (&serde_json::json!(["detector"]), &serde_json::json!(["inference"]))
    );
    assert_eq!(found["size_bytes"], std::fs::metadata(&path).unwrap().len());
    // What it prints to be pasted is a configuration that the engine reads.
    let snippet: toml::Table = found["snippet"].as_str().unwrap().parse().unwrap();
    let name = found["name"].as_str().unwrap();
    assert_eq!(snippet["plugins"][name]["sha256"].as_str(), found["sha256"].as_str());
    let text = run(&["plugin", "inspect", plugin("threshold").to_str().unwrap()], root());
    let text = told(&text);
    assert!(text.contains("limits[].feature") && text.contains("none needed"), "{text}");
    let output = run(&["plugin", "inspect", "Cargo.toml"], root());
    assert!(!output.status.success() && told(&output).contains("is not a WebAssembly component"), "{}", told(&output));
}

#[test]
fn bench_measures_beside_a_plugin_that_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("tests/a")).unwrap();
    std::fs::copy(plugin("counter"), dir.path().join("p.wasm")).unwrap();
    std::fs::write(dir.path().join("tests/a/input.csv"), "key,f0\n192.0.2.1,1\n192.0.2.2,2\n").unwrap();
    let output = run(&["plugin", "bench", "p.wasm", "--repetition-ms", "5", "--format", "json"], dir.path());
    let found: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)));
    assert_eq!((found["rows"].as_u64(), found["features"].as_u64()), (Some(8192), Some(1)));
    let figure = |of: &str, what: &str| found[of][what].as_f64().unwrap_or_else(|| panic!("{of} {what}: {found}"));
    assert!(figure("plugin", "ns_per_row") > figure("empty", "ns_per_row"), "{found}");
    for what in ["ns_per_empty_call", "start_us", "memory_bytes", "size_bytes", "compile_ms", "load_ms"] {
        assert!(figure("plugin", what) > 0.0 && figure("empty", what) > 0.0, "{what}: {found}");
    }
}

#[test]
fn the_contract_is_printed_as_it_is() {
    let output = run(&["plugin", "wit"], root());
    assert_eq!(output.stdout, std::fs::read(root().join("wit/kaminari.wit")).unwrap());
}

/// A folder of a plugin with all that is in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let name = entry.file_name();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(name));
        } else {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// What `new` makes in a language, and the finished example: built, and through their scenarios.
fn a_script(language: &str, variable: &str) {
    if std::env::var_os(variable).is_none_or(|value| value.is_empty()) {
        println!(
            "SKIPPED: plugins in {language}: {variable} names no tool (`cargo xtask test` brings it where it can)"
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["plugin", "new", "--lang", language, "mine"], dir.path());
    assert!(output.status.success(), "{}", told(&output));
    copy(&root().join(format!("examples/plugins/{language}-zmax")), &dir.path().join("zmax"));
    for (folder, scenario) in [("mine", "jump: ok"), ("zmax", "outlier: ok")] {
        for verb in ["build", "test"] {
            let output = run(&["plugin", verb, folder], dir.path());
            assert!(output.status.success(), "{verb} {folder}: {}", told(&output));
            assert!(verb == "build" || told(&output).contains(scenario), "{}", told(&output));
        }
    }
    // Beyond its cap it ends like any other, and says of what.
    let output = run(&["plugin", "test", "mine", "--memory-bytes", "1000000"], dir.path());
    assert!(!output.status.success() && told(&output).contains("memory"), "{}", told(&output));
}

#[test]
fn plugins_in_python_build_and_pass_their_scenarios() {
    a_script("python", "KAMINARI_COMPONENTIZE_PY");
}

#[test]
fn plugins_in_javascript_build_and_pass_their_scenarios() {
    a_script("javascript", "KAMINARI_COMPONENTIZE_JS");
}

#[test]
fn the_examples_ask_for_the_tools_that_new_asks_for() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let python = "requirements.txt";
    assert_eq!(
        read(&format!("host/templates/plugin/python/{python}")),
        read(&format!("examples/plugins/python-zmax/{python}"))
    );
    let template = read("host/templates/plugin/javascript/package.json").replace("{{name}}", "javascript-zmax");
    assert_eq!(template, read("examples/plugins/javascript-zmax/package.json"));
    for file in ["config.toml", "input.csv", "expected.jsonl"] {
        let of = |home: &str| read(&format!("{home}/tests/outlier/{file}"));
        let rust = of("plugins/zmax");
        assert_eq!(rust, of("examples/plugins/python-zmax"), "{file}");
        assert_eq!(rust, of("examples/plugins/javascript-zmax"), "{file}");
    }
}

#[test]
fn zmax_passes_the_scenario_that_all_languages_pass() {
    let dir = tempfile::tempdir().unwrap();
    copy(&root().join("plugins/zmax/tests"), &dir.path().join("tests"));
    std::fs::copy(plugin("zmax"), dir.path().join("zmax.wasm")).unwrap();
    let output = run(&["plugin", "test", "zmax.wasm"], dir.path());
    assert!(output.status.success(), "{}", told(&output));
}
