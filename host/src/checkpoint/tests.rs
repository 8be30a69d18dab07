use super::format::Refused;
use super::*;
use proptest::prelude::*;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

fn checkpoint(written_ns: u64) -> Checkpoint {
    Checkpoint {
        plan_digest: "sha256:00".into(),
        written_ns,
        positions: vec![Position { topic: "flows".into(), partition: 3, next: 42 }],
        sections: [("desk", vec![1, 2, 3]), ("empty", vec![]), ("worker.0", b"\n\0\xff".to_vec())]
            .map(|(name, bytes)| (name.to_owned(), bytes))
            .into(),
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("deep/er")).unwrap();
    (folder, store)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("deep/er")).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn encoded(c: &Checkpoint) -> Vec<u8> {
    let mut bytes = Vec::new();
    format::write(c, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_written_is_read_and_nothing_else_stays() {
    let (folder, store) = store();
    assert_eq!(store.read("ddos", "a").unwrap(), None);
    assert_eq!(store.latest("ddos").unwrap(), None);
    store.write("ddos", "a", &checkpoint(1)).unwrap();
    store.write("ddos", "a", &checkpoint(2)).unwrap();
    store.write("ddos", "b", &Checkpoint::default()).unwrap();
    assert_eq!(store.read("ddos", "a").unwrap(), Some(checkpoint(2)));
    assert_eq!(store.read("ddos", "b").unwrap(), Some(Checkpoint::default()));
    assert_eq!(names(folder.path()), ["ddos.a.checkpoint", "ddos.b.checkpoint"]);
}

#[test]
fn a_file_cut_anywhere_is_called_cut() {
    let whole = encoded(&checkpoint(1));
    for end in 0..whole.len() {
        assert_eq!(format::read(&whole[..end]).unwrap_err(), Refused::Truncated, "{end}");
    }
    let longer = [&whole[..], b"x"].concat();
    assert!(matches!(format::read(&longer).unwrap_err(), Refused::Damaged(_)));
}

#[test]
fn no_byte_may_change() {
    let whole = encoded(&checkpoint(1));
    for at in 0..whole.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            assert!(format::read(&changed).is_err(), "byte {at} ^ {flip}");
        }
    }
}

#[test]
fn refusals_name_the_file_and_what_to_do() {
    let (folder, store) = store();
    let path = folder.path().join("deep/er/ddos.a.checkpoint");
    let whole = encoded(&checkpoint(1));
    let told = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let told = store.read("ddos", "a").unwrap_err().to_string();
        assert!(told.starts_with(&path.display().to_string()) && told.contains("remove the file"), "{told}");
        told
    };
    assert!(told(&whole[..50]).contains("was cut, 50 bytes are left"));
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(told(&flipped).contains("its checksum differs"));
    let newer = String::from_utf8_lossy(&whole).replacen("checkpoint 1", "checkpoint 2", 1);
    assert!(told(newer.as_bytes()).contains("version 2, this engine reads 1"));
    assert!(told(b"{}").contains("does not begin as one"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(store.read("ddos", "a"), Err(CheckpointError::File { .. })));
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    for n in [u64::MAX, u64::MAX - 31, 1 << 40] {
        let text = format!(
            "kaminari checkpoint 1\n{{\"plan_digest\":\"\",\"written_ns\":0,\"positions\":[],\"sections\":[[\"a\",{n}]]}}\n"
        );
        assert!(format::read(text.as_bytes()).is_err());
    }
}

proptest! {
    #[test]
    fn any_checkpoint_comes_back(
        digest in ".*", written_ns in any::<u64>(), positions in prop::collection::vec((".*", any::<i32>(), any::<i64>()), 0..4),
        sections in prop::collection::btree_map(".*", prop::collection::vec(any::<u8>(), 0..50), 0..5),
    ) {
        let positions = positions.into_iter().map(|(topic, partition, next)| Position { topic, partition, next });
        let c = Checkpoint { plan_digest: digest, written_ns, positions: positions.collect(), sections };
        prop_assert_eq!(format::read(&encoded(&c)), Ok(c));
    }

    #[test]
    fn no_bytes_make_it_panic(begins in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let head: &[u8] = if begins { b"kaminari checkpoint 1\n" } else { b"" };
        prop_assert!(format::read(&[head, &bytes].concat()).is_err());
    }

    /// No lane reaches another, or out of the folder.
    #[test]
    fn lanes_keep_apart(a in "[a./%~-]{0,4}|.{90,120}", b in "[a./%~-]{0,4}") {
        let (folder, store) = store();
        store.write(&a, "x", &checkpoint(1)).unwrap();
        store.write(&b, "y", &checkpoint(2)).unwrap();
        prop_assert_eq!(store.read(&b, "x").unwrap().is_some(), a == b);
        prop_assert_eq!(names(folder.path()).len(), 2);
        store.write(&b, "z", &checkpoint(3)).unwrap();
        store.sweep(&b, "z").unwrap();
        prop_assert_eq!(store.read(&a, "x").unwrap().is_some(), a != b);
    }
}

#[test]
fn ids_are_checked_and_new_ones_differ() {
    let (_folder, store) = store();
    for id in ["", "../x", "a.b", "ä", &"x".repeat(65)] {
        assert!(matches!(store.write("ddos", id, &checkpoint(1)), Err(CheckpointError::Id(_))), "{id}");
        assert!(matches!(store.read("ddos", id), Err(CheckpointError::Id(_))), "{id}");
    }
    let ids: std::collections::BTreeSet<_> = (0..1000).map(|_| new_id()).collect();
    assert_eq!(ids.len(), 1000);
    store.write("ddos", &new_id(), &checkpoint(1)).unwrap();
}

#[test]
fn the_latest_is_the_newest_that_can_be_read() {
    let (folder, store) = store();
    for (id, written_ns) in [("old", 1), ("new", 3), ("middle", 2)] {
        store.write("ddos", id, &checkpoint(written_ns)).unwrap();
    }
    store.write("exfil", "other", &checkpoint(9)).unwrap();
    assert_eq!(store.latest("ddos").unwrap(), Some(("new".to_owned(), checkpoint(3))));
    let path = folder.path().join("deep/er/ddos.new.checkpoint");
    File::options().write(true).open(&path).unwrap().set_len(60).unwrap();
    assert_eq!(store.latest("ddos").unwrap(), Some(("middle".to_owned(), checkpoint(2))));
}

#[test]
fn a_sweep_touches_only_its_lane_and_only_old_leavings() {
    let (folder, store) = store();
    for (lane, id) in [("ddos", "a"), ("ddos", "b"), ("ddos", "c"), ("ddos.2", "a"), ("exfil", "a")] {
        store.write(lane, id, &checkpoint(1)).unwrap();
    }
    // Writers that were killed: some time ago, just now, and another lane's.
    for (name, age) in [(".ddos.a.1.tmp", 61), (".ddos.a.2.tmp", 0), (".exfil.a.3.tmp", 61)] {
        let file = File::create(folder.path().join("deep/er").join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    store.sweep("ddos", "missing").unwrap();
    assert_eq!(names(folder.path()).len(), 8, "nothing is older than what is not there");
    let at = |id: &str, secs: u64| {
        let file =
            File::options().write(true).open(folder.path().join(format!("deep/er/ddos.{id}.checkpoint"))).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(secs)).unwrap();
    };
    at("a", 3);
    at("b", 2);
    at("c", 1);
    store.sweep("ddos", "b").unwrap();
    assert_eq!(
        names(folder.path()),
        [
            ".ddos.a.2.tmp",
            ".exfil.a.3.tmp",
            "ddos%2e2.a.checkpoint",
            "ddos.b.checkpoint",
            "ddos.c.checkpoint",
            "exfil.a.checkpoint"
        ],
        "what is newer is somebody else's"
    );
}

/// Set for the process that another test starts: the folder in which it writes until it is killed.
const CHILD: &str = "KAMINARI_TEST_CHECKPOINT_DIR";

#[test]
fn child_that_writes() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let store = Store::open(Path::new(&dir)).unwrap();
    for n in 1.. {
        let mut c = checkpoint(n);
        c.sections.insert("large".into(), vec![n as u8; 1 << 20]);
        let id = new_id();
        store.write("ddos", &id, &c).unwrap();
        store.sweep("ddos", &id).unwrap();
    }
}

/// One process writes and sweeps, another reads, the first is killed somewhere in between.
#[test]
fn a_writer_may_be_killed_at_any_time() {
    let (folder, store) = store();
    let dir = folder.path().join("deep/er");
    let mut last = 0;
    for round in 0..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "checkpoint::tests::child_that_writes"])
            .env(CHILD, &dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = std::time::Instant::now();
        let mut seen = 0;
        while seen < 5 + round && began.elapsed() < Duration::from_secs(30) {
            // A file that was swept between listing and reading is no trouble.
            if let Some((_, c)) = store.latest("ddos").unwrap() {
                seen = c.written_ns;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let (id, c) = store.latest("ddos").unwrap().expect("one is always there");
        assert_eq!(c.sections["large"], vec![c.written_ns as u8; 1 << 20]);
        let all = names(folder.path());
        assert!(all.len() <= 3 + round as usize, "{all:?}");
        store.sweep("ddos", &id).unwrap();
        last = last.max(c.written_ns);
    }
    assert!(last >= 5, "the other process never wrote");
}
