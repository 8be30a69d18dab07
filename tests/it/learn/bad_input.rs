//! What is told when a training or a model cannot be used, and that nothing half made is left behind.

use super::*;
use crate::run::Engine;

#[test]
fn input_without_rows_is_told() {
    let place = Place::plain();
    let told = |words: &str| place.fails(1, &format!("train -c kaminari.toml --source flows {words}"));
    place.put("empty.jsonl", "");
    let text = told("--input empty.jsonl");
    assert!(text.contains("empty.jsonl: no whole window of pipeline `hosts` has a row help: "), "{text}");
    place.put("empty.pcap", "");
    let text = told("--input empty.pcap");
    assert!(text.contains("empty.pcap") && text.contains("no pcap or pcapng file"), "{text}");
    let text = told("--input nowhere.pcap");
    assert!(text.contains("nowhere.pcap: No such file or directory"), "{text}");
    // 5 s of 60 hosts.
    place.ok("generate flows --rate 300 --hosts 60 --seconds 5 --pcap short.pcap");
    let text = told("--input short.pcap");
    assert!(text.contains("60 training rows are too few, at least 200 are needed;"), "{text}");
    let text = told(&format!("--input {} --validation empty.jsonl", benign()));
    assert!(text.contains("empty.jsonl: no whole window"), "{text}");
    assert!(!place.path("model").exists());
}

#[test]
fn names_that_are_not_there_are_told() {
    let place = Place::plain();
    let told = |words: &str| place.fails(1, &format!("train -c kaminari.toml --input x.pcap {words}"));
    let text = told("--model other --source flows");
    assert!(text.contains("--model \"other\" is no model with a `train` table; there is hosts"), "{text}");
    let text = told("--source other");
    assert!(text.contains("--source \"other\" is not in the configuration; it has flows, foreign"), "{text}");
    let text = told("");
    assert!(text.contains("say with --source which one the file stands for (flows, foreign)"), "{text}");
    let text = told("--source flows --labels nowhere.csv");
    assert!(text.contains("nowhere.csv") && text.contains("No such file"), "{text}");
}

#[test]
fn a_place_that_cannot_be_written_is_told_before_the_training() {
    let place = Place::plain();
    place.put("file", "");
    // The input is not there either: it was not looked at yet.
    let words = "train -c kaminari.toml --source flows --input nowhere.pcap --output file/model";
    let told = place.fails(1, words);
    assert!(told.contains("the model cannot be written to file/model: file/model: "), "{told}");
    assert!(told.contains("Not a directory"), "{told}");

    // Folders that are missing are made, and nothing else lies about.
    place.ok(&format!("train -c kaminari.toml --source flows --input {} --output a/b/model", benign()));
    let names = |dir: &str| {
        let entries = std::fs::read_dir(place.path(dir)).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names("a/b"), ["model"]);
    assert_eq!(names("a/b/model").len(), 4);
    assert_eq!(names("."), ["a", "file", "kaminari.toml"]);
}

#[test]
fn a_training_that_fails_leaves_the_old_model() {
    let place = Place::plain();
    copy_model(&place.path("model"));
    let before = (place.text("model/model.toml"), std::fs::read(place.path("model/weights.safetensors")).unwrap());
    place.ok("generate flows --rate 300 --hosts 60 --seconds 5 --pcap short.pcap");
    place.fails(1, "train -c kaminari.toml --source flows --input short.pcap");
    let after = (place.text("model/model.toml"), std::fs::read(place.path("model/weights.safetensors")).unwrap());
    assert!(before == after);
    assert_eq!(std::fs::read_dir(place.path("model")).unwrap().count(), 2);
}

#[test]
fn empty_or_swapped_weights_are_refused_with_their_file() {
    let place = Place::plain();
    copy_model(&place.path("model"));
    let weights = place.path("model/weights.safetensors");
    let good = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, "").unwrap();
    let told = "model/weights.safetensors: empty file: copy or export the weights again";
    for words in ["model inspect model", "validate -c kaminari.toml", "run -c kaminari.toml"] {
        let text = place.fails(78, words);
        assert!(text.contains(told), "{words}: {text}");
    }
    let text = place.fails(78, &format!("replay -c kaminari.toml --source flows --input {}", attacked()));
    assert!(text.contains(told) && text.contains("model_refused"), "{text}");

    // The weights of another model of the same shape.
    let mut other = good.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, other).unwrap();
    let text = place.fails(78, "validate -c kaminari.toml");
    assert!(text.contains("files of two models are mixed, or a copy is not finished"), "{text}");
    std::fs::write(&weights, good).unwrap();
    place.ok("validate -c kaminari.toml");
}

/// The engine has read its models: what happens to the folder is for the next start.
#[test]
fn a_model_swapped_on_disk_counts_from_the_next_start_on() {
    let models = Place::plain();
    copy_model(&models.path("model"));
    let text = config_with_source("type = \"udp\"\nlisten = \"127.0.0.1:0\"")
        .replace("path = \"model\"", &format!("path = {:?}", models.path("model")))
        .replace("type = \"stdout\"", "type = \"file\"\npath = \"incidents.jsonl\"")
        + "[api]\nlisten = \"127.0.0.1:0\"\n";
    let mut engine = Engine::launch(&text);
    let model = |engine: &Engine| {
        let (_, metrics) = engine.get("/metrics");
        let line = metrics.lines().find(|l| l.starts_with("kaminari_model_info{")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{metrics}"))
    };
    let before = model(&engine);

    models.ok(&format!("train -c kaminari.toml --source flows --input {} --output other", attacked()));
    std::fs::copy(models.path("other/model.toml"), models.path("model/model.toml")).unwrap();
    std::fs::write(models.path("model/weights.safetensors"), "").unwrap();
    let attack = "syn-flood@2+4:target=198.18.7.7,fps=200,pps=20000";
    let mut traffic = engine.traffic(&["--seconds", "8", "--rate", "300", "--attack", attack]);
    let open = engine.event("open");
    assert_eq!(open["entity"]["value"], VICTIM, "{}", engine.log());
    assert!(traffic.wait().success());
    assert_eq!(model(&engine), before);
    let (_, metrics) = engine.get("/metrics");
    assert!(!metrics.contains("kaminari_plugin_dead_lettered_rows_total{"), "{metrics}");
    assert_eq!(engine.terminate().code(), Some(0), "{}", engine.log());

    models.put("kaminari.toml", &text);
    let told = models.fails(78, "run -c kaminari.toml");
    assert!(told.contains("model/weights.safetensors: empty file"), "{told}");
}
