//! All that must pass, in one command, with one line at the end that counts.

use crate::shell::{cargo, must, say, show, works};
use crate::{contract, guests, kafka, layers, plugins, tools, torch};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// All of the workspace that builds without libtorch.
const WORKSPACE: [&str; 3] = ["--workspace", "--exclude", "kaminari-torch"];

/// Runs `test`. Fetches what is missing: the guest target (by rustup), crates (by cargo), Kafka (by Maven) and, for
/// `torch`, libtorch (by pip); for tests beside other collectors pmacct (by apt-get, as root) and GoFlow2 (by go), whose tests are
/// skipped where these cannot be had. A Kafka broker that cannot be had fails a `strict` run; in others its tests are skipped.
pub fn run(torch: bool, args: &[String], strict: bool) -> Result<()> {
    say("fetching crates where they are missing, then building plugins, the program and the tests");
    plugins::run()?;
    // With the tests in one go: dev-dependencies turn features on, and two resolutions would build the engine twice.
    must(cargo().arg("build").args(WORKSPACE).args(["--bins", "--tests"]))?;
    if works(cargo().args(["fmt", "--version"])) {
        must(cargo().args(["fmt", "--check"]))?;
    } else {
        say("SKIPPED: format check: rustfmt is not installed (rustup component add rustfmt)");
    }
    say("clippy is left to `cargo xtask ci --lints`: it checks every dependency once more");
    layers::run(false)?;
    contract::run(false)?;
    if !tests(torch, args, strict)? {
        std::process::exit(1);
    }
    Ok(())
}

/// True where the environment says that this is continuous integration.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false" && ci != "0")
}

/// Runs `ci`.
pub fn ci(lints: bool, torch: bool) -> Result<()> {
    if lints {
        const STRICT: [&str; 4] = ["--all-targets", "--", "-D", "warnings"];
        if !works(cargo().args(["clippy", "--version"])) {
            bail!("clippy is not installed: rustup component add clippy");
        }
        must(cargo().arg("clippy").args(WORKSPACE).args(STRICT))?;
        if torch {
            // As it is built: libtorch's wrapper takes minutes.
            must(torch::cargo_with_libtorch()?.args(["clippy", "--release", "-p", "kaminari-torch"]).args(STRICT))?;
        }
    }
    run(torch, &[], true)
}

/// `cargo test`, and the sum over all its binaries as the last line. True if all is well.
fn tests(torch: bool, args: &[String], strict: bool) -> Result<bool> {
    let (own, harness) = match args.iter().position(|a| a == "--") {
        Some(at) => (&args[..at], &args[at + 1..]),
        None => (args, &[][..]),
    };
    let mut workspace = cargo();
    workspace.arg("test").args(WORKSPACE).arg("--no-fail-fast").args(own);
    let mut commands = Vec::new();
    if torch {
        let built = torch::build()?;
        workspace.env("KAMINARI_TEST_LIBTORCH", built.libtorch).env("KAMINARI_TEST_TORCH_LIBRARY", built.library);
        let mut backend = torch::cargo_with_libtorch()?;
        backend.args(["test", "--release", "-p", "kaminari-torch", "--no-fail-fast"]);
        commands.push(backend);
    }
    let (mut counter, mut good) = (Counter::default(), true);
    workspace.envs(guests::tools());
    // Lives until the tests have run.
    let kafka = kafka::for_tests();
    match &kafka {
        Ok(kafka) => {
            workspace.envs(kafka.env.iter().map(|(name, value)| (name, value)));
            workspace.envs(tools::for_tests());
        }
        Err(error) if strict => {
            println!("FAILED: {error:#}");
            counter.failed += 1;
        }
        // Each test that needs it says that it is skipped.
        Err(error) => say(&format!("{error:#}")),
    }
    commands.push(workspace);
    for mut command in commands {
        say(&show(&command));
        command.args(["--", "--show-output"]).args(harness);
        good &= counted(&mut command, &mut counter)?;
    }
    println!("{}", counter.summary());
    Ok(good && counter.failed == 0)
}

/// Shows what is worth it of the tests' output and counts; true if the command ended well.
fn counted(command: &mut Command, counter: &mut Counter) -> Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let mut out = child.stdout.take().map(BufReader::new).context("cargo test has no output")?;
    let mut bytes = Vec::new();
    while out.read_until(b'\n', &mut bytes)? > 0 {
        let line = String::from_utf8_lossy(&bytes);
        if counter.line(line.trim_end()) {
            print!("{line}");
        }
        bytes.clear();
    }
    Ok(child.wait()?.success())
}

/// Reads the harness's output. Tests that find nothing to test against print a line `SKIPPED: ...`; the harness
/// counts them as passed, we do not.
#[derive(Default)]
struct Counter {
    passed: i64,
    failed: i64,
    skipped: i64,
    /// Inside the output of tests that passed, which nobody needs to read.
    quiet: bool,
    /// The test whose output this is has already been counted as skipped.
    counted: bool,
}

impl Counter {
    /// True when the line is worth showing.
    fn line(&mut self, line: &str) -> bool {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.quiet = false;
            let count = |what: &str| {
                let number = counts.split([';', '.']).find_map(|part| part.trim().strip_suffix(what));
                number.and_then(|n| n.trim().parse::<i64>().ok()).unwrap_or(0)
            };
            self.passed += count("passed");
            self.failed += count("failed");
            self.skipped += count("ignored");
            return true;
        }
        match line {
            "successes:" => self.quiet = true,
            "failures:" => self.quiet = false,
            _ if line.starts_with("---- ") && line.ends_with(" stdout ----") => self.counted = false,
            _ if line.starts_with("SKIPPED:") && self.quiet => {
                if !self.counted {
                    self.counted = true;
                    self.skipped += 1;
                    // The harness's count of this binary is still to come, and holds this test.
                    self.passed -= 1;
                }
                return true;
            }
            _ => {}
        }
        !self.quiet
    }

    fn summary(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_summed_and_skips_are_no_passes() {
        let mut counter = Counter::default();
        let output = "
running 3 tests
test a ... ok

successes:

---- a stdout ----
SKIPPED: corpus: no ../shared beside the repository
SKIPPED: and so on
---- b stdout ----
chatter

successes:
    a
    b

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s";
        let shown: Vec<&str> = output.lines().filter(|l| counter.line(l)).collect();
        assert_eq!(counter.summary(), "5 passed, 2 failed, 2 skipped");
        assert!(shown.contains(&"test a ... ok") && !shown.contains(&"chatter"));
        assert!(shown.iter().any(|l| l.starts_with("SKIPPED: corpus")));
    }
}
