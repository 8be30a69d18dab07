//! A Kafka broker on this machine, for tests. `up`, `status` and `down` keep one in target/kafka/ until it is taken down;
//! `cargo xtask test` and `bench kafka` have one of their own, for as long as they run, unless KAMINARI_TEST_BROKERS names
//! another.

use crate::shell::{say, target};
use anyhow::{Context, Result, bail};
use kaminari_broker::{Addresses, Broker, Kafka, Loose, Options, env};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What to do about it.
#[derive(Clone, Copy, clap::Subcommand)]
pub enum Verb {
    /// Fetches Kafka where it is missing (44 MB), starts a broker and prints where it is. One that runs is left as it is.
    Up,
    /// Stops it and removes its data.
    Down,
    /// Says whether it runs, and where.
    Status,
}

/// Runs the verb.
pub fn run(verb: Verb) -> Result<()> {
    let dir = target().join("kafka");
    match verb {
        Verb::Up => up(&dir),
        Verb::Down => down(&dir),
        Verb::Status => {
            match State::read(&dir)? {
                Some(state) if state.broker.lives() => state.print(),
                Some(_) => println!("no broker runs; its data is in {}", dir.display()),
                None => println!("no broker runs (`cargo xtask kafka up` starts one)"),
            }
            Ok(())
        }
    }
}

fn up(dir: &Path) -> Result<()> {
    if let Some(state) = State::read(dir)?.filter(|state| state.broker.lives()) {
        state.print();
        return Ok(());
    }
    let broker = start(dir, Options { outlives: true, ..Options::default() })?;
    let state = State { addresses: broker.addresses(), broker: broker.leave()? };
    if let Err(error) = state.write(dir) {
        state.broker.stop()?;
        return Err(error);
    }
    state.print();
    Ok(())
}

fn down(dir: &Path) -> Result<()> {
    if let Some(state) = State::read(dir)? {
        state.broker.stop()?;
    }
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}

fn start(dir: &Path, options: Options) -> Result<Broker> {
    let needed = || format!("no Kafka broker; with {} set to the address of one, none is started", env::BROKERS);
    let kafka = Kafka::assemble(&target(), say).with_context(needed)?;
    let begin = Instant::now();
    let broker = Broker::start(&kafka, dir, &options).with_context(needed)?;
    say(&format!(
        "Kafka {} on {} after {:.1} s",
        kaminari_broker::VERSION,
        broker.bootstrap(),
        begin.elapsed().as_secs_f64()
    ));
    Ok(broker)
}

/// The broker of a test run, and what the tests are told of it.
pub struct ForTests {
    /// Environment variables; none where the caller's own name a broker.
    pub env: Vec<(&'static str, OsString)>,
    /// Goes before its folder.
    _broker: Option<(Broker, Folder)>,
}

/// A broker for the time that this value lives.
pub fn for_tests() -> Result<ForTests> {
    if let Some(own) = named() {
        say(&format!("tests use the Kafka broker on {own}"));
        return Ok(ForTests { env: Vec::new(), _broker: None });
    }
    let (broker, folder) = temporary(Options::default())?;
    Ok(ForTests { env: broker.addresses().env().into(), _broker: Some((broker, folder)) })
}

/// A broker to measure with.
pub struct ForBench {
    pub bootstrap: String,
    /// `None`: somebody else's.
    own: Option<(Broker, Folder)>,
}

impl ForBench {
    /// The process, if it is ours.
    pub fn pid(&self) -> Option<u32> {
        self.own.as_ref().and_then(|(broker, _)| broker.pid())
    }

    /// Where a broker of ours keeps its partitions.
    pub fn data(&self) -> Option<PathBuf> {
        self.own.as_ref().map(|(broker, _)| broker.data())
    }
}

/// A broker for the time that this value lives. It forms a group as one of an operator does, once those who want to join
/// have had some time.
pub fn for_bench() -> Result<ForBench> {
    if let Some(bootstrap) = named() {
        say(&format!("measuring with the Kafka broker on {bootstrap}"));
        return Ok(ForBench { bootstrap, own: None });
    }
    let own = temporary(Options::default().set("group.initial.rebalance.delay.ms", "3000"))?;
    Ok(ForBench { bootstrap: own.0.bootstrap(), own: Some(own) })
}

/// The caller's own broker.
fn named() -> Option<String> {
    std::env::var(env::BROKERS).ok().filter(|own| !own.is_empty())
}

fn temporary(options: Options) -> Result<(Broker, Folder)> {
    let folder = Folder(target().join(format!("tmp/kafka-{}", std::process::id())));
    Ok((start(&folder.0, options)?, folder))
}

/// Removed when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // It is under target/, which `cargo clean` removes.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What `up` leaves for `down` and `status`: state.json.
#[derive(Debug, PartialEq)]
struct State {
    broker: Loose,
    addresses: Addresses,
}

impl State {
    fn file(dir: &Path) -> PathBuf {
        dir.join("state.json")
    }

    /// `None`: no broker was started, or it was taken down.
    fn read(dir: &Path) -> Result<Option<Self>> {
        let file = Self::file(dir);
        if !file.exists() {
            return Ok(None);
        }
        let what = || format!("in {}", file.display());
        let json = serde_json::from_str(&std::fs::read_to_string(&file).with_context(what)?).with_context(what)?;
        Self::parse(&json).with_context(what).map(Some)
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let text = format!("{:#}\n", self.json());
        std::fs::write(Self::file(dir), text).with_context(|| format!("cannot write into {}", dir.display()))
    }

    fn json(&self) -> Value {
        let vars: serde_json::Map<String, Value> = self
            .addresses
            .env()
            .into_iter()
            .map(|(name, value)| (name.into(), value.to_string_lossy().into()))
            .collect();
        json!({ "pid": self.broker.pid, "dir": self.broker.dir, "env": vars })
    }

    fn parse(json: &Value) -> Result<Self> {
        let text = |pointer: &str| {
            let value = json.pointer(pointer).and_then(Value::as_str);
            value.map(str::to_owned).with_context(|| format!("there is no {pointer}"))
        };
        let var = |name: &str| text(&format!("/env/{name}"));
        let Some(pid) = json["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()) else { bail!("there is no pid") };
        Ok(Self {
            broker: Loose { pid, dir: text("/dir")?.into() },
            addresses: Addresses {
                bootstrap: var(env::BROKERS)?,
                sasl: var(env::SASL)?,
                ssl: var(env::SSL)?,
                sasl_ssl: var(env::SASL_SSL)?,
                ca_file: var(env::CA)?.into(),
                lib: var(env::LIB)?.into(),
            },
        })
    }

    /// For a person, who may paste it.
    fn print(&self) {
        println!("# process {}, data in {}", self.broker.pid, self.broker.dir.display());
        for (name, value) in self.addresses.env() {
            println!("export {name}={}", value.to_string_lossy());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::read(dir.path()).unwrap(), None);
        let addresses = Addresses {
            bootstrap: "127.0.0.1:1".into(),
            sasl: "127.0.0.1:2".into(),
            ssl: "127.0.0.1:3".into(),
            sasl_ssl: "127.0.0.1:4".into(),
            ca_file: "/k/tls/ca.pem".into(),
            lib: "/k/lib".into(),
        };
        let state = State { broker: Loose { pid: 7, dir: "/k".into() }, addresses };
        state.write(dir.path()).unwrap();
        assert_eq!(State::read(dir.path()).unwrap(), Some(state));
        std::fs::write(State::file(dir.path()), "{\"pid\": 7}").unwrap();
        let told = format!("{:#}", State::read(dir.path()).unwrap_err());
        assert!(told.contains("there is no /dir"), "{told}");
    }

    #[test]
    fn down_of_nothing_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        down(&dir.path().join("kafka")).unwrap();
        std::fs::create_dir(dir.path().join("kafka")).unwrap();
        down(&dir.path().join("kafka")).unwrap();
        assert!(!dir.path().join("kafka").exists());
    }
}
