//! The engine with libtorch: whoever scores, the same attack is told and nothing else.

use super::*;

/// The configuration of [`Place::plain`] with an `[inference]` table.
fn with(inference: &str) -> Option<Place> {
    let (libtorch, library) = kaminari_tests::libtorch("the engine with libtorch")?;
    let table = format!("[inference]\nlibtorch = {libtorch:?}\nlibrary = {library:?}\n{inference}\n");
    Some(Place::new(&format!("{table}{}", config(&["odd-hosts"], "", ""))))
}

#[test]
fn whoever_scores_the_same_rows_alert() {
    let plain = Place::plain();
    copy_model(&plain.path("model"));
    let expected = plain.replay(&format!("--input {} --scores scores.jsonl", attacked()));
    let expected_scores = plain.scores("scores.jsonl", "odd-hosts");
    for (inference, told, tolerance) in [
        ("backend = \"torch\"\ndevice = \"cpu\"", "scored by torch/cpu/f32", 1e-3),
        ("backend = \"auto\"\ndevice = \"cpu\"", "measured (cpu/", 1e-3),
        ("backend = \"auto\"", "scored by cpu/", 1e-9),
        ("backend = \"cpu\"", "scored by cpu/", 1e-9),
        ("backend = \"torch\"\ndevice = \"cpu\"\ndtype = \"f16\"", "scored by torch/cpu/f16", 0.5),
        ("backend = \"torch\"\ndevice = \"cpu\"\ndtype = \"bf16\"", "scored by torch/cpu/bf16", 2.0),
    ] {
        if inference == "backend = \"auto\"" && kaminari::inference::torch::nvidia_driver() {
            // There it is measured, on whatever the machine has.
            continue;
        }
        let Some(place) = with(inference) else { return };
        copy_model(&place.path("model"));
        let output =
            place.run(&format!("replay -c kaminari.toml --source flows --input {} --scores scores.jsonl", attacked()));
        let log = stderr(&output);
        assert!(output.status.success() && log.contains(told), "{inference}: {log}");
        let events = lines(&String::from_utf8(output.stdout).unwrap());
        let ids = |events: &[Value]| -> Vec<Value> {
            events.iter().map(|e| serde_json::json!([e["event"], e["entity"], e["window"]])).collect()
        };
        assert_eq!(ids(&events), ids(&expected), "{inference}");
        let scores = place.scores("scores.jsonl", "odd-hosts");
        assert_eq!(scores.len(), expected_scores.len());
        for (got, expected) in scores.iter().zip(&expected_scores) {
            assert_eq!((&got["entity"], &got["alert"]), (&expected["entity"], &expected["alert"]), "{inference}");
            let (got, expected) = (got["score"].as_f64().unwrap(), expected["score"].as_f64().unwrap());
            // Beyond what was seen in training a tail is a direction.
            let near = (got - expected).abs() <= tolerance * (1.0 + expected.abs());
            assert!(near || expected.min(got) > 15.0, "{inference}: {got}, and the kernel has {expected}");
        }
    }
}

#[test]
fn the_metrics_say_who_scores_and_what_was_measured() {
    let Some(place) = with("device = \"cpu\"") else { return };
    copy_model(&place.path("model"));
    place.ok(&format!("replay -c kaminari.toml --source flows --input {} --summary summary.json", attacked()));
    let summary = place.text("summary.json");
    for metric in [
        "kaminari_inference_crossover_rows{model=\\\"hosts\\\",device=\\\"torch/cpu/f32\\\"}",
        "kaminari_inference_measured_rows_per_second{",
    ] {
        assert!(summary.contains(metric), "no {metric} in {summary}");
    }
}
