//! Every step of a reload fails once: what ran before runs on, and the reason is told by everybody who tells.

use super::{Config, Engine, Exporter, wait_for};
use kaminari_tests::{kaminari, plugin};
use serde_json::Value;
use std::net::UdpSocket;
use std::path::Path;

/// Asks for a plan that cannot be had; what was refused, after all that must be true then.
#[track_caller]
fn refused(engine: &Engine, config: &str, step: &str, why: &str) -> Value {
    let (before, windows) = (engine.digest(), engine.metric("kaminari_window_fired_total", &["ddos"]));
    let so_far = engine.notices().len();
    let (status, report) = engine.reload(config);
    assert!(status == 422 || status == 500, "{status}: {report:#}");
    assert_eq!(report["step"], step, "{report:#}");
    assert!(report["errors"].to_string().contains(why), "{why:?} is not in {report:#}");
    assert_eq!(engine.digest(), before);
    assert_eq!(engine.metric("kaminari_config_last_reload_successful", &[]), 0.0);
    // A sink writes on its own time.
    let told = wait_for("a notice in the stream of incidents", || engine.notices().into_iter().nth(so_far));
    assert_eq!((&told["event"], &told["plan_digest"]), (&"notice".into(), &before.into()));
    assert_ne!(told["attributes"]["outcome"], "applied");
    assert!(engine.log().lines().any(|l| l.contains("ERROR") && l.contains("reload") && l.contains(step)));
    wait_for("windows of the plan before", || {
        (engine.metric("kaminari_window_fired_total", &["ddos"]) > windows + 1.0).then_some(())
    });
    report
}

fn with_tally(version: &Path) -> Config {
    let mut config = Config::limit(50_000.0);
    config.plugins += &format!("\n[plugins.tally]\npath = {version:?}");
    config.detectors += "\n[detectors.tally]\nplugin = \"tally\"";
    config.names = "\"limits\", \"tally\"";
    config
}

#[test]
fn what_fails_leaves_the_plan_before_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let disk = SmallDisk::at(&state);
    let mut config = Config::limit(50_000.0);
    config.more = format!("[engine]\nstate_dir = {state:?}\n[reload]\ntimeout_secs = 2");
    let keeps = |mut other: Config| {
        other.more = config.more.clone();
        other
    };
    // The first plugin that a process compiles starts threads that stay, and bear the name of who asked. So all are compiled.
    for name in ["tally-broken", "tally-1"] {
        assert!(kaminari().args(["plugin", "inspect"]).arg(plugin(name)).output().unwrap().status.success());
    }
    let engine = Engine::start(dir.path(), &config.text(), &[]);
    let traffic = Exporter::start(engine.listens("edge"), 3_000, 1, None);
    wait_for("windows", || (engine.metric("kaminari_window_fired_total", &["ddos"]) >= 2.0).then_some(()));
    let held = own_threads(&engine);

    // No configuration at all; one for another process.
    refused(&engine, "[sources", "read", "kaminari.toml:1");
    let mut other = config.clone();
    other.more += "\n[inference]\nmax_batch = 4096";
    let report = refused(&engine, &other.text(), "diff", "inference.max_batch");
    assert_eq!(report["outcome"], "refused");
    // A plugin that is none; one that traps in `configure`.
    let none = dir.path().join("none.wasm");
    std::fs::write(&none, b"\0asm is not enough").unwrap();
    refused(&engine, &keeps(with_tally(&none)).text(), "build", "none.wasm");
    refused(&engine, &keeps(with_tally(&plugin("tally-broken"))).text(), "build", "tally");
    // A port that somebody else has; a folder that is not there.
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut other = config.clone();
    let at = taken.local_addr().unwrap();
    other.more += &format!("\n[sources.second]\ntype = \"udp\"\nlisten = \"{at}\"");
    let text = other.text().replace("sources = [\"edge\"]", "sources = [\"edge\", \"second\"]");
    refused(&engine, &text, "build", &at.to_string());
    let text = config.text().replace("path = \"incidents.jsonl\"", "path = \"nowhere/incidents.jsonl\"");
    refused(&engine, &text, "build", "nowhere");
    // A file that never gives an answer: the step has an end.
    let pipe = dir.path().join("pipe.wasm");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let report = refused(&engine, &keeps(with_tally(&pipe)).text(), "build", "timeout_secs");
    assert_eq!(report["outcome"], "failed");
    // A disk that takes nothing more: what the tally knows by now cannot be written.
    let counting = keeps(with_tally(&plugin("tally-1")));
    engine.becomes(&counting.text());
    let fired = engine.metric("kaminari_window_fired_total", &["ddos"]);
    wait_for("a window of the tally", || {
        (engine.metric("kaminari_window_fired_total", &["ddos"]) > fired + 1.0).then_some(())
    });
    let mut other = counting.clone();
    other.detectors = other.detectors.replace("50000.0", "50001.0");
    disk.fill();
    refused(&engine, &other.text(), "checkpoint", "state_dir");
    disk.free();

    // And what is well goes well, with nothing left of all the others.
    engine.becomes(&other.text());
    assert_eq!(engine.metric("kaminari_config_last_reload_successful", &[]), 1.0);
    // But those that serve requests and WASI, which come when the first asks for them.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    // Fewer may be: a thread bears its parent's name when it begins.
    let left = || own_threads(&engine).into_iter().filter(|name| !held.contains(name)).collect::<Vec<_>>();
    while !left().is_empty() && std::time::Instant::now() < until {
        // Whoever waits at the pipe still is let go, as often as it opens it.
        drop(std::fs::File::options().read(true).write(true).open(&pipe).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!((left(), own_threads(&engine).len().max(held.len())), (Vec::new(), held.len()));
    let sent = traffic.stop();
    let summary = engine.stop();
    assert_eq!(super::counted(&summary, "kaminari_window_records_total", "ddos"), sent as f64);
}

#[test]
fn a_model_that_does_not_prove_itself_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::limit(50_000.0);
    let engine = Engine::start(dir.path(), &config.text(), &[]);
    let _traffic = Exporter::start(engine.listens("edge"), 3_000, 1, None);
    let model = dir.path().join("model");
    copy_model(&model);
    // What it shall say to its golden rows is not what it says.
    let manifest = std::fs::read_to_string(model.join("model.toml")).unwrap();
    let (before, golden) = manifest.split_once("[golden]").expect("the fixture has golden rows");
    let wrong = golden.replacen("mse = [", "mse = [12345.0, ", 1);
    std::fs::write(model.join("model.toml"), format!("{before}[golden]{wrong}")).unwrap();
    let mut other = config.clone();
    other.plugins += &format!(
        "\n[plugins.autoencoder]\npath = {:?}\ninference = [\"net\"]\n[models.net]\npath = {model:?}",
        plugin("autoencoder")
    );
    other.detectors += "\n[detectors.ae]\nplugin = \"autoencoder\"\nconfig = { model = \"net\" }";
    other.more += "\n[pipelines.deep]\nsources = [\"edge\"]\nkeys = [\"dst_addr\"]\nfeatures = [\"uniq_src\"]\n\
                   window = { type = \"tumbling\", size_secs = 10 }\ndetectors = [\"ae\"]\nmode = \"shadow\"";
    refused(&engine, &other.text(), "build", "net");
}

#[test]
fn one_reload_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::start(dir.path(), &Config::limit(1000.0).text(), &[]);
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let ask = || scope.spawn(|| engine.ask("POST", "/-/reload").0);
        let asked: Vec<_> = (0..8).map(|_| ask()).collect();
        asked.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(answers.contains(&200), "{answers:?}");
    assert!(answers.iter().all(|status| [200, 409].contains(status)), "{answers:?}");
    assert!(answers.contains(&409), "eight at once, and none had to wait: {answers:?}");
}

/// Names of the threads that are not there for everybody.
fn own_threads(engine: &Engine) -> Vec<String> {
    let shared = ["kaminari", "kaminari-io", "tokio-rt-worker"];
    engine.threads().into_iter().filter(|name| !shared.contains(&name.trim())).collect()
}

/// A small model of hosts in windows of ten seconds, as a folder.
pub fn copy_model(to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(kaminari_tests::root().join("tests/fixtures/small-model")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A disk of its own for `state_dir`, which can be filled. Who may not mount one takes the place away instead.
struct SmallDisk {
    at: std::path::PathBuf,
    mounted: bool,
}

impl SmallDisk {
    fn at(at: &Path) -> Self {
        std::fs::create_dir(at).unwrap();
        let mount =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "none"]).arg(at).output();
        let mounted = mount.is_ok_and(|out| out.status.success());
        if !mounted {
            println!("no disk can be mounted here: the folder is taken away instead of being full");
        }
        Self { at: at.to_owned(), mounted }
    }

    fn fill(&self) {
        if !self.mounted {
            std::fs::rename(self.at.join("checkpoints"), self.at.join("aside")).unwrap();
            return std::fs::write(self.at.join("checkpoints"), "").unwrap();
        }
        let full = std::fs::write(self.at.join("filler"), vec![0; 1 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        if !self.mounted {
            std::fs::remove_file(self.at.join("checkpoints")).unwrap();
            return std::fs::rename(self.at.join("aside"), self.at.join("checkpoints")).unwrap();
        }
        std::fs::remove_file(self.at.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: the engine may have a file open.
            let _ = std::process::Command::new("umount").arg("-l").arg(&self.at).status();
        }
    }
}
