//! How well scores rank attacks above the rest, whatever the threshold. Equal scores are one step: nothing depends on
//! the order in which rows came. Rows without an opinion share one place below every score.

use std::cmp::Ordering;

/// One threshold: everything at or above it alerted.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    /// The score of the step; `None` for the last one, rows without an opinion.
    pub score: Option<f64>,
    /// Attacks at or above it.
    pub hits: u64,
    /// Benign rows at or above it.
    pub false_alarms: u64,
}

/// Every threshold from the highest score down.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Curve {
    /// One per distinct score.
    pub points: Vec<Point>,
    /// Attacks in all.
    pub attacks: u64,
    /// Benign rows in all.
    pub benign: u64,
}

impl Curve {
    /// From (score, is an attack).
    pub fn new(rows: impl Iterator<Item = (Option<f64>, bool)>) -> Self {
        let mut rows: Vec<(Option<f64>, bool)> = rows.map(|(s, a)| (s.filter(|s| !s.is_nan()), a)).collect();
        rows.sort_by(|a, b| descending(a.0, b.0));
        let mut curve = Self::default();
        for step in rows.chunk_by(|a, b| a.0 == b.0) {
            let hits = step.iter().filter(|(_, attack)| *attack).count() as u64;
            curve.attacks += hits;
            curve.benign += step.len() as u64 - hits;
            curve.points.push(Point { score: step[0].0, hits: curve.attacks, false_alarms: curve.benign });
        }
        curve
    }

    /// Area under the ROC curve: the chance that an attack scores above a benign row, a tie counting half
    /// (Mann-Whitney). `None` without attacks or without benign rows.
    pub fn roc_auc(&self) -> Option<f64> {
        if self.attacks == 0 || self.benign == 0 {
            return None;
        }
        // Trapezoids: per step, its benign rows times the attacks above them, and half of those beside them.
        let area: f64 = self
            .steps()
            .map(|(before, at)| (at.false_alarms - before.1) as f64 * (at.hits + before.0) as f64 / 2.0)
            .sum();
        Some(area / (self.attacks as f64 * self.benign as f64))
    }

    /// Average precision: the precision at every step, weighted by the attacks it adds. `None` without attacks.
    pub fn average_precision(&self) -> Option<f64> {
        if self.attacks == 0 {
            return None;
        }
        let sum: f64 = self
            .steps()
            .map(|(before, at)| (at.hits - before.0) as f64 * at.hits as f64 / (at.hits + at.false_alarms) as f64)
            .sum();
        Some(sum / self.attacks as f64)
    }

    /// The best F1 that a threshold could have had, and that threshold. Knows the labels: a bound, not a result.
    pub fn best_f1(&self) -> Option<(f64, f64)> {
        let f1 = |p: &Point| 2.0 * p.hits as f64 / (p.hits + p.false_alarms + self.attacks) as f64;
        // From the lowest score up: of equals the last, with the fewest alerts, is taken.
        let scored = self.points.iter().rev().filter_map(|p| p.score.map(|s| (f1(p), s)));
        scored.filter(|_| self.attacks > 0).max_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// Every step with the (hits, false alarms) before it.
    fn steps(&self) -> impl Iterator<Item = ((u64, u64), &Point)> {
        let before = std::iter::once((0, 0)).chain(self.points.iter().map(|p| (p.hits, p.false_alarms)));
        before.zip(&self.points)
    }
}

fn descending(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        // Not total_cmp: 0 and -0 are one score.
        (Some(a), Some(b)) => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn curve(rows: &[(f64, bool)]) -> Curve {
        Curve::new(rows.iter().map(|(s, a)| (Some(*s), *a)))
    }

    #[test]
    fn a_ranking_by_hand() {
        // Attacks at 0.9, 0.6, 0.4; benign at 0.7, 0.3, 0.2, 0.1.
        // Pairs (attack, benign): 0.9 beats 4, 0.6 beats 3, 0.4 beats 3: 10 of 12.
        // Precision where an attack comes: 1/1, 2/3, 3/4; their mean: (1 + 0.6667 + 0.75) / 3 = 0.80556.
        let c = curve(&[(0.9, true), (0.7, false), (0.6, true), (0.4, true), (0.3, false), (0.2, false), (0.1, false)]);
        assert!((c.roc_auc().unwrap() - 10.0 / 12.0).abs() < 1e-12);
        assert!((c.average_precision().unwrap() - (1.0 + 2.0 / 3.0 + 0.75) / 3.0).abs() < 1e-12);
        // At 0.4: precision 3/4, recall 1: 6/7.
        let (f1, at) = c.best_f1().unwrap();
        assert!((f1 - 6.0 / 7.0).abs() < 1e-12 && at == 0.4);
    }

    #[test]
    fn ties_by_hand() {
        // 2: attack. 1: attack, benign, benign. 0: benign.
        // Pairs: 2 beats 3; 1 ties 2 (half each) and beats 1: 3 + 1 + 1 = 5 of 6.
        // Steps: precision 1/1 for one attack, 2/4 for the other: (1 + 0.5) / 2.
        let c = curve(&[(2.0, true), (1.0, false), (1.0, true), (1.0, false), (0.0, false)]);
        assert!((c.roc_auc().unwrap() - 5.0 / 6.0).abs() < 1e-12);
        assert!((c.average_precision().unwrap() - 0.75).abs() < 1e-12);
        // All equal: nothing is known. AUC 1/2, precision the share of attacks.
        let c = curve(&[(1.0, true), (1.0, false), (1.0, false), (1.0, false)]);
        assert_eq!((c.roc_auc(), c.average_precision()), (Some(0.5), Some(0.25)));
        assert_eq!(curve(&[(0.0, true), (-0.0, false)]).roc_auc(), Some(0.5), "zero is zero");
    }

    #[test]
    fn no_opinion_is_below_every_score() {
        // 1: attack; -5: benign; none: attack, benign (one of them as NaN).
        // Pairs: the first beats 2; the second loses to -5 and ties the other: 0.5. 2.5 of 4.
        // Steps: 1/1, then 2/4: (1 + 0.5) / 2.
        let rows = [(Some(1.0), true), (Some(-5.0), false), (None, true), (Some(f64::NAN), false)];
        let c = Curve::new(rows.into_iter());
        assert_eq!((c.roc_auc(), c.average_precision()), (Some(0.625), Some(0.75)));
        assert_eq!(c.points.last().unwrap().score, None);
    }

    #[test]
    fn one_class_has_no_ranking() {
        let c = curve(&[(1.0, false), (2.0, false)]);
        assert_eq!((c.roc_auc(), c.average_precision(), c.best_f1()), (None, None, None));
        let c = curve(&[(1.0, true), (2.0, true)]);
        assert_eq!((c.roc_auc(), c.average_precision()), (None, Some(1.0)));
        let c = Curve::new(std::iter::empty());
        assert_eq!((c.roc_auc(), c.average_precision()), (None, None));
    }

    proptest! {
        #[test]
        fn the_area_is_the_share_of_pairs_in_order(rows in prop::collection::vec((prop::option::of(0i8..6), any::<bool>()), 2..60)) {
            let rows: Vec<(Option<f64>, bool)> = rows.into_iter().map(|(s, a)| (s.map(f64::from), a)).collect();
            let (attacks, benign): (Vec<_>, Vec<_>) = rows.iter().partition(|(_, a)| *a);
            let value = |s: &Option<f64>| s.unwrap_or(f64::NEG_INFINITY);
            let pairs = attacks.iter().flat_map(|(a, _)| benign.iter().map(move |(b, _)| (value(a), value(b))));
            let won: f64 = pairs.map(|(a, b)| if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 }).sum();
            let expect = (!attacks.is_empty() && !benign.is_empty()).then(|| won / (attacks.len() * benign.len()) as f64);
            let found = Curve::new(rows.iter().copied()).roc_auc();
            prop_assert_eq!(found.is_some(), expect.is_some());
            if let (Some(a), Some(b)) = (found, expect) {
                prop_assert!((a - b).abs() < 1e-9);
            }
        }
    }
}
