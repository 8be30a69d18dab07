//! `kaminari completion SHELL`: the script that a shell sources.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Arguments of `completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// Which shell
    shell: Shell,
}

/// Prints the script.
pub fn run(args: CompletionArgs) -> miette::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "kaminari", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}
