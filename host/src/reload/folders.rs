//! Which folders tell that a file has changed, and the kernel's watches on them. Comes in: paths; goes out: a wake when something
//! happened to one of them, or to a link on the way to it. A folder that cannot be watched is named once: polling sees it later.

use crossbeam_channel::Sender;
use notify::event::{AccessKind, AccessMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// As the kernel: more links on one way are a circle.
const MOST_LINKS: usize = 40;
/// Folders may be made or removed while they are looked for.
const ROUNDS: usize = 5;

/// What leads to the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// Folders in which something may happen, links resolved.
    folders: BTreeSet<PathBuf>,
    /// What it may happen to: files, links on the way, the first part that is missing; folders whose files count.
    names: BTreeSet<PathBuf>,
}

impl Way {
    fn of(paths: &[PathBuf]) -> Self {
        let mut way = Self::default();
        for path in paths {
            way.add(path);
        }
        way
    }

    /// Goes along one path, name by name.
    fn add(&mut self, path: &Path) {
        // Without a current folder a relative path leads nowhere, and polling says so.
        let Ok(path) = std::path::absolute(path) else { return };
        let mut rest: VecDeque<PathBuf> = parts(&path).collect();
        let (mut at, mut links) = (PathBuf::from("/"), 0);
        while let Some(part) = rest.pop_front() {
            match part.components().next() {
                Some(Component::RootDir) => at = PathBuf::from("/"),
                Some(Component::ParentDir) => {
                    at.pop();
                }
                Some(Component::Normal(_)) => {
                    let next = at.join(&part);
                    let found = next.symlink_metadata();
                    let is_link = found.as_ref().is_ok_and(|found| found.is_symlink());
                    if found.is_err() || is_link || rest.is_empty() {
                        self.folders.insert(at.clone());
                        self.names.insert(next.clone());
                    }
                    let Ok(found) = found else { return };
                    if is_link {
                        links += 1;
                        let Ok(target) = next.read_link() else { return };
                        if links > MOST_LINKS {
                            return;
                        }
                        for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                            rest.push_front(part);
                        }
                        continue;
                    }
                    if found.is_dir() && rest.is_empty() {
                        self.folders.insert(next.clone());
                    }
                    at = next;
                }
                _ => {}
            }
        }
    }

    /// True when the event may have to do with the files. That somebody reads them (this program does) is nothing.
    fn concerns(&self, event: &Event) -> bool {
        let reads = match event.kind {
            EventKind::Access(AccessKind::Close(mode)) => mode != AccessMode::Write,
            EventKind::Access(_) => true,
            _ => false,
        };
        let known = |path: &PathBuf| {
            let inside = || path.parent().is_some_and(|folder| self.names.contains(folder));
            self.names.contains(path) || self.folders.contains(path) || inside()
        };
        !reads && (event.paths.is_empty() || event.need_rescan() || event.paths.iter().any(known))
    }
}

fn parts(path: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    path.components().map(|part| PathBuf::from(part.as_os_str()))
}

/// The kernel's watches. None (`default`): nothing is heard.
#[derive(Default)]
pub(super) struct Folders {
    watcher: Option<RecommendedWatcher>,
    way: Arc<Mutex<Way>>,
    /// With device and inode: a folder that was made again is another one.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    complained: BTreeSet<PathBuf>,
}

impl Folders {
    /// Asks the kernel for events. Where there are none to be had, that is said, and polling remains.
    pub(super) fn open(&mut self, wake: Sender<()>) {
        let way = self.way.clone();
        let heard = move |event: notify::Result<Event>| {
            let way = way.lock().unwrap_or_else(PoisonError::into_inner);
            if event.is_ok_and(|event| !way.concerns(&event)) {
                return;
            }
            // A wake that waits to be taken is as good as two.
            let _ = wake.try_send(());
        };
        match RecommendedWatcher::new(heard, Config::default()) {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => tracing::warn!("no file events, changes of the configuration are seen by polling: {error}"),
        }
    }

    /// Watches what leads to these paths now, and nothing else.
    pub(super) fn follow(&mut self, paths: &[PathBuf]) {
        if self.watcher.is_none() {
            return;
        }
        for _ in 0..ROUNDS {
            let way = Way::of(paths);
            self.watch(&way);
            // What was made or removed before its folder was watched made no event.
            if Way::of(paths) == way {
                return;
            }
        }
    }

    fn watch(&mut self, way: &Way) {
        let Some(watcher) = &mut self.watcher else { return };
        way.clone_into(&mut self.way.lock().unwrap_or_else(PoisonError::into_inner));
        let identity = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
        self.watched.retain(|path, was| {
            let stays = way.folders.contains(path) && identity(path) == Some(*was);
            if !stays {
                // The kernel may have let go of it already.
                let _ = watcher.unwatch(path);
            }
            stays
        });
        for folder in &way.folders {
            if self.watched.contains_key(folder) {
                continue;
            }
            let Some(identity) = identity(folder) else { continue };
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder.clone(), identity);
                    self.complained.remove(folder);
                }
                Err(error) if self.complained.insert(folder.clone()) => {
                    let folder = folder.display();
                    tracing::warn!("{folder} cannot be watched, changes there are seen by polling: {error}");
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, ModifyKind};

    fn set(paths: &[&Path]) -> BTreeSet<PathBuf> {
        paths.iter().map(|path| path.to_path_buf()).collect()
    }

    #[test]
    fn the_way_through_a_config_map() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (version, data, named) = (root.join("..2026_1"), root.join("..data"), root.join("kaminari.toml"));
        std::fs::create_dir(&version).unwrap();
        std::fs::write(version.join("kaminari.toml"), "").unwrap();
        std::os::unix::fs::symlink("..2026_1", &data).unwrap();
        std::os::unix::fs::symlink("..data/kaminari.toml", &named).unwrap();
        let way = Way::of(std::slice::from_ref(&named));
        assert_eq!(way.folders, set(&[&root, &version]));
        assert_eq!(way.names, set(&[&named, &data, &version.join("kaminari.toml")]));

        // A mount through a link to its folder.
        let current = root.join("current");
        std::os::unix::fs::symlink(&version, &current).unwrap();
        let way = Way::of(&[current.join("kaminari.toml")]);
        assert_eq!(way.folders, set(&[&root, &version]));
        assert!(way.names.contains(&current));
    }

    #[test]
    fn missing_parts_folders_and_circles() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let way = Way::of(&[root.join("a/b/c.toml")]);
        assert_eq!((way.folders, way.names), (set(&[&root]), set(&[&root.join("a")])));
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        let way = Way::of(&[root.join("a/../a/b")]);
        assert_eq!((way.folders, way.names), (set(&[&root.join("a"), &root.join("a/b")]), set(&[&root.join("a/b")])));
        std::os::unix::fs::symlink("round", root.join("round")).unwrap();
        assert_eq!(Way::of(&[root.join("round")]).folders, set(&[&root]));
    }

    #[test]
    fn only_what_concerns_the_files_wakes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (file, model) = (root.join("kaminari.toml"), root.join("model"));
        std::fs::write(&file, "").unwrap();
        std::fs::create_dir(&model).unwrap();
        let way = Way::of(&[file.clone(), model.clone()]);
        let modified = |path: &Path| {
            let kind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
            way.concerns(&Event::new(kind).add_path(path.into()))
        };
        assert!(modified(&file) && modified(&model.join("weights")) && modified(&root));
        assert!(!modified(&root.join("incidents.jsonl")), "a sink writes beside the configuration");
        assert!(way.concerns(&Event::new(EventKind::Create(CreateKind::Any))), "of what, nobody says");
        let closed = |mode| {
            let kind = EventKind::Access(AccessKind::Close(mode));
            way.concerns(&Event::new(kind).add_path(file.clone()))
        };
        assert!(closed(AccessMode::Write) && !closed(AccessMode::Read));
        assert!(
            !way.concerns(&Event::new(EventKind::Access(AccessKind::Open(AccessMode::Any))).add_path(file.clone()))
        );
    }
}
