//! Files that a component reads when it is made, and never again. Comes in: the component's table; goes out: which they are and
//! digests of what they hold, so that another content makes another component. Files only: a pipe would be waited for.

use super::Component;
use super::registry::ComponentDef;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFile {
    /// Which.
    pub path: PathBuf,
    /// SHA-256 of its content when the plan was made; `None`: it could not be read.
    digest: Option<[u8; 32]>,
}

/// Those of a table with its paths joined to their folder, by the (dotted) keys that name them. Before the component is made:
/// who replaces a file meanwhile changes it once more.
pub(super) fn read(def: &ComponentDef, body: &toml::Table) -> BTreeMap<&'static str, ReadFile> {
    let path = |key: &str| {
        let (folders, name) = key.rsplit_once('.').unwrap_or(("", key));
        let mut keys = folders.split('.').filter(|key| !key.is_empty());
        let table = keys.try_fold(body, |table, key| table.get(key)?.as_table())?;
        Some(PathBuf::from(table.get(name)?.as_str()?))
    };
    let file = |path: PathBuf| ReadFile { digest: digest(&path), path };
    def.contents.iter().filter_map(|key| Some((*key, file(path(key)?)))).collect()
}

fn digest(path: &Path) -> Option<[u8; 32]> {
    path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(Sha256::digest(std::fs::read(path).ok()?).into())
}

/// Keys whose files hold something else than before, or are others.
pub(super) fn differing(old: &Component, new: &Component) -> Vec<&'static str> {
    let keys: BTreeSet<&'static str> = old.files.keys().chain(new.files.keys()).copied().collect();
    let digest = |of: &Component, key: &str| of.files.get(key).map(|file| file.digest);
    keys.into_iter().filter(|key| digest(old, key) != digest(new, key)).collect()
}
