//! The micro benchmarks of benches/: their rows as they are, their medians as figures.

use super::results::Results;
use crate::guests;
use crate::shell::{must, root, say, target};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// Window cases that are figures; the others are raw rows.
const IN_TABLE: [&str; 3] = ["demo levels", "four levels", "dst_addr"];

/// How many times as fast as with matrix products scoring should be, by network; at this batch.
const INFERENCE_GOALS: [(&str, f64); 2] = [("A", 2.0), ("B", 1.7)];
const INFERENCE_BATCH: &str = "1024";

/// A plugin in Rust over the same code natively, deadlines on.
const WASM_GOAL: f64 = 1.5;
/// In the unit of the case.
const BOUNDARY_GOALS: [(&str, f64); 3] =
    [("empty call", 1000.0), ("load: from the cache", 1000.0), ("instance and first call", 1000.0)];

/// CPU seconds per million of pmacct's flows, parsed and windowed, at the rate of the stream of `bench kafka`.
const PMACCT_GOAL: f64 = 0.9;
const PMACCT_GOAL_AT: &str = "at 100k flows/s";

/// Decoding and windows.
pub fn run(results: &mut Results) -> Result<()> {
    measure(&["decode", "window"], results)
}

/// The sandbox: what a plugin costs beside native code, in each language, and where it does nothing.
pub fn plugin(results: &mut Results) -> Result<()> {
    scripts()?;
    measure(&["plugin", "languages", "boundary"], results)
}

/// Builds the plugins that are no Rust, where their tools can be had.
fn scripts() -> Result<()> {
    let tools = guests::tools();
    for (variable, language) in [(guests::PYTHON, "python"), (guests::JAVASCRIPT, "javascript")] {
        if std::env::var_os(variable).is_none() && !tools.iter().any(|(name, _)| *name == variable) {
            say(&format!("SKIPPED: the detector in {language}: no tool builds it"));
            continue;
        }
        let name = format!("{language}-zmax");
        let folder = root().join("examples/plugins").join(&name);
        let mut build = Command::new(target().join("release/kaminari"));
        // What the build compiles is of no use here.
        build.args(["plugin", "build"]).arg(&folder).envs(tools.clone()).env("XDG_CACHE_HOME", target().join("bench"));
        must(build.stdout(Stdio::null()))?;
        let (from, to) = (folder.join(format!("dist/{name}.wasm")), target().join(format!("plugins/{name}.wasm")));
        std::fs::copy(&from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// pmacct's messages to rows of features.
pub fn pmacct(results: &mut Results) -> Result<()> {
    measure(&["pmacct"], results)
}

/// Scoring with a model.
pub fn inference(results: &mut Results) -> Result<()> {
    measure(&["inference"], results)
}

fn measure(names: &[&str], results: &mut Results) -> Result<()> {
    let mut command = Command::new(target().join("release/kaminari-bench"));
    command.arg(target().join("plugins")).args(names);
    let out = command.stderr(Stdio::inherit()).output().context("cannot start kaminari-bench")?;
    if !out.status.success() {
        bail!("kaminari-bench failed ({})", out.status);
    }
    let text = String::from_utf8(out.stdout).context("kaminari-bench printed no text")?;
    let mut cases: Vec<[&str; 3]> = Vec::new();
    for line in text.lines().skip(1) {
        let [bench, case, unit, value, rep] = line.split(',').collect::<Vec<_>>()[..] else {
            bail!("not a row of kaminari-bench: {line}");
        };
        results.row(bench, case, unit, value.parse()?, rep.parse()?);
        if !cases.contains(&[bench, case, unit]) {
            cases.push([bench, case, unit]);
        }
    }
    for [bench, case, unit] in cases {
        let median = results.median(bench, case);
        match (bench, unit) {
            ("decode", _) => results.figure(&format!("decode {case}, one core"), median, unit),
            ("window", "flows/s") if IN_TABLE.iter().any(|levels| case.starts_with(levels)) => {
                results.figure(&format!("window + features, {case}, one core"), median, unit)
            }
            ("plugin", "ns/row") => results.figure(&format!("plugin call, {case}"), median, unit),
            ("plugin", "x") => {
                let name = case.replace("ratio", "wasm over native");
                results.at_most(&format!("plugin call, {name}"), median, WASM_GOAL, unit);
            }
            ("languages", "x") => {
                results.at_most("zmax over 16 features, Rust plugin over native", median, WASM_GOAL, unit)
            }
            ("languages", _) => results.figure(&format!("{case}, 16 features"), median, unit),
            ("boundary", _) => match BOUNDARY_GOALS.iter().find(|(goal, _)| *goal == case) {
                Some((_, goal)) => results.at_most(&format!("sandbox, {case}"), median, *goal, unit),
                None => results.figure(&format!("sandbox, {case}"), median, unit),
            },
            ("pmacct", _) => {
                let name = format!("pmacct parse + windows, {case}, one core, per million flows");
                match case == PMACCT_GOAL_AT {
                    true => results.at_most(&name, median, PMACCT_GOAL, "CPU s"),
                    false if case.contains(": ") => say(&format!("{name}: {median:.3} CPU s")),
                    false => results.figure(&name, median, "CPU s"),
                }
            }
            ("inference", _) => inference_figure(results, case, median, unit),
            // Parts of a figure: in the raw rows.
            _ => say(&format!("{bench}: {case}: {median:.2} {unit}")),
        }
    }
    Ok(())
}

fn inference_figure(results: &mut Results, case: &str, median: f64, unit: &str) {
    let goal = INFERENCE_GOALS.iter().find(|(net, _)| case == format!("{net} {INFERENCE_BATCH}: ratio"));
    match goal {
        Some((net, goal)) => {
            results.at_least(&format!("inference, {net}: our kernel over matrixmultiply"), median, *goal, unit)
        }
        None if case.contains(&format!(" {INFERENCE_BATCH}: ")) => {
            let name = case.replace(&format!(" {INFERENCE_BATCH}"), "");
            results.figure(&format!("inference, {name}, one core"), median, unit);
        }
        None => say(&format!("inference: {case}: {} {unit}", crate::report::short(median))),
    }
}
