//! What a plugin knows outlives its instance: in checkpoints, and over its own faults.

use crate::plugin_files::{detector, frame, host, plan};
use kaminari::detect::{Detector, PluginDetector};
use serde_json::json;

fn counter(config: serde_json::Value) -> PluginDetector {
    detector(&host().load(&plan("counter")).unwrap(), config, &["flows"])
}

fn scores(detector: &mut PluginDetector) -> Vec<f64> {
    detector.detect(&frame(&[("flows", &[1.0, 1.0])]), 0).scores
}

#[test]
fn another_instance_goes_on_with_what_was_saved() {
    let mut first = counter(json!({}));
    assert_eq!(scores(&mut first), [1.0, 1.0]);
    assert_eq!(scores(&mut first), [2.0, 2.0]);
    let saved = first.save().unwrap();
    assert_eq!(scores(&mut first), [3.0, 3.0]);
    let mut second = counter(json!({}));
    second.restore(&saved).unwrap();
    assert_eq!(scores(&mut second), [3.0, 3.0]);
    assert_eq!(second.save(), first.save());
}

#[test]
fn a_trap_costs_what_was_learned_since_it_was_saved() {
    let mut it = counter(json!({ "trap_on_call": 4 }));
    (0..2).for_each(|_| drop(scores(&mut it)));
    it.save().unwrap();
    assert_eq!(scores(&mut it), [3.0, 3.0]);
    // The fourth call traps; a fresh instance, told of two frames, judges the same frame.
    assert_eq!(scores(&mut it), [3.0, 3.0]);
}

#[test]
fn what_is_refused_or_anothers_leaves_a_detector_that_begins_anew() {
    let mut first = counter(json!({}));
    scores(&mut first);
    let saved = first.save().unwrap();
    let mut forgetful = counter(json!({ "forgetful": true }));
    let why = forgetful.restore(&saved).unwrap_err();
    assert!(why.contains("no state of version 1 is wanted"), "{why}");
    assert_eq!(scores(&mut forgetful), [1.0, 1.0]);

    let text = String::from_utf8_lossy(&saved).replace("\"counter\"", "\"another\"");
    let why = counter(json!({})).restore(text.as_bytes()).unwrap_err();
    assert!(why.contains("the plugin \"another\""), "{why}");
    let mut damaged = counter(json!({}));
    assert!(damaged.restore(&saved[..saved.len() - 1]).is_err());
    assert_eq!(scores(&mut damaged), [1.0, 1.0]);

    let plain = host().load(&plan("spin")).unwrap();
    assert_eq!(detector(&plain, json!({ "poison": -1.0 }), &["flows"]).save(), None);
}
