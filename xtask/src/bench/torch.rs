//! The libtorch backend beside the built-in kernel and, where a Python has it, PyTorch's eager mode: the rows of
//! `kaminari-bench torch` and of `benches/pytorch_eager.py`, and what they say. The goals are those of a GPU.

use super::results::Results;
use crate::shell::{root, say, target, works};
use crate::torch::Built;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const BENCH: &str = "inference-torch";
const NETWORKS: [&str; 3] = ["A", "B", "C"];
const BATCHES: [&str; 5] = ["64", "1024", "8192", "65536", "1048576"];
/// The batch of the goal that is the card's own.
const LARGEST: &str = "1048576";
const GPU: &str = "cuda:0";

/// Measures.
pub fn run(results: &mut Results, built: &Built, python: Option<PathBuf>) -> Result<()> {
    say("measuring the built-in kernel and libtorch");
    let mut ours = Command::new(target().join("release/kaminari-bench"));
    rows(ours.arg("torch").arg(&built.libtorch).arg(&built.library), 1, results)?;
    let python = python.or_else(|| std::env::var_os("KAMINARI_BENCH_PYTHON").map(PathBuf::from));
    let python = python.unwrap_or_else(|| "python3".into());
    if works(Command::new(&python).args(["-c", "import torch"])) {
        say("measuring PyTorch's eager mode");
        let peer = |args: &[&str]| {
            let mut command = Command::new(&python);
            command.arg(root().join("benches/pytorch_eager.py")).args(args);
            command
        };
        let mut runs = vec![
            peer(&["--nets", "A=16-32-8-32-16", "B=32-64-16-64-32"]),
            peer(&["--nets", "C=32-960-288-960-32", "--max-rows", "65536", "--reps", "2"]),
        ];
        if works(Command::new(&python).args(["-c", "import torch; assert torch.cuda.is_available()"])) {
            runs.extend(["f32", "f16"].map(|dtype| peer(&["--device", GPU, "--dtype", dtype])));
        }
        for command in &mut runs {
            rows(command, 0, results)?;
        }
    } else {
        say("not measured: PyTorch: no Python with `torch` (--python, or KAMINARI_BENCH_PYTHON)");
    }
    figures(results);
    Ok(())
}

/// Takes the rows that a program prints, behind so many lines.
fn rows(command: &mut Command, header: usize, results: &mut Results) -> Result<()> {
    let out = command.stderr(Stdio::inherit()).output().context("cannot be started")?;
    if !out.status.success() {
        bail!("{} failed ({})", command.get_program().display(), out.status);
    }
    let text = String::from_utf8(out.stdout).context("rows that are no text")?;
    for line in text.lines().skip(header) {
        let [bench, case, unit, value, rep] = line.split(',').collect::<Vec<_>>()[..] else {
            bail!("not a row of a benchmark: {line}");
        };
        results.row(bench, case, unit, value.parse()?, rep.parse()?);
    }
    Ok(())
}

fn figures(results: &mut Results) {
    for (case, unit) in results.cases(BENCH) {
        if case.starts_with("start ") {
            let median = results.median_of(BENCH, &case, &unit);
            let what = case
                .replace("start auto", "start, libtorch configured")
                .replace("start torch", "start, libtorch loaded");
            match (case.starts_with("start auto: cpu/"), &*unit) {
                (true, "ms") => results.at_most(&what, median, 20.0, "ms"),
                (true, "MB") => results.at_most(&what, median, 10.0, "MB"),
                _ => results.figure(&what, median, &unit),
            }
        }
    }
    for net in NETWORKS {
        for batch in BATCHES {
            let all: Vec<(String, String)> = results.cases(BENCH);
            let prefix = format!("{net} {batch}: ");
            for case in all.iter().filter_map(|(case, _)| case.strip_prefix(&prefix)) {
                results.figure(
                    &format!("{net}, {batch} rows: {case}"),
                    results.median(BENCH, &format!("{prefix}{case}")),
                    "rows/s",
                );
            }
            goals(results, net, batch);
        }
    }
}

/// On a GPU: never behind PyTorch, and close to what the card can do at all.
fn goals(results: &mut Results, net: &str, batch: &str) {
    let of = |results: &Results, who: &str| results.median(BENCH, &format!("{net} {batch}: {who}"));
    let (ours, eager) = (of(results, &format!("torch/{GPU}/f32")), of(results, &format!("pytorch eager {GPU} f32")));
    let floor = of(results, &format!("floor {GPU}"));
    if (ours / eager).is_finite() {
        results.at_least(&format!("{net}, {batch} rows: libtorch over PyTorch eager, {GPU}"), ours / eager, 1.0, "x");
    }
    if batch == LARGEST && (floor / ours).is_finite() {
        results.at_most(
            &format!("{net}, {batch} rows: libtorch over the transfers alone, {GPU}"),
            floor / ours,
            1.5,
            "x",
        );
    }
    for count in [4.0, 16.0] {
        for who in ["torch/cpu/f32", &format!("torch/{GPU}/f32")] {
            let (one, many) = (of(results, who), of(results, &format!("{who} x{count}")));
            let name = format!("{net}, {batch} rows: time of {count} models over {count} times one, {who}");
            if (one / many).is_finite() {
                results.figure(&name, one / many / count, "x");
            }
        }
    }
}
