//! The small verbs: completion, list, generate config; and the configurations that documents show.

use kaminari_tests::{root, run};

fn stdout<const N: usize>(args: [&str; N]) -> String {
    let output = run(args);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn completion_knows_every_verb() {
    let help = stdout(["--help"]);
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    // Verbs are indented by two; what is indented further goes on with a description.
    let verb = |line| str::strip_prefix(line, "  ").filter(|l| !l.starts_with(' ')).and_then(|l| l.split(' ').next());
    let verbs: Vec<&str> = commands.lines().take_while(|l| !l.is_empty()).filter_map(verb).collect();
    for verb in [
        "run",
        "validate",
        "diff",
        "decode",
        "replay",
        "train",
        "evaluate",
        "model",
        "plugin",
        "generate",
        "list",
        "completion",
    ] {
        assert!(verbs.contains(&verb), "{verb} is not in the help: {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(["completion", shell]);
        let words: Vec<&str> = script.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').collect();
        for verb in &verbs {
            assert!(words.contains(verb), "{shell} does not know {verb}");
        }
    }
}

#[test]
fn listed_features_have_name_unit_and_meaning() {
    let list: serde_json::Value = serde_json::from_str(&stdout(["list", "features", "--format", "json"])).unwrap();
    let features = list["features"].as_array().unwrap();
    assert!(features.len() > 20, "{}", features.len());
    for feature in features {
        for key in ["name", "unit", "description"] {
            assert!(feature[key].as_str().is_some_and(|text| !text.is_empty()), "{feature}");
        }
    }
}

#[test]
fn a_generated_configuration_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kaminari.toml");
    std::fs::write(&path, stdout(["generate", "config"])).unwrap();
    let told = stdout(["validate", "--no-environment", "--deny-warnings", "-c", path.to_str().unwrap()]);
    assert!(told.starts_with("ok: "), "{told}");
}

/// What `validate` says about the text of a configuration.
fn validated(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kaminari.toml");
    std::fs::write(&path, text).unwrap();
    let output = run(["validate", "--no-environment", "-c", path.to_str().unwrap()]);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Keys that do not go with what the example has: for the other window type, for another rule, in place of a format.
const OTHERS: [&str; 4] = ["#early_secs", "#k = ", "#plugin = \"syslog\"", "#config = { utc_offset_minutes"];

/// configs/kaminari.toml with what is commented out in force, but for `without`.
fn reference(without: &[&str]) -> String {
    let text = std::fs::read_to_string(root().join("configs/kaminari.toml")).unwrap();
    text.lines()
        .filter(|l| !without.iter().any(|key| l.starts_with(key)))
        .map(|l| {
            l.strip_prefix('#')
                .filter(|l| l.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()))
                .unwrap_or(l)
                .to_owned()
                + "\n"
        })
        .collect()
}

#[test]
fn the_reference_configuration_is_valid_with_every_key_in_force() {
    let told = validated(&reference(&OTHERS));
    assert!(told.contains("ok: 8 sources"), "{told}");
}

#[test]
fn the_reference_configuration_has_every_key_of_every_source_and_sink() {
    let reference: toml::Table = toml::from_str(&reference(&OTHERS[..2])).unwrap();
    let lists: serde_json::Value = serde_json::from_str(&stdout(["list", "--format", "json"])).unwrap();
    for section in ["sources", "sinks"] {
        for kind in lists[section].as_array().unwrap() {
            let kind = kind["type"].as_str().unwrap();
            let written = reference[section].as_table().unwrap().values().find(|t| t["type"].as_str() == Some(kind));
            let written = written.unwrap_or_else(|| panic!("no {section} of type {kind}")).as_table().unwrap();
            for (mistake, table) in [
                ("no_such = 1", Some(written)),
                ("decode = { no_such = 1 }", written.get("decode").and_then(|d| d.as_table())),
            ] {
                let Some(table) = table else { continue };
                let told = validated(&format!("[{section}.x]\ntype = \"{kind}\"\n{mistake}\n")).replace('\n', " ");
                let (_, keys) = told.split_once("valid keys: ").unwrap_or_else(|| panic!("{section} {kind}: {told}"));
                let keys: Vec<&str> = keys
                    .split('`')
                    .skip(1)
                    .step_by(2)
                    .take_while(|k| k.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
                    .collect();
                assert!(!keys.is_empty(), "{told}");
                // The decode tables of other sources refer to the one of the udp source.
                if mistake.starts_with("decode") && kind != "udp" {
                    continue;
                }
                for key in keys {
                    assert!(
                        table.contains_key(key),
                        "configs/kaminari.toml does not explain `{key}` of a {kind} in {section}"
                    );
                }
            }
        }
    }
}

/// What is effective, written out, is the same configuration: nothing is missing in it, and nothing is told otherwise.
#[test]
fn the_effective_configuration_is_the_same_one() {
    let registry = kaminari::pipeline::registry();
    let read = |text: &str| kaminari::config::parse("k.toml", text, &registry).unwrap();
    let shipped = ["minimal", "collector", "metrics", "ssh-bruteforce"]
        .map(|name| std::fs::read_to_string(root().join(format!("configs/{name}.toml"))).unwrap());
    for text in shipped.into_iter().chain([reference(&OTHERS)]) {
        let plan = read(&text);
        let written = kaminari::config::effective::effective(&plan);
        let again = read(&toml::to_string(&without_null(&written)).unwrap());
        assert_eq!(plan.engine, again.engine);
        assert_eq!(plan.api, again.api);
        assert_eq!(plan.reload, again.reload);
        assert_eq!(plan.inference, again.inference);
        assert_eq!(plan.models, again.models);
        assert_eq!(plan.plugins, again.plugins);
        assert_eq!(plan.detectors, again.detectors);
        assert_eq!(plan.pipelines, again.pipelines);
        let full = |of: &std::collections::BTreeMap<std::sync::Arc<str>, kaminari::config::Component>| {
            of.iter().map(|(id, c)| (id.clone(), c.kind, c.full.clone())).collect::<Vec<_>>()
        };
        assert_eq!(full(&plan.sources), full(&again.sources));
        assert_eq!(full(&plan.sinks), full(&again.sinks));
    }
}

/// What TOML can say: no `null`, and no table of a plugin's own where there is no plugin.
fn without_null(value: &serde_json::Value) -> serde_json::Value {
    let says = |(_, v): &(&String, &serde_json::Value)| !v.is_null() && *v != &serde_json::json!({});
    match value {
        serde_json::Value::Object(table) => {
            table.iter().filter(says).map(|(k, v)| (k.clone(), without_null(v))).collect()
        }
        serde_json::Value::Array(items) => items.iter().map(without_null).collect(),
        other => other.clone(),
    }
}

#[test]
fn the_guide_for_a_first_plugin_has_a_valid_configuration() {
    let guide = std::fs::read_to_string(root().join("docs/guide/first-plugin.md")).unwrap();
    let blocks = guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let configuration = blocks.filter(|b| b.contains("[pipelines.")).collect::<Vec<_>>();
    assert_eq!(configuration.len(), 1);
    let told = validated(configuration[0]);
    assert!(told.starts_with("ok: "), "{told}");
}

#[test]
fn detectors_take_the_configurations_of_their_readmes() {
    let features = "\"value\", \"load\", \"latency_ms\", \"flows_per_s\", \"bits_per_s\"";
    for plugin in ["likelihood", "zscore", "cusum", "half-space-trees"] {
        let text = std::fs::read_to_string(root().join(format!("plugins/{plugin}/README.md"))).unwrap();
        let block = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let built = root().join(format!("target/plugins/{plugin}.wasm"));
        let block = block.replace(&format!("\"{plugin}.wasm\""), &format!("{built:?}"));
        let config: toml::Table = toml::from_str(&block).unwrap();
        let detector = config["detectors"].as_table().unwrap().keys().next().unwrap();
        let rest = format!(
            "[sources.metric]\ntype = \"file\"\npaths = [\"x.csv\"]\n[sinks.out]\ntype = \"stdout\"\n[pipelines.metric]\n\
             sources = [\"metric\"]\nrows = {{ time = \"t\", window_secs = 60 }}\nfeatures = [{features}]\n\
             detectors = [\"{detector}\"]\nsinks = [\"out\"]\n"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kaminari.toml");
        std::fs::write(&path, block + &rest).unwrap();
        std::fs::write(dir.path().join("x.csv"), "t,value\n").unwrap();
        let told = stdout(["validate", "-c", path.to_str().unwrap()]);
        assert!(told.starts_with("ok: "), "{plugin}: {told}");
    }
}

#[test]
fn the_readme_shows_what_validate_says() {
    let text = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let golden = text("tests/config-errors/three-mistakes/expected.stderr");
    assert!(text("README.md").contains(golden.trim_end()), "README.md shows another output than the golden file");
}
