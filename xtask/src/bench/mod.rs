//! `cargo xtask bench`: what kaminari costs and how fast it is, one file per measurement. Builds what it measures,
//! prints a table of figures against their goals, and keeps raw figures, machine and table in benches/runs/. A goal
//! that is not met is said, not an error: figures of a busy machine are figures too.

mod delay;
mod kafka;
mod live;
mod machine;
mod micro;
mod path;
mod reload;
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

const MEASURES: [(&str, Measure); 8] = [
    ("micro", micro::run),
    ("plugin", micro::plugin),
    ("inference", micro::inference),
    ("path", path::run),
    ("delay", delay::run),
    ("rss", rss::run),
    ("start", start::run),
    ("reload", reload::run),
];
/// Needs a broker, and so Java: a run of its own.
const KAFKA: &str = "kafka";
/// What can be asked for.
pub const NAMES: [&str; 9] = [
    MEASURES[0].0,
    MEASURES[1].0,
    MEASURES[2].0,
    MEASURES[3].0,
    MEASURES[4].0,
    MEASURES[5].0,
    MEASURES[6].0,
    MEASURES[7].0,
    KAFKA,
];

/// Also kept where they are measured alone.
const PLUGIN: &str = MEASURES[1].0;
const RELOAD: &str = MEASURES[7].0;

/// Marker of the table, here and in README.md.
const MARKER: &str = "bench";
/// Ends the names of runs with libtorch, and of those on a broker.
const TORCH_RUN: &str = "-torch";
const KAFKA_RUN: &str = "-kafka";
/// Ends the names of those of plugins alone, and of those of reloads.
const PLUGIN_RUN: &str = "-plugin";
const RELOAD_RUN: &str = "-reload";
/// Marker of the table of runs on a broker in README.md, and of that of reloads in docs/reload.md.
const KAFKA_MARKER: &str = "bench-kafka";
const RELOAD_MARKER: &str = "bench-reload";

/// Runs the verb; no names: everything but Kafka.
pub fn run(names: &[String]) -> Result<()> {
    let alone = names.iter().any(|n| n == KAFKA);
    if alone && names.len() > 1 {
        bail!("{KAFKA} is measured alone");
    }
    say("building plugins, the engine and what benchmarks need (release; the first time takes a few minutes)");
    plugins::run()?;
    let mut build = cargo();
    build.args(["build", "--release", "-p", "kaminari", "--bins"]);
    if names != [RELOAD] {
        build.args(["-p", "kaminari-bench"]);
    }
    must(&mut build)?;
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
        [name] if name == RELOAD => runs().join(machine.folder() + RELOAD_RUN),
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

/// Puts the tables of the last runs into README.md and docs/reload.md.
pub fn update_readme() -> Result<()> {
    let entries = std::fs::read_dir(runs()).context("no benches/runs: run `cargo xtask bench` first")?;
    let mut names = entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect::<Result<Vec<_>>>()?;
    names.sort(); // they begin with the date
    let last = |mine: &dyn Fn(&str) -> bool| names.iter().rfind(|name| mine(name));
    let alone = [TORCH_RUN, KAFKA_RUN, PLUGIN_RUN, RELOAD_RUN];
    let plain = last(&|name| !alone.iter().any(|part| name.ends_with(part)));
    let plain = plain.context("no run in benches/runs: run `cargo xtask bench` first")?;
    put("README.md", MARKER, plain)?;
    for (file, marker, ending) in
        [("README.md", KAFKA_MARKER, KAFKA_RUN), ("docs/reload.md", RELOAD_MARKER, RELOAD_RUN)]
    {
        last(&|name| name.ends_with(ending)).map_or(Ok(()), |name| put(file, marker, name))?;
    }
    Ok(())
}

/// The table of a run between the markers of a file.
fn put(file: &str, marker: &str, name: &str) -> Result<()> {
    let run = format!("benches/runs/{name}/README.md");
    let told = std::fs::read_to_string(root().join(&run)).with_context(|| format!("cannot read {run}"))?;
    let table = between(&told, MARKER, &run)?;
    let path = root().join(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
    let link = "../".repeat(file.matches('/').count()) + &run;
    let content = format!("{}\n\nThe run: [{name}]({link}).\n", table.trim());
    std::fs::write(&path, replace(&text, marker, file, &content)?)?;
    say(&format!("{file} has the table of {name}"));
    Ok(())
}
