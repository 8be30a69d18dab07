//! `kaminari plugin build`: the component of a folder, compiled into the cache that `run` and `replay` take it from.

use super::{LimitArgs, bytes, load, say};
use crate::authoring::{Project, build};
use crate::config::default_cache_dir;
use clap::Args;
use miette::IntoDiagnostic;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `plugin build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The plugin's folder
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Builds and compiles.
pub fn run(args: BuildArgs) -> miette::Result<()> {
    let project = Project::open(&args.dir).into_diagnostic()?;
    let began = Instant::now();
    let built = build(&project, &mut say).into_diagnostic()?;
    let building = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let plugin = load(&default_cache_dir(), &built.wasm, args.limits.over(project.limits), &project.grants)?;
    let compiling = began.elapsed().as_secs_f64();
    let size = std::fs::metadata(&built.wasm).into_diagnostic()?.len() as usize;
    let info = plugin.info();
    let shown = built.wasm.strip_prefix(&project.dir).unwrap_or(&built.wasm);
    crate::cli::print(&format!(
        "{} {}: {}\nfile      {}\nsize      {}\nsha256    {}\ncontract  kaminari:plugin@{}\nbuilt in  {building:.1} s, \
         compiled in {compiling:.1} s\n",
        info.name,
        info.version,
        info.description,
        args.dir.join(shown).display(),
        bytes(size),
        info.digest,
        info.api_version,
    ))
}
