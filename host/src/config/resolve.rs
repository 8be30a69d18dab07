//! What was written becomes what it means: defaults filled in, names looked up, ranges checked. Goes on after every
//! mistake and says nothing twice: what follows from a mistake already told is left out.

use super::diagnostic::{ConfigDiagnostic, ConfigErrors, code, quoted};
use super::plan::*;
use super::raw::{DetectorSection, PluginSection};
use super::read::{Findings, meant, section};
use super::registry::{ComponentDef, Registry};
use super::{Entry, Merged, Places, contents, digest, resolved, sorted};
use crate::model::KeyKind;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

pub(super) fn plan(
    merged: Merged<'_>,
    places: Places,
    errors: Vec<ConfigDiagnostic>,
    registry: &Registry,
) -> Result<Plan, ConfigErrors> {
    let digest = digest::digest(&whole(&merged));
    let (parts, diagnostics) = {
        let mut findings = Findings::new(&places);
        findings.diagnostics = errors;
        let mut resolver = Resolver { findings, registry, merged: &merged, used: BTreeSet::new() };
        let parts = resolver.parts();
        // Only then: the mistake may be what keeps it from being used.
        if resolver.findings.is_clean() {
            resolver.unused();
        }
        (parts.filter(|_| resolver.findings.is_clean()), resolver.findings.diagnostics)
    };
    let found = sorted(diagnostics, &places);
    let Some((engine, api, reload, inference, sources, models, plugins, detectors, sinks, pipelines)) = parts else {
        return Err(found);
    };
    let mut places = places;
    places.warnings = found.0;
    let mut plan = Plan {
        digest,
        engine,
        api,
        reload,
        inference,
        sources,
        models,
        plugins,
        detectors,
        sinks,
        pipelines,
        places: Arc::new(Places::default()),
    };
    let unjudged = unjudged(&plan, &places);
    places.warnings.extend(unjudged);
    plan.places = Arc::new(places);
    Ok(plan)
}

/// Levels that a pipeline names and none of its detectors judges.
fn unjudged(plan: &Plan, places: &Places) -> Vec<ConfigDiagnostic> {
    let pipelines = plan.pipelines.values();
    let levels = pipelines.flat_map(|p| p.keys.iter().enumerate().map(move |(at, level)| (p, at, level.kind)));
    levels
        .filter(|(pipeline, _, kind)| !plan.judges(pipeline, *kind))
        .map(|(pipeline, at, kind)| {
            let text =
                format!("no detector of pipeline `{}` judges `{}`: it is not aggregated", pipeline.id, kind.name());
            let help = format!("name `{}` in the `keys` of a detector, or remove it here", kind.name());
            let path = format!("pipelines.{}.keys[{at}]", pipeline.id);
            places.diagnostic(code::UNUSED, &path, text, Some(help)).label("not judged").warning()
        })
        .collect()
}

pub(super) type Named<T> = BTreeMap<Arc<str>, T>;
type Parts = (
    EnginePlan,
    ApiPlan,
    ReloadPlan,
    InferencePlan,
    Named<Component>,
    Named<ModelPlan>,
    Named<PluginPlan>,
    Named<DetectorPlan>,
    Named<Component>,
    Named<PipelinePlan>,
);

/// All tables as one, as a single file would have them.
fn whole(merged: &Merged<'_>) -> toml::Table {
    let mut all = toml::Table::new();
    for (section, entry) in &merged.single {
        all.insert(section.clone(), value(&entry.value));
    }
    for (section, entries) in &merged.named {
        let tables = entries.iter().map(|(name, entry)| (name.clone(), value(&entry.value))).collect();
        all.insert(section.clone(), toml::Value::Table(tables));
    }
    all
}

fn value(value: &Spanned<DeValue<'_>>) -> toml::Value {
    // Only a number too large for TOML's own types fails here; its section complains about it with its place.
    toml::Value::deserialize(ValueDeserializer::from(value.clone())).unwrap_or(toml::Value::String("overflow".into()))
}

pub(super) struct Resolver<'a> {
    pub findings: Findings<'a>,
    pub registry: &'a Registry,
    pub merged: &'a Merged<'a>,
    /// Section and name of everything that something else refers to.
    used: BTreeSet<(&'static str, String)>,
}

impl Resolver<'_> {
    fn parts(&mut self) -> Option<Parts> {
        let engine = self.engine();
        let api = self.api();
        let reload = self.reload();
        let inference = self.inference();
        let sources = self.components("sources", self.registry.sources);
        let sinks = self.components("sinks", self.registry.sinks);
        let models = self.each("models", Self::model);
        let plugins = self.each("plugins", Self::plugin);
        let detectors = self.each("detectors", Self::detector);
        let pipelines = self.each("pipelines", Self::pipeline);
        self.detector_levels(&detectors, &pipelines);
        self.row_sources(&sources, &pipelines);
        self.record_sources(&sources, &pipelines);
        self.trainable(&models, &pipelines);
        if self.merged.named.get("pipelines").is_none_or(BTreeMap::is_empty) {
            self.no_pipeline();
        }
        Some((engine?, api?, reload?, inference?, sources, models, plugins, detectors, sinks, pipelines))
    }

    fn no_pipeline(&mut self) {
        let files = self.findings.places.files().map(|p| p.display().to_string()).collect::<Vec<_>>();
        let text = match (self.merged.single.is_empty() && self.merged.named.is_empty(), files.as_slice()) {
            (true, [file]) => format!("{file} is empty: nothing is configured"),
            (_, [file]) => format!("{file} has no pipeline"),
            _ => format!("no pipeline in {}", files.join(", ")),
        };
        let diagnostic = ConfigDiagnostic::new(code::NO_PIPELINE, text, None)
            .help("add a `[pipelines.NAME]`; configs/minimal.toml is the shortest configuration that works");
        self.findings.push("pipelines", diagnostic);
    }

    /// Resolves every named table of a section; those with mistakes are left out.
    fn each<T>(&mut self, name: &'static str, one: fn(&mut Self, &str, &Entry<'_>) -> Option<T>) -> Named<T> {
        let merged = self.merged;
        let entries = merged.named.get(name).into_iter().flatten();
        entries.filter_map(|(id, entry)| Some((Arc::from(id.as_str()), one(self, id, entry)?))).collect()
    }

    pub fn read<T: serde::de::DeserializeOwned>(&mut self, path: &str, entry: &Entry<'_>) -> Option<T> {
        section(&mut self.findings, entry.file, path, entry.value.clone(), |body| T::deserialize(body))
    }

    /// Sources or sinks: `type` is looked up by hand, the rest goes to the type's own struct.
    fn components(&mut self, name: &'static str, defs: &'static [ComponentDef]) -> Named<Component> {
        let merged = self.merged;
        let entries = merged.named.get(name).into_iter().flatten();
        let one = |(id, entry): (&String, &Entry<'_>)| {
            let component = self.component(&format!("{name}.{id}"), id, entry, defs)?;
            Some((component.id.clone(), component))
        };
        entries.filter_map(one).collect()
    }

    fn component(
        &mut self,
        path: &str,
        id: &str,
        entry: &Entry<'_>,
        defs: &'static [ComponentDef],
    ) -> Option<Component> {
        let kinds = || defs.iter().map(|def| def.kind);
        let types = || format!("types: {}", quoted(kinds()));
        let mut body = entry.value.clone();
        let DeValue::Table(table) = body.get_mut() else {
            let wrong = self.findings.about(code::WRONG_TYPE, path, format!("`{path}` is a table"));
            self.findings.push(path, wrong.label("expected a table").help(format!("write `[{path}]`")));
            return None;
        };
        let type_path = format!("{path}.type");
        let Some(kind) = table.remove("type") else {
            let missing = self.findings.about(code::MISSING_KEY, path, format!("`{path}` has no `type`"));
            self.findings.push(
                &type_path,
                missing.label("`type` belongs here").help(format!("add `type = \"...\"`; {}", types())),
            );
            return None;
        };
        let Some(kind) = kind.get_ref().as_str() else {
            let wrong = self.findings.about(code::WRONG_TYPE, &type_path, format!("wrong type for `{type_path}`"));
            self.findings.push(&type_path, wrong.label("expected a string").help(types()));
            return None;
        };
        let Some(def) = defs.iter().find(|def| def.kind == kind) else {
            let unknown =
                self.findings.about(code::UNKNOWN_TYPE, &type_path, format!("unknown type `{kind}` for `{path}`"));
            let unknown = meant(unknown, kind, kinds(), "no such type").help(types());
            self.findings.push(&type_path, unknown);
            return None;
        };
        section(&mut self.findings, entry.file, path, body.clone(), def.check)?;
        let toml::Value::Table(mut body) = value(&body) else { return None };
        let folder = self.findings.places.folder(entry.file);
        for key in def.paths {
            match at_path(&mut body, key) {
                Some(toml::Value::String(path)) => join_folder(folder, path),
                Some(toml::Value::Array(paths)) => paths.iter_mut().for_each(|path| {
                    if let toml::Value::String(path) = path {
                        join_folder(folder, path);
                    }
                }),
                _ => {}
            }
        }
        let (full, files) = ((def.fill)(&body), contents::read(def, &body));
        Some(Component { id: Arc::from(id), kind: def.kind, full, files, body })
    }

    /// `sha256` of the table at `path`, in lower case.
    pub(super) fn pin(&mut self, path: &str, written: Option<String>, help: &str) -> Option<String> {
        let pin = written?.to_ascii_lowercase();
        if pin.len() != 64 || !pin.bytes().all(|b| b.is_ascii_hexdigit()) {
            let at = format!("{path}.sha256");
            self.bad(&at, format!("`{at}` is no SHA-256"), "64 hex digits", help);
        }
        Some(pin)
    }

    fn plugin(&mut self, id: &str, entry: &Entry<'_>) -> Option<PluginPlan> {
        let path = &format!("plugins.{id}");
        let written: PluginSection = self.read(path, entry)?;
        let file = self.required(path, "path", written.path, "path = \"NAME.wasm\"");
        let sha256 = self.pin(path, written.sha256, "paste the first field of `sha256sum FILE`");
        let model = |resolver: &mut Self, path: &str, name: &str| resolver.reference("models", path, name);
        let inference = self.list(&format!("{path}.inference"), &written.inference, model);
        let bucket = |r: &mut Self, path: &str, name: &str| {
            let good = !name.is_empty() && name.len() <= 64;
            if !good {
                r.bad(path, format!("`{name}` is no name of a bucket"), "1 to 64 bytes", "name it as the plugin does");
            }
            good.then(|| Arc::from(name))
        };
        let state = self.list(&format!("{path}.state"), &written.state, bucket);
        self.in_range(&format!("{path}.metrics_series"), written.metrics_series as u64, 0, 100_000);
        let limits = written.limits;
        for (key, value, least, most) in [
            ("memory_bytes", limits.memory_bytes as u64, 1 << 16, 1 << 32),
            ("deadline_ms", limits.deadline_ms, 1, 60_000),
            ("alerts_per_call", limits.alerts_per_call as u64, 1, 1 << 20),
            ("state_bytes", limits.state_bytes as u64, 1 << 10, 1 << 32),
        ] {
            self.in_range(&format!("{path}.limits.{key}"), value, least, most);
        }
        Some(PluginPlan {
            id: Arc::from(id),
            path: resolved(self.findings.places.folder(entry.file), &file?),
            sha256,
            inference,
            state,
            metrics_series: written.metrics_series,
            limits: PluginLimits {
                memory_bytes: limits.memory_bytes,
                deadline_ms: limits.deadline_ms,
                alerts_per_call: limits.alerts_per_call,
                state_bytes: limits.state_bytes,
            },
        })
    }

    fn detector(&mut self, id: &str, entry: &Entry<'_>) -> Option<DetectorPlan> {
        let path = &format!("detectors.{id}");
        let written: DetectorSection = self.read(path, entry)?;
        let plugin = self.required(path, "plugin", written.plugin, "plugin = \"NAME\"");
        let plugin = plugin.and_then(|name| self.reference("plugins", &format!("{path}.plugin"), &name));
        let keys = written.keys.map(|keys| {
            self.filled(&format!("{path}.keys"), &keys, "leave `keys` out to judge every level of the pipeline");
            self.list(&format!("{path}.keys"), &keys, Self::level)
        });
        let config = self.json(&format!("{path}.config"), &toml::Value::Table(written.config));
        let follow = self.calibration(&format!("{path}.calibration"), &written.calibration);
        let mismatch = written.on_state_mismatch.as_deref().map_or(Some(OnStateMismatch::default()), |word| {
            self.word(&format!("{path}.on_state_mismatch"), word, &OnStateMismatch::WORDS)
        });
        let (id, plugin, on_state_mismatch) = (Arc::from(id), plugin?, mismatch?);
        Some(DetectorPlan { id, plugin, keys, config, follow, on_state_mismatch })
    }

    /// A detector may judge only levels that the pipelines it runs in aggregate by.
    fn detector_levels(&mut self, detectors: &Named<DetectorPlan>, pipelines: &Named<PipelinePlan>) {
        for pipeline in pipelines.values() {
            let has: Vec<&str> = pipeline.keys.iter().map(|level| level.kind.name()).collect();
            for id in pipeline.all_detectors() {
                let keys = detectors.get(id).and_then(|d| d.keys.as_deref()).unwrap_or_default();
                for (i, kind) in keys.iter().enumerate().filter(|(_, kind)| !has.contains(&kind.name())) {
                    let (path, level) = (format!("detectors.{id}.keys[{i}]"), kind.name());
                    let text = format!("pipeline `{}` does not aggregate by `{level}`", pipeline.id);
                    let unknown =
                        self.findings.about(code::UNKNOWN_LEVEL, &path, text).label("not a level of the pipeline");
                    let help = format!(
                        "add `{level}` to `pipelines.{}.keys` ({}) or remove it here",
                        pipeline.id,
                        quoted(has.iter().copied())
                    );
                    self.findings.push(&path, unknown.help(help));
                }
            }
        }
    }

    fn unused(&mut self) {
        for (section, user) in [
            ("sources", "pipeline"),
            ("models", "plugin"),
            ("plugins", "detector, source or pipeline of records"),
            ("detectors", "pipeline"),
            ("sinks", "pipeline"),
        ] {
            for name in self.merged.named.get(section).into_iter().flat_map(BTreeMap::keys) {
                if !self.used.contains(&(section, name.clone())) {
                    let path = format!("{section}.{name}");
                    let text = format!("`{path}` is used by no {user}");
                    let unused = self.findings.about(code::UNUSED, &path, text).warning();
                    self.findings
                        .diagnostics
                        .push(unused.label("unused").help(format!("name it in a {user}, or remove it")));
                }
            }
        }
    }

    /// `name` in `section`, or a complaint with the near miss.
    pub fn reference(&mut self, section: &'static str, path: &str, name: &str) -> Option<Arc<str>> {
        let merged = self.merged;
        let defined = || merged.named.get(section).into_iter().flat_map(BTreeMap::keys).map(String::as_str);
        if defined().any(|d| d == name) {
            self.used.insert((section, name.to_owned()));
            return Some(Arc::from(name));
        }
        let singular = section.trim_end_matches('s');
        let unknown = self.findings.about(code::UNKNOWN_REFERENCE, path, format!("there is no {singular} `{name}`"));
        let help = match defined().next() {
            None => format!("define it with `[{section}.{name}]`"),
            Some(_) => format!("{section}: {}; or define it with `[{section}.{name}]`", quoted(defined())),
        };
        let unknown = meant(unknown, name, defined(), "not defined").help(help);
        self.findings.push(path, unknown);
        None
    }

    /// A level that flow records have.
    pub fn flow_level(&mut self, path: &str, name: &str) -> Option<KeyKind> {
        let kind = self.level(path, name)?;
        if kind == KeyKind::Name {
            let text = format!("flow records have no `{name}`");
            let help = "it is for `[pipelines.NAME.records]`, by `entity`";
            self.bad(path, text, "not for flow records", help);
            return None;
        }
        Some(kind)
    }

    pub fn level(&mut self, path: &str, name: &str) -> Option<KeyKind> {
        let known = KeyKind::from_name(name);
        if known.is_none() {
            let names = || KeyKind::ALL.into_iter().map(KeyKind::name);
            let unknown = self.findings.about(code::UNKNOWN_LEVEL, path, format!("unknown key level `{name}`"));
            let unknown = meant(unknown, name, names(), "no such level").help(format!("levels: {}", quoted(names())));
            self.findings.push(path, unknown);
        }
        known
    }

    /// Resolves each entry of a list; an entry that stands there twice is a mistake.
    pub fn list<T>(
        &mut self,
        path: &str,
        items: &[String],
        mut one: impl FnMut(&mut Self, &str, &str) -> Option<T>,
    ) -> Vec<T> {
        if self.findings.is_broken(path) {
            return Vec::new();
        }
        let mut out = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let at = format!("{path}[{i}]");
            if items[..i].contains(item) {
                let twice = self.findings.about(code::DUPLICATE, &at, format!("`{item}` stands twice in `{path}`"));
                self.findings.push(&at, twice.label("second time here").help("remove one of the two"));
            } else {
                out.extend(one(self, &at, item));
            }
        }
        out
    }

    /// A list that must not be empty.
    pub fn filled(&mut self, path: &str, items: &[String], help: &str) {
        if items.is_empty() && !self.findings.is_broken(path) {
            self.bad(path, format!("`{path}` is empty"), "nothing in here", help);
        }
    }

    /// A key that must be there.
    pub fn required<T>(&mut self, path: &str, key: &str, value: Option<T>, example: &str) -> Option<T> {
        let at = format!("{path}.{key}");
        if value.is_none() && !self.findings.explains_missing(path, key) {
            let missing = self.findings.about(code::MISSING_KEY, path, format!("`{path}` has no `{key}`"));
            self.findings.push(&at, missing.label(format!("`{key}` belongs here")).help(format!("add `{example}`")));
        }
        value
    }

    pub fn bad(&mut self, path: &str, message: impl Into<String>, label: impl Into<String>, help: impl Into<String>) {
        let bad = self.findings.about(code::BAD_VALUE, path, message).label(label).help(help);
        self.findings.push(path, bad);
    }

    pub fn in_range(&mut self, path: &str, value: u64, least: u64, most: u64) {
        if !(least..=most).contains(&value) {
            let label = format!("from {least} to {most}");
            self.bad(path, format!("`{path}` is {value}"), label, format!("write a number from {least} to {most}"));
        }
    }

    /// The plugin's own table. JSON knows neither `nan` nor `inf`.
    pub(super) fn json(&mut self, path: &str, value: &toml::Value) -> serde_json::Value {
        match value {
            toml::Value::String(text) => text.as_str().into(),
            toml::Value::Integer(n) => (*n).into(),
            toml::Value::Boolean(b) => (*b).into(),
            toml::Value::Datetime(time) => time.to_string().into(),
            toml::Value::Float(number) => serde_json::Number::from_f64(*number).map_or_else(
                || {
                    self.bad(path, format!("`{path}` is {number}"), "not a finite number", "write a finite number");
                    serde_json::Value::Null
                },
                serde_json::Value::Number,
            ),
            toml::Value::Array(array) => {
                array.iter().enumerate().map(|(i, below)| self.json(&format!("{path}[{i}]"), below)).collect()
            }
            toml::Value::Table(table) => {
                let object = table.iter().map(|(key, below)| (key.clone(), self.json(&format!("{path}.{key}"), below)));
                serde_json::Value::Object(object.collect())
            }
        }
    }
}

/// Names as a person reads them.
pub(super) fn quoted_list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    quoted(names)
}

/// The value at a dotted path.
fn at_path<'t>(body: &'t mut toml::Table, path: &str) -> Option<&'t mut toml::Value> {
    match path.split_once('.') {
        None => body.get_mut(path),
        Some((first, rest)) => at_path(body.get_mut(first)?.as_table_mut()?, rest),
    }
}

fn join_folder(folder: &Path, path: &mut String) {
    // `-` is the customary name of standard input and output.
    if path != "-"
        && let Some(joined) = resolved(folder, Path::new(path.as_str())).to_str()
    {
        *path = joined.to_owned();
    }
}
