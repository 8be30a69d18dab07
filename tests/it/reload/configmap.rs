//! Triggers: files that change as editors and Kubernetes change them, signals.

use super::{Config, Engine};
use std::os::unix::fs::symlink;
use std::path::Path;

/// As kubelet writes a ConfigMap: a folder of its own for each version, and `..data` that points to one of them.
fn publish(mount: &Path, version: usize, config: &str) {
    let folder = format!("..2026_11_29_{version}");
    std::fs::create_dir(mount.join(&folder)).unwrap();
    std::fs::write(mount.join(&folder).join("kaminari.toml"), config).unwrap();
    symlink(&folder, mount.join("..data_tmp")).unwrap();
    std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    if version > 0 {
        std::fs::remove_dir_all(mount.join(format!("..2026_11_29_{}", version - 1))).unwrap();
    }
}

#[test]
fn a_configmap_that_is_swapped_three_times_is_taken_up_three_times() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("etc");
    std::fs::create_dir(&mount).unwrap();
    let config = |above: f64| Config::limit(above).text().replace("incidents.jsonl", "../incidents.jsonl");
    publish(&mount, 0, &config(1000.0));
    symlink("..data/kaminari.toml", mount.join("kaminari.toml")).unwrap();
    let engine = Engine::start_with(dir.path(), &mount.join("kaminari.toml"), &["--watch"]);
    let mut digests = vec![engine.digest()];
    for version in 1..=3 {
        publish(&mount, version, &config(1000.0 + version as f64));
        let report = engine.reported("applied", version);
        assert_eq!(
            (&report["trigger"], &report["old_digest"]),
            (&"watch".into(), &digests[version - 1].as_str().into())
        );
        let digest = engine.digest();
        assert_eq!(report["new_digest"], digest);
        assert!(!digests.contains(&digest), "{digests:?}");
        digests.push(digest);
    }
    let reports = engine.ask("GET", "/api/v1/reloads").1;
    assert_eq!(reports.as_array().unwrap().len(), 3, "{reports:#}");
    assert_eq!(engine.metric("kaminari_config_last_reload_successful", &[]), 1.0);
    assert_eq!(engine.metric("kaminari_config_info", &[&digests[3]]), 1.0, "and no other");
    assert_eq!(engine.metric("kaminari_config_info", &[]), 1.0);
}

#[test]
fn a_broken_file_is_told_once_and_the_plan_goes_on_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(dir.path(), &Config::limit(1000.0).text(), &["--watch"]);
    let first = engine.digest();
    engine.write(&Config::limit(1001.0).text().replace("plugin = \"threshold\"", "plugin = \"treshold\""));
    let report = engine.reported("refused", 1);
    assert_eq!((&report["step"], engine.digest()), (&"read".into(), first.clone()));
    assert_eq!(engine.metric("kaminari_config_last_reload_successful", &[]), 0.0);
    let errors = report["errors"].to_string();
    assert!(errors.contains("kaminari.toml:") && errors.contains("treshold"), "{errors}");
    engine.write(&Config::limit(1002.0).text());
    engine.reported("applied", 1);
    assert_ne!(engine.digest(), first);
    assert_eq!(engine.metric("kaminari_config_last_reload_successful", &[]), 1.0);
    assert_eq!(engine.metric("kaminari_config_reloads_total", &["outcome=\"refused\""]), 1.0);
}

#[test]
fn a_plugin_that_is_built_anew_is_taken_up_and_sighup_asks_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tally.wasm");
    std::fs::copy(kaminari_tests::plugin("tally-1"), &file).unwrap();
    let mut config = Config::limit(1000.0);
    config.plugins += &format!("\n[plugins.tally]\npath = {file:?}");
    config.detectors += "\n[detectors.tally]\nplugin = \"tally\"";
    config.names = "\"limits\", \"tally\"";
    let engine = Engine::start(dir.path(), &config.text(), &["--watch"]);
    assert_eq!(engine.metric("kaminari_plugin_info", &["plugin=\"tally\"", "version=\"1."]), 1.0);
    let aside = dir.path().join("tally.new");
    std::fs::copy(kaminari_tests::plugin("tally-2"), &aside).unwrap();
    std::fs::rename(aside, &file).unwrap();
    engine.reported("applied", 1);
    assert_eq!(engine.metric("kaminari_plugin_info", &["plugin=\"tally\"", "version=\"2."]), 1.0);
    assert_eq!(engine.metric("kaminari_plugin_info", &["plugin=\"tally\""]), 1.0, "the old one is not told any more");

    // Without a watch: a signal.
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(dir.path(), &Config::limit(1000.0).text(), &[]);
    let before = engine.digest();
    engine.write(&Config::limit(2000.0).text());
    engine.signal("-HUP");
    assert_eq!(engine.reported("applied", 1)["trigger"], "signal");
    assert_ne!(engine.digest(), before);
}
