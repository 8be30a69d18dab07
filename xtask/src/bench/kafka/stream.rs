//! A labelled stream and the topics that hold it: a capture of the generator's traffic with attacks whose place and time
//! are known; written to a topic by our collector, or in the words of another collector by kaminari-bench. The records of a
//! destination prefix are in one partition, in order.

use crate::engine::{Site, kaminari, table};
use crate::kafka::ForBench;
use crate::report::Truth;
use crate::shell::{must, say, target};
use crate::summary::Summary;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Partitions of every topic.
const PARTITIONS: u32 = 12;
/// Packets a second of an attack, and the flow records that tell of them.
const ATTACK: &str = "pps=4000000,fps=2000";
const KINDS: [&str; 3] = ["udp-amplification", "syn-flood", "carpet-bombing"];
const ATTACK_SECONDS: u32 = 6;
const COLLECTED_WITHIN: Duration = Duration::from_secs(180);

/// How the records lie in the topic.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Arrow,
    Goflow2,
    Jsonl,
    Pmacct,
    /// Many records in a message.
    PmacctLines,
    Goflow2Json,
}

impl Format {
    pub const ALL: [Self; 6] =
        [Self::Arrow, Self::Goflow2, Self::Jsonl, Self::Pmacct, Self::PmacctLines, Self::Goflow2Json];

    /// The decoder's name of it.
    pub fn source(self) -> &'static str {
        match self {
            Self::Arrow => "arrow",
            Self::Goflow2 => "goflow2",
            Self::Jsonl => "jsonl",
            Self::Pmacct | Self::PmacctLines => "pmacct",
            Self::Goflow2Json => "goflow2_json",
        }
    }

    /// The sink's name of it: `Ok`; or kaminari-bench's.
    fn writer(self) -> Result<&'static str, &'static str> {
        match self {
            Self::Arrow => Ok("arrow"),
            Self::Goflow2 => Ok("goflow2"),
            Self::Jsonl => Ok("json"),
            Self::Pmacct => Err("pmacct"),
            Self::PmacctLines => Err("pmacct-lines"),
            Self::Goflow2Json => Err("goflow2_json"),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Arrow => "arrow",
            Self::Goflow2 => "goflow2 protobuf",
            Self::Jsonl => "canonical JSON",
            Self::Pmacct => "pmacct JSON",
            Self::PmacctLines => "pmacct JSON (100 a message)",
            Self::Goflow2Json => "goflow2 JSON",
        })
    }
}

/// A capture.
pub struct Stream {
    pcap: PathBuf,
    flows: u64,
    attacks: usize,
}

/// A topic that holds it.
pub struct Topic {
    pub name: String,
    pub format: Format,
    /// Flow records in it.
    pub flows: u64,
    /// Attacks in it, each an incident.
    pub attacks: usize,
    /// CPU seconds of the collector that wrote it; `None`: another program did.
    pub collector_cpu_seconds: Option<f64>,
    /// Size on the broker's disk; `None`: the broker is not ours.
    pub log_bytes: Option<u64>,
}

/// A name that no topic or group of this broker has.
pub fn unique(what: &str) -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    format!("bench-{what}-{}-{}", std::process::id(), CALLS.fetch_add(1, Relaxed))
}

/// kaminari-bench with one of its verbs for brokers.
pub fn helper(args: &[&str]) -> Result<String> {
    let mut command = Command::new(target().join("release/kaminari-bench"));
    let out = command.arg("kafka").args(args).stderr(Stdio::inherit()).output();
    let out = out.context("cannot start kaminari-bench")?;
    if !out.status.success() {
        bail!("kaminari-bench kafka {} failed ({})", args.join(" "), out.status);
    }
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}

/// Makes a topic; returns its name.
pub fn create(broker: &ForBench, what: &str, partitions: u32) -> Result<String> {
    let name = unique(what);
    helper(&["create", &broker.bootstrap, &name, &partitions.to_string()])?;
    Ok(name)
}

impl Stream {
    /// Flows a second of event time, and seconds.
    pub fn make(name: &str, (rate, seconds): (u32, u32)) -> Result<Self> {
        let dir = target().join("bench/kafka").join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let (pcap, truth) = (dir.join("flows.pcap"), dir.join("truth.jsonl"));
        let (rate, length) = (rate.to_string(), seconds.to_string());
        let mut generate = kaminari();
        generate.args(["generate", "flows", "--rate", &rate, "--seconds", &length, "--hosts", "20000", "--pcap"]);
        generate.arg(&pcap).arg("--truth").arg(&truth).stderr(Stdio::null());
        let attacks = attacks(seconds);
        for attack in &attacks {
            generate.args(["--attack", attack]);
        }
        must(&mut generate)?;
        let flows = Truth::parse(&std::fs::read_to_string(&truth)?)?.flows();
        say(&format!("{flows} flow records at {rate}/s of event time, {} attacks", attacks.len()));
        Ok(Self { pcap, flows, attacks: attacks.len() })
    }

    /// Writes it to a topic of its own.
    pub fn write(&self, broker: &ForBench, format: Format) -> Result<Topic> {
        let name = create(broker, "flows", PARTITIONS)?;
        let (flows, collector_cpu_seconds) = match format.writer() {
            Ok(sink) => self.collect(broker, &name, sink)?,
            Err(writer) => {
                let (partitions, pcap) = (PARTITIONS.to_string(), self.pcap.display().to_string());
                let told = helper(&["write", writer, &broker.bootstrap, &name, &partitions, &pcap])?;
                let flows = told.split(',').nth(1).context("kaminari-bench told no flows")?.parse()?;
                (flows, None)
            }
        };
        if flows != self.flows {
            bail!("{flows} of {} flow records were written", self.flows);
        }
        let log_bytes = broker.data().map(|data| log_bytes(&data, &name)).transpose()?;
        Ok(Topic { name, format, flows, attacks: self.attacks, collector_cpu_seconds, log_bytes })
    }

    fn collect(&self, broker: &ForBench, topic: &str, format: &str) -> Result<(u64, Option<f64>)> {
        let site = Site::new("bench/kafka/collector")?;
        site.configure_as("collector.toml", |config| {
            let dir = site.dir.display().to_string();
            table(config, &["engine"])?.insert("state_dir".into(), dir.into());
            let mut source = toml::Table::new();
            source.insert("type".into(), "file".into());
            source.insert("paths".into(), vec![self.pcap.display().to_string()].into());
            table(config, &["sources"])?.insert("edge".into(), source.into());
            let sink = table(config, &["sinks", "flows"])?;
            sink.insert("brokers".into(), vec![broker.bootstrap.clone()].into());
            sink.insert("topic".into(), topic.into());
            sink.insert("format".into(), format.into());
            // A file waits for the brokers; a spool would take what they do not take at once.
            sink.remove("spool");
            Ok(())
        })?;
        site.start()?.wait_end(COLLECTED_WITHIN)?;
        let summary: Summary = site.summary()?;
        // Of flows a row is counted, whatever a record holds.
        let delivered = summary.total("kaminari_sink_delivered_total", "") as u64;
        Ok((delivered, Some(summary.cpu_seconds)))
    }
}

/// One after the other, each on a prefix of its own.
fn attacks(seconds: u32) -> Vec<String> {
    let starts = (2..seconds.saturating_sub(ATTACK_SECONDS)).step_by(3);
    let attack = |(n, start): (usize, u32)| {
        let kind = KINDS[n % KINDS.len()];
        let target = match kind {
            "carpet-bombing" => format!("198.51.{}.0", 100 + n),
            _ => format!("203.0.{}.{}", 113 + n, 7 + n),
        };
        format!("{kind}@{start}+{ATTACK_SECONDS}:target={target},{ATTACK}")
    };
    starts.enumerate().map(|(n, start)| attack((n, start))).collect()
}

/// What the segments of a topic's partitions hold.
fn log_bytes(data: &Path, topic: &str) -> Result<u64> {
    let mut bytes = 0;
    for partition in 0..PARTITIONS {
        for file in std::fs::read_dir(data.join(format!("{topic}-{partition}")))? {
            let file = file?;
            if file.path().extension().is_some_and(|end| end == "log") {
                bytes += file.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::attacks;

    #[test]
    fn every_attack_ends_and_has_a_prefix_of_its_own() {
        let made = attacks(24);
        assert_eq!(made.len(), 6);
        assert_eq!(made[0], "udp-amplification@2+6:target=203.0.113.7,pps=4000000,fps=2000");
        assert!(made[5].starts_with("carpet-bombing@17+6:target=198.51.105.0,"), "{made:?}");
    }
}
