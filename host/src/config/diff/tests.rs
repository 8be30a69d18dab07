//! One test per rule: what class a change is of, which keys it names, what is lost by it.

use super::*;
use crate::config::parse;
use crate::config::tests::{GOOD, REGISTRY};

/// `GOOD` with everything else that rules are about.
fn base() -> String {
    let good = GOOD
        .replace("threshold.wasm\"", "threshold.wasm\"\ninference = [\"ae\"]\nstate = [\"seen\"]")
        .replace("[\"bits_per_s\", \"packets_per_s\"]", "[\"bits_per_s\", \"packets_per_s\", \"rel_flows\"]");
    good + r#"
[models.ae]
path = "models/ae"

[detectors.other]
plugin = "threshold"

[plugins.syslog]
path = "plugins/syslog.wasm"

[sources.log]
type = "file"
path = "messages"
decode = { plugin = "syslog" }

[plugins.aggregate]
path = "plugins/aggregate.wasm"

[pipelines.ssh]
sources = ["log"]
features = ["failures", "users"]
detectors = ["other"]
mode = "shadow"
window = { type = "tumbling", size_secs = 60 }
records = { entity = "src", extract = { plugin = "aggregate", config = { depth = 1 } } }
"#
}

fn plan(text: &str) -> Plan {
    parse("k.toml", text, &REGISTRY).unwrap_or_else(|errors| panic!("{:?}", errors.0))
}

fn contents(digest: &str) -> Contents {
    let all = |ids: &[&str]| ids.iter().map(|id| (Arc::from(*id), digest.to_owned())).collect();
    Contents { plugins: all(&["threshold", "syslog", "aggregate"]), models: all(&["ae"]) }
}

/// What the replacements make of `base`.
fn changes(replacements: &[(&str, &str)]) -> Vec<Change> {
    let text = replacements.iter().fold(base(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1)
    });
    let same = contents("1");
    diff((&plan(&base()), &same), (&plan(&text), &same)).changes
}

fn only(replacements: &[(&str, &str)]) -> Change {
    let mut all = changes(replacements);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn of(component: &str, changes: Vec<Change>) -> Change {
    let found = changes.iter().find(|c| c.component == component).cloned();
    found.unwrap_or_else(|| panic!("{component}: {changes:?}"))
}

/// A line added to `[pipelines.ddos]`.
fn ddos(line: &str) -> (&'static str, String) {
    ("[pipelines.ddos]", format!("[pipelines.ddos]\n{line}"))
}

#[test]
fn what_means_the_same_does_not_differ() {
    let same = [
        ("# nothing", ""),
        ("size_secs = 10", "size_secs = 10.0\nslide_secs = 1\nmax_keys = 1000000"),
        ("detectors = [\"limits\"]", "detectors = [\"limits\"]\nmode = \"alert\"\nlevel_half_life_windows = 60.0"),
        ("listen = \"127.0.0.1:2055\"", "workers = 0\nlisten = \"127.0.0.1:2055\" # here"),
        (
            "plugin = \"threshold\"",
            "calibration = { follow = true }\non_state_mismatch = \"refuse\"\nplugin = \"threshold\"",
        ),
        ("[models.ae]", "[reload]\nprobation_windows = 5\n[models.ae]"),
        ("[models.ae]", "[api]\nenabled = false\n[engine]\n[inference]\nmax_batch = 262144\n[models.ae]"),
    ];
    assert_eq!(changes(&same[1..]), []);
    let same = contents("1");
    assert!(diff((&plan(&base()), &same), (&plan(&format!("# new\n{}", base())), &same)).is_empty());
}

#[test]
fn the_process_keeps_what_it_began_with() {
    let all = changes(&[(
        "[models.ae]",
        "[engine]\nwindow_workers = 9\nstate_dir = \"s\"\n[api]\nlisten = \"127.0.0.1:1\"\n[inference]\nmax_wait_us = 1\n[models.ae]",
    )]);
    assert_eq!(all.iter().map(|c| c.component.as_str()).collect::<Vec<_>>(), ["engine", "api", "inference"]);
    assert!(all.iter().all(|c| c.class == Class::ProcessRestart && c.what == What::Changed), "{all:?}");
    let diff = PlanDiff { changes: all };
    let keys = ["engine.state_dir", "engine.window_workers", "api.enabled", "api.listen", "inference.max_wait_us"];
    assert_eq!(diff.process_keys(), keys);
    assert_eq!(diff.deepest(), Some(Class::ProcessRestart));
    let reload = only(&[("[models.ae]", "[reload]\ntimeout_secs = 5\n[models.ae]")]);
    assert_eq!((reload.class, reload.keys), (Class::Hot, vec!["reload.timeout_secs".to_owned()]));
}

#[test]
fn a_source_that_differs_is_opened_anew() {
    let changed = only(&[("127.0.0.1:2055", "127.0.0.1:2056")]);
    assert_eq!((changed.what, changed.class), (What::Changed, Class::SourceRestart));
    assert_eq!((changed.keys, changed.lost), (vec!["sources.edge.listen".to_owned()], vec![]));
    let udp = "type = \"udp\"\nlisten = \"127.0.0.1:2055\"";
    let (old, new, same) = (plan(&base().replace(udp, "type = \"file\"\npath = \"x\"")), plan(&base()), contents("1"));
    let kind = diff((&old, &same), (&new, &same)).changes.remove(0);
    assert_eq!((kind.class, kind.lost.len()), (Class::SourceRestart, 0));
    assert!(kind.keys.contains(&"sources.edge.type".to_owned()), "{kind:?}");
    let file = only(&[("path = \"messages\"", "path = \"others\"")]);
    assert_eq!((file.class, file.effect.as_str()), (Class::ProcessRestart, READ_ONCE));
    let (a, b) = (plan(&base()), plan(&base().replace("2055", "2056")));
    assert!(source_differs(&a.sources["edge"], &b.sources["edge"]));
    assert!(!source_differs(&a.sources["log"], &b.sources["log"]));
}

#[test]
fn sources_come_and_go_hot() {
    let more = ("[models.ae]", "[sources.two]\ntype = \"udp\"\nlisten = \"127.0.0.1:1\"\n[models.ae]");
    let all = changes(&[more, ("[\"edge\"]", "[\"edge\", \"two\"]")]);
    let added = of("sources.two", all.clone());
    assert_eq!((added.what, added.class), (What::Added, Class::Hot));
    let pipeline = of("pipelines.ddos", all);
    assert_eq!((pipeline.class, pipeline.effect.as_str()), (Class::Hot, "takes from `two` too"));
    let (old, new) = (plan(&base().replace(more.0, more.1)), plan(&base()));
    let same = contents("1");
    let removed = of("sources.two", diff((&old, &same), (&new, &same)).changes);
    assert_eq!((removed.what, removed.class), (What::Removed, Class::Hot));
    assert!(removed.lost[0].contains("templates"), "{removed:?}");
}

#[test]
fn what_is_counted_restarts_windows() {
    for (old, new, key) in [
        ("size_secs = 10", "size_secs = 20", "window.size_secs"),
        ("size_secs = 10", "size_secs = 10\nevent_time = \"end\"", "window.event_time"),
        ("[\"dst_addr\", \"dst_prefix\"]", "[\"dst_addr\"]", "keys"),
        ("keys = [\"dst", "prefix_v4 = 22\nkeys = [\"dst", "prefix_v4"),
        ("\"bits_per_s\",", "\"bits_per_s\", \"rel_uniq_src\",", "features"),
        ("keys = [\"dst", "level_half_life_windows = 5\nkeys = [\"dst", "level_half_life_windows"),
    ] {
        let change = only(&[(old, new)]);
        assert_eq!((change.what, change.class), (What::Changed, Class::WindowRestart), "{new}");
        assert!(change.keys.contains(&format!("pipelines.ddos.{key}")), "{change:?}");
        assert!(change.effect.starts_with("open windows are closed early and marked partial"), "{change:?}");
        let forgets = new.contains("rel_uniq_src");
        assert_eq!(change.lost.contains(&"levels of its entities".to_owned()), forgets, "{change:?}");
        let tails = change.lost.iter().any(|lost| lost.starts_with("the tails of scores"));
        assert_eq!(tails, new.contains("size_secs = 20"), "{change:?}");
        assert_eq!(change.effect.contains("levels of entities are kept"), !forgets, "{change:?}");
    }
    for (old, new) in [
        ("entity = \"src\"", "entity = \"user\""),
        ("entity = \"src\"", "entity = \"src\", level = \"src_addr\""),
        ("entity = \"src\"", "entity = \"src\", max_bytes = 100000"),
    ] {
        assert_eq!(only(&[(old, new)]).class, Class::WindowRestart, "{new}");
    }
}

#[test]
fn windows_that_are_in_files_are_read_once() {
    let rows = |features: &str| {
        let text = base();
        let at = text.find("[pipelines.ssh]").unwrap();
        plan(&format!(
            "{}[sources.rows]\ntype = \"file\"\npath = \"x.csv\"\n[pipelines.counted]\nsources = [\"rows\"]\nmode = \"shadow\"\n\
             features = {features}\ndetectors = [\"other\"]\nrows = {{ time = \"t\", window_secs = 60 }}\n{}",
            &text[..at],
            &text[at..]
        ))
    };
    let (old, new, same) = (rows("[\"a\", \"b\"]"), rows("[\"a\"]"), contents("1"));
    let change = diff((&old, &same), (&new, &same)).changes.remove(0);
    assert_eq!((change.component.as_str(), change.class), ("pipelines.counted", Class::ProcessRestart));
    assert!(restarts_windows(&old.pipelines["counted"], &new.pipelines["counted"]));
}

#[test]
fn fewer_features_or_another_order_leave_windows_open() {
    let all = "[\"bits_per_s\", \"packets_per_s\", \"rel_flows\"]";
    for (features, lost) in [
        ("[\"rel_flows\", \"packets_per_s\", \"bits_per_s\"]", 0),
        ("[\"rel_flows\", \"flows\"]", 0),
        ("[\"bits_per_s\"]", 1),
    ] {
        let change = only(&[(all, features)]);
        assert_eq!((change.class, change.lost.len()), (Class::Hot, lost), "{features}: {change:?}");
        assert!(change.keys.iter().all(|k| k.starts_with("pipelines.ddos.features")));
    }
    // Written out, what is always there is no other list.
    assert_eq!(changes(&[(all, &all.replace(']', ", \"flows\"]"))]), []);
    // Windows of records keep rows.
    assert_eq!(only(&[("[\"failures\", \"users\"]", "[\"failures\", \"ports\"]")]).class, Class::Hot);
}

#[test]
fn levels_are_forgotten_where_they_mean_nothing_more() {
    let pipeline = |features: &str, window: &str| {
        let text = base()
            .replace("[\"bits_per_s\", \"packets_per_s\", \"rel_flows\"]", features)
            .replace("size_secs = 10", &format!("size_secs = {window}"));
        plan(&text).pipelines["ddos"].clone()
    };
    let (plain, rel, sources) = ("[\"flows\"]", "[\"rel_flows\"]", "[\"rel_flows\", \"rel_uniq_src\"]");
    for (old, new, forgets) in [
        ((rel, "10"), (rel, "20"), false),
        ((rel, "10"), (plain, "10"), true),
        ((rel, "10"), (sources, "10"), true),
        ((sources, "10"), (sources, "10"), false),
        ((sources, "10"), (sources, "20"), true),
        ((sources, "10"), (rel, "20"), false),
        ((plain, "10"), (sources, "20"), false),
    ] {
        assert_eq!(forgets_levels(&pipeline(old.0, old.1), &pipeline(new.0, new.1)), forgets, "{old:?} {new:?}");
    }
    let without = |half_life: &str| {
        let (at, line) = ddos(&format!("level_half_life_windows = {half_life}"));
        plan(&base().replace(", \"rel_flows\"", "").replace(at, &line)).pipelines["ddos"].clone()
    };
    assert!(!restarts_windows(&without("5"), &without("6")), "nothing compares with levels");
}

#[test]
fn what_judges_is_changed_hot() {
    let detectors = "detectors = [\"limits\"]";
    for (new, said, lost) in [
        ("detectors = [\"limits\", \"other\"]", "`other` judges from the next window on", None),
        ("detectors = [\"other\"]", "`other` judges from the next window on", Some("what `limits` learned here")),
        ("detectors = [\"limits\"]\ncombine = { rule = \"any\" }", "detectors speak together by the new rule", None),
        (
            "detectors = [\"limits\"]\nincident = { open_after = \"1/1\" }",
            "open incidents go on under the new rules",
            None,
        ),
        ("detectors = [\"limits\"]\nmode = \"shadow\"", "incidents no longer leave", None),
    ] {
        let all = changes(&[(detectors, new)]);
        let change = of("pipelines.ddos", all);
        assert_eq!((change.class, change.effect.as_str()), (Class::Hot, said), "{new}");
        assert_eq!(change.lost.first().map(String::as_str), lost, "{new}");
    }
    assert_eq!(only(&[("sinks = [\"out\"]", "sinks = []")]).effect, "goes to the new list of sinks");
    let extract = only(&[("depth = 1", "depth = 2")]);
    assert_eq!(
        (extract.class, extract.keys),
        (Class::Hot, vec!["pipelines.ssh.records.extract.config.depth".to_owned()])
    );
}

#[test]
fn a_promoted_detector_keeps_what_it_learned() {
    let shadow = "detectors = [\"limits\"]\nshadow = { detectors = [\"other\"] }";
    let begun = only(&[("detectors = [\"limits\"]", shadow)]);
    assert_eq!((begun.class, &begun.keys), (Class::Hot, &vec!["pipelines.ddos.shadow".to_owned()]));
    assert_eq!(begun.effect, "`other` judges from the next window on; a shadow begins beside it");
    let same = contents("1");
    let (old, new) = (base().replacen("detectors = [\"limits\"]", shadow, 1), base());
    let ended = diff((&plan(&old), &same), (&plan(&new), &same)).changes;
    assert_eq!(ended[0].lost, ["what `other` learned here", "the comparison with the shadow so far"]);
    let promoted = new.replacen("detectors = [\"limits\"]", "detectors = [\"other\"]", 1);
    let promoted = diff((&plan(&old), &same), (&plan(&promoted), &same)).changes;
    assert_eq!(promoted[0].class, Class::Hot);
    assert!(promoted[0].effect.starts_with("`other` judged in silence and now counts"), "{promoted:?}");
    assert_eq!(promoted[0].lost, ["what `limits` learned here", "the comparison with the shadow so far"]);
    // What judges otherwise is compared anew.
    for (from, to) in [("above = 20000.0", "above = 3.0"), ("threshold.wasm\"", "threshold.wasm\"\nmetrics_series = 1")]
    {
        let changed = diff((&plan(&old), &same), (&plan(&old.replacen(from, to, 1)), &same)).changes;
        assert_eq!(changed[0].lost, ["the comparison with the shadow of `ddos` so far"], "{to}");
    }
    let longer =
        diff((&plan(&old), &same), (&plan(&old.replacen("size_secs = 10", "size_secs = 20", 1)), &same)).changes;
    assert_eq!(longer[0].lost.last().unwrap(), "the comparison with the shadow so far");
}

#[test]
fn only_levels_that_somebody_judges_are_counted() {
    let limited = base().replacen("plugin = \"threshold\"", "plugin = \"threshold\"\nkeys = [\"dst_addr\"]", 1);
    let (old, new, same) = (plan(&limited), plan(&base()), contents("1"));
    let more = diff((&old, &same), (&new, &same)).changes;
    assert_eq!(of("detectors.limits", more.clone()).class, Class::Hot);
    let pipeline = of("pipelines.ddos", more);
    assert_eq!((pipeline.class, pipeline.keys), (Class::WindowRestart, vec!["(levels)".to_owned()]));
    assert!(aggregates_otherwise((&old, &old.pipelines["ddos"]), (&new, &new.pipelines["ddos"])));
    let less = diff((&new, &same), (&old, &same)).changes;
    assert_eq!(of("pipelines.ddos", less).class, Class::WindowRestart);
    let shadow = limited.replacen(
        "detectors = [\"limits\"]",
        "detectors = [\"limits\"]\nshadow = { detectors = [\"other\"] }",
        1,
    );
    let begun = of("pipelines.ddos", diff((&old, &same), (&plan(&shadow), &same)).changes);
    assert_eq!(begun.class, Class::WindowRestart);
    assert_eq!(begun.keys, ["pipelines.ddos.shadow", "(levels)"]);
}

#[test]
fn pipelines_come_and_go_hot() {
    let (full, without) = (base(), base());
    let without = without.split("[plugins.aggregate]").next().unwrap().to_owned();
    let same = contents("1");
    let removed = diff((&plan(&full), &same), (&plan(&without), &same)).changes;
    let removed = of("pipelines.ssh", removed);
    assert_eq!((removed.what, removed.class), (What::Removed, Class::Hot));
    assert_eq!(removed.lost, ["its open windows", "its incidents: they are closed", "what `other` learned here"]);
    let added = of("pipelines.ssh", diff((&plan(&without), &same), (&plan(&full), &same)).changes);
    assert_eq!((added.what, added.class, added.lost.len()), (What::Added, Class::Hot, 0));
}

#[test]
fn a_detector_hands_over_what_it_knows() {
    let changed = only(&[("above = 20000.0", "above = 30000.0")]);
    assert_eq!(changed.keys, ["detectors.limits.config.limits[0].above"]);
    assert_eq!(changed.class, Class::Hot);
    assert_eq!(changed.effect, "what it knows is handed over, and when it cannot be read the change is refused");
    let reset = only(&[("above = 20000.0 } ] }", "above = 3.0 } ] }\non_state_mismatch = \"reset\"")]);
    assert!(reset.effect.ends_with("when it cannot be read the detector begins anew"), "{reset:?}");
    let plugin = only(&[("[detectors.other]\nplugin = \"threshold\"", "[detectors.other]\nplugin = \"aggregate\"")]);
    assert!(plugin.effect.contains("handed over to plugin `aggregate`"), "{plugin:?}");
    let tail = only(&[("[detectors.other]", "[detectors.other]\ncalibration = { max_shift = 2.0 }")]);
    assert_eq!(tail.effect, "the tail of its scores is followed on, within the new bounds");
    let removed = changes(&[
        ("[detectors.other]\nplugin = \"threshold\"\n", ""),
        ("detectors = [\"other\"]", "detectors = [\"limits\"]"),
    ]);
    assert_eq!(of("detectors.other", removed).lost, ["what it has learned"]);
}

#[test]
fn a_file_with_another_content_is_a_change() {
    let plan = plan(&base());
    let mut new = contents("1");
    new.plugins.insert("threshold".into(), "2".into());
    let found = diff((&plan, &contents("1")), (&plan, &new)).changes;
    assert_eq!((found.len(), found[0].component.as_str(), found[0].class), (1, "plugins.threshold", Class::Hot));
    assert_eq!((&found[0].keys, found[0].lost.len()), (&vec!["(file)".to_owned()], 0));
    assert!(found[0].effect.contains("detectors `limits` and `other`"), "{found:?}");
    assert!(found[0].effect.ends_with("when it cannot be read the change is refused"), "{found:?}");

    let tail =
        self::plan(&base().replace("type = \"file\"\npath = \"messages\"", "type = \"tail\"\npath = \"messages\""));
    let mut new = contents("1");
    new.plugins.insert("syslog".into(), "2".into());
    new.plugins.remove("aggregate");
    let found = diff((&tail, &contents("1")), (&tail, &new)).changes;
    assert!(found[0].effect.contains("features of pipeline `ssh`"), "{found:?}");
    assert!(found[1].effect.contains("decoder of source `log`"), "{found:?}");
    assert!(found.iter().all(|change| change.class == Class::Hot), "{found:?}");

    let mut new = contents("1");
    new.models.insert("ae".into(), "2".into());
    let found = diff((&plan, &contents("1")), (&plan, &new)).changes;
    assert_eq!((found.len(), found[0].component.as_str(), found[0].class), (1, "models.ae", Class::Hot));
    assert_eq!(found[0].lost, ["the tails that `limits` and `other` followed since the old model was trained"]);
    assert!(diff((&plan, &Contents::default()), (&plan, &Contents::default())).is_empty());
}

#[test]
fn plugins_and_models_change_hot() {
    let limits = only(&[("plugins/threshold.wasm\"", "plugins/threshold.wasm\"\nlimits = { deadline_ms = 9 }")]);
    assert_eq!((limits.class, limits.keys), (Class::Hot, vec!["plugins.threshold.limits.deadline_ms".to_owned()]));
    let bucket = only(&[("state = [\"seen\"]", "state = []")]);
    assert_eq!(bucket.lost, ["what it keeps in the bucket `seen`"]);
    let moved = only(&[("plugins/threshold", "plugins/there")]);
    assert_eq!(
        (moved.effect.as_str(), moved.keys),
        ("is the same plugin as before", vec!["plugins.threshold.path".to_owned()])
    );
    let moved = only(&[("models/ae", "models/there")]);
    assert_eq!((moved.effect.as_str(), moved.lost.len()), ("is the same model as before", 0));
    let train = only(&[(
        "path = \"models/ae\"",
        "path = \"models/ae\"\ntrain = { pipeline = \"ddos\", level = \"dst_addr\" }",
    )]);
    assert_eq!((train.class, train.keys), (Class::Hot, vec!["models.ae.train".to_owned()]));
    assert!(train.effect.contains("kaminari train"));
    let removed = changes(&[("[models.ae]\npath = \"models/ae\"\n", ""), ("inference = [\"ae\"]", "")]);
    assert_eq!(of("models.ae", removed).what, What::Removed);
}

/// A pipeline of rows beside all others, with a detector, a plugin with a model and a sink.
const ROWS: &str = r#"
[sources.metric]
type = "file"
path = "m.csv"

[plugins.zscore]
path = "plugins/zscore.wasm"
inference = ["net"]

[models.net]
path = "models/net"

[detectors.z]
plugin = "zscore"

[sinks.told]
type = "stdout"

[pipelines.metric]
sources = ["metric"]
rows = { time = "t", window_secs = 60 }
features = ["value"]
detectors = ["z"]
sinks = ["told"]
"#;

/// What the replacements make of `base` with `ROWS` after it.
fn beside_rows(replacements: &[(&str, &str)]) -> PlanDiff {
    let text = base() + ROWS;
    let changed = replacements.iter().fold(text.clone(), |text, (old, new)| {
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1)
    });
    diff((&plan(&text), &contents("1")), (&plan(&changed), &contents("1")))
}

#[test]
fn who_judges_rows_of_features_stays_with_the_process() {
    let rows_of = "rows of features in pipeline `metric`; files are read once: only a new process takes it up";
    for (old, new, keys, does) in [
        ("[detectors.z]", "[detectors.z]\nconfig = { z = 3.0 }", vec!["detectors.z.config.z"], "judges"),
        (
            "[detectors.z]",
            "[detectors.z]\non_state_mismatch = \"reset\"",
            vec!["detectors.z.on_state_mismatch"],
            "judges",
        ),
        ("inference = [\"net\"]", "inference = [\"net\"]\nstate = [\"s\"]", vec!["plugins.zscore.state"], "judges"),
        ("models/net", "models/there", vec!["models.net.path", "(file)"], "judges"),
        (
            "[sinks.told]\ntype = \"stdout\"",
            "[sinks.told]\ntype = \"stdout\"\npretty = true",
            vec!["sinks.told.pretty"],
            "takes what is said of",
        ),
    ] {
        let found = beside_rows(&[(old, new)]);
        let [change] = &found.changes[..] else { panic!("{new}: {found:?}") };
        assert_eq!(
            (change.class, change.effect.clone()),
            (Class::ProcessRestart, format!("{does} {rows_of}")),
            "{new}"
        );
        assert!(change.lost.is_empty(), "{change:?}");
        assert_eq!(change.keys.iter().map(|key| &**key).filter(|key| keys.contains(key)).count(), change.keys.len());
        assert_eq!(found.process_reasons(), [format!("{}: {does} {rows_of}", change.keys.join(", "))]);
    }
    let text = plan(&(base() + ROWS));
    let mut other = contents("1");
    other.plugins.insert("zscore".into(), "2".into());
    let found = diff((&text, &contents("1")), (&text, &other));
    assert_eq!(found.process_keys(), ["(file)"]);
    // Nobody of them is concerned by others, nor by what a model is trained with.
    let train = "models/net\"\ntrain = { pipeline = \"ddos\", level = \"dst_addr\" }";
    for other in [("above = 20000.0", "above = 30000.0"), ("models/net\"", train), ("models/ae", "models/there")] {
        assert_eq!(beside_rows(&[other]).deepest(), Some(Class::Hot), "{other:?}");
    }
}

#[test]
fn nobody_begins_or_ends_in_the_middle_of_a_file() {
    let pipeline = &ROWS[ROWS.find("[pipelines.metric]").unwrap()..];
    let source = &ROWS[..ROWS.find("[plugins.zscore]").unwrap()];
    let same = contents("1");
    let between = |old: &str, new: &str| diff((&plan(old), &same), (&plan(new), &same));
    let all = base() + ROWS;
    let more = format!("{all}{}", pipeline.replace("pipelines.metric", "pipelines.more"));
    let (added, removed) = (between(&all, &more), between(&more, &all));
    assert_eq!(added.process_keys(), ["pipelines.more"]);
    assert_eq!(added.process_reasons()[0], format!("pipelines.more: its source `metric` is being read; {READ_ONCE}"));
    assert_eq!(removed.process_reasons()[0], format!("pipelines.more: its source `metric` is read on; {READ_ONCE}"));
    // With its source it comes and goes.
    let none = all.replace(pipeline, "").replace(source, "");
    assert_eq!(between(&none, &all).deepest(), Some(Class::Hot));
    assert_eq!(between(&all, &none).deepest(), Some(Class::Hot));

    // What decodes a file does so to its end.
    let text = plan(&base());
    let mut other = contents("1");
    other.plugins.insert("syslog".into(), "2".into());
    let decoder = diff((&text, &same), (&text, &other)).changes.remove(0);
    let told = format!("decodes source `log`; {READ_ONCE}");
    assert_eq!((decoder.class, decoder.effect), (Class::ProcessRestart, told));
}

#[test]
fn sinks_are_emptied_before_they_close() {
    let more = ("[models.ae]", "[sinks.two]\ntype = \"stdout\"\n[models.ae]");
    let added = of("sinks.two", changes(&[more, ("[\"out\"]", "[\"out\", \"two\"]")]));
    assert_eq!((added.what, added.class), (What::Added, Class::Hot));
    let same = contents("1");
    let removed = diff((&plan(&base().replace(more.0, more.1)), &same), (&plan(&base()), &same)).changes;
    assert_eq!((removed[0].what, removed[0].class), (What::Removed, Class::Hot));
    assert!(removed[0].effect.contains("delivered first"), "{removed:?}");
}

#[test]
fn contents_are_of_what_can_be_read() {
    let digest = |path: &Path| (!path.ends_with("syslog.wasm")).then(|| path.display().to_string());
    let found = Contents::of(&plan(&base()), digest, |_| None);
    assert_eq!(found.plugins.keys().map(|id| &**id).collect::<Vec<_>>(), ["aggregate", "threshold"]);
    assert_eq!(found.plugins["threshold"], "plugins/threshold.wasm");
    assert!(found.models.is_empty());
}
