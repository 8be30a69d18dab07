//! Checks the contract with plugins, `wit/kaminari.wit`, against what was released (`docs/specs/plugin-api.md`). Refused: a
//! released text that has changed (`wit/released/SHA256SUMS`), a change without a higher version, and within a minor version
//! anything but additions that no plugin built before needs to know.

use crate::shell::{root, say};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const SUMS: &str = "SHA256SUMS";

/// Checks, or with `release` files the contract as it is under its version.
pub fn run(release: bool) -> Result<()> {
    let wit = root().join("wit");
    if release {
        let version = file(&wit)?;
        say(&format!("wit/released/{version}.wit is what version {version} is, from now on"));
    }
    let complaints = check(&wit)?;
    if !complaints.is_empty() {
        let told: Vec<String> = complaints.iter().map(|c| format!("  {c}")).collect();
        bail!("the contract with plugins is broken (docs/specs/plugin-api.md):\n{}", told.join("\n"));
    }
    Ok(())
}

/// What is wrong below `wit/`.
fn check(wit: &Path) -> Result<Vec<String>> {
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let released = wit.join("released");
    let mut complaints = Vec::new();
    let sums = read(&released.join(SUMS))?;
    let mut sums: BTreeMap<&str, &str> = sums.lines().filter_map(|l| l.split_once("  ").map(|(d, n)| (n, d))).collect();
    let now = read(&wit.join("kaminari.wit"))?;
    let version = version(&now)?;
    for entry in std::fs::read_dir(&released)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(of) = name.strip_suffix(".wit") else { continue };
        let old = read(&path)?;
        match sums.remove(&*name) {
            None => complaints
                .push(format!("wit/released/{name} is not in {SUMS}: `cargo xtask contract --release` files it")),
            Some(sum) if sum != hex(&old) => {
                complaints.push(format!(
                    "wit/released/{name} is not what was released: restore it, and change wit/kaminari.wit"
                ));
            }
            Some(_) => {}
        }
        let then = self::version(&old)?;
        if of != text(then) {
            complaints.push(format!("wit/released/{name} is of version {}", text(then)));
        } else if then == version && old != now {
            let next = text([version[0], version[1], version[2] + 1]);
            complaints
                .push(format!("wit/kaminari.wit differs from the released {of}: it needs a higher version, as {next}"));
        } else if then > version {
            complaints.push(format!("wit/kaminari.wit has version {}, and {of} is released", text(version)));
        } else if then[..2] == version[..2] {
            let within = |c: String| format!("{c} (released in {of}; {}.{}.0 may)", version[0], version[1] + 1);
            complaints.extend(compare(&old, &now).into_iter().map(within));
        }
    }
    complaints.extend(sums.keys().map(|name| format!("wit/released/{name} is gone: restore it")));
    Ok(complaints)
}

/// Files the contract as it is; what is filed already stays.
fn file(wit: &Path) -> Result<String> {
    let now = std::fs::read_to_string(wit.join("kaminari.wit"))?;
    let version = text(version(&now)?);
    let (name, released) = (format!("{version}.wit"), wit.join("released"));
    let path = released.join(&name);
    if path.exists() {
        bail!("{} is released already: give wit/kaminari.wit a higher version", path.display());
    }
    let mut sums = std::fs::read_to_string(released.join(SUMS))?;
    sums.push_str(&format!("{}  {name}\n", hex(&now)));
    std::fs::write(path, now)?;
    std::fs::write(released.join(SUMS), sums)?;
    Ok(version)
}

fn hex(text: &str) -> String {
    Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}

/// Of the first line, `package kaminari:plugin@0.1.1;`.
fn version(wit: &str) -> Result<[u64; 3]> {
    let first = wit.lines().next().unwrap_or_default();
    let version = first.strip_prefix("package kaminari:plugin@").and_then(|rest| rest.strip_suffix(';'));
    let parts: Option<Vec<u64>> = version.and_then(|v| v.split('.').map(|part| part.parse().ok()).collect());
    parts.and_then(|parts| parts.try_into().ok()).with_context(|| format!("no version in {first:?}"))
}

fn text(version: [u64; 3]) -> String {
    version.map(|part| part.to_string()).join(".")
}

/// What a plugin built against `old` would miss in `new`.
fn compare(old: &str, new: &str) -> Vec<String> {
    let (was, is) = (Contract::read(old), Contract::read(new));
    let mut complaints = Vec::new();
    for (name, text) in &was.items {
        match is.items.get(name) {
            None => complaints.push(format!("`{name}` is gone")),
            Some(now) if now != text => complaints.push(format!("`{name}` was `{text}`, and is `{now}`")),
            Some(_) => {}
        }
    }
    for (world, exports) in &was.worlds {
        match is.worlds.get(world) {
            None => complaints.push(format!("world `{world}` is gone")),
            Some(now) if now != exports => complaints.push(format!("world `{world}` has other exports")),
            Some(_) => {}
        }
    }
    // The host calls what is here; a plugin built before has not got it.
    let exported: BTreeSet<&String> = was.worlds.values().flatten().collect();
    for (name, text) in is.items.iter().filter(|(name, _)| !was.items.contains_key(*name)) {
        let interface = name.split('.').next().unwrap_or_default().to_owned();
        if exported.contains(&interface) && is_function(text) {
            complaints.push(format!("`{name}` is new in what plugins export: give it an interface of its own"));
        }
    }
    complaints
}

fn is_function(text: &str) -> bool {
    text.contains(": func (") || text.contains(": static func (")
}

/// A text of WIT, taken apart as far as it is compared.
#[derive(Debug, Default, PartialEq)]
struct Contract {
    /// `interface.item` or `interface.resource.function` -> its text, with one blank between words.
    items: BTreeMap<String, String>,
    /// World -> interfaces that it exports itself.
    worlds: BTreeMap<String, BTreeSet<String>>,
}

impl Contract {
    fn read(wit: &str) -> Self {
        let code: String =
            wit.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
        let mut contract = Self::default();
        for statement in statements(&words(&code)) {
            let Some((name, body)) = block(&statement) else { continue };
            match statement[0].as_str() {
                "interface" => contract.interface(name, body),
                "world" => {
                    let exports = statements(body).into_iter().filter(|s| s[0] == "export");
                    contract.worlds.insert(name.to_owned(), exports.map(|s| s[1].clone()).collect());
                }
                _ => {}
            }
        }
        contract
    }

    fn interface(&mut self, interface: &str, body: &[String]) {
        for statement in statements(body) {
            match (statement[0].as_str(), block(&statement)) {
                ("use", _) => {}
                ("resource", Some((name, functions))) => {
                    self.items.insert(format!("{interface}.{name}"), format!("resource {name}"));
                    for function in statements(functions) {
                        self.items.insert(format!("{interface}.{name}.{}", function[0]), function.join(" "));
                    }
                }
                ("record" | "enum" | "variant" | "flags" | "type" | "resource", _) => {
                    let name = statement.get(1).cloned().unwrap_or_default();
                    self.items.insert(format!("{interface}.{name}"), statement.join(" "));
                }
                (name, _) => drop(self.items.insert(format!("{interface}.{name}"), statement.join(" "))),
            }
        }
    }
}

/// Names and punctuation; a comma before a closing brace says nothing.
fn words(code: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut in_name = false;
    for c in code.chars() {
        let name = c.is_alphanumeric() || "-_@%".contains(c);
        match (name, in_name) {
            (true, true) => words.last_mut().expect("a name has begun").push(c),
            (true, false) => words.push(c.to_string()),
            _ if c.is_whitespace() => {}
            _ => {
                if c == '}' && words.last().is_some_and(|word| word == ",") {
                    words.pop();
                }
                words.push(c.to_string());
            }
        }
        in_name = name;
    }
    words
}

/// Up to `;`, or to the brace that closes what was opened.
fn statements(words: &[String]) -> Vec<Vec<String>> {
    let (mut all, mut one, mut depth) = (Vec::new(), Vec::new(), 0);
    for word in words {
        match word.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        let ends = depth == 0 && (word == ";" || word == "}");
        if word != ";" || depth > 0 {
            one.push(word.clone());
        }
        if ends && !one.is_empty() {
            all.push(std::mem::take(&mut one));
        }
    }
    all
}

/// `KIND NAME { BODY }`.
fn block(statement: &[String]) -> Option<(&str, &[String])> {
    let is = statement.len() >= 4 && statement[2] == "{" && statement.last().is_some_and(|word| word == "}");
    is.then(|| (statement[1].as_str(), &statement[3..statement.len() - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "package kaminari:plugin@0.1.0;
        interface common { record field { name: string, nullable: bool } enum level { low, high } }
        interface data { resource batch { num-rows: func() -> u32; constructor(n: u32); } }
        /// What a plugin exports.
        interface detector { use common.{field}; requires: func(f: field) -> result<_, string>; }
        world plugin { import data; export detector; }";

    fn changed(from: &str, to: &str) -> Vec<String> {
        assert!(OLD.contains(from), "{from}");
        compare(OLD, &OLD.replace(from, to))
    }

    #[test]
    fn what_only_grows_is_fine() {
        assert!(changed("0.1.0", "0.1.1").is_empty());
        assert!(changed("num-rows:", "more: func(); num-rows:").is_empty(), "the host has more functions");
        assert!(changed("interface data", "interface clock { now: func() -> u64; } interface data").is_empty());
        assert!(changed("import data;", "import data; import clock;").is_empty());
        assert!(changed("nullable: bool }", "nullable: bool, // as ever\n }").is_empty(), "blanks, commas and remarks");
        assert!(changed("interface common {", "interface common { type t = u64;").is_empty());
    }

    #[test]
    fn what_a_plugin_would_miss_is_told() {
        let only = |from: &str, to: &str| {
            let told = changed(from, to);
            assert_eq!(told.len(), 1, "{told:?}");
            told[0].clone()
        };
        assert!(
            only("nullable: bool", "nullable: bool, unit: string").starts_with("`common.field` was `record field {")
        );
        assert!(only("low, high", "low, high, higher").starts_with("`common.level` was"));
        assert!(only("num-rows: func() -> u32;", "").starts_with("`data.batch.num-rows` is gone"));
        assert!(only("-> u32", "-> u64").contains("is `num-rows : func ( ) - > u64`"));
        assert!(
            only("interface detector { use", "interface detector { name: func() -> string; use")
                .contains("is new in what plugins export")
        );
        assert!(only("export detector;", "export detector; export lifecycle;").contains("other exports"));
        assert!(only("world plugin", "world another").contains("world `plugin` is gone"));
    }

    #[test]
    fn released_texts_stay_and_versions_rise() {
        let dir = tempfile::tempdir().unwrap();
        let wit = dir.path();
        std::fs::create_dir(wit.join("released")).unwrap();
        let write = |path: &str, text: &str| std::fs::write(wit.join(path), text).unwrap();
        write("released/SHA256SUMS", "");
        write("kaminari.wit", OLD);
        assert_eq!(file(wit).unwrap(), "0.1.0");
        assert!(file(wit).unwrap_err().to_string().contains("released already"));
        let complaint = || match check(wit).unwrap().as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            more => panic!("{more:?}"),
        };
        assert_eq!(complaint(), "");
        let more = OLD.replace("import data;", "import data; import common;");
        write("kaminari.wit", &more);
        assert!(complaint().contains("needs a higher version, as 0.1.1"));
        write("kaminari.wit", &more.replace("0.1.0", "0.1.1"));
        assert_eq!(complaint(), "");
        let broken = more.replace("low, high", "low");
        write("kaminari.wit", &broken.replace("0.1.0", "0.1.1"));
        assert!(complaint().ends_with("(released in 0.1.0; 0.2.0 may)"), "{}", complaint());
        write("kaminari.wit", &broken.replace("0.1.0", "0.2.0"));
        assert_eq!(complaint(), "", "a new minor version may");
        write("kaminari.wit", &OLD.replace("0.1.0", "0.0.9"));
        assert!(complaint().contains("has version 0.0.9, and 0.1.0 is released"));
        write("kaminari.wit", OLD);
        write("released/0.1.0.wit", &OLD.replace("// ", "//"));
        assert!(check(wit).unwrap().iter().any(|c| c.contains("is not what was released")));
        write("released/0.1.0.wit", OLD);
        write("released/0.0.1.wit", &OLD.replace("0.1.0", "0.0.1"));
        assert!(complaint().contains("is not in SHA256SUMS"));
        std::fs::remove_file(wit.join("released/0.0.1.wit")).unwrap();
        std::fs::remove_file(wit.join("released/0.1.0.wit")).unwrap();
        assert!(complaint().contains("0.1.0.wit is gone"));
    }

    #[test]
    fn the_contract_of_this_repository_is_kept() {
        assert_eq!(check(&root().join("wit")).unwrap(), [""; 0]);
        let now = Contract::read(&std::fs::read_to_string(root().join("wit/kaminari.wit")).unwrap());
        assert!(now.items.contains_key("data.record-batch.f64s") && now.items.contains_key("detector.alert"));
        assert_eq!(now.worlds["detector-plugin"], BTreeSet::from(["detector".into(), "lifecycle".into()]));
    }
}
