use super::*;
use kaminari_plugin_sdk::testing::{self, Value, json};
use proptest::prelude::*;

fn batch() -> Batch {
    testing::batch()
        .texts("host", ["a", "b", "a", "a", ""])
        .texts(
            "message",
            ["from 192.0.2.1 failed", "ok", "from 192.0.2.2 failed", "from 192.0.2.1 failed", "from x failed"],
        )
        .f64s("value", [1.0, 2.0, f64::NAN, 5.0, 9.0])
        .build()
}

fn extract(config: Value) -> Result<Batch> {
    testing::extract::<Aggregate>(config, &testing::window(0, 10), &batch())
}

fn texts(batch: &Batch, name: &str) -> Vec<String> {
    let column = batch.bytes(name).unwrap();
    (0..batch.len()).map(|row| String::from_utf8(column.get(row).unwrap().to_vec()).unwrap()).collect()
}

#[test]
fn every_kind_of_feature() {
    let feature = |of: &str, column: Option<&str>| json!({ "name": of, "of": of, "column": column });
    let of = ["sum", "mean", "min", "max", "first", "last", "distinct"].map(|of| feature(of, Some("value")));
    let features: Vec<Value> = [feature("count", None), feature("rate", None)].into_iter().chain(of).collect();
    let out = extract(json!({ "entity": { "name": "who", "column": "host" }, "features": features })).unwrap();
    assert_eq!(texts(&out, "who"), ["a", "b"], "a row without a host is about nobody");
    let of_a = |name: &str| out.f64s(name).unwrap()[0];
    assert_eq!((of_a("count"), of_a("rate"), of_a("sum"), of_a("mean")), (3.0, 0.3, 6.0, 3.0));
    assert_eq!((of_a("min"), of_a("max"), of_a("first"), of_a("last"), of_a("distinct")), (1.0, 5.0, 1.0, 5.0, 2.0));
}

#[test]
fn an_entity_in_a_text_and_rows_that_match() {
    let config = json!({
        "entity": { "name": "src", "column": "message", "pattern": r"from (\d+\.\d+\.\d+\.\d+)" },
        "features": [
            { "name": "failures", "of": "count", "where": [{ "column": "message", "matches": "failed" }] },
            { "name": "of_a", "of": "count", "where": [{ "column": "host", "equals": ["a"] }, { "column": "value", "above": 1.0 }] },
        ],
    });
    let out = extract(config).unwrap();
    assert_eq!(texts(&out, "src"), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(&*out.f64s("failures").unwrap(), [2.0, 1.0]);
    assert_eq!(&*out.f64s("of_a").unwrap(), [1.0, 0.0], "not a number is not above");
    assert_eq!(testing::take_metrics(), ["add rows_without_entity{} 2"]);
}

#[test]
fn without_an_entity_all_rows_are_one() {
    let out = extract(json!({
        "where": [{ "column": "value", "below": 9.0 }],
        "features": [{ "name": "hosts", "of": "distinct", "column": "host" }, { "name": "n", "of": "count" }],
    }));
    let out = out.unwrap();
    assert_eq!((out.len(), out.f64s("hosts").unwrap()[0], out.f64s("n").unwrap()[0]), (1, 2.0, 3.0));
}

#[test]
fn mistakes_are_told_by_their_key() {
    let count = json!([{ "name": "n", "of": "count" }]);
    let rule = |rule: Value| json!({ "where": [rule], "features": count });
    for (config, text) in [
        (json!({ "features": [] }), "`features`: name at least one"),
        (json!({ "features": [{ "name": "n", "of": "median" }] }), "features[0].of"),
        (json!({ "features": [{ "name": "n", "of": "sum" }] }), "`features[0]`: add the `column`"),
        (json!({ "features": [{ "name": "n", "of": "count", "column": "value" }] }), "`features[0].column`"),
        (json!({ "features": [{ "name": "n", "of": "count" }, { "name": "n", "of": "rate" }] }), "`features[1].name`"),
        (json!({ "features": [{ "name": "n", "of": "sum", "column": "host" }] }), "`host` is no number"),
        (json!({ "features": [{ "name": "n", "of": "sum", "column": "bytes" }] }), "they have host, message, value"),
        (json!({ "entity": { "name": "e", "column": "value" }, "features": count }), "`value` is no text"),
        (json!({ "entity": { "name": "e", "column": "host", "pattern": "x" }, "features": count }), "it needs a group"),
        (json!({ "entity": { "name": "e", "column": "host", "pattern": "(" }, "features": count }), "`entity.pattern`"),
        (rule(json!({ "column": "host" })), "`where[0]`: write one of"),
        (rule(json!({ "column": "host", "matches": "a", "above": 1.0 })), "`where[0]`: write one of"),
        (rule(json!({ "column": "host", "above": 1.0 })), "`host` is no number"),
        (rule(json!({ "column": "value", "matches": "1" })), "use `above` and `below`"),
    ] {
        let error = extract(config.clone()).err().unwrap_or_else(|| panic!("{config} is refused")).to_string();
        assert!(error.contains(text), "{config}: {error}");
    }
}

proptest! {
    /// Counts of all entities add up to the rows that have one, and sums to what they have.
    #[test]
    fn nothing_is_lost(rows in prop::collection::vec(("[ab]{0,1}", -100i32..100), 0..50)) {
        let batch = testing::batch()
            .texts("k", rows.iter().map(|(k, _)| k.as_str()))
            .f64s("x", rows.iter().map(|(_, x)| f64::from(*x)).collect::<Vec<_>>())
            .build();
        let config = json!({ "entity": { "name": "k", "column": "k" }, "features": [
            { "name": "n", "of": "count" }, { "name": "s", "of": "sum", "column": "x" },
        ] });
        let out = testing::extract::<Aggregate>(config, &testing::window(0, 1), &batch).unwrap();
        let with: Vec<i32> = rows.iter().filter(|(k, _)| !k.is_empty()).map(|(_, x)| *x).collect();
        prop_assert_eq!(out.f64s("n").unwrap().iter().sum::<f64>(), with.len() as f64);
        prop_assert_eq!(out.f64s("s").unwrap().iter().sum::<f64>(), f64::from(with.iter().sum::<i32>()));
        testing::take_metrics();
    }
}
