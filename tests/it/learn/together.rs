//! Several detectors as one, and tails that follow the traffic or do not.

use super::*;
use kaminari::inference::{Backend, CpuBackend, Losses, Model};
use std::sync::Arc;

/// A limit that the attack exceeds and no benign host comes near.
fn limits() -> String {
    format!(
        "[plugins.threshold]
         path = {:?}
         [detectors.limits]
         plugin = \"threshold\"
         config = {{ limits = [ {{ name = \"flood\", feature = \"uniq_src\", above = 150.0 }} ] }}
         calibration = {{ warm_up_rows = 2000 }}",
        plugin("threshold")
    )
}

fn combined(rule: &str) -> Place {
    let place = Place::new(&config(&["limits", "odd-hosts"], &limits(), &format!("combine = {{ {rule} }}")));
    copy_model(&place.path("model"));
    place
}

#[test]
fn every_rule_makes_one_detector_of_two() {
    for (rule, said) in [
        ("rule = \"any\"", "2 of 2 detectors: "),
        ("rule = \"all\"", "2 of 2 detectors: "),
        ("rule = \"k_of_n\", k = 2", "2 of 2 detectors: "),
        ("rule = \"tail_sum\"", "1 of 2 detectors together at 1 in 10^"),
    ] {
        let place = combined(rule);
        let events = place.replay(&format!("--input {} --scores scores.jsonl", attacked()));
        assert_eq!(entities(&events), [VICTIM], "{rule}");
        let open = opened(&events);
        assert!(open["message"].as_str().unwrap().starts_with(said), "{rule}: {open}");
        assert!(rule.contains(&format!("\"{}\"", open["detector"].as_str().unwrap())), "{rule}: {open}");
        assert_eq!(events.iter().filter(|e| e["event"] == "open").count(), 1, "{rule}: {events:?}");
        assert!(!open["evidence"].as_array().unwrap().is_empty() || rule.contains("tail_sum"), "{rule}: {open}");
        // What each member thought stays in the scores; the word is the combined one's.
        for row in place.scores("scores.jsonl", "combined") {
            assert_eq!(row["alert"], row["entity"]["value"] == VICTIM, "{rule}: {row}");
        }
        for member in ["limits", "odd-hosts"] {
            assert!(place.scores("scores.jsonl", member).iter().all(|r| r["alert"] == false), "{rule}: {member}");
        }
    }
}

#[test]
fn one_of_two_is_enough_for_any_and_not_for_all() {
    // No host exceeds this limit.
    let high = |rule: &str| {
        let text =
            config(&["limits", "odd-hosts"], &limits().replace("150.0", "1e12"), &format!("combine = {{ {rule} }}"));
        let place = Place::new(&text);
        copy_model(&place.path("model"));
        place.replay(&format!("--input {}", attacked()))
    };
    assert_eq!(entities(&high("rule = \"any\"")), [VICTIM]);
    assert_eq!(entities(&high("rule = \"k_of_n\", k = 1")), [VICTIM]);
    assert_eq!(high("rule = \"all\""), Vec::<Value>::new());
    assert_eq!(high("rule = \"k_of_n\", k = 2"), Vec::<Value>::new());
}

/// Flows in `long.jsonl`. Of a capture one read closes several windows; what is learned counts 64 reads later.
fn long(place: &Place, what: &str) {
    place.ok(&format!("generate flows --rate 300 --seed 9 --pcap long.pcap {what}"));
    place.put("long.jsonl", &place.ok("decode long.pcap"));
}

#[test]
fn a_sum_counts_a_detector_once_its_tail_is_learned() {
    let place = combined("rule = \"tail_sum\"");
    let attack = ATTACK.replace("@10+", "@230+");
    long(&place, &format!("--hosts 60 --seconds 250 --attack {attack}"));
    let events = place.replay("--input long.jsonl --scores scores.jsonl");
    assert_eq!(entities(&events), [VICTIM]);
    let open = opened(&events);
    assert!(open["message"].as_str().unwrap().starts_with("2 of 2 detectors together at 1 in 10^"), "{open}");
    let limits = place.scores("scores.jsonl", "limits");
    assert!(limits[0]["tail"].is_null() && limits[0]["score"].is_f64(), "{}", limits[0]);
    assert!(limits.last().unwrap()["tail"].is_f64(), "{}", limits.last().unwrap());

    // The order in which workers are done is nothing to learn from.
    place.put("three.toml", "[engine]\nwindow_workers = 3\n");
    place.replay("--input long.jsonl --scores three.jsonl -c three.toml");
    assert!(place.text("scores.jsonl") == place.text("three.jsonl"));
}

/// Tails as the model was trained to have them, of the features in the rows.
fn trained_tails(dir: &Path, rows: &[Value]) -> Vec<f64> {
    let model = Arc::new(Model::load(dir).unwrap());
    let names = model.manifest.features.iter().map(|f| &f.name);
    let columns: Vec<Vec<f64>> =
        names.map(|n| rows.iter().map(|r| r["features"][n].as_f64().unwrap()).collect()).collect();
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let mut losses = Losses::default();
    CpuBackend::detect().scorer(&model).unwrap().losses(&columns, &mut losses).unwrap();
    let calibration = model.manifest.calibration.clone().unwrap();
    losses.mse.iter().zip(&losses.log1p).map(|(m, l)| calibration.tail_score(f64::from(*m), f64::from(*l))).collect()
}

#[test]
fn a_frozen_tail_stays_and_a_followed_one_goes_with_the_traffic() {
    let place = Place::plain();
    copy_model(&place.path("model"));
    // A host has twelve times the traffic that it was trained on.
    long(&place, "--hosts 5 --seconds 200");
    let tails = |scores: &str| {
        let rows = place.scores(scores, "odd-hosts");
        let tails: Vec<f64> = rows.iter().map(|r| r["tail"].as_f64().unwrap()).collect();
        (trained_tails(&place.path("model"), &rows), tails)
    };
    place.replay("--input long.jsonl --scores followed.jsonl");
    let (trained, followed) = tails("followed.jsonl");
    let differ = |a: f64, b: f64| (a - b).abs() > 1e-6 * a.abs().max(1.0);
    let first = trained.iter().zip(&followed).position(|(t, f)| differ(*t, *f)).expect("nothing was followed");
    assert!(first >= 5 * 64, "what is learned counts 64 windows of 5 hosts later, not in row {first}");
    assert!(trained[first..].iter().zip(&followed[first..]).all(|(t, f)| f <= t), "traffic grew: rows are less rare");

    let frozen = config(&["odd-hosts"], "", "")
        .replace("[detectors.odd-hosts]", "[detectors.odd-hosts]\ncalibration = { follow = false }");
    place.put("kaminari.toml", &frozen);
    place.replay("--input long.jsonl --scores frozen.jsonl");
    let (trained, frozen) = tails("frozen.jsonl");
    for (row, (t, f)) in trained.iter().zip(&frozen).enumerate() {
        assert!(!differ(*t, *f), "row {row}: {f}, trained {t}");
    }
}
