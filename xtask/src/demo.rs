//! The engine as `kaminari run` starts it, labelled traffic as `kaminari generate` sends it, and what came of it.
//! Everything stays on loopback and in target/demo/.

use crate::plugins;
use crate::report::{Report, Truth, number, text};
use crate::shell::{cargo, must, root, say, target};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Seconds of traffic: the last attack ends at 46 s, its incident closes some 15 s later.
const SECONDS: &str = "68";
/// Benign flows a second.
const RATE: &str = "10000";
const READY_WITHIN: Duration = Duration::from_secs(30);
/// After the traffic: what the socket buffer and the last windows still hold.
const SETTLE: Duration = Duration::from_secs(3);
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Runs the verb.
pub fn run() -> Result<()> {
    say("building plugins and the engine (release; the first time takes a few minutes)");
    plugins::run()?;
    must(cargo().args(["build", "--release", "-p", "kaminari", "--bin", "kaminari"]))?;
    let kaminari = target().join("release/kaminari");
    let dir = target().join("demo");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir)?;

    let udp = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let api = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = dir.join("demo.toml");
    let incidents = dir.join("incidents.jsonl");
    let template = root().join("configs/demo.toml");
    let text = std::fs::read_to_string(&template).with_context(|| format!("cannot read {}", template.display()))?;
    std::fs::write(&config, adapt(&text, udp, api, &target().join("plugins"), &incidents)?)?;

    say(&format!("kaminari run -c {} (NetFlow on {udp}, metrics on http://{api}/metrics)", config.display()));
    let log = dir.join("engine.log");
    let summary = dir.join("summary.json");
    let mut engine = Engine::start(&kaminari, &config, &summary, &log)?;
    engine.wait_ready(api)?;

    say(&format!("kaminari generate flows --udp {udp} --attacks demo: {SECONDS} s of NetFlow v5, v9 and IPFIX"));
    let truth = dir.join("truth.jsonl");
    let mut generate = Running(
        Command::new(&kaminari)
            .args(["generate", "flows", "--seconds", SECONDS, "--rate", RATE, "--attacks", "demo", "--udp"])
            .arg(udp.to_string())
            .arg("--truth")
            .arg(&truth)
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("generate.log"))?)
            .spawn()
            .context("cannot start kaminari generate")?,
    );
    let mut tail = Tail::new(incidents);
    let status = loop {
        tail.show()?;
        engine.must_live()?;
        if let Some(status) = generate.0.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    if !status.success() {
        bail!("kaminari generate failed ({status}):\n{}", end_of(&dir.join("generate.log")));
    }
    let settled = Instant::now() + SETTLE;
    while Instant::now() < settled {
        tail.show()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    engine.stop()?;
    tail.show()?;

    let summary: Value = serde_json::from_str(
        &std::fs::read_to_string(&summary).with_context(|| format!("the engine left no {}", summary.display()))?,
    )?;
    let truth = Truth::parse(&std::fs::read_to_string(&truth)?)?;
    let report = Report::new(&truth, &tail.events, &summary)?;
    println!("\n{report}");
    println!("files: {}", dir.display());
    if !report.passed() {
        std::process::exit(1);
    }
    Ok(())
}

/// The demo's config with free ports and absolute paths.
fn adapt(text: &str, udp: SocketAddr, api: SocketAddr, plugins: &Path, incidents: &Path) -> Result<String> {
    let mut config: toml::Table = text.parse().context("in configs/demo.toml")?;
    let mut set = |table: &[&str], key: &str, value: String| -> Result<()> {
        let mut at = &mut config;
        for name in table {
            let next = at.get_mut(*name).and_then(toml::Value::as_table_mut);
            at = next.with_context(|| format!("configs/demo.toml has no [{}]", table.join(".")))?;
        }
        at.insert(key.into(), value.into());
        Ok(())
    };
    set(&["api"], "listen", api.to_string())?;
    set(&["sources", "edge"], "listen", udp.to_string())?;
    set(&["plugins", "threshold"], "path", plugins.join("threshold.wasm").display().to_string())?;
    set(&["sinks", "incidents"], "path", incidents.display().to_string())?;
    Ok(toml::to_string(&config)?)
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

struct Engine {
    child: Running,
    log: PathBuf,
}

impl Engine {
    fn start(kaminari: &Path, config: &Path, summary: &Path, log: &Path) -> Result<Self> {
        let out = File::create(log)?;
        let mut command = Command::new(kaminari);
        command.arg("run").arg("-c").arg(config).arg("--summary").arg(summary);
        let child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn();
        Ok(Self { child: Running(child.context("cannot start kaminari run")?), log: log.into() })
    }

    fn wait_ready(&mut self, api: SocketAddr) -> Result<()> {
        let begun = Instant::now();
        while !ready(api) {
            self.must_live()?;
            if begun.elapsed() > READY_WITHIN {
                bail!("the engine is not ready after {READY_WITHIN:?}:\n{}", end_of(&self.log));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        say(&format!("ready after {:.2} s", begun.elapsed().as_secs_f64()));
        Ok(())
    }

    fn must_live(&mut self) -> Result<()> {
        match self.child.0.try_wait()? {
            Some(status) => bail!("the engine ended ({status}):\n{}", end_of(&self.log)),
            None => Ok(()),
        }
    }

    /// SIGTERM: drains, closes windows, writes the summary.
    fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.0.id())?;
        // SAFETY: a plain system call; the child is ours and has not been waited for, so its id is not reused.
        if unsafe { libc::kill(pid, libc::SIGTERM) } != 0 {
            bail!("cannot signal the engine: {}", std::io::Error::last_os_error());
        }
        let begun = Instant::now();
        loop {
            match self.child.0.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the engine stopped with {status}:\n{}", end_of(&self.log)),
                None if begun.elapsed() > STOP_WITHIN => {
                    bail!("the engine does not stop {STOP_WITHIN:?} after SIGTERM:\n{}", end_of(&self.log))
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

/// `GET /readyz` answers 200.
fn ready(api: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&api, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_whitespace().nth(1) == Some("200"))
    };
    ask().unwrap_or(false)
}

/// Last lines of a log.
fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The incidents file as it grows.
struct Tail {
    path: PathBuf,
    read: u64,
    /// Every event so far.
    events: Vec<Value>,
    colour: bool,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, read: 0, events: Vec::new(), colour: std::io::stdout().is_terminal() }
    }

    /// Prints what was opened and closed since the last call.
    fn show(&mut self) -> Result<()> {
        let Ok(mut file) = File::open(&self.path) else { return Ok(()) }; // before the first incident
        file.seek(SeekFrom::Start(self.read))?;
        let mut fresh = String::new();
        file.read_to_string(&mut fresh)?;
        // The last line may be half written.
        let whole = fresh.rfind('\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        for line in fresh[..whole].lines() {
            let event: Value = serde_json::from_str(line).with_context(|| format!("not an incident event: {line}"))?;
            if let Some(line) = readable(&event, self.colour) {
                println!("{line}");
            }
            self.events.push(event);
        }
        Ok(())
    }
}

/// One line for an opening or a closing.
fn readable(event: &Value, colour: bool) -> Option<String> {
    let (word, paint) = match text(event, "/event") {
        "open" => ("OPEN ", "1;31"),
        "close" => ("CLOSE", "32"),
        _ => return None,
    };
    let (on, off) = if colour { (format!("\x1b[{paint}m"), "\x1b[0m") } else { (String::new(), "") };
    let time = text(event, "/emitted_at").split('T').nth(1).unwrap_or("").trim_end_matches('Z');
    let covered = match number(event, "/covered") {
        0.0 => String::new(),
        n => format!(" ({n} hosts)"),
    };
    let time = time.get(..12).unwrap_or(time);
    Some(format!(
        "{time:<12} {on}{word}{off} {:<8} {}{covered} {}: {}",
        text(event, "/severity"),
        text(event, "/entity/value"),
        text(event, "/kind"),
        text(event, "/message"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_config_gets_free_ports_and_absolute_paths() {
        let text = std::fs::read_to_string(root().join("configs/demo.toml")).unwrap();
        let (udp, api) = ("127.0.0.1:1111".parse().unwrap(), "127.0.0.1:2222".parse().unwrap());
        let made = adapt(&text, udp, api, Path::new("/p"), Path::new("/i.jsonl")).unwrap();
        let made: toml::Table = made.parse().unwrap();
        assert_eq!(made["sources"]["edge"]["listen"].as_str(), Some("127.0.0.1:1111"));
        assert_eq!(made["api"]["listen"].as_str(), Some("127.0.0.1:2222"));
        assert_eq!(made["plugins"]["threshold"]["path"].as_str(), Some("/p/threshold.wasm"));
        assert_eq!(made["sinks"]["incidents"]["path"].as_str(), Some("/i.jsonl"));
        assert!(made["pipelines"]["ddos"].is_table(), "the rest is kept");
        assert!(adapt("[api]", udp, api, Path::new("/p"), Path::new("/i")).is_err());
    }

    #[test]
    fn lines_are_shown_once_and_only_when_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incidents.jsonl");
        let mut tail = Tail::new(path.clone());
        tail.show().unwrap();
        std::fs::write(&path, "{\"event\":\"open\"}\n{\"event\":").unwrap();
        tail.show().unwrap();
        assert_eq!(tail.events.len(), 1);
        std::fs::write(&path, "{\"event\":\"open\"}\n{\"event\":\"close\"}\n").unwrap();
        tail.show().unwrap();
        tail.show().unwrap();
        assert_eq!(tail.events.len(), 2);
    }

    #[test]
    fn events_read_like_sentences() {
        let mut event = json!({"event": "open", "severity": "high", "kind": "carpet-bombing", "covered": 250,
            "entity": {"kind": "dst_prefix", "value": "198.18.7.0/24"}, "message": "too much",
            "emitted_at": "2026-01-01T10:20:30.123456789Z"});
        assert_eq!(
            readable(&event, false).unwrap(),
            "10:20:30.123 OPEN  high     198.18.7.0/24 (250 hosts) carpet-bombing: too much"
        );
        event["event"] = "update".into();
        assert_eq!(readable(&event, true), None);
    }
}
