//! The Numenta Anomaly Benchmark through the engine. Its data are not part of the repository.

use kaminari_nab::{REFERENCES, all_profiles, engine, read, reference};
use kaminari_tests::{kaminari, root, shared};

/// Standard profile of `likelihood`, as docs/quality.md has it.
const RECORDED: f64 = 69.3;

#[test]
fn published_results_score_as_published() {
    let Some(folder) = shared("data/nab") else { return };
    let series = read(&folder).unwrap();
    for (name, wanted) in REFERENCES {
        let scores = all_profiles(&series, &reference(&folder, name, &series).unwrap()).map(|best| best.score);
        for (is, wanted) in scores.iter().zip(wanted) {
            assert!((is - wanted).abs() <= 0.1, "{name}: {scores:?}");
        }
    }
}

#[test]
fn the_likelihood_detector_is_as_good_as_recorded() {
    let Some(folder) = shared("data/nab") else { return };
    let quality = std::fs::read_to_string(root().join("docs/quality.md")).unwrap();
    assert!(quality.contains(&format!("| likelihood | {RECORDED:.1} |")), "docs/quality.md records another score");
    let series = read(&folder).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let scores = engine::run(kaminari, &root().join("configs/eval/nab.toml"), &series, scratch.path()).unwrap();
    let standard = all_profiles(&series, &scores["likelihood"])[0];
    assert!(standard.score >= RECORDED - 1.0, "{standard:?}");
}
