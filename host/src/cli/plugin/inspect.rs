//! `kaminari plugin inspect`: who a component says that it is, its roles, what it asks the host for, what its
//! configuration may have, and the lines that make an engine use it. Runs none of its logic.

use super::schema::{Key, keys, placeholder};
use super::{LimitArgs, Target, bytes};
use crate::cli::Format;
use crate::cli::list::table;
use crate::config::PluginLimits;
use crate::plugin::{LoadedPlugin, PluginInfo};
use clap::Args;
use miette::IntoDiagnostic;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Arguments of `plugin inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The component, or a plugin's folder
    #[arg(value_name = "FILE.wasm|DIR")]
    target: PathBuf,
    /// Form of the result
    #[arg(long, default_value = "text")]
    format: Format,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Enough for an interpreter to say who it is.
const ENOUGH: usize = 1 << 30;
const OURS: &str = "kaminari:plugin/";
/// Services that only those plugins have that the operator grants them: interface, key in `[plugins.X]`, an example.
const GRANTED: [(&str, &str, &str); 3] = [
    ("inference", "inference", "[\"MODEL\"]"),
    ("state", "state", "[\"BUCKET\"]"),
    ("metrics", "metrics_series", "100"),
];

/// What was found.
struct Found {
    info: PluginInfo,
    size: usize,
    roles: Vec<String>,
    /// Services of ours.
    imports: Vec<String>,
    /// Interfaces of the system, behind which is nothing.
    wasi: usize,
    keys: Vec<Key>,
    schema: Value,
    limits: PluginLimits,
}

/// Looks and tells.
pub fn run(args: InspectArgs) -> miette::Result<()> {
    let mut target = Target::open(&args.target, &args.limits)?;
    let limits = target.limits;
    target.limits.memory_bytes = args.limits.memory_bytes.unwrap_or(ENOUGH);
    let found = look(&*target.load()?, limits)?;
    match args.format {
        Format::Text => crate::cli::print(&as_text(&found)),
        Format::Json => crate::cli::print(&format!("{}\n", as_json(&found))),
    }
}

fn look(plugin: &LoadedPlugin, limits: PluginLimits) -> miette::Result<Found> {
    let info = plugin.info().clone();
    let imports = plugin.imports();
    let roles = info.roles.iter().map(|role| role.name().to_owned()).collect();
    let wasi = imports.iter().filter(|name| !name.starts_with(OURS)).count();
    // Types are no service.
    let ours = imports.iter().filter_map(|name| name.strip_prefix(OURS)?.split('@').next());
    let imports = ours.filter(|name| *name != "common").map(str::to_owned).collect();
    let schema: Value = serde_json::from_str(&info.config_schema).unwrap_or(Value::Null);
    let size = std::fs::metadata(&info.path).into_diagnostic()?.len() as usize;
    Ok(Found { size, roles, imports, wasi, keys: keys(&schema), schema, limits, info })
}

impl Found {
    /// Services that need a grant.
    fn asks(&self) -> impl Iterator<Item = &(&'static str, &'static str, &'static str)> {
        GRANTED.iter().filter(|(interface, ..)| self.imports.iter().any(|name| name == interface))
    }

    /// The lines for a configuration.
    fn snippet(&self) -> String {
        let (name, info) = (&self.info.name, &self.info);
        let mut out =
            format!("[plugins.{name}]\npath = {:?}\nsha256 = {:?}\n", info.path.display().to_string(), info.digest);
        for (interface, key, example) in self.asks() {
            out += &format!("# {key} = {example}  # if it is to have {interface}\n");
        }
        let (mine, default) = (self.limits, PluginLimits::default());
        let limits = [
            ("memory_bytes", mine.memory_bytes as u64, default.memory_bytes as u64),
            ("deadline_ms", mine.deadline_ms, default.deadline_ms),
            ("alerts_per_call", mine.alerts_per_call as u64, default.alerts_per_call as u64),
            ("state_bytes", mine.state_bytes as u64, default.state_bytes as u64),
        ];
        let written = limits.iter().filter(|(_, mine, default)| mine != default);
        let written: Vec<String> = written.map(|(name, mine, _)| format!("{name} = {mine}")).collect();
        if !written.is_empty() {
            out += &format!("limits = {{ {} }}\n", written.join(", "));
        }
        if self.roles.iter().any(|role| role == "detector") {
            let top = self.keys.iter().filter(|key| key.default == "required" && !key.path.contains(['.', '[']));
            let config: Vec<String> = top.map(|key| format!("{} = {}", key.path, placeholder(&key.ty))).collect();
            let config = if config.is_empty() { "{}".into() } else { format!("{{ {} }}", config.join(", ")) };
            out += &format!("\n[detectors.{name}]\nplugin = {name:?}\nconfig = {config}\n");
        }
        out
    }
}

fn as_text(found: &Found) -> String {
    let info = &found.info;
    let grants: Vec<&str> = found.asks().map(|(interface, ..)| *interface).collect();
    let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let grants =
        if grants.is_empty() { "none needed".to_owned() } else { format!("{} (if it uses it)", grants.join(", ")) };
    let state = match info.state_version {
        0 => "saves none".to_owned(),
        version => format!("version {version}"),
    };
    let wasi = format!("{} interfaces of WASI, behind which is nothing", found.wasi);
    let (size, contract) = (bytes(found.size), format!("kaminari:plugin@{}", info.api_version));
    let mut out = format!("{} {}: {}\n\n", info.name, info.version, info.description);
    out += &table(vec![
        ["roles", &*list(&found.roles)],
        ["imports", &list(&found.imports)],
        ["", &wasi],
        ["grants", &grants],
        ["state", &state],
        ["contract", &contract],
        ["size", &size],
        ["sha256", &info.digest],
    ]);
    out += "\n# Configuration\n";
    if found.keys.is_empty() {
        out += "none that its schema tells\n";
    } else {
        let head = ["KEY", "TYPE", "DEFAULT", "DESCRIPTION"];
        let rows = found.keys.iter().map(|k| [&*k.path, &*k.ty, &*k.default, &*k.description]);
        out += &table(std::iter::once(head).chain(rows).collect());
    }
    out + "\n# These lines use it\n" + &found.snippet()
}

fn as_json(found: &Found) -> Value {
    let info = &found.info;
    json!({
        "name": info.name,
        "version": info.version,
        "description": info.description,
        "api_version": info.api_version,
        "state_version": info.state_version,
        "sha256": info.digest,
        "size_bytes": found.size,
        "roles": found.roles,
        "imports": found.imports,
        "wasi_imports": found.wasi,
        "grants": found.asks().map(|(interface, ..)| *interface).collect::<Vec<_>>(),
        "config_schema": found.schema,
        "snippet": found.snippet(),
    })
}
