//! `kaminari diff OLD NEW`: what a running engine would make of a changed configuration. Per component a sign, its class, the
//! keys that differ, the effect and what would be forgotten; last the verdict. Plugins and models are compared by the content
//! of their files. With `--live` OLD is what a running engine has in force, as it tells it: keys only; and with nothing more, the
//! shadows of the engine are compared with what is live. Exit code 0 when nothing differs, 2 when something does, 78 when one of
//! the two is no configuration.

use super::live::{self, EngineArgs};
use super::{Differs, Format};
use crate::config::diff::{self, Change, Contents, PlanDiff, What};
use crate::config::{self, Plan};
use crate::inference::Model;
use crate::plugin::file_digest;
use clap::Args;
use miette::{IntoDiagnostic, miette};
use serde_json::json;
use std::convert::Infallible;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The configuration before: a file, or several joined by commas; with --live the configuration after
    #[arg(required_unless_present = "live")]
    old: Option<Files>,
    /// The configuration after, in the same way. Relative paths start from the folder of each file
    #[arg(required_unless_present = "live", conflicts_with = "live")]
    new: Option<Files>,
    /// Compare with what a running engine has in force: keys, not contents of files. Without a configuration: how the shadows of its
    /// pipelines compare with what is live
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    engine: EngineArgs,
    /// Form of the result
    #[arg(long, default_value = "text")]
    format: Format,
}

/// Files that make one configuration.
#[derive(Clone, Debug)]
struct Files(Vec<PathBuf>);

impl FromStr for Files {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let one = Path::new(text).exists() || !text.contains(',');
        Ok(Self(if one { vec![text.into()] } else { text.split(',').map(PathBuf::from).collect() }))
    }
}

/// Compares and prints.
pub fn run(args: DiffArgs) -> miette::Result<()> {
    if args.live {
        let differs = match &args.old {
            Some(files) => live::diff_live(&args.engine, &files.0, args.format)?,
            None => live::diff_shadows(&args.engine, args.format)?,
        };
        return if differs { Err(Differs.into()) } else { Ok(()) };
    }
    let (Some(old), Some(new)) = (&args.old, &args.new) else { return Err(miette!("name two configurations")) };
    let (old, new) = (load(old)?, load(new)?);
    super::print_diagnostics(new.places.warnings());
    let (old_files, new_files) = (contents(&old), contents(&new));
    for path in unread(&new, &new_files) {
        super::talk(&format!("note: {} cannot be read: only its keys are compared\n", path.display()));
    }
    let diff = diff::diff((&old, &old_files), (&new, &new_files));
    super::print(&match args.format {
        Format::Text => as_text(&diff),
        Format::Json => format!("{}\n", as_json(&diff, &old.digest, &new.digest)),
    })?;
    if diff.is_empty() { Ok(()) } else { Err(Differs.into()) }
}

/// Paths are made absolute: `a.toml` and `./b.toml` are in one folder.
fn load(files: &Files) -> miette::Result<Plan> {
    let files: Result<Vec<PathBuf>, _> = files.0.iter().map(std::path::absolute).collect();
    Ok(config::load(&files.into_diagnostic()?, &crate::pipeline::registry())?)
}

/// Digests of what lies on the disk now.
fn contents(plan: &Plan) -> Contents {
    Contents::of(plan, |path| file_digest(path).ok(), |path| Model::digest_of(path).ok())
}

fn unread<'a>(plan: &'a Plan, files: &'a Contents) -> impl Iterator<Item = &'a Path> {
    let plugins = plan.plugins.iter().filter(|(id, _)| !files.plugins.contains_key(*id)).map(|(_, p)| &*p.path);
    plugins.chain(plan.models.iter().filter(|(id, _)| !files.models.contains_key(*id)).map(|(_, m)| &*m.path))
}

fn as_text(diff: &PlanDiff) -> String {
    let mut out = String::new();
    for Change { component, what, class, keys, effect, lost } in &diff.changes {
        let sign = match what {
            What::Added => '+',
            What::Changed => '~',
            What::Removed => '-',
        };
        writeln!(out, "{sign} {component} ({})", class.name()).expect("a String takes any text");
        let entries = [("keys", keys.join(", ")), ("effect", effect.clone()), ("lost", lost.join(", "))];
        for (name, text) in entries.iter().filter(|(_, text)| !text.is_empty()) {
            writeln!(out, "    {name:<8}{text}").expect("a String takes any text");
        }
    }
    out + &verdict(diff) + "\n"
}

fn verdict(diff: &PlanDiff) -> String {
    let deep = diff.process_keys();
    match (diff.changes.len(), deep.is_empty()) {
        (0, _) => "nothing differs".into(),
        (1, true) => "can be reloaded: 1 change".into(),
        (n, true) => format!("can be reloaded: {n} changes"),
        (_, false) => format!("needs a new process: {}", deep.join(", ")),
    }
}

fn as_json(diff: &PlanDiff, old: &str, new: &str) -> serde_json::Value {
    let process_keys = diff.process_keys();
    let verdict = match (diff.is_empty(), process_keys.is_empty()) {
        (true, _) => "same",
        (_, true) => "reload",
        (_, false) => "new_process",
    };
    json!({
        "verdict": verdict,
        "process_keys": process_keys,
        "old_digest": old,
        "new_digest": new,
        "changes": diff.changes,
    })
}
