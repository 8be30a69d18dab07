//! Text in, plan or complaints out, against a small registry.

use super::*;
use crate::model::KeyKind;
use crate::model::time::SECOND;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // only its shape matters
pub(super) struct Udp {
    listen: SocketAddr,
    #[serde(default)]
    workers: u8,
    #[serde(default)]
    exporters: Vec<IpAddr>,
    #[serde(default)]
    sampling: Vec<Sampling>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // as above
pub(super) struct Sampling {
    exporter: IpAddr,
    rate: u32,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // as above
struct File {
    path: PathBuf,
    #[serde(default)]
    decode: toml::Table,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // as above
struct Stdout {
    #[serde(default)]
    pretty: bool,
}

pub(super) static REGISTRY: Registry = Registry {
    sources: &[
        ComponentDef::new::<Udp>("udp", "datagrams", "listen = \"127.0.0.1:2055\""),
        ComponentDef::new::<File>("file", "a file", "path = \"x\"").with_paths(&["path"]),
        ComponentDef::new::<File>("tail", "a file that grows", "path = \"x\"").with_paths(&["path"]),
    ],
    sinks: &[ComponentDef::new::<Stdout>("stdout", "lines", "")],
    features: &[
        FeatureDef { name: "flows", unit: "1", description: "" },
        FeatureDef { name: "bytes", unit: "byte", description: "" },
        FeatureDef { name: "packets", unit: "1", description: "" },
        FeatureDef { name: "bits_per_s", unit: "bit/s", description: "" },
        FeatureDef { name: "packets_per_s", unit: "1/s", description: "" },
        FeatureDef { name: "rel_flows", unit: "ln", description: "" },
        FeatureDef { name: "rel_uniq_src", unit: "ln", description: "" },
    ],
};

pub(super) const GOOD: &str = r#"
[sources.edge]
type = "udp"
listen = "127.0.0.1:2055"

[plugins.threshold]
path = "plugins/threshold.wasm"

[detectors.limits]
plugin = "threshold"
config = { limits = [ { feature = "packets_per_s", above = 20000.0 } ] }

[pipelines.ddos]
sources = ["edge"]
keys = ["dst_addr", "dst_prefix"]
features = ["bits_per_s", "packets_per_s"]
detectors = ["limits"]
sinks = ["out"]

[pipelines.ddos.window]
type = "sliding"
size_secs = 10

[sinks.out]
type = "stdout"
"#;

/// `GOOD` with one piece of text replaced.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    GOOD.replacen(old, new, 1)
}

/// Code, line, column and marked text of every error (not warnings).
pub(super) fn complaints(text: &str) -> Vec<(String, usize, usize, String)> {
    let errors = match parse("k.toml", text, &REGISTRY) {
        Ok(_) => return Vec::new(),
        Err(errors) => errors.0,
    };
    let errors = errors.into_iter().filter(|d| !d.is_warning());
    errors
        .map(|d| {
            let (_, line, column, marked) = d.place().unwrap_or(("", 0, 0, ""));
            let code = d.full_code().trim_start_matches("kaminari::config::").to_owned();
            (code, line, column, marked.to_owned())
        })
        .collect()
}

/// The only complaint's code and marked text.
fn only(text: &str) -> (String, String) {
    let all = complaints(text);
    assert_eq!(all.len(), 1, "{all:?}");
    (all[0].0.clone(), all[0].3.clone())
}

fn pair(code: &str, marked: &str) -> (String, String) {
    (code.to_owned(), marked.to_owned())
}

#[test]
fn defaults_are_filled_in() {
    let plan = parse("conf/k.toml", GOOD, &REGISTRY).unwrap();
    assert!(plan.places.warnings().is_empty(), "{:?}", plan.places.warnings());
    assert!(!plan.api.enabled);
    assert_eq!(plan.api.listen, "127.0.0.1:9977".parse().unwrap());
    assert!((1..=4).contains(&plan.engine.window_workers));
    assert!(plan.engine.plugin_cache_dir.ends_with("kaminari"));
    let plugin = &plan.plugins["threshold"];
    assert_eq!(plugin.path, Path::new("conf/plugins/threshold.wasm"));
    assert_eq!(plugin.limits, PluginLimits::default());
    assert_eq!(plan.detectors["limits"].config["limits"][0]["above"], 20000.0);
    let pipeline = &plan.pipelines["ddos"];
    assert_eq!(pipeline.features, ["bits_per_s", "packets_per_s", "flows", "bytes", "packets"]);
    assert_eq!(pipeline.keys.iter().map(|k| (k.v4_prefix, k.v6_prefix)).collect::<Vec<_>>(), [(24, 64); 2]);
    assert_eq!(pipeline.mode, Mode::Alert);
    let window = WindowPlan {
        kind: WindowKind::Sliding,
        size_ns: 10 * SECOND,
        pane_ns: SECOND,
        event_time: EventTime::Received,
        max_spread_ns: 120 * SECOND,
        out_of_order_ns: 0,
        allowed_lateness_ns: 0,
        idle_timeout_ns: 5 * SECOND,
        max_future_ns: 10 * SECOND,
        max_keys: 1_000_000,
    };
    assert_eq!(pipeline.window, window);
    assert_eq!((pipeline.incident.open_m, pipeline.incident.open_n, pipeline.incident.close_after_windows), (2, 3, 10));
}

#[test]
fn defaults_depend_on_what_they_belong_to() {
    let plan = |text: &str| parse("k.toml", text, &REGISTRY).unwrap();
    let window = |text: &str| plan(text).pipelines["ddos"].window;
    assert_eq!(window(&with("size_secs = 10", "size_secs = 10\nevent_time = \"end\"")).out_of_order_ns, 5 * SECOND);
    let tumbling = with("sliding", "tumbling");
    assert_eq!(window(&tumbling).pane_ns, 10 * SECOND);
    assert_eq!(window(&tumbling.replace("size_secs = 10", "size_secs = 1.5\nearly_secs = 0.5")).pane_ns, SECOND / 2);
    assert!(plan(&format!("{GOOD}[api]\n")).api.enabled);
    assert!(!plan(&format!("{GOOD}[api]\nenabled = false\n")).api.enabled);
}

#[test]
fn a_component_reads_its_own_body() {
    let plan = parse("k.toml", GOOD, &REGISTRY).unwrap();
    let udp: Udp = plan.sources["edge"].config().unwrap();
    assert_eq!(udp.listen, "127.0.0.1:2055".parse().unwrap());
    let error = plan.sources["edge"].config::<Stdout>().unwrap_err().to_string();
    assert!(error.starts_with("edge (udp): unknown field `listen`"), "{error}");
}

#[test]
fn paths_start_from_the_folder_of_their_file() {
    let text = with("type = \"udp\"\nlisten = \"127.0.0.1:2055\"", "type = \"file\"\npath = \"flows.pcap\"");
    let plan = parse("a/b/k.toml", &text, &REGISTRY).unwrap();
    assert_eq!(plan.sources["edge"].body["path"].as_str(), Some("a/b/flows.pcap"));
    let plan = parse("a/b/k.toml", &text.replace("flows.pcap", "/data/flows.pcap"), &REGISTRY).unwrap();
    assert_eq!(plan.sources["edge"].body["path"].as_str(), Some("/data/flows.pcap"));
}

#[test]
fn files_are_merged_and_a_table_stands_in_one_only() {
    let (first, second) = GOOD.split_once("[pipelines.ddos]").unwrap();
    let second = format!("[pipelines.ddos]{second}");
    let files = |a: &str, b: &str| {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a.toml"), folder.path().join("b.toml")];
        std::fs::write(&paths[0], a).unwrap();
        std::fs::write(&paths[1], b).unwrap();
        load(&paths, &REGISTRY)
    };
    let plan = files(first, &second).unwrap();
    assert_eq!(plan.digest, parse("k.toml", GOOD, &REGISTRY).unwrap().digest);

    let errors = files(GOOD, "[sinks.out]\ntype = \"stdout\"\n").unwrap_err().0;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].full_code().ends_with("duplicate"));
    assert!(errors[0].message().contains("a.toml:24") && errors[0].message().contains("b.toml"), "{errors:?}");

    let errors = load(&[PathBuf::from("/nowhere/k.toml")], &REGISTRY).unwrap_err().0;
    assert!(errors[0].full_code().ends_with("unreadable") && errors[0].message().contains("/nowhere/k.toml"));
}

#[test]
fn the_digest_is_of_the_meaning_not_of_the_text() {
    let digest = |text: &str| parse("k.toml", text, &REGISTRY).unwrap().digest;
    let good = digest(GOOD);
    assert_eq!(good.len(), "sha256:".len() + 64);
    let (start, edge) = GOOD.split_once("[sinks.out]").unwrap();
    assert_eq!(digest(&format!("[sinks.out]{edge}{start}# a comment\n")), good);
    let inline = with("[pipelines.ddos.window]\ntype = \"sliding\"\nsize_secs = 10\n", "")
        .replace("sinks = [\"out\"]", "window = { size_secs = 10, type = \"sliding\" }\nsinks = [\"out\"]");
    assert_eq!(digest(&inline), good);
    assert_ne!(digest(&with("20000.0", "20001.0")), good);
    // Known once and for all: incidents of last year name it.
    assert_eq!(digest(GOOD), "sha256:31cc48deadc5bf8255a9d3d6858a8666ceb5142be71f83c8a49cb478b1f72ed3");
}

#[test]
fn references_know_the_near_miss() {
    assert_eq!(only(&with("[\"edge\"]", "[\"egde\"]")), pair("unknown_reference", "\"egde\""));
    assert_eq!(
        only(&with("plugin = \"threshold\"", "plugin = \"treshold\"")),
        pair("unknown_reference", "\"treshold\"")
    );
    assert_eq!(only(&with("[\"limits\"]", "[\"limits\", \"ae\"]")), pair("unknown_reference", "\"ae\""));
    assert_eq!(only(&with("[\"out\"]", "[\"kafka\"]")), pair("unknown_reference", "\"kafka\""));
    assert_eq!(only(&with("\"udp\"", "\"upd\"")), pair("unknown_type", "\"upd\""));
    assert_eq!(only(&with("\"bits_per_s\"", "\"bits_per_sec\"")), pair("unknown_feature", "\"bits_per_sec\""));
    assert_eq!(only(&with("\"dst_prefix\"", "\"dst_net\"")), pair("unknown_level", "\"dst_net\""));
}

#[test]
fn a_plugin_scores_with_the_models_it_is_granted() {
    let granted = with("threshold.wasm\"", "threshold.wasm\"\ninference = [\"ae\"]");
    assert_eq!(only(&granted), pair("unknown_reference", "\"ae\""));
    let plan = |text: &str| parse("conf/k.toml", text, &REGISTRY).unwrap();
    let good = plan(&format!("{granted}[models.ae]\npath = \"models/ae\"\n"));
    assert_eq!(good.plugins["threshold"].inference, [Arc::from("ae")]);
    assert_eq!(good.models["ae"].path, Path::new("conf/models/ae"));
    assert!(good.places.warnings().is_empty(), "{:?}", good.places.warnings());
    let unused = plan(&format!("{GOOD}[models.ae]\npath = \"models/ae\"\n"));
    assert_eq!(unused.places.warnings()[0].message(), "`models.ae` is used by no plugin");
    assert_eq!(only(&format!("{granted}[models.ae]\n")), pair("missing_key", "[models.ae]"));
    let pinned = format!("{granted}[models.ae]\npath = \"ae\"\nsha256 = \"12\"\n");
    assert_eq!(only(&pinned), pair("bad_value", "\"12\""));
    let twice = with("threshold.wasm\"", "threshold.wasm\"\ninference = [\"ae\", \"ae\"]");
    assert_eq!(only(&format!("{twice}[models.ae]\npath = \"ae\"\n")).0, "duplicate");
}

#[test]
fn a_detector_judges_levels_of_its_pipelines_only() {
    let text = with("plugin = \"threshold\"", "plugin = \"threshold\"\nkeys = [\"dst_addr\", \"src_addr\"]");
    assert_eq!(only(&text), pair("unknown_level", "\"src_addr\""));
    let text = with("plugin = \"threshold\"", "plugin = \"threshold\"\nkeys = [\"dst_addr\"]");
    assert_eq!(complaints(&text), []);
}

#[test]
fn a_shadow_is_as_its_pipeline_where_nothing_else_is_written() {
    let more = format!(
        "{}[detectors.other]\nplugin = \"threshold\"\nkeys = [\"dst_addr\"]\n\
         [pipelines.ddos.incident]\nopen_after = \"3/5\"\nsuppress = [\"192.0.2.0/24\"]\n",
        with("detectors = [\"limits\"]", "detectors = [\"limits\"]\ncombine = { rule = \"any\" }")
    );
    let with_shadow = |lines: &str| format!("{more}[pipelines.ddos.shadow]\n{lines}\n");
    let plan = |lines: &str| parse("k.toml", &with_shadow(lines), &REGISTRY).unwrap();
    let first = plan("detectors = [\"other\"]\nincident = { close_after_windows = 7 }");
    assert!(first.places.warnings().is_empty(), "{:?}", first.places.warnings());
    let pipeline = &first.pipelines["ddos"];
    let shadow = pipeline.shadow.as_ref().unwrap();
    assert_eq!(shadow.detectors, [Arc::from("other")]);
    assert_eq!(shadow.combine, pipeline.combine);
    assert_eq!(shadow.incident, IncidentPlan { close_after_windows: 7, ..pipeline.incident.clone() });
    let second = plan("combine = { rule = \"tail_sum\" }\nincident = { suppress = [] }");
    let shadow = second.pipelines["ddos"].shadow.as_ref().unwrap();
    assert_eq!(shadow.detectors, [Arc::from("limits")]);
    assert_eq!(shadow.combine.unwrap().rule, CombineRule::TailSum);
    assert_eq!((shadow.incident.open_m, shadow.incident.suppress.len()), (3, 0));
    assert_eq!(second.places.warnings()[0].message(), "`detectors.other` is used by no pipeline");
    let same = plan("detectors = [\"limits\"]");
    assert!(same.places.warnings().iter().any(|w| w.full_code().ends_with("same_shadow")));
    assert_eq!(only(&with_shadow("detectors = [\"nobody\"]")), pair("unknown_reference", "\"nobody\""));
    assert_eq!(only(&with_shadow("detectors = []")), pair("bad_value", "[]"));
    assert_eq!(only(&with_shadow("incident = { open_after = \"9/3\" }")), pair("bad_value", "\"9/3\""));
    assert_eq!(only(&with_shadow("sinks = [\"out\"]")), pair("unknown_key", "sinks"));
}

#[test]
fn a_level_that_only_the_shadow_judges_is_aggregated() {
    let limited = with("plugin = \"threshold\"", "plugin = \"threshold\"\nkeys = [\"dst_addr\"]");
    let plan = parse("k.toml", &limited, &REGISTRY).unwrap();
    assert!(!plan.judges(&plan.pipelines["ddos"], KeyKind::DstPrefix));
    assert!(plan.places.warnings()[0].message().contains("not aggregated"));
    let text =
        format!("{limited}[detectors.all]\nplugin = \"threshold\"\n[pipelines.ddos.shadow]\ndetectors = [\"all\"]\n");
    let plan = parse("k.toml", &text, &REGISTRY).unwrap();
    assert!(plan.judges(&plan.pipelines["ddos"], KeyKind::DstPrefix));
    assert!(plan.places.warnings().is_empty(), "{:?}", plan.places.warnings());
    let wrong = text.replace("[detectors.all]\n", "[detectors.all]\nkeys = [\"src_addr\"]\n");
    assert_eq!(only(&wrong), pair("unknown_level", "\"src_addr\""));
}

#[test]
fn the_surface_is_not_open_to_all() {
    let api = |lines: &str| format!("{GOOD}[api]\n{lines}\n");
    for open in ["0.0.0.0:9977", "[::]:9977", "192.0.2.1:80", "[::ffff:192.0.2.1]:80"] {
        let listen = format!("listen = \"{open}\"");
        assert_eq!(only(&api(&listen)), pair("api_open", &format!("\"{open}\"")));
        assert_eq!(complaints(&api(&format!("{listen}\ntoken_file = \"t\""))), []);
        assert_eq!(complaints(&api(&format!("{listen}\nenabled = false"))), []);
    }
    for own in ["127.0.0.1:1", "127.3.2.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert_eq!(complaints(&api(&format!("listen = \"{own}\""))), []);
    }
    assert_eq!(only(&api("open_probes = true")), pair("bad_value", "true"));
    let plan = parse("conf/k.toml", &api("token_file = \"t\"\nopen_probes = true"), &REGISTRY).unwrap();
    assert_eq!((plan.api.token_file.as_deref(), plan.api.open_probes), (Some(Path::new("conf/t")), true));
}

#[test]
fn reloads_have_bounds() {
    let plan = parse("k.toml", GOOD, &REGISTRY).unwrap();
    assert_eq!(plan.reload, ReloadPlan::default());
    let text = format!("{GOOD}[reload]\nprobation_windows = 0\nprobation_faults = 1\ntimeout_secs = 3600\n");
    let reload = parse("k.toml", &text, &REGISTRY).unwrap().reload;
    assert_eq!(reload, ReloadPlan { probation_windows: 0, probation_faults: 1, timeout_secs: 3600 });
    assert_eq!(only(&text.replace("3600", "3601")), pair("bad_value", "3601"));
    assert_eq!(only(&text.replace("timeout_secs", "timeout")).0, "unknown_key");
    assert_eq!(plan.detectors["limits"].on_state_mismatch, OnStateMismatch::Refuse);
    let word = |word: &str| with("[detectors.limits]", &format!("[detectors.limits]\non_state_mismatch = \"{word}\""));
    let plan = parse("k.toml", &word("reset"), &REGISTRY).unwrap();
    assert_eq!(plan.detectors["limits"].on_state_mismatch, OnStateMismatch::Reset);
    assert_eq!(only(&word("rest")), pair("bad_value", "\"rest\""));
}

#[test]
fn windows_must_add_up() {
    let size = |lines: &str| with("size_secs = 10", lines);
    assert_eq!(only(&size("size_secs = 10\nslide_secs = 3")), pair("bad_value", "10"));
    assert_eq!(only(&size("size_secs = 1\nslide_secs = 2")), pair("bad_value", "1"));
    assert_eq!(only(&size("size_secs = 10\nearly_secs = 1")), pair("bad_value", "1"));
    assert_eq!(only(&size("size_secs = 3600\nslide_secs = 0.1")), pair("bad_value", "3600"));
    assert_eq!(complaints(&size("size_secs = 0.3\nslide_secs = 0.1")), []);
    for bad in ["0", "-1", "nan", "inf", "1e9"] {
        assert_eq!(only(&size(&format!("size_secs = {bad}"))), pair("bad_value", bad));
    }
    assert_eq!(only(&size("size_secs = 10\nallowed_lateness_secs = -1")), pair("bad_value", "-1"));
    assert_eq!(only(&size("size_secs = 10\nidle_timeout_secs = 0")), pair("bad_value", "0"));
    assert_eq!(only(&size("size_secs = 10\nmax_keys = 0")), pair("bad_value", "0"));
    assert_eq!(only(&size("size_secs = \"10\"")), pair("wrong_type", "\"10\""));
    assert_eq!(only(&with("size_secs = 10\n", "")), pair("missing_key", "[pipelines.ddos.window]"));
    assert_eq!(only(&with("\"sliding\"", "\"slidng\"")), pair("bad_value", "\"slidng\""));
    let none = with("[pipelines.ddos.window]\ntype = \"sliding\"\nsize_secs = 10\n", "");
    assert_eq!(only(&none), pair("missing_key", "[pipelines.ddos]"));
}

#[test]
fn incidents_open_after_m_of_n() {
    let incident = |line: &str| format!("{GOOD}[pipelines.ddos.incident]\n{line}\n");
    assert_eq!(only(&incident("open_after = \"4/3\"")), pair("bad_value", "\"4/3\""));
    assert_eq!(only(&incident("open_after = \"0/3\"")), pair("bad_value", "\"0/3\""));
    assert_eq!(only(&incident("open_after = \"often\"")), pair("bad_value", "\"often\""));
    assert_eq!(only(&incident("dominant_share = nan")), pair("bad_value", "nan"));
    assert_eq!(only(&incident("suppress = [\"192.0.2.1/24\"]")), pair("bad_value", "\"192.0.2.1/24\""));
    assert_eq!(complaints(&incident("suppress = [\"192.0.2.0/24\", \"2001:db8::1\"]")), []);
    let twice = incident("suppress = [\"192.0.2.0/24\", \"192.0.2.0/24\"]");
    assert_eq!(complaints(&twice)[0].0, "duplicate");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = with("listen =", "listne =")
        .replace("size_secs = 10", "size_secs = \"ten\"\nslide = 1")
        .replace("[\"out\"]", "[\"ouut\"]")
        .replace("[sinks.out]", "[sink.out]");
    let found: Vec<_> = complaints(&text).into_iter().map(|(code, _, _, marked)| (code, marked)).collect();
    let expected = [
        pair("unknown_key", "listne"),
        pair("unknown_reference", "\"ouut\""),
        pair("wrong_type", "\"ten\""),
        pair("unknown_key", "slide"),
        pair("unknown_key", "sink"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_unused_or_mute_is_a_warning() {
    let text = format!("{}[sources.spare]\ntype = \"udp\"\nlisten = \"[::1]:1\"\n", with("sinks = [\"out\"]", ""));
    let plan = parse("k.toml", &text, &REGISTRY).unwrap();
    let codes: Vec<_> = plan.places.warnings().iter().map(|w| w.full_code().rsplit(':').next().unwrap()).collect();
    assert_eq!(codes, ["no_sink", "unused", "unused"]);
    assert!(plan.places.warnings().iter().all(ConfigDiagnostic::is_warning));
}

#[test]
fn a_configuration_without_pipelines_is_refused() {
    assert_eq!(only(""), pair("no_pipeline", ""));
    assert_eq!(only("[api]\n"), pair("no_pipeline", ""));
    assert_eq!(complaints("[pipelines.p]\n").iter().filter(|c| c.0 == "no_pipeline").count(), 0);
}

#[test]
fn odd_tables_are_refused_with_their_place() {
    assert_eq!(only(&with("[sinks.out]\ntype = \"stdout\"\n", "[sinks]\nout = 5\n")), pair("wrong_type", "5"));
    assert_eq!(only(&with("type = \"udp\"\n", "")), pair("missing_key", "[sources.edge]"));
    assert_eq!(only(&with("type = \"udp\"", "type = 1")), pair("wrong_type", "1"));
    assert_eq!(complaints(&with("[sources.edge]", "[sources.\"a b\"]"))[0].3, "\"a b\"");
    assert_eq!(only(&with("above = 20000.0", "above = nan")), pair("bad_value", "nan"));
    assert_eq!(only(&with("threshold.wasm\"", "threshold.wasm\"\nsha256 = \"12\"")), pair("bad_value", "\"12\""));
    assert_eq!(
        only(&with("threshold.wasm\"", "threshold.wasm\"\nlimits = { deadline_ms = 0 }")),
        pair("bad_value", "0")
    );
    assert_eq!(only(&GOOD.replace("pipelines.ddos", "pipelines.\"d dos\"")).0, "bad_value");
    let error = complaints(&with("[\"edge\"]", "[]"));
    assert_eq!((error.len(), error[0].3.as_str()), (1, "[]"));
    assert_eq!(complaints("engine = 5\n")[0].0, "wrong_type");
    assert_eq!(complaints("pipelines = 5\n")[0].0, "wrong_type");
    assert_eq!(only(&format!("{GOOD}[engine]\nwindow_workers = 99999999999999999999999\n")).0, "wrong_type");
}

#[test]
fn syntax_errors_stop_the_check_of_their_file() {
    assert_eq!(complaints("[a\nb = 1\nc = = 2\n").len(), 2);
    assert!(complaints("x = 5\ny = [1, 2\nz = 3\n").iter().all(|c| c.0 == "syntax"));
    assert_eq!(complaints("[sinks.out]\ntype = 1\ntype = 2\n")[0].0, "duplicate");
}

/// The reference configuration is complete: every key stands in it, at least as a comment.
#[test]
fn the_reference_configuration_names_every_key() {
    let text = include_str!("../../../configs/kaminari.toml");
    let mut section = String::new();
    let mut keys = std::collections::BTreeSet::new();
    for line in text.lines() {
        let line = line.trim_start_matches(['#', ' ']);
        if let Some(header) = line.strip_prefix('[').and_then(|l| l.split(']').next()) {
            let mut parts = header.splitn(3, '.');
            let (top, _name, below) = (parts.next().unwrap_or(""), parts.next(), parts.next());
            section = below.map_or(top.to_owned(), |b| format!("{top}.{b}"));
        }
        let mut prefix = section.clone();
        for word in line.split(['{', ',']) {
            if let Some((key, _)) = word.split_once('=') {
                keys.insert(format!("{prefix}.{}", key.trim()));
                if line.contains('{') && prefix == section {
                    prefix = format!("{section}.{}", key.trim());
                }
            }
        }
        keys.insert(section.clone());
    }
    for (section, all) in raw::all_keys() {
        for key in all {
            let path = format!("{section}.{key}");
            assert!(keys.contains(&path), "configs/kaminari.toml does not explain `{path}`");
        }
    }
}

/// Whatever is typed: no panic, an answer, and every diagnostic can be drawn.
fn survives(text: &str) {
    let diagnostics = match parse("k.toml", text, &REGISTRY) {
        Ok(plan) => plan.places.warnings().to_vec(),
        Err(errors) => {
            assert!(errors.0.iter().any(|d| !d.is_warning()), "refused without a reason: {text:?}");
            errors.0
        }
    };
    for diagnostic in diagnostics {
        let mut drawn = String::new();
        miette::GraphicalReportHandler::new().render_report(&mut drawn, &diagnostic).unwrap();
        assert!(drawn.contains("kaminari::config::"), "{drawn}");
    }
}

proptest::proptest! {
    #[test]
    fn mangled_text_is_answered(at in 0..GOOD.len(), cut in 0..60usize, put in "[\\[\\]{}=\"',.#é\\n a-z0-9-]{0,6}") {
        let end = (at + cut).min(GOOD.len());
        survives(&format!("{}{put}{}", &GOOD[..at], &GOOD[end..]));
    }

    #[test]
    fn arbitrary_text_is_answered(text in "[\\PC\\n]{0,80}") {
        survives(&text);
    }
}
