use super::*;
use proptest::prelude::*;

fn buckets() -> Buckets {
    Buckets::new(&["a".into(), "b".into()], 10_000)
}

fn item(key: &str, value: &str) -> (Key, Vec<u8>) {
    (key.into(), value.into())
}

#[test]
fn buckets_are_apart_and_scans_are_in_order() {
    let b = buckets();
    b.begin(0);
    b.put(0, vec![item("x2", "2"), item("x1", "1"), item("y", "3")], NEVER, "p").unwrap();
    b.put(1, vec![item("x1", "other")], NEVER, "p").unwrap();
    b.end(true);
    assert_eq!(b.scan(0, b"x", None, 10), [item("x1", "1"), item("x2", "2")]);
    assert_eq!(b.scan(0, b"x", Some("x1".into()), 10), [item("x2", "2")]);
    assert_eq!(b.scan(0, b"", None, 1).len(), 1);
    assert_eq!(b.scan(1, b"", None, 10), [item("x1", "other")]);
}

#[test]
fn what_expires_does_so_in_stream_time() {
    let b = buckets();
    b.begin(0);
    b.put(0, vec![item("k", "v")], 100, "p").unwrap();
    b.end(true);
    b.begin(99);
    assert_eq!(b.scan(0, b"", None, 10).len(), 1);
    b.end(true);
    b.begin(100);
    assert_eq!((b.scan(0, b"", None, 10).len(), b.bytes()), (0, 0));
}

#[test]
fn a_bucket_that_is_not_granted_is_refused_with_the_line_that_gives_it() {
    let Err(common::Error::Denied(text)) = buckets().open("p", "c") else { panic!("refused") };
    assert_eq!(text, "bucket `c`: name it in `plugins.p.state`");
}

#[test]
fn over_the_quota_nothing_of_the_call_is_taken() {
    let b = buckets();
    b.begin(0);
    b.put(0, vec![item("k", "old")], NEVER, "p").unwrap();
    let before = b.bytes();
    let many = (0..200).map(|i| item(&format!("k{i}"), "v")).chain([item("k", "new")]).collect();
    let Err(common::Error::Quota(text)) = b.put(0, many, NEVER, "p") else { panic!("refused") };
    assert!(text.contains("`plugins.p.limits.state_bytes`"), "{text}");
    assert_eq!((b.bytes(), b.scan(0, b"", None, 10)), (before, vec![item("k", "old")]));
}

#[test]
fn a_call_cannot_make_the_host_remember_without_end() {
    let b = buckets();
    b.begin(0);
    // The same key again and again: only what was there before the call is remembered.
    (0..1000).for_each(|i| b.put(0, vec![(b"k".to_vec(), vec![i as u8; 5000])], NEVER, "p").unwrap());
    assert!(b.lock().undo_bytes < 200);
    // Keys that are put and deleted at once take nothing in the end, and yet are remembered: to a bound.
    let put = (0..1000).find_map(|i| {
        let put = b.put(0, vec![item(&format!("{i}"), "")], NEVER, "p").err();
        b.lock().change((0, format!("{i}").into_bytes()), None);
        put
    });
    let Some(common::Error::Quota(text)) = put else { panic!("refused") };
    assert!(text.contains("one call would change") && text.contains("`plugins.p.limits.state_bytes`"), "{text}");
    assert!(b.lock().undo_bytes <= 20_000);
    b.end(false);
    assert_eq!((b.bytes(), b.lock().undo_bytes), (0, 0));
    b.lock().change((0, b"never there".to_vec()), None);
    assert_eq!(b.lock().undo.len(), 0);
}

#[test]
fn one_key_asked_for_a_million_times_is_refused() {
    let b = Buckets::new(&["a".into()], 1 << 21);
    b.put(0, vec![(b"k".to_vec(), vec![7; 1 << 20])], NEVER, "p").unwrap();
    assert_eq!(b.get(0, vec![b"k".to_vec(); 3]).unwrap().len(), 3);
    assert!(matches!(b.get(0, vec![b"k".to_vec(); 1_000_000]), Err(common::Error::Quota(_))));
    assert_eq!(b.get(0, vec![b"x".to_vec()]).unwrap(), [None]);
}

#[test]
fn a_bucket_that_is_no_longer_granted_is_left_out() {
    let b = buckets();
    b.put(0, vec![item("k", "a")], NEVER, "p").unwrap();
    b.put(1, vec![item("k", "b")], 7, "p").unwrap();
    let only = Buckets::new(&["b".into()], 10_000);
    only.restore(&b.save()).unwrap();
    assert_eq!(only.scan(0, b"", None, 10), [item("k", "b")]);
    assert!(only.restore(b"rubbish").is_err());
    assert_eq!(only.scan(0, b"", None, 10).len(), 1, "what was there stays");
}

proptest! {
    /// Whatever a call does, if it fails all is as before; and what is saved comes back.
    #[test]
    fn a_failed_call_has_changed_nothing(
        good in prop::collection::vec((0u32..2, "[a-c]{1,2}", ".{0,3}", 1u64..20), 0..20),
        bad in prop::collection::vec((0u32..2, "[a-c]{1,2}", prop::option::of(".{0,3}"), 1u64..20), 0..20),
    ) {
        let b = buckets();
        b.begin(0);
        for (bucket, key, value, expires) in good {
            b.put(bucket, vec![item(&key, &value)], expires, "p").unwrap();
        }
        b.end(true);
        let before = b.save();
        b.begin(0);
        for (bucket, key, value, expires) in bad {
            match value {
                Some(value) => b.put(bucket, vec![item(&key, &value)], expires, "p").unwrap(),
                None => b.lock().change((bucket, key.into_bytes()), None),
            }
        }
        b.end(false);
        prop_assert_eq!(b.save(), before.clone());
        let again = buckets();
        if !before.is_empty() {
            again.restore(&before).unwrap();
        }
        prop_assert_eq!((again.save(), again.bytes()), (before, b.bytes()));
    }
}
