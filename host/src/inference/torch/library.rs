//! libtorch and the shared object that speaks for it, loaded by full path into a process that is not linked with
//! either. Comes in: two paths; goes out: a [`Library`], whose handles free themselves. Refused: what is missing, of
//! another version or not loadable, each with its file. CUDA registers itself when `libtorch_cuda.so` is loaded after
//! `libtorch_cpu.so`, so the same files serve machines with and without a GPU.

use super::error::TorchError;
use crate::model::Device;
use kaminari_torch_abi::{ABI_VERSION, Api, Entry, SYMBOL};
use libloading::os::unix::{Library as Object, RTLD_GLOBAL, RTLD_LAZY, RTLD_LOCAL, RTLD_NOW};
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The shared object's own name, beside the program unless `inference.library` says otherwise.
pub const FILE: &str = "libkaminari_torch.so";
/// The libtorch that it is built for.
pub const LIBTORCH: &str = "2.11";
/// What libtorch is made of.
const PARTS: [&str; 2] = ["libc10.so", "libtorch_cpu.so"];
const CUDA: &str = "libtorch_cuda.so";

/// A libtorch in use. It is never unloaded: C++ libraries do not take that well.
pub struct Library {
    pub(super) api: &'static Api,
    /// Where libtorch is.
    dir: PathBuf,
    /// The shared object.
    object: PathBuf,
    /// CUDA devices, or why there is none.
    cuda: Result<u16, String>,
}

/// A process has one at most.
static LOADED: Mutex<Option<Arc<Library>>> = Mutex::new(None);

impl Library {
    /// Loads `dir` (the folder with `libtorch_cpu.so`) and the shared object, or takes what this process has loaded.
    pub fn open(dir: &Path, object: &Path) -> Result<Arc<Self>, TorchError> {
        check(dir)?;
        exists(object, "the backend of the engine, which `cargo xtask torch` builds")?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = &*loaded {
            return match (library.dir == dir, library.object == object) {
                (true, true) => Ok(library.clone()),
                (false, _) => Err(TorchError::Another { loaded: library.dir.clone(), wanted: dir.into() }),
                _ => Err(TorchError::Another { loaded: library.object.clone(), wanted: object.into() }),
            };
        }
        let library = Arc::new(Self::load(dir, object)?);
        *loaded = Some(library.clone());
        Ok(library)
    }

    fn load(dir: &Path, object: &Path) -> Result<Self, TorchError> {
        for part in PARTS {
            std::mem::forget(load(&dir.join(part), RTLD_NOW | RTLD_GLOBAL)?);
        }
        let cuda = load_cuda(dir);
        // libtorch's own symbols, if some are missing in another version, are told here, by name.
        let backend = load(object, RTLD_NOW | RTLD_LOCAL)?;
        let not_ours = |found: String| TorchError::Abi { path: object.into(), found, wanted: ABI_VERSION };
        // SAFETY: the symbol is the entry point of the ABI crate; nothing else has its name.
        let entry: Entry = match unsafe { backend.get::<Entry>(SYMBOL.as_bytes()) } {
            Ok(entry) => *entry,
            Err(_) => return Err(not_ours("no backend of kaminari".into())),
        };
        std::mem::forget(backend);
        // SAFETY: the entry point has no conditions; the table lives as long as the shared object, which stays.
        let api = unsafe { entry().as_ref() }.ok_or_else(|| not_ours("a backend without a table".into()))?;
        if api.abi != ABI_VERSION || api.size as usize != size_of::<Api>() {
            return Err(not_ours(format!("version {} of the backend's interface", api.abi)));
        }
        // SAFETY: terminated by 0, and part of the shared object.
        let built_for = unsafe { CStr::from_ptr(api.built_for) }.to_string_lossy();
        if let Some(found) = version(dir).filter(|found| release(found) != release(&built_for)) {
            return Err(TorchError::Version { dir: dir.into(), found, wanted: built_for.into_owned() });
        }
        let mut library = Self { api, dir: dir.into(), object: object.into(), cuda: Ok(0) };
        library.call(|failure| unsafe { (api.start)(1, failure) })?;
        library.cuda = cuda.and_then(|()| library.count());
        Ok(library)
    }

    fn count(&self) -> Result<u16, String> {
        let mut count = 0;
        self.call(|failure| unsafe { (self.api.cuda_devices)(&mut count, failure) }).map_err(|e| e.to_string())?;
        match u16::try_from(count) {
            Ok(0) | Err(_) => Err("libtorch finds no CUDA device that it can use".into()),
            Ok(count) => Ok(count),
        }
    }

    /// Refuses a CUDA device that is not there.
    pub(super) fn has(&self, on: Device) -> Result<(), TorchError> {
        let Device::Cuda(number) = on else { return Ok(()) };
        let why = match self.cuda() {
            Ok(count) if number < count => return Ok(()),
            Ok(count) => format!("this machine has {count}"),
            Err(why) => why.to_owned(),
        };
        Err(TorchError::NoDevice { device: on.to_string(), why })
    }

    /// CUDA devices, or why there is none.
    pub fn cuda(&self) -> Result<u16, &str> {
        self.cuda.as_ref().copied().map_err(String::as_str)
    }
}

/// What the folder lacks to be a libtorch of the right version.
pub(super) fn check(dir: &Path) -> Result<(), TorchError> {
    for part in PARTS {
        exists(&dir.join(part), "`inference.libtorch` is the folder `torch/lib` of PyTorch or `lib` of libtorch")?;
    }
    match version(dir).filter(|found| release(found) != LIBTORCH) {
        Some(found) => Err(TorchError::Version { dir: dir.into(), found, wanted: LIBTORCH.into() }),
        None => Ok(()),
    }
}

/// What the files beside it say it is; a folder without them is taken as it is: what does not fit does not load.
pub(super) fn version(dir: &Path) -> Option<String> {
    let beside = dir.parent()?;
    if let Ok(text) = std::fs::read_to_string(beside.join("version.py")) {
        let line = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
        return Some(line.trim_matches(['\'', '"']).to_owned());
    }
    Some(std::fs::read_to_string(beside.join("build-version")).ok()?.trim().to_owned())
}

/// `2.11` of `2.11.0+cu130`.
fn release(version: &str) -> String {
    version.split(['.', '+']).take(2).collect::<Vec<_>>().join(".")
}

/// Whether libtorch was built with CUDA.
pub(super) fn has_cuda(dir: &Path) -> bool {
    dir.join(CUDA).exists()
}

/// Whether this machine has a driver; costs next to nothing where it has not.
pub fn nvidia_driver() -> bool {
    // SAFETY: the driver's library initialises nothing by being loaded.
    unsafe { Object::open(Some("libcuda.so.1"), RTLD_LAZY | RTLD_LOCAL) }.is_ok()
}

fn load_cuda(dir: &Path) -> Result<(), String> {
    if !nvidia_driver() {
        return Err("no NVIDIA driver (libcuda.so.1)".into());
    }
    if !has_cuda(dir) {
        return Err(format!("libtorch of {} was built without CUDA (no {CUDA})", dir.display()));
    }
    let object = load(&dir.join(CUDA), RTLD_NOW | RTLD_GLOBAL).map_err(|e| e.to_string())?;
    std::mem::forget(object);
    Ok(())
}

fn exists(path: &Path, hint: &'static str) -> Result<(), TorchError> {
    if path.is_file() { Ok(()) } else { Err(TorchError::NotFound { path: path.into(), hint }) }
}

fn load(path: &Path, flags: i32) -> Result<Object, TorchError> {
    // SAFETY: the operator named it; its initialisers run with the rights of the engine, like those of any library.
    unsafe { Object::open(Some(path), flags) }.map_err(|error| {
        // The loader's own words, without those that only repeat that it is about a library.
        let source = std::error::Error::source(&error).map(|e| e.to_string());
        TorchError::Load { path: path.into(), message: source.unwrap_or_else(|| error.to_string()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_either_file() {
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path().join("lib");
        std::fs::create_dir(&lib).unwrap();
        assert_eq!(version(&lib), None);
        std::fs::write(dir.path().join("build-version"), "2.10.1+cpu\n").unwrap();
        assert_eq!(version(&lib).as_deref(), Some("2.10.1+cpu"));
        std::fs::write(dir.path().join("version.py"), "import x\n__version__ = '2.11.0+cu130'\ndebug = False\n")
            .unwrap();
        assert_eq!(version(&lib).as_deref(), Some("2.11.0+cu130"));
        assert_eq!((release("2.11.0+cu130"), release("2.11")), ("2.11".into(), "2.11".into()));
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path().join("lib");
        let error = |lib: &Path| check(lib).unwrap_err().to_string();
        assert!(error(&lib).contains("lib/libc10.so: there is no such file"), "{}", error(&lib));
        std::fs::create_dir(&lib).unwrap();
        std::fs::write(lib.join("libc10.so"), "").unwrap();
        assert!(error(&lib).contains("lib/libtorch_cpu.so: there is no such file"), "{}", error(&lib));
        std::fs::write(lib.join("libtorch_cpu.so"), "").unwrap();
        std::fs::write(dir.path().join("build-version"), "2.13.0").unwrap();
        assert!(error(&lib).contains("is libtorch 2.13.0, and the backend is built for 2.11"), "{}", error(&lib));
        std::fs::write(dir.path().join("build-version"), "2.11.0").unwrap();
        assert_eq!(check(&lib), Ok(()));
    }
}
