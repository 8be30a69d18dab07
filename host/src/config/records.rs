//! `[pipelines.NAME.records]`: a pipeline whose sources' plugins bring rows of any kind. Its windows keep them as they are, and
//! a plugin makes features of them. What is left to say is which plugin, and which of its columns is the entity.

use super::diagnostic::code;
use super::plan::*;
use super::raw::RecordsSection;
use super::resolve::{Named, Resolver};
use crate::model::KeyKind;
use std::sync::Arc;

/// Levels that features of records may be about.
const LEVELS: [(&str, KeyKind); 3] =
    [("name", KeyKind::Name), ("src_addr", KeyKind::SrcAddr), ("dst_addr", KeyKind::DstAddr)];

impl Resolver<'_> {
    /// The plan of the records, and the level that their features are of.
    pub(super) fn records(&mut self, pipeline: &str, written: &RecordsSection) -> Option<RecordsPlan> {
        let path = &format!("{pipeline}.records");
        let at = format!("{path}.extract");
        let extract = self.required(path, "extract", written.extract.as_ref(), "extract = { plugin = \"NAME\" }");
        let plugin = extract
            .and_then(|extract| self.required(&at, "plugin", extract.plugin.clone(), "plugin = \"NAME\""))
            .and_then(|name| self.reference("plugins", &format!("{at}.plugin"), &name));
        let config = extract.map(|extract| toml::Value::Table(extract.config.clone()));
        let config = config.map(|config| self.json(&format!("{at}.config"), &config));
        let level = match &written.level {
            None => Some(KeyKind::Name),
            Some(word) => self.word(&format!("{path}.level"), word, &LEVELS),
        };
        if written.entity.is_none() && written.level.is_some() {
            let at = format!("{path}.level");
            self.bad(
                &at,
                "a level of no entity",
                "nothing is at this level",
                "add `entity = \"COLUMN\"`, or remove it",
            );
        }
        self.in_range(&format!("{path}.max_bytes"), written.max_bytes as u64, 1 << 16, 1 << 40);
        for key in ["keys", "rows"] {
            let at = format!("{pipeline}.{key}");
            if self.findings.places.contains(&at) {
                let help = "remove it: `records.entity` says what a row of features is about";
                self.bad(&at, format!("a pipeline of records has no `{key}`"), "not for records", help);
            }
        }
        let kind = if written.entity.is_some() { level? } else { KeyKind::Network };
        let (entity, max_bytes) = (written.entity.clone(), written.max_bytes);
        Some(RecordsPlan { entity, kind, max_bytes, plugin: plugin?, config: config? })
    }

    /// What a plugin decodes goes to pipelines of records, and nothing else does. The plugins are in use then.
    pub(super) fn record_sources(&mut self, sources: &Named<Component>, pipelines: &Named<PipelinePlan>) {
        for source in sources.values() {
            let path = format!("sources.{}.decode.plugin", source.id);
            if let Some(plugin) = decoded_by(source) {
                self.reference("plugins", &path, plugin);
                let format = format!("sources.{}.decode.format", source.id);
                if self.findings.places.contains(&format) {
                    let help = "remove one of the two: the plugin says what the bytes are";
                    self.bad(&format, "a `format` beside a `plugin`", "the plugin decodes", help);
                }
            } else if self.findings.places.contains(&format!("sources.{}.decode.config", source.id)) {
                let at = format!("sources.{}.decode.config", source.id);
                self.bad(&at, "a `config` without a `plugin`", "nobody reads it", "add `plugin = \"NAME\"` beside it");
            }
        }
        for pipeline in pipelines.values() {
            for (i, id) in pipeline.sources.iter().enumerate() {
                let Some(source) = sources.get(id) else { continue };
                let path = format!("pipelines.{}.sources[{i}]", pipeline.id);
                let (text, help) = match (decoded_by(source), &pipeline.records) {
                    (Some(plugin), None) => (
                        format!("source `{id}` brings rows of plugin `{plugin}`, and this pipeline takes flow records"),
                        format!("add `[pipelines.{}.records]`, which says what is made of them", pipeline.id),
                    ),
                    (None, Some(_)) => (
                        format!("source `{id}` brings flow records, and this pipeline takes rows of a plugin"),
                        format!("add `decode = {{ plugin = \"NAME\" }}` to `[sources.{id}]`"),
                    ),
                    _ => continue,
                };
                let wrong = self.findings.about(code::BAD_VALUE, &path, text).label("not for this pipeline").help(help);
                self.findings.push(&path, wrong);
            }
        }
    }
}

/// The plugin that decodes a source; `None`: the engine does.
pub fn decoded_by(source: &Component) -> Option<&str> {
    source.body.get("decode")?.get("plugin")?.as_str()
}

/// The level of a pipeline of records, for the plan of its keys.
pub(super) fn levels(records: Option<&RecordsPlan>, (v4_prefix, v6_prefix): (u8, u8)) -> Vec<crate::model::KeyLevel> {
    records.map(|r| crate::model::KeyLevel { kind: r.kind, v4_prefix, v6_prefix }).into_iter().collect()
}

/// The name of every plugin that a plan decodes with, by source.
pub fn decoders(plan: &Plan) -> impl Iterator<Item = (&Arc<str>, &str)> {
    plan.sources.values().filter_map(|source| Some((&source.id, decoded_by(source)?)))
}
