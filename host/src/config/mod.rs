//! Text in, a [`Plan`] or a precise complaint out; nothing is built or opened here. Refused: unknown keys, wrong types,
//! references to nothing, windows that do not add up. All mistakes of all files are told in one go, each with file,
//! line, column, near miss and next action. Moves no metric.
//!
//! Two passes, because serde's internally tagged enums and `flatten` lose the place of a mistake: the text becomes a
//! tree that knows its spans; then each section is read into its own struct, `type` of sources and sinks being looked
//! up by hand in the [`Registry`] that the caller brings. Precedence: built-in defaults, then the files; a table may
//! stand in one file only.

mod combine;
mod contents;
pub mod decode_options;
mod diagnostic;
pub mod diff;
mod digest;
pub mod effective;
mod inference;
pub mod kafka;
mod models;
mod pipeline;
mod places;
pub mod plan;
mod process;
mod raw;
mod read;
pub mod records;
pub mod registry;
mod resolve;
mod rows;
mod shadow;

pub use contents::ReadFile;
pub use diagnostic::{CODES, ConfigDiagnostic, ConfigErrors, code, near_miss};
pub use places::Places;
pub use plan::*;
pub use process::default_cache_dir;
pub use registry::{ComponentDef, ConfigError, FeatureDef, Registry};

use diagnostic::quoted;
use read::meant;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Reads and resolves the files together. Warnings of a good configuration: [`Places::warnings`] of the plan.
pub fn load(files: &[PathBuf], registry: &Registry) -> Result<Plan, ConfigErrors> {
    let mut texts = Vec::new();
    let mut errors = Vec::new();
    for path in files {
        match std::fs::read_to_string(path) {
            Ok(text) => texts.push((path.clone(), text)),
            Err(error) => errors.push(
                ConfigDiagnostic::new(code::UNREADABLE, format!("cannot read {}: {error}", path.display()), None)
                    .help("name a readable TOML file with `-c FILE`"),
            ),
        }
    }
    if errors.is_empty() { parse_all(&texts, registry) } else { Err(ConfigErrors(errors)) }
}

/// As [`load`], from one text. `name` stands in diagnostics; relative paths start from its folder.
pub fn parse(name: &str, text: &str, registry: &Registry) -> Result<Plan, ConfigErrors> {
    parse_all(&[(PathBuf::from(name), text.to_owned())], registry)
}

fn parse_all(texts: &[(PathBuf, String)], registry: &Registry) -> Result<Plan, ConfigErrors> {
    let mut places = Places::default();
    let mut errors = Vec::new();
    let mut merged = Merged::default();
    let mut unreadable = false;
    for (path, text) in texts {
        let file = places.add_file(path, text);
        let (table, mut faults) = DeTable::parse_recoverable(text);
        // The parser recovers and may stumble again, over the same line or (a bracket not closed) the same way over
        // every line that follows: its first word is the best one.
        faults.sort_by_key(|fault| fault.span().map(|s| s.start));
        let line = |fault: &toml::de::Error| fault.span().map(|s| text[..s.start].matches('\n').count());
        let mut said = Vec::new();
        faults.retain(|fault| {
            let again = said.iter().any(|(l, m)| *l == line(fault) || (m == fault.message() && m != "duplicate key"));
            said.push((line(fault), fault.message().to_owned()));
            !again
        });
        for fault in &faults {
            errors.push(syntax(&places, file, text, fault));
        }
        unreadable |= !faults.is_empty();
        if !unreadable {
            merged.add(&mut places, file, table.into_inner(), &mut errors);
        }
    }
    // What is missing in half of a file may stand in the other half.
    if unreadable {
        return Err(sorted(errors, &places));
    }
    resolve::plan(merged, places, errors, registry)
}

fn syntax(places: &Places, file: usize, text: &str, fault: &toml::de::Error) -> ConfigDiagnostic {
    let span = fault.span().unwrap_or(0..0);
    if fault.message() == "duplicate key" {
        let key = &text[span.clone()];
        return places
            .at(code::DUPLICATE, file, span, format!("`{key}` is defined twice"))
            .label("second time here")
            .help("keep one of the two");
    }
    places
        .at(code::SYNTAX, file, span, format!("not valid TOML: {}", fault.message()))
        .label("here")
        .help("correct the syntax; nothing else of this file was checked")
}

/// Reading order: files as they were named, then by place.
fn sorted(mut errors: Vec<ConfigDiagnostic>, places: &Places) -> ConfigErrors {
    let names: Vec<String> = places.files().map(|p| p.display().to_string()).collect();
    errors.sort_by_key(|e| {
        let (name, start) = e.sort_key();
        (name.map_or(names.len(), |name| names.iter().position(|n| n == name).unwrap_or(names.len())), start)
    });
    ConfigErrors(errors)
}

/// The tables of all files together.
#[derive(Default)]
struct Merged<'i> {
    /// `engine`, `api`, `reload`, `inference`.
    single: BTreeMap<String, Entry<'i>>,
    /// `sources`, `plugins`, ...: by section, then by name.
    named: BTreeMap<String, BTreeMap<String, Entry<'i>>>,
}

/// A table and the file it came from.
struct Entry<'i> {
    file: usize,
    value: Spanned<DeValue<'i>>,
}

impl<'i> Merged<'i> {
    fn add(&mut self, places: &mut Places, file: usize, top: DeTable<'i>, errors: &mut Vec<ConfigDiagnostic>) {
        let valid: Vec<&str> = raw::SECTIONS.iter().map(|(name, _)| *name).collect();
        for (key, value) in top {
            let mut section = key.get_ref().to_string();
            if !valid.contains(&section.as_str()) {
                let unknown = places.at(code::UNKNOWN_KEY, file, key.span(), format!("unknown section `{section}`"));
                let help = format!("sections: {}", quoted(valid.iter().copied()));
                errors.push(meant(unknown, &section, valid.iter().copied(), "not a section").help(help));
                // Read as what it was probably meant to be, so that nobody misses what stands in it.
                let Some(near) = near_miss(&section, valid.iter().copied()) else { continue };
                near.clone_into(&mut section);
            }
            match raw::SECTIONS.iter().find(|(name, _)| *name == section) {
                None => {}
                Some((_, false)) => {
                    let entries = &mut self.single;
                    Self::insert(entries, places, file, &section, &section, value, errors);
                }
                Some((_, true)) => {
                    let span = value.span();
                    let DeValue::Table(table) = value.into_inner() else {
                        errors.push(
                            places
                                .at(code::WRONG_TYPE, file, span, format!("`{section}` holds named tables"))
                                .label("expected a table")
                                .help(format!("write `[{section}.NAME]`")),
                        );
                        continue;
                    };
                    let entries = self.named.entry(section.clone()).or_default();
                    for (key, value) in table {
                        let name = key.get_ref().to_string();
                        if !is_name(&name) {
                            errors.push(
                                places
                                    .at(code::BAD_VALUE, file, key.span(), format!("`{name}` is no name for a section"))
                                    .label("a name")
                                    .help("use letters, digits, `-` and `_`; names become metric labels"),
                            );
                        }
                        let path = format!("{section}.{name}");
                        Self::insert(entries, places, file, &path, &name, value, errors);
                    }
                }
            }
        }
    }

    fn insert(
        entries: &mut BTreeMap<String, Entry<'i>>,
        places: &mut Places,
        file: usize,
        path: &str,
        name: &str,
        value: Spanned<DeValue<'i>>,
        errors: &mut Vec<ConfigDiagnostic>,
    ) {
        if entries.contains_key(name) {
            let here = places.files().nth(file).map_or(String::new(), |p| p.display().to_string());
            let first = places.line_of(path).unwrap_or_default();
            errors.push(
                places
                    .at(
                        code::DUPLICATE,
                        file,
                        value.span(),
                        format!("table `{path}` is in two files: {first} and {here}"),
                    )
                    .label("second time here")
                    .help("a table stands in one file only: keep one of the two"),
            );
            return;
        }
        places.add(file, path, &value);
        entries.insert(name.to_owned(), Entry { file, value });
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// A relative path starts from the folder of the file it stands in.
fn resolved(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path)
}

#[cfg(test)]
mod tests;
