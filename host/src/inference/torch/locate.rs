//! Where a libtorch may be. Comes in: what the operator named; goes out: the places that were looked at, what is in each,
//! and what it lacks. Nothing is loaded; a Python is asked where its PyTorch is, which it need not import for that.

use super::error::TorchError;
use super::library::{check, has_cuda, version};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A place.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Why it was looked at: `inference.libtorch`, `python3`, ...
    pub origin: String,
    /// What is there, or that there is nothing.
    pub found: Result<Found, String>,
}

/// A libtorch of the right version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The folder with `libtorch_cpu.so`.
    pub dir: PathBuf,
    /// As its files say.
    pub version: Option<String>,
    /// Built with CUDA.
    pub cuda: bool,
}

/// Asks without importing: PyTorch takes seconds to import. A folder `torch` where we are is none.
const ASK: &str = "import importlib.util as u, sys; sys.path = [p for p in sys.path if p]; s = u.find_spec('torch'); \
                   print(s.origin if s and s.origin else '')";

/// Looks into a folder.
pub fn look(origin: &str, dir: &Path) -> Place {
    let found = match check(dir) {
        Ok(()) => Ok(Found { dir: dir.into(), version: version(dir), cuda: has_cuda(dir) }),
        Err(TorchError::Version { found, wanted, dir }) => {
            Err(format!("{} is {found}, and the backend is built for {wanted}", dir.display()))
        }
        Err(TorchError::NotFound { path, .. }) => Err(format!("there is no {}", path.display())),
        Err(other) => Err(other.to_string()),
    };
    Place { origin: origin.into(), found }
}

/// Looks where a Python keeps its PyTorch.
pub fn look_in_python(python: &Path) -> Place {
    let origin = python.display().to_string();
    let asked = Command::new(python).args(["-c", ASK]).stdin(Stdio::null()).output();
    let found = match asked {
        Err(error) => Err(format!("cannot be started ({error})")),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            match Path::new(&said).parent().filter(|_| output.status.success() && !said.is_empty()) {
                Some(package) => return look(&origin, &package.join("lib")),
                None => Err("it has no module `torch`".into()),
            }
        }
    };
    Place { origin, found }
}

/// Everywhere: the named folder, `$LIBTORCH`, the Python of the active environment and the system's, and what `cargo xtask
/// torch` fetched into a `target` folder above the program or here.
pub fn everywhere(named: Option<&Path>, python: Option<&Path>) -> Vec<Place> {
    let mut places: Vec<Place> = named.map(|dir| look("inference.libtorch", dir)).into_iter().collect();
    if let Some(dir) = std::env::var_os("LIBTORCH") {
        places.push(look("$LIBTORCH", &Path::new(&dir).join("lib")));
    }
    let active = std::env::var_os("VIRTUAL_ENV").map(|env| Path::new(&env).join("bin/python"));
    match python {
        Some(python) => places.push(look_in_python(python)),
        None => places.extend(active.iter().map(PathBuf::as_path).chain([Path::new("python3")]).map(look_in_python)),
    }
    let program = std::env::current_exe().ok();
    let target = program.as_deref().and_then(|exe| exe.ancestors().find(|dir| dir.ends_with("target")));
    let fetched = target.unwrap_or(Path::new("target")).join("libtorch-2.11.0/torch/lib");
    places.push(look("cargo xtask torch", &std::path::absolute(&fetched).unwrap_or(fetched)));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_looked_at_and_what_it_lacks_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path().join("torch/lib");
        std::fs::create_dir_all(&lib).unwrap();
        let missing = look("here", &lib).found.unwrap_err();
        assert!(missing.starts_with("there is no ") && missing.ends_with("libc10.so"), "{missing}");
        for part in ["libc10.so", "libtorch_cpu.so"] {
            std::fs::write(lib.join(part), "").unwrap();
        }
        std::fs::write(dir.path().join("torch/version.py"), "__version__ = '2.10.0'\n").unwrap();
        let other = look("here", &lib).found.unwrap_err();
        assert!(other.ends_with("is 2.10.0, and the backend is built for 2.11"), "{other}");
        std::fs::write(dir.path().join("torch/version.py"), "__version__ = '2.11.0+cu130'\n").unwrap();
        let found = Found { dir: lib.clone(), version: Some("2.11.0+cu130".into()), cuda: false };
        assert_eq!(look("here", &lib).found, Ok(found));
        std::fs::write(lib.join("libtorch_cuda.so"), "").unwrap();
        assert!(look("here", &lib).found.unwrap().cuda);
    }

    #[test]
    fn a_python_says_where_its_torch_is() {
        let dir = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt;
            let path = dir.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let without = look_in_python(&script("without", "echo"));
        assert_eq!(without.found, Err("it has no module `torch`".into()));
        let with = look_in_python(&script("with", "echo /no/such/site-packages/torch/__init__.py"));
        assert_eq!(with.found, Err("there is no /no/such/site-packages/torch/lib/libc10.so".into()));
        let none = look_in_python(Path::new("/no/such/python")).found.unwrap_err();
        assert!(none.starts_with("cannot be started"), "{none}");
    }
}
