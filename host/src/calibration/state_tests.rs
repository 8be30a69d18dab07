use super::*;
use crate::calibration::Tail;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn identity() -> Identity {
    Identity { pipeline: "ddos".into(), detector: "ae".into(), level: "dst_addr".into(), model: "sha256:1234".into() }
}

fn settings() -> FollowSettings {
    FollowSettings { warm_up_rows: 5000, ..FollowSettings::default() }
}

fn run(follower: &mut Follower, rng: &mut StdRng, minutes: std::ops::Range<u64>) {
    for minute in minutes {
        let scores: Vec<f64> = (0..100).map(|_| -(1.0 - rng.random::<f64>()).ln() * 1.7).collect();
        follower.observe((minute + 1) * 60_000_000_000, 100, &scores);
    }
}

fn trained() -> Follower {
    let mut rng = StdRng::seed_from_u64(1);
    let scores: Vec<f64> = (0..20_000).map(|_| -(1.0 - rng.random::<f64>()).ln()).collect();
    Follower::trained(identity(), settings(), Tail::fit(&scores, 0.14).expect("scores enough"), 144_000.0)
}

#[test]
fn a_resumed_follower_equals_one_that_never_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ae.json");
    for start in [trained(), Follower::learning(identity(), settings())] {
        // Stopped in the warm-up, and in the middle of a step.
        for stop in [20, 777] {
            let (mut whole, mut rng) = (start.clone(), StdRng::seed_from_u64(2));
            run(&mut whole, &mut rng, 0..1500);
            let (mut first, mut rng) = (start.clone(), StdRng::seed_from_u64(2));
            run(&mut first, &mut rng, 0..stop);
            first.save(&path).expect("saved");
            let mut second = Follower::load(&path, &identity(), settings()).expect("taken").expect("a file");
            assert!(second == first, "not what was saved");
            run(&mut second, &mut rng, stop..1500);
            assert!(second == whole, "stopped at {stop}: {:?}, not {:?}", second.tail(), whole.tail());
        }
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "no temporary file stays");
}

#[test]
fn no_file_is_no_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none.json");
    assert!(Follower::load(&path, &identity(), settings()).expect("no trouble").is_none());
    // A folder is not a file.
    let error = Follower::load(folder.path(), &identity(), settings()).expect_err("not a file");
    assert!(matches!(error, StateError::File { .. }), "{error}");
    let error = trained().save(&folder.path().join("missing/ae.json")).expect_err("no folder");
    assert!(error.to_string().contains("missing/ae.json"), "{error}");
}

#[test]
fn states_of_others_are_refused() {
    let text = trained().to_json();
    let refuse = |text: &str, identity: &Identity| {
        Follower::from_json(text, identity, settings()).expect_err("refused").to_string()
    };
    assert_eq!(
        refuse(&text, &Identity { model: "sha256:99".into(), ..identity() }),
        "the state is of model `sha256:1234`, not `sha256:99`"
    );
    assert_eq!(
        refuse(&text, &Identity { level: "src_addr".into(), ..identity() }),
        "the state is of level `dst_addr`, not `src_addr`"
    );
    assert_eq!(
        refuse(r#"{"version":7,"whatever":1}"#, &identity()),
        "version 7 of the state is not 1, which this engine reads"
    );
    assert!(refuse("", &identity()).starts_with("not a state of a followed tail: "));
    assert!(refuse(&text[..text.len() / 2], &identity()).starts_with("not a state of a followed tail: "));
}

#[test]
fn states_that_cannot_be_are_refused() {
    let good: serde_json::Value = serde_json::from_str(&trained().to_json()).expect("JSON");
    let refuse = |pointer: &str, value: serde_json::Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect("a field") = value;
        Follower::from_json(&bad.to_string(), &identity(), settings()).expect_err("refused").to_string()
    };
    assert_eq!(refuse("/state/rows", (-1.0).into()), "rows -1 must be a finite number, not below 0");
    assert_eq!(refuse("/state/trained/tail/scale", 0.0.into()), "trained: scale 0 must be a finite number above 0");
    assert_eq!(
        refuse("/state/trained/rows_per_day", 0.0.into()),
        "trained rows_per_day 0 must be a finite number above 0"
    );
    assert!(refuse("/state/shift", "now".into()).starts_with("not a state"));
}
