//! `kaminari plugin`: make, build, look at, test and measure plugins, one file per verb. What an author asked for goes to
//! stdout, what is done meanwhile to stderr.

mod bench;
mod build;
mod inspect;
mod new;
mod schema;
mod test;

use crate::authoring::{Grants, Project, WIT};
use crate::config::{PluginLimits, PluginPlan, default_cache_dir};
use crate::plugin::{LoadedPlugin, PluginHost};
use clap::{Args, Subcommand};
use miette::IntoDiagnostic;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Arguments of `plugin`.
#[derive(Debug, Args)]
pub struct PluginArgs {
    #[command(subcommand)]
    verb: PluginVerb,
}

#[derive(Debug, Subcommand)]
enum PluginVerb {
    /// Make a folder that builds and passes its test
    New(new::NewArgs),
    /// Build the component of a folder, and compile it into the cache
    Build(build::BuildArgs),
    /// Show what a component is, what it asks for and what its configuration may have
    Inspect(inspect::InspectArgs),
    /// Run scenarios through a component in the sandbox
    Test(test::TestArgs),
    /// Measure a component beside one that does nothing
    Bench(bench::BenchArgs),
    /// Print the contract, for tools that make bindings of it
    Wit,
}

/// Runs the verb.
pub fn run(args: PluginArgs) -> miette::Result<()> {
    match args.verb {
        PluginVerb::New(args) => new::run(args),
        PluginVerb::Build(args) => build::run(args),
        PluginVerb::Inspect(args) => inspect::run(args),
        PluginVerb::Test(args) => test::run(args),
        PluginVerb::Bench(args) => bench::run(args),
        PluginVerb::Wit => super::print(WIT),
    }
}

/// What may be used where the author's `plugin.toml` does not say it.
#[derive(Debug, Args)]
struct LimitArgs {
    /// Linear memory of an instance, bytes; else as plugin.toml has it, or what the engine gives
    #[arg(long, value_name = "BYTES")]
    memory_bytes: Option<usize>,
    /// Wall time of a call, milliseconds; as above
    #[arg(long, value_name = "MS")]
    deadline_ms: Option<u64>,
}

impl LimitArgs {
    fn over(&self, written: PluginLimits) -> PluginLimits {
        PluginLimits {
            memory_bytes: self.memory_bytes.unwrap_or(written.memory_bytes),
            deadline_ms: self.deadline_ms.unwrap_or(written.deadline_ms),
            ..written
        }
    }
}

/// A component, and the folder whose `tests/` has its scenarios.
struct Target {
    wasm: PathBuf,
    folder: PathBuf,
    limits: PluginLimits,
    grants: Grants,
}

impl Target {
    /// A component, or a plugin's folder, which is built where its component is missing or older than its sources.
    fn open(path: &Path, limits: &LimitArgs) -> miette::Result<Self> {
        if path.is_dir() {
            let project = Project::open(path).into_diagnostic()?;
            if let Some(why) = project.stale() {
                super::talk(&format!("building: {why}\n"));
                crate::authoring::build(&project, &mut say).into_diagnostic()?;
            }
            let limits = limits.over(project.limits);
            return Ok(Self { wasm: project.wasm(), folder: project.dir, limits, grants: project.grants });
        }
        let (written, grants) = Project::needs_of(path).into_diagnostic()?;
        let limits = limits.over(written);
        let wasm = path.canonicalize().into_diagnostic()?;
        // Beside `tests/`, or in `dist/` beside it.
        let mut above = wasm.ancestors().skip(1).take(2);
        let folder = above.find(|dir| dir.join("tests").is_dir()).or_else(|| wasm.parent());
        Ok(Self { folder: folder.unwrap_or(Path::new(".")).to_owned(), wasm, limits, grants })
    }

    fn load(&self) -> miette::Result<Arc<LoadedPlugin>> {
        load(&default_cache_dir(), &self.wasm, self.limits, &self.grants)
    }
}

fn load(cache: &Path, wasm: &Path, limits: PluginLimits, grants: &Grants) -> miette::Result<Arc<LoadedPlugin>> {
    let id = wasm.file_stem().unwrap_or_default().to_string_lossy();
    let plan = PluginPlan {
        state: grants.state.iter().map(|name| (&**name).into()).collect(),
        metrics_series: grants.metrics_series,
        limits,
        ..PluginPlan::new(&id, wasm.to_owned())
    };
    PluginHost::new(cache).into_diagnostic()?.load(&plan).into_diagnostic()
}

fn say(text: &str) {
    super::talk(&format!("{text}\n"));
}

/// `1234567` is `1.2 MB`.
fn bytes(n: usize) -> String {
    match n as f64 {
        n if n >= 1e6 => format!("{:.1} MB", n / 1e6),
        n if n >= 1e3 => format!("{:.1} kB", n / 1e3),
        n => format!("{n} bytes"),
    }
}
