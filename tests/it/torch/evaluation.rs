//! The evaluation set of flows: whatever arithmetic scores it, the same rows alert.

use kaminari_tests::{kaminari, libtorch, plugin, root, shared};
use std::path::Path;

/// Entity and window of every alert.
fn alerts(dir: &Path, data: &Path, inference: &str) -> Vec<String> {
    std::fs::write(dir.join("inference.toml"), format!("[inference]\n{inference}\n")).unwrap();
    let mut replay = kaminari();
    replay.current_dir(dir).args(["replay", "-q", "-c", "flows.toml", "-c", "inference.toml", "--scores", "s.jsonl"]);
    let output = replay.arg("--input").arg(data.join("test.csv.gz")).output().unwrap();
    assert!(output.status.success(), "{inference}: {}", String::from_utf8_lossy(&output.stderr));
    let scores = std::fs::read_to_string(dir.join("s.jsonl")).unwrap();
    let rows = scores.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    rows.filter(|row| row["alert"] == true).map(|row| format!("{} {}", row["entity"], row["window"])).collect()
}

#[test]
fn half_precision_alerts_as_the_kernel_does() {
    let Some((libtorch, library)) = libtorch("half precision on the evaluation set") else { return };
    let Some(data) = shared("data/flows") else { return };
    let dir = tempfile::tempdir().unwrap();
    let recipe = std::fs::read_to_string(root().join("configs/eval/flows.toml")).unwrap();
    let recipe = recipe.replace("../../target/eval/flows/model", "model");
    let recipe = recipe.replace("../../target/plugins/autoencoder.wasm", plugin("autoencoder").to_str().unwrap());
    std::fs::write(dir.path().join("flows.toml"), recipe).unwrap();
    let mut train = kaminari();
    train.current_dir(dir.path()).args(["train", "-q", "-c", "flows.toml"]);
    train.arg("--input").arg(data.join("train.csv.gz")).arg("--validation").arg(data.join("validation.csv.gz"));
    // As `cargo xtask eval flows` does.
    train.arg("--labels").arg(data.join("events.csv")).arg("--flows").arg(data.join("validation.csv.gz"));
    let output = train.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = alerts(dir.path(), &data, "backend = \"cpu\"");
    assert!(expected.len() > 100, "{expected:?}");
    for dtype in ["f32", "f16", "bf16"] {
        let with = format!(
            "backend = \"torch\"\ndevice = \"cpu\"\ndtype = {dtype:?}\nlibtorch = {libtorch:?}\nlibrary = {library:?}"
        );
        let got = alerts(dir.path(), &data, &with);
        let other: Vec<&String> = got.iter().filter(|a| !expected.contains(a)).collect();
        let missing: Vec<&String> = expected.iter().filter(|a| !got.contains(a)).collect();
        assert!(other.is_empty() && missing.is_empty(), "{dtype}: only there {other:?}, only here {missing:?}");
    }
}
