//! The command line, one file per verb. Data goes to stdout, talk to stderr. Exit codes: 0 ok, 1 failed run, 2 usage
//! (clap's) and of `diff` that there are differences, 78 bad configuration.

mod completion;
mod decode;
mod diff;
mod doctor;
mod evaluate;
mod generate;
mod labels;
mod list;
mod live;
mod model;
mod plugin;
mod replay;
mod run;
mod signals;
mod train;
mod validate;

use crate::config::{self, ConfigDiagnostic, ConfigErrors, Plan};
use crate::pipeline::{BuildError, Problem};
use crate::telemetry::logging::{self, LogFormat};
use clap::{Args, Parser, Subcommand, ValueEnum};
use miette::{GraphicalReportHandler, GraphicalTheme, IntoDiagnostic, WrapErr};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code of a run that failed.
const FAILED: u8 = 1;
/// Exit code of `diff` when something differs.
const DIFFERS: u8 = 2;
/// Exit code of a bad configuration (`EX_CONFIG` of sysexits.h).
const BAD_CONFIG: u8 = 78;
/// Width of diagnostics: the same on a terminal, in a pipe and in the tests.
const WIDTH: usize = 100;

/// Real-time detection engine: flows in, incidents out, detectors as sandboxed WASM plugins.
#[derive(Debug, Parser)]
#[command(name = "kaminari", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct GlobalArgs {
    /// Log more; twice for even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Log less: warnings and errors; twice: errors only
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "verbose")]
    quiet: u8,
    /// Form of log lines
    #[arg(long, global = true, value_name = "FORMAT", env = "KAMINARI_LOG_FORMAT", default_value = "auto")]
    log_format: LogFormat,
    /// Colour of diagnostics and log lines
    #[arg(long, global = true, value_name = "WHEN", env = "KAMINARI_COLOR", default_value = "auto")]
    color: Color,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Color {
    /// When stderr is a terminal and NO_COLOR is not set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    fn on(self) -> bool {
        match self {
            Color::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
            Color::Always => true,
            Color::Never => false,
        }
    }
}

/// In the order of `--help`.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the engine until SIGTERM (or, with file sources only, to their end)
    Run(run::RunArgs),
    /// Check a configuration and, without --no-environment, what it needs: plugins and their columns
    Validate(validate::ValidateArgs),
    /// Say what a running engine would make of a changed configuration; exit code 2 when something differs
    Diff(diff::DiffArgs),
    /// Print the flow records of a capture or flow file as JSON lines
    Decode(decode::DecodeArgs),
    /// Run a recorded capture or flow file through the real pipelines, in event time
    Replay(replay::ReplayArgs),
    /// Train and calibrate a model on benign traffic
    Train(train::TrainArgs),
    /// Hold the scores and incidents of a replay against labels: how good the detectors are
    Evaluate(evaluate::EvaluateArgs),
    /// Tell a running engine to take up its configuration as it is now, and say what came of it
    Reload(live::ReloadArgs),
    /// Tell a running engine to go back to the configuration before the last change
    Rollback(live::RollbackArgs),
    /// Look at a model directory
    Model(model::ModelArgs),
    /// Make, build, look at, test and measure plugins
    Plugin(plugin::PluginArgs),
    /// Say what this machine has, what is missing and what to do
    Doctor(doctor::DoctorArgs),
    /// Make labelled flow traffic, or a configuration to start from
    Generate(generate::GenerateArgs),
    /// Show what this build offers: source and sink types, features, key levels
    List(list::ListArgs),
    /// Print the completion script of a shell
    Completion(completion::CompletionArgs),
}

fn dispatch(verb: Verb) -> miette::Result<()> {
    match verb {
        Verb::Run(args) => run::run(args),
        Verb::Validate(args) => validate::run(args),
        Verb::Diff(args) => diff::run(args),
        Verb::Decode(args) => decode::run(args),
        Verb::Replay(args) => replay::run(args),
        Verb::Train(args) => train::run(args),
        Verb::Evaluate(args) => evaluate::run(args),
        Verb::Reload(args) => live::reload(args),
        Verb::Rollback(args) => live::rollback(args),
        Verb::Model(args) => model::run(args),
        Verb::Plugin(args) => plugin::run(args),
        Verb::Doctor(args) => doctor::run(args),
        Verb::Generate(args) => generate::run(args),
        Verb::List(args) => list::run(args),
        Verb::Completion(args) => completion::run(args),
    }
}

/// Which files make the configuration.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Configuration files, read together
    #[arg(short, long = "config", value_name = "FILE", num_args = 1.., required = true, env = "KAMINARI_CONFIG")]
    pub config: Vec<PathBuf>,
}

/// `--format` of verbs whose output a person might pipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// For a person
    Text,
    /// For a program
    Json,
}

/// Runs a verb to its exit code.
pub fn run(cli: Cli) -> ExitCode {
    let color = cli.global.color.on();
    let steps = |count: u8| i8::try_from(count).unwrap_or(i8::MAX);
    let verbosity = steps(cli.global.verbose) - steps(cli.global.quiet);
    let result = match logging::init(cli.global.log_format, verbosity, color) {
        Ok(()) => {
            use_reports(color);
            dispatch(cli.verb)
        }
        Err(error) => Err(error).into_diagnostic().wrap_err("KAMINARI_LOG is no filter"),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => match report.downcast::<ConfigErrors>() {
            Ok(errors) => {
                print_diagnostics(&errors.0);
                talk(&format!("error: {errors}\n"));
                ExitCode::from(BAD_CONFIG)
            }
            Err(report) if report.is::<Told>() => {
                talk(&format!("error: {report}\n"));
                ExitCode::from(BAD_CONFIG)
            }
            Err(report) if report.is::<Differs>() => ExitCode::from(DIFFERS),
            Err(report) => {
                talk(&format!("{report:?}"));
                ExitCode::from(FAILED)
            }
        },
    }
}

/// A bad configuration whose diagnostics were already told in another form.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{0}")]
struct Told(String);

/// Two configurations differ; all is said.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the configurations differ")]
struct Differs;

/// Reads the configuration and tells its warnings: what `run`, `replay` and `validate` begin with.
pub fn load_plan(args: &ConfigArgs) -> miette::Result<Plan> {
    let plan = config::load(&args.config, &crate::pipeline::registry())?;
    print_diagnostics(plan.places.warnings());
    Ok(plan)
}

/// Problems of a plan, each with its place in the operator's files.
pub fn placed(plan: &Plan, problems: Vec<Problem>) -> Result<(), ConfigErrors> {
    let found: Vec<_> =
        problems.into_iter().map(|p| plan.places.diagnostic(p.code, &p.path, p.message, p.help)).collect();
    if found.is_empty() { Ok(()) } else { Err(ConfigErrors(found)) }
}

/// A plan that could not be built: problems with the place of the key that asked for it, else the error.
fn build_failed(plan: &Plan, error: BuildError) -> miette::Report {
    match error {
        BuildError::Problems(problems) => {
            let placed = problems.into_iter().map(|p| plan.places.diagnostic(p.code, &p.path, p.message, p.help));
            ConfigErrors(placed.collect()).into()
        }
        other => miette::Report::msg(other.to_string()),
    }
}

/// Writes data to stdout. A reader that left (`| head`) is no failure.
pub fn print(text: &str) -> miette::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).into_diagnostic().wrap_err("cannot write to stdout")
        }
        _ => Ok(()),
    }
}

/// Writes to stderr. When even that is gone, there is nobody left to tell.
fn talk(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn print_diagnostics(diagnostics: &[ConfigDiagnostic]) {
    for diagnostic in diagnostics {
        talk(&format!("{:?}\n", miette::Report::new(diagnostic.clone())));
    }
}

/// How reports look: excerpts in Unicode, in colour where wanted.
fn use_reports(color: bool) {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = move |_: &_| {
        let handler = GraphicalReportHandler::new_themed(theme.clone()).with_width(WIDTH).with_links(false);
        Box::new(handler.without_syntax_highlighting()) as Box<dyn miette::ReportHandler>
    };
    // A second call (tests in one process) keeps the first.
    let _ = miette::set_hook(Box::new(handler));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_global_option_has_an_environment_name() {
        for arg in Cli::command().get_arguments().filter(|a| a.get_action().takes_values()) {
            assert!(arg.get_env().is_some_and(|e| e.to_string_lossy().starts_with("KAMINARI_")), "{arg:?}");
        }
    }
}
