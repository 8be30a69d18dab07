use super::*;
use proptest::prelude::*;

fn ids(miner: &mut Miner, texts: &[String]) -> Vec<u64> {
    texts.iter().map(|t| miner.add(t).id).collect()
}

#[test]
fn what_varies_shares_a_template_and_other_things_do_not() {
    let mut miner = Miner::new(Bounds::default());
    let first = miner.add("Failed password for root from 198.51.100.7 port 4242 ssh2");
    assert!(first.is_new);
    let second = miner.add("Failed password for git from 203.0.113.9 port 22 ssh2");
    assert_eq!(second, Assigned { id: first.id, is_new: false });
    assert_eq!(miner.template(first.id).unwrap(), "Failed password for <*> from <ip> port <num> ssh2");
    assert_eq!(miner.seen(first.id), 2);
    let other = miner.add("Accepted password for git from 203.0.113.9 port 22 ssh2");
    assert!(other.is_new && other.id != first.id);
    assert_eq!((miner.len(), miner.evicted(), miner.template(7)), (2, 0, None));
}

#[test]
fn an_id_is_that_of_the_text_at_the_beginning() {
    // Changing this breaks what was learned of templates.
    let id = Miner::new(Bounds::default()).add("link 7 up").id;
    assert_eq!(id, hash(&["link", "<num>", "up"]));
    assert_eq!(hash(&["a"]), 0x089c_0207_b545_2844);
    // A text whose template has grown too general for it still has its template.
    let mut miner = Miner::new(Bounds { similarity: 0.6, depth: 1, ..Bounds::default() });
    let first = miner.add("a b c d e");
    assert_eq!(miner.add("a b c x y").id, first.id);
    assert!(miner.add("a b z x y").is_new);
    assert!(miner.add("a q c d e").is_new);
    let again = miner.add("a b c d e");
    assert!(!again.is_new);
}

#[test]
fn the_least_recently_seen_gives_way() {
    let mut miner = Miner::new(Bounds { max_templates: 2, ..Bounds::default() });
    let a = miner.add("alpha starts").id;
    let b = miner.add("beta starts").id;
    miner.add("alpha starts");
    miner.add("gamma starts");
    assert_eq!((miner.len(), miner.evicted()), (2, 1));
    assert!(miner.template(a).is_some() && miner.template(b).is_none());
    assert_eq!(miner.add("beta starts"), Assigned { id: b, is_new: true }, "it comes back as itself");
}

#[test]
fn words_without_a_place_in_the_tree_share_one() {
    let mut miner = Miner::new(Bounds { max_children: 3, ..Bounds::default() });
    let all: std::collections::BTreeSet<u64> =
        ('a'..='z').map(|c| miner.add(&format!("{c} logged in again")).id).collect();
    assert_eq!(all.len(), 3, "two have a place, the others share one");
}

/// Texts of few words, so that templates meet; and anything.
fn texts() -> impl Strategy<Value = Vec<String>> {
    let word = prop_oneof!["[a-d]", "[0-9]{1,3}", "1\\.2\\.3\\.[0-9]", "\\PC{0,6}"];
    let text = prop::collection::vec(word, 0..9).prop_map(|words| words.join(" "));
    prop::collection::vec(text, 0..120)
}

proptest! {
    #[test]
    fn the_same_texts_give_the_same_ids_also_over_a_snapshot(texts in texts(), cut in 0usize..120, max_templates in 1usize..20, max_children in 1usize..5) {
        let bounds = Bounds { max_templates, max_children, ..Bounds::default() };
        let (mut one, mut other) = (Miner::new(bounds), Miner::new(bounds));
        let whole = ids(&mut one, &texts);
        let (before, after) = texts.split_at(cut.min(texts.len()));
        let mut parts = ids(&mut other, before);
        let kept = postcard::to_allocvec(&other).unwrap();
        let mut restored: Miner = postcard::from_bytes(&kept).unwrap();
        parts.extend(ids(&mut restored, after));
        prop_assert_eq!(whole, parts);
        prop_assert_eq!(one, restored);
    }

    #[test]
    fn memory_is_bounded_whatever_comes(texts in texts(), max_templates in 1usize..6, max_children in 1usize..4) {
        let bounds = Bounds { max_templates, max_children, max_words: 5, max_bytes: 30, ..Bounds::default() };
        let mut miner = Miner::new(bounds);
        for text in &texts {
            let id = miner.add(text).id;
            let template = miner.template(id).unwrap();
            prop_assert!(template.split(' ').count() <= 6);
            prop_assert!(miner.len() <= max_templates && miner.by_age.len() == miner.len());
            // The root, and the way of each template.
            prop_assert!(miner.tree.count() <= 1 + max_templates * (bounds.depth + 1));
        }
        prop_assert!(postcard::to_allocvec(&miner).unwrap().len() <= 200 + max_templates * 600);
    }
}
