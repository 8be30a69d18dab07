//! The real program over loopback: `kaminari run` with configs/demo.toml (or another) on free ports, `kaminari generate`
//! sending to it, and what both leave behind. Shared by the demo and the end-to-end benches. Comes in: a folder of its own below
//! target/. Refused: an engine that does not get ready, dies while it is used, or does not stop.

use crate::report::Truth;
use crate::shell::{must, root, say, target};
use crate::summary::Summary;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Benign flows a second of the demo's network.
pub const BENIGN_RATE: &str = "10000";
/// Seconds of benign traffic that the models learn from.
const BENIGN_SECONDS: &str = "90";
/// Models of configs/demo.toml.
const MODELS: [&str; 2] = ["hosts", "prefixes"];
const READY_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Where an engine runs: its ports and files.
pub struct Site {
    pub dir: PathBuf,
    pub udp: SocketAddr,
    pub api: SocketAddr,
}

impl Site {
    /// `target/NAME`, emptied, and ports that are free now.
    pub fn new(name: &str) -> Result<Self> {
        let dir = target().join(name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let udp = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let api = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Ok(Self { dir, udp, api })
    }

    /// Writes configs/demo.toml with this site's ports and files, and whatever else `edit` changes.
    pub fn configure(&self, edit: impl FnOnce(&mut toml::Table) -> Result<()>) -> Result<()> {
        let template = root().join("configs/demo.toml");
        let text = std::fs::read_to_string(&template).with_context(|| format!("cannot read {}", template.display()))?;
        let mut config: toml::Table = text.parse().context("in configs/demo.toml")?;
        adapt(&mut config, self.udp, self.api, &target().join("plugins"), &self.incidents())?;
        edit(&mut config)?;
        Ok(std::fs::write(self.config(), toml::to_string(&config)?)?)
    }

    /// The same with another of configs/, which gets a port for its API and whatever `edit` changes.
    pub fn configure_as(&self, name: &str, edit: impl FnOnce(&mut toml::Table) -> Result<()>) -> Result<()> {
        let template = root().join("configs").join(name);
        let text = std::fs::read_to_string(&template).with_context(|| format!("cannot read {}", template.display()))?;
        let mut config: toml::Table = text.parse().with_context(|| format!("in configs/{name}"))?;
        table(&mut config, &["api"])?.insert("listen".into(), self.api.to_string().into());
        edit(&mut config).with_context(|| format!("in configs/{name}"))?;
        Ok(std::fs::write(self.config(), toml::to_string(&config)?)?)
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("demo.toml")
    }

    pub fn incidents(&self) -> PathBuf {
        self.dir.join("incidents.jsonl")
    }

    /// Benign minutes of the demo's own network, and what the models make of them. Another seed than the traffic that is
    /// judged: nothing of that is known beforehand.
    pub fn train(&self) -> Result<()> {
        let capture = self.dir.join("benign.pcap");
        say(&format!("kaminari generate flows --pcap benign.pcap: {BENIGN_SECONDS} s of benign traffic to learn from"));
        let mut generate = kaminari();
        generate.args([
            "generate",
            "flows",
            "--rate",
            BENIGN_RATE,
            "--seconds",
            BENIGN_SECONDS,
            "--seed",
            "7",
            "--pcap",
        ]);
        must(generate.arg(&capture).stderr(Stdio::null()))?;
        for model in MODELS {
            let begun = Instant::now();
            let mut train = kaminari();
            train.args(["-q", "train", "--model", model, "-c"]).arg(self.config()).arg("--input").arg(&capture);
            must(train.stdout(Stdio::null()).stderr(Stdio::null()))?;
            let report = models().join(model).join("report.html");
            say(&format!("trained in {:.1} s, report: {}", begun.elapsed().as_secs_f64(), report.display()));
        }
        Ok(())
    }

    pub fn truth(&self) -> Result<Truth> {
        Truth::parse(&std::fs::read_to_string(self.dir.join("truth.jsonl"))?)
    }

    pub fn summary(&self) -> Result<Summary> {
        Summary::read(&self.dir.join("summary.json"))
    }

    /// Every event in the incidents file; none when there was no incident.
    pub fn events(&self) -> Result<Vec<Value>> {
        let text = if self.incidents().exists() { std::fs::read_to_string(self.incidents())? } else { String::new() };
        let parse = |l| serde_json::from_str(l).with_context(|| format!("not an incident event: {l}"));
        text.lines().map(parse).collect()
    }

    /// Starts the engine. It is not ready yet.
    pub fn start(&self) -> Result<Engine> {
        let log = self.dir.join("engine.log");
        let out = File::create(&log)?;
        let mut command = kaminari();
        command.arg("run").arg("-c").arg(self.config()).arg("--summary").arg(self.dir.join("summary.json"));
        let child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn();
        let child = Running(child.context("cannot start kaminari run")?);
        Ok(Engine { child, log, api: self.api, begun: Instant::now() })
    }

    /// Starts `kaminari generate flows ARGS` towards the engine.
    pub fn send(&self, args: &[String]) -> Result<Traffic> {
        let log = self.dir.join("generate.log");
        let mut command = kaminari();
        command.args(["generate", "flows", "--udp"]).arg(self.udp.to_string());
        command.arg("--truth").arg(self.dir.join("truth.jsonl")).args(args);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?).spawn();
        Ok(Traffic { child: Running(child.context("cannot start kaminari generate")?), log })
    }
}

/// Where the models of configs/demo.toml are made.
fn models() -> PathBuf {
    target().join("demo-models")
}

/// The release build: what is shown and measured.
pub fn kaminari() -> Command {
    Command::new(target().join("release/kaminari"))
}

/// Takes models, and the detectors that need them, out of the configuration: what is left are the plain limits.
pub fn without_models(config: &mut toml::Table) -> Result<()> {
    config.remove("models");
    table(config, &["plugins"])?.remove("autoencoder");
    let learned = |detector: &toml::Value| detector.get("plugin").and_then(toml::Value::as_str) == Some("autoencoder");
    let detectors = table(config, &["detectors"])?;
    let gone: Vec<String> = detectors.iter().filter(|(_, d)| learned(d)).map(|(name, _)| name.clone()).collect();
    gone.iter().for_each(|name| drop(detectors.remove(name)));
    let used = table(config, &["pipelines", "ddos"])?.get_mut("detectors").and_then(toml::Value::as_array_mut);
    let used = used.context("pipelines.ddos has no detectors")?;
    used.retain(|name| name.as_str().is_some_and(|name| !gone.iter().any(|g| g == name)));
    Ok(())
}

/// Free ports and absolute paths.
fn adapt(config: &mut toml::Table, udp: SocketAddr, api: SocketAddr, plugins: &Path, incidents: &Path) -> Result<()> {
    table(config, &["api"])?.insert("listen".into(), api.to_string().into());
    table(config, &["sources", "edge"])?.insert("listen".into(), udp.to_string().into());
    for name in ["threshold", "autoencoder"] {
        let plugin = plugins.join(format!("{name}.wasm")).display().to_string();
        table(config, &["plugins", name])?.insert("path".into(), plugin.into());
    }
    for name in MODELS {
        let model = models().join(name).display().to_string();
        table(config, &["models", name])?.insert("path".into(), model.into());
    }
    table(config, &["sinks", "incidents"])?.insert("path".into(), incidents.display().to_string().into());
    Ok(())
}

/// A table of a configuration.
pub fn table<'a>(config: &'a mut toml::Table, path: &[&str]) -> Result<&'a mut toml::Table> {
    path.iter().try_fold(config, |at, name| {
        let next = at.get_mut(*name).and_then(toml::Value::as_table_mut);
        next.with_context(|| format!("there is no [{}]", path.join(".")))
    })
}

/// A child that does not outlive us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `kaminari run`.
pub struct Engine {
    child: Running,
    log: PathBuf,
    api: SocketAddr,
    begun: Instant,
}

impl Engine {
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Waits for `/readyz`; returns the time since the start.
    pub fn wait_ready(&mut self) -> Result<Duration> {
        while !self.get("/readyz").is_ok_and(|(status, _)| status == 200) {
            self.must_live()?;
            if self.begun.elapsed() > READY_WITHIN {
                bail!("the engine is not ready after {READY_WITHIN:?}:\n{}", end_of(&self.log));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(self.begun.elapsed())
    }

    /// Status and body of a page of the engine's API.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        self.ask("GET", path, Duration::from_secs(2))
    }

    /// Status and body of what the engine's API answers within so long.
    pub fn ask(&self, method: &str, path: &str, within: Duration) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.api, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(within))?;
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", self.api);
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head.split_whitespace().nth(1).context("no HTTP status")?;
        Ok((status.parse()?, body.to_owned()))
    }

    pub fn must_live(&mut self) -> Result<()> {
        match self.child.0.try_wait()? {
            Some(status) => bail!("the engine ended ({status}):\n{}", end_of(&self.log)),
            None => Ok(()),
        }
    }

    /// SIGTERM: drains, closes windows, writes the summary.
    pub fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.pid())?;
        // SAFETY: a plain system call; the child is ours and has not been waited for, so its id is not reused.
        if unsafe { libc::kill(pid, libc::SIGTERM) } != 0 {
            bail!("cannot signal the engine: {}", std::io::Error::last_os_error());
        }
        self.wait_end(STOP_WITHIN).context("after SIGTERM")
    }

    /// Waits until it ends, of itself or because it was told to.
    pub fn wait_end(&mut self, within: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.child.0.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the engine stopped with {status}:\n{}", end_of(&self.log)),
                None if begun.elapsed() > within => {
                    bail!("the engine does not stop within {within:?}:\n{}", end_of(&self.log))
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// `kaminari generate`.
pub struct Traffic {
    child: Running,
    log: PathBuf,
}

impl Traffic {
    /// True when all was sent; an error when it failed.
    pub fn ended(&mut self) -> Result<bool> {
        match self.child.0.try_wait()? {
            Some(status) if status.success() => Ok(true),
            Some(status) => bail!("kaminari generate failed ({status}):\n{}", end_of(&self.log)),
            None => Ok(false),
        }
    }
}

/// Last lines of a log.
fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_gets_free_ports_and_absolute_paths() {
        let text = std::fs::read_to_string(root().join("configs/demo.toml")).unwrap();
        let (udp, api) = ("127.0.0.1:1111".parse().unwrap(), "127.0.0.1:2222".parse().unwrap());
        let mut made: toml::Table = text.parse().unwrap();
        adapt(&mut made, udp, api, Path::new("/p"), Path::new("/i.jsonl")).unwrap();
        assert_eq!(made["sources"]["edge"]["listen"].as_str(), Some("127.0.0.1:1111"));
        assert_eq!(made["api"]["listen"].as_str(), Some("127.0.0.1:2222"));
        assert_eq!(made["plugins"]["threshold"]["path"].as_str(), Some("/p/threshold.wasm"));
        assert_eq!(made["sinks"]["incidents"]["path"].as_str(), Some("/i.jsonl"));
        assert!(made["pipelines"]["ddos"].is_table(), "the rest is kept");
        let mut other = "[api]".parse().unwrap();
        let error = adapt(&mut other, udp, api, Path::new("/p"), Path::new("/i")).unwrap_err().to_string();
        assert_eq!(error, "there is no [sources.edge]");
    }
}
