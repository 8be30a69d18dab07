//! `kaminari list`: what this build offers, from the same lists that the configuration is checked against.

use super::Format;
use crate::config::{ComponentDef, Registry};
use crate::model::KeyKind;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::fmt::Write;

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// What to list; everything when left out
    what: Option<What>,
    /// Form of the list
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum What {
    /// Source types, each with an example
    Sources,
    /// Sink types, each with an example
    Sinks,
    /// Features: name, unit, meaning
    Features,
    /// Key levels that a pipeline can aggregate by
    Keys,
}

/// Prints the lists.
pub fn run(args: ListArgs) -> miette::Result<()> {
    let registry = crate::pipeline::registry();
    let all = [What::Sources, What::Sinks, What::Features, What::Keys];
    let wanted: Vec<What> = args.what.map_or(all.to_vec(), |what| vec![what]);
    let text = match args.format {
        Format::Text => {
            let parts: Vec<String> = wanted.iter().map(|what| as_text(*what, &registry)).collect();
            if wanted.len() == 1 { parts.concat() } else { titled(&wanted, &parts) }
        }
        Format::Json => {
            let object: serde_json::Map<_, _> =
                wanted.iter().map(|what| (title(*what).to_owned(), as_json(*what, &registry))).collect();
            format!("{}\n", serde_json::Value::Object(object))
        }
    };
    super::print(&text)
}

const fn title(what: What) -> &'static str {
    match what {
        What::Sources => "sources",
        What::Sinks => "sinks",
        What::Features => "features",
        What::Keys => "keys",
    }
}

fn titled(wanted: &[What], parts: &[String]) -> String {
    wanted.iter().zip(parts).map(|(what, part)| format!("# {}\n{part}", title(*what))).collect::<Vec<_>>().join("\n")
}

fn as_text(what: What, registry: &Registry) -> String {
    match what {
        What::Sources => components("sources", registry.sources),
        What::Sinks => components("sinks", registry.sinks),
        What::Features => {
            let head = ["NAME", "UNIT", "DESCRIPTION"];
            let rows = registry.features.iter().map(|f| [f.name, f.unit, f.description]);
            table(std::iter::once(head).chain(rows).collect())
        }
        What::Keys => {
            let rows = KeyKind::ALL.into_iter().map(|k| [k.name(), describe(k)]);
            table(std::iter::once(["NAME", "DESCRIPTION"]).chain(rows).collect())
        }
    }
}

fn as_json(what: What, registry: &Registry) -> serde_json::Value {
    let components = |defs: &[ComponentDef]| {
        defs.iter().map(|d| json!({ "type": d.kind, "summary": d.summary, "example": d.example })).collect()
    };
    match what {
        What::Sources => components(registry.sources),
        What::Sinks => components(registry.sinks),
        What::Features => registry
            .features
            .iter()
            .map(|f| json!({ "name": f.name, "unit": f.unit, "description": f.description }))
            .collect(),
        What::Keys => KeyKind::ALL.iter().map(|k| json!({ "name": k.name(), "description": describe(*k) })).collect(),
    }
}

const fn describe(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::DstAddr => "destination host",
        KeyKind::DstPrefix => "destination network, by the pipeline's prefix_v4 and prefix_v6",
        KeyKind::SrcAddr => "source host",
        KeyKind::Interface => "exporter and its input interface (ifIndex)",
        KeyKind::Network => "everything that the pipeline sees, as one",
        KeyKind::Name => "what the features of a records pipeline are about, by its name (not for flow records)",
    }
}

/// Each type with its summary and a body that can be pasted.
fn components(section: &str, defs: &[ComponentDef]) -> String {
    let mut out = String::new();
    for def in defs {
        write!(out, "{}: {}\n\n    [{section}.NAME]\n    type = \"{}\"\n", def.kind, def.summary, def.kind)
            .expect("a String takes any text");
        for line in def.example.trim().lines() {
            writeln!(out, "    {line}").expect("a String takes any text");
        }
        out.push('\n');
    }
    out
}

/// Columns as wide as their widest entry, the last one as it is.
pub(super) fn table<const N: usize>(rows: Vec<[&str; N]>) -> String {
    let widths: Vec<usize> = (0..N).map(|i| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end()).expect("a String takes any text");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let text = table(vec![["NAME", "UNIT", "DESCRIPTION"], ["bits_per_s", "bit/s", "bits a second"]]);
        assert_eq!(text, "NAME        UNIT   DESCRIPTION\nbits_per_s  bit/s  bits a second\n");
    }

    #[test]
    fn examples_can_be_pasted() {
        let def = ComponentDef::new::<toml::Table>("udp", "datagrams", "listen = \"[::1]:1\"\nworkers = 1\n");
        let text = components("sources", &[def]);
        let pasted: toml::Table = text.split_once('\n').unwrap().1.parse().unwrap();
        assert_eq!(pasted["sources"]["NAME"]["workers"].as_integer(), Some(1));
        assert!(text.starts_with("udp: datagrams\n"));
    }
}
