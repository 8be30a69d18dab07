//! What is wrong with a configuration of records is told with its place, before anything runs.

use super::config;
use kaminari_tests::kaminari;

/// What `validate` says of this configuration.
fn complaint(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::write(dir.path().join("in.txt"), "1000 alpha 1\n").unwrap();
    let output = kaminari().env("COLUMNS", "200").args(["validate", "-c"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return format!("ok {said}");
    }
    assert_eq!(output.status.code(), Some(78), "{said}");
    // As one line: where a text is broken does not matter here.
    said.split_whitespace().filter(|word| !word.chars().all(|c| "│·×".contains(c))).collect::<Vec<_>>().join(" ")
}

const FILE: &str = "type = \"file\"\npaths = [\"in.txt\"]\ndecode = { plugin = \"roles\" }";
const SINK: &str = "[sinks.out]\ntype = \"stdout\"";

#[test]
fn mistakes_have_their_place() {
    let good = config(FILE, "sum = \"sum\"", SINK);
    assert!(complaint(&good).starts_with("ok"), "{}", complaint(&good));
    for (from, to, texts) in [
        // The plugin's own words, at its own key.
        ("config = { sum = \"sum\" }", "config = { summe = \"sum\" }", vec!["pipelines.p.records.extract", "summe"]),
        (
            "decode = { plugin = \"roles\" }",
            "decode = { plugin = \"roles\", config = { trap = 1 } }",
            vec!["source `in`", "trap"],
        ),
        // Names.
        (
            "decode = { plugin = \"roles\" }",
            "decode = { plugin = \"rolls\" }",
            vec!["no plugin `rolls`", "did you mean `roles`"],
        ),
        ("extract = { plugin = \"roles\"", "extract = { plugin = \"rolls\"", vec!["no plugin `rolls`"]),
        // Columns.
        (
            "features = [\"sum\", \"seen\"]",
            "features = [\"sum\", \"saw\"]",
            vec!["no numeric column `saw`", "name, sum, seen"],
        ),
        ("features = [\"sum\", \"seen\"]", "features = [\"sum\", \"name\"]", vec!["no numeric column `name`"]),
        ("entity = \"name\"", "entity = \"nam\"", vec!["no text or address column `nam`"]),
        ("feature = \"sum\", above", "feature = \"total\", above", vec!["no feature `total`"]),
        // What does not go together.
        (
            "decode = { plugin = \"roles\" }",
            "decode = { format = \"jsonl\" }",
            vec!["brings flow records", "decode = { plugin = \"NAME\" }"],
        ),
        (
            "decode = { plugin = \"roles\" }",
            "decode = { plugin = \"roles\", format = \"csv\" }",
            vec!["a `format` beside a `plugin`"],
        ),
        ("decode = { plugin = \"roles\" }", "decode = { config = { a = 1 } }", vec!["a `config` without a `plugin`"]),
        ("[pipelines.p.records]", "[pipelines.p.nothing]", vec!["nothing"]),
        ("entity = \"name\"", "level = \"src_addr\"", vec!["a level of no entity"]),
        (
            "entity = \"name\"",
            "entity = \"name\"\nlevel = \"dst_prefix\"",
            vec!["no value for `pipelines.p.records.level`"],
        ),
        (
            "sources = [\"in\"]",
            "sources = [\"in\"]\nkeys = [\"dst_addr\"]",
            vec!["a pipeline of records has no `keys`"],
        ),
        (
            "type = \"tumbling\"",
            "type = \"tumbling\", event_time = \"spread\"",
            vec!["`spread` is no value", "`record` or `received`"],
        ),
        // Grants.
        ("state = [\"seen\"]", "state = [\"\"]", vec!["no name of a bucket"]),
        ("metrics_series = 10", "metrics_series = 1000000", vec!["from 0 to 100000"]),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        let said = complaint(&text);
        for text in texts {
            assert!(said.contains(text), "{to}: {text} is not in: {said}");
        }
    }
}

#[test]
fn a_plugin_is_used_as_what_it_is() {
    let threshold = kaminari_tests::plugin("threshold");
    let more = format!("{SINK}\n[plugins.threshold]\npath = {threshold:?}");
    let good = config(FILE, "sum = \"sum\"", &more);
    for (from, to, what) in [
        ("decode = { plugin = \"roles\" }", "decode = { plugin = \"threshold\" }", "no source-decoder"),
        ("extract = { plugin = \"roles\"", "extract = { plugin = \"threshold\"", "no feature-extractor"),
    ] {
        let said = complaint(&good.replacen(from, to, 1));
        assert!(said.contains(what) && said.contains("threshold@0.1.0"), "{said}");
    }
    let syslog = kaminari_tests::plugin("syslog-source");
    let said = complaint(&good.replace(&threshold.display().to_string(), &syslog.display().to_string()).replacen(
        "plugin = \"roles\"\n         config = { feature",
        "plugin = \"threshold\"\n         config = { feature",
        1,
    ));
    assert!(said.contains("no detector, it is a source-decoder"), "{said}");
}
