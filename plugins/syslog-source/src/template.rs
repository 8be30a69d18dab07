//! Templates of messages, found while they come: a tree of fixed depth (Drain: He, Zhu, Zheng and Lyu, ICWS 2017). In: the
//! text of a message. Out: the id of its template, and whether that is new. What varies (numbers, addresses, hex) is masked
//! first. Everything is bounded, whatever comes: children of a node, templates in all (the one least recently seen gives way),
//! words and bytes of a text.
//!
//! An id is a hash of the template as it was first seen, so that replays and restarts agree; a template that becomes more
//! general keeps its id. The same texts in the same order give the same ids, also over a snapshot.

use crate::mask::masked;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What stands for words that differ.
pub const ANY: &str = "<*>";
/// What stands for words that were too many.
const MORE: &str = "<...>";

/// Limits of a [`Miner`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Words that lead through the tree.
    pub depth: usize,
    /// Words that a node tells apart; further ones share a way.
    pub max_children: usize,
    /// Templates kept.
    pub max_templates: usize,
    /// Share of words that must agree, 0 to 1.
    pub similarity: f64,
    /// Words of a text that count.
    pub max_words: usize,
    /// Bytes of a text that count.
    pub max_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { depth: 2, max_children: 100, max_templates: 1024, similarity: 0.5, max_words: 48, max_bytes: 1024 }
    }
}

/// Which template a text has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Of the template.
    pub id: u64,
    /// Never seen before, as far as is remembered.
    pub is_new: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Template {
    words: Vec<Box<str>>,
    /// The way through the tree.
    way: Vec<Box<str>>,
    seen: u64,
    last: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Node {
    children: BTreeMap<Box<str>, Node>,
    /// Ids; at the end of a way only.
    templates: Vec<u64>,
}

/// Finds templates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Miner {
    bounds: Bounds,
    tree: Node,
    templates: BTreeMap<u64, Template>,
    /// When a template was last seen -> its id.
    by_age: BTreeMap<u64, u64>,
    texts: u64,
    evicted: u64,
}

impl Miner {
    /// Knows nothing yet. Bounds of zero are taken as one.
    pub fn new(bounds: Bounds) -> Self {
        let bounds = Bounds {
            max_children: bounds.max_children.max(1),
            max_templates: bounds.max_templates.max(1),
            max_words: bounds.max_words.max(1),
            max_bytes: bounds.max_bytes.max(1),
            ..bounds
        };
        Self {
            bounds,
            tree: Node::default(),
            templates: BTreeMap::new(),
            by_age: BTreeMap::new(),
            texts: 0,
            evicted: 0,
        }
    }

    /// Goes on with what another knew, within the bounds of this one.
    pub fn go_on(&mut self, saved: Miner) {
        let bounds = self.bounds;
        *self = Self { bounds, ..saved };
        for _ in bounds.max_templates..self.templates.len() {
            self.evict();
        }
    }

    /// The template of a text.
    pub fn add(&mut self, text: &str) -> Assigned {
        let masked = masked(head(text, self.bounds.max_bytes));
        let mut words: Vec<&str> = masked.split_ascii_whitespace().take(self.bounds.max_words + 1).collect();
        if words.len() > self.bounds.max_words {
            words.truncate(self.bounds.max_words);
            words.push(MORE);
        }
        self.texts += 1;
        let way = self.way(&words);
        let leaf = self.tree.find(&way).map_or(&[][..], |leaf| &leaf.templates);
        // A text that began a template which has become more general since is still one of it.
        let id = self.most_similar(leaf, &words).unwrap_or_else(|| hash(&words));
        let Some(template) = self.templates.get_mut(&id) else { return self.insert(id, way, &words) };
        for (known, word) in template.words.iter_mut().zip(&words) {
            if **known != **word {
                *known = ANY.into();
            }
        }
        template.seen += 1;
        self.by_age.remove(&std::mem::replace(&mut template.last, self.texts));
        self.by_age.insert(self.texts, id);
        Assigned { id, is_new: false }
    }

    /// The words of a template, those that vary as [`ANY`] or what they were masked by.
    pub fn template(&self, id: u64) -> Option<String> {
        self.templates.get(&id).map(|t| t.words.join(" "))
    }

    /// Texts that had a template.
    pub fn seen(&self, id: u64) -> u64 {
        self.templates.get(&id).map_or(0, |t| t.seen)
    }

    /// Templates kept now.
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    /// True before the first text.
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// Templates that gave way to others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The way to the templates that a text may have: the number of its words, then the first of them. Words with a digit or
    /// a mask vary; those for which a node has no place left share one way.
    fn way(&self, words: &[&str]) -> Vec<Box<str>> {
        let mut way: Vec<Box<str>> = vec![words.len().to_string().into()];
        let mut node = self.tree.children.get(&way[0]);
        for word in words.iter().take(self.bounds.depth) {
            let varies = word.bytes().any(|b| b.is_ascii_digit() || b == b'<');
            let has = |word: &str| node.is_some_and(|n| n.children.contains_key(word));
            // One place is for all that have none.
            let full = node.is_some_and(|n| {
                n.children.len() - usize::from(n.children.contains_key(ANY))
                    >= self.bounds.max_children.saturating_sub(1)
            });
            let step = if varies || (full && !has(word)) { ANY } else { word };
            node = node.and_then(|n| n.children.get(step));
            way.push(step.into());
        }
        way
    }

    /// The one that shares most words, and enough; of equals the one that knows more.
    fn most_similar(&self, among: &[u64], words: &[&str]) -> Option<u64> {
        let mut best: Option<(usize, usize, u64)> = None;
        for id in among {
            let Some(template) = self.templates.get(id) else { continue };
            let same = template.words.iter().zip(words).filter(|(a, b)| ***a == ***b).count();
            let open = template.words.iter().filter(|w| &***w == ANY).count();
            if best.is_none_or(|(s, o, _)| (same, open) > (s, o)) {
                best = Some((same, open, *id));
            }
        }
        best.filter(|(same, ..)| *same as f64 >= self.bounds.similarity * words.len() as f64).map(|(_, _, id)| id)
    }

    /// Forgets the one that was not seen for longest.
    fn evict(&mut self) {
        if let Some((_, oldest)) = self.by_age.pop_first()
            && let Some(gone) = self.templates.remove(&oldest)
        {
            self.tree.remove(&gone.way, oldest);
            self.evicted += 1;
        }
    }

    fn insert(&mut self, id: u64, way: Vec<Box<str>>, words: &[&str]) -> Assigned {
        if self.templates.len() >= self.bounds.max_templates {
            self.evict();
        }
        let mut node = &mut self.tree;
        for step in &way {
            node = node.children.entry(step.clone()).or_default();
        }
        node.templates.push(id);
        let words = words.iter().map(|w| Box::from(*w)).collect();
        self.templates.insert(id, Template { words, way, seen: 1, last: self.texts });
        self.by_age.insert(self.texts, id);
        Assigned { id, is_new: true }
    }
}

impl Node {
    fn find(&self, way: &[Box<str>]) -> Option<&Node> {
        way.iter().try_fold(self, |node, step| node.children.get(step))
    }

    /// Takes a template away, and the part of its way that leads nowhere else.
    fn remove(&mut self, way: &[Box<str>], id: u64) {
        let Some((step, rest)) = way.split_first() else {
            self.templates.retain(|known| *known != id);
            return;
        };
        if let Some(child) = self.children.get_mut(step) {
            child.remove(rest, id);
            if child.children.is_empty() && child.templates.is_empty() {
                self.children.remove(step);
            }
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        1 + self.children.values().map(Node::count).sum::<usize>()
    }
}

/// The first bytes of a text, whole characters.
fn head(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// FNV-1a, 64 bit: the same on every machine, for ever.
fn hash(words: &[&str]) -> u64 {
    let bytes = words.iter().flat_map(|w| w.bytes().chain([b' ']));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
