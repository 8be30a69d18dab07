//! What a person is told about a configuration: a stable code, the exact place, the next action.

use miette::{Diagnostic, LabeledSpan, NamedSource, Severity, SourceCode, SourceSpan};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A file's name and text, shared by all diagnostics that point into it.
pub(super) type SourceText = Arc<NamedSource<String>>;

macro_rules! codes {
    ($($(#[doc = $help:literal])+ $id:ident = $name:literal;)+) => {
        /// The codes, without the prefix `kaminari::config::`.
        pub mod code {
            $($(#[doc = $help])+ pub const $id: &str = $name;)+
        }
        /// Every code and what it means.
        pub const CODES: &[(&str, &str)] = &[$(($name, concat!($($help),+))),+];
    };
}

codes! {
    /// The file cannot be read.
    UNREADABLE = "unreadable";
    /// The text is no TOML.
    SYNTAX = "syntax";
    /// A key or section that does not exist.
    UNKNOWN_KEY = "unknown_key";
    /// A key that must be there is not.
    MISSING_KEY = "missing_key";
    /// A value of the wrong type.
    WRONG_TYPE = "wrong_type";
    /// A value of the right type that makes no sense.
    BAD_VALUE = "bad_value";
    /// The same thing said twice: in one file, in two files, or in one list.
    DUPLICATE = "duplicate";
    /// A source or sink of a type that does not exist.
    UNKNOWN_TYPE = "unknown_type";
    /// A source, plugin, detector or sink is named that no file defines.
    UNKNOWN_REFERENCE = "unknown_reference";
    /// A feature that is not in the catalogue.
    UNKNOWN_FEATURE = "unknown_feature";
    /// A key level that does not exist, or that the pipeline does not aggregate by.
    UNKNOWN_LEVEL = "unknown_level";
    /// libtorch or its device cannot be had, and the configuration insists on it.
    INFERENCE_UNUSABLE = "inference_unusable";
    /// There is no pipeline.
    NO_PIPELINE = "no_pipeline";
    /// Warning: defined and used by nobody.
    UNUSED = "unused";
    /// Warning: a pipeline alerts and nobody is told.
    NO_SINK = "no_sink";
    /// Warning: a shadow judges as its pipeline does.
    SAME_SHADOW = "same_shadow";
    /// The HTTP surface would answer to other machines without asking who they are.
    API_OPEN = "api_open";
    /// The plugin's file does not exist.
    PLUGIN_MISSING = "plugin_missing";
    /// The plugin's file is not what it should be: damaged, pinned to another digest, of another contract.
    PLUGIN_REFUSED = "plugin_refused";
    /// A plugin is used as what it is not, or refuses its configuration as the decoder of a source or the extractor of a
    /// pipeline.
    PLUGIN_CONFIG = "plugin_config";
    /// The folder of compiled plugins cannot be used, or others may write to it.
    PLUGIN_CACHE = "plugin_cache";
    /// A detector asks for a feature that the pipeline does not make, or its configuration names one.
    WRONG_COLUMN = "wrong_column";
    /// A model's folder is missing, damaged, or pinned to another digest.
    MODEL_REFUSED = "model_refused";
    /// A detector's model was trained on other levels or windows than it would judge.
    WRONG_MODEL = "wrong_model";
    /// A plugin does not take its configuration.
    DETECTOR_CONFIG = "detector_config";
    /// What is asked of Kafka cannot be: settings that do not go together, brokers that do not answer, a missing topic.
    KAFKA = "kafka";
    /// A source cannot be opened: a certificate, a key, a socket's file.
    SOURCE_UNUSABLE = "source_unusable";
    /// A sink cannot be opened.
    SINK_UNUSABLE = "sink_unusable";
}

/// One complaint.
#[derive(Clone)]
pub struct ConfigDiagnostic {
    code: String,
    severity: Severity,
    message: String,
    label: String,
    help: Option<String>,
    place: Option<(SourceText, Range<usize>)>,
}

impl ConfigDiagnostic {
    /// `code` is one of [`code`], or a full one (`kaminari::plugin::...`).
    pub(super) fn new(code: &str, message: impl Into<String>, place: Option<(SourceText, Range<usize>)>) -> Self {
        let code = if code.contains("::") { code.to_owned() } else { format!("kaminari::config::{code}") };
        Self { code, severity: Severity::Error, message: message.into(), label: "here".into(), help: None, place }
    }

    /// The few words beside the marked place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// What to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Makes it a warning: the configuration runs, but probably not as meant.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// The full code.
    pub fn full_code(&self) -> &str {
        &self.code
    }

    /// True for a warning.
    pub fn is_warning(&self) -> bool {
        self.severity == Severity::Warning
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next.
    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// File, line and column (both from 1, columns in characters) and the text marked there.
    pub fn place(&self) -> Option<(&str, usize, usize, &str)> {
        let (source, span) = self.place.as_ref()?;
        let text = source.inner();
        let before = text.get(..span.start)?;
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        Some((source.name(), line, column, text.get(span.clone())?))
    }

    /// Reading order: by file, then by place.
    pub(super) fn sort_key(&self) -> (Option<&str>, usize) {
        (self.place.as_ref().map(|(s, _)| s.name()), self.place.as_ref().map_or(0, |(_, span)| span.start))
    }
}

impl fmt::Display for ConfigDiagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// One line: logs and assertions want no excerpt.
impl fmt::Debug for ConfigDiagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        match self.place() {
            Some((file, line, column, _)) => write!(f, " at {file}:{line}:{column}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigDiagnostic {}

impl Diagnostic for ConfigDiagnostic {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.code))
    }

    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|(source, _)| source.as_ref() as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (_, span) = self.place.as_ref()?;
        let label = LabeledSpan::new_with_span(Some(self.label.clone()), SourceSpan::from(span.clone()));
        Some(Box::new(std::iter::once(label)))
    }
}

/// Everything that is wrong with a configuration, in reading order. Warnings found on the way come along.
#[derive(Clone, Debug)]
pub struct ConfigErrors(pub Vec<ConfigDiagnostic>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.iter().filter(|d| !d.is_warning()).count() {
            0 => f.write_str("the configuration has warnings, and they are denied"),
            1 => f.write_str("the configuration has one mistake"),
            n => write!(f, "the configuration has {n} mistakes"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

impl Diagnostic for ConfigErrors {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.0.iter().map(|d| d as &dyn Diagnostic)))
    }
}

/// The candidate that was probably meant: few edits away for its length.
pub fn near_miss<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (edits(word, c), c))
        .filter(|(d, c)| *d <= (c.chars().count().max(word.chars().count()) / 3).max(1))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Edit distance with neighbours swapped counting as one edit (optimal string alignment), letters without case.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// `` `a`, `b` `` for messages.
pub(super) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_near() {
        let keys = ["listen", "receive_buffer_bytes", "workers"];
        assert_eq!(near_miss("listne", keys), Some("listen"));
        assert_eq!(near_miss("Listen", keys), Some("listen"));
        assert_eq!(near_miss("recieve_bufer_bytes", keys), Some("receive_buffer_bytes"));
        assert_eq!(near_miss("worker", keys), Some("workers"));
        assert_eq!(near_miss("colour", keys), None);
        assert_eq!(near_miss("", keys), None);
        assert_eq!(near_miss("udpp", ["udp", "file"]), Some("udp"));
    }

    #[test]
    fn edits_count_swaps_once() {
        assert_eq!(edits("listne", "listen"), 1);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }
}
