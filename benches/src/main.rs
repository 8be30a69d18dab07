//! Micro benchmarks: what one core does of each stage, without sockets and queues. Comes in: the folder of the built
//! plugins and, to run only some, their names. Goes out: CSV on stdout, one row per repetition
//! (`bench,case,unit,value,rep`). Refused: a stage that loses a record while it is measured.
//!
//! `cargo xtask bench` runs it with everything else; alone:
//! `cargo run --release -p kaminari-bench -- target/plugins [decode|formats|window|pmacct|plugin|languages|boundary|inference]...`, or
//! `... -- torch LIBTORCH LIBRARY [MAX-ROWS]`. `kafka.rs` has verbs of its own.

mod boundary;
mod decode;
mod formats;
mod inference;
mod kafka;
mod languages;
mod measure;
mod messages;
mod plugin;
mod pmacct;
mod torch;
mod traffic;
mod window;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

type Error = Box<dyn std::error::Error>;
type Outcome = Result<(), Error>;
type Bench = fn(&Path) -> Outcome;

const BENCHES: [(&str, Bench); 8] = [
    ("decode", |_| decode::run()),
    ("formats", |_| formats::run()),
    ("window", |_| window::run()),
    ("pmacct", |_| pmacct::run()),
    ("plugin", plugin::run),
    ("languages", languages::run),
    ("boundary", boundary::run),
    ("inference", |_| inference::run()),
];

fn with_torch(args: &[String]) -> ExitCode {
    let most = args.get(2).map_or(Ok(usize::MAX), |rows| rows.parse());
    let (Some(libtorch), Some(library), Ok(most)) = (args.first(), args.get(1), most) else {
        eprintln!("usage: kaminari-bench torch LIBTORCH LIBRARY [MAX-ROWS]");
        return ExitCode::from(2);
    };
    measure::header();
    match torch::run(Path::new(libtorch), Path::new(library), most) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: torch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if(|first| first == "torch").is_some() {
        return with_torch(&args.collect::<Vec<_>>());
    }
    if args.next_if(|first| first == "kafka").is_some() {
        let args: Vec<String> = args.collect();
        return match kafka::run(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: kafka: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let plugins = args.next().map(PathBuf::from).filter(|p| p.is_dir());
    let names: Vec<String> = args.collect();
    let unknown = names.iter().any(|n| !BENCHES.iter().any(|(known, _)| known == n));
    let Some(plugins) = plugins.filter(|_| !unknown) else {
        eprintln!(
            "usage: kaminari-bench FOLDER-OF-PLUGINS [decode|formats|window|pmacct|plugin|languages|boundary|inference]..."
        );
        return ExitCode::from(2);
    };
    measure::header();
    for (name, bench) in BENCHES.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name)) {
        if let Err(error) = bench(&plugins) {
            eprintln!("error: {name}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
