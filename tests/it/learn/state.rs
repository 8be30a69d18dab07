//! `engine.state_dir`: what was learned while running outlives a restart.

use super::*;

const STATE: &str = "state/tail.hosts.odd-hosts.dst_addr.hosts.json";

/// A file source that is read to its end; what is learned is kept.
fn place() -> Place {
    let text = config_with_source(&format!("type = \"file\"\npaths = [{:?}]", benign()));
    let place = Place::new(&(text + "[engine]\nstate_dir = \"state\"\n"));
    copy_model(&place.path("model"));
    place
}

/// How much event time the follower has seen.
fn seen(place: &Place) -> f64 {
    let state: Value = serde_json::from_str(&place.text(STATE)).unwrap();
    assert_eq!((&state["version"], &state["identity"]["pipeline"]), (&1.into(), &"hosts".into()));
    state["state"]["seen_ns"].as_f64().unwrap()
}

#[test]
fn what_was_learned_outlives_a_restart() {
    let place = place();
    // A replay neither reads nor writes it.
    place.ok(&format!("replay -c kaminari.toml --input {}", benign()));
    assert!(!place.path("state").exists());

    let run = || {
        let output = place.run("run -c kaminari.toml");
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{told}");
        told
    };
    let resumed = "goes on with the tail learned before";
    let told = run();
    assert!(!told.contains(resumed) && !told.contains("WARN"), "{told}");
    assert!(seen(&place) > 50e9, "{}", seen(&place));
    let mut kept: Vec<_> = std::fs::read_dir(place.path("state")).unwrap().map(|e| e.unwrap().file_name()).collect();
    kept.sort();
    assert_eq!(kept, ["checkpoints", STATE.strip_prefix("state/").unwrap()]);
    let told = run();
    assert!(told.contains(resumed) && !told.contains("WARN"), "{told}");

    // Half a file, a file of another model: told, and the run starts from what was trained.
    let good = place.text(STATE);
    let other = good.replacen("sha256:", "sha256:0", 1);
    for (damaged, what) in
        [(&good[..good.len() / 2], "not a state of a followed tail"), (&*other, "the state is of model")]
    {
        place.put(STATE, damaged);
        let told = run();
        assert!(told.contains("WARN") && told.contains("what was learned before is not used"), "{told}");
        assert!(told.contains(STATE) && told.contains(what) && !told.contains(resumed), "{told}");
        // What came since is kept.
        assert!(seen(&place) > 50e9);
    }
}

#[test]
fn a_state_folder_that_cannot_be_is_told() {
    let place = place();
    place.put("state", "");
    let output = place.run("run -c kaminari.toml");
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("ERROR") && told.contains("what is learned is forgotten at the end"), "{told}");
}
