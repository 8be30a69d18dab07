//! A plan as a configuration would say it with nothing left to defaults: sections, names, keys and units as in the files, as
//! JSON. What is `null` has no value. Two plans that mean the same are the same here: `diff` names keys by it. What leaves the
//! process is [`masked`]: no secret, wherever it stands.

use super::plan::*;
use crate::model::BackendChoice;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Stands in place of a secret.
const MASK: &str = "***";
/// A key with one of these in its name holds a secret, unless it says where one is found.
const SECRETS: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "authorization",
    "cookie",
    "apikey",
    "api_key",
    "api-key",
    "private_key",
    "pem",
    "jaas",
];
/// Ends of the names of keys that say where a secret is found.
const PLACES: [&str; 3] = ["_file", "_path", ".location"];

/// The whole plan with its digest, without secrets.
pub fn masked(plan: &Plan) -> Value {
    let mut all = effective(plan);
    mask(&mut all);
    all["digest"] = json!(plan.digest);
    all
}

/// Takes out what stands at keys that hold secrets, and passwords in URLs.
pub fn mask(value: &mut Value) {
    match value {
        Value::Object(table) => {
            for (key, below) in table {
                if holds_secret(key) && !below.is_null() {
                    *below = json!(MASK);
                } else {
                    mask(below);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::String(text) => {
            if let Some(clean) = without_user(text) {
                *text = clean;
            }
        }
        _ => {}
    }
}

fn holds_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRETS.iter().any(|word| key.contains(word)) && !PLACES.iter().any(|end| key.ends_with(end))
}

/// `https://user:password@host/` without who asks.
fn without_user(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let at = authority.rfind('@')?;
    Some(format!("{scheme}://{MASK}{}", &rest[at..]))
}

/// The whole plan, with its secrets: for comparisons. What is shown to anybody is [`masked`].
pub fn effective(plan: &Plan) -> Value {
    json!({
        "engine": engine(&plan.engine),
        "api": api(&plan.api),
        "reload": reload(plan.reload),
        "inference": inference(&plan.inference),
        "sources": named(&plan.sources, component),
        "models": named(&plan.models, model),
        "plugins": named(&plan.plugins, plugin),
        "detectors": named(&plan.detectors, detector),
        "pipelines": named(&plan.pipelines, pipeline),
        "sinks": named(&plan.sinks, component),
    })
}

fn named<T>(of: &BTreeMap<Arc<str>, T>, one: fn(&T) -> Value) -> Value {
    of.iter().map(|(id, item)| (id.to_string(), one(item))).collect::<Map<_, _>>().into()
}

pub(super) fn engine(e: &EnginePlan) -> Value {
    let EnginePlan { window_workers, plugin_cache_dir, state_dir } = e;
    json!({ "window_workers": window_workers, "plugin_cache_dir": shown(plugin_cache_dir), "state_dir": state_dir.as_deref().map(shown) })
}

pub(super) fn api(a: &ApiPlan) -> Value {
    let ApiPlan { enabled, listen, token_file, open_probes } = a;
    json!({ "enabled": enabled, "listen": listen, "token_file": token_file.as_deref().map(shown), "open_probes": open_probes })
}

pub(super) fn reload(r: ReloadPlan) -> Value {
    let ReloadPlan { probation_windows, probation_faults, timeout_secs } = r;
    json!({
        "probation_windows": probation_windows,
        "probation_faults": probation_faults,
        "timeout_secs": timeout_secs,
    })
}

pub(super) fn inference(i: &InferencePlan) -> Value {
    let InferencePlan { backend, device, dtype, libtorch, library, max_batch, max_wait_us } = i;
    let backend = match backend {
        BackendChoice::Auto => "auto",
        BackendChoice::Cpu => "cpu",
        BackendChoice::Torch => "torch",
    };
    json!({
        "backend": backend,
        "device": device.as_ref().map_or("auto".to_owned(), ToString::to_string),
        "dtype": dtype.name(),
        "libtorch": libtorch.as_deref().map(shown),
        "library": library.as_deref().map(shown),
        "max_batch": max_batch,
        "max_wait_us": max_wait_us,
    })
}

pub(super) fn component(c: &Component) -> Value {
    let mut table = json!({ "type": c.kind });
    if let (Value::Object(table), Value::Object(body)) = (&mut table, &c.full) {
        table.extend(body.clone());
    }
    table
}

pub(super) fn model(m: &ModelPlan) -> Value {
    let ModelPlan { id: _, path, sha256, train: of } = m;
    json!({ "path": shown(path), "sha256": sha256, "train": of.as_ref().map(train) })
}

fn train(t: &TrainPlan) -> Value {
    json!({
        "pipeline": &*t.pipeline,
        "level": t.level.map(|level| level.name()),
        "features": t.features,
        "backend": word(&TrainBackend::WORDS, t.backend),
        "architecture": word(&TrainArchitecture::WORDS, t.architecture),
        "kl_weight": t.kl_weight,
        "hidden": t.hidden,
        "seeds": t.seeds,
        "epochs": t.epochs,
        "max_rows": t.max_rows,
    })
}

pub(super) fn plugin(p: &PluginPlan) -> Value {
    let PluginPlan { id: _, path, sha256, inference, state, metrics_series, limits } = p;
    let PluginLimits { memory_bytes, deadline_ms, alerts_per_call, state_bytes } = limits;
    json!({
        "path": shown(path),
        "sha256": sha256,
        "inference": ids(inference),
        "state": ids(state),
        "metrics_series": metrics_series,
        "limits": {
            "memory_bytes": memory_bytes,
            "deadline_ms": deadline_ms,
            "alerts_per_call": alerts_per_call,
            "state_bytes": state_bytes,
        },
    })
}

pub(super) fn detector(d: &DetectorPlan) -> Value {
    let DetectorPlan { id: _, plugin, keys, config, follow, on_state_mismatch } = d;
    let FollowPlan { follow, max_shift, warm_up_rows } = follow;
    json!({
        "plugin": &**plugin,
        "keys": keys.as_ref().map(|keys| keys.iter().map(|k| k.name()).collect::<Vec<_>>()),
        "config": config,
        "calibration": { "follow": follow, "max_shift": max_shift, "warm_up_rows": warm_up_rows },
        "on_state_mismatch": word(&OnStateMismatch::WORDS, *on_state_mismatch),
    })
}

pub(super) fn pipeline(p: &PipelinePlan) -> Value {
    if p.is_forward() {
        return json!({ "sources": ids(&p.sources), "sinks": ids(&p.sinks) });
    }
    let mut table = json!({
        "sources": ids(&p.sources),
        "features": p.features,
        "level_half_life_windows": p.level_half_life_windows,
        "detectors": ids(&p.detectors),
        "combine": p.combine.map(combine),
        "incident": incident(&p.incident),
        "sinks": ids(&p.sinks),
        "mode": match p.mode {
            Mode::Alert => "alert",
            Mode::Shadow => "shadow",
        },
        "prefix_v4": p.keys.first().map(|level| level.v4_prefix),
        "prefix_v6": p.keys.first().map(|level| level.v6_prefix),
        "shadow": p.shadow.as_ref().map(|s| json!({
            "detectors": ids(&s.detectors),
            "combine": s.combine.map(combine),
            "incident": incident(&s.incident),
        })),
    });
    if let Some(rows) = &p.rows {
        let RowsPlan { time, time_unit, entity } = rows;
        let window_secs = secs(p.window.size_ns);
        table["rows"] = json!({ "time": time, "time_unit": time_unit, "window_secs": window_secs, "entity": entity });
        return table;
    }
    table["window"] = window(&p.window, p.records.is_some());
    match &p.records {
        Some(RecordsPlan { entity, kind, max_bytes, plugin, config }) => {
            table["records"] = json!({
                "entity": entity,
                "level": entity.as_ref().map(|_| kind.name()),
                "max_bytes": max_bytes,
                "extract": { "plugin": &**plugin, "config": config },
            });
        }
        None => table["keys"] = p.keys.iter().map(|level| level.kind.name()).collect(),
    }
    table
}

fn window(w: &WindowPlan, of_records: bool) -> Value {
    let event_time = match w.event_time {
        EventTime::Received => "received",
        EventTime::End if of_records => "record",
        EventTime::End => "end",
        EventTime::Spread => "spread",
    };
    let mut table = json!({
        "type": w.kind.name(),
        "size_secs": secs(w.size_ns),
        "event_time": event_time,
        "max_spread_secs": secs(w.max_spread_ns),
        "out_of_order_secs": secs(w.out_of_order_ns),
        "allowed_lateness_secs": secs(w.allowed_lateness_ns),
        "idle_timeout_secs": secs(w.idle_timeout_ns),
        "max_future_secs": secs(w.max_future_ns),
        "max_keys": w.max_keys,
    });
    match w.kind {
        WindowKind::Sliding => table["slide_secs"] = json!(secs(w.pane_ns)),
        WindowKind::Tumbling => table["early_secs"] = json!((w.pane_ns != w.size_ns).then(|| secs(w.pane_ns))),
    }
    table
}

fn combine(c: CombinePlan) -> Value {
    let (rule, k) = match c.rule {
        CombineRule::Any => ("any", None),
        CombineRule::All => ("all", None),
        CombineRule::KOfN(k) => ("k_of_n", Some(k)),
        CombineRule::TailSum => ("tail_sum", None),
    };
    json!({ "rule": rule, "k": k, "false_alarms_per_day": c.false_alarms_per_day })
}

fn incident(i: &IncidentPlan) -> Value {
    json!({
        "open_after": format!("{}/{}", i.open_m, i.open_n),
        "close_after_windows": i.close_after_windows,
        "update_interval_secs": i.update_interval_secs,
        "cover_min_hosts": i.cover_min_hosts,
        "dominant_share": i.dominant_share,
        "max_open_per_minute": i.max_open_per_minute,
        "suppress": i.suppress,
    })
}

/// Nanoseconds as the files have them; whole seconds without a point.
fn secs(ns: u64) -> Value {
    let second = crate::model::time::SECOND;
    if ns.is_multiple_of(second) { json!(ns / second) } else { json!(ns as f64 / second as f64) }
}

fn ids(ids: &[Arc<str>]) -> Vec<&str> {
    ids.iter().map(|id| &**id).collect()
}

/// JSON has only UTF-8.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn word<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::super::{parse, tests::REGISTRY};
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let mut table = json!({
            "security": {
                "username": "kaminari",
                "password": { "env": "HIDDEN" },
                "key_password": { "file": "HIDDEN" },
                "ca_file": "ca.pem",
            },
            "client": { "ssl.key.pem": "HIDDEN", "sasl.jaas.config": "HIDDEN", "ssl.ca.location": "ca.pem", "Api-Key": 5 },
            "token_file": "api.token",
            "hooks": [{ "headers": { "Authorization": "HIDDEN", "X": "y" } }, { "clientSecret": ["HIDDEN"] }],
            "url": "https://me:HIDDEN@example.com/p?q",
            "plain": "https://example.com/@x",
            "password": null,
        });
        mask(&mut table);
        assert!(!table.to_string().contains("HIDDEN"), "{table}");
        assert_eq!(table["url"], "https://***@example.com/p?q");
        assert_eq!(table["plain"], "https://example.com/@x");
        assert_eq!(table["client"]["Api-Key"], "***");
        assert_eq!((&table["token_file"], &table["security"]["ca_file"]), (&json!("api.token"), &json!("ca.pem")));
        assert_eq!(table["hooks"][0]["headers"]["X"], "y");
        assert!(table["password"].is_null());
    }

    #[test]
    fn secrets_of_a_plugins_own_table_do_not_show_either() {
        let text = super::super::tests::GOOD
            .replace("config = { limits", "config = { login = { api_token = \"HIDDEN\" }, limits");
        let plan = parse("k.toml", &text, &REGISTRY).unwrap();
        assert!(effective(&plan).to_string().contains("HIDDEN"));
        let shown = masked(&plan);
        assert!(!shown.to_string().contains("HIDDEN"), "{shown}");
        assert_eq!(shown["detectors"]["limits"]["config"]["login"]["api_token"], "***");
        assert_eq!(shown["digest"], json!(plan.digest));
        assert_eq!(shown["pipelines"]["ddos"]["window"]["slide_secs"], 1);
        assert_eq!(shown["sources"]["edge"]["workers"], 0, "a default of the type");
    }

    proptest::proptest! {
        /// Whatever lies below a key that holds a secret, and however deep that key lies.
        #[test]
        fn nothing_below_a_secret_key_shows(
            word in 0..SECRETS.len(),
            before in "[a-zA-Z._-]{0,6}",
            around in proptest::collection::vec("[a-z]{1,4}", 0..4),
            below in proptest::collection::vec("[a-z]{1,4}", 0..3),
            loud: bool,
        ) {
            let mut value = json!("hush!hush");
            for key in below {
                value = json!([{ key: value }]);
            }
            let name = if loud { SECRETS[word].to_uppercase() } else { SECRETS[word].to_owned() };
            value = json!({ format!("{before}{name}"): value });
            for key in around {
                value = json!({ key: [value, "x"] });
            }
            mask(&mut value);
            proptest::prop_assert!(!value.to_string().contains("hush!hush"), "{value}");
        }
    }
}
