//! `[pipelines.NAME.rows]`: a pipeline whose sources bring rows of features that something else has worked out, one per
//! window and entity. It has no windows of its own; what is left to say is where the time and the entity stand.

use super::diagnostic::code;
use super::plan::*;
use super::raw::RowsSection;
use super::resolve::{Named, Resolver};
use crate::model::KeyKind;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Resolver<'_> {
    /// The plan of the rows and of the window that each of them is of.
    pub(super) fn rows(&mut self, pipeline: &str, written: &RowsSection) -> Option<(RowsPlan, WindowPlan)> {
        let path = &format!("{pipeline}.rows");
        let time = self.required(path, "time", written.time.clone(), "time = \"COLUMN\"");
        let size = self.required(path, "window_secs", written.window_secs, "window_secs = 60");
        let size = size.and_then(|secs| self.duration(&format!("{path}.window_secs"), secs, false));
        for key in ["keys", "window"] {
            let at = format!("{pipeline}.{key}");
            if self.findings.places.contains(&at) {
                let help = "remove it: `entity` says what a row is about, `window_secs` how long its window is";
                self.bad(&at, format!("a pipeline of rows has no `{key}`"), "not for rows", help);
            }
        }
        let size_ns = size?;
        let window = WindowPlan {
            kind: WindowKind::Tumbling,
            size_ns,
            pane_ns: size_ns,
            event_time: EventTime::End,
            max_spread_ns: 0,
            out_of_order_ns: 0,
            allowed_lateness_ns: 0,
            idle_timeout_ns: 0,
            max_future_ns: 0,
            max_keys: usize::MAX,
        };
        Some((RowsPlan { time: time?, time_unit: written.time_unit, entity: written.entity.clone() }, window))
    }

    /// A column of the rows, or one over another.
    pub(super) fn row_feature(&mut self, path: &str, name: &str) -> Option<String> {
        let parts: Vec<&str> = name.split(" / ").collect();
        if parts.len() > 2 || parts.iter().any(|part| part.trim().is_empty() || part.trim() != *part) {
            let help = "write the name of a column, or a ratio of two: \"udp / flows\"";
            self.bad(path, format!("`{name}` is no feature of rows"), "neither a column nor a ratio", help);
            return None;
        }
        Some(name.to_owned())
    }

    /// A source brings flow records or rows, not both; rows come from files.
    pub(super) fn row_sources(&mut self, sources: &Named<Component>, pipelines: &Named<PipelinePlan>) {
        let mut first: BTreeMap<&Arc<str>, &PipelinePlan> = BTreeMap::new();
        for pipeline in pipelines.values() {
            for (i, source) in pipeline.sources.iter().enumerate() {
                let path = format!("pipelines.{}.sources[{i}]", pipeline.id);
                let other = *first.entry(source).or_insert(pipeline);
                let (text, help) = if other.rows.is_some() != pipeline.rows.is_some() {
                    let text = format!(
                        "source `{source}` feeds pipeline `{}` with {} and this one with {}",
                        other.id,
                        brings(other),
                        brings(pipeline)
                    );
                    (text, "define a source for each")
                } else if pipeline.rows.is_some() && i > 0 {
                    ("a pipeline of rows has one source".to_owned(), "name all files in its `paths`")
                } else if pipeline.rows.is_some() && sources.get(source).is_some_and(|s| s.kind != "file") {
                    (format!("source `{source}` brings no rows"), "rows of features come from `type = \"file\"`")
                } else {
                    continue;
                };
                let wrong = self.findings.about(code::BAD_VALUE, &path, text).label("not for this pipeline").help(help);
                self.findings.push(&path, wrong);
            }
        }
    }
}

/// The level of rows: they are about hosts, or about the whole network.
pub(super) fn level(rows: &RowsSection) -> KeyKind {
    if rows.entity.is_some() { KeyKind::DstAddr } else { KeyKind::Network }
}

fn brings(pipeline: &PipelinePlan) -> &'static str {
    if pipeline.rows.is_some() { "rows of features" } else { "flow records" }
}
