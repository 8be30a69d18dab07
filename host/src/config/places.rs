//! Where everything stands in the operator's files: a dotted path (`pipelines.ddos.window.size_secs`,
//! `detectors.host-limits.config.limits[0].feature`) in, file and span out. Later phases (plugins are loaded, a
//! detector refuses a column) thus complain in the same form as the parser does.

use super::diagnostic::{ConfigDiagnostic, SourceText};
use miette::NamedSource;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;
use toml::de::DeValue;

/// Finds the place in the operator's files that a dotted path came from, and keeps the warnings of the load.
#[derive(Debug, Default)]
pub struct Places {
    files: Vec<SourceFile>,
    spans: BTreeMap<String, (usize, Range<usize>)>,
    pub(super) warnings: Vec<ConfigDiagnostic>,
}

#[derive(Debug)]
struct SourceFile {
    path: PathBuf,
    source: SourceText,
}

impl Places {
    /// A complaint about what stands at `path` or, when the operator wrote nothing there, at its nearest parent.
    /// `code` is one of [`super::code`], or a full one of another room.
    pub fn diagnostic(
        &self,
        code: &str,
        path: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) -> ConfigDiagnostic {
        let mut at = path;
        let place = loop {
            match (self.spans.get(at), parent(at)) {
                (Some((file, span)), _) => break Some((*file, span.clone())),
                (None, Some(up)) => at = up,
                (None, None) => break None,
            }
        };
        let diagnostic = match place {
            Some((file, span)) => self.at(code, file, span, message),
            None => ConfigDiagnostic::new(code, message, None),
        };
        match help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }

    /// What is odd about the configuration without being wrong, in reading order.
    pub fn warnings(&self) -> &[ConfigDiagnostic] {
        &self.warnings
    }

    /// The configuration's files, as they were named.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|f| f.path.as_path())
    }

    /// A complaint about a span of a file.
    pub(super) fn at(
        &self,
        code: &str,
        file: usize,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> ConfigDiagnostic {
        ConfigDiagnostic::new(code, message, Some((self.files[file].source.clone(), span)))
    }

    pub(super) fn add_file(&mut self, path: &Path, text: &str) -> usize {
        let source = Arc::new(NamedSource::new(path.display().to_string(), text.to_owned()));
        self.files.push(SourceFile { path: path.to_owned(), source });
        self.files.len() - 1
    }

    /// The folder that relative paths of this file start from.
    pub(super) fn folder(&self, file: usize) -> &Path {
        self.files[file].path.parent().unwrap_or(Path::new(""))
    }

    /// Remembers `value` and everything below it.
    pub(super) fn add(&mut self, file: usize, path: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => {
                for (key, below) in table.iter() {
                    self.add(file, &join(path, key.get_ref()), below);
                }
            }
            DeValue::Array(array) => {
                for (i, below) in array.iter().enumerate() {
                    self.add(file, &format!("{path}[{i}]"), below);
                }
            }
            _ => {}
        }
        self.spans.insert(path.to_owned(), (file, value.span()));
    }

    /// `file:line` of a path, for messages that name two places.
    pub(super) fn line_of(&self, path: &str) -> Option<String> {
        let (file, span) = self.spans.get(path)?;
        let line = self.files[*file].source.inner()[..span.start].matches('\n').count() + 1;
        Some(format!("{}:{line}", self.files[*file].path.display()))
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.spans.contains_key(path)
    }
}

/// `a.b[0].c` -> `a.b[0]` -> `a.b` -> `a`.
pub(super) fn parent(path: &str) -> Option<&str> {
    path.rfind(['.', '[']).map(|end| &path[..end])
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_was_not_written_falls_back_to_its_parent() {
        let text = "[detectors.d]\nplugin = \"t\"\nconfig = { limits = [ { name = \"x\", feature = \"bps\" } ] }\n";
        let mut places = Places::default();
        let file = places.add_file(Path::new("conf/k.toml"), text);
        let table = toml::de::DeTable::parse(text).unwrap();
        let span = table.span();
        places.add(file, "", &Spanned::new(span, DeValue::Table(table.into_inner())));

        let marked = |path: &str| {
            let diagnostic = places.diagnostic("wrong_column", path, "no", Some("do".into()));
            diagnostic.place().map(|(file, line, column, text)| (file.to_owned(), line, column, text.to_owned()))
        };
        let at = |line, column, text: &str| Some(("conf/k.toml".to_owned(), line, column, text.to_owned()));
        assert_eq!(marked("detectors.d.config.limits[0].feature"), at(3, 47, "\"bps\""));
        assert_eq!(marked("detectors.d.config.limits[0].above"), at(3, 23, "{ name = \"x\", feature = \"bps\" }"));
        assert_eq!(marked("detectors.d.keys[2]"), at(1, 1, "[detectors.d]"));
        assert_eq!(places.folder(file), Path::new("conf"));
    }
}
