use super::*;
use crate::calibration::{FollowSettings, Identity};
use proptest::prelude::*;

fn subject(detector: &str, model: Option<&str>) -> Subject {
    Subject { detector: detector.into(), level: KeyKind::DstAddr, model: model.map(Into::into) }
}

/// One that starts from a trained tail and one that has to warm up.
fn followers(digest: &str) -> Followers {
    let identity = |detector: &str| Identity {
        pipeline: "ddos".into(),
        detector: detector.into(),
        level: "dst_addr".into(),
        model: digest.into(),
    };
    let settings = FollowSettings { warm_up_rows: 300, ..FollowSettings::default() };
    let scores: Vec<f64> = (1..2000).map(|n| -(f64::from(n) / 2000.0).ln()).collect();
    let tail = Tail::fit(&scores, 0.1).unwrap();
    Followers::new(vec![
        Follow::new(subject("ae", Some("net")), Follower::trained(identity("ae"), settings.clone(), tail, 20_000.0), 3),
        Follow::new(subject("limits", None), Follower::learning(identity("limits"), settings), 0),
    ])
}

fn observed(at: usize, second: u64, scores: &[f64]) -> Observed {
    let revision = [3, 0][at];
    Observed { at, window_end_ns: (second + 1) * 1_000_000_000, revision, rows: 10, excesses: scores.to_vec() }
}

fn learn(f: &mut Followers, seq: u64, scores: &[f64]) {
    learn_at(f, seq, seq, scores);
}

fn learn_at(f: &mut Followers, seq: u64, second: u64, scores: &[f64]) {
    f.learn(seq, vec![observed(0, second, scores), observed(1, second, scores)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_learned_goes_on_and_reaches_those_who_hear(
        orders in prop::collection::vec(prop::collection::vec(0.0..9.0f64, 5..10), 2..120),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(orders.len());
        let mut whole = followers("sha256:1");
        for (seq, scores) in orders[..cut].iter().enumerate() {
            learn(&mut whole, seq as u64, scores);
        }
        let mut restored = followers("sha256:1");
        // The ends are out before the restore.
        let heard = restored.heard();
        prop_assert_eq!(restored.restore(&whole.save()), Ok(vec![]));
        for (end, follow) in heard.iter().zip(whole.all()) {
            prop_assert_eq!(end.timeline.at(0), follow.follower.published());
        }
        for (seq, scores) in orders.iter().enumerate().skip(cut) {
            learn(&mut whole, seq as u64, scores);
            // Orders are counted anew, event time goes on.
            learn_at(&mut restored, (seq - cut) as u64, seq as u64, scores);
        }
        for (a, b) in restored.all().iter().zip(whole.all()) {
            prop_assert!(a.follower == b.follower);
            prop_assert_eq!(a.revision, b.revision);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in any::<prop::sample::Index>(), whole in any::<bool>(),
    ) {
        let mut learned = followers("sha256:1");
        (0..50).for_each(|seq| learn(&mut learned, seq, &[1.0, 2.0, 3.0, 4.0, 5.0]));
        let mut bytes = learned.save();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if !whole {
            bytes.truncate(end.index(bytes.len()));
        }
        let mut other = followers("sha256:1");
        let _ = other.restore(&bytes);
        (0..50).for_each(|seq| learn(&mut other, seq, &[1.0, 2.0, 3.0, 4.0, 5.0]));
    }
}

#[test]
fn what_does_not_match_any_more_is_told_and_starts_anew() {
    let mut learned = followers("sha256:1");
    (0..50).for_each(|seq| learn(&mut learned, seq, &[4.0; 10]));
    let saved = learned.save();
    let mut other = followers("sha256:2");
    let before = other.all()[0].follower.clone();
    let told = other.restore(&saved).unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("ae on dst_addr of net: the state is of model `sha256:1`"), "{told:?}");
    assert!(other.all()[0].follower == before);
    other.of.remove(1);
    let told = other.restore(&saved).unwrap();
    assert_eq!(told[1], "limits on dst_addr: nobody follows it any more");
}

#[test]
fn after_the_first_order_it_is_too_late() {
    let saved = followers("sha256:1").save();
    let mut other = followers("sha256:1");
    learn(&mut other, 0, &[1.0]);
    assert!(other.restore(&saved).unwrap_err().contains("after the first close order"));
    assert_eq!(followers("sha256:1").restore(b"{}").unwrap_err(), "not a state of followed tails");
}
