//! `kaminari generate`: labelled flow traffic into a capture file or onto the network, or a configuration to start from.
//! Datagrams go where they were asked to go, the summary to stderr, the labels to `--truth`, the configuration to stdout.

use crate::generate::output::{KafkaOutput, Output, PcapOutput, Speed, UdpOutput, drive};
use crate::generate::{AttackSpec, Generator, Options, Truth, Version};
use crate::model::time::{SECOND, now_ns, rfc3339};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use miette::{IntoDiagnostic, miette};
use std::io::IsTerminal;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Instant;

/// Makes test data or a configuration.
#[derive(Args, Debug)]
pub struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// NetFlow v5, v9 and IPFIX: a benign background and attacks whose place and time are known.
    Flows(Box<FlowsArgs>),
    /// The shortest configuration that works, to start from; configs/kaminari.toml explains every key.
    Config,
}

/// What `generate config` prints, but for the path of the plugin.
const CONFIG: &str = include_str!("../../../configs/minimal.toml");

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("output").required(true))]
struct FlowsArgs {
    /// Write a capture file (raw IP, exporters to port 2055).
    #[arg(long, value_name = "FILE", group = "output")]
    pcap: Option<PathBuf>,
    /// Send to a collector, at the pace of event time.
    #[arg(long, value_name = "HOST:PORT", group = "output", value_parser = resolve)]
    udp: Option<SocketAddr>,
    /// Write datagrams to a topic of these brokers, keyed by exporter.
    #[arg(long, value_name = "HOST:PORT,...", group = "output", requires = "topic")]
    kafka: Option<String>,
    /// The topic for --kafka.
    #[arg(long, requires = "kafka")]
    topic: Option<String>,
    /// Length of the traffic.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    seconds: f64,
    /// Benign flows a second, over all exporters.
    #[arg(long, value_name = "FLOWS", default_value_t = 10_000.0)]
    rate: f64,
    /// Destination hosts of the benign traffic.
    #[arg(long, default_value_t = 5_000)]
    hosts: usize,
    /// The same seed gives the same traffic.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Event time of the start (RFC 3339); by default now for --udp and --kafka, 2026-01-01 for --pcap.
    #[arg(long, value_name = "TIME", value_parser = time)]
    start: Option<u64>,
    /// One exporter per version named.
    #[arg(long, value_delimiter = ',', default_value = "v5,v9,ipfix", value_parser = version)]
    exporters: Vec<Version>,
    /// Exporters sample 1 packet in N and say so.
    #[arg(long, value_name = "N", default_value_t = 1)]
    sampling: u32,
    /// An attack; may be given several times. Kinds: udp-amplification, syn-flood, carpet-bombing. Options: target,
    /// pps, fps (flow records a second at most), bytes (a packet), hosts (of the /24).
    #[arg(long, value_name = "KIND[@START+SECONDS][:KEY=VALUE,...]", value_parser = attack)]
    attack: Vec<AttackSpec>,
    /// A set of attacks: `demo` has one of each kind within 46 s.
    #[arg(long, value_name = "SET", value_parser = ["demo"])]
    attacks: Option<String>,
    /// Labels: one JSON line per attack, one per exporter.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Event seconds a second, or `max`: as fast as it goes (--pcap always is).
    #[arg(long, value_name = "N|max", default_value = "1", value_parser = speed)]
    speed: Speed,
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|e| format!("{e}; write HOST:PORT"))?;
    found.next().ok_or_else(|| "the name has no address".into())
}

fn version(text: &str) -> Result<Version, String> {
    Version::from_name(text).ok_or_else(|| format!("known: {}", Version::ALL.map(Version::name).join(", ")))
}

fn attack(text: &str) -> Result<AttackSpec, String> {
    AttackSpec::parse(text).map_err(|e| e.to_string())
}

fn time(text: &str) -> Result<u64, String> {
    let time: jiff::Timestamp = text.parse().map_err(|e: jiff::Error| e.to_string())?;
    u64::try_from(time.as_nanosecond()).map_err(|_| "must not be before 1970".into())
}

fn speed(text: &str) -> Result<Speed, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Speed::Max),
        Ok(n) if n > 0.0 && n <= 1e6 => Ok(Speed::Paced(n)),
        _ => Err("must be a number above 0, or max".into()),
    }
}

/// 2026-01-01T00:00:00Z: captures are the same whenever they are made.
const PCAP_START_NS: u64 = 1_767_225_600 * SECOND;

/// Runs the verb.
pub fn run(args: GenerateArgs) -> miette::Result<()> {
    match args.what {
        What::Flows(args) => flows(*args),
        What::Config => super::print(&config()),
    }
}

/// Stands in the repository's root, where the plugins are built, not in `configs/`.
fn config() -> String {
    CONFIG.replace("path = \"../target/", "path = \"target/")
}

fn flows(args: FlowsArgs) -> miette::Result<()> {
    let mut attacks = args.attack;
    if args.attacks.is_some() {
        attacks.extend(AttackSpec::demo());
    }
    let default_start = if args.pcap.is_none() { now_ns() } else { PCAP_START_NS };
    let options = Options {
        seconds: args.seconds,
        rate: args.rate,
        hosts: args.hosts,
        seed: args.seed,
        start_ns: args.start.unwrap_or(default_start),
        exporters: args.exporters,
        sampling: args.sampling,
        attacks,
    };
    let mut generator = Generator::new(&options).into_diagnostic()?;
    let (mut output, speed): (Box<dyn Output>, Speed) = match (&args.pcap, args.udp, args.kafka.zip(args.topic)) {
        (Some(path), ..) => (Box::new(PcapOutput::create(path).into_diagnostic()?), Speed::Max),
        (_, Some(to), _) => (Box::new(UdpOutput::connect(to, generator.exporters()).into_diagnostic()?), args.speed),
        (.., Some((brokers, topic))) => {
            (Box::new(KafkaOutput::connect(&brokers, &topic).into_diagnostic()?), args.speed)
        }
        _ => return Err(miette!("name an output: --pcap FILE, --udp HOST:PORT or --kafka HOST:PORT --topic TOPIC")),
    };
    let bar = progress_bar(&generator);
    let start_ns = generator.now_ns();
    let clock = Instant::now();
    let truth = drive(&mut generator, output.as_mut(), speed, |now_ns| {
        bar.set_position((now_ns - start_ns) / 1_000_000);
    })
    .into_diagnostic()?;
    bar.finish_and_clear();
    if let Some(path) = &args.truth {
        truth.write(path).into_diagnostic()?;
    }
    summarise(&truth, clock.elapsed().as_secs_f64());
    Ok(())
}

fn progress_bar(generator: &Generator) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let millis = (generator.end_ns() - generator.now_ns()) / 1_000_000;
    let style = ProgressStyle::with_template("generating {wide_bar} {percent:>3} % of event time, {eta} left");
    ProgressBar::new(millis).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn summarise(truth: &Truth, seconds: f64) {
    eprintln!(
        "{} flow records in {} datagrams, {seconds:.1} s ({:.0} flows/s)",
        truth.flows(),
        truth.datagrams(),
        truth.flows() as f64 / seconds
    );
    for e in &truth.exporters {
        eprintln!("  exporter {} {}: {} flow records in {} datagrams", e.exporter, e.version, e.flows, e.datagrams);
    }
    for a in &truth.attacks {
        eprintln!(
            "  attack {} on {}: {} to {}, {} flow records, {} packets, first sent {}",
            a.kind,
            a.target,
            a.start,
            a.end,
            a.flows,
            a.packets,
            rfc3339(a.first_sent_ns)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: GenerateArgs,
    }

    fn parse(line: &str) -> Result<FlowsArgs, String> {
        let line = Line::try_parse_from(line.split(' ')).map_err(|e| e.to_string())?;
        match line.args.what {
            What::Flows(args) => Ok(*args),
            What::Config => Err("no flows".into()),
        }
    }

    #[test]
    fn one_output_is_needed_and_only_one() {
        assert!(parse("generate flows").is_err());
        assert!(parse("generate flows --pcap a --udp 127.0.0.1:1").is_err());
        let args =
            parse("generate flows --udp 127.0.0.1:1 --seconds 5 --attacks demo --exporters v9,ipfix --speed max");
        let args = args.unwrap();
        assert_eq!((args.seconds, &*args.exporters), (5.0, &[Version::V9, Version::Ipfix][..]));
        assert_eq!((args.speed, args.udp), (Speed::Max, Some("127.0.0.1:1".parse().unwrap())));
    }

    #[test]
    fn bad_values_say_what_is_wrong() {
        for (value, why) in [
            ("--attack smurf", "unknown kind"),
            ("--exporters v8", "known: v5, v9, ipfix"),
            ("--speed 0", "a number above 0, or max"),
            ("--udp nowhere", "HOST:PORT"),
        ] {
            let error = parse(&format!("generate flows --pcap a {value}")).unwrap_err();
            assert!(error.contains(why), "{value}: {error}");
        }
    }

    #[test]
    fn a_capture_with_labels_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (pcap, truth) = (dir.path().join("a.pcap"), dir.path().join("a.jsonl"));
        let line = format!(
            "generate flows --seconds 4 --rate 100 --attack syn-flood@1+2 --pcap {} --truth {}",
            pcap.display(),
            truth.display()
        );
        run(Line::try_parse_from(line.split(' ')).unwrap().args).unwrap();
        assert!(std::fs::metadata(&pcap).unwrap().len() > 100_000);
        let truth = std::fs::read_to_string(&truth).unwrap();
        let first: serde_json::Value = serde_json::from_str(truth.lines().next().unwrap()).unwrap();
        assert_eq!((&first["kind"], &first["start"]), (&"syn-flood".into(), &"2026-01-01T00:00:01Z".into()));
        assert_eq!(truth.lines().count(), 4);
    }
}
