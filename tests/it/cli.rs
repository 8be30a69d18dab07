//! The small verbs: completion, list, generate config.

use kaminari_tests::run;

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
    for verb in ["run", "validate", "decode", "replay", "generate", "list", "completion"] {
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
