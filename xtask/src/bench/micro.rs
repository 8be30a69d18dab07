//! The micro benchmarks of benches/: their rows as they are, their medians as figures.

use super::results::Results;
use crate::shell::{say, target};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// Window cases that are figures; the others are raw rows.
const IN_TABLE: [&str; 3] = ["demo levels", "four levels", "dst_addr"];

pub fn run(results: &mut Results) -> Result<()> {
    let mut command = Command::new(target().join("release/kaminari-bench"));
    command.arg(target().join("plugins"));
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
                results.at_most(&format!("plugin call, {name}"), median, 1.5, unit);
            }
            // Parts of a figure: in the raw rows.
            _ => say(&format!("{bench}: {case}: {median:.2} {unit}")),
        }
    }
    Ok(())
}
