use super::*;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// A folder with files, and a source that reads them round by round.
struct Case {
    dir: tempfile::TempDir,
    tail: Box<Tail>,
    places: Places,
}

fn config(dir: &Path, text: &str) -> TailConfig {
    toml::from_str(&format!("paths = [{:?}]\n{text}", dir.join("*.log").display().to_string())).unwrap()
}

fn tail(dir: &Path, text: &str, saved: Option<&[u8]>) -> (Box<Tail>, Places) {
    let config = config(dir, text);
    // As `open`, with its type.
    let known = saved.map(|s| places::decode(s).unwrap());
    let places = Places::new(known.as_deref().unwrap_or_default(), Duration::ZERO);
    let framing = Framing { max_frame_bytes: config.max_line_bytes, ..Framing::default() };
    let tail = Tail {
        id: "t".into(),
        framing,
        files: Vec::new(),
        ignored: BTreeMap::new(),
        first: known.is_none(),
        known: known.unwrap_or_default().into_iter().map(|p| (p.id, p)).collect(),
        places: places.clone(),
        batches: 0,
        clock: IngestClock::default(),
        seldom: Seldom::default(),
        meters: Meters::new("t"),
        config,
    };
    (Box::new(tail), places)
}

impl Case {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tail, places) = tail(dir.path(), text, None);
        Self { dir, tail, places }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The lines of one round.
    fn lines(&mut self) -> Vec<String> {
        let (out, deliveries) = crossbeam_channel::unbounded();
        let (_used, recycled) = crossbeam_channel::bounded(1);
        self.tail.look();
        self.tail.round(&mut [0; 50], &out, &recycled).unwrap();
        drop(out);
        let mut lines = Vec::new();
        for delivery in deliveries {
            let Delivery::Frames(batch) = delivery else { panic!("a tick in a round") };
            lines.extend(batch.frames.iter().map(|f| String::from_utf8_lossy(batch.bytes(f)).into_owned()));
        }
        lines
    }

    /// As after a crash in which so many deliveries had been handed on.
    fn restart(&mut self, batches: u64) {
        let saved = self.places.behind(batches, true);
        (self.tail, self.places) = tail(self.dir.path(), "", Some(&saved));
    }
}

#[test]
fn it_begins_at_the_end_and_partial_lines_wait() {
    let mut case = Case::new("");
    case.append("a.log", "old\nhal");
    assert!(case.lines().is_empty());
    case.append("a.log", "f\nnext\r\npart");
    assert_eq!(case.lines(), ["half", "next"]);
    case.append("b.log", "whole file\n");
    case.append("other.txt", "not meant\n");
    case.append("a.log", "ial\n");
    assert_eq!(case.lines(), ["partial", "whole file"], "files that come later are read from their beginning");
    assert!(case.lines().is_empty());
    let mut case = Case::new("start = \"beginning\"\nmax_line_bytes = 10");
    case.append("a.log", "old\ntoo long to be taken\nnew\n");
    assert_eq!(case.lines(), ["old", "new"]);
}

#[test]
fn a_rename_is_seen_through() {
    let mut case = Case::new("start = \"beginning\"");
    case.append("a.log", "1\n");
    assert_eq!(case.lines(), ["1"]);
    // Its writer has it open still, after a new one is there.
    let mut old = OpenOptions::new().append(true).open(case.path("a.log")).unwrap();
    fs::rename(case.path("a.log"), case.path("a.log.1")).unwrap();
    old.write_all(b"2\n").unwrap();
    case.append("a.log", "3\n");
    assert_eq!(case.lines(), ["2", "3"], "the rest of the old one first");
    old.write_all(b"2b\nlast").unwrap();
    case.append("a.log", "4\n");
    assert_eq!(case.lines(), ["2b", "4"]);
    // Removed, and made anew under the same name.
    fs::remove_file(case.path("a.log.1")).unwrap();
    fs::remove_file(case.path("a.log")).unwrap();
    assert!(case.lines().is_empty());
    case.append("a.log", "5\n");
    assert_eq!(case.lines(), ["5"]);
    assert_eq!(case.tail.files.len(), 3);
    // Rotated within the pattern: the same file under another name.
    fs::rename(case.path("a.log"), case.path("b.log")).unwrap();
    case.append("b.log", "6\n");
    assert_eq!(case.lines(), ["6"]);
}

#[test]
fn a_truncation_is_seen_even_when_the_file_has_grown_since() {
    let mut case = Case::new("start = \"beginning\"");
    case.append("a.log", "one\ntwo\nhal");
    assert_eq!(case.lines(), ["one", "two"]);
    let file = OpenOptions::new().write(true).open(case.path("a.log")).unwrap();
    file.set_len(0).unwrap();
    case.append("a.log", "three\n");
    assert_eq!(case.lines(), ["hal", "three"], "what was read of a line is all there will be of it");
    file.set_len(0).unwrap();
    case.append("a.log", "four is longer than what was there before\n");
    assert_eq!(case.lines(), ["four is longer than what was there before"]);
    // As a writer without O_APPEND leaves it: a hole.
    file.set_len(0).unwrap();
    file.set_len(30).unwrap();
    case.append("a.log", "five\n");
    assert_eq!(case.lines(), ["five"]);
}

#[test]
fn compressed_files_are_not_read() {
    let mut case = Case::new("start = \"beginning\"");
    File::create(case.path("a.log")).unwrap().write_all(b"\x1f\x8b\x08 rubbish\n").unwrap();
    assert!(case.lines().is_empty() && case.lines().is_empty());
    assert_eq!(case.tail.ignored.len(), 1);
    fs::remove_file(case.path("a.log")).unwrap();
    case.append("b.log", "text\n");
    assert_eq!(case.lines(), ["text"]);
    assert!(case.tail.ignored.is_empty(), "who it was does not matter any more");
}

#[test]
fn a_restart_goes_on_behind_what_was_handed_on() {
    let mut case = Case::new("start = \"beginning\"");
    case.append("a.log", "1\n2\n");
    case.append("b.log", "x\n");
    assert_eq!(case.lines(), ["1", "2", "x"]);
    case.append("a.log", "3\nhal");
    assert_eq!(case.lines(), ["3"]);
    // The second delivery was not handed on: it is read again. So is the begin of a line.
    case.restart(1);
    case.append("a.log", "f\n");
    assert_eq!(case.lines(), ["3", "half"]);
    case.restart(1);
    // While nobody looked: one rotated, one truncated, one new.
    case.append("a.log", "4\n");
    fs::rename(case.path("a.log"), case.path("a.log.1")).unwrap();
    case.append("a.log", "5\n");
    fs::write(case.path("b.log"), "new b, longer than it was\n").unwrap();
    case.append("c.log", "c\n");
    assert_eq!(case.lines(), ["4", "5", "new b, longer than it was", "c"]);
    assert_eq!(case.tail.known.len(), 0);
    // A file that is gone is told and forgotten.
    fs::remove_file(case.path("c.log")).unwrap();
    case.restart(1);
    assert!(case.lines().is_empty());
    assert!(!String::from_utf8(case.places.behind(0, true)).unwrap().contains("c.log"));
}

#[test]
fn what_the_configuration_must_say() {
    assert!(complaint(&TailConfig { paths: Vec::new(), ..config(Path::new("x"), "") }).unwrap().contains("empty"));
    let wild = TailConfig { paths: vec!["/var/*/x.log".into()], ..config(Path::new("x"), "") };
    assert!(complaint(&wild).unwrap().contains("last part"));
    assert_eq!(complaint(&toml::from_str(DEF.example).unwrap()), None);
}
