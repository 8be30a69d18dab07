//! One entity's closed panes, so that the sum over the newest few costs two or three merges a pane, however many panes
//! a window has, with nothing but merging: two stacks (Tangwongsan et al., VLDB 2015).
//!
//! The `front` holds, for each older pane, the sum from that pane to the last turn; the `back` holds the panes since
//! the turn, and their sum. A window is the front's oldest entry merged with the back's sum. When the front has run
//! out, the back turns into a front. Panes without traffic have no entry.

use crate::model::Aggregate;
use std::borrow::Cow;

///
/// An entity with few flows has small sets: its panes are merged anew for each window, which costs no more and needs
/// no sums to be kept. Most entities are like that.
#[derive(Clone, Debug, Default)]
pub(super) struct Stacks {
    /// Sums from the pane to the turn, the oldest pane last.
    front: Vec<(u64, Aggregate)>,
    /// Panes since the turn, the newest last.
    back: Vec<(u64, Aggregate)>,
    /// Sum of the back, once it is worth keeping.
    back_sum: Option<Box<Aggregate>>,
}

/// With more flows than this in the back its sum is kept.
const FEW_FLOWS: u64 = 64;

impl Stacks {
    /// Adds a pane newer than all before.
    pub(super) fn push(&mut self, pane: u64, aggregate: Aggregate) {
        if let Some(sum) = &mut self.back_sum {
            sum.merge(&aggregate);
        }
        // Most entities have traffic in one pane: no room for panes that will not come.
        if self.back.len() == self.back.capacity() {
            self.back.reserve_exact(self.back.len().clamp(1, 8));
        }
        self.back.push((pane, aggregate));
    }

    /// The newest pane, if there is any.
    pub(super) fn newest(&self) -> Option<u64> {
        self.back.last().or(self.front.first()).map(|(pane, _)| *pane)
    }

    /// Sum over all panes from `first` on; older panes are forgotten.
    pub(super) fn sum_from(&mut self, first: u64) -> Option<Cow<'_, Aggregate>> {
        while self.front.last().is_some_and(|(pane, _)| *pane < first) {
            self.front.pop();
        }
        if self.front.is_empty() && self.back.first().is_some_and(|(pane, _)| *pane < first) {
            self.back_sum = None;
            self.back.drain(..self.back.partition_point(|(pane, _)| *pane < first));
            if self.many() {
                self.turn();
            }
        }
        if self.back_sum.is_none() && self.back.len() > 1 && self.many() {
            self.back_sum = Some(Box::new(sum_of(&self.back)));
        }
        let back = match (&self.back_sum, self.back.as_slice()) {
            (Some(sum), _) => Some(Cow::Borrowed(&**sum)),
            (None, []) => None,
            (None, [(_, only)]) => Some(Cow::Borrowed(only)),
            (None, few) => Some(Cow::Owned(sum_of(few))),
        };
        match (self.front.last().map(|(_, sum)| sum), back) {
            (Some(front), Some(back)) => {
                // The smaller part goes into a copy of the larger.
                let (mut sum, part) = if front.flows >= back.flows {
                    (front.clone(), &*back)
                } else {
                    (back.clone().into_owned(), front)
                };
                sum.merge(part);
                Some(Cow::Owned(sum))
            }
            (Some(front), None) => Some(Cow::Borrowed(front)),
            (None, back) => back,
        }
    }

    fn many(&self) -> bool {
        self.back.iter().map(|(_, a)| a.flows).sum::<u64>() > FEW_FLOWS
    }

    /// The back becomes the front.
    fn turn(&mut self) {
        while let Some((pane, mut aggregate)) = self.back.pop() {
            if let Some((_, newer)) = self.front.last() {
                aggregate.merge(newer);
            }
            self.front.push((pane, aggregate));
        }
    }

    /// Applies a late record to a pane that has closed.
    pub(super) fn amend(&mut self, pane: u64, apply: &mut dyn FnMut(&mut Aggregate)) {
        if self.front.first().is_none_or(|(newest, _)| pane > *newest) {
            // Since the turn (or there was none).
            if let Some(sum) = &mut self.back_sum {
                apply(sum);
            }
            match self.back.binary_search_by_key(&pane, |(p, _)| *p) {
                Ok(at) => apply(&mut self.back[at].1),
                Err(at) => {
                    let mut aggregate = Aggregate::default();
                    apply(&mut aggregate);
                    self.back.insert(at, (pane, aggregate));
                }
            }
            return;
        }
        // In the front every sum that starts at or before the pane has it. The oldest is last: descending by pane.
        let at = self.front.partition_point(|(p, _)| *p > pane);
        if self.front.get(at).is_none_or(|(p, _)| *p != pane) {
            let newer = self.front[at - 1].1.clone();
            self.front.insert(at, (pane, newer));
        }
        self.front[at..].iter_mut().for_each(|(_, sum)| apply(sum));
    }
}

fn sum_of(panes: &[(u64, Aggregate)]) -> Aggregate {
    let mut sum = Aggregate::default();
    panes.iter().for_each(|(_, aggregate)| sum.merge(aggregate));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn one(n: u64, flows: u64) -> Aggregate {
        let mut a = Aggregate { flows, bytes: n, ..Aggregate::default() };
        a.src.add(n as u32 * 7919, 1);
        a
    }

    proptest! {
        #[test]
        fn sums_equal_those_by_hand(
            steps in prop::collection::vec((prop::bool::weighted(0.7), prop::option::weighted(0.3, 0u64..12)), 1..80),
            size in 1u64..12,
            flows in prop::sample::select(vec![1u64, 20, 100]),
        ) {
            let (mut stacks, mut by_hand) = (Stacks::default(), BTreeMap::<u64, Vec<u64>>::new());
            for (pane, (active, late)) in steps.into_iter().enumerate() {
                let (pane, first) = (pane as u64, (pane as u64 + 1).saturating_sub(size));
                if active {
                    stacks.push(pane, one(pane, flows));
                    by_hand.entry(pane).or_default().push(pane);
                }
                if let Some(back) = late && back < size && back <= pane && stacks.newest().is_some_and(|n| n >= pane - back) {
                    stacks.amend(pane - back, &mut |a| a.merge(&one(1000 + pane, flows)));
                    by_hand.entry(pane - back).or_default().push(1000 + pane);
                }
                let expected: Vec<u64> = by_hand.range(first..).flat_map(|(_, v)| v.clone()).collect();
                let sum = stacks.sum_from(first);
                prop_assert_eq!(sum.as_ref().map_or(0, |s| s.flows), flows * expected.len() as u64);
                prop_assert_eq!(sum.as_ref().map_or(0, |s| s.bytes), expected.iter().sum::<u64>());
                let distinct: std::collections::BTreeSet<u64> = expected.iter().copied().collect();
                prop_assert_eq!(sum.map_or(0.0, |s| s.src.distinct()), distinct.len() as f64);
            }
        }
    }
}
