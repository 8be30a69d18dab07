//! The engine as `kaminari run` starts it, labelled traffic as `kaminari generate` sends it, and what came of it.
//! Everything stays on loopback and in target/demo/.

use crate::engine::{BENIGN_RATE, Site};
use crate::plugins;
use crate::report::{Report, number, text};
use crate::shell::{cargo, must, say};
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Seconds of traffic: the last attack ends at 46 s, its incident closes some 15 s later.
const SECONDS: &str = "68";
/// After the traffic: what the socket buffer and the last windows still hold.
const SETTLE: Duration = Duration::from_secs(3);

/// Runs the verb.
pub fn run() -> Result<()> {
    say("building plugins and the engine (release; the first time takes a few minutes)");
    plugins::run()?;
    must(cargo().args(["build", "--release", "-p", "kaminari", "--bin", "kaminari"]))?;
    let site = Site::new("demo")?;
    site.configure(|_| Ok(()))?;
    site.train()?;
    let (udp, api) = (site.udp, site.api);
    say(&format!("kaminari run -c {} (NetFlow on {udp}, metrics on http://{api}/metrics)", site.config().display()));
    let mut engine = site.start()?;
    say(&format!("ready after {:.2} s", engine.wait_ready()?.as_secs_f64()));

    say(&format!("kaminari generate flows --udp {udp} --attacks demo: {SECONDS} s of NetFlow v5, v9 and IPFIX"));
    let args = ["--seconds", SECONDS, "--rate", BENIGN_RATE, "--attacks", "demo"].map(String::from);
    let mut traffic = site.send(&args)?;
    let mut tail = Tail::new(site.incidents());
    while !traffic.ended()? {
        tail.show()?;
        engine.must_live()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let settled = Instant::now() + SETTLE;
    while Instant::now() < settled {
        tail.show()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    engine.stop()?;
    tail.show()?;

    let report = Report::new(&site.truth()?, &tail.events, &site.summary()?)?;
    println!("\n{report}");
    println!("files: {}", site.dir.display());
    // Side by side: each attack is found by a limit that knows it and by a model that knows only benign traffic.
    let one_sided = report.one_sided();
    one_sided.iter().for_each(|complaint| println!("FAILED: {complaint}"));
    if !report.passed() || !one_sided.is_empty() {
        std::process::exit(1);
    }
    Ok(())
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
