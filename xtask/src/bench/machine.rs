//! Where and with what a run was made, as far as it matters for its figures: no names, no paths.

use crate::shell::root;
use anyhow::{Context, Result, bail};
use std::process::Command;

/// The machine, the tools and the day.
pub struct Machine {
    pub date: String,
    cpu: String,
    cores: usize,
    kernel: String,
    rustc: String,
    commit: String,
    load: String,
}

impl Machine {
    /// This one, now.
    pub fn here() -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let cpuinfo = read("/proc/cpuinfo")?;
        let cpu = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
        let changed = !tool("git", &["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        Ok(Self {
            date: jiff::Timestamp::now().to_string().chars().take(10).collect(),
            cpu: cpu.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            rustc: tool("rustc", &["--version"])?,
            commit: tool("git", &["rev-parse", "--short=12", "HEAD"])? + if changed { " and changes" } else { "" },
            load: read("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
        })
    }

    /// Name of the run's folder.
    pub fn folder(&self) -> String {
        format!("{}-{}cores-{}", self.date, self.cores, short_name(&self.cpu))
    }

    /// A table.
    pub fn markdown(&self) -> String {
        let lines = [
            ("CPU", format!("{}, {} cores", self.cpu, self.cores)),
            ("kernel", self.kernel.clone()),
            ("rustc", self.rustc.clone()),
            ("commit", self.commit.clone()),
            ("load average before the run", self.load.clone()),
        ];
        let lines: String = lines.iter().map(|(what, text)| format!("| {what} | {text} |\n")).collect();
        format!("| | |\n| --- | --- |\n{lines}")
    }
}

fn tool(program: &str, args: &[&str]) -> Result<String> {
    let out = Command::new(program).args(args).current_dir(root()).output();
    let out = out.with_context(|| format!("cannot start {program}"))?;
    if !out.status.success() {
        bail!("{program} {} failed: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// `AMD EPYC 9654 96-Core Processor` becomes `amd-epyc-9654`.
fn short_name(cpu: &str) -> String {
    let plain = cpu.replace("(R)", "").replace("(TM)", "").to_lowercase();
    let plain = plain.split('@').next().unwrap_or_default();
    let noise = |word: &str| word == "cpu" || word == "processor" || word.ends_with("-core");
    let words = plain.split_whitespace().filter(|w| !noise(w)).take(4);
    let name = words.collect::<Vec<_>>().join("-");
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::short_name;

    #[test]
    fn names_of_cpus_are_short_and_fit_a_folder() {
        assert_eq!(short_name("AMD EPYC 9654 96-Core Processor"), "amd-epyc-9654");
        assert_eq!(short_name("Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz"), "intel-xeon-gold-6130");
        assert_eq!(short_name("Neoverse/N1"), "neoverse-n1");
    }
}
