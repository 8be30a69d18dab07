//! `cargo xtask`: everything that is done to this repository beyond `cargo build`, one file per verb. Every verb
//! brings what it needs and says so.

mod bench;
mod contract;
mod demo;
mod engine;
mod eval;
mod guests;
mod kafka;
mod layers;
mod markers;
mod plugins;
mod report;
mod shell;
mod summary;
mod test;
mod tools;
mod torch;

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
    /// Everything that must pass: plugins, format, layers, all tests (with a Kafka broker). The last line counts them.
    Test {
        /// The libtorch backend too, with its own tests and those of the engine that need it. Stands first.
        #[arg(long)]
        torch: bool,
        /// Given to `cargo test --workspace`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// What continuous integration runs: `test`, and the lints with --lints.
    Ci {
        /// Run clippy too, warnings are errors.
        #[arg(long)]
        lints: bool,
        /// The libtorch backend too.
        #[arg(long)]
        torch: bool,
    },
    /// Fetches libtorch (540 MB) where LIBTORCH names none, and builds the backend that the engine loads.
    Torch,
    /// A Kafka broker on loopback, for tests that are run by hand.
    Kafka {
        #[command(subcommand)]
        verb: kafka::Verb,
    },
    /// Checks that no room of host/src imports what it must not.
    Layers {
        /// Print the table of ARCHITECTURE.md instead.
        #[arg(long)]
        print: bool,
    },
    /// Checks the contract with plugins (wit/) against what was released.
    Contract {
        /// File wit/kaminari.wit under its version first: it never changes from then on.
        #[arg(long)]
        release: bool,
    },
    /// Starts the engine, sends it labelled traffic with three attacks, and prints what it made of them.
    Demo,
    /// Trains on benign data, scores labelled data of other days, and prints how good that was beside the goals.
    Eval {
        #[command(subcommand)]
        recipe: eval::Recipe,
    },
    /// Measures decoding, windows, the sandbox, the engine over loopback UDP and its reloads (and, with `kafka`, on a broker
    /// that it brings); keeps the figures in benches/runs/.
    Bench {
        /// Measure only these; nothing is kept then, but for `plugin` alone, `reload` alone and `kafka`, which is
        /// measured alone.
        #[arg(value_parser = bench::NAMES)]
        names: Vec<String>,
        /// The libtorch backend beside the built-in kernel and PyTorch, on whatever devices there are; kept in a folder of
        /// its own.
        #[arg(long)]
        torch: bool,
        /// A Python with PyTorch, the peer of `--torch`. Default: KAMINARI_BENCH_PYTHON, or python3.
        #[arg(long, requires = "torch")]
        python: Option<std::path::PathBuf>,
        /// Measure nothing: put the tables of the last runs into README.md and docs/reload.md.
        #[arg(long, conflicts_with_all = ["names", "torch"])]
        update_readme: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse().verb {
        Verb::Plugins => plugins::run(),
        Verb::Test { torch, args } => test::run(torch, &args, test::in_ci()),
        Verb::Ci { lints, torch } => test::ci(lints, torch),
        Verb::Torch => torch::run(),
        Verb::Kafka { verb } => kafka::run(verb),
        Verb::Contract { release } => contract::run(release),
        Verb::Layers { print } => layers::run(print),
        Verb::Demo => demo::run(),
        Verb::Eval { recipe } => eval::run(recipe),
        Verb::Bench { update_readme: true, .. } => bench::update_readme(),
        Verb::Bench { torch: true, python, .. } => bench::run_torch(python),
        Verb::Bench { names, .. } => bench::run(&names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torch_is_a_flag_where_it_stands_first_and_everything_after_is_cargos() {
        let test = |args: &[&str]| match Args::try_parse_from(["xtask", "test"].iter().chain(args)).unwrap().verb {
            Verb::Test { torch, args } => (torch, args),
            _ => unreachable!(),
        };
        let own = |args: &[&str]| args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
        assert_eq!(test(&[]), (false, own(&[])));
        assert_eq!(test(&["--torch"]), (true, own(&[])));
        assert_eq!(test(&["--torch", "--test", "it", "--", "-q"]), (true, own(&["--test", "it", "--", "-q"])));
        assert_eq!(test(&["name", "--torch"]), (false, own(&["name", "--torch"])));
    }
}
