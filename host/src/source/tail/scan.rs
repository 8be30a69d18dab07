//! Files that a pattern means now.

use super::follow::Id;
use super::places::Place;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// True where a path has wildcards.
pub(super) fn is_wild(path: &Path) -> bool {
    path.as_os_str().as_bytes().iter().any(|b| matches!(b, b'*' | b'?'))
}

/// The files of a pattern, with who they are. A path without wildcards need not be there.
pub(super) fn files(pattern: &Path) -> io::Result<Vec<(PathBuf, Id)>> {
    if !is_wild(pattern) {
        return Ok(identity(pattern).map(|id| (pattern.to_owned(), id)).into_iter().collect());
    }
    let name = pattern.file_name().unwrap_or_default().as_bytes();
    let mut out = Vec::new();
    for entry in fs::read_dir(folder(pattern))? {
        let entry = entry?;
        let (file, path) = (entry.file_name(), entry.path());
        // As in a shell: hidden files are not meant unless the dot is written.
        let hidden = file.as_bytes().starts_with(b".") && !name.starts_with(b".");
        if !hidden && matches(name, file.as_bytes()) {
            out.extend(identity(&path).map(|id| (path, id)));
        }
    }
    Ok(out)
}

/// Where the file of a place lies now, if it is in the folder that it was in.
pub(super) fn same_file(place: &Place) -> Option<PathBuf> {
    let entries = fs::read_dir(folder(Path::new(&place.path))).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| identity(path) == Some(place.id))
}

/// Who a file is; `None`: it is not there, or no plain file.
pub(super) fn identity(path: &Path) -> Option<Id> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|meta| Id::of(&meta))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `*`: any text; `?`: any byte.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            // The last star takes one byte more.
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, name, expected) in [
            ("*.log", "app.log", true),
            ("*.log", "app.log.1", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbY", false),
            ("app-?.log", "app-1.log", true),
            ("app-?.log", "app-12.log", false),
            ("*", "", true),
            ("**a", "ba", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
