//! `kaminari validate`: the configuration alone, then (unless told not to) what it needs. One OK line on stdout, or
//! every diagnostic on stderr and exit code 78. With `--format json`: one object on stdout.

use super::{ConfigArgs, Format};
use crate::config::{self, ConfigDiagnostic, ConfigErrors, Plan};
use clap::Args;
use serde_json::json;

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Check the text only: load no plugin, open nothing
    #[arg(long)]
    no_environment: bool,
    /// Take warnings for mistakes
    #[arg(long)]
    deny_warnings: bool,
    /// Form of the result
    #[arg(long, default_value = "text")]
    format: Format,
}

/// Checks and reports.
pub fn run(args: ValidateArgs) -> miette::Result<()> {
    let checked = check(&args);
    match args.format {
        Format::Text => match checked {
            Ok(plan) => {
                super::print_diagnostics(plan.places.warnings());
                super::print(&format!("ok: {}\n", summary(&plan)))
            }
            Err(errors) => Err(errors.into()),
        },
        Format::Json => {
            let (diagnostics, digest) = match &checked {
                Ok(plan) => (plan.places.warnings(), Some(&plan.digest)),
                Err(errors) => (errors.0.as_slice(), None),
            };
            let diagnostics: Vec<_> = diagnostics.iter().map(as_json).collect();
            let result = json!({ "ok": checked.is_ok(), "digest": digest, "diagnostics": diagnostics });
            super::print(&format!("{result}\n"))?;
            // All is said on stdout: nothing is left for stderr but the count.
            checked.map(|_| ()).map_err(|errors| super::Told(errors.to_string()).into())
        }
    }
}

fn check(args: &ValidateArgs) -> Result<Plan, ConfigErrors> {
    let plan = config::load(&args.config.config, &crate::pipeline::registry())?;
    let mut found = plan.places.warnings().to_vec();
    let mut bad = args.deny_warnings && !found.is_empty();
    let problems =
        if args.no_environment { crate::pipeline::contradictions(&plan) } else { crate::pipeline::check(&plan) };
    if let Err(ConfigErrors(problems)) = super::placed(&plan, problems) {
        bad |= problems.iter().any(|p| !p.is_warning());
        found.extend(problems);
    }
    if bad { Err(ConfigErrors(found)) } else { Ok(plan) }
}

fn summary(plan: &Plan) -> String {
    let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    [
        count(plan.sources.len(), "source"),
        count(plan.models.len(), "model"),
        count(plan.plugins.len(), "plugin"),
        count(plan.detectors.len(), "detector"),
        count(plan.pipelines.len(), "pipeline"),
        count(plan.sinks.len(), "sink"),
        count(plan.places.warnings().len(), "warning"),
        plan.digest.clone(),
    ]
    .join(", ")
}

fn as_json(diagnostic: &ConfigDiagnostic) -> serde_json::Value {
    let place = diagnostic.place();
    json!({
        "code": diagnostic.full_code(),
        "severity": if diagnostic.is_warning() { "warning" } else { "error" },
        "message": diagnostic.message(),
        "help": diagnostic.help_text(),
        "file": place.map(|p| p.0),
        "line": place.map(|p| p.1),
        "column": place.map(|p| p.2),
        "text": place.map(|p| p.3),
    })
}
