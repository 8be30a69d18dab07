//! Other collectors, for the tests that put them before kaminari: nfacctd (pmacct) and GoFlow2. What is there is used; what
//! is missing is fetched where that needs no question: pmacct by apt-get as root on Debian and its like, GoFlow2 by go into
//! target/tools/. Out come environment variables for the tests. What cannot be had is said, and the tests skip it.

use crate::shell::{say, target, works};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As the tests read them.
const NFACCTD: &str = "KAMINARI_TEST_NFACCTD";
const GOFLOW2: &str = "KAMINARI_TEST_GOFLOW2";
/// What the tests were made with.
const GOFLOW2_MODULE: &str = "github.com/netsampler/goflow2/v2/cmd/goflow2@v2.2.6";

/// Where the collectors are.
pub fn for_tests() -> Vec<(&'static str, OsString)> {
    [(NFACCTD, nfacctd as fn() -> Option<PathBuf>), (GOFLOW2, goflow2)]
        .into_iter()
        .filter(|(var, _)| std::env::var_os(var).is_none_or(|own| own.is_empty()))
        .filter_map(|(var, find)| Some((var, find()?.into_os_string())))
        .collect()
}

fn nfacctd() -> Option<PathBuf> {
    let name = "nfacctd";
    if let Some(found) = find(name) {
        return Some(found);
    }
    if !Path::new("/etc/debian_version").exists() || !is_root() {
        say("no nfacctd: its tests are skipped (package pmacct)");
        return None;
    }
    say("fetching pmacct by apt-get");
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        // Its services are not to start.
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
        works(&mut command)
    };
    let install = ["install", "-y", "--no-install-recommends", "pmacct"];
    let installed = apt(&install) || (apt(&["update"]) && apt(&install));
    if !installed {
        say("pmacct cannot be installed: the tests of nfacctd are skipped");
    }
    find(name)
}

fn goflow2() -> Option<PathBuf> {
    let name = "goflow2";
    if let Some(found) = find(name) {
        return Some(found);
    }
    if !works(Command::new("go").arg("version")) {
        say("no GoFlow2, and no go to build it: its tests are skipped");
        return None;
    }
    say(&format!("fetching and building {GOFLOW2_MODULE} by go, into target/tools/"));
    let mut command = Command::new("go");
    command.args(["install", GOFLOW2_MODULE]).env("GOBIN", tools());
    if !works(&mut command) {
        say("GoFlow2 cannot be built: its tests are skipped");
    }
    find(name)
}

fn tools() -> PathBuf {
    target().join("tools")
}

/// In the search path, or where these programs are put.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend([tools(), "/usr/sbin".into(), "/usr/local/sbin".into()]);
    if let Ok(out) = Command::new("go").args(["env", "GOPATH"]).output()
        && let Some(first) = std::env::split_paths(String::from_utf8_lossy(&out.stdout).trim()).next()
        && first.is_absolute()
    {
        folders.push(first.join("bin"));
    }
    folders.into_iter().map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}
