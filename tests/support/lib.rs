//! What black-box tests share: finding the built program, running it, a free loopback port.

pub mod kafka;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The repository root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// The built `kaminari`, beside the test binary (`cargo xtask test` builds it first).
pub fn kaminari_path() -> PathBuf {
    let mut dir = std::env::current_exe().expect("a test has a path");
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    let path = dir.join("kaminari");
    assert!(path.exists(), "{} is not built: run `cargo xtask test`", path.display());
    path
}

/// A command that runs `kaminari` untouched by the caller's environment; compiled plugins are kept in target/tmp/.
pub fn kaminari() -> Command {
    let mut command = Command::new(kaminari_path());
    for name in [
        "KAMINARI_LOG",
        "KAMINARI_LOG_FORMAT",
        "KAMINARI_COLOR",
        "KAMINARI_CONFIG",
        "KAMINARI_URL",
        "KAMINARI_TOKEN_FILE",
        "KAMINARI_WATCH",
    ] {
        command.env_remove(name);
    }
    command.env("XDG_CACHE_HOME", root().join("target/tmp/cache"));
    command
}

/// Runs it to the end.
pub fn run<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(args: I) -> Output {
    kaminari().args(args).output().expect("kaminari starts")
}

/// A built plugin in `target/plugins/` (`cargo xtask plugins` puts them there).
pub fn plugin(name: &str) -> PathBuf {
    let path = root().join("target/plugins").join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is not built: run `cargo xtask plugins`", path.display());
    path
}

/// The folder of shared test data beside the repository, or `None` with a line that says what is skipped.
pub fn shared(what: &str) -> Option<PathBuf> {
    let path = root().parent()?.join("shared").join(what);
    if path.exists() {
        Some(path)
    } else {
        println!("SKIPPED: {what}: no ../shared beside the repository");
        None
    }
}

/// A UDP port of the loopback interface that is free now.
pub fn free_udp_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("loopback has a free port").port()
}

/// Another project's program: the file or the folder that the environment variable names, in the search path, or where
/// `cargo xtask test`, Go and Debian put such things. Or `None` with a line that says what is skipped.
pub fn tool(what: &str, name: &str, var: &str) -> Option<PathBuf> {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let own = env(var).map(PathBuf::from).map(|path| if path.is_dir() { path.join(name) } else { path });
    let path = env("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend([root().join("target/tools"), "/usr/sbin".into(), "/usr/local/sbin".into()]);
    let gopath = env("GOPATH").map(PathBuf::from).or_else(|| Some(PathBuf::from(env("HOME")?).join("go")));
    folders.extend(gopath.map(|go| go.join("bin")));
    let found = own.or_else(|| folders.into_iter().map(|dir| dir.join(name)).find(|path| path.is_file()));
    if found.is_none() {
        println!("SKIPPED: {what}: no {name} (`cargo xtask test` brings it where it can; else {var} says where it is)");
    }
    found
}

/// libtorch and the shared object that speaks for it (`cargo xtask test --torch` brings them), or `None` with a line that
/// says what is skipped.
pub fn libtorch(what: &str) -> Option<(PathBuf, PathBuf)> {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    let found = path("KAMINARI_TEST_LIBTORCH").zip(path("KAMINARI_TEST_TORCH_LIBRARY"));
    if found.is_none() {
        println!("SKIPPED: {what}: no libtorch (`cargo xtask test --torch` brings it)");
    }
    found
}
