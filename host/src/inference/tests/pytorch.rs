//! A model that PyTorch trained and saved scores here as it scored there; and the guide says what is true.

use crate::inference::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_instruction_set_scores_as_pytorch() {
    let model = Arc::new(Model::load(&repository().join("tests/fixtures/pytorch-model")).unwrap());
    let golden = model.manifest.golden.as_ref().unwrap();
    assert_eq!(golden.rows.len(), 64);
    let columns: Vec<Vec<f64>> = (0..5).map(|f| golden.rows.iter().map(|row| row[f]).collect()).collect();
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    for isa in Isa::available() {
        let mut losses = Losses::default();
        CpuBackend::with(isa).unwrap().scorer(&model).unwrap().losses(&columns, &mut losses).unwrap();
        for row in 0..64 {
            for (got, expected) in [(losses.mse[row], golden.mse[row]), (losses.log1p[row], golden.log1p[row])] {
                assert!(reference::close(f64::from(got), expected), "{isa:?}, row {row}: {got}, PyTorch {expected}");
            }
        }
    }
}

#[test]
fn the_guides_manifest_is_the_fixtures_but_for_what_a_hand_leaves_out() {
    let guide = std::fs::read_to_string(repository().join("docs/guide/models.md")).unwrap();
    let (_, rest) = guide.split_once("```toml title=model.toml\n").unwrap();
    let shown: Manifest = toml::from_str(rest.split_once("```").unwrap().0).unwrap();
    let fixture = Model::load(&repository().join("tests/fixtures/pytorch-model")).unwrap().manifest;
    assert_eq!((shown.architecture, shown.weights), (fixture.architecture, fixture.weights));
    assert_eq!(shown.features.len(), 5);
    for (shown, made) in shown.features.iter().zip(&fixture.features) {
        assert_eq!((&shown.name, shown.transform), (&made.name, made.transform));
        assert!((shown.center - made.center).abs() < 0.01 && (shown.scale - made.scale).abs() < 0.01, "{shown:?}");
    }
    // The lines of the script that train and save are those that made the fixture.
    let script = std::fs::read_to_string(repository().join("tests/fixtures/pytorch-model/train.py")).unwrap();
    let (_, rest) = guide.split_once("```python\n").unwrap();
    let shown = rest.split_once("```").unwrap().0;
    let lines = shown.lines().filter(|line| !line.starts_with("rows =") && !line.is_empty()).count();
    assert!(lines > 10);
    for line in shown.lines().filter(|line| !line.starts_with("rows =")) {
        assert!(script.contains(line), "train.py of the fixture has no line `{line}`");
    }
}
