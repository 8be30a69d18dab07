//! `kaminari train` with libtorch: the same recipe, other architectures; and networks that are kept. What takes libtorch
//! is skipped without it.

use super::*;
use kaminari::inference::{Golden, Model};

const TRAIN: &str = "train -c kaminari.toml --source flows --input";

/// What the fixtures of PyTorch look at.
const FIVE: &str = "\"flows_per_s\", \"bits_per_s\", \"packets_per_s\", \"uniq_src\", \"mean_packet_size\"";

/// `[inference]` with libtorch on the CPU; `backend` scores.
fn inference((libtorch, library): &(PathBuf, PathBuf), backend: &str) -> String {
    format!("[inference]\nbackend = {backend:?}\nlibtorch = {libtorch:?}\nlibrary = {library:?}\ndevice = \"cpu\"\n")
}

/// With more epochs than the other tests have, so that something is learned.
fn with_torch(torch: &(PathBuf, PathBuf), train: &str) -> Place {
    let text = config(&["odd-hosts"], "", "")
        .replace("hidden = [8, 3, 8], seeds = 1, epochs = 2", &format!("seeds = 1, epochs = 6, {train}"));
    Place::new(&(text + &inference(torch, "cpu")))
}

fn manifest(place: &Place, model: &str) -> toml::Table {
    place.text(&format!("{model}/model.toml")).parse().unwrap()
}

fn validation_loss(place: &Place, model: &str) -> f64 {
    manifest(place, model)["training"]["validation_loss"].as_float().unwrap()
}

#[test]
fn libtorch_learns_what_the_built_in_backend_learns() {
    let Some(torch) = kaminari_tests::libtorch("training a perceptron") else { return };
    let place = with_torch(&torch, "hidden = [8, 3, 8]");
    let built_in = place.ok(&format!("{TRAIN} {} --output built-in", benign()));
    assert!(built_in.contains("network     autoencoder, tanh, trained by kaminari "), "{built_in}");
    let report = place.ok(&format!("{TRAIN} {} --backend torch --output torch", benign()));
    assert!(report.contains(", libtorch 2.11 on cpu\n"), "{report}");
    assert!(place.text("torch/report.html").contains(", libtorch 2.11 on cpu."));
    // First weights, order and steps are the same: what differs is the rounding.
    let (ours, theirs) = (validation_loss(&place, "built-in"), validation_loss(&place, "torch"));
    assert!((ours - theirs).abs() < 0.02 * ours, "{ours} and {theirs}");
    let tool = manifest(&place, "torch")["training"]["tool"].as_str().unwrap().to_owned();
    assert!(tool.starts_with("kaminari ") && tool.ends_with(", libtorch 2.11 on cpu"), "{tool}");
    place.ok(&format!("{TRAIN} {} --backend torch --output again", benign()));
    assert_eq!(weights_digest(&place.path("torch")), weights_digest(&place.path("again")));
}

#[test]
fn a_deep_network_learns_at_least_as_much() {
    let Some(torch) = kaminari_tests::libtorch("training a deep perceptron") else { return };
    let place = with_torch(&torch, "hidden = [64, 32, 3, 32, 64], backend = \"torch\"");
    place.ok(&format!("{TRAIN} {}", benign()));
    place.ok(&format!("{TRAIN} {} --backend built-in --output built-in", benign()));
    let (deep, same) = (validation_loss(&place, "model"), validation_loss(&place, "built-in"));
    assert!((deep - same).abs() < 0.1 * same, "{deep} and {same}");
    assert!(place.ok("model inspect model").contains("mlp-autoencoder 7-64-32-3-32-64-7"));
    let small = with_torch(&torch, "hidden = [8, 3, 8]");
    small.ok(&format!("{TRAIN} {}", benign()));
    assert!(deep < 1.1 * validation_loss(&small, "model"), "{deep}");
}

/// Trained by libtorch alone, scored by everybody.
#[test]
fn a_variational_autoencoder_tells_the_attack_and_scores_alike_everywhere() {
    let Some(torch) = kaminari_tests::libtorch("training a variational autoencoder") else { return };
    let place = with_torch(
        &torch,
        "hidden = [16, 4, 16], backend = \"torch\", architecture = \"variational\", kl_weight = 0.005",
    );
    let report = place.ok(&format!("{TRAIN} {}", benign()));
    let kind = "variational autoencoder, tanh, a code of 4, KL weight 0.005";
    assert!(report.contains(kind), "{report}");
    assert!(place.text("model/report.html").contains(kind));
    let inspected = place.ok("model inspect model");
    assert!(inspected.contains("variational-autoencoder 7-16-4-16-7"), "{inspected}");
    assert_eq!(manifest(&place, "model")["architecture"]["code"].as_integer(), Some(2));
    place.ok(&format!("{TRAIN} {} --output again", benign()));
    assert_eq!(weights_digest(&place.path("model")), weights_digest(&place.path("again")));

    let events = place.replay(&format!("--input {} --scores built-in.jsonl", attacked()));
    assert_eq!(entities(&events), [VICTIM]);
    let cpu = inference(&torch, "cpu");
    place.put("kaminari.toml", &place.text("kaminari.toml").replace(&cpu, &inference(&torch, "torch")));
    let events = place.replay(&format!("--input {} --scores torch.jsonl", attacked()));
    assert_eq!(entities(&events), [VICTIM]);
    let [ours, theirs] = ["built-in.jsonl", "torch.jsonl"].map(|name| place.scores(name, "odd-hosts"));
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!((&ours["entity"], &ours["alert"]), (&theirs["entity"], &theirs["alert"]));
        let [a, b] = [ours, theirs].map(|row| row["score"].as_f64().unwrap());
        assert!((a - b).abs() < 1e-2 + 1e-3 * a, "{ours} and {theirs}");
    }
}

#[test]
fn what_takes_libtorch_is_told_without_it_before_anything_is_read() {
    let place = Place::plain();
    let told = place.fails(78, &format!("{TRAIN} nowhere.pcap --backend torch"));
    assert!(told.contains("libtorch is to train, and `inference.libtorch` is not set; `kaminari doctor"), "{told}");
    let told = place.fails(1, &format!("{TRAIN} nowhere.pcap --architecture variational"));
    assert!(told.contains("a variational autoencoder is trained by libtorch alone"), "{told}");
    let told = place.fails(2, &format!("{TRAIN} nowhere.pcap --backend cuda"));
    assert!(told.contains("[possible values: built-in, torch]"), "{told}");
    let told = place.fails(2, &format!("{TRAIN} nowhere.pcap --network x --backend torch"));
    assert!(told.contains("cannot be used with"), "{told}");
    let wide = Place::new(&config(&["odd-hosts"], "", "").replace("[8, 3, 8]", "[2000, 3, 8]"));
    let told = wide.fails(1, &format!("{TRAIN} nowhere.pcap"));
    assert!(told.contains("hidden = [2000, 3, 8] is out of range: 1 to 16 layers, each 1 to 1024 wide"), "{told}");
    let nowhere = inference(&("/no/such/lib".into(), "/no/such/object".into()), "cpu");
    place.put("kaminari.toml", &(place.text("kaminari.toml") + &nowhere));
    let told = place.fails(1, &format!("{TRAIN} nowhere.pcap --backend torch"));
    assert!(told.contains("/no/such/lib/libc10.so: there is no such file"), "{told}");
}

/// A fixture of PyTorch without its golden rows.
fn without_golden(place: &Place, fixture: &str) {
    let from = kaminari_tests::root().join("tests/fixtures").join(fixture);
    let mut manifest: toml::Table = std::fs::read_to_string(from.join("model.toml")).unwrap().parse().unwrap();
    manifest.remove("golden").expect("the fixture has golden rows");
    std::fs::create_dir(place.path("from")).unwrap();
    place.put("from/model.toml", &manifest.to_string());
    let weights = if from.join("model.pt").exists() { "model.pt" } else { "weights.safetensors" };
    std::fs::copy(from.join(weights), place.path("from").join(weights)).unwrap();
}

/// Of the features of PyTorch's fixtures.
fn of_five(more: &str) -> Place {
    let features = format!("features = {FEATURES:?}");
    Place::new(&(config(&["odd-hosts"], "", "").replace(&features, &format!("features = [{FIVE}]")) + more))
}

fn golden(place: &Place) -> Golden {
    Model::load(&place.path("model")).unwrap().manifest.golden.expect("golden rows")
}

#[test]
fn a_network_that_is_kept_gets_golden_rows() {
    let place = of_five("");
    without_golden(&place, "pytorch-model");
    let said = place.ok(&format!("{TRAIN} {} --network from", benign()));
    assert!(said.contains("32 golden rows added"), "{said}");
    assert!(place.ok("model inspect model").contains("32 rows score as they must"));
    assert!(golden(&place).mse.is_sorted(), "{:?}", golden(&place).mse);
}

#[test]
fn an_archive_that_is_kept_gets_golden_rows_and_a_calibration() {
    let Some(torch) = kaminari_tests::libtorch("calibrating an archive") else { return };
    for fixture in ["torchscript/vae", "torchscript/loss"] {
        let place = of_five(&inference(&torch, "auto"));
        without_golden(&place, fixture);
        let said = place.ok(&format!("{TRAIN} {} --network from", benign()));
        assert!(said.starts_with("network kept, calibrated on ") && said.contains("32 golden rows added"), "{said}");
        assert_eq!(
            std::fs::read(place.path("model/model.pt")).unwrap(),
            std::fs::read(place.path("from/model.pt")).unwrap()
        );
        assert_eq!(golden(&place).rows.len(), 32);
        // Proves itself on its golden rows, and has a calibration to be asked for.
        place.ok("validate -c kaminari.toml");
        place.replay(&format!("--input {} --scores scores.jsonl", attacked()));
        let rows = place.scores("scores.jsonl", "odd-hosts");
        assert!(
            rows.iter().all(|row| row["score"].as_f64().is_some_and(|score| score >= 0.0)),
            "{fixture}: {}",
            rows[0]
        );
        place.put("model/model.toml", &place.text("model/model.toml").replacen("center = ", "center = 1", 1));
        let told = place.fails(78, "validate -c kaminari.toml");
        assert!(told.contains("self-test: row "), "{told}");
    }
    let place = of_five("");
    without_golden(&place, "torchscript/vae");
    let told = place.fails(1, &format!("{TRAIN} {} --network from", benign()));
    assert!(told.contains("the network cannot be kept") && told.contains("`inference.libtorch` is not set"), "{told}");
}
