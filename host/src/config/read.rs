//! A table into a section's struct. Serde stops at the first mistake; here the element that holds it is taken out and
//! reading goes on, so that one run shows every mistake of a file, each with its exact span.

use super::diagnostic::{ConfigDiagnostic, code, near_miss, quoted};
use super::places::{Places, join, parent};
use std::collections::BTreeSet;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

/// What was found so far.
pub(super) struct Findings<'p> {
    pub places: &'p Places,
    pub diagnostics: Vec<ConfigDiagnostic>,
    /// Paths already complained about: nothing more is said about what follows from them.
    broken: BTreeSet<String>,
}

impl<'p> Findings<'p> {
    pub fn new(places: &'p Places) -> Self {
        Self { places, diagnostics: Vec::new(), broken: BTreeSet::new() }
    }

    /// A complaint about `path`; the caller adds label and help and hands it to [`Findings::push`].
    pub fn about(&self, code: &str, path: &str, message: impl Into<String>) -> ConfigDiagnostic {
        self.places.diagnostic(code, path, message, None)
    }

    pub fn push(&mut self, path: &str, diagnostic: ConfigDiagnostic) {
        self.broken.insert(path.to_owned());
        self.diagnostics.push(diagnostic);
    }

    /// True when something was said about `path` or what it lies in.
    pub fn is_broken(&self, path: &str) -> bool {
        std::iter::successors(Some(path), |p| parent(p)).any(|p| self.broken.contains(p))
    }

    /// True when it is no news that `table` has no `key`: something was said about it, or about a misspelling of it.
    pub fn explains_missing(&self, table: &str, key: &str) -> bool {
        let misspelt =
            |path: &String| parent(path) == Some(table) && near_miss(&path[table.len() + 1..], [key]).is_some();
        self.is_broken(&join(table, key)) || self.broken.iter().any(misspelt)
    }

    /// True when nothing but warnings was found.
    pub fn is_clean(&self) -> bool {
        self.diagnostics.iter().all(ConfigDiagnostic::is_warning)
    }
}

/// Reads `value` (what stands at `path` of file `file`) by `read`. Every mistake is reported; `None` when not even
/// the rest makes a `T`.
pub(super) fn section<T>(
    findings: &mut Findings<'_>,
    file: usize,
    path: &str,
    mut value: Spanned<DeValue<'_>>,
    read: impl Fn(ValueDeserializer<'_>) -> Result<T, toml::de::Error>,
) -> Option<T> {
    let mut said = BTreeSet::new();
    loop {
        let error = match read(ValueDeserializer::from(value.clone())) {
            Ok(section) => return Some(section),
            Err(error) => error,
        };
        let span = error.span().unwrap_or_else(|| value.span());
        let steps = locate(&value, &span);
        let at = steps.iter().fold(path.to_owned(), |at, step| match step {
            Step::Key(key) => join(&at, key),
            Step::Index(i) => format!("{at}[{i}]"),
        });
        let explained = missing_field(error.message()).is_some_and(|key| findings.explains_missing(&at, key));
        if !explained && said.insert((span.start, error.message().to_owned())) {
            let diagnostic = translate(findings.places, file, span, &at, error.message());
            findings.push(&at, diagnostic);
            // An element taken out moves its neighbours: no more talk of that list's elements.
            if let Some(list) = at.strip_suffix(']').and_then(|p| p.rfind('[')) {
                let list = at[..list].to_owned();
                findings.broken.insert(list);
            }
        }
        if !remove(&mut value, &steps) {
            return None;
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

/// The way to the innermost element whose key or value covers `span`; empty for the table itself.
fn locate(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Vec<Step> {
    /// Keeps the narrowest; of two as narrow, the inner one, which comes later.
    fn consider(candidate: Range<usize>, span: &Range<usize>, way: &[Step], best: &mut (usize, Vec<Step>)) {
        if candidate.start <= span.start && span.end <= candidate.end && candidate.len() <= best.0 {
            *best = (candidate.len(), way.to_vec());
        }
    }
    fn visit(value: &Spanned<DeValue<'_>>, span: &Range<usize>, way: &mut Vec<Step>, best: &mut (usize, Vec<Step>)) {
        let mut below = |step: Step, key: Option<Range<usize>>, value: &Spanned<DeValue<'_>>| {
            way.push(step);
            key.into_iter().chain([value.span()]).for_each(|candidate| consider(candidate, span, way, best));
            visit(value, span, way, best);
            way.pop();
        };
        match value.get_ref() {
            DeValue::Table(t) => {
                t.iter().for_each(|(k, v)| below(Step::Key(k.get_ref().to_string()), Some(k.span()), v))
            }
            DeValue::Array(a) => a.iter().enumerate().for_each(|(i, v)| below(Step::Index(i), None, v)),
            _ => {}
        }
    }
    let own = value.span();
    // The table's own header covers the span only when the complaint is about the table as a whole.
    let limit = if own == *span { own.len().saturating_sub(1) } else { usize::MAX };
    let mut best = (limit, Vec::new());
    visit(value, span, &mut Vec::new(), &mut best);
    best.1
}

/// Takes the element out; false when there is none to take out.
fn remove(value: &mut Spanned<DeValue<'_>>, steps: &[Step]) -> bool {
    let Some((first, rest)) = steps.split_first() else { return false };
    match (value.get_mut(), first) {
        (DeValue::Table(table), Step::Key(key)) => {
            if rest.is_empty() {
                table.remove(key.as_str()).is_some()
            } else {
                table.get_mut(key.as_str()).is_some_and(|below| remove(below, rest))
            }
        }
        (DeValue::Array(array), Step::Index(i)) => {
            if rest.is_empty() {
                // No removal in place: the array is rebuilt without the element.
                let before = array.len();
                let kept = array.iter().enumerate().filter(|(j, _)| j != i).map(|(_, v)| v.clone()).collect::<Vec<_>>();
                *array = Default::default();
                kept.into_iter().for_each(|v| array.push(v));
                array.len() < before
            } else {
                array.get_mut(*i).is_some_and(|below| remove(below, rest))
            }
        }
        _ => false,
    }
}

/// Serde's sentence in the words of an operator, with its code.
fn translate(places: &Places, file: usize, span: Range<usize>, at: &str, message: &str) -> ConfigDiagnostic {
    let about = |code: &str, text: String| places.at(code, file, span.clone(), text);
    let name = at.rsplit('.').next().unwrap_or(at);
    let parent = at.strip_suffix(name).map_or("", |p| p.trim_end_matches('.'));
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let names = backticked(rest);
        let (key, valid) = names.split_first().map_or(("", &[] as &[&str]), |(k, v)| (*k, v));
        let help = match valid {
            [] => "remove it; nothing may be set here".to_owned(),
            _ => format!("valid keys: {}", quoted(valid.iter().copied())),
        };
        let unknown = about(code::UNKNOWN_KEY, format!("unknown key `{key}` in `{parent}`"));
        return meant(unknown, key, valid.iter().copied(), "not a key").help(help);
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let names = backticked(rest);
        let (word, valid) = names.split_first().map_or(("", &[] as &[&str]), |(k, v)| (*k, v));
        let diagnostic = about(code::BAD_VALUE, format!("`{word}` is no value for `{at}`"));
        return meant(diagnostic, word, valid.iter().copied(), "not one of its values")
            .help(format!("values: {}", quoted(valid.iter().copied())));
    }
    if let Some(key) = missing_field(message) {
        return about(code::MISSING_KEY, format!("`{at}` has no `{key}`"))
            .label(format!("`{key}` belongs here"))
            .help(format!("add `{key} = ...`"));
    }
    for (prefix, code, word) in
        [("invalid type: ", code::WRONG_TYPE, "wrong type"), ("invalid value: ", code::BAD_VALUE, "bad value")]
    {
        if let Some((found, expected)) = message.strip_prefix(prefix).and_then(|m| m.rsplit_once(", expected ")) {
            let expected = plain_type(expected);
            return about(code, format!("{word} for `{at}`: {}", plain_found(found)))
                .label(format!("expected {expected}"))
                .help(format!("write {expected}"));
        }
    }
    if message == "wanted string or table" {
        return about(code::WRONG_TYPE, format!("wrong type for `{at}`"))
            .label("expected a string")
            .help("write a string");
    }
    let mut text = message.trim_end_matches('.').to_owned();
    if let Some(first) = text.get_mut(0..1) {
        first.make_ascii_lowercase();
    }
    let bad = about(code::BAD_VALUE, format!("bad value for `{at}`: {text}")).label("this value");
    match (text.as_str(), at.split('.').next()) {
        ("invalid socket address syntax", _) => bad.help(format!("write {}", plain_type("socket address"))),
        ("invalid IP address syntax", _) => bad.help("write an IP address"),
        (_, Some(section @ ("sources" | "sinks"))) => bad.help(format!("`kaminari list {section}` shows an example")),
        _ => bad.help("correct the value"),
    }
}

/// Labels with the near miss, or with `otherwise`.
pub(super) fn meant<'a>(
    diagnostic: ConfigDiagnostic,
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    otherwise: &str,
) -> ConfigDiagnostic {
    match near_miss(word, candidates) {
        Some(near) => diagnostic.label(format!("did you mean `{near}`?")),
        None => diagnostic.label(otherwise),
    }
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

/// The words between backticks.
fn backticked(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// ``string "x"`` and ``integer `5` `` as they are, other words of serde's in TOML's.
fn plain_found(found: &str) -> String {
    found
        .trim_end_matches(" as i128")
        .replace("floating point `", "number `")
        .replace("sequence", "a list")
        .replace("map", "a table")
        .replace("boolean `", "`")
}

fn plain_type(expected: &str) -> String {
    match expected {
        "a sequence" => "a list".into(),
        "a boolean" => "true or false".into(),
        "a map" => "a table".into(),
        "f32" | "f64" => "a number".into(),
        "usize" => "a whole number from 0 up".into(),
        "path string" => "a string with a path".into(),
        "socket address" => "an address with its port, such as \"127.0.0.1:2055\"".into(),
        "IP address" => "an IP address".into(),
        "u8" | "u16" | "u32" | "u64" => {
            let bits: u32 = expected[1..].parse().expect("the pattern above says so");
            if bits > 32 {
                "a whole number from 0 up".into()
            } else {
                format!("a whole number from 0 to {}", u64::MAX >> (64 - bits))
            }
        }
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        other if other.starts_with("struct ") => "a table".into(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
