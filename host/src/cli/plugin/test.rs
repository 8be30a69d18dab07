//! `kaminari plugin test`: scenarios through a component in the sandbox. One line per scenario on stdout, and what
//! differs; exit code 1 where something does. `--bless` writes what the plugin says now.

use super::{LimitArgs, Target};
use crate::authoring::{Difference, Scenario, Tolerance};
use clap::Args;
use miette::{IntoDiagnostic, miette};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `plugin test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The plugin's folder, or a component beside whose folder `tests/` stands
    #[arg(default_value = ".", value_name = "DIR|FILE.wasm")]
    target: PathBuf,
    /// Only the scenarios of these names
    #[arg(long, value_name = "NAME", num_args = 1..)]
    scenario: Vec<String>,
    /// Take what the plugin says for right: write expected.jsonl
    #[arg(long)]
    bless: bool,
    /// By how much numbers may differ, relative to them (absolute below 1)
    #[arg(long, value_name = "SHARE", default_value_t = 1e-6)]
    tolerance: f64,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Differences of one scenario that are shown.
const SHOWN: usize = 20;

/// Runs the scenarios.
pub fn run(args: TestArgs) -> miette::Result<()> {
    let target = Target::open(&args.target, &args.limits)?;
    let mut scenarios = Scenario::all(&target.folder).into_diagnostic()?;
    if let Some(unknown) = args.scenario.iter().find(|name| !scenarios.iter().any(|s| s.name == **name)) {
        return Err(miette!("{} has no scenario `{unknown}` in tests/", target.folder.display()));
    }
    scenarios.retain(|s| args.scenario.is_empty() || args.scenario.contains(&s.name));
    if scenarios.is_empty() {
        return Err(miette!(
            "{} has no scenarios: make tests/NAME with config.toml and input.csv, then run this with --bless",
            target.folder.display()
        ));
    }
    let plugin = target.load()?;
    let mut failed = 0;
    for scenario in &scenarios {
        let began = Instant::now();
        let outcome = scenario.run(&plugin, Tolerance(args.tolerance)).into_diagnostic()?;
        let ms = began.elapsed().as_secs_f64() * 1e3;
        let lines = outcome.said.len();
        let verdict = match &outcome.differences {
            Some(found) if found.is_empty() => format!("ok, {lines} lines, {ms:.0} ms\n"),
            _ if args.bless => {
                scenario.bless(&outcome.said).into_diagnostic()?;
                format!("blessed, {lines} lines: read tests/{}/expected.jsonl before you keep it\n", scenario.name)
            }
            Some(found) => {
                failed += 1;
                format!("FAILED\n{}", as_text(found))
            }
            None => {
                failed += 1;
                "FAILED\n  there is no expected.jsonl: --bless writes what the plugin says\n".into()
            }
        };
        crate::cli::print(&format!("{}: {verdict}", scenario.name))?;
    }
    match failed {
        0 => Ok(()),
        1 => Err(miette!("1 scenario failed")),
        n => Err(miette!("{n} scenarios failed")),
    }
}

fn as_text(found: &[Difference]) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "  {text}").expect("a String takes any text");
    for difference in found.iter().take(SHOWN) {
        line(format!("line {}: {}", difference.line, difference.row));
        for (name, expected, said) in &difference.fields {
            line(format!("  {name}"));
            line(format!("    - {expected}"));
            line(format!("    + {said}"));
        }
    }
    if found.len() > SHOWN {
        line(format!("... and {} more lines", found.len() - SHOWN));
    }
    line("- expected, + said".into());
    out
}
