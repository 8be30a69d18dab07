//! What the host makes of plugin files: pins, versions of the contract, damaged files, the compiled cache. And the
//! threshold plugin through its sandbox.

use arrow_array::{ArrayRef, FixedSizeBinaryArray, Float64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use kaminari::config::{DetectorPlan, FollowPlan, PluginLimits, PluginPlan};
use kaminari::detect::{Detector, Offer, PluginDetector};
use kaminari::model::{Addr, EntityKey, FeatureFrame, KeyKind, Severity, WindowInfo};
use kaminari::plugin::{API_VERSION, LoadedPlugin, PluginError, PluginHost};
use std::sync::{Arc, LazyLock};

/// One engine and one cache for all tests.
pub fn host() -> &'static PluginHost {
    static HOST: LazyLock<(tempfile::TempDir, Arc<PluginHost>)> = LazyLock::new(|| {
        let dir = tempfile::tempdir().unwrap();
        let host = PluginHost::new(&dir.path().join("cache")).unwrap();
        (dir, host)
    });
    &HOST.1
}

pub fn plan(name: &str) -> PluginPlan {
    let path = kaminari_tests::plugin(name);
    PluginPlan {
        id: name.into(),
        path,
        sha256: None,
        inference: Vec::new(),
        state: Vec::new(),
        metrics_series: 0,
        limits: PluginLimits::default(),
    }
}

pub fn detector(plugin: &Arc<LoadedPlugin>, config: serde_json::Value, features: &[&str]) -> PluginDetector {
    let plan = DetectorPlan {
        id: "d".into(),
        plugin: plugin.id().clone(),
        keys: None,
        config,
        follow: FOLLOW,
        on_state_mismatch: Default::default(),
    };
    PluginDetector::new(plugin.clone(), &plan, &offer(features), &Arc::default()).unwrap()
}

/// As a config without a `calibration` table has it.
pub const FOLLOW: FollowPlan = FollowPlan { follow: true, max_shift: 1.25, warm_up_rows: 20_000 };

/// A pipeline of hosts in windows of 10 s.
pub fn offer(features: &[&str]) -> Offer {
    let schema = Arc::new(schema(features));
    Offer { pipeline: "p".into(), schema, window_secs: 10.0, levels: vec![KeyKind::DstAddr] }
}

fn schema(features: &[&str]) -> Schema {
    let key = Field::new("key", DataType::FixedSizeBinary(21), false);
    let features = features.iter().map(|f| Field::new(*f, DataType::Float64, false));
    Schema::new(std::iter::once(key).chain(features).collect::<Vec<_>>())
}

/// A frame of hosts 10.0.0.0, 10.0.0.1 and so on.
pub fn frame(features: &[(&str, &[f64])]) -> FeatureFrame {
    let rows = features[0].1.len();
    let keys: Vec<EntityKey> = (0..rows as u32)
        .map(|i| EntityKey {
            kind: KeyKind::DstAddr,
            addr: Addr::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + i))),
            extra: 0,
        })
        .collect();
    let key = FixedSizeBinaryArray::try_from_iter(keys.iter().map(|k| k.to_bytes())).unwrap();
    let mut columns: Vec<ArrayRef> = vec![Arc::new(key)];
    columns.extend(features.iter().map(|(_, v)| Arc::new(Float64Array::from(v.to_vec())) as ArrayRef));
    let names: Vec<_> = features.iter().map(|(n, _)| *n).collect();
    let batch = RecordBatch::try_new(Arc::new(schema(&names)), columns).unwrap();
    let window =
        WindowInfo { start_ns: 0, end_ns: 10_000_000_000, revision: 0, watermark_ns: 10_000_000_000, partial: false };
    FeatureFrame { window, kind: KeyKind::DstAddr, keys, batch }
}

#[test]
fn a_plugin_says_who_it_is() {
    let plugin = host().load(&plan("threshold")).unwrap();
    let info = plugin.info();
    assert_eq!((&*info.name, &*info.version, &*info.api_version), ("threshold", "0.1.0", API_VERSION));
    assert_eq!((plugin.label().as_ref(), info.digest.len()), ("threshold@0.1.0", 64));
    let schema: serde_json::Value = serde_json::from_str(&info.config_schema).unwrap();
    assert!(schema["properties"]["adaptive"].is_object(), "{schema}");
}

#[test]
fn another_contract_is_refused_with_both_versions() {
    let error = host().load(&plan("bad-version")).err().expect("refused");
    assert!(matches!(error, PluginError::ApiVersion { .. }), "{error}");
    let text = error.to_string();
    for part in
        ["plugin `bad-version`", "kaminari:plugin@0.2.0", &format!("kaminari:plugin@{API_VERSION}"), "rebuild it with"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_file_that_is_not_what_the_config_pins_is_refused() {
    let good = host().load(&plan("threshold")).unwrap().info().digest.clone();
    host().load(&PluginPlan { sha256: Some(good.clone()), ..plan("threshold") }).expect("the right pin");
    let pinned = "0".repeat(64);
    let error = host().load(&PluginPlan { sha256: Some(pinned.clone()), ..plan("threshold") }).err().expect("refused");
    let text = error.to_string();
    assert!(text.contains(&pinned) && text.contains(&good) && text.contains("plugins.threshold.sha256"), "{text}");
}

#[test]
fn a_truncated_or_foreign_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(kaminari_tests::plugin("threshold")).unwrap();
    let core_module = b"\0asm\x01\0\0\0";
    for (name, bytes) in [("half", &whole[..whole.len() / 2]), ("text", b"hello"), ("core", core_module), ("none", b"")]
    {
        let path = dir.path().join(format!("{name}.wasm"));
        std::fs::write(&path, bytes).unwrap();
        let error = host().load(&PluginPlan { path, id: name.into(), ..plan("threshold") }).err().expect(name);
        assert!(matches!(error, PluginError::NotAComponent { .. }), "{name}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("plugin `{name}`")) && text.contains("wasm32-wasip2"), "{text}");
    }
    let missing = PluginPlan { path: dir.path().join("nowhere.wasm"), ..plan("threshold") };
    assert!(matches!(host().load(&missing), Err(PluginError::Read { .. })));
}

#[test]
fn a_damaged_cache_entry_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let host = PluginHost::new(&cache).unwrap();
    host.load(&plan("trap")).unwrap();
    let entries = || std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let [entry] = &entries()[..] else { panic!("one entry: {:?}", entries()) };
    let good = std::fs::read(entry).unwrap();

    // As it is, it is used and not written again.
    let written = std::fs::metadata(entry).unwrap().modified().unwrap();
    host.load(&plan("trap")).unwrap();
    assert_eq!(std::fs::metadata(entry).unwrap().modified().unwrap(), written);

    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for damaged in [&good[..good.len() / 2], &good[..10], &[], &flipped] {
        std::fs::write(entry, damaged).unwrap();
        host.load(&plan("trap")).unwrap();
        // The compiler does not give the same bytes each time.
        assert_eq!(std::fs::metadata(entry).unwrap().len(), good.len() as u64, "rebuilt, whole");
        assert!(std::fs::read(entry).unwrap() != damaged);
        assert_eq!(entries().len(), 1, "nothing else is left lying about");
    }
}

#[test]
fn the_threshold_plugin_alerts_through_its_sandbox() {
    let plugin = host().load(&plan("threshold")).unwrap();
    let config = serde_json::json!({ "limits": [{
        "name": "udp-amplification", "feature": "packets_per_s", "above": 20000.0, "severity": "high",
        "when": [{ "feature": "amp_port_share", "above": 0.5 }],
    }] });
    let names = ["packets_per_s", "amp_port_share"];
    let mut detector = detector(&plugin, config, &names);
    // More rows than one call takes.
    let mut packets = vec![100.0; 20_000];
    packets[10_000] = 50_000.0;
    let shares = vec![0.9; 20_000];
    let frame = frame(&[(names[0], &packets), (names[1], &shares)]);
    let judged = detector.detect(&frame, 0);
    assert_eq!(judged.scores.len(), 20_000);
    assert_eq!((judged.scores[9_999], judged.scores[10_000]), (0.005, 2.5));
    let [found] = &judged.detections[..] else { panic!("{:?}", judged.detections) };
    assert_eq!((found.key, found.alert.row), (frame.keys[10_000], 10_000));
    assert_eq!((&*found.detector, &*found.plugin), ("d", "threshold@0.1.0"));
    assert_eq!((&*found.alert.kind, found.alert.severity), ("udp-amplification", Severity::High));
    assert_eq!((found.feature("packets_per_s"), found.feature("amp_port_share")), (Some(50_000.0), Some(0.9)));
    let told = &found.alert.contributions[0];
    assert_eq!((&*told.column, told.observed, told.expected), ("packets_per_s", 50_000.0, 20_000.0));
}

#[test]
fn a_missing_feature_is_told_before_the_first_window() {
    let plugin = host().load(&plan("threshold")).unwrap();
    let config = serde_json::json!({ "limits": [{ "name": "a", "feature": "packets_per_s", "above": 1.0 }] });
    let plan = DetectorPlan {
        id: "d".into(),
        plugin: "threshold".into(),
        keys: None,
        config,
        follow: FOLLOW,
        on_state_mismatch: Default::default(),
    };
    let error =
        PluginDetector::new(plugin, &plan, &offer(&["packets", "bytes"]), &Arc::default()).err().expect("refused");
    assert_eq!(
        error.to_string(),
        "detector `d`: plugin threshold@0.1.0: `requires` answered: bad config at `limits[0].feature`: \
         the pipeline has no feature `packets_per_s`; it has packets, bytes"
    );
}

#[test]
fn alerts_over_the_limit_are_cut() {
    let mut plan = plan("threshold");
    plan.limits.alerts_per_call = 3;
    let plugin = host().load(&plan).unwrap();
    let config = serde_json::json!({ "limits": [{ "name": "a", "feature": "x", "above": 1.0 }] });
    let mut detector = detector(&plugin, config, &["x"]);
    assert_eq!(detector.detect(&frame(&[("x", &[2.0; 10])]), 0).detections.len(), 3);
}

#[test]
fn an_instance_serves_any_number_of_frames() {
    let plugin = host().load(&plan("threshold")).unwrap();
    let config = serde_json::json!({ "limits": [{ "name": "a", "feature": "x", "above": 1.0 }] });
    let mut instance = plugin.instantiate("p", &config.to_string()).unwrap();
    let frame = frame(&[("x", &[2.0; 10])]);
    for call in 0..2000 {
        let verdict = instance.detect(&frame.window, frame.batch.clone());
        assert_eq!(verdict.unwrap_or_else(|e| panic!("call {call}: {e}")).alerts.len(), 10);
    }
}

#[test]
fn as_many_entities_as_remembered_by_default_fit_the_default_memory() {
    let plugin = host().load(&plan("threshold")).unwrap();
    let config = serde_json::json!({ "adaptive": [{ "name": "a", "feature": "x", "warm_up_windows": 2 }] });
    let mut detector = detector(&plugin, config, &["x"]);
    let frame = frame(&[("x", &vec![1.0; 100_000])]);
    let unknown = |scores: &[f64]| scores.iter().filter(|s| s.is_nan()).count();
    for _ in 0..2 {
        assert_eq!(unknown(&detector.detect(&frame, 0).scores), 100_000, "warming up");
    }
    let judged = detector.detect(&frame, 0);
    assert_eq!(judged.scores.len(), 100_000);
    assert_eq!(unknown(&judged.scores), 0, "the state of one instance outlived three windows");
}
