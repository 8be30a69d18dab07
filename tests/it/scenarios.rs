//! Whole stories: a configuration and its traffic in, incidents out. One folder of `tests/scenarios/` each, with a
//! README that says what is to be seen. The plan's digest is masked. `KAMINARI_BLESS=1` rewrites inputs and outputs.

use crate::scenario_inputs::input;
use kaminari_tests::{kaminari, root};
use std::path::{Path, PathBuf};

fn scenarios() -> Vec<PathBuf> {
    let entries = root().join("tests/scenarios").read_dir().unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    assert!(folders.len() >= 10, "{folders:?}");
    folders
}

/// What `replay` prints for the input, digests masked.
fn replay(folder: &Path, configs: &[&str], file: &str) -> String {
    let mut command = kaminari();
    command.current_dir(folder).args(["--quiet", "replay", "--input", file, "-c"]).args(configs);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{}: {stderr}", folder.display());
    let lines = String::from_utf8(output.stdout).unwrap();
    let mask = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let digest = event["plan_digest"].as_str().unwrap();
        assert!(digest.starts_with("sha256:"), "{line}");
        line.replace(digest, "sha256:masked") + "\n"
    };
    lines.lines().map(mask).collect()
}

#[test]
fn every_scenario_ends_as_its_folder_says() {
    let bless = std::env::var_os("KAMINARI_BLESS").is_some();
    for folder in scenarios() {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let (file, text) = input(name).unwrap_or_else(|| panic!("{name} has no input in scenario_inputs.rs"));
        let (input, expected) = (folder.join(file), folder.join("expected.jsonl"));
        assert!(folder.join("README.md").exists(), "{name} does not say what it shows");
        if bless {
            std::fs::write(&input, &text).unwrap();
            std::fs::write(&expected, replay(&folder, &["kaminari.toml"], file)).unwrap();
        }
        assert!(std::fs::read_to_string(&input).unwrap() == text, "{name}: {file} is not what its generator makes");
        let expected = std::fs::read_to_string(&expected).unwrap();
        assert_eq!(replay(&folder, &["kaminari.toml"], file), expected, "{name}");
        let workers = replay(&folder, &["kaminari.toml", "../three-workers.toml"], file);
        assert_eq!(workers, expected, "{name} with three workers");
    }
}

/// The same records, all counted: nothing refused, nothing of the kind lost that the scenario is not about.
#[test]
fn late_records_are_taken_or_counted() {
    let folder = root().join("tests/scenarios/late-records");
    let dir = tempfile::tempdir().unwrap();
    let summary = dir.path().join("summary.json");
    let mut command = kaminari();
    command.current_dir(&folder).args(["replay", "-c", "kaminari.toml", "--input", "input.csv", "--summary"]);
    assert!(command.arg(&summary).output().unwrap().status.success());
    let counters = crate::summary::Summary::read(&summary);
    let late = |d: &str| {
        counters.value(&format!("kaminari_window_late_records_total{{pipeline=\"ddos\",disposition=\"{d}\"}}"))
    };
    assert_eq!((late("accepted"), late("dropped")), (2.0, 1.0));
    let lines = std::fs::read_to_string(folder.join("input.csv")).unwrap().lines().count() - 1;
    assert_eq!(counters.total("kaminari_window_records_total"), lines as f64);
}
