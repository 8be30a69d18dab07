//! Files and cache entries that somebody has changed, and contracts that are older or newer: nothing of it is ever executed as
//! what it is not.

use super::bombs::component;
use super::*;
use kaminari::plugin::{API_VERSION, PluginHost};
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

#[test]
fn truncated_and_flipped_components_are_refused_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(component(dir.path(), "good", &[]).path).unwrap();
    let load = |bytes: &[u8], pin: Option<&str>| {
        let path = dir.path().join("changed.wasm");
        std::fs::write(&path, bytes).unwrap();
        host().load(&PluginPlan { path, id: "changed".into(), sha256: pin.map(str::to_owned), ..tight("hostile") })
    };
    let pin = load(&whole, None).unwrap().info().digest.clone();
    for cut in (0..whole.len()).step_by(whole.len() / 40) {
        let text = load(&whole[..cut], None).err().unwrap_or_else(|| panic!("cut at {cut}")).to_string();
        assert!(text.contains("plugin `changed`") && text.contains("changed.wasm"), "{text}");
    }
    let (mut taken, mut refused) = (0, 0);
    for at in (0..whole.len()).step_by(whole.len() / 60) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(load(&flipped, Some(&pin)).is_err(), "a pinned file is that file");
        // Unpinned it may be a good component, which says or does something else: within its sandbox.
        match load(&flipped, None) {
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("changed") && text.len() < 4000, "{text}");
                refused += 1;
            }
            Ok(plugin) => {
                taken += 1;
                if let Ok(mut used) = Used::of(plugin, Role::Detector, &json!({})) {
                    let _ = used.call();
                }
            }
        }
    }
    assert!(taken + refused > 50 && refused > 10, "{taken} {refused}");
}

/// A host with a cache of its own, and the entry of each of these plugins.
fn cached(dir: &std::path::Path, plans: &[&PluginPlan]) -> (Arc<PluginHost>, Vec<PathBuf>) {
    let cache = dir.join("cache");
    let host = PluginHost::new(&cache).unwrap();
    let entries = plans.iter().map(|plan| {
        let digest = host.load(plan).unwrap().info().digest.clone();
        let all = std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path());
        all.into_iter().find(|p| p.file_name().unwrap().to_string_lossy().starts_with(&digest)).unwrap()
    });
    let entries = entries.collect();
    (host, entries)
}

#[test]
fn a_tampered_entry_is_never_executed() {
    let dir = tempfile::tempdir().unwrap();
    let one = component(dir.path(), "one", &[]);
    let two = component(dir.path(), "two", &[("empty0.1.0", "other0.1.0")]);
    let (host, entries) = cached(dir.path(), &[&one, &two]);
    let good: Vec<Vec<u8>> = entries.iter().map(|e| std::fs::read(e).unwrap()).collect();
    let name = |plan: &PluginPlan| host.load(plan).unwrap().info().name.clone();
    let inodes = || entries.iter().map(|e| std::fs::symlink_metadata(e).unwrap().ino()).collect::<Vec<_>>();
    let names = || assert_eq!((&*name(&one), &*name(&two)), ("empty", "other"));
    // A whole entry is used as it is, a tampered one gives way to a new file.
    let is_used = || {
        let before = inodes();
        names();
        assert_eq!(inodes(), before, "nothing was wrong with them");
        assert!(entries.iter().all(|entry| std::fs::symlink_metadata(entry).unwrap().is_file()));
    };
    let gives_way = |what: &str| {
        let before = inodes();
        names();
        assert_ne!(inodes()[0], before[0], "{what}: compiled again");
        is_used();
    };
    is_used();
    // Swapped: each is whole, and another plugin's.
    std::fs::write(&entries[0], &good[1]).unwrap();
    std::fs::write(&entries[1], &good[0]).unwrap();
    gives_way("swapped");
    // Cut and flipped, in the checksum and in the code.
    for at in [0, 31, 32, 40, good[0].len() / 2, good[0].len() - 1] {
        let mut flipped = good[0].clone();
        flipped[at] ^= 0x10;
        std::fs::write(&entries[0], flipped).unwrap();
        gives_way("flipped");
        std::fs::write(&entries[0], &good[0][..at]).unwrap();
        gives_way("cut");
    }
    std::fs::write(&entries[0], [&good[0][..], b"more"].concat()).unwrap();
    gives_way("longer");
    // A link, even to the very same bytes.
    let aside = dir.path().join("aside");
    for target in [&good[0], &good[1]] {
        std::fs::write(&aside, target).unwrap();
        std::fs::remove_file(&entries[0]).unwrap();
        symlink(&aside, &entries[0]).unwrap();
        gives_way("a link");
        assert!(std::fs::read(&aside).unwrap() == *target, "what the link pointed to is untouched");
    }
    // One that others may write.
    std::fs::set_permissions(&entries[0], std::fs::Permissions::from_mode(0o666)).unwrap();
    gives_way("open to all");
    assert_eq!(std::fs::metadata(&entries[0]).unwrap().permissions().mode() & 0o777, 0o600);
}

/// What was thrown away is said, in a line that names the file.
#[test]
fn an_entry_that_is_thrown_away_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let one = component(dir.path(), "one", &[]);
    let config = format!(
        "[engine]\nplugin_cache_dir = \"cache\"\n[sources.in]\ntype = \"file\"\npaths = [\"none.jsonl\"]\n\
         [plugins.one]\npath = {:?}\n[detectors.d]\nplugin = \"one\"\n[sinks.out]\ntype = \"stdout\"\n\
         [pipelines.p]\nsources = [\"in\"]\nkeys = [\"dst_addr\"]\nfeatures = [\"flows\"]\ndetectors = [\"d\"]\n\
         sinks = [\"out\"]\nwindow = {{ type = \"sliding\", size_secs = 5, event_time = \"end\" }}\n",
        one.path
    );
    let file = dir.path().join("kaminari.toml");
    std::fs::write(&file, config).unwrap();
    let input = kaminari_tests::root().join("tests/scenarios/one-flooded-host/input.jsonl");
    let run = || {
        let mut command = kaminari_tests::kaminari();
        let output = command.args(["replay", "-c"]).arg(&file).arg("--input").arg(&input).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{log}");
        log
    };
    assert!(!run().contains("thrown away"));
    let entry = std::fs::read_dir(dir.path().join("cache")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&entry).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&entry, bytes).unwrap();
    let log = run();
    assert!(log.contains("WARN") && log.contains("thrown away"), "{log}");
    assert!(log.contains(entry.file_name().unwrap().to_str().unwrap()), "{log}");
    std::fs::remove_file(&entry).unwrap();
    symlink("/etc/passwd", &entry).unwrap();
    assert!(run().contains("is not trusted and thrown away"));
    assert!(!run().contains("thrown away"));
}

#[test]
fn a_plugin_of_an_older_contract_works_as_it_did() {
    let plugin = host().load(&tight("old-api")).unwrap();
    assert_eq!(plugin.info().api_version, "0.1.0");
    assert_eq!(plugin.info().roles, [Role::Detector]);
    let mut instance = plugin.instantiate("p", "{}").unwrap();
    let frame = frame(&[("flows", &[1.0, 2.0])]);
    instance.requires(&frame.batch.schema()).unwrap();
    assert_eq!(instance.detect(&frame.window, frame.batch).unwrap().scores, [1.0, 2.0]);
    assert_eq!(instance.snapshot().unwrap().as_deref(), Some(&b"old"[..]));
    instance.restore(1, b"old").unwrap();
    assert!(instance.restore(1, b"new").unwrap_err().to_string().contains("not mine"));
}

#[test]
fn a_plugin_of_a_newer_contract_is_refused_in_plain_words() {
    let dir = tempfile::tempdir().unwrap();
    let load = |name: &str, changes: &[(&str, &str)]| host().load(&component(dir.path(), name, changes));
    // A later patch that asks for nothing new.
    let later = load("later", &[("@0.1.0\"", "@0.1.9\"")]).unwrap();
    assert_eq!(later.info().api_version, "0.1.9");
    // One that does.
    let future = "(import \"kaminari:plugin/future@0.1.9\" (instance (export \"now\" (func (result u64)))))\n  (alias export $data";
    let text = load("future", &[("@0.1.0\"", "@0.1.9\""), ("(alias export $data", future)]).err().unwrap().to_string();
    for part in [
        "plugin `future`",
        "kaminari:plugin@0.1.9",
        &format!("kaminari:plugin@{API_VERSION}"),
        "kaminari:plugin/future",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // Another minor, in its exports or in one import only.
    let both = [format!("kaminari:plugin@{API_VERSION}"), "kaminari:plugin@0.2.0".into(), "rebuild it with".into()];
    for (name, changes) in [("minor", [("@0.1.0\"", "@0.2.0\"")]), ("import", [("data@0.1.0", "data@0.2.0")])] {
        let text = load(name, &changes).err().unwrap().to_string();
        assert!(both.iter().all(|part| text.contains(part)), "{text}");
    }
    // A role without `lifecycle`, and a component that is none of ours.
    let text = load("none", &[("plugin/lifecycle", "plugin/another")]).err().unwrap().to_string();
    assert!(text.contains("does not export kaminari:plugin/lifecycle"), "{text}");
    let text = load("roleless", &[("plugin/detector", "plugin/another")]).err().unwrap().to_string();
    assert!(text.contains("it has no role"), "{text}");
}
