//! `cargo xtask`: everything that is done to this repository beyond `cargo build`, one file per verb. Every verb
//! brings what it needs and says so.

mod bench;
mod demo;
mod engine;
mod eval;
mod layers;
mod markers;
mod plugins;
mod report;
mod shell;
mod summary;
mod test;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and shows kaminari")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds every plugin (plugins/*, tests/plugins/*) into target/plugins/NAME.wasm.
    Plugins,
    /// Everything that must pass: plugins, format, layers, all tests. The last line counts them.
    Test {
        /// Given to `cargo test --workspace`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What continuous integration runs: `test`, and the lints with --lints.
    Ci {
        /// Run clippy too, warnings are errors.
        #[arg(long)]
        lints: bool,
    },
    /// Checks that no room of host/src imports what it must not.
    Layers {
        /// Print the table of ARCHITECTURE.md instead.
        #[arg(long)]
        print: bool,
    },
    /// Starts the engine, sends it labelled traffic with three attacks, and prints what it made of them.
    Demo,
    /// Trains on benign data, scores labelled data of other days, and prints how good that was beside the goals.
    Eval {
        #[command(subcommand)]
        recipe: eval::Recipe,
    },
    /// Measures decoding, windows, the sandbox and the engine over loopback UDP; keeps the figures in benches/runs/.
    Bench {
        /// Measure only these; nothing is kept then.
        #[arg(value_parser = bench::NAMES)]
        names: Vec<String>,
        /// Measure nothing: put the table of the last run into README.md.
        #[arg(long, conflicts_with = "names")]
        update_readme: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse().verb {
        Verb::Plugins => plugins::run(),
        Verb::Test { args } => test::run(&args),
        Verb::Ci { lints } => test::ci(lints),
        Verb::Layers { print } => layers::run(print),
        Verb::Demo => demo::run(),
        Verb::Eval { recipe } => eval::run(recipe),
        Verb::Bench { update_readme: true, .. } => bench::update_readme(),
        Verb::Bench { names, .. } => bench::run(&names),
    }
}
