//! Two plans as JSON (`/api/v1/plan`), key by key. Comes in: what runs and what the files say; goes out: what differs by
//! component. Secrets are masked on both sides: that one differs shows in the digest only.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Sections whose tables are components, each with a name.
const NAMED: [&str; 6] = ["sources", "models", "plugins", "detectors", "pipelines", "sinks"];

/// What differs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Differs {
    running: String,
    files: String,
    /// Component, what happens to it, keys.
    components: Vec<(String, &'static str, Vec<String>)>,
}

pub(super) fn plans(running: &Value, files: &Value) -> Differs {
    let digest = |plan: &Value| plan["digest"].as_str().unwrap_or_default().to_owned();
    let (old, new) = (components(running), components(files));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differing = names.into_iter().filter_map(|name| match (old.get(name), new.get(name)) {
        (None, _) => Some((name.clone(), "added", Vec::new())),
        (_, None) => Some((name.clone(), "removed", Vec::new())),
        (Some(old), Some(new)) => {
            let mut keys = Vec::new();
            differing_keys(name, old, new, &mut keys);
            (!keys.is_empty()).then(|| (name.clone(), "changed", keys))
        }
    });
    Differs { running: digest(running), files: digest(files), components: differing.collect() }
}

impl Differs {
    pub(super) fn is_empty(&self) -> bool {
        self.running == self.files && self.components.is_empty()
    }

    pub(super) fn as_json(&self) -> Value {
        let changes = self.components.iter();
        let changes: Vec<Value> =
            changes.map(|(name, what, keys)| json!({"component": name, "what": what, "keys": keys})).collect();
        let verdict = if self.is_empty() { "same" } else { "differs" };
        json!({"verdict": verdict, "old_digest": self.running, "new_digest": self.files, "changes": changes})
    }

    pub(super) fn as_text(&self) -> String {
        if self.is_empty() {
            return format!("the engine runs what the files say: {}\n", self.running);
        }
        let mut text = String::new();
        for (component, what, keys) in &self.components {
            let _ = writeln!(text, "{} {component}", super::sign(what));
            if !keys.is_empty() {
                let _ = writeln!(text, "    keys    {}", keys.join(", "));
            }
        }
        if self.components.is_empty() {
            text.push_str("no key that is shown differs: a secret does, or a default is written out\n");
        }
        let _ = writeln!(text, "the engine runs {}, the files say {}", self.running, self.files);
        text
    }
}

/// By name; of sections without names the section.
fn components(plan: &Value) -> Map<String, Value> {
    let mut found = Map::new();
    for (section, value) in plan.as_object().into_iter().flatten().filter(|(key, _)| *key != "digest") {
        match value.as_object().filter(|_| NAMED.contains(&section.as_str())) {
            Some(named) => found.extend(named.iter().map(|(name, value)| (format!("{section}.{name}"), value.clone()))),
            None => {
                found.insert(section.clone(), value.clone());
            }
        }
    }
    found
}

fn differing_keys(at: &str, old: &Value, new: &Value, keys: &mut Vec<String>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) => {
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let of = |table: &Map<String, Value>| table.get(name).cloned().unwrap_or_default();
                differing_keys(&format!("{at}.{name}"), &of(old), &of(new), keys);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                differing_keys(&format!("{at}[{i}]"), old, new, keys);
            }
        }
        _ => keys.push(at.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_by_component_and_key() {
        let running = json!({
            "digest": "a",
            "api": {"listen": "127.0.0.1:1", "token_file": null},
            "detectors": {"limits": {"plugin": "t", "config": {"limits": [{"above": 1, "feature": "bps"}]}}, "old": {}},
        });
        assert!(plans(&running, &running).is_empty());
        let mut files = running.clone();
        files["digest"] = json!("b");
        let unseen = plans(&running, &files);
        assert!(!unseen.is_empty() && unseen.as_text().contains("a secret does"), "{}", unseen.as_text());
        files["api"]["token_file"] = json!("token");
        files["detectors"]["limits"]["config"]["limits"][0]["above"] = json!(2);
        files["detectors"]["new"] = json!({});
        files["detectors"].as_object_mut().unwrap().remove("old");
        let differs = plans(&running, &files);
        assert_eq!(
            differs.as_text(),
            "~ api\n    keys    api.token_file\n~ detectors.limits\n    keys    detectors.limits.config.limits[0].above\n+ detectors.new\n\
             - detectors.old\nthe engine runs a, the files say b\n"
        );
        assert_eq!(
            differs.as_json()["changes"][3],
            json!({"component": "detectors.old", "what": "removed", "keys": []})
        );
    }
}
