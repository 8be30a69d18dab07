//! Compiled plugins on disk. Comes in: a component's bytes and digest; goes out: machine code, from the cache or
//! fresh. A damaged entry is thrown away and rebuilt; a folder that others may write to is refused.

use super::error::PluginError;
use sha2::{Digest, Sha256};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Length of the checksum in front of an entry's machine code.
const CHECKSUM: usize = 32;

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
        // SAFETY: geteuid only reads a number of this process and cannot fail.
        let me = unsafe { libc::geteuid() };
        if meta.uid() != me || mode & 0o022 != 0 {
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
        self.dir.join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
    }

    fn read(&self, engine: &Engine, path: &Path) -> Option<Component> {
        let entry = std::fs::read(path).ok()?;
        match entry.split_at_checked(CHECKSUM) {
            Some((sum, code)) if Sha256::digest(code)[..] == *sum => {
                // SAFETY: `deserialize` trusts its input like a shared library. What makes it safe is the folder:
                // it belongs to this user, nobody else may write there (checked in `open`), and kaminari puts
                // nothing there but what its own compiler made. The checksum is against damage, not against malice.
                match unsafe { Component::deserialize(engine, code) } {
                    Ok(component) => return Some(component),
                    Err(error) => {
                        tracing::warn!(path = %path.display(), error = %format!("{error:#}"), "plugin cache entry thrown away");
                    }
                }
            }
            _ => tracing::warn!(path = %path.display(), "plugin cache entry is damaged and thrown away"),
        }
        None
    }

    fn write(&self, path: &Path, code: &[u8]) -> std::io::Result<()> {
        // By rename: a reader sees a whole entry or none. A name of its own per writer.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}-{n}.tmp", std::process::id()));
        let mut entry = Vec::with_capacity(CHECKSUM + code.len());
        entry.extend_from_slice(&Sha256::digest(code));
        entry.extend_from_slice(code);
        let written = std::fs::write(&temporary, entry).and_then(|()| std::fs::rename(&temporary, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }
}

/// Lower-case hex sha256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
