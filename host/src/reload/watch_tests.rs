//! Real folders, changed as tools change them.

use super::*;
use crate::reload::stable::leases_tell;
use crate::reload::{Outcome, Trigger};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};

/// Nobody else watches while threads are counted.
static ALONE: RwLock<()> = RwLock::new(());

const SLOW: Duration = Duration::from_secs(10);

fn report() -> Report {
    Report {
        number: 1,
        trigger: Trigger::Watch,
        began_at: String::new(),
        took_ms: 0.0,
        outcome: Outcome::Applied,
        old_digest: String::new(),
        new_digest: None,
        diff: Default::default(),
        step: None,
        errors: Vec::new(),
        notes: Vec::new(),
    }
}

/// A watch of some files; calls say what the first one held.
struct Rig {
    dir: tempfile::TempDir,
    calls: mpsc::Receiver<String>,
    _watch: Watch,
    _shared: RwLockReadGuard<'static, ()>,
}

impl Rig {
    /// `make` sets the files up and says which count.
    fn new(pace: Pace, make: impl FnOnce(&Path) -> Vec<PathBuf>) -> Self {
        Self::with(pace, make, Ok)
    }

    fn with(
        pace: Pace,
        make: impl FnOnce(&Path) -> Vec<PathBuf>,
        mut answer: impl FnMut(Report) -> Result<Report, Busy> + Send + 'static,
    ) -> Self {
        let shared = ALONE.read().unwrap_or_else(|e| e.into_inner());
        let dir = tempfile::tempdir().unwrap();
        let paths = make(dir.path());
        let seen = Arc::new(Mutex::new(Digests::of(&paths)));
        let (tell, calls) = mpsc::channel();
        let read = seen.clone();
        let watch = Watch::start(
            pace,
            move || read.lock().unwrap().clone(),
            move || {
                let answer = answer(report())?;
                *seen.lock().unwrap() = Digests::of(&paths);
                tell.send(fs::read_to_string(&paths[0]).unwrap_or_else(|_| "gone".into())).unwrap();
                Ok(answer)
            },
        );
        Self { dir, calls, _watch: watch.unwrap(), _shared: shared }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[track_caller]
    fn expect(&self, text: &str) {
        assert_eq!(self.calls.recv_timeout(SLOW).as_deref(), Ok(text));
    }

    /// Long enough for a call that should not come.
    #[track_caller]
    fn expect_none(&self) {
        let call = self.calls.recv_timeout(Duration::from_millis(1500));
        assert_eq!(call, Err(mpsc::RecvTimeoutError::Timeout));
    }
}

/// Events alone: polling comes too late to help.
fn events() -> Pace {
    Pace { poll: Duration::from_secs(600), ..Pace::default() }
}

fn one_file(dir: &Path) -> Vec<PathBuf> {
    fs::write(dir.join("kaminari.toml"), "0").unwrap();
    vec![dir.join("kaminari.toml")]
}

/// As the kubelet does it: a new folder, and `..data` renamed over the old link.
fn swap_config_map(root: &Path, version: &str) {
    let folder = root.join(format!("..{version}"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("kaminari.toml"), version).unwrap();
    let old = fs::read_link(root.join("..data")).ok();
    symlink(folder.file_name().unwrap(), root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    if let Some(old) = old {
        fs::remove_dir_all(root.join(old)).unwrap();
    }
}

#[test]
fn a_config_map_is_swapped_three_times() {
    let rig = Rig::new(events(), |dir| {
        swap_config_map(dir, "v0");
        symlink("..data/kaminari.toml", dir.join("kaminari.toml")).unwrap();
        vec![dir.join("kaminari.toml")]
    });
    for version in ["v1", "v2", "v3"] {
        swap_config_map(rig.dir.path(), version);
        rig.expect(version);
    }
    rig.expect_none();
}

#[test]
fn an_editor_renames_twice() {
    let rig = Rig::new(events(), one_file);
    for text in ["1", "2"] {
        fs::write(rig.path(".kaminari.toml.swp"), text).unwrap();
        fs::rename(rig.path(".kaminari.toml.swp"), rig.path("kaminari.toml")).unwrap();
        rig.expect(text);
    }
    rig.expect_none();
}

#[test]
fn a_file_written_in_two_halves_is_seen_once_and_whole() {
    let rig = Rig::new(events(), one_file);
    if !leases_tell(rig.dir.path()) {
        return;
    }
    let mut writer = fs::File::create(rig.path("kaminari.toml")).unwrap();
    writer.write_all(b"half").unwrap();
    writer.sync_all().unwrap();
    rig.expect_none();
    writer.write_all(b" and whole").unwrap();
    drop(writer);
    rig.expect("half and whole");
    rig.expect_none();
}

#[test]
fn polling_alone_sees_it_too() {
    let rig = Rig::new(Pace { events: false, poll: Duration::from_millis(100), ..Pace::default() }, one_file);
    for text in ["1", "2"] {
        fs::write(rig.path("kaminari.toml"), text).unwrap();
        rig.expect(text);
    }
}

#[test]
fn what_changed_before_the_watch_began_is_seen() {
    let _shared = ALONE.read().unwrap_or_else(|e| e.into_inner());
    let dir = tempfile::tempdir().unwrap();
    let read = Digests::of(&one_file(dir.path()));
    fs::write(dir.path().join("kaminari.toml"), "1").unwrap();
    let (tell, calls) = mpsc::channel();
    let seen = move || read.clone();
    let _watch = Watch::start(events(), seen, move || {
        tell.send(()).unwrap();
        Ok(report())
    });
    assert_eq!(calls.recv_timeout(SLOW), Ok(()));
    // It is not tried again and again where the caller goes on with what it read first.
    assert_eq!(calls.recv_timeout(Duration::from_millis(1500)), Err(mpsc::RecvTimeoutError::Timeout));
}

#[test]
fn a_folder_is_removed_and_made_again() {
    let rig = Rig::new(events(), |dir| {
        fs::create_dir(dir.join("conf")).unwrap();
        one_file(&dir.join("conf"))
    });
    for text in ["1", "2"] {
        fs::remove_dir_all(rig.path("conf")).unwrap();
        std::thread::sleep(Duration::from_millis(700));
        fs::create_dir(rig.path("conf")).unwrap();
        fs::write(rig.path("conf/kaminari.toml"), text).unwrap();
        rig.expect(text);
    }
    // Away for good: that is told as well.
    fs::remove_dir_all(rig.path("conf")).unwrap();
    rig.expect("gone");
}

#[test]
fn plugins_and_models_count() {
    let rig = Rig::new(events(), |dir| {
        let mut paths = one_file(dir);
        fs::create_dir(dir.join("model")).unwrap();
        fs::write(dir.join("model/weights"), "0").unwrap();
        fs::write(dir.join("a.wasm"), "0").unwrap();
        paths.extend([dir.join("model"), dir.join("a.wasm")]);
        paths
    });
    fs::write(rig.path("model/weights"), "1").unwrap();
    rig.expect("0");
    fs::write(rig.path("a.wasm"), "1").unwrap();
    rig.expect("0");
    // Written anew with what it held.
    fs::write(rig.path("a.wasm"), "1").unwrap();
    rig.expect_none();
}

#[test]
fn a_reload_that_runs_is_waited_for() {
    let mut busy = 2;
    let rig = Rig::with(events(), one_file, move |report| {
        busy -= 1;
        if busy >= 0 { Err(Busy) } else { Ok(report) }
    });
    fs::write(rig.path("kaminari.toml"), "1").unwrap();
    rig.expect("1");
    rig.expect_none();
}

/// Names of the threads of this process, as the kernel cuts them.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("kaminari-watch") || name.starts_with("notify-rs")).collect()
}

/// Open descriptors of inotify.
fn descriptors() -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("inotify"))).count()
}

#[test]
fn nothing_is_left_of_it() {
    let _alone = ALONE.write().unwrap_or_else(|e| e.into_inner());
    let settled = |condition: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < SLOW, "{:?}, {} descriptors", threads(), descriptors());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    settled(&|| threads().is_empty() && descriptors() == 0);
    let dir = tempfile::tempdir().unwrap();
    let paths = one_file(dir.path());
    let watch = Watch::start(Pace::default(), move || Digests::of(&paths), || Ok(report())).unwrap();
    settled(&|| threads().len() == 2 && descriptors() > 0);
    drop(watch);
    settled(&|| threads().is_empty() && descriptors() == 0);
}
