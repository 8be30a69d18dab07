//! Compiled plugins on disk. Comes in: a component's bytes and digest; goes out: machine code, from the cache or
//! fresh. Thrown away and rebuilt: an entry that is damaged, that lay under another name, that is no plain file of this user's.
//! A folder that others may write to is refused.

use super::error::PluginError;
use sha2::{Digest, Sha256};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use twox_hash::XxHash3_128;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Length of the checksum in front of an entry's machine code: XXH3-128 over the entry's name and the code.
const CHECKSUM: usize = 16;

/// Of an entry's form: entries of another one have other names, and are not looked at.
const FORM: u32 = 3;

/// The folder.
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Makes the folder (mode 0700), or checks the one that is there.
    pub fn open(dir: &Path) -> Result<Self, PluginError> {
        let failed = |source| PluginError::CacheDir { path: dir.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let meta = std::fs::metadata(dir).map_err(failed)?;
        let mode = meta.permissions().mode() & 0o7777;
        if meta.uid() != me() || mode & 0o022 != 0 {
            return Err(PluginError::CacheUnsafe { path: dir.to_owned(), mode });
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// The compiled component. `digest` is the lower-case hex sha256 of `wasm`.
    pub fn component(&self, engine: &Engine, digest: &str, wasm: &[u8]) -> wasmtime::Result<Component> {
        let path = self.path(engine, digest);
        if let Some(component) = self.read(engine, &path) {
            return Ok(component);
        }
        let code = engine.precompile_component(wasm)?;
        if let Err(error) = self.write(&path, &code) {
            // Nothing is lost: the next start compiles again.
            tracing::warn!(path = %path.display(), %error, "cannot write the plugin cache");
        }
        // SAFETY: this engine has just made `code`.
        unsafe { Component::deserialize(engine, &code) }
    }

    /// Another build of the engine, another CPU or other settings make another name.
    fn path(&self, engine: &Engine, digest: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        FORM.hash(&mut hasher);
        self.dir.join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
    }

    fn read(&self, engine: &Engine, path: &Path) -> Option<Component> {
        let entry = match plain_file(path) {
            Ok(entry) => entry?,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "plugin cache entry is not trusted and thrown away");
                return None;
            }
        };
        match entry.split_at_checked(CHECKSUM) {
            Some((sum, code)) if checksum(path, code)[..] == *sum => {
                // SAFETY: `deserialize` trusts its input like a shared library. What makes it safe is the folder:
                // it belongs to this user, nobody else may write there (checked in `open`), and kaminari puts
                // nothing there but what its own compiler made. The checksum is against damage and mistaken names, not against
                // malice.
                match unsafe { Component::deserialize(engine, code) } {
                    Ok(component) => return Some(component),
                    Err(error) => {
                        tracing::warn!(path = %path.display(), error = %format!("{error:#}"), "plugin cache entry thrown away");
                    }
                }
            }
            _ => {
                tracing::warn!(path = %path.display(), "plugin cache entry is damaged, or another plugin's, and thrown away")
            }
        }
        None
    }

    fn write(&self, path: &Path, code: &[u8]) -> std::io::Result<()> {
        // By rename: a reader sees a whole entry or none. A name of its own per writer.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}-{n}.tmp", std::process::id()));
        let mut entry = Vec::with_capacity(CHECKSUM + code.len());
        entry.extend_from_slice(&checksum(path, code));
        entry.extend_from_slice(code);
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&temporary);
        let written = file.and_then(|mut file| file.write_all(&entry)).and_then(|()| std::fs::rename(&temporary, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }
}

/// What only this name and this code have: an entry that was moved to another plugin's name is not that plugin.
fn checksum(path: &Path, code: &[u8]) -> [u8; CHECKSUM] {
    let name = path.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
    let mut hasher = XxHash3_128::new();
    hasher.write(&(name.len() as u64).to_le_bytes());
    hasher.write(name);
    hasher.write(code);
    hasher.finish_128().to_le_bytes()
}

/// The bytes of a plain file of this user's that nobody else may write; nothing where there is no file. A link is not followed.
fn plain_file(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let meta = file.metadata()?;
    if !meta.is_file() || meta.uid() != me() || meta.permissions().mode() & 0o022 != 0 {
        return Err(std::io::Error::other("it is no plain file that only this user may write"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn me() -> libc::uid_t {
    // SAFETY: geteuid only reads a number of this process and cannot fail.
    unsafe { libc::geteuid() }
}

/// Digest of a plugin's file, as [`super::PluginInfo`] has it.
pub fn file_digest(path: &Path) -> std::io::Result<String> {
    Ok(sha256_hex(&std::fs::read(path)?))
}

/// Lower-case hex sha256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_digest_of_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.wasm");
        assert!(file_digest(&path).is_err());
        std::fs::write(&path, b"abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((file_digest(&path).unwrap().as_str(), sha256_hex(b"abc").as_str()), (known, known));
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        Cache::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
        let text = Cache::open(&path).err().expect("refused").to_string();
        assert!(text.contains("chmod 700") && text.contains("777"), "{text}");
    }

    #[test]
    fn a_checksum_is_of_a_name_too() {
        let of = |name: &str, code: &[u8]| checksum(Path::new(name), code);
        assert_eq!(of("/a/x.cwasm", b"code"), of("/b/x.cwasm", b"code"), "the folder may be moved");
        assert_ne!(of("x.cwasm", b"code"), of("y.cwasm", b"code"));
        assert_ne!(of("x", b"ycode"), of("xy", b"code"), "where the name ends is part of it");
    }

    #[test]
    fn only_plain_files_of_ones_own_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, open) = (dir.path().join("file"), dir.path().join("link"), dir.path().join("open"));
        std::fs::write(&file, "code").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(plain_file(&file).unwrap().as_deref(), Some(&b"code"[..]));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(plain_file(&link).is_err() && plain_file(dir.path()).is_err());
        std::fs::write(&open, "code").unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(plain_file(&open).is_err());
        assert!(plain_file(&dir.path().join("none")).unwrap().is_none());
    }
}
