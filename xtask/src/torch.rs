//! The libtorch backend: fetches libtorch where `LIBTORCH` does not name one, and builds `torch/` against it. Out comes
//! target/release/libkaminari_torch.so and what to write into the configuration. Refused: other machines than x86-64
//! with Linux, another version of libtorch, wheels with other contents than those pinned here.

use crate::shell::{cargo, must, root, say, target, works};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `tch` in the workspace's Cargo.toml is made for.
const VERSION: &str = "2.11.0";

/// The wheels as pip takes them. One for Python 3.11 does for any Python here: nothing of it is imported.
const REQUIREMENTS: &str = "\
torch==2.11.0 --hash=sha256:7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cuda-cupti==13.0.85 --hash=sha256:4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8
";
const WHEELS_OF: [&str; 14] = [
    "--no-deps",
    "--only-binary=:all:",
    "--implementation=cp",
    "--python-version=311",
    "--abi=cp311",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_25_x86_64",
    "--platform=manylinux2014_x86_64",
    "--require-hashes",
    "--no-cache-dir",
    "--disable-pip-version-check",
    "--requirement=requirements.txt",
    "--dest=wheels",
    "--progress-bar=on",
];

/// Takes what the CPU needs out of the wheels. libtorch_cuda.so stays out: the build would link it, and no machine
/// without CUDA could load the result.
const UNPACK: &str = r#"
import glob, os, shutil, zipfile
TORCH = {"torch/version.py"} | {"torch/lib/" + so for so in ("libc10.so", "libtorch.so", "libtorch_cpu.so", "libgomp.so.1")}
BESIDE = ("libcudart.so.13", "libcupti.so.13")
for wheel in glob.glob("wheels/*.whl"):
    with zipfile.ZipFile(wheel) as files:
        for name in files.namelist():
            if name in TORCH or name.startswith("torch/include/"):
                files.extract(name, "unpacked")
            elif os.path.basename(name) in BESIDE:
                os.makedirs("unpacked/torch/lib", exist_ok=True)
                with files.open(name) as src, open("unpacked/torch/lib/" + os.path.basename(name), "wb") as to:
                    shutil.copyfileobj(src, to)
"#;

/// What the engine is told.
pub struct Built {
    /// Folder of libtorch's shared objects.
    pub libtorch: PathBuf,
    /// The backend.
    pub library: PathBuf,
}

/// Runs the verb.
pub fn run() -> Result<()> {
    let built = build()?;
    say("for the configuration:");
    print!("{}", built.config());
    Ok(())
}

/// Makes the backend.
pub fn build() -> Result<Built> {
    let torch = provide()?;
    must(with(&torch).args(["build", "--release", "-p", "kaminari-torch"]))?;
    let library = target().join("release/libkaminari_torch.so");
    Ok(Built { libtorch: torch.join("lib"), library: library.canonicalize().context("cargo left no shared object")? })
}

/// A cargo that finds libtorch, to build with and to test.
pub fn cargo_with_libtorch() -> Result<Command> {
    Ok(with(&provide()?))
}

fn with(torch: &Path) -> Command {
    let mut command = cargo();
    command.env("LIBTORCH", torch).env("LIBTORCH_CXX11_ABI", "1").env("LD_LIBRARY_PATH", search_path(torch));
    command
}

fn search_path(torch: &Path) -> std::ffi::OsString {
    let mut path = torch.join("lib").into_os_string();
    if let Some(before) = std::env::var_os("LD_LIBRARY_PATH").filter(|before| !before.is_empty()) {
        path.push(":");
        path.push(before);
    }
    path
}

impl Built {
    fn config(&self) -> String {
        let (libtorch, library) = (self.libtorch.display(), self.library.display());
        format!("[inference]\nbackend = \"auto\"\nlibtorch = \"{libtorch}\"\nlibrary = \"{library}\"\n")
    }
}

/// The folder that has `include` and `lib`.
fn provide() -> Result<PathBuf> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        bail!("the libtorch backend is built on x86-64 Linux only; elsewhere the built-in backend does everything");
    }
    if let Some(own) = std::env::var_os("LIBTORCH") {
        let own = root().join(own);
        let what = || format!("LIBTORCH names {}", own.display());
        check(&own).with_context(what)?;
        return own.canonicalize().with_context(what);
    }
    let cache = target().join(format!("libtorch-{VERSION}"));
    if !cache.is_dir() {
        fetch(&cache)?;
    }
    let torch = cache.join("torch");
    check(&torch).with_context(|| format!("delete {} and try again", cache.display()))?;
    Ok(torch.canonicalize()?)
}

/// That it is a libtorch, and of the right version.
fn check(torch: &Path) -> Result<()> {
    let library = torch.join("lib/libtorch_cpu.so");
    if !library.is_file() {
        bail!("there is no {}", library.display());
    }
    let read = |name: &str| std::fs::read_to_string(torch.join(name)).ok();
    // The wheel has the one, libtorch by itself the other.
    let Some(text) = read("version.py").or_else(|| read("build-version")) else {
        bail!("neither version.py nor build-version tells its version");
    };
    match version(&text) {
        Some(VERSION) => Ok(()),
        other => bail!("its version is {}, needed is {VERSION}", other.unwrap_or("not known")),
    }
}

/// `2.11.0` of `__version__ = '2.11.0+cu130'` or `2.11.0+cpu`.
fn version(text: &str) -> Option<&str> {
    let assigned = text.lines().find_map(|line| line.strip_prefix("__version__ = "));
    let full = assigned.unwrap_or(text).trim().trim_matches(['\'', '"']);
    full.split('+').next().filter(|number| number.starts_with(|c: char| c.is_ascii_digit()))
}

/// Fetches the wheels and unpacks them. The folder gets its name when it is whole.
fn fetch(cache: &Path) -> Result<()> {
    let python = || Command::new("python3");
    if !works(python().args(["-m", "pip", "--version"])) {
        bail!(
            "python3 with pip is needed to fetch libtorch {VERSION} (Debian: python3-pip); or set LIBTORCH to the folder \
             of one that is there"
        );
    }
    say(&format!(
        "fetching libtorch {VERSION} from the Python package index, once: three wheels, 530 + 2.2 + 10.7 MB. Only 130 MB of \
         that is used (the rest is CUDA); 500 MB stay in {}",
        cache.display()
    ));
    let work = target().join(format!("libtorch-{VERSION}.part"));
    if work.exists() {
        std::fs::remove_dir_all(&work)?;
    }
    std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    std::fs::write(work.join("requirements.txt"), REQUIREMENTS)?;
    let work = work.canonicalize()?;
    // What pip says goes where everything but the result goes. Its temporary files are as large as the wheels.
    let mut pip = python();
    pip.args(["-m", "pip", "download"]).args(WHEELS_OF).current_dir(&work).env("TMPDIR", &work);
    must(pip.stdout(std::io::stderr())).context(
        "pip did not fetch libtorch (is there a network?); with LIBTORCH set to the folder of one, nothing is fetched",
    )?;
    say("unpacking");
    let unpacked = python().args(["-c", UNPACK]).current_dir(&work).status().context("cannot start python3")?;
    if !unpacked.success() {
        bail!("the wheels in {} cannot be unpacked", work.join("wheels").display());
    }
    check(&work.join("unpacked/torch"))?;
    std::fs::rename(work.join("unpacked"), cache)?;
    std::fs::remove_dir_all(&work)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_both_files() {
        let python =
            "from typing import Optional\n\n__all__ = ['__version__']\n__version__ = '2.11.0+cu130'\ndebug = False\n";
        assert_eq!(version(python), Some("2.11.0"));
        assert_eq!(version("2.11.0+cpu\n"), Some("2.11.0"));
        assert_eq!(version("2.13.0"), Some("2.13.0"));
        assert_eq!(version("what\n"), None);
    }

    #[test]
    fn another_libtorch_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let told = || format!("{:#}", check(dir.path()).unwrap_err());
        assert!(told().contains("there is no"));
        std::fs::create_dir(dir.path().join("lib")).unwrap();
        std::fs::write(dir.path().join("lib/libtorch_cpu.so"), "").unwrap();
        assert!(told().contains("tells its version"));
        std::fs::write(dir.path().join("build-version"), "2.10.0+cpu\n").unwrap();
        assert_eq!(told(), "its version is 2.10.0, needed is 2.11.0");
        std::fs::write(dir.path().join("version.py"), "__version__ = '2.11.0+cpu'\n").unwrap();
        check(dir.path()).unwrap();
    }

    #[test]
    fn the_wheels_are_of_the_version_that_is_checked_and_tch_wants_it() {
        assert!(REQUIREMENTS.starts_with(&format!("torch=={VERSION} ")));
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("tch = { version = \"=0.24.0\""), "another tch wants another libtorch");
    }

    #[test]
    fn the_configuration_is_toml() {
        let built = Built { libtorch: "/a/torch/lib".into(), library: "/b/libkaminari_torch.so".into() };
        let config: toml::Table = built.config().parse().unwrap();
        assert_eq!(config["inference"]["libtorch"].as_str(), Some("/a/torch/lib"));
    }
}
