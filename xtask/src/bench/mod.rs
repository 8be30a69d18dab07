//! `cargo xtask bench`: what kaminari costs and how fast it is, one file per measurement. Builds what it measures,
//! prints a table of figures against their goals, and keeps raw figures, machine and table in benches/runs/. A goal
//! that is not met is said, not an error: figures of a busy machine are figures too.

mod delay;
mod kafka;
mod live;
mod machine;
mod micro;
mod path;
mod results;
mod rss;
mod start;
mod torch;

use crate::markers::{between, replace};
use crate::plugins;
use crate::shell::{cargo, must, root, say, target};
use anyhow::{Context, Result, bail};
use machine::Machine;
use results::Results;
use std::path::{Path, PathBuf};

type Measure = fn(&mut Results) -> Result<()>;

const MEASURES: [(&str, Measure); 7] = [
    ("micro", micro::run),
    ("plugin", micro::plugin),
    ("inference", micro::inference),
    ("path", path::run),
    ("delay", delay::run),
    ("rss", rss::run),
    ("start", start::run),
];
/// Needs a broker, and so Java: a run of its own.
const KAFKA: &str = "kafka";
/// What can be asked for.
pub const NAMES: [&str; 8] =
    [MEASURES[0].0, MEASURES[1].0, MEASURES[2].0, MEASURES[3].0, MEASURES[4].0, MEASURES[5].0, MEASURES[6].0, KAFKA];

/// Also kept where it is measured alone.
const PLUGIN: &str = MEASURES[1].0;

/// Marker of the table, here and in README.md.
const MARKER: &str = "bench";
/// Ends the names of runs with libtorch, and of those on a broker.
const TORCH_RUN: &str = "-torch";
const KAFKA_RUN: &str = "-kafka";
/// Ends the names of those of plugins alone.
const PLUGIN_RUN: &str = "-plugin";
/// Marker of the table of such runs in README.md.
const KAFKA_MARKER: &str = "bench-kafka";

/// Runs the verb; no names: everything but Kafka.
pub fn run(names: &[String]) -> Result<()> {
    let alone = names.iter().any(|n| n == KAFKA);
    if alone && names.len() > 1 {
        bail!("{KAFKA} is measured alone");
    }
    say("building plugins, the engine and the micro benchmarks (release; the first time takes a few minutes)");
    plugins::run()?;
    let mut build = cargo();
    must(build.args(["build", "--release", "-p", "kaminari", "-p", "kaminari-bench", "--bins"]))?;
    let machine = Machine::here()?;
    let mut results = Results::default();
    if alone {
        kafka::run(&mut results).context("bench kafka")?;
        return keep(&runs().join(machine.folder() + KAFKA_RUN), &machine, &results);
    }
    for (name, measure) in MEASURES {
        if names.is_empty() || names.iter().any(|n| n == name) {
            say(&format!("measuring {name}"));
            measure(&mut results).with_context(|| format!("bench {name}"))?;
        }
    }
    let dir = match names {
        [] => runs().join(machine.folder()),
        [name] if name == PLUGIN => runs().join(machine.folder() + PLUGIN_RUN),
        _ => target().join("bench/partial"),
    };
    keep(&dir, &machine, &results)
}

/// The libtorch backend and its peers.
pub fn run_torch(python: Option<PathBuf>) -> Result<()> {
    let built = crate::torch::build()?;
    must(cargo().args(["build", "--release", "-p", "kaminari-bench"]))?;
    let machine = Machine::here()?;
    let mut results = Results::default();
    torch::run(&mut results, &built, python)?;
    keep(&runs().join(machine.folder() + TORCH_RUN), &machine, &results)
}

fn runs() -> PathBuf {
    root().join("benches/runs")
}

fn keep(dir: &Path, machine: &Machine, results: &Results) -> Result<()> {
    write(dir, machine, results)?;
    println!("\n{}", results.for_people());
    println!("raw figures: {}", dir.display());
    Ok(())
}

fn write(dir: &Path, machine: &Machine, results: &Results) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    std::fs::write(dir.join("raw.csv"), results.csv())?;
    let readme = format!(
        "# Benchmarks of {}\n\n{}\n<!-- {MARKER} -->\n{}<!-- /{MARKER} -->\n\nMade by `cargo xtask bench`; every \
         repetition is in [raw.csv](raw.csv) (`bench,case,unit,value,rep`). The figures above are medians of \
         repetitions where there are any.\n",
        machine.date,
        machine.markdown(),
        results.markdown(),
    );
    Ok(std::fs::write(dir.join("README.md"), readme)?)
}

/// Puts the tables of the last runs into README.md.
pub fn update_readme() -> Result<()> {
    let entries = std::fs::read_dir(runs()).context("no benches/runs: run `cargo xtask bench` first")?;
    let mut names = entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect::<Result<Vec<_>>>()?;
    names.sort(); // they begin with the date
    let last = |mine: &dyn Fn(&str) -> bool| names.iter().rfind(|name| mine(name));
    let plain = last(&|name| ![TORCH_RUN, KAFKA_RUN, PLUGIN_RUN].iter().any(|part| name.ends_with(part)));
    let plain = plain.context("no run in benches/runs: run `cargo xtask bench` first")?;
    let kafka = last(&|name| name.ends_with(KAFKA_RUN)).map(|name| (KAFKA_MARKER, name));
    let readme = root().join("README.md");
    let mut text = std::fs::read_to_string(&readme).context("cannot read README.md")?;
    for (marker, name) in [(MARKER, plain)].into_iter().chain(kafka) {
        let run = format!("benches/runs/{name}/README.md");
        let told = std::fs::read_to_string(root().join(&run)).with_context(|| format!("cannot read {run}"))?;
        let table = between(&told, MARKER, &run)?;
        text = replace(&text, marker, "README.md", &format!("{}\n\nThe run: [{name}]({run}).\n", table.trim()))?;
        say(&format!("README.md has the table of {name}"));
    }
    Ok(std::fs::write(&readme, text)?)
}
