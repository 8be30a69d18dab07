//! `kaminari model inspect` on the model that PyTorch made, and on what it must refuse.

use kaminari_tests::{root, run};
use std::path::Path;

fn inspect<'a>(dir: &'a Path, more: &[&'a str]) -> (Option<i32>, String, String) {
    let dir = dir.to_str().unwrap();
    let output = run(["model", "inspect", dir].iter().chain(more));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_model_is_shown() {
    let dir = root().join("tests/fixtures/pytorch-model");
    let (code, text, errors) = inspect(&dir, &[]);
    assert_eq!((code, &*errors), (Some(0), ""));
    for part in
        ["mlp-autoencoder 5-8-3-8-5, tanh, 152 weights", "64 rows score as they must, on cpu/", "uniq_src", "log1p"]
    {
        assert!(text.contains(part), "no `{part}`:\n{text}");
    }
    let (code, json, _) = inspect(&dir, &["--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["ok"], &json["self_test_rows"]), (Some(0), &true.into(), &64.into()));
    assert_eq!(json["features"][4]["name"], "mean_packet_size");
    assert!(text.contains(json["digest"].as_str().unwrap()));
}

#[test]
fn a_damaged_model_is_refused_with_its_diagnosis() {
    let dir = tempfile::tempdir().unwrap();
    let (code, text, errors) = inspect(dir.path(), &[]);
    assert_eq!((code, &*text), (Some(78), ""));
    assert!(errors.contains("model.toml: not found; a model is a folder with"), "{errors}");

    for file in ["model.toml", "weights.safetensors"] {
        std::fs::copy(root().join("tests/fixtures/pytorch-model").join(file), dir.path().join(file)).unwrap();
    }
    let weights = dir.path().join("weights.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&9f32.to_le_bytes());
    std::fs::write(&weights, bytes).unwrap();
    let (code, text, errors) = inspect(dir.path(), &["--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["ok"]), (Some(78), &false.into()));
    assert!(json["error"].as_str().unwrap().contains("self-test: row 0 of golden.rows has mse"), "{json}");
    assert!(errors.contains("the model is refused"), "{errors}");
}
