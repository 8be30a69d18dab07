//! Answers that make no sense, and handles that are none.

use super::*;
use crate::plugin_faults::metered;
use arrow_array::Array as _;
use kaminari::decode::PluginDecoder;
use serde_json::json;

fn refused(role: Role, what: &str, call: &str, said: &str) {
    metered(|metrics| {
        let mut used = Used::new(&tight("hostile"), role, &does(what, call)).unwrap();
        let (reason, text) = used.fails();
        assert_eq!(reason, "refused", "{text}");
        let expected = format!("plugin hostile@0.1.0: `{call}` returned what is refused: {said}");
        assert!(text.starts_with(&expected), "{expected:?} in {text}");
        assert!(text.len() < 2000, "{}", text.len());
        assert_eq!(counted(metrics, "hostile", "calls_total", ",outcome=\"refused\""), 1.0, "not tried again");
        assert_eq!(counted(metrics, "hostile", "restarts_total", ""), 0.0, "the instance stays");
        assert_eq!(counted(metrics, "hostile", "dead_lettered_rows_total", ",reason=\"refused\""), ROWS as f64);
    });
}

#[test]
fn results_of_another_shape_are_refused_as_a_whole() {
    refused(Role::Detector, "short-scores", "detect", "2 scores for 3 rows");
    refused(Role::Detector, "long-scores", "detect", "4 scores for 3 rows");
    refused(
        Role::SourceDecoder,
        "other-columns",
        "decode",
        "rows that are not as declared: the columns time Utf8 instead of ",
    );
    refused(Role::SourceDecoder, "reject-beyond", "decode", "a refusal of frame 3 of 3");
    refused(Role::SourceDecoder, "million-rejects", "decode", "frame 0 is refused twice");
    refused(Role::FeatureExtractor, "other-columns", "extract", "features that are not those agreed at plan time: ");
}

#[test]
fn a_time_column_that_is_none_is_refused_at_the_start() {
    let refused = Used::new(&tight("hostile"), Role::SourceDecoder, &does("no-column", "time-column")).err().unwrap();
    assert!(refused.to_string().contains("\"never\" is no timestamp-ns column"), "{refused}");
}

#[test]
fn nulls_where_none_were_declared_are_refused() {
    let mut used = Used::new(&tight("hostile-raw"), Role::SourceDecoder, &json!({})).unwrap();
    let (reason, text) = used.fails();
    assert_eq!(reason, "refused");
    assert!(text.contains("rows that are not as declared") && text.contains("null"), "{text}");
}

#[test]
fn odd_scores_pass_and_odd_alerts_are_counted() {
    metered(|metrics| {
        let mut used = Used::new(&tight("hostile"), Role::Detector, &does("odd-scores", "detect")).unwrap();
        let verdict = used.judges();
        assert!(verdict.scores[0].is_nan() && verdict.scores[1] == f64::INFINITY);
        assert_eq!(verdict.alerts.len(), 3, "those with a score that is a number");
        let count = |why: &str| counted(metrics, "hostile", "alerts_refused_total", &format!(",reason=\"{why}\""));
        assert_eq!(count("score"), 3.0);
        let mut used = Used::new(&tight("hostile"), Role::Detector, &does("alert-beyond", "detect")).unwrap();
        assert!(used.judges().alerts.is_empty());
        assert_eq!(count("row"), 2.0);
    });
}

#[test]
fn times_that_are_none_are_those_of_the_frames() {
    let plugin = host().load(&tight("hostile")).unwrap();
    let config = does("odd-times", "decode").as_object().unwrap().clone();
    let mut decoder = PluginDecoder::new(plugin, &"s".into(), &config).unwrap();
    let (mut out, mut refused) = (Vec::new(), Vec::new());
    let mut input = lines();
    input.push(b"4 a 4", NO_PEER, 9_000_000_000);
    decoder.decode(&input, &input.frames, "test", &mut out, &mut refused);
    let far = i64::MAX as u64;
    assert_eq!(out[0].times, [far, 9_000_000_000, 9_000_000_000, 4_000_000_000]);
    assert_eq!(out[0].batch.column(0).logical_null_count(), 1);
    assert!(refused.is_empty());
}

/// What a plugin does to builders and handles; `said`: what the host answers, which it tells.
fn raw(what: &str, said: &str) {
    let mut used = Used::new(&tight("hostile-raw"), Role::Detector, &json!({ "do": what })).unwrap();
    let (reason, text) = used.fails();
    assert_eq!(reason, "error", "{what}: {text}");
    let expected = format!("plugin hostile-raw@0.1.0: `detect` answered: refused: {said}");
    assert!(text.starts_with(&expected), "{what}: {expected:?} in {text}");
}

#[test]
fn builders_check_what_is_put() {
    raw("lengths", "Invalid argument error: all columns in a record batch must have the same length");
    raw("falling-ends", "column `b`: `ends` must rise");
    raw("ends-beyond", "column `b`: `ends` must rise and stay within the data");
    raw("no-text", "column `b`: ");
    raw("half-an-address", "column `ip`: addresses are 16 bytes each");
    raw("no-column", "no column 4294967295");
    raw("no-builder-column", "no column 2");
    raw("many-columns", "more columns asked for than there are");
    raw("long-names", "names and metadata of a batch's columns are more than");
    raw("wide", "it would take ");
}

#[test]
fn handles_that_are_none_are_traps() {
    for what in ["forged-handle", "used-after-free", "hoard-handles"] {
        let mut used = Used::new(&tight("hostile-raw"), Role::Detector, &json!({ "do": what })).unwrap();
        let (reason, text) = used.fails();
        assert_eq!(reason, "trap", "{what}: {text}");
        assert!(text.starts_with("plugin hostile-raw@0.1.0: `detect` trapped: "), "{text}");
    }
    others_go_on();
}

#[test]
fn batches_that_a_plugin_keeps_are_its_memory() {
    let plugin = host().load(&tight("hostile-raw")).unwrap();
    let mut instance = plugin.instantiate("p", &json!({ "do": "keep" }).to_string()).unwrap();
    let large = frame(&[("sum", &vec![1.0; 1 << 20])]);
    // Each is some 30 MB: key and value of a million rows.
    let kept = (0..10).find_map(|call| Some((call, instance.detect(&large.window, large.batch.clone()).err()?)));
    let (call, error) = kept.expect("it may not keep them all");
    assert!((1..4).contains(&call), "after {call} calls");
    assert!(error.to_string().contains("keeps parts of batches that it was lent"), "{error}");
    assert!(error.kind.is_fatal(), "and is given back with the instance");
}
