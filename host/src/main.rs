//! The program: parses the command line, hands it to `cli`, ends with its exit code.

use clap::Parser;

fn main() -> std::process::ExitCode {
    kaminari::cli::run(kaminari::cli::Cli::parse())
}
