//! Order, restarts, crashes and limits of the spool file.

use super::*;

fn record(n: u32) -> (Record, u32) {
    let header = ("kaminari.schema".into(), "incidents/1".into());
    let key = (!n.is_multiple_of(3)).then(|| format!("key {n}").into_bytes());
    let partition = n.is_multiple_of(2).then_some(7);
    let payload = n.to_string().into_bytes();
    (Record { topic: "t".into(), partition, key, payload, headers: vec![header].into() }, n)
}

fn records(numbers: std::ops::Range<u32>) -> Vec<(Record, u32)> {
    numbers.map(record).collect()
}

/// Hands out everything.
fn drain(spool: &mut Spool) -> Vec<Spooled> {
    std::iter::from_fn(|| spool.next().unwrap()).collect()
}

fn numbers(spool: &mut Spool) -> Vec<u32> {
    drain(spool).iter().map(|s| s.rows).collect()
}

fn open(path: &Path) -> Spool {
    Spool::open(path, 1 << 20).unwrap().0
}

#[test]
fn records_come_back_in_order_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let mut spool = open(&path);
    assert!(spool.all_handed() && spool.bytes() == 0);
    spool.append(&records(0..4)).unwrap();
    spool.append(&records(4..6)).unwrap();
    let expected: usize = records(0..6).iter().map(|(r, _)| size(r)).sum();
    assert_eq!(spool.bytes(), expected as u64);
    let first: Vec<_> = drain(&mut spool);
    let same: Vec<_> = first.iter().map(|s| (s.record.clone(), s.rows)).collect();
    assert_eq!(same, records(0..6));
    spool.done(first[1].end).unwrap();
    spool.sync().unwrap();
    drop(spool);
    let mut spool = open(&path);
    assert_eq!(numbers(&mut spool), [2, 3, 4, 5]);
    spool.rewind();
    let all = drain(&mut spool);
    spool.done(all[3].end).unwrap();
    assert_eq!((spool.bytes(), std::fs::metadata(&path).unwrap().len()), (0, HEAD));
    spool.append(&records(6..7)).unwrap();
    assert_eq!(numbers(&mut spool), [6]);
}

#[test]
fn a_write_that_a_crash_cut_short_costs_that_record_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    open(&path).append(&records(0..3)).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let last = size(&record(2).0);
    for cut in 1..last {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let (mut spool, lost) = Spool::open(&path, 1 << 20).unwrap();
        assert_eq!((numbers(&mut spool), lost), (vec![0, 1], (last - cut) as u64));
        spool.append(&records(9..10)).unwrap();
        drop(spool);
        assert_eq!(numbers(&mut open(&path)), [0, 1, 9]);
    }
    // Blocks that never reached the disk read as zeros.
    let mut holes = whole.clone();
    let at = whole.len() - last;
    holes[at..].fill(0);
    std::fs::write(&path, &holes).unwrap();
    assert_eq!(numbers(&mut open(&path)), [0, 1]);
}

#[test]
fn a_garbled_record_is_not_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let mut spool = open(&path);
    spool.append(&records(0..3)).unwrap();
    let at = HEAD + (size(&record(0).0) + size(&record(1).0)) as u64 - 1;
    spool.file.write_all_at(b"X", at).unwrap();
    assert_eq!(spool.next().unwrap().unwrap().rows, 0);
    assert_eq!(spool.next().unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(spool.cut(), (size(&record(1).0) + size(&record(2).0)) as u64);
    assert!(spool.next().unwrap().is_none());
    spool.append(&records(5..6)).unwrap();
    assert_eq!(numbers(&mut spool), [5]);
}

#[test]
fn older_records_go_to_the_front() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let mut spool = open(&path);
    spool.append(&records(3..6)).unwrap();
    let all = drain(&mut spool);
    spool.done(all[0].end).unwrap();
    spool.rewind();
    spool.prepend(&records(0..2)).unwrap();
    spool.append(&records(6..7)).unwrap();
    assert_eq!(numbers(&mut spool), [0, 1, 4, 5, 6]);
    drop(spool);
    assert_eq!(numbers(&mut open(&path)), [0, 1, 4, 5, 6]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn it_is_bounded_and_gives_back_space() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let (mut spool, _) = Spool::open(&path, 10_000).unwrap();
    let (mut put, mut got, mut ends) = (0, 0, std::collections::VecDeque::new());
    while spool.has_room(&records(put..put + 1)) {
        spool.append(&records(put..put + 1)).unwrap();
        put += 1;
    }
    assert!(put > 50);
    // Never empty, always near the limit: the file does not grow without end, and positions stay true.
    for _ in 0..1000 {
        while let Some(next) = spool.next().unwrap() {
            assert_eq!(next.rows, got);
            got += 1;
            ends.push_back(next.end);
        }
        spool.done(ends.pop_front().unwrap()).unwrap();
        while spool.has_room(&records(put..put + 1)) {
            spool.append(&records(put..put + 1)).unwrap();
            put += 1;
        }
        assert!(std::fs::metadata(&path).unwrap().len() < 16_000);
    }
    spool.rewind();
    drop(spool);
    let left = put - 1000;
    assert_eq!(numbers(&mut open(&path)).len() as u32, left);
}

#[test]
fn other_files_and_files_in_use_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    std::fs::write(&path, "incidents of last year\n").unwrap();
    let error = Spool::open(&path, 1).err().unwrap();
    assert!(error.reason == "config" && error.to_string().contains("no spool file"), "{error}");
    std::fs::remove_file(&path).unwrap();
    let _held = open(&path);
    let error = Spool::open(&path, 1).err().unwrap();
    assert!(error.to_string().contains("another sink or process"), "{error}");
}
